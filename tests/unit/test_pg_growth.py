"""A change of a large group, and what follows it, costs the same at any size of the group."""

import asyncio
import random
import tracemalloc
from collections import Counter

import pytest

from erlmesh.collector import without_collector
from erlmesh.services.pg.pick_list import PickList
from erlmesh.services.pg.state import ScopeState
from erlmesh.terms import Atom, Pid
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

A, B, G = Atom("a@h"), Atom("b@h"), Atom("g")
ME, PEER = Pid(A, 1, 0, 1), Pid(B, 1, 0, 1)
SIZE = 20_000
STEPS = 40
LIMIT = 8 * SIZE // 2
"""Bytes. A copy of the members needs twice as much."""


class Member:
    """A member that counts how often it is looked up in a table."""

    lookups = 0

    def __init__(self, node):
        self.node = node

    def __hash__(self):
        Member.lookups += 1
        return id(self)


def large_group(node):
    state = ScopeState(ME)
    state.handle_discover(PEER)
    members = [Member(node) for _ in range(SIZE)]
    if node is A:
        state.join(G, members)
    else:
        state.handle_sync(PEER, [(G, members)])
    return state, members


def change(state, node, member, joins):
    if node is A:
        (state.join if joins else state.leave)(G, [member])
    elif joins:
        state.handle_join(PEER, G, [member])
    else:
        state.handle_leave(PEER, [member], [G])


@pytest.mark.parametrize("node", [A, B], ids=["here", "there"])
def test_change_and_pick_do_not_touch_all_members(node):
    state, members = large_group(node)
    newcomers = [Member(node) for _ in range(STEPS + 2)]
    rng = random.Random(1)

    def step(number):
        change(state, node, newcomers[number], joins=True)
        change(state, node, members[number], joins=False)
        for candidates in (state.candidates(G), state.local_candidates(G) if node is A else state.candidates(G)):
            assert candidates.random(rng)
            assert candidates.in_turn(number, rng)
        assert state.statistics().memberships == SIZE

    for number in (STEPS, STEPS + 1):  # They make the tables, with some space.
        step(number)
    Member.lookups = 0
    tracemalloc.start()
    try:
        for number in range(STEPS):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            without_collector(step, number)
            assert tracemalloc.get_traced_memory()[1] - before < LIMIT
    finally:
        tracemalloc.stop()

    assert Member.lookups < 60 * STEPS


@pytest.mark.parametrize("node", [A, B], ids=["here", "there"])
def test_list_after_a_change_is_one_copy_without_lookups(node):
    state, members = large_group(node)
    newcomer = Member(node)
    change(state, node, newcomer, joins=True)
    Member.lookups = 0

    listed, recipients = state.members(G), state.recipients(G)

    assert listed == recipients == (newcomer, *members)
    assert Member.lookups == 0


def test_first_sync_runs_no_python_code_for_each_member():
    members = [Member(B) for _ in range(SIZE)]
    state = ScopeState(ME)
    Member.lookups = 0

    state.handle_sync(PEER, [(G, members)])
    state.handle_sync(PEER, [(G, list(members))])

    assert state.members(G) == tuple(members)
    assert Member.lookups == 0


# The array for picks


def bag_of(size):
    state = ScopeState(ME)
    pids = [Pid(B, number, 0, 1) for number in range(size)]
    state.handle_discover(PEER)
    state.handle_sync(PEER, [(G, pids)])
    newest = Pid(B, size, 0, 1)
    state.handle_join(PEER, G, [newest])
    return state, [newest, *pids]


def turns(picks, count):
    turn, picked, rng = 0, [], random.Random(1)
    for _ in range(count):
        pid, turn = picks.in_turn(turn, rng)
        picked.append(pid)
    return picked


def test_each_member_has_its_turn_also_after_changes():
    state, members = bag_of(20)
    picks = state.candidates(G)
    assert turns(picks, 21) == members[::-1]

    state.handle_leave(PEER, members[3:8], [G])
    state.handle_join(PEER, G, [PEER])

    assert state.candidates(G) is picks
    rest = [PEER, *members[:3], *members[8:]]
    assert len(picks) == len(rest)
    assert turns(picks, 2 * len(rest)) == rest[::-1] * 2


def test_member_that_returns_is_picked_as_often_as_others():
    state, members = bag_of(10)
    picks = state.candidates(G)

    for _ in range(100):
        state.handle_leave(PEER, [members[4]], [G])
        state.handle_join(PEER, G, [members[4]])

    assert state.candidates(G) is picks
    assert len(picks._entries) == len(picks) == 11
    assert picks._dead == {}
    assert Counter(turns(picks, 22)) == dict.fromkeys(members, 2)


def test_process_that_joined_twice_is_picked_twice_as_often():
    state, members = bag_of(10)
    state.handle_join(PEER, G, [members[2]] * 3)
    picks, rng = state.candidates(G), random.Random(1)

    state.handle_leave(PEER, [members[2]] * 2, [G])

    assert state.candidates(G) is picks
    counts = Counter(picks.random(rng) for _ in range(12_000))
    assert counts.keys() == set(members)
    assert counts.pop(members[2]) == pytest.approx(2000, rel=0.2)
    assert all(count == pytest.approx(1000, rel=0.2) for count in counts.values())


def test_array_is_built_again_when_half_of_its_members_have_left():
    state, members = bag_of(40)
    picks = state.candidates(G)

    state.handle_leave(PEER, members[:20], [G])
    assert state.candidates(G) is picks
    state.handle_leave(PEER, members[20:21], [G])

    assert isinstance(state.candidates(G), PickList)
    assert state.candidates(G) is not picks
    assert len(state.candidates(G)._entries) == 20


# Watches


def test_change_reaches_a_watch_in_the_round_of_its_read():
    async def main():
        async with Cluster(seed=1) as cluster:
            [node] = await cluster.start("a")
            pg, member, log = node.pg, Pid(B, 7, 0, 1), []
            changes = pg.watch(G)
            pg._server.state.handle_discover(PEER)

            async def watch():
                async for event in changes:
                    processes = len(pg._node.processes())
                    log.append((event.pids, processes))

            def read(message):
                router = pg._node._router
                router.wakeups.run_round(router.delivery.deliver, pg._server.process, message)
                log.append("end of the round")

            task = asyncio.ensure_future(watch())
            await cluster.sleep(0.1)
            before = len(pg._node.processes())
            asyncio.get_running_loop().call_soon(read, (Atom("join"), PEER, G, member))
            await cluster.sleep(0.1)

            # The process that monitors the member starts after the task has got the event.
            assert log == [((member,), before), "end of the round"]
            assert len(pg._node.processes()) == before + 1
            changes.close()
            await task
            assert len(pg._node.processes()) == before

    run(main)
