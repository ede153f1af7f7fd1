"""Names of the whole cluster: ``node.global_``, on clusters in memory."""

from functools import partial

import pytest
from fake_runtime import FakeRuntime
from global_cluster import all_resolve, call_global, cluster, idle, is_mesh, is_quiescent, name_tables, spawned, start

from erlmesh.errors import CallTimeout, EncodeError
from erlmesh.terms import Atom

X, Y = Atom("x"), Atom("y")


def test_name_is_registered_on_all_nodes_when_register_returns():
    for seed in range(20):
        world = FakeRuntime(seed)
        nodes = cluster(world, "abc")
        pid = spawned(nodes[1])

        assert call_global(world, nodes[2], "register", X, pid) is True

        assert all_resolve(nodes, X, pid)
        assert [node.global_.registered() for node in nodes] == [[X]] * 3
        assert is_quiescent(nodes)


def test_taken_name_is_refused():
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")
    first = spawned(nodes[0])
    call_global(world, nodes[0], "register", X, first)

    assert call_global(world, nodes[1], "register", X, spawned(nodes[1])) is False
    assert all_resolve(nodes, X, first)


def test_process_can_have_only_one_name():
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")
    pid = spawned(nodes[0])
    call_global(world, nodes[0], "register", X, pid)

    assert call_global(world, nodes[1], "register", Y, pid) is False


def test_one_of_several_concurrent_registrations_succeeds():
    for seed in range(40):
        world = FakeRuntime(seed)
        nodes = cluster(world, "abcd")

        async def want(me):
            return me.pid if await me.node.global_.register(X, me.spawn(idle)) else None

        outcomes = [world.start(node, want) for node in nodes]
        winners = [world.wait(outcome) for outcome in outcomes]

        assert sum(winner is not None for winner in winners) == 1
        assert len({str(table) for table in name_tables(nodes)}) == 1


def test_name_is_removed_when_its_process_terminates():
    world = FakeRuntime(1)
    nodes = cluster(world, "abc")
    pid = spawned(nodes[0])
    call_global(world, nodes[0], "register", X, pid)

    nodes[0].processes[pid].end(Atom("normal"))

    assert nodes[0].global_.whereis(X) is None
    world.run(1)
    assert all_resolve(nodes, X, None)
    assert name_tables(nodes) == [[], [], []]


def test_name_is_removed_when_its_node_stops():
    world = FakeRuntime(1)
    nodes = cluster(world, "abc")
    call_global(world, nodes[1], "register", X, spawned(nodes[0]))

    world.kill(nodes.pop(0).name)
    world.run(1)

    assert name_tables(nodes) == [[], []]


def test_unregister_removes_the_name_on_all_nodes():
    world = FakeRuntime(1)
    nodes = cluster(world, "abc")
    call_global(world, nodes[0], "register", X, spawned(nodes[0]))

    call_global(world, nodes[2], "unregister", X)

    assert name_tables(nodes) == [[], [], []]
    call_global(world, nodes[2], "unregister", X)


def test_re_register_moves_the_name():
    world = FakeRuntime(1)
    nodes = cluster(world, "abc")
    first, second = spawned(nodes[0]), spawned(nodes[1])
    call_global(world, nodes[0], "register", X, first)

    call_global(world, nodes[2], "re_register", X, second)

    assert all_resolve(nodes, X, second)
    nodes[0].processes[first].end(Atom("normal"))
    world.run(1)
    assert all_resolve(nodes, X, second)


@pytest.mark.parametrize("name", [1, b"x", "x", (1, [2, {3: 4}]), [X], {X: 1}])
def test_any_term_can_be_a_name(name):
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")
    pid = spawned(nodes[0])

    call_global(world, nodes[0], "register", name, pid)

    assert all_resolve(nodes, name, pid)


@pytest.mark.parametrize("bad", [("register", X, "no pid"), ("register", object(), None), ("register", X, None)])
def test_invalid_argument_raises(bad):
    world = FakeRuntime(1)
    (node,) = cluster(world, "a")
    function, name, pid = bad

    with pytest.raises((TypeError, EncodeError)):
        call_global(world, node, function, name, pid if name is X else spawned(node))
    assert call_global(world, node, "register", Y, spawned(node)) is True


def test_sync_returns_when_all_connected_nodes_share_all_names():
    for seed in range(20):
        world = FakeRuntime(seed)
        nodes = [start(world, f"{name}@h") for name in "abc"]
        call_global(world, nodes[2], "register", X, spawned(nodes[2]))
        world.connect("a@h", "b@h")
        world.connect("a@h", "c@h")
        world.run(until=lambda nodes=nodes: len(nodes[0].nodes()) == 2)

        call_global(world, nodes[0], "sync")

        assert set(nodes[0].global_.known()) == {"b@h", "c@h"}
        assert nodes[0].global_.whereis(X) is not None


