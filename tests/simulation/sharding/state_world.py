"""A simulated cluster whose nodes keep states, under load, and what must be true at rest.

I5: each acknowledged message is in the state of its holder. I6: the state is what all messages of a living source give.
I7: no message is applied twice, and the sink gets each result once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from erlmesh import Node
from erlmesh.sharding import Keeper
from erlmesh.testing.cluster import Cluster
from simulation.sharding.state_parts import KEYS, RESULTS, SHARDS, Member, Numbers, Sink, Source, holder_of
from simulation.sharding.state_parts import is_settled as are_settled

__all__ = ["World", "make_world"]


class World:
    """Members ``a``, ``b`` … with a source each, and a node with a sink, which no fault touches."""

    def __init__(self, mesh: Cluster, make_keeper: Callable[[], Keeper[Any]] = Numbers, **options: Any) -> None:
        self.mesh = mesh
        self.make_keeper = make_keeper
        self.options = {"results": RESULTS, **options}
        self.members: list[Member] = []
        self.sources: list[Source] = []
        self.lost: dict[Source, int] = {}
        """Sources of which messages up to a number may be lost: the test has killed all that had them."""
        self.load: asyncio.Task[None] | None = None
        self.sink_node: Node
        self.sink: Sink

    # Nodes

    async def start(self, name: str) -> Member:
        """Start a node, or start it again."""
        up = [node.name for node in self.mesh]
        (node,) = await self.mesh.start(name, join=up)
        member = Member(self.mesh, node, keeper=self.make_keeper(), **self.options)
        self.members = [each for each in self.members if each.node.name != node.name] + [member]
        self.sources.append(Source(self.mesh, member, "ticks"))
        return member

    def member(self, name: str) -> Member:
        """The member with this short name."""
        (found,) = [each for each in self.members if each.node.name.startswith(name + "@")]
        return found

    @property
    def up(self) -> list[Member]:
        """The members whose node runs."""
        return [member for member in self.members if member.is_up]

    def holder(self, key: bytes) -> Member:
        """The member that acts for a key."""
        return holder_of(self.members, key)

    def backup(self, key: bytes) -> Member:
        """A member with a confirmed copy of the shard of a key."""
        holder = self.holder(key)
        pid = holder.backups(holder.shards.of(key))[0]
        return next(member for member in self.up if member.node.name == pid.node.name)

    def others(self, *members: Member) -> list[Member]:
        """The members that run, without these."""
        return [member for member in self.up if member not in members]

    # Load

    def put(self, count: int = 1) -> None:
        """Each source puts messages of all keys."""
        for source in self.sources:
            if source.is_up and not self.mesh.is_paused(source.node):
                for _ in range(count):
                    for key in KEYS:
                        source.put(key)

    async def run_for(self, seconds: float) -> None:
        """Let time pass under load."""
        end = self.mesh.now() + seconds
        while self.mesh.now() < end:
            self.put()
            await self.mesh.sleep(min(0.05, seconds / 4) if seconds < 2 else 0.5)

    # At rest

    def is_settled(self) -> bool:
        return self.mesh.is_complete() and are_settled(self.members, self.options.get("backups", 1))

    def is_flushed(self) -> bool:
        """Whether all is acknowledged: messages by holders, and results by the sink."""
        keepings = [member.shards._keeping for member in self.up]
        return all(source.is_flushed for source in self.sources if source.is_up) and not any(
            keeping is not None and len(keeping._results) for keeping in keepings
        )

    async def rest(self, timeout: float = 60.0) -> None:
        """Wait until nothing is to be done."""
        since = self.mesh.now()

        def is_at_rest() -> bool:
            nonlocal since
            if not (self.is_settled() and self.is_flushed()):
                since = self.mesh.now()
            return self.mesh.now() - since > 0.2

        try:
            await self.mesh.wait_until(is_at_rest, timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.describe()}") from error

    async def rest_of_sides(self, sides: list[list[Member]]) -> None:
        """Wait until each side of a partition is settled."""
        await self.mesh.wait_until(
            lambda: all(are_settled(side, self.options.get("backups", 1)) for side in sides), description="settled"
        )
        await self.mesh.wait_until(lambda: all(source.is_flushed for source in self.sources if source.is_up))

    def describe(self) -> str:
        return str([(member.node.name, [member.phase(shard).value for shard in range(SHARDS)]) for member in self.up])

    def check(self) -> None:
        """What must be true at rest."""
        for source in self.sources:
            for key in KEYS:
                self._check_key(source, key)
        for key in KEYS:
            self._check_copies(key)

    def _check_key(self, source: Source, key: bytes) -> None:
        state = self.holder(key).shards.state(key) or {}
        has = {number for origin, number in state if origin == source.outbox.source}
        has.update(range(1, self.lost.get(source, 0) + 1))
        acknowledged = source.acknowledged(key)
        label = f"{source.node.name} {key!r}: acknowledged {acknowledged} of {source.sent[key]}"
        assert has >= set(range(1, acknowledged + 1)), f"I5: {label}, missing {set(range(1, acknowledged + 1)) - has}"
        assert has == set(range(1, len(has) + 1)), f"I6: {label}, the state has gaps: {sorted(has)}"
        if source.is_up:
            assert len(has) == source.sent[key], f"I6: {label}, the state has {len(has)}"
            got = {number for at, origin, number in self.sink.results if (at, origin) == (key, source.outbox.source)}
            got.update(range(1, self.lost.get(source, 0) + 1))
            assert got == has, f"I7: {label}, results are missing: {sorted(has - got)}"

    def _check_copies(self, key: bytes) -> None:
        holder = self.holder(key)
        shard = holder.shards.of(key)
        state = holder.shards.state(key)
        backups = {pid.node.name for pid in holder.backups(shard)}
        for member in self.up:
            keeping = member.shards._keeping
            assert keeping is not None
            book = keeping._books[shard]
            stores = book.shelf.stores()
            label = f"the copies of shard {shard} on {member.node.name}"
            assert len(stores) == (member.node.name in backups), f"{label}: {[store.versions for store in stores]}"
            for store in stores:
                assert (store.keys[key].state if key in store.keys else None) == state, f"{label} differ"
            assert member is holder or not book.store.keys, "a node that does not hold the shard has a state"

    async def rest_and_check(self) -> None:
        await self.rest()
        self.check()


async def make_world(seed: int, names: str = "abcd", **options: Any) -> World:
    """A world at rest, with some messages in each state."""
    mesh = Cluster(seed, wire=seed % 2 == 1)
    world = World(mesh, **options)
    (world.sink_node,) = await mesh.start("z")
    world.sink = Sink(mesh, world.sink_node)
    for name in names:
        await world.start(name)
    await world.rest()
    world.put(2)
    await world.rest_and_check()
    return world
