"""What tests of keepers run: a keeper whose states can be compared with an oracle, a source, and a receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from erlmesh import Node
from erlmesh.core.sharding.messages import ACK, GO, GOT, OUT, PUT, REFUSED
from erlmesh.sharding import Origin, Shards
from erlmesh.terms import Atom, Pid, Term
from erlmesh.testing.cluster import Cluster

NAME = "cep"
SHARDS = 4
RESULTS = "sinks"


class Numbers:
    """The state of a key is what it has got: (source, number) with the message. Twice the same one is an error."""

    all_or_nothing = True

    def new(self, _key: bytes) -> dict[tuple[Term, int], Term]:
        return {}

    def apply(self, state: dict[tuple[Term, int], Term], message: Term, at: Origin) -> list[Term]:
        if message == b"bad":
            raise ValueError("a bad message")
        place = (at.source, at.number)
        assert place not in state, f"{place} was applied twice"
        state[place] = message
        return [(at.number, message)]

    def merge(
        self, ours: dict[tuple[Term, int], Term], theirs: dict[tuple[Term, int], Term]
    ) -> dict[tuple[Term, int], Term]:
        return {**ours, **theirs}

    def dump(self, state: dict[tuple[Term, int], Term]) -> Iterable[Term]:
        return list(state.items())

    def load(self, pieces: Iterable[Any]) -> dict[tuple[Term, int], Term]:
        return dict(pieces)


class Source:
    """Numbers messages, and sends what is not acknowledged again when the holder of a shard changes."""

    def __init__(self, mesh: Cluster, node: Node, name: str, shards: Shards) -> None:
        self.mesh = mesh
        self.node = node
        self.shards = shards
        self.source = (Atom(node.name), id(self) & 0xFFFFFF, name.encode())
        self.sent: dict[bytes, list[Term]] = {}
        self.acked: dict[bytes, int] = {}
        self.refused: list[tuple[bytes, int, Term]] = []
        self._process = node.spawn_handler(self._handle)
        node.pg.subscribe(self._on_change)

    def put(self, key: bytes, message: Term = b"tick") -> None:
        self.sent.setdefault(key, []).append(message)
        self._send(key, len(self.sent[key]))

    def _send(self, key: bytes, number: int) -> None:
        holder = self.shards.holder(key)
        if holder is not None:
            message = (PUT, NAME.encode(), key, self.source, number, self.sent[key][number - 1], self._process.pid)
            self._process.send(holder, message, False)

    def _send_from(self, key: bytes, first: int) -> None:
        for number in range(max(first, self.acked.get(key, 0) + 1), len(self.sent.get(key, ())) + 1):
            self._send(key, number)

    def _on_change(self, event: Any) -> None:
        match event.group:
            case (b"erlmesh_shards", _, int(shard)):
                for key in self.sent:
                    if self.shards.of(key) == shard:
                        self._send_from(key, 1)

    def _handle(self, message: Any) -> None:
        match message:
            case (tag, _, key, self.source, number) if tag is ACK:
                self.acked[key] = max(self.acked.get(key, 0), number)
            case (tag, _, key, self.source, last) if tag is GO:
                self._send_from(key, last + 1)
            case (tag, _, key, self.source, number, reason) if tag is REFUSED:
                self.refused.append((key, number, reason))

    @property
    def is_flushed(self) -> bool:
        return all(self.acked.get(key, 0) == len(messages) for key, messages in self.sent.items())


class Sink:
    """Counts results: once for each key, source and number."""

    def __init__(self, node: Node) -> None:
        self.results: dict[tuple[bytes, Term, int], Term] = {}
        self.duplicates = 0
        self._process = node.spawn_handler(self._handle)
        node.pg.join(RESULTS, self._process.pid)

    def _handle(self, message: Any) -> None:
        match message:
            case (tag, name, key, source, number, result, Pid() as sender) if tag is OUT:
                known = self.results.setdefault((key, source, number), result)
                assert known == result, "a repeated result differs"
                self.duplicates += 1
                self._process.send(sender, (GOT, name, key, source, number), False)


class Member:
    """A node that keeps states."""

    def __init__(self, mesh: Cluster, node: Node, **options: Any) -> None:
        self.mesh = mesh
        self.node = node
        options.setdefault("keeper", Numbers())
        options.setdefault("settle", 0.1)
        self.shards = node.shards(NAME, shards=SHARDS, **options)
        self.ended = False
        with mesh.machine(node):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        async with self.shards:
            async for _ in self.shards:
                raise AssertionError("a keeper has no events")
        self.ended = True

    @property
    def is_up(self) -> bool:
        name = self.node.name
        return self.mesh.is_up(name) and self.mesh.node(name) is self.node and not self.ended

    def acts(self, shard: int) -> bool:
        keeping = self.shards._keeping
        return self.is_up and keeping is not None and keeping.phase(shard).value == "acting"
