"""The server alone: its replies, and its handling of unexpected messages."""

import pytest
from fake_runtime import FakeRuntime
from global_cluster import SERVER, call_global, cluster, spawned, start

from erlmesh.core.gen import call
from erlmesh.services.global_.methods import random_exit_name
from erlmesh.services.global_.protocol import Cast, Send
from erlmesh.terms import Atom, Pid

X, Y = Atom("x"), Atom("y")


async def ask(me, node, request):
    return await me.call((SERVER, node.atom), request)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (Atom("get_known"), [Atom("b@h")]),
        (Atom("get_synced"), [Atom("b@h")]),
        (Atom("get_protocol_version"), 8),
        (Atom("nonsense"), (Atom("error"), (Atom("unknown_call"), Atom("nonsense")))),
        (Atom("get_names_ext"), []),
        ((Atom("sync"), [Atom("b@h")]), Atom("ok")),
        ((Atom("unregister"), X), Atom("ok")),
        ((Atom("del_lock"), (1, 2)), True),
        ((Atom("set_lock"), (1, 2)), True),
    ],
)
def test_calls_of_otp_are_answered(request_, answer):
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")

    assert world.ask(nodes[1], ask, nodes[0], request_) == answer


def test_name_registered_by_a_call_stays_only_if_the_caller_holds_the_lock():
    world = FakeRuntime(1)
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
    assert nodes[0].global_.registered() == [X, Y]


def test_whereis_message_waits_while_global_is_locked():
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")
    pid = spawned(nodes[0])
    call_global(world, nodes[0], "register", X, pid)

    async def look(me):
        lock = (Atom("global"), me.pid)
        await me.call((SERVER, nodes[0].atom), (Atom("set_lock"), lock))
        for name in (X, Y):
            me.send((SERVER, nodes[0].atom), (Atom("whereis"), name, (me.pid, name)))
        await me.sleep(10)
        early = list(me._mailbox)
        await me.call((SERVER, nodes[0].atom), (Atom("del_lock"), lock))
        return early, sorted([await me.receive(), await me.receive()], key=lambda answer: answer[0].name)

    assert world.ask(nodes[1], look) == ([], [(X, pid), (Y, Atom("undefined"))])


def test_reply_goes_to_the_alias_of_the_caller():
    world = FakeRuntime(1)
    (node,) = cluster(world, "a")
    sent = []
    node.server.process.send = lambda to, message, **_: sent.append((to, message))
    alias = node.make_ref()
    node.server.handle_message(call(Pid(node.atom, 1, 0, 1), alias, Atom("get_protocol_version")))

    assert sent[0][0] == alias
    assert sent[0][1][1] == 8


def test_lock_set_of_an_earlier_session_is_dropped():
    world = FakeRuntime(1)
    half = world.node("half@h")
    received = []
    server = half.spawn_handler(received.append, name=SERVER)
    (node,) = cluster(world, "a")
    world.connect("half@h", "a@h")
    world.run(0.05)
    hello = (Atom("locker"), Atom("no_longer_a_pid"), {}, server.pid)
    server.cast((SERVER, node.atom), (Atom("init_connect"), (8, 1), half.atom, hello))
    world.run(0.01)
    received.clear()

    server.cast((SERVER, node.atom), (Atom("lock_set"), server.pid, True, [], 12345))
    world.run(0.02)

    assert received == []


def test_effects_other_than_connect_do_not_connect():
    world = FakeRuntime(1)
    nodes = [start(world, "a@h"), start(world, "b@h")]

    nodes[0].server._apply_effects([Send(nodes[1].atom, (Atom("lost_connection"),))])
    world.run(1)

    assert nodes[0].nodes() == []


def test_down_of_an_earlier_monitor_is_ignored():
    world = FakeRuntime(1)
    (node,) = cluster(world, "a")
    pid = spawned(node)
    call_global(world, node, "register", X, pid)

    node.server.handle_message((Atom("DOWN"), node.make_ref(), Atom("process"), pid, Atom("noproc")))

    assert node.global_.whereis(X) == pid


def test_messages_of_a_session_do_not_reconnect_a_disconnected_node():
    world = FakeRuntime(1)
    (a,) = cluster(world, "a")
    b = start(world, "b@h")

    a.server._apply_effects([Cast(b.atom, (Atom("exchange"), a.atom, [], [], 1))])
    a.server.process.send(a.server.sync.locker, (Atom("cancel"), b.atom, 1, [(b.atom, Atom("news"))]))
    world.run(1)

    assert a.nodes() == b.nodes() == []


@pytest.mark.parametrize("seed", range(3))
def test_name_change_does_not_reconnect_a_disconnected_node(seed):
    world = FakeRuntime(seed, delay=(0.001, 0.002))
    a, b, _ = cluster(world, "abc")
    world.at(0.0015, lambda: a.disconnect_and_reconnect(b.name))  # during the call to the boss, c@h

    assert call_global(world, a, "register", X, spawned(a))
    world.run(1)

    assert b.name not in a.nodes()


@pytest.mark.parametrize("tag", ["nodeup", "nodedown", "extra_nodedown"])
@pytest.mark.parametrize("node", [0, (Atom("b@h"), [1]), b"b@h"])
def test_a_node_event_about_something_else_than_a_node_is_ignored(tag, node, caplog):
    world = FakeRuntime(1)
    nodes = cluster(world, "ab")

    async def send(me):
        me.send((SERVER, nodes[0].atom), (Atom(tag), node))
        return await me.call((SERVER, nodes[0].atom), Atom("get_known"))

    assert world.ask(nodes[1], send) == [Atom("b@h")]
    assert not [record for record in caplog.records if record.exc_info]
