"""Names of the whole cluster: ``node.global_names``, on clusters in memory."""

from functools import partial

import pytest
from fake_runtime import World
from global_world import SERVER, idle, is_mesh, is_quiet, start, tables

from erlmesh.errors import CallTimeout
from erlmesh.services.global_methods import notify_all_name, random_exit_name, random_notify_name
from erlmesh.services.global_protocol import Tell
from erlmesh.terms import Atom, Pid

X, Y = Atom("x"), Atom("y")
CONFLICT = Atom("global_name_conflict")


def cluster(world, names, **options):
    nodes = [start(world, f"{name}@h", **options) for name in names]
    for node in nodes[1:]:
        world.connect(node.name, nodes[0].name)
    world.run(until=lambda: is_mesh(nodes), limit=60)
    return nodes


def spawned(node):
    return node.spawn(idle)


def does(world, node, act, *args, **options):
    async def body(me):
        return await getattr(me.node.global_names, act)(*args, **options)

    return world.ask(node, body)


def agree(nodes, name, pid):
    return all(node.global_names.whereis(name) == pid for node in nodes)


def test_a_name_is_there_on_all_nodes_when_register_returns():
    for seed in range(20):
        world = World(seed)
        nodes = cluster(world, "abc")
        pid = spawned(nodes[1])

        assert does(world, nodes[2], "register", X, pid) is True

        assert agree(nodes, X, pid)
        assert [node.global_names.registered() for node in nodes] == [[X]] * 3
        assert is_quiet(nodes)


def test_a_name_that_is_taken_is_refused():
    world = World(1)
    nodes = cluster(world, "ab")
    first = spawned(nodes[0])
    does(world, nodes[0], "register", X, first)

    assert does(world, nodes[1], "register", X, spawned(nodes[1])) is False
    assert agree(nodes, X, first)


def test_a_process_has_one_name():
    world = World(1)
    nodes = cluster(world, "ab")
    pid = spawned(nodes[0])
    does(world, nodes[0], "register", X, pid)

    assert does(world, nodes[1], "register", Y, pid) is False


def test_of_all_who_want_a_name_at_once_one_gets_it():
    for seed in range(40):
        world = World(seed)
        nodes = cluster(world, "abcd")

        async def want(me):
            return me.pid if await me.node.global_names.register(X, me.spawn(idle)) else None

        outcomes = [world.start(node, want) for node in nodes]
        winners = [world.wait(outcome) for outcome in outcomes]

        assert sum(winner is not None for winner in winners) == 1
        assert len({str(table) for table in tables(nodes)}) == 1


def test_a_name_goes_when_its_process_dies():
    world = World(1)
    nodes = cluster(world, "abc")
    pid = spawned(nodes[0])
    does(world, nodes[0], "register", X, pid)

    nodes[0].processes[pid].end(Atom("normal"))

    assert nodes[0].global_names.whereis(X) is None
    world.run(1)
    assert agree(nodes, X, None)
    assert tables(nodes) == [[], [], []]


def test_a_name_goes_when_its_node_dies():
    world = World(1)
    nodes = cluster(world, "abc")
    does(world, nodes[1], "register", X, spawned(nodes[0]))

    world.stop(nodes.pop(0).name)
    world.run(1)

    assert tables(nodes) == [[], []]


def test_unregister_frees_the_name_everywhere():
    world = World(1)
    nodes = cluster(world, "abc")
    does(world, nodes[0], "register", X, spawned(nodes[0]))

    does(world, nodes[2], "unregister", X)

    assert tables(nodes) == [[], [], []]
    does(world, nodes[2], "unregister", X)


def test_re_register_moves_the_name():
    world = World(1)
    nodes = cluster(world, "abc")
    first, second = spawned(nodes[0]), spawned(nodes[1])
    does(world, nodes[0], "register", X, first)

    does(world, nodes[2], "re_register", X, second)

    assert agree(nodes, X, second)
    nodes[0].processes[first].end(Atom("normal"))
    world.run(1)
    assert agree(nodes, X, second)


@pytest.mark.parametrize("name", [1, b"x", "x", (1, [2, {3: 4}]), [X], {X: 1}])
def test_any_term_is_a_name(name):
    world = World(1)
    nodes = cluster(world, "ab")
    pid = spawned(nodes[0])

    does(world, nodes[0], "register", name, pid)

    assert agree(nodes, name, pid)


@pytest.mark.parametrize("bad", [("register", X, "no pid"), ("register", object(), None), ("register", X, None)])
def test_a_wrong_argument_is_refused_at_the_call(bad):
    world = World(1)
    (node,) = cluster(world, "a")
    act, name, pid = bad

    with pytest.raises(TypeError):
        does(world, node, act, name, pid if name is X else spawned(node))
    assert does(world, node, "register", Y, spawned(node)) is True


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
    assert list(nodes[1].processes[pids[1]].mailbox) == [(CONFLICT, X)]


