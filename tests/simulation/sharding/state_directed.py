"""Faults at moments that random histories rarely find. Each function is one history, and raises AssertionError."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from erlmesh.core.sharding.names import shard_key, shard_of
from erlmesh.core.sharding.rendezvous import node_prefix, rank
from erlmesh.core.sharding.replica_book import Phase
from erlmesh.sharding import newest
from erlmesh.terms import Atom
from erlmesh.testing.cluster import Cluster
from simulation.sharding.state_parts import KEYS, NAME, SHARDS, Member, Numbers, Sink, Tells
from simulation.sharding.state_world import World, make_world

__all__ = ["DIRECTED"]

BIG = b"x" * 2_000
"""A message of which some make a slice."""


def best(world: World, names: list[str], key: bytes) -> str:
    """The name of the node that is the first one for a key."""
    at = shard_key(NAME.encode(), shard_of(key, SHARDS))
    return max(names, key=lambda name: rank(node_prefix(Atom(world.mesh._full_name(name))), at))


def newcomer_for(world: World, names: str = "efghij") -> tuple[str, bytes]:
    """The name of a node that is better than all members for a key, and that key."""
    up = [member.node.name.partition("@")[0] for member in world.up]
    return next((name, key) for name in names for key in KEYS if best(world, [*up, name], key) == name)


async def until(world: World, condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Wait until a condition is true, in small steps."""
    end = world.mesh.now() + timeout
    while not condition():
        assert world.mesh.now() < end, f"not within {timeout:g} s: {world.describe()}"
        await asyncio.sleep(0.0005)


async def a_killed_holder() -> None:
    world = await make_world(1)
    world.put(3)
    await world.mesh.sleep(0.003)
    world.mesh.kill(world.holder(KEYS[0]).node)
    world.put(3)
    await world.rest_and_check()


async def a_holder_that_does_not_reach_its_backup_and_is_killed() -> None:
    world = await make_world(2)
    holder, backup = world.holder(KEYS[0]), world.backup(KEYS[0])
    world.mesh.cut(holder.node, backup.node, both=False)
    await world.run_for(1.0)
    world.mesh.kill(holder.node)
    world.mesh.heal()
    await world.run_for(0.5)
    await world.rest_and_check()


async def a_holder_that_does_not_hear_its_backup_and_is_killed() -> None:
    world = await make_world(3)
    holder, backup = world.holder(KEYS[0]), world.backup(KEYS[0])
    world.mesh.cut(backup.node, holder.node, both=False)
    await world.run_for(1.0)
    world.mesh.kill(holder.node)
    world.mesh.heal()
    await world.rest_and_check()


async def a_holder_that_does_not_reach_the_sink_and_is_killed() -> None:
    world = await make_world(4)
    holder = world.holder(KEYS[0])
    world.mesh.cut(holder.node, world.sink_node, both=False)
    await world.run_for(1.0)
    world.mesh.kill(holder.node)
    world.mesh.heal()
    await world.rest_and_check()


async def two_holders_killed_one_after_the_other() -> None:
    world = await make_world(5, "abcde")
    first = world.holder(KEYS[0])
    shard = first.shards.of(KEYS[0])
    world.put(2)
    world.mesh.kill(first.node)
    await until(world, lambda: any(member.acts(shard) for member in world.up))
    second = world.holder(KEYS[0])
    world.put(2)
    # What the second one has acknowledged is nowhere else until it has a backup.
    await until(world, lambda: second.backups(shard))
    world.mesh.kill(second.node)
    await world.rest_and_check()


async def the_second_holder_killed_as_soon_as_it_acts() -> None:
    world = await make_world(6, "abcde")
    first = world.holder(KEYS[0])
    shard = first.shards.of(KEYS[0])
    world.mesh.kill(first.node)
    await until(world, lambda: any(member.acts(shard) for member in world.up))
    world.put(2)
    killed = world.holder(KEYS[0])
    world.mesh.kill(killed.node)
    # Both copies of what was there before are gone, unless the second one had passed it on.
    world.lost = dict.fromkeys(world.sources, 2)
    await world.rest()
    for key in KEYS:
        if killed.shards.of(key) == shard:
            for source in world.sources:
                if source.is_up:
                    state = world.holder(key).shards.state(key) or {}
                    has = {number for origin, number in state if origin == source.outbox.source}
                    assert has >= set(range(3, source.sent[key] + 1)), (key, has)


async def kill_while_slices_travel(slices: int, victim: str) -> None:
    """A better node starts. After so many slices the holder, the newcomer, or the backup is killed."""
    world = await make_world(7 + slices)
    name, key = newcomer_for(world)
    shard = shard_of(key, SHARDS)
    for _ in range(120):
        world.sources[0].put(key, BIG)
    await world.rest_and_check()
    holder, backup = world.holder(key), world.backup(key)
    newcomer = await world.start(name)
    keeping = newcomer.shards._keeping
    assert keeping is not None

    def has_slices() -> bool:
        if int(world.mesh.now() * 2_000) % 10 == 0:
            world.sources[0].put(key)
        books = keeping._books
        readers = books[shard].shelf._readers if books else {}
        return any(reader._next >= slices for _, reader in readers.values())

    await until(world, has_slices)
    world.mesh.kill({"holder": holder, "newcomer": newcomer, "backup": backup}[victim].node)
    await world.run_for(0.1)
    await world.rest_and_check()


