"""The class GenServer, on an event loop with virtual time."""

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

import pytest

from erlmesh import (
    NO_REPLY,
    Atom,
    CalleeExited,
    CallTimeout,
    Exit,
    GenServer,
    Map,
    ProcessStartError,
    blocking,
    elixir_struct,
    from_term,
    to_term,
)
from erlmesh.behaviours.typed_requests import typed
from erlmesh.etf import decode, encode
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run, run_iterations

NORMAL, SHUTDOWN, KILL, ERROR, OK = map(Atom, ("normal", "shutdown", "kill", "error", "ok"))
GET, INCREMENT, LATER, STOP, CRASH, SLOW = map(Atom, ("get", "increment", "later", "stop", "crash", "slow"))


def with_node(test):
    """Pass a node of a simulated cluster to the test."""

    def wrapped():
        async def main():
            async with Cluster() as cluster:
                (node,) = await cluster.start("a")
                await test(node)

        run(main)

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped


class Counter(GenServer):
    max_mailbox = None

    def init(self, start=0, log=None):
        self.count = start
        self._log = [] if log is None else log
        self._callers = []

    def handle_call(self, request, caller):
        match request:
            case Atom("increment"):
                self.count += 1
                return self.count
            case Atom("get"):
                return self.count
            case Atom("later"):
                self._callers.append(caller)
                return NO_REPLY
            case Atom("stop"):
                self.stop(SHUTDOWN)
                return OK
            case Atom("crash"):
                raise ValueError("broken")
            case Atom("slow"):
                return self.reply_with(caller, self._slow())
        return None

    async def _slow(self):
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            self._log.append("cancelled")
            raise
        return 42

    def handle_cast(self, request):
        match request:
            case Atom("release"):
                while self._callers:
                    self.reply(self._callers.pop(0), self.count)
            case int():
                self.count = request
            case (Atom("continue"), argument):
                self.continue_with(argument)

    def handle_info(self, message):
        self._log.append(message)

    def handle_continue(self, argument):
        self._log.append(("continue", argument))

    def terminate(self, reason):
        self._log.append(("terminate", reason))


@with_node
async def test_calls_and_casts_are_handled_in_order(node):
    pid = await Counter.start(node, 5)

    node.send(pid, (Atom("$gen_cast"), 7))

    assert await node.call(pid, INCREMENT) == 8
    assert await node.call(pid, GET) == 8


@with_node
async def test_name_groups_and_global_name_are_registered_when_start_returns(node):
    group, everywhere = Atom("x"), Atom("everywhere")
    pid = await Counter.start(node, name="counter", global_name=everywhere, groups=["counters", group])

    assert node.whereis("counter") == pid
    assert node.internals.local_process(pid).label == f"{pid} Counter"
    assert node.pg.get_members("counters") == node.pg.get_members(group) == [pid]
    assert node.global_.whereis(everywhere) == pid
    for names in ({"name": "counter"}, {"global_name": everywhere}):
        with pytest.raises(ProcessStartError) as raised:
            await Counter.start(node, **names)
        assert raised.value.reason == (Atom("already_started"), pid)


@with_node
async def test_unknown_call_is_answered_and_logged(node):
    pid = await Counter.start(node)

    answer = await node.call(pid, (Atom("what"), 1))

    assert answer == (ERROR, (Atom("unknown_call"), (Atom("what"), 1)))
    assert await node.call(pid, GET) == 0


@with_node
async def test_server_without_methods_answers_every_call_and_logs_the_rest(node):
    class Empty(GenServer):
        pass

    pid = await Empty.start(node)
    node.send(pid, (Atom("$gen_cast"), 7))
    node.send(pid, 7)

    assert await node.call(pid, 1) == (ERROR, (Atom("unknown_call"), 1))


@with_node
async def test_reply_can_come_later(node):
    pid = await Counter.start(node, 3)
    calls = [asyncio.ensure_future(node.call(pid, LATER)) for _ in range(2)]
    await run_iterations()

    node.send(pid, (Atom("$gen_cast"), Atom("release")))

    assert await asyncio.gather(*calls) == [3, 3]


@with_node
async def test_init_that_raises_fails_the_start_and_sends_an_exit_to_the_parent(node):
    class Failing(GenServer):
        async def init(self):
            await asyncio.sleep(1)
            raise Exit(Atom("no_luck"))

    got = []

    async def parent(me):
        me.trap_exit = True
        try:
            await Failing.start_link(me)
        except ProcessStartError as error:
            got.append(error.reason)
        got.append((await me.receive(timeout=1))[2])

    node.spawn(parent)
    await asyncio.sleep(3)

    assert got == [Atom("no_luck")] * 2


