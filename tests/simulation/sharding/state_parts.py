"""What tests of keepers run: a keeper whose states show every message, members, sources and a sink."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from erlmesh import Node
from erlmesh.core.sharding.replica_book import Phase
from erlmesh.sharding import Origin
from erlmesh.terms import Pid, Term
from erlmesh.testing.cluster import Cluster

NAME = "cep"
SHARDS = 4
RESULTS = "sinks"
KEYS = [b"AAPL", b"MSFT", b"NVDA", b"AMZN", b"GOOG", b"META"]

State = dict[tuple[Term, int], Term]


class Numbers:
    """The state of a key is what it has got: (source, number) with the message. The same one twice is an error."""

    all_or_nothing = True

    def new(self, _key: bytes) -> State:
        return {}

    def apply(self, state: State, message: Term, at: Origin) -> list[Term]:
        if message == b"bad":
            raise ValueError("a bad message")
        place = (at.source, at.number)
        assert place not in state, f"{place} was applied twice"
        assert (at.source, at.number + 1) not in state, f"{place} is out of order"
        state[place] = message
        return [(at.number, message)]

    def merge(self, ours: State, theirs: State) -> State:
        return {**ours, **theirs}

    def dump(self, state: State) -> Iterable[Term]:
        return list(state.items())

    def load(self, pieces: Iterable[Any]) -> State:
        return dict(pieces)


class Tells(Numbers):
    """A result has the numbers that no result had before: like a mean that is final some time later."""

    def apply(self, state: Any, message: Any, at: Origin) -> list[Term]:
        super().apply(state, message, at)
        new = [place for place, each in state.items() if place[0] == at.source and not each.startswith(b"told")]
        new.remove((at.source, at.number))
        state.update({place: b"told" + state[place] for place in new})
        return [[number for _, number in new]]

    def merge(self, ours: Any, theirs: Any) -> Any:
        places = {**ours, **theirs}
        return {place: max(ours.get(place, b""), theirs.get(place, b""), key=len) for place in places}


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
        """True while the node runs: it was not killed, and not started again."""
        name = self.node.name
        return self.mesh.is_up(name) and self.mesh.node(name) is self.node and not self.ended

    def phase(self, shard: int) -> Phase:
        """What the node is for a shard."""
        keeping = self.shards._keeping
        return keeping.phase(shard) if self.is_up and keeping is not None else Phase.IDLE

    def acts(self, shard: int) -> bool:
        return self.phase(shard) is Phase.ACTING

    def backups(self, shard: int) -> list[Pid]:
        keeping = self.shards._keeping
        return keeping.backups(shard) if self.is_up and keeping is not None else []


class Source:
    """An outbox, with what was put into it."""

    def __init__(self, mesh: Cluster, member: Member, name: str) -> None:
        self.mesh = mesh
        self.node = member.node
        self.sent = dict.fromkeys(KEYS, 0)
        self.refused: list[tuple[bytes, Term]] = []
        with mesh.machine(self.node):
            self.outbox = self.node.outbox(
                name,
                shards=member.shards,
                on_refused=lambda refusal: self.refused.append((refusal.key, refusal.reason)),
            )
        self._waiting: list[asyncio.Task[Any]] = []

    @property
    def is_up(self) -> bool:
        return self.mesh.is_up(self.node.name) and self.mesh.node(self.node.name) is self.node

    def put(self, key: bytes, message: Term = b"tick") -> None:
        """Put a message. The call waits in a task of the node if there is no room."""
        self.sent[key] += 1
        with self.mesh.machine(self.node):
            self._waiting.append(asyncio.get_running_loop().create_task(self.outbox.put(key, message)))

    def acknowledged(self, key: bytes) -> int:
        """Messages of a key up to this number were acknowledged."""
        stream = self.outbox._book.find(key)
        return 0 if stream is None else stream.base - 1

    @property
    def is_flushed(self) -> bool:
        """Whether all was acknowledged or refused."""
        return all(task.done() for task in self._waiting) and not self.outbox.kept


class Sink:
    """An inbox for results."""

    def __init__(self, mesh: Cluster, node: Node) -> None:
        self.results: dict[tuple[bytes, Term, int], Term] = {}
        with mesh.machine(node):
            self.inbox = node.inbox(NAME, group=RESULTS)
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        async with self.inbox:
            async for delivery in self.inbox:
                place = (delivery.key, delivery.source, delivery.number)
                assert place not in self.results, f"{place} was delivered twice"
                self.results[place] = delivery.message
                delivery.done()


def is_settled(members: list[Member], backups: int = 1) -> bool:
    """True if each shard has one node that acts for it, with its backups, and nobody else holds it."""
    up = [member for member in members if member.is_up]
    for shard in range(SHARDS):
        holding = [member for member in up if member.phase(shard) is not Phase.IDLE]
        if len(holding) != 1 or not holding[0].acts(shard):
            return False
        if len(holding[0].backups(shard)) != min(backups, len(up) - 1):
            return False
    return True


def holder_of(members: list[Member], key: bytes) -> Member:
    """The member that acts for a key."""
    (member,) = [member for member in members if member.acts(member.shards.of(key))]
    return member


def numbers_of(members: list[Member], source: Source) -> dict[bytes, list[int]]:
    """The numbers of a source in the states of the acting holders."""
    found = {}
    for key in KEYS:
        state: State = holder_of(members, key).shards.state(key) or {}
        found[key] = sorted(number for origin, number in state if origin == source.outbox.source)
    return found
