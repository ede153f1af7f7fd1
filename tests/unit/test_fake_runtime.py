"""The contract of the fake runtime: each check passes on it and on real nodes in a simulated cluster."""

import pytest
from fake_runtime import FakeRuntime
from real_nodes import RealNodes

from erlmesh.errors import CalleeExited, CallTimeout, NoConnection, NoProcess
from erlmesh.terms import Atom

NODEUP, NODEDOWN, DOWN, EXIT, KILL = map(Atom, ("nodeup", "nodedown", "DOWN", "EXIT", "kill"))
PROCESS, NOPROC, NOCONNECTION, KILLED = map(Atom, ("process", "noproc", "noconnection", "killed"))
CHECKS = []


def check(function):
    """Register ``async function(me, a, b, network)``: ``me`` is a process of node ``a``."""
    CHECKS.append(function)
    return function


class Fake:
    """Two nodes of the fake runtime."""

    def run(self, function):
        self.world = FakeRuntime(1)
        self.a, self.b = self.world.node("a@h"), self.world.node("b@h")
        return self.world.ask(self.a, function, self.a, self.b, self)

    def break_connection(self):
        self.world.cut(self.a.name, self.b.name)


class Real(RealNodes):
    """Two real nodes in a simulated cluster."""

    def break_connection(self):
        self.cluster.reset(self.a, self.b)


async def echo(me):
    async for message in me:
        match message:
            case (kind, caller, request) if kind is Atom("$gen_call"):
                me.reply(caller, (Atom("answer"), request))
            case (sender, content):
                me.send(sender, content)


async def idle(me):
    await me.receive(lambda message: False)


async def received(me, count):
    return [await me.receive(timeout=5) for _ in range(count)]


@check
async def signals_of_a_connection_arrive_in_order(me, a, b, network):
    pid = b.spawn(echo)

    for number in range(20):
        me.send(pid, (me.pid, number))

    assert await received(me, 20) == list(range(20))


@check
async def process_is_found_by_its_registered_name(me, a, b, network):
    b.spawn(echo, name="echo")

    me.send(("echo", b.name), (me.pid, 1))

    assert await me.receive(timeout=5) == 1


@check
async def nodeup_precedes_signals_and_nodedown_follows_them(me, a, b, network):
    pid = b.spawn(echo)
    a.monitor_nodes(me.pid)
    me.send(pid, (me.pid, 1))
    first = await received(me, 2)
    network.break_connection()

    assert first == [(NODEUP, Atom(b.name)), 1]
    assert await me.receive(timeout=5) == (NODEDOWN, Atom(b.name))


@check
async def lost_connection_triggers_down(me, a, b, network):
    pid = b.spawn(echo)
    me.send(pid, (me.pid, 1))
    ref = me.monitor(pid)
    await me.receive(timeout=5)
    network.break_connection()

    assert await me.receive(timeout=5) == (DOWN, ref, PROCESS, pid, NOCONNECTION)


@check
async def monitor_of_a_dead_process_gives_noproc(me, a, b, network):
    pid = b.spawn(idle)
    me.exit(pid, KILL)
    await me.sleep(1)

    ref = me.monitor(pid)

    assert await me.receive(timeout=5) == (DOWN, ref, PROCESS, pid, NOPROC)


@check
async def monitor_reports_the_exit_reason(me, a, b, network):
    pid = b.spawn(idle)
    ref = me.monitor(pid)

    me.exit(pid, KILL)

    assert await me.receive(timeout=5) == (DOWN, ref, PROCESS, pid, KILLED)


@check
async def demonitor_with_flush_removes_the_message(me, a, b, network):
    pid = b.spawn(idle)
    ref = me.monitor(pid)
    me.exit(pid, KILL)
    await me.sleep(1)

    me.demonitor(ref, flush=True)

    assert me.receive_nowait() is None


@check
async def trapped_exit_signal_is_a_message(me, a, b, network):
    me.trap_exit = True

    b.spawn(exits, me.pid)

    match await me.receive(timeout=5):
        case (kind, pid, reason):
            assert (kind, pid.node, reason) == (EXIT, Atom(b.name), Atom("bad"))


async def exits(me, target):
    me.exit(target, Atom("bad"))


@check
async def call_is_answered(me, a, b, network):
    assert await me.call(b.spawn(echo), 1) == (Atom("answer"), 1)


@check
async def call_of_a_name_without_a_process_raises(me, a, b, network):
    with pytest.raises(NoProcess):
        await me.call(("nothing", b.name), 1)


@check
async def call_of_a_process_that_exits_raises(me, a, b, network):
    pid = b.spawn(idle)
    b.spawn(kills, pid)

    with pytest.raises(CalleeExited) as raised:
        await me.call(pid, 1)
    assert raised.value.reason == KILLED


async def kills(me, target):
    await me.sleep(1)
    me.exit(target, KILL)


@check
async def call_without_an_answer_times_out(me, a, b, network):
    with pytest.raises(CallTimeout):
        await me.call(b.spawn(idle), 1, timeout=0.5)


@check
async def call_of_an_unknown_node_raises(me, a, b, network):
    with pytest.raises(NoConnection):
        await me.call(("nothing", "c@10.0.0.9"), 1)


@check
async def handler_is_not_reentered(me, a, b, network):
    order = []

    def receive(number):
        order.append(("begin", number))
        if number == 1:
            a.send(handler.pid, 2)
        order.append(("end", number))

    handler = a.spawn_handler(receive)
    me.send(handler.pid, 1)
    await me.sleep(1)

    assert order == [("begin", 1), ("end", 1), ("begin", 2), ("end", 2)]


@check
async def timer_sends_its_message_later_or_never(me, a, b, network):
    me.send_after(2, "late")
    me.send_after(1, "never").cancel()
    me.send_after(1, "soon")

    assert await received(me, 2) == ["soon", "late"]


@pytest.mark.parametrize("function", CHECKS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("runtime", [Fake, Real])
def test_runtime_fulfils_the_contract(runtime, function):
    runtime().run(function)