def slices_history(slices: int, victim: str) -> Callable[[], object]:
    async def history() -> None:
        await kill_while_slices_travel(slices, victim)

    history.__name__ = f"the_{victim}_killed_after_{slices}_slices"
    return history


async def a_move_during_which_the_holder_acts() -> None:
    world = await make_world(20)
    name, key = newcomer_for(world)
    shard = shard_of(key, SHARDS)
    for _ in range(500):
        world.sources[0].put(key, BIG)
    await world.rest_and_check()
    holder = world.holder(key)
    newcomer = await world.start(name)
    keeping = newcomer.shards._keeping
    assert keeping is not None
    await until(world, lambda: keeping._books and keeping._books[shard].shelf._readers)
    before = world.sources[1].acknowledged(key)
    world.sources[1].put(key)
    await until(world, lambda: world.sources[1].acknowledged(key) > before)
    assert holder.acts(shard), "a message is acknowledged while the state travels"
    assert keeping._books[shard].shelf._readers, "the state is still on its way"
    await world.rest_and_check()
    assert world.holder(key) is newcomer


async def both_sides_of_a_partition_and_a_newcomer_better_than_both() -> None:
    world = await make_world(21)
    members = world.up
    sides = members[:2], members[2:]
    world.mesh.partition([member.node for member in sides[0]], [world.sink_node, *(member.node for member in sides[1])])
    await world.run_for(15.0)
    for shard in range(SHARDS):
        for side in sides:
            assert sum(member.acts(shard) for member in side) == 1, "each side acts"
    world.mesh.heal()
    name, _ = newcomer_for(world)
    await world.start(name)
    await world.run_for(0.5)
    await world.rest_and_check()


def sees_others(world: World) -> bool:
    """Whether some member is connected with the other side."""
    return any(len(member.node.nodes()) > 2 for member in world.up)


async def a_holder_killed_at_the_heal() -> None:
    for index in range(4):
        world = await make_world(22)
        members = world.up
        sides = members[:2], members[2:]
        world.mesh.partition(
            [member.node for member in sides[0]], [world.sink_node, *(member.node for member in sides[1])]
        )
        await world.run_for(15.0)
        world.mesh.heal()
        await until(world, partial(sees_others, world))
        await world.mesh.sleep(0.002 * index)
        world.mesh.kill(members[index].node)
        await world.rest_and_check()
        for name in world.mesh.names():
            world.mesh.kill(name)


async def a_stop_during_a_start() -> None:
    world = await make_world(23)
    name, key = newcomer_for(world)
    holder = world.holder(key)
    starting = asyncio.create_task(world.start(name))
    await asyncio.sleep(0)
    world.put(2)
    stopping = asyncio.create_task(world.mesh.stop(holder.node))
    await world.run_for(0.3)
    await starting
    await stopping
    await world.rest_and_check()


async def a_stop_of_each_member_in_turn() -> None:
    world = await make_world(24)
    for member in world.up[:-1]:
        world.put(2)
        await world.rest_and_check()
        await world.mesh.stop(member.node)
        await world.rest_and_check()


async def a_start_during_a_cut() -> None:
    world = await make_world(25)
    members = world.up
    world.mesh.partition([members[0].node, members[1].node], [world.sink_node, members[2].node, members[3].node])
    await world.run_for(3.0)
    (node,) = await world.mesh.start("e", join=[members[2].node.name])
    world.members.append(Member(world.mesh, node, keeper=world.make_keeper(), **world.options))
    await world.run_for(15.0)
    world.mesh.heal()
    await world.rest_and_check()


async def a_result_is_sent_again_by_the_heir() -> None:
    world = await make_world(26)
    holder = world.holder(KEYS[0])
    world.mesh.cut(holder.node, world.sink_node, both=False)
    before = len(world.sink.results)
    world.put(1)
    await world.mesh.sleep(0.5)
    assert all(source.is_flushed for source in world.sources), "acknowledged, although the sink has no result"
    assert len(world.sink.results) < before + len(KEYS) * len(world.sources)
    world.mesh.kill(holder.node, silently=True)
    world.mesh.heal()
    await world.rest_and_check()


async def a_side_with_fewer_messages_loses_them_with_newest() -> None:
    world = await make_world(27, merge=newest)
    members = world.up
    world.mesh.partition([members[0].node, members[1].node], [world.sink_node, members[2].node, members[3].node])
    await world.run_for(12.0)
    await world.rest_of_sides([members[:2], members[2:]])
    expected = 0
    for key in KEYS:
        states = []
        for side in (members[:2], members[2:]):
            (holder,) = [member for member in side if member.acts(member.shards.of(key))]
            states.append(set(holder.shards.state(key)))
        states.sort(key=len)
        expected += len(states[0] - states[1])
    assert expected > 0
    world.mesh.heal()
    await world.mesh.wait_until(world.is_settled)
    await world.mesh.sleep(0.5)
    assert sum(member.shards.lost for member in world.up) == expected


