"""The contract of the fake cluster: each check passes on it and on real nodes in a simulated cluster."""

from functools import partial

import fake_cluster
import pytest
from real_nodes import RealNodes

from erlmesh.errors import CalleeExited, NoProcess
from erlmesh.terms import Atom

NODEUP, NODEDOWN, DOWN, KILL = map(Atom, ("nodeup", "nodedown", "DOWN", "kill"))
PROCESS, NOPROC, NOCONNECTION, KILLED = map(Atom, ("process", "noproc", "noconnection", "killed"))
CHECKS = []


def check(function):
    """Register ``async function(me, a, b, network)``: ``me`` is a process of ``a``. The nodes are not connected."""
    CHECKS.append(function)
    return function


class Fake:
    """Two nodes of the fake cluster."""

    def run(self, function):
        self.cluster = fake_cluster.Cluster(1)
        self.a, self.b = self.cluster.node("a@h"), self.cluster.node("b@h")
        return self.cluster.run(function(self.a.process(), self.a, self.b, self))

    async def connect(self):
        self.cluster.connect(self.a, self.b)

    def cut(self):
        self.cluster.cut(self.a, self.b)


class Real(RealNodes):
    """Two real nodes in a simulated cluster."""

    async def connect(self):
        await self.cluster.run_on(self.a, partial(self.a.connect, self.b.name))

    def cut(self):
        self.cluster.reset(self.a, self.b)


async def echo(me):
    while True:
        match await me.receive():
            case (kind, caller, request) if kind is Atom("$gen_call"):
                me.reply(caller, (Atom("answer"), request))
            case (sender, content):
                me.send(sender, content)


async def idle(me):
    await me.receive(lambda message: False)


async def take(me, count):
    return [await me.receive() for _ in range(count)]


@check
async def signals_of_a_pair_keep_their_order(me, a, b, network):
    await network.connect()
    pid = b.spawn(echo)

    for number in range(20):
        me.send(pid, (me.pid, number))

    assert await take(me, 20) == list(range(20))


@check
async def a_process_is_found_by_its_registered_name(me, a, b, network):
    await network.connect()
    b.spawn(echo, name=Atom("echo"))

    me.send((Atom("echo"), Atom(b.name)), (me.pid, 1))

    assert await me.receive() == 1


@check
async def node_events_enclose_the_signals_of_a_node(me, a, b, network):
    a.monitor_nodes(me.pid)
    pid = b.spawn(echo)
    await network.connect()
    me.send(pid, (me.pid, 1))
    first = await take(me, 2)
    network.cut()

    assert first == [(NODEUP, Atom(b.name)), 1]
    assert await me.receive() == (NODEDOWN, Atom(b.name))


@check
async def a_lost_connection_gives_a_down(me, a, b, network):
    await network.connect()
    pid = b.spawn(echo)
    ref = me.monitor(pid)
    me.send(pid, (me.pid, 1))
    assert await me.receive() == 1

    network.cut()

    assert await me.receive() == (DOWN, ref, PROCESS, pid, NOCONNECTION)


@check
async def a_monitor_of_a_name_without_a_process_gives_noproc(me, a, b, network):
    await network.connect()

    ref = me.monitor((Atom("nobody"), Atom(b.name)))

    assert await me.receive() == (DOWN, ref, PROCESS, (Atom("nobody"), Atom(b.name)), NOPROC)


@check
async def a_monitor_reports_the_exit_reason(me, a, b, network):
    await network.connect()
    pid = b.spawn(idle)
    ref = me.monitor(pid)

    me.exit(pid, KILL)

    assert await me.receive() == (DOWN, ref, PROCESS, pid, KILLED)


@check
async def a_removed_monitor_reports_nothing(me, a, b, network):
    await network.connect()
    pid, other = b.spawn(idle), b.spawn(echo)
    ref = me.monitor(pid)

    assert me.demonitor(ref, flush=True)
    assert not me.demonitor(ref, flush=True)
    me.exit(pid, KILL)
    me.send(other, (me.pid, 1))

    assert await me.receive() == 1


@check
async def receive_takes_the_first_message_that_matches(me, a, b, network):
    for number in range(3):
        me.send(me.pid, number)

    assert await me.receive(lambda message: message > 0) == 1
    assert await take(me, 2) == [0, 2]


@check
async def a_call_returns_the_reply_or_raises(me, a, b, network):
    await network.connect()
    pid = b.spawn(echo)

    assert await a.call(pid, 1) == (Atom("answer"), 1)
    with pytest.raises(NoProcess):
        await a.call((Atom("nobody"), Atom(b.name)), 1)


@check
async def a_call_of_a_process_that_exits_raises(me, a, b, network):
    await network.connect()
    pid = b.spawn(mortal)

    with pytest.raises(CalleeExited):
        await a.call(pid, 1)


async def mortal(me):
    await me.receive()
    me.stop(Atom("boom"))


@check
async def a_handler_takes_each_message_and_can_answer(me, a, b, network):
    await network.connect()
    handler = b.spawn_handler(lambda message: handler.send(message[0], (Atom("got"), message[1])))

    me.send(handler.pid, (me.pid, 1))
    me.send(handler.pid, (me.pid, 2))

    assert await take(me, 2) == [(Atom("got"), 1), (Atom("got"), 2)]


@pytest.mark.parametrize("function", CHECKS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("runtime", [Fake, Real])
def test_cluster_fulfils_the_contract(runtime, function):
    runtime().run(function)