@pytest.mark.parametrize("end", ["stop", "exit", "exception"])
def test_terminate_is_not_called_if_init_fails(end):
    @with_node
    async def test(node):
        log = []

        class Failing(Counter):
            def init(self):
                super().init(0, log)
                if end == "stop":
                    self.stop(SHUTDOWN)
                elif end == "exit":
                    raise Exit(SHUTDOWN)
                else:
                    raise ValueError("broken")

        with pytest.raises(ProcessStartError):
            await Failing.start(node)

        assert log == []

    test()


@with_node
async def test_work_is_cancelled_when_an_exit_signal_kills_the_server(node):
    log = []
    pid = await Counter.start(node, 0, log)
    call = asyncio.ensure_future(node.call(pid, SLOW, timeout=60))
    await run_iterations()

    node.exit(pid, KILL)
    with pytest.raises(CalleeExited):
        await call
    await run_iterations()

    assert log == ["cancelled"]
    assert node.internals._router.state.demonitor_callbacks == {}


@with_node
async def test_start_that_takes_too_long_kills_the_server(node):
    class Slow(GenServer):
        async def init(self):
            await asyncio.sleep(100)

    with pytest.raises(ProcessStartError) as raised:
        await Slow.start(node, name="slow", timeout=2)

    assert raised.value.reason is Atom("timeout")
    await run_iterations()
    assert node.whereis("slow") is None


@with_node
async def test_stop_sends_the_reply_first_and_calls_terminate(node):
    log = []
    pid = await Counter.start(node, 0, log)

    assert await node.call(pid, STOP) is OK
    await run_iterations()

    assert log == [("terminate", SHUTDOWN)]
    assert not node.internals.is_alive(pid)


@with_node
async def test_exception_ends_the_server_with_its_reason(node):
    log = []
    pid = await Counter.start(node, 0, log)

    with pytest.raises(CalleeExited) as raised:
        await node.call(pid, CRASH)

    (name, text), stack = raised.value.reason
    assert (name, text) == (Atom("ValueError"), b"broken")
    assert stack
    assert log[0][0] == "terminate"


@with_node
async def test_server_that_traps_exits_ends_with_its_parent_and_cleans_up(node):
    log, pids = [], []

    class Trapping(Counter):
        def init(self):
            super().init(0, log)
            self.me.trap_exit = True

    async def parent(me):
        pids.append(await Trapping.start_link(me))
        await me.receive()
        raise Exit(Atom("gone"))

    async def stranger(me):
        me.link(pids[0])
        raise Exit(Atom("other"))

    parent_pid = node.spawn(parent)
    await run_iterations(50)
    node.spawn(stranger)
    await run_iterations(50)
    assert log[0][0] is Atom("EXIT")
    assert node.internals.is_alive(pids[0])
    node.send(parent_pid, 1)
    await run_iterations(50)

    assert log[1:] == [("terminate", Atom("gone"))]
    assert not node.internals.is_alive(pids[0])


@with_node
async def test_continue_comes_before_the_next_message(node):
    log = []
    pid = await Counter.start(node, 0, log)

    node.send(pid, (Atom("$gen_cast"), (Atom("continue"), 1)))
    node.send(pid, Atom("message"))
    await run_iterations()

    assert log == [("continue", 1), Atom("message")]


@with_node
async def test_work_beside_the_loop_replies_and_the_server_answers_meanwhile(node):
    pid = await Counter.start(node)
    slow = asyncio.ensure_future(node.call(pid, SLOW, timeout=60))
    await run_iterations()

    assert await node.call(pid, GET) == 0
    assert await slow == 42


async def give_up(node, pid):
    with pytest.raises(CallTimeout):
        await node.call(pid, SLOW, timeout=1)


async def die(node, pid):
    async def caller(me):
        await me.call(pid, SLOW, timeout=60)

    caller = node.spawn(caller)
    await run_iterations()
    node.exit(caller, KILL)
    await run_iterations()