def test_both_processes_that_meet_under_one_name_may_lose_it():
    world = World(1)
    nodes, pids = two_with_the_same_name(world, notify_all_name)

    world.connect("b@h", "a@h")
    world.run(until=partial(is_mesh, nodes))
    world.run(1)

    assert tables(nodes) == [[], []]
    assert list(nodes[0].processes[pids[0]].mailbox) == [(CONFLICT, X, pids[1])]
    assert list(nodes[1].processes[pids[1]].mailbox) == [(CONFLICT, X, pids[0])]


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
        assert list(left[1].processes[mine].mailbox) == [(CONFLICT, X)]


def test_sync_returns_when_all_connected_nodes_share_all_names():
    for seed in range(20):
        world = World(seed)
        nodes = [start(world, f"{name}@h") for name in "abc"]
        does(world, nodes[2], "register", X, spawned(nodes[2]))
        world.connect("a@h", "b@h")
        world.connect("a@h", "c@h")
        world.run(until=lambda nodes=nodes: len(nodes[0].nodes()) == 2)

        does(world, nodes[0], "sync")

        assert set(nodes[0].global_names.known()) == {"b@h", "c@h"}
        assert nodes[0].global_names.whereis(X) is not None


def test_sync_alone_returns_at_once():
    world = World(1)
    (node,) = cluster(world, "a")

    does(world, node, "sync")

    assert world.time < 0.1


def test_sync_does_not_wait_for_a_node_that_is_lost():
    world = World(1)
    node = start(world, "a@h")
    world.node("silent@h")
    world.connect("a@h", "silent@h")
    world.run(1)

    async def sync(me):
        await me.node.global_names.sync()

    outcome = world.start(node, sync)
    world.run(20)
    assert not outcome
    world.stop("silent@h")

    world.wait(outcome, limit=1)


def test_sync_with_a_node_that_does_not_speak_global_times_out_if_told_to():
    world = World(1)
    node = start(world, "a@h")
    world.node("silent@h")
    world.connect("a@h", "silent@h")
    world.run(1)

    with pytest.raises(CallTimeout):
        does(world, node, "sync", timeout=2)


async def ask(me, node, request):
    return await me.call((SERVER, node.atom), request)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (Atom("get_known"), [Atom("b@h")]),
        (Atom("get_synced"), [Atom("b@h")]),
        (Atom("get_protocol_version"), 8),
        (Atom("get_names_ext"), []),
        ((Atom("sync"), [Atom("b@h")]), Atom("ok")),
        ((Atom("unregister"), X), Atom("ok")),
        ((Atom("del_lock"), (1, 2)), True),
        ((Atom("set_lock"), (1, 2)), True),
    ],
)
def test_the_calls_of_otp_are_answered(request_, answer):
    world = World(1)
    nodes = cluster(world, "ab")

    assert world.ask(nodes[1], ask, nodes[0], request_) == answer


def test_names_registered_by_calls_are_kept_if_the_caller_holds_the_lock():
    world = World(1)
    nodes = cluster(world, "ab")
    pid = spawned(nodes[1])

    async def as_a_registrar(me):
        lock = (Atom("global"), me.pid)
        await me.call((SERVER, nodes[0].atom), (Atom("set_lock"), lock))
        answers = [
            await me.call((SERVER, nodes[0].atom), (Atom("register"), X, pid, random_exit_name)),
            await me.call((SERVER, nodes[0].atom), (Atom("register_ext"), Y, pid, random_exit_name, nodes[1].atom)),
        ]
        await me.call((SERVER, nodes[0].atom), (Atom("del_lock"), lock))
        return answers

    async def without_the_lock(me):
        await me.call((SERVER, nodes[0].atom), (Atom("register"), b"z", pid, random_exit_name))

    async def holds(me):
        await me.call((SERVER, nodes[0].atom), (Atom("set_lock"), (Atom("global"), me.pid)))
        await me.receive(lambda message: False)

    assert world.ask(nodes[1], as_a_registrar) == [Atom("yes"), Atom("yes")]
    assert nodes[0].server.names.external() == [(Y, pid, nodes[1].atom)]
    nodes[1].spawn(holds)
    world.run(0.1)
    world.ask(nodes[1], without_the_lock)
    assert nodes[0].global_names.registered() == [X, Y]