def test_sync_without_other_nodes_returns_at_once():
    world = FakeRuntime(1)
    (node,) = cluster(world, "a")

    call_global(world, node, "sync")

    assert world.time < 0.1


def test_sync_does_not_wait_for_a_lost_node():
    world = FakeRuntime(1)
    node = start(world, "a@h")
    world.node("silent@h")
    world.connect("a@h", "silent@h")
    world.run(1)

    async def sync(me):
        await me.node.global_.sync()

    outcome = world.start(node, sync)
    world.run(20)
    assert not outcome
    world.kill("silent@h")

    world.wait(outcome, limit=1)


def test_sync_with_a_node_without_global_times_out():
    world = FakeRuntime(1)
    node = start(world, "a@h")
    world.node("silent@h")
    world.connect("a@h", "silent@h")
    world.run(1)

    with pytest.raises(CallTimeout):
        call_global(world, node, "sync", timeout=2)


@pytest.mark.slow
def test_registrations_during_merges_keep_all_names():
    for seed in range(60):
        world = FakeRuntime(seed)
        nodes = [start(world, f"{name}@h") for name in "abcd"]
        outcomes = []

        async def register_some(me):
            for number in range(3):
                assert await me.node.global_.register((me.node.name, number), me.spawn(idle))
                await me.sleep(me.node.random.uniform(0, 0.5))

        for node in nodes[1:]:
            world.at(world.random.uniform(0, 1), partial(world.connect, node.name, "a@h"))
        outcomes = [world.start(node, register_some) for node in nodes]
        for outcome in outcomes:
            world.wait(outcome)
        world.run(until=partial(is_mesh, nodes), limit=60)
        world.run(until=partial(is_quiescent, nodes), limit=60)

        everywhere = [{name for name, _, _ in node.server.names.entries()} for node in nodes]
        assert everywhere == [{(node.name, number) for node in nodes for number in range(3)}] * 4, seed


def test_partition_may_grow_while_the_registrar_locks_it():
    for seed in range(30):
        world = FakeRuntime(seed)
        nodes = cluster(world, "bc")
        newcomer = start(world, "a@h")
        registrar = nodes[0].processes[nodes[0].server.registrar]

        async def register_while_growing(me, registrar=registrar, newcomer=newcomer):
            # The registrar has all replies and the new node has joined: the case of a slow registrar.
            real, known = registrar.receive, me.node.server.sync.known

            async def slow(match=None, *, timeout=None):
                message = await real(match, timeout=timeout)
                known.setdefault(newcomer.atom, 8)
                return message

            registrar.receive = slow
            return await me.node.global_.register(X, me.spawn(idle))

        world.connect("a@h", "b@h")
        world.run(until=lambda nodes=nodes: "a@h" in nodes[0].nodes())

        assert world.ask(nodes[0], register_while_growing) is True
        assert newcomer.server.names.names() == [X], seed


def test_statistics_show_nodes_names_and_locks():
    world = FakeRuntime(1)
    world.node("silent@h")
    nodes = cluster(world, "ab")
    world.connect("silent@h", "a@h")
    call_global(world, nodes[0], "register", X, spawned(nodes[0]))
    holder = spawned(nodes[1])
    nodes[0].server.locks.set((b"r", holder), holder)

    now = nodes[0].global_.statistics()

    assert (now.known, now.synced, now.in_session, now.removing) == (("b@h",), ("b@h",), ("silent@h",), ())
    assert (now.names, now.locks) == (1, ((b"r", (holder,)),))


def test_node_lost_while_the_registrar_locks_does_not_get_the_name():
    world = FakeRuntime(1)
    nodes = cluster(world, "bc")
    local, lost = nodes
    registrar = local.processes[local.server.registrar]

    async def register_while_losing(me):
        # The lock is set on all nodes, and one of them is lost before the name is sent.
        real, known = registrar.receive, me.node.server.sync.known

        async def slow(match=None, *, timeout=None):
            message = await real(match, timeout=timeout)
            if lost.server.locks.is_set(Atom("global")):
                known.pop(lost.atom, None)
            return message

        registrar.receive = slow
        return await me.node.global_.register(X, me.spawn(idle))

    assert world.ask(local, register_while_losing) is True
    assert local.server.names.names() == [X]
    assert lost.server.names.names() == []