@pytest.mark.parametrize("leave", [give_up, die])
def test_work_is_cancelled_when_its_caller_waits_no_longer(leave):
    @with_node
    async def test(node):
        log = []
        pid = await Counter.start(node, 0, log)

        await leave(node, pid)
        await run_iterations()

        assert log == ["cancelled"]
        assert await node.call(pid, GET) == 0
        assert node.internals._router.state.demonitor_callbacks == {}

    test()


@with_node
async def test_work_is_cancelled_when_the_server_ends(node):
    log = []
    pid = await Counter.start(node, 0, log)
    call = asyncio.ensure_future(node.call(pid, SLOW, timeout=60))
    await run_iterations()

    assert await node.call(pid, STOP) is OK
    with pytest.raises(CalleeExited):
        await call
    await run_iterations()

    assert sorted(log, key=str) == [("terminate", SHUTDOWN), "cancelled"]
    assert node.internals._router.state.demonitor_callbacks == {}


@with_node
async def test_call_that_takes_too_long_is_answered_and_the_server_goes_on(node):
    class Limited(GenServer):
        call_timeout = 2.0

        async def handle_call(self, request, caller):
            await asyncio.sleep(request)
            return request

    pid = await Limited.start(node)

    assert await node.call(pid, 1) == 1
    assert await node.call(pid, 3) == (ERROR, Atom("timeout"))
    assert await node.call(pid, 1) == 1


@with_node
async def test_calls_above_the_mailbox_limit_are_refused(node):
    class Busy(GenServer):
        max_mailbox = 2

        async def handle_call(self, request, caller):
            await asyncio.sleep(1)
            return request

    pid = await Busy.start(node)
    calls = [asyncio.ensure_future(node.call(pid, number, timeout=60)) for number in range(5)]
    await run_iterations()

    refused = [call.result() for call in calls if call.done()]

    assert refused == [(ERROR, Atom("overloaded"))] * 3
    assert await asyncio.gather(*calls[:2]) == [0, 1]


@with_node
async def test_messages_above_the_mailbox_limit_are_kept_unless_they_are_calls(node):
    class Busy(GenServer):
        max_mailbox = 1

        def init(self):
            self.got = []

        async def handle_call(self, request, caller):
            await asyncio.sleep(1)
            return self.got

        def handle_cast(self, request):
            self.got.append(request)

    pid = await Busy.start(node)
    first = asyncio.ensure_future(node.call(pid, 1))
    await run_iterations()
    asker = node.spawn_handler(lambda _: None)
    for number in range(3):
        asker.cast(pid, number)
    asked = asyncio.get_running_loop().time()

    assert await node.call(pid, 2) == (ERROR, Atom("overloaded"))
    assert asyncio.get_running_loop().time() == asked
    await first
    assert await node.call(pid, 3) == [0, 1, 2]


@with_node
async def test_mailbox_limit_is_at_least_one(node):
    class Wrong(GenServer):
        max_mailbox = 0

    with pytest.raises(ProcessStartError, match="1 or more"):
        await Wrong.start(node)


@pytest.mark.parametrize(("overlap", "calls"), [("skip", 4), ("queue", 6)])
def test_ticks_that_were_missed_follow_the_overlap_policy(overlap, calls):
    @with_node
    async def test(node):
        log = []

        class Ticking(GenServer):
            def init(self):
                self._began = asyncio.get_running_loop().time()
                self.tick = self.every(1.0, self.on_tick, overlap=overlap)

            async def on_tick(self):
                now = asyncio.get_running_loop().time() - self._began
                if not log:
                    await asyncio.sleep(3.5)
                    now = 5
                log.append(round(now))
                if now >= 6:
                    self.tick.cancel()

        await Ticking.start(node)
        await asyncio.sleep(10)

        assert log[-1] == 6
        assert len(log) == calls, log

    test()


@with_node
async def test_tick_needs_a_period_and_a_known_policy(node):
    for seconds, overlap in ((0, "skip"), (float("nan"), "skip"), (1, "both")):

        class Wrong(GenServer):
            def init(self, seconds=seconds, overlap=overlap):
                self.every(seconds, print, overlap=overlap)

        with pytest.raises(ProcessStartError, match="ValueError"):
            await Wrong.start(node)