def test_a_look_up_by_message_waits_while_names_are_being_changed():
    world = World(1)
    nodes = cluster(world, "ab")
    pid = spawned(nodes[0])
    does(world, nodes[0], "register", X, pid)

    async def look(me):
        lock = (Atom("global"), me.pid)
        await me.call((SERVER, nodes[0].atom), (Atom("set_lock"), lock))
        for name in (X, Y):
            me.send((SERVER, nodes[0].atom), (Atom("whereis"), name, (me.pid, name)))
        await me.sleep(10)
        early = list(me.mailbox)
        await me.call((SERVER, nodes[0].atom), (Atom("del_lock"), lock))
        return early, sorted([await me.receive(), await me.receive()], key=lambda answer: answer[0].name)

    assert world.ask(nodes[1], look) == ([], [(X, pid), (Y, Atom("undefined"))])


def test_an_answer_goes_to_the_alias_of_the_caller():
    world = World(1)
    (node,) = cluster(world, "a")
    sent = []
    node.server.me.send = lambda to, message, **_: sent.append((to, message))
    alias = node.make_ref()
    from erlmesh.kernel.gen import call

    node.server.receive(call(Pid(node.atom, 1, 0, 1), alias, Atom("get_protocol_version")))

    assert sent[0][0] == alias
    assert sent[0][1][1] == 8


def test_names_survive_registrations_during_joins():
    for seed in range(60):
        world = World(seed)
        nodes = [start(world, f"{name}@h") for name in "abcd"]
        outcomes = []

        async def register_some(me):
            for number in range(3):
                assert await me.node.global_names.register((me.node.name, number), me.spawn(idle))
                await me.sleep(me.node.random.uniform(0, 0.5))

        for node in nodes[1:]:
            world.at(world.random.uniform(0, 1), partial(world.connect, node.name, "a@h"))
        outcomes = [world.start(node, register_some) for node in nodes]
        for outcome in outcomes:
            world.wait(outcome)
        world.run(until=partial(is_mesh, nodes), limit=60)
        world.run(until=partial(is_quiet, nodes), limit=60)

        everywhere = [{name for name, _, _ in node.server.names.entries()} for node in nodes]
        assert everywhere == [{(node.name, number) for node in nodes for number in range(3)}] * 4, seed


def test_the_partition_may_grow_while_the_registrar_locks_it():
    for seed in range(30):
        world = World(seed)
        nodes = cluster(world, "bc")
        newcomer = start(world, "a@h")
        registrar = nodes[0].processes[nodes[0].global_names._registrar]

        async def register_while_growing(me, registrar=registrar, newcomer=newcomer):
            # The registrar has its answers and the newcomer is in: what a slow registrar would see.
            real, known = registrar.receive, me.node.server.sync.known

            async def slow(match=None, *, timeout=None):  # noqa: ASYNC109
                message = await real(match, timeout=timeout)
                known.setdefault(newcomer.atom, 8)
                return message

            registrar.receive = slow
            return await me.node.global_names.register(X, me.spawn(idle))

        world.connect("a@h", "b@h")
        world.run(until=lambda nodes=nodes: "a@h" in nodes[0].nodes())

        assert world.ask(nodes[0], register_while_growing) is True
        assert newcomer.server.names.names() == [X], seed


def test_a_stale_word_of_the_others_locker_is_dropped_by_the_server():
    world = World(1)
    half = world.node("half@h")
    heard = []
    server = half.spawn_server(heard.append, name=SERVER)
    (node,) = cluster(world, "a")
    world.connect("half@h", "a@h")
    world.run(0.05)
    hello = (Atom("locker"), Atom("no_longer_a_pid"), {}, server.pid)
    server.cast((SERVER, node.atom), (Atom("init_connect"), (8, 1), half.atom, hello))
    world.run(0.01)
    heard.clear()

    server.cast((SERVER, node.atom), (Atom("lock_set"), server.pid, True, [], 12345))
    world.run(0.02)

    assert heard == []


def test_what_is_best_effort_makes_no_connection():
    world = World(1)
    nodes = [start(world, "a@h"), start(world, "b@h")]

    nodes[0].server._carry_out([Tell(nodes[1].atom, (Atom("lost_connection"),))])
    world.run(1)

    assert nodes[0].nodes() == []


def test_the_end_of_a_former_monitor_means_nothing():
    world = World(1)
    (node,) = cluster(world, "a")
    pid = spawned(node)
    does(world, node, "register", X, pid)

    node.server.receive((Atom("DOWN"), node.make_ref(), Atom("process"), pid, Atom("noproc")))

    assert node.global_names.whereis(X) == pid


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
    left[1].spawn_server(lambda message: None, name="rex")
    before = len(left[0].processes)
    world.connect("a@h", "b@h")
    world.run(5)
    assert len(left[0].processes) == before + 1

    world.stop("b@h")
    world.run(1)

    assert len(left[0].processes) == before
    assert left[0].server.locks.snapshot() == []
