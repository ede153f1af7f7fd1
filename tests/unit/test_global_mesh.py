"""A node that connects to one node is connected to all: whole clusters in memory, in any order, with broken
connections.
"""

import random
from functools import partial

import pytest
from fake_runtime import FakeRuntime
from global_cluster import SERVER, edges, idle, is_mesh, is_quiescent, name_tables, start

from erlmesh.services.global_.methods import random_exit_name
from erlmesh.terms import Atom

SHAPES = ["chain", "star", "tree", "all"]


def connect_nodes(world, nodes, shape, *, spread=0.0):
    for pair in edges(nodes, shape, world.random):
        world.at(world.random.uniform(0, spread), partial(world.connect, *pair))


def wait_for_mesh(world, nodes, limit=60):
    world.run(until=lambda: is_mesh(nodes), limit=limit)


def wait_for_quiescence(world, nodes):
    world.run(until=lambda: is_quiescent(nodes), limit=30)


def wait_for_sync(world, nodes):
    world.run(until=lambda: all(set(node.server.sync.synced) == set(node.server.sync.known) for node in nodes), limit=1)


def reconnect_all(world, nodes):
    """Connect the first node to all others until the mesh is complete, as a user or a reconnecting node does."""
    for _ in range(20):
        if is_mesh(nodes):
            return
        for node in nodes[1:]:
            if nodes[0].name not in node.nodes():
                world.connect(node.name, nodes[0].name)
        world.run(8)
    assert is_mesh(nodes), [(node.name, node.nodes(), node.global_.known()) for node in nodes]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [2, 3, 5, 8])
@pytest.mark.parametrize("spread", [0, 0.05, 2])
def test_nodes_connected_in_any_order_become_a_full_mesh(size, shape, spread):
    for seed in range(4):
        world = FakeRuntime(seed)
        names = world.random.sample("abcdefghij", size)
        nodes = [start(world, f"{name}@h") for name in names]

        connect_nodes(world, nodes, shape, spread=spread)
        wait_for_mesh(world, nodes, limit=60)

        wait_for_quiescence(world, nodes)
        wait_for_sync(world, nodes)


def test_two_nodes_are_in_sync_within_a_quarter_of_a_second():
    world = FakeRuntime(1)
    nodes = [start(world, "a@h"), start(world, "b@h")]

    world.connect("a@h", "b@h")
    world.run(0.25)

    assert is_mesh(nodes)


@pytest.mark.slow
def test_two_clusters_merge_and_share_all_names():
    for seed in range(30):
        world = FakeRuntime(seed)
        left = [start(world, f"{name}@h") for name in "adf"]
        right = [start(world, f"{name}@h") for name in "bce"]
        for cluster in (left, right):
            connect_nodes(world, cluster, "star")
            wait_for_mesh(world, cluster)
            for node in cluster:
                world.ask(node, register, node.name)

        world.connect("f@h", "b@h")
        wait_for_mesh(world, left + right, limit=60)

        everywhere = name_tables(left + right)
        assert len(everywhere[0]) == 6
        assert all(table == everywhere[0] for table in everywhere)


async def register(me, name):
    assert await me.node.global_.register(Atom(name), me.spawn(idle))


@pytest.mark.slow
@pytest.mark.parametrize("protect", [True, False])
def test_broken_connections_leave_no_state_behind(protect):
    for seed in range(150):
        world = FakeRuntime(seed)
        nodes = [
            start(world, f"{name}@h", prevent_overlapping_partitions=protect)
            for name in world.random.sample("abcdefgh", 4)
        ]
        connect_nodes(world, nodes, "tree", spread=1)
        for _ in range(world.random.randrange(1, 6)):
            pair = [node.name for node in world.random.sample(nodes, 2)]
            world.at(world.random.uniform(0, 2), partial(world.cut, *pair))

        world.run(30)

        assert not any(node.server.locks.snapshot() for node in nodes), seed
        assert all(set(node.global_.known()) <= set(node.nodes()) for node in nodes), seed
        if protect:
            reconnect_all(world, nodes)
            for node in nodes:
                world.ask(node, sync)


async def sync(me):
    await me.node.global_.sync()


def test_overlapping_partitions_are_prevented():
    for seed in range(60):
        world = FakeRuntime(seed)
        nodes = [start(world, f"{name}@h") for name in "abcde"]
        connect_nodes(world, nodes, "star")
        wait_for_mesh(world, nodes)

        pair = [node.name for node in world.random.sample(nodes, 2)]
        world.partition(*pair)
        world.run(20)

        for node in nodes:
            seen = {node.name, *node.nodes()}
            assert all({other, *world.nodes[other].nodes()} == seen for other in node.nodes()), seed
        assert not set(pair) <= {nodes[0].name, *nodes[0].nodes()}


def test_without_prevention_partitions_may_overlap():
    world = FakeRuntime(1)
    nodes = [start(world, f"{name}@h", prevent_overlapping_partitions=False) for name in "abc"]
    connect_nodes(world, nodes, "star")
    wait_for_mesh(world, nodes)

    world.partition("a@h", "b@h")
    world.run(20)

    assert [node.nodes() for node in nodes] == [["c@h"], ["c@h"], ["a@h", "b@h"]]
    assert [node.global_.known() for node in nodes] == [["c@h"], ["c@h"], ["a@h", "b@h"]]