async def a_quorum_keeps_the_small_side_from_acting() -> None:
    world = await make_world(28, "abc", quorum=2)
    alone, *others = world.up
    world.mesh.partition([alone.node], [world.sink_node, *(member.node for member in others)])
    await world.run_for(20.0)
    assert all(alone.phase(shard) is Phase.IDLE for shard in range(SHARDS))
    world.mesh.heal()
    await world.rest_and_check()


async def results_of_both_sides_arrive_after_a_heal(seed: int = 41) -> None:
    """A source goes on while the sides meet. No message is applied on both sides, so no result is dropped.

    With this seed the source meets the better holder while the other one still sends its state.
    """
    world = await make_world(seed, "abc", make_keeper=Tells)
    (node,) = await world.mesh.start("s", join=[world.sink_node.name])
    with world.mesh.machine(node):
        outbox = node.outbox("ticks", shards=node.shards(NAME, shards=SHARDS))
    key = KEYS[0]
    (alone,) = world.others(world.holder(key), world.backup(key))
    await outbox.put(key, b"before")
    await outbox.flushed()
    world.mesh.partition([alone.node, node], [world.sink_node, *(member.node for member in world.others(alone))])
    await until(world, lambda: alone.acts(alone.shards.of(key)), timeout=120.0)
    for _ in range(300):
        await outbox.put(key, BIG * 10)  # So the state travels for some time.
    await outbox.flushed()
    world.mesh.heal()
    sent = 301
    while not world.is_settled():
        await outbox.put(key, b"tick")
        sent += 1
        await asyncio.sleep(0.001)
    await outbox.put(key, b"last")
    await outbox.flushed()
    await world.rest()
    results = world.sink.results.items()
    told = {
        number for (at, source, _), (numbers,) in results if (at, source) == (key, outbox.source) for number in numbers
    }
    assert told == {*range(1, sent + 1)}, {*range(1, sent + 1)} - told


async def nodes_that_start_at_the_same_moment() -> None:
    """Each may act for all shards until their joins have met. Messages come meanwhile, and the states are merged."""
    world = World(Cluster(31, wire=True))
    (world.sink_node,) = await world.mesh.start("z")
    world.sink = Sink(world.mesh, world.sink_node)
    was_split = False
    await asyncio.gather(*map(world.start, "abc"))
    for _ in range(1_000):
        world.put()
        was_split |= any(sum(member.acts(shard) for member in world.up) > 1 for shard in range(SHARDS))
        await world.mesh.sleep(0.0005)
    assert was_split
    await world.rest_and_check()


async def a_holder_that_is_lost_in_silence_and_starts_again() -> None:
    """The others do not know that it was lost when its next life comes."""
    for wait in (0.0, 2.0):
        world = await make_world(32, "abc")
        holder = world.holder(KEYS[0])
        world.mesh.kill(holder.node, silently=True)
        await world.run_for(wait)
        await world.start(holder.node.name.partition("@")[0])
        await world.rest_and_check()
        for name in world.mesh.names():
            world.mesh.kill(name)


class FailsToLoad(Numbers):
    """A keeper whose load fails on some nodes."""

    broken = False

    def load(self, pieces):  # type: ignore[no-untyped-def]
        if self.broken:
            raise RuntimeError("cannot load")
        return super().load(pieces)


async def a_keeper_that_cannot_load() -> None:
    """The node with it gets nothing, and the others go on."""
    world = await make_world(29, "abc", make_keeper=FailsToLoad)
    name, key = newcomer_for(world)
    world.make_keeper = type("Broken", (FailsToLoad,), {"broken": True})
    holder = world.holder(key)
    await world.start(name)
    await world.run_for(1.0)
    shard = holder.shards.of(key)
    assert holder.acts(shard), "the holder goes on, because the heir has no copy"


DIRECTED = [
    a_killed_holder,
    a_holder_that_does_not_reach_its_backup_and_is_killed,
    a_holder_that_does_not_hear_its_backup_and_is_killed,
    a_holder_that_does_not_reach_the_sink_and_is_killed,
    two_holders_killed_one_after_the_other,
    the_second_holder_killed_as_soon_as_it_acts,
    *[slices_history(slices, victim) for victim in ("holder", "newcomer", "backup") for slices in (1, 2, 4)],
    a_move_during_which_the_holder_acts,
    both_sides_of_a_partition_and_a_newcomer_better_than_both,
    a_holder_killed_at_the_heal,
    a_stop_during_a_start,
    a_stop_of_each_member_in_turn,
    a_start_during_a_cut,
    a_result_is_sent_again_by_the_heir,
    a_side_with_fewer_messages_loses_them_with_newest,
    a_quorum_keeps_the_small_side_from_acting,
    results_of_both_sides_arrive_after_a_heal,
    nodes_that_start_at_the_same_moment,
    a_holder_that_is_lost_in_silence_and_starts_again,
    a_keeper_that_cannot_load,
]
