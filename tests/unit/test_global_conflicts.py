"""Two partitions with the same name merge: one process keeps the name, or none."""

from functools import partial

import pytest
from fake_runtime import FakeRuntime
from global_cluster import all_resolve, call_global, cluster, is_mesh, is_quiescent, name_tables, spawned, start

from erlmesh.services.global_.methods import notify_all_name, random_exit_name, random_notify_name
from erlmesh.terms import Atom

X = Atom("x")
CONFLICT = Atom("global_name_conflict")


def two_with_the_same_name(world, method):
    """a@h and b@h, not connected, each with a process that has the name x."""
    nodes = [start(world, "a@h"), start(world, "b@h")]
    pids = [spawned(node) for node in nodes]
    for node, pid in zip(nodes, pids, strict=True):
        call_global(world, node, "register", X, pid, method)
    return nodes, pids


def test_random_exit_name_kills_one_of_two_processes():
    for seed in range(20):
        world = FakeRuntime(seed)
        nodes, pids = two_with_the_same_name(world, random_exit_name)

        world.connect("b@h", "a@h")
        world.run(until=partial(is_mesh, nodes))
        world.run(1)

        assert all_resolve(nodes, X, pids[0])
        assert [nodes[0].is_alive(pids[0]), nodes[1].is_alive(pids[1])] == [True, False]


def test_random_notify_name_notifies_one_of_two_processes():
    world = FakeRuntime(1)
    nodes, pids = two_with_the_same_name(world, random_notify_name)

    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))
    world.run(1)

    assert all_resolve(nodes, X, pids[0])
    assert list(nodes[1].processes[pids[1]]._mailbox) == [(CONFLICT, X)]


def test_notify_all_name_removes_the_name_of_both_processes():
    world = FakeRuntime(1)
    nodes, pids = two_with_the_same_name(world, notify_all_name)

    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))
    world.run(1)

    assert name_tables(nodes) == [[], []]
    assert list(nodes[0].processes[pids[0]]._mailbox) == [(CONFLICT, X, pids[1])]
    assert list(nodes[1].processes[pids[1]]._mailbox) == [(CONFLICT, X, pids[0])]


def test_python_method_for_a_remote_process_raises():
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")
    remote = spawned(nodes[1])

    for function in ("register", "re_register"):
        with pytest.raises(ValueError, match="it would have to run on b@h"):
            call_global(world, nodes[0], function, X, remote, lambda name, pid, pid2: pid)
    assert call_global(world, nodes[0], "register", X, remote, random_notify_name)


def test_python_method_runs_on_the_node_of_its_process():
    world = FakeRuntime(1)
    asked = []

    def the_larger(name, *pids):
        asked.append((name, pids))
        return max(pids, key=lambda pid: pid.node.name)

    nodes, pids = two_with_the_same_name(world, the_larger)
    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))
    world.run(1)

    assert asked == [(X, (pids[1], pids[0]))]
    assert all_resolve(nodes, X, pids[1])
    assert all(node.is_alive(pid) for node, pid in zip(nodes, pids, strict=True))


def test_exception_in_a_method_removes_only_the_name():
    world = FakeRuntime(1)

    def fails(name, pid, pid2):
        raise ZeroDivisionError

    nodes, _ = two_with_the_same_name(world, fails)
    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))

    assert name_tables(nodes) == [[], []]


def test_conflicts_of_partitions_are_resolved_on_the_nodes_of_the_processes():
    for seed in range(20):
        world = FakeRuntime(seed)
        left, right = cluster(world, "ad"), cluster(world, "bc")
        loser, winner = spawned(left[1]), spawned(right[1])
        call_global(world, left[1], "register", X, loser, random_notify_name)
        call_global(world, right[1], "register", X, winner, random_notify_name)

        world.connect("a@h", "b@h")
        world.run(until=partial(is_mesh, left + right), limit=60)
        world.run(until=partial(is_quiescent, left + right), limit=60)
        world.run(0.1)

        assert all_resolve(left + right, X, winner)  # c@h is smaller than d@h
        assert list(left[1].processes[loser]._mailbox) == [(CONFLICT, X)]


def test_local_conflicts_are_resolved_without_rpc():
    world = FakeRuntime(1)
    nodes, pids = two_with_the_same_name(world, random_exit_name)
    nodes[0].unregister("rex")

    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))
    world.run(1)

    assert all_resolve(nodes, X, pids[0])


def test_conflict_resolution_ends_with_the_session():
    world = FakeRuntime(1)
    left, right = cluster(world, "ad"), cluster(world, "bc")
    for node in (left[1], right[1]):
        call_global(world, node, "register", X, spawned(node))
    left[1].unregister("rex")
    left[1].spawn_handler(lambda message: None, name="rex")
    before = len(left[0].processes)
    world.connect("a@h", "b@h")
    world.run(5)
    assert len(left[0].processes) == before + 1

    world.kill("b@h")
    world.run(1)

    assert len(left[0].processes) == before
    assert left[0].server.locks.snapshot() == []