@pytest.mark.slow
def test_other_nodes_stay_a_full_mesh_when_a_node_stops():
    for seed in range(60):
        world = FakeRuntime(seed)
        nodes = [start(world, f"{name}@h") for name in "abcd"]
        connect_nodes(world, nodes, "all")
        world.run(world.random.uniform(0, 1.5))

        stopped = world.random.choice(nodes)
        nodes.remove(stopped)
        world.kill(stopped.name)
        world.run(20)

        reconnect_all(world, nodes)
        assert not any(stopped.name in node.global_.known() for node in nodes)


@pytest.mark.slow
def test_restarted_node_joins_the_mesh_again():
    for seed in range(20):
        world = FakeRuntime(seed)
        nodes = [start(world, f"{name}@h") for name in "abc"]
        connect_nodes(world, nodes, "star")
        wait_for_mesh(world, nodes)
        for node in nodes:
            world.ask(node, register, node.name)
        world.kill("b@h")
        world.run(2)
        nodes[1] = start(world, "b@h")

        world.connect("b@h", "c@h")
        reconnect_all(world, nodes)

        assert all([name for name, _, _ in table] == ["a@h", "c@h"] for table in name_tables(nodes))


@pytest.mark.slow
@pytest.mark.parametrize("vsn", [5, 6, 7])
@pytest.mark.parametrize("shape", SHAPES)
def test_old_and_new_versions_form_one_mesh(vsn, shape):
    for seed in range(12):
        world = FakeRuntime(seed)
        nodes = [
            start(world, f"{name}@h", vsn=world.random.choice([vsn, 8]), prevent_overlapping_partitions=False)
            for name in world.random.sample("abcde", 4)
        ]
        world.ask(nodes[0], register, "one")
        world.ask(nodes[3], register, "other")

        connect_nodes(world, nodes, shape, spread=world.random.choice([0, 1]))
        wait_for_mesh(world, nodes, limit=60)

        wait_for_quiescence(world, nodes)
        assert len({str(table) for table in name_tables(nodes)}) == 1


def test_old_versions_survive_broken_connections():
    for seed in range(100):
        world = FakeRuntime(seed)
        nodes = [
            start(world, f"{name}@h", vsn=vsn, prevent_overlapping_partitions=False)
            for name, vsn in zip("abc", (5, 8, 8), strict=True)
        ]
        connect_nodes(world, nodes, "all", spread=0.3)
        for _ in range(2):
            pair = [node.name for node in world.random.sample(nodes, 2)]
            world.at(world.random.uniform(0, 1), partial(world.cut, *pair))
        world.run(20)

        assert not any(node.server.locks.snapshot() for node in nodes), seed


def test_node_without_global_does_not_affect_the_mesh():
    world = FakeRuntime(1)
    silent = world.node("silent@h")
    nodes = [start(world, f"{name}@h") for name in "abc"]
    for node in nodes:
        world.connect("silent@h", node.name)
    world.run(1)

    connect_nodes(world, nodes, "star")
    world.run(until=lambda: is_mesh_beside(nodes, silent), limit=10)

    world.ask(nodes[0], register, "x", limit=10)
    assert nodes[2].global_.whereis(Atom("x")) is not None


def is_mesh_beside(nodes, silent):
    return all(len(node.global_.known()) == 2 and silent.name in node.nodes() for node in nodes)


def test_stalled_session_ends_when_its_peer_is_lost():
    world = FakeRuntime(1)
    half = world.node("half@h")
    server = half.spawn_handler(lambda message: None, name=SERVER)
    nodes = [start(world, "a@h"), start(world, "b@h")]
    world.connect("half@h", "a@h")
    world.run(0.1)
    hello = (Atom("locker"), Atom("no_longer_a_pid"), {}, server.pid)
    server.cast((SERVER, Atom("a@h")), (Atom("init_connect"), (8, 1), Atom("half@h"), hello))
    world.run(5)

    world.kill("half@h")
    world.connect("a@h", "b@h")
    wait_for_mesh(world, nodes, limit=10)

    wait_for_quiescence(world, nodes)


def test_malformed_messages_from_a_peer_are_ignored():
    world = FakeRuntime(1)
    nodes = [start(world, "a@h"), start(world, "b@h")]
    world.connect("a@h", "b@h")
    wait_for_mesh(world, nodes)
    chance = random.Random(1)
    words = [
        "init_connect",
        "init_connect_ack",
        "lock_set",
        "exchange",
        "resolved",
        "new_nodes",
        "in_sync",
        "lost_connection",
    ]
    words += [
        "remove_connection",
        "cancel_connect",
        "set_lock",
        "del_lock",
        "register",
        "whereis",
        "sync",
        "exchange_ops",
    ]
    things = [Atom("x"), 1, b"x", [], [1], (1, 2), {}, nodes[1].server.process.pid, random_exit_name]
    sender = nodes[1].server.process

    for _ in range(2000):
        junk = (Atom(chance.choice(words)), *chance.choices(things, k=chance.randrange(7)))
        kind = chance.randrange(3)
        call = (Atom("$gen_call"), (sender.pid, 1), junk)
        sender.send((SERVER, Atom("a@h")), [junk, (Atom("$gen_cast"), junk), call][kind])
        sender.send(nodes[0].server._locker, junk)
    world.run(20)

    assert nodes[0].server.process.pid in nodes[0].processes
    assert nodes[0].server._locker in nodes[0].processes


def test_history_depends_only_on_the_seed():
    def history(seed):
        world = FakeRuntime(seed)
        nodes = [start(world, f"{name}@h") for name in "abcd"]
        connect_nodes(world, nodes, "all", spread=0.5)
        wait_for_mesh(world, nodes)
        return world.time, name_tables(nodes)

    assert history(7) == history(7)
    assert history(7) != history(8)
