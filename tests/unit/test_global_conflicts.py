"""Two partitions meet and both have a name: one process keeps it, or none."""

from functools import partial

import pytest
from fake_runtime import World
from global_world import agree, cluster, does, is_mesh, is_quiet, spawned, start, tables

from erlmesh.services.global_.methods import notify_all_name, random_exit_name, random_notify_name
from erlmesh.terms import Atom

X = Atom("x")
CONFLICT = Atom("global_name_conflict")


def two_with_the_same_name(world, method):
    """a@h and b@h, not connected, each with a process that has the name x."""
    nodes = [start(world, "a@h"), start(world, "b@h")]
    pids = [spawned(node) for node in nodes]
    for node, pid in zip(nodes, pids, strict=True):
        does(world, node, "register", X, pid, method)
    return nodes, pids


def test_of_two_processes_that_meet_under_one_name_one_is_killed():
    for seed in range(20):
        world = World(seed)
        nodes, pids = two_with_the_same_name(world, random_exit_name)

        world.connect("b@h", "a@h")
        world.run(until=partial(is_mesh, nodes))
        world.run(1)

        assert agree(nodes, X, pids[0])
        assert [nodes[0].is_alive(pids[0]), nodes[1].is_alive(pids[1])] == [True, False]


def test_of_two_processes_that_meet_under_one_name_one_is_told():
    world = World(1)
    nodes, pids = two_with_the_same_name(world, random_notify_name)

    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))
    world.run(1)

    assert agree(nodes, X, pids[0])
    assert list(nodes[1].processes[pids[1]]._mailbox) == [(CONFLICT, X)]


def test_both_processes_that_meet_under_one_name_may_lose_it():
    world = World(1)
    nodes, pids = two_with_the_same_name(world, notify_all_name)

    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))
    world.run(1)

    assert tables(nodes) == [[], []]
    assert list(nodes[0].processes[pids[0]]._mailbox) == [(CONFLICT, X, pids[1])]
    assert list(nodes[1].processes[pids[1]]._mailbox) == [(CONFLICT, X, pids[0])]


def test_a_python_function_is_refused_for_a_process_of_another_node_where_it_could_not_run():
    world = World(1)
    nodes = cluster(world, "ab")
    theirs = spawned(nodes[1])

    for act in ("register", "re_register"):
        with pytest.raises(ValueError, match="it would have to run on b@h"):
            does(world, nodes[0], act, X, theirs, lambda name, pid, pid2: pid)
    assert does(world, nodes[0], "register", X, theirs, random_notify_name)


def test_a_python_function_decides_where_its_process_lives():
    world = World(1)
    asked = []

    def the_larger(name, *pids):
        asked.append((name, pids))
        return max(pids, key=lambda pid: pid.node.name)

    nodes, pids = two_with_the_same_name(world, the_larger)
    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))
    world.run(1)

    assert asked == [(X, (pids[1], pids[0]))]
    assert agree(nodes, X, pids[1])
    assert all(node.is_alive(pid) for node, pid in zip(nodes, pids, strict=True))


def test_a_function_that_fails_costs_the_name_and_nothing_else():
    world = World(1)

    def fails(name, pid, pid2):
        raise ZeroDivisionError

    nodes, _ = two_with_the_same_name(world, fails)
    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))

    assert tables(nodes) == [[], []]


def test_the_conflicts_of_whole_partitions_are_settled_where_the_processes_are():
    for seed in range(20):
        world = World(seed)
        left, right = cluster(world, "ad"), cluster(world, "bc")
        mine, his = spawned(left[1]), spawned(right[1])
        does(world, left[1], "register", X, mine, random_notify_name)
        does(world, right[1], "register", X, his, random_notify_name)

        world.connect("a@h", "b@h")
        world.run(until=partial(is_mesh, left + right), limit=60)
        world.run(until=partial(is_quiet, left + right), limit=60)
        world.run(0.1)

        assert agree(left + right, X, his)  # c@h is smaller than d@h
        assert list(left[1].processes[mine]._mailbox) == [(CONFLICT, X)]


def test_our_own_conflicts_are_settled_without_asking_anybody():
    world = World(1)
    nodes, pids = two_with_the_same_name(world, random_exit_name)
    nodes[0].unregister("rex")

    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))
    world.run(1)

    assert agree(nodes, X, pids[0])


def test_whoever_is_asked_about_a_conflict_is_not_waited_for_longer_than_the_session_lasts():
    world = World(1)
    left, right = cluster(world, "ad"), cluster(world, "bc")
    for node in (left[1], right[1]):
        does(world, node, "register", X, spawned(node))
    left[1].unregister("rex")
    left[1].spawn_handler(lambda message: None, name="rex")
    before = len(left[0].processes)
    world.connect("a@h", "b@h")
    world.run(5)
    assert len(left[0].processes) == before + 1

    world.stop("b@h")
    world.run(1)

    assert len(left[0].processes) == before
    assert left[0].server.locks.snapshot() == []