@with_node
async def test_sys_shows_the_state_of_a_server(node):
    pid = await Counter.start(node, 5)
    got = []
    asker = node.spawn_handler(got.append)

    async def ask(request):
        got.clear()
        asker.send(pid, (Atom("system"), (asker.pid, 1), request))
        await run_iterations()
        return got[0][1]

    state = {Atom("count"): 5}
    assert await ask(Atom("get_state")) == (OK, state)
    status = await ask(Atom("get_status"))
    assert status[2] == (Atom("module"), Atom("gen_server"))
    assert status[3][4][2] == (Atom("data"), [([ord(letter) for letter in "State"], state)])
    assert await ask((Atom("replace_state"), 1)) == (
        ERROR,
        (Atom("callback_failed"), (Atom("gen_server"), Atom("system_replace_state")), (ERROR, Atom("undef"))),
    )


@with_node
async def test_stop_from_outside_calls_terminate_after_earlier_messages(node):
    log = []
    pid = await Counter.start(node, 0, log)
    asker = node.spawn_handler(log.append)

    asker.send(pid, Atom("first"))
    asker.send(pid, (Atom("system"), (asker.pid, 1), (Atom("terminate"), Atom("enough"))))
    await run_iterations()

    assert log == [Atom("first"), (1, OK), ("terminate", Atom("enough"))]
    assert not node.internals.is_alive(pid)


@with_node
async def test_system_message_during_init_waits_for_its_end(node):
    log = []

    class Slow(Counter):
        async def init(self):
            super().init(0, log)
            await asyncio.sleep(2)
            log.append("ready")

    starting = asyncio.ensure_future(Slow.start(node, name="slow"))
    await run_iterations()
    asker = node.spawn_handler(log.append)
    asker.send("slow", (Atom("system"), (asker.pid, 1), (Atom("terminate"), NORMAL)))
    await starting
    await run_iterations()

    assert log == ["ready", (1, OK), ("terminate", NORMAL)]


def test_blocking_refuses_a_coroutine_function():
    async def handler(self):
        pass

    with pytest.raises(TypeError, match="coroutine function"):
        blocking(handler)


@pytest.mark.parametrize("leave", ["gives up", "is killed", "loses its node"])
def test_work_is_cancelled_when_a_caller_on_another_node_leaves(leave):
    async def main():
        async with Cluster() as cluster:
            a, b = await cluster.start("a", "b")
            await cluster.run_on(b, lambda: b.ping(a.name))
            log, pids = [], []

            async def server(me):
                pids.append(await Counter.start(a, 0, log))
                await me.receive()

            async def caller(me):
                await me.call(pids[0], SLOW, timeout=2 if leave == "gives up" else 60)

            a.spawn(server)
            await cluster.wait_until(lambda: pids)
            pid = b.spawn(caller)
            await cluster.wait_until(lambda: a.internals._router.state.demonitor_callbacks)
            if leave == "is killed":
                b.exit(pid, KILL)
            elif leave == "loses its node":
                cluster.kill(b)
            assert await cluster.wait_until(lambda: log == ["cancelled"]) < 5
            assert a.internals._router.state.demonitor_callbacks == {}

    run(main)


@dataclass(frozen=True)
class MoveMoney:
    to: int
    amount: int

    def __post_init__(self):
        if self.amount < 0:
            raise ValueError(self.amount)


class Balance(NamedTuple):
    pass


class Account(GenServer):
    def init(self):
        self.got = []

    def handle_call(self, request: MoveMoney | Balance, caller):
        return [type(request).__name__, *(vars(request).values() if isinstance(request, MoveMoney) else ())]

    def handle_cast(self, request: MoveMoney):
        self.got.append(request.amount)

    def handle_info(self, message: "Balance | MoveMoney"):
        self.got.append(type(message).__name__)


@with_node
async def test_annotation_makes_objects_of_requests(node):
    pid = await Account.start(node)

    assert await node.call(pid, (Atom("move_money"), 1, 2)) == ["MoveMoney", 1, 2]
    assert await node.call(pid, Atom("balance")) == ["Balance"]
    for unknown in (Atom("what"), (Atom("move_money"), 1), (Atom("move_money"), 1, -2), (), 5, (1, 2, 3)):
        assert await node.call(pid, unknown) == (ERROR, (Atom("unknown_call"), unknown))


@with_node
async def test_annotations_of_casts_and_messages_count_too(node):
    servers = []

    class Seen(Account):
        def init(self):
            super().init()
            servers.append(self)

    pid = await Seen.start(node)
    asker = node.spawn_handler(lambda _: None)
    asker.cast(pid, (Atom("move_money"), 1, 2))
    asker.cast(pid, Atom("unknown"))
    node.send(pid, Atom("balance"))
    node.send(pid, Atom("unknown"))
    await run_iterations()

    assert servers[0].got == [2, "Balance"]


@with_node
async def test_annotation_with_anything_but_classes_leaves_the_terms(node):
    class Plain(GenServer):
        def handle_call(self, request: MoveMoney | int, caller):
            return request

    class Hidden(GenServer):
        def handle_call(self, request: "NobodyKnows", caller):  # noqa: F821
            return request

    for server in (Plain, Hidden):
        assert await node.call(await server.start(node), (Atom("move_money"), 1, 2)) == (Atom("move_money"), 1, 2)


@elixir_struct("Bank.Payment")
@dataclass
class Payment:
    amount: Decimal
    note: str | None = None


@with_node
async def test_a_struct_of_elixir_becomes_its_class(node):
    class Bank(GenServer):
        def handle_call(self, request: Payment | Balance, caller):
            return to_term((type(request).__name__, request))

    pid = await Bank.start(node)
    payment = to_term(Payment(Decimal("1.50"), "rent"))
    reply = await node.call(pid, payment)

    assert reply[0] in ("Payment", b"Payment")
    assert from_term(decode(encode(reply[1])), Payment) == Payment(Decimal("1.50"), "rent")
    assert await node.call(pid, Atom("balance")) == ("Balance", ())
    other = Map({**payment, Atom("__struct__"): Atom("Elixir.Other")})
    for unknown in (Map({**payment, Atom("amount"): b"much"}), (Atom("Elixir.Bank.Payment"), 1), other):
        assert await node.call(pid, unknown) == (ERROR, (Atom("unknown_call"), unknown))


def test_blocking_handler_stays_blocking_with_an_annotation():
    class Slow(GenServer):
        @blocking
        def handle_call(self, request: MoveMoney, caller):
            return None

    handler = typed(Slow().handle_call, print)

    assert handler.__erlmesh_blocking__


@dataclass
class GetURLOf:
    page: int


def test_a_name_that_only_type_checkers_know_leaves_the_request_typed():
    class Pages(GenServer):
        def handle_call(self, request: "GetURLOf", caller: "OnlyForTypeCheckers"):  # noqa: F821 - that is the case
            return request

    handler = typed(Pages().handle_call, print)

    # The tag is that of Elixir's `Macro.underscore`.
    assert handler((Atom("get_url_of"), 5), None) == GetURLOf(5)


class Careless(GenServer):
    """Its methods await what is cancelled, and return what is not a term."""

    def init(self, log):
        self._log = log

    async def handle_call(self, request, caller):
        match request:
            case Atom("await_cancelled"):
                await self._cancelled_work()
            case Atom("work_is_cancelled"):
                return self.reply_with(caller, self._cancelled_work())
            case Atom("no_term"):
                return self.reply_with(caller, self._no_term())
        return None

    async def _cancelled_work(self):
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def _no_term(self):
        return object()

    def terminate(self, reason):
        self._log.append(reason)


@with_node
async def test_a_cancelled_future_in_a_handler_is_an_error_of_the_server(node):
    log = []
    pid = await Careless.start(node, log)

    with pytest.raises(CalleeExited) as raised:
        await node.call(pid, Atom("await_cancelled"))

    assert raised.value.reason[0][0] is Atom("RuntimeError")
    assert len(log) == 1


@pytest.mark.parametrize(
    ("request_", "error"), [(Atom("work_is_cancelled"), "RuntimeError"), (Atom("no_term"), "EncodeError")]
)
def test_work_without_a_result_is_answered(request_, error):
    async def main():
        async with Cluster() as cluster:
            a, b = await cluster.mesh(2)
            pid = await Careless.start(a, [])

            answer = await cluster.run_on(b, lambda: b.call(pid, request_, timeout=5))

            assert answer[0] is ERROR
            assert answer[1][0] is Atom(error)

    run(main)


@with_node
async def test_a_call_from_nobody_is_an_unknown_message(node):
    pid = await Counter.start(node)

    node.send(pid, (Atom("$gen_call"), 5, GET))

    assert await node.call(pid, GET) == 0


@with_node
async def test_init_is_not_called_if_the_global_name_is_taken(node):
    log = []

    class Singleton(GenServer):
        def init(self):
            log.append("init")

    await Singleton.start(node, global_name=Atom("one"))
    with pytest.raises(ProcessStartError):
        await Singleton.start(node, global_name=Atom("one"))

    assert log == ["init"]
