"""Local processes, on an event loop with virtual time."""

import asyncio
from contextlib import suppress

import pytest
from memory_network import MemoryNetwork, started

from erlmesh.errors import CalleeExited, EncodeError, Exit, NodeNotAlive, NodeStartError
from erlmesh.runtime import process as module
from erlmesh.terms import Atom, Pid
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B = Atom("a@h"), Atom("b@h")
DOWN, EXIT, PROCESS = Atom("DOWN"), Atom("EXIT"), Atom("process")
NORMAL, KILL, KILLED, NOPROC, BOOM, SHUTDOWN = map(Atom, ("normal", "kill", "killed", "noproc", "boom", "shutdown"))


def with_node(test):
    """Pass a started node to the test."""

    def wrapped():
        async def main():
            async with started(MemoryNetwork(), "a@h") as node:
                await test(node)

        run(main())

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped


async def idle(me):
    async for _ in me:
        pass


def ends(node, *pids):
    """Monitor ``pids``. The returned list is filled with their exit reasons in order."""
    reasons = []
    watcher = node.spawn_handler(lambda message: reasons.append(message[4]))
    for pid in pids:
        watcher.monitor(pid)
    return reasons


# Messages are values


@with_node
async def test_list_changed_after_send_is_unchanged_at_the_receiver(node):
    got, ways = [], {}

    async def receiver(me):
        ways["pid"], ways["alias"], ways["name"], ways["name and node"] = me.pid, me.alias(), "here", ("here", A)
        while True:
            got.append(await me.receive())

    async def sender(me):
        message = [Atom("before")]
        for way in ways.values():
            me.send(way, message)
        message.append(Atom("after"))

    node.spawn(receiver, name="here")
    await run_iterations()
    node.spawn(sender)
    await run_iterations()

    assert got == [[Atom("before")]] * 4
    assert len(set(map(id, got))) == 4


@with_node
async def test_send_after_delivers_the_message_as_it_was_at_the_call(node):
    got = []

    async def body(me):
        message = [1]
        me.send_after(5, message)
        message.append(2)
        got.append(await me.receive())

    node.spawn(body)
    await asyncio.sleep(6)

    assert got == [[1]]


@with_node
async def test_reply_with_a_state_does_not_share_it(node):
    state = [1]

    async def server(me):
        async for message in me:
            me.reply(message[1], state)

    answer = await node.call(node.spawn(server), Atom("get"))
    answer.append(2)

    assert state == [1]


@with_node
async def test_object_that_is_not_a_term_is_shared_on_its_node(node):
    thing, got = object(), []

    async def body(me):
        got.append(await me.receive())

    node.send(node.spawn(body), (1, thing))
    await run_iterations()

    assert got[0][1] is thing


# Receiving


@with_node
async def test_receive_takes_the_match_and_then_the_rest_in_order(node):
    got = []

    async def body(me):
        got.append(await me.receive(lambda n: n == 3))
        got.append(me.receive_nowait(lambda n: n == 9))
        got.append(me.receive_nowait())
        got.extend([await me.receive(), await me.receive()])

    pid = node.spawn(body)
    for n in (1, 2, 3):
        node.send(pid, n)
    await run_iterations()
    node.send(pid, 4)
    await run_iterations()

    assert got == [3, None, 1, 2, 4]


@with_node
async def test_waiting_receive_returns_only_a_matching_message(node):
    got, looked_at = [], []

    def match(n):
        looked_at.append(n)
        return n == 3

    async def body(me):
        got.append(await me.receive(match))
        got.extend([await me.receive(), await me.receive()])

    pid = node.spawn(body)
    for n in (1, 2, 3):
        await run_iterations()
        node.send(pid, n)
    await run_iterations()

    assert got == [3, 1, 2]
    assert looked_at == [1, 2, 3]


@with_node
async def test_receive_timeout_loses_no_message(node):
    got = []

    async def body(me):
        start = me._ops.now()
        with pytest.raises(TimeoutError):
            await me.receive(lambda n: n == 2, timeout=1.5)
        got.append(me._ops.now() - start)
        with pytest.raises(TimeoutError):
            await me.receive(lambda n: n == 2, timeout=0)
        got.append(await me.receive(timeout=0))

    node.send(node.spawn(body), 1)
    await asyncio.sleep(2)

    assert got == [pytest.approx(1.5), 1]


@with_node
async def test_messages_that_do_not_match_do_not_extend_the_timeout(node):
    ended = []

    async def body(me):
        with pytest.raises(TimeoutError):
            await me.receive(lambda message: message == 2, timeout=1.0)
        ended.append(me._ops.now() - start)

    start, pid = asyncio.get_running_loop().time(), node.spawn(body)
    for _ in range(4):
        node.send(pid, 1)
        await asyncio.sleep(0.4)

    assert ended == [pytest.approx(1.0)]


@with_node
async def test_timeout_between_a_message_that_does_not_match_and_the_step_is_not_lost(node):
    ended = []

    async def body(me):
        with pytest.raises(TimeoutError):
            await me.receive(lambda message: message == 2, timeout=1.0)
        ended.append(me._ops.now() - start)

    loop = asyncio.get_running_loop()
    loop.call_later(1.0, lambda: node.send(pid, 1))  # before the time limit in the same iteration
    start, pid = loop.time(), node.spawn(body)
    await asyncio.sleep(2.0)

    assert ended == [pytest.approx(1.0)]


@with_node
async def test_timeouts_leave_no_timer_and_no_wait(node):
    async def body(me):
        with pytest.raises(TimeoutError):
            await me.receive(timeout=1.0)
        await me.receive(timeout=1000.0)

    pid = node.spawn(body)
    await asyncio.sleep(2.0)
    node.send(pid, 1)
    await run_iterations()

    assert not node.is_alive(pid)
    assert len(node._router.deadlines) == 0


@with_node
async def test_second_task_that_waits_for_the_messages_of_a_process_raises(node):
    got = []

    async def body(me):
        second = asyncio.ensure_future(_receive_later(me))
        got.append(await me.receive())
        with pytest.raises(RuntimeError, match="another task waits"):
            await second

    pid = node.spawn(body)
    await run_iterations()
    node.send(pid, 1)
    await run_iterations()

    assert got == [1]
    assert not node.is_alive(pid)


async def _receive_later(me):
    await asyncio.sleep(0)
    return await me.receive()


@with_node
async def test_receive_of_another_task_waits_again_after_a_cancellation(node):
    got = []

    async def body(me):
        first = asyncio.ensure_future(me.receive(lambda _: True))
        await run_iterations()
        first.cancel()
        got.append(await me.receive())

    pid = node.spawn(body)
    await asyncio.sleep(1)
    node.send(pid, 1)
    await run_iterations()

    assert got == [1]


@with_node
async def test_message_between_a_cancellation_and_its_step_is_not_lost(node):
    async def body(me):
        first = asyncio.ensure_future(me.receive())
        await run_iterations()
        first.cancel()
        me.send(me.pid, 1)
        with pytest.raises(asyncio.CancelledError):
            await first
        got.append(me.receive_nowait())

    got = []
    node.spawn(body)
    await asyncio.sleep(1)

    assert got == [1]


@with_node
async def test_message_that_arrives_at_the_timeout_is_not_lost(node):
    got = []

    async def body(me):
        with suppress(TimeoutError):
            got.append(await me.receive(timeout=1))
        got.append(me.receive_nowait())

    pid = node.spawn(body)
    await run_iterations()
    asyncio.get_running_loop().call_later(1, node.send, pid, 7)
    await asyncio.sleep(2)

    assert sorted(got, key=str) in ([7, None], [7])


@with_node
async def test_process_with_a_full_mailbox_lets_other_tasks_run(node):
    async def busy(me):
        me.send(me.pid, 1)
        async for _ in me:
            me.send(me.pid, 1)

    async def busier(me):
        me.send(me.pid, 1)
        while True:
            me.send(me.pid, await me.receive())

    pids = [node.spawn(busy), node.spawn(busier)]
    await run_iterations()

    assert all(map(node.is_alive, pids))  # the test continues: both let other tasks run


@with_node
async def test_send_after_delivers_in_time_unless_cancelled(node):
    got = []

    async def body(me):
        me.send_after(2, "later")
        me.send_after(1, "never").cancel()
        got.append((await me.receive(), me._ops.now()))
        await me.sleep(3)
        got.append(me._ops.now())

    node.spawn(body)
    await asyncio.sleep(10)

    assert got == [("later", pytest.approx(2)), pytest.approx(5)]


# Termination


@with_node
async def test_body_that_returns_exits_with_normal(node):
    async def body(me):
        pass

    pid = node.spawn(body)
    reasons = ends(node, pid)
    await run_iterations()

    assert reasons == [NORMAL]
    assert not node.is_alive(pid)
    assert pid not in node.processes()


@with_node
async def test_body_exits_with_the_reason_it_raises(node):
    async def body(me, reason):
        raise Exit(reason)

    reasons = ends(node, node.spawn(body, (BOOM, 1)), node.spawn(body, KILL), node.spawn(body, object))
    await run_iterations()

    assert reasons == [(BOOM, 1), KILL, b"<class 'object'>"]


@with_node
async def test_exception_becomes_an_exit_reason_with_a_stack(node):
    async def body(me):
        raise KeyError("lost")

    reasons = ends(node, node.spawn(body))
    await run_iterations()

    ((kind, text), stack) = reasons[0]
    assert (kind, text) == (Atom("KeyError"), b"'lost'")
    assert stack[0][:3] == (Atom("test_process"), Atom("test_exception_becomes_an_exit_reason_with_a_stack.body"), 1)


@with_node
async def test_process_terminated_before_its_first_step_never_runs(node):
    ran = []

    async def body(me):
        ran.append(me)

    pid = node.spawn(body)
    reasons = ends(node, pid)
    node.exit(pid, BOOM)
    await run_iterations()

    assert (ran, reasons) == ([], [BOOM])


@with_node
async def test_task_of_terminated_process_is_cancelled_and_cleans_up(node):
    tidied = []

    async def body(me):
        try:
            await me.receive()
        finally:
            tidied.append(me.alive)

    pid = node.spawn(body)
    reasons = ends(node, pid)
    await run_iterations()
    node.exit(pid, BOOM)

    assert reasons == [BOOM]
    assert tidied == []
    await run_iterations()
    assert tidied == [False]
    assert reasons == [BOOM]


@with_node
async def test_task_that_swallows_its_cancellation_stops_at_its_next_wait(node):
    trace = []

    async def body(me):
        while True:
            try:
                await me.receive()
            except asyncio.CancelledError:
                trace.append("swallowed")
                with pytest.raises(Exit):
                    me.link(node.spawn(idle))
                with pytest.raises(Exit):
                    await me.call("anybody", 1)

    pid = node.spawn(body)
    await run_iterations()
    task = node.local_process(pid)._task
    node.exit(pid, BOOM)
    node.send(pid, 1)
    await run_iterations()

    assert trace == ["swallowed"]
    assert task.done()


@with_node
async def test_process_that_stops_itself_runs_to_its_next_await(node):
    trace = []

    async def by_exit(me):
        me.exit(me.pid, BOOM)
        trace.append(me.alive)
        await me.sleep(1)
        trace.append("went on")

    async def by_link(me):
        me.link(Pid(A, 999, 0, me.pid.creation))
        trace.append(me.alive)
        await asyncio.sleep(0)
        trace.append("went on")

    reasons = ends(node, node.spawn(by_exit), node.spawn(by_link))
    await asyncio.sleep(2)

    assert trace == [False, False]
    assert reasons == [BOOM, NOPROC]


@with_node
async def test_task_cancelled_by_other_code_exits_with_killed(node):
    pid = node.spawn(idle)
    reasons = ends(node, pid)
    await run_iterations()

    node.local_process(pid)._task.cancel()
    await run_iterations()

    assert reasons == [KILLED]


@with_node
async def test_call_in_another_task_ends_with_the_process(node):
    outcome = []

    async def body(me):
        async def ask():
            try:
                await me.call(silent, 1, timeout=None)
            except Exit as end:
                outcome.append(end.reason)

        asked.append(asyncio.create_task(ask()))
        await me.receive()

    asked = []
    silent = node.spawn(idle)
    pid = node.spawn(body)
    await run_iterations()
    node.exit(pid, BOOM)
    await run_iterations()

    assert outcome == [BOOM]


@with_node
async def test_cancelled_caller_ends_its_call(node):
    async def body(me):
        await me.call(silent, 1, timeout=None)

    silent = node.spawn(idle)
    pid = node.spawn(body)
    await run_iterations()
    node.exit(pid, BOOM)
    await run_iterations()

    assert node._router.registry.aliases == {}
    assert len(node._router.monitors) == 0


# Children and names


@with_node
async def test_linked_child_and_parent_terminate_together(node):
    children = []

    async def parent(me):
        children.append(me.spawn(idle, link=True))
        children.append(me.spawn(idle))
        await me.receive()

    pid = node.spawn(parent)
    await run_iterations()
    node.exit(pid, BOOM)

    assert [node.is_alive(child) for child in children] == [False, True]


@with_node
async def test_exit_of_a_failed_child_is_a_message_to_a_trapping_parent(node):
    got = []

    async def fail(me):
        raise Exit(BOOM)

    async def parent(me):
        me.trap_exit = True
        child = me.spawn(fail, link=True)
        got.append((child, await me.receive()))

    node.spawn(parent)
    await run_iterations()

    ((child, message),) = got
    assert message == (EXIT, child, BOOM)


@with_node
async def test_names_are_registered_once_and_free_after_termination(node):
    async def body(me):
        me.register("second")
        with pytest.raises(ValueError, match="the name taken is taken by"):
            me.register("taken")
        await me.receive()

    other = node.spawn(idle, name="taken")
    pid = node.spawn(body, name="first")
    await run_iterations()

    assert node.registered() == ["erlmesh", "first", "second", "taken"]
    assert (node.whereis("second"), node.whereis("taken"), node.whereis("missing")) == (pid, other, None)
    with pytest.raises(ValueError, match="the name first is taken by"):
        node.spawn(idle, name="first")
    node.exit(pid, BOOM)
    assert node.registered() == ["erlmesh", "taken"]
    assert node.unregister("taken")
    assert not node.unregister("taken")


@with_node
async def test_no_process_is_registered_as_undefined(node):
    """As in OTP: ``whereis/1`` returns ``undefined`` for a free name."""
    refused = pytest.raises(ValueError, match="cannot be registered as undefined")
    pid = node.spawn(idle)
    with refused:
        node.spawn(idle, name="undefined")
    with refused:
        node.register("undefined", pid)
    with refused:
        node.spawn_handler(print, name="undefined")
    assert node.whereis("undefined") is None
    assert not node.unregister("undefined")
    with pytest.raises(TypeError, match="an atom's name is a str"):
        node.register(7, pid)


@with_node
async def test_terminated_process_cannot_register_a_name(node):
    errors = []

    async def body(me):
        try:
            await me.receive()
        finally:
            try:
                me.register("late")
            except ValueError as error:
                errors.append(str(error))

    pid = node.spawn(body)
    await run_iterations()
    node.exit(pid, BOOM)
    await run_iterations()

    assert "it is not a living process of this node" in errors[0]
    assert node.whereis("late") is None


@with_node
async def test_repr_shows_the_pid_the_body_and_whether_it_is_alive(node):
    pid = node.spawn(idle)
    process = node.local_process(pid)
    assert repr(process) == f"<Process {pid} idle>"

    node.exit(pid, BOOM)

    assert repr(process) == f"<Process {pid} idle dead>"


@with_node
async def test_is_alive_raises_for_a_pid_of_another_node(node):
    with pytest.raises(ValueError, match="only its own node knows"):
        node.is_alive(Pid(B, 64, 0, 1))
    with pytest.raises(ValueError, match="not a living process of this node"):
        node.register("name", Pid(B, 64, 0, 1))


@with_node
async def test_exit_with_a_reason_that_is_not_a_term_raises(node):
    pid = node.spawn(idle)

    with pytest.raises(EncodeError):
        node.exit(pid, object())

    assert node.is_alive(pid)


# Backpressure


def test_process_that_fills_a_connection_waits_only_in_receive_and_call():
    async def main():
        network = MemoryNetwork()
        async with started(network, "a@h") as a, started(network, "b@h") as b:
            await a.connect("b@h")
            pump = a._connections.connection("b@h").protocol
            trace = []

            async def receiver(me):
                me.send((Atom("server"), B), 1)
                trace.append("sent")
                await me.receive()
                trace.append("received")

            async def caller(me):
                me.send(("server", B), 1)
                with pytest.raises(CalleeExited):
                    await me.call(short_lived, 1)
                trace.append("called")

            async def flusher(me):
                me.send(("server", B), 1)
                await me.drain()
                trace.append("flushed")

            async def dies(me):
                await me.receive()

            short_lived = a.spawn(dies)
            await run_iterations()
            pump.pause_writing()
            a.send(a.spawn(receiver), 1)
            a.spawn(caller)
            a.spawn(flusher)
            await run_iterations()
            assert trace == ["sent"]
            pump.resume_writing()
            await run_iterations()

            assert sorted(trace) == ["called", "flushed", "received", "sent"]
            assert b.nodes() == ["a@h"]

    run(main())


def test_process_blocked_on_a_lost_peer_continues():
    async def main():
        network = MemoryNetwork()
        async with started(network, "a@h") as a, started(network, "b@h"):
            await a.connect("b@h")
            trace = []

            async def body(me):
                me.send(("server", B), 1)
                await me.drain()
                trace.append("flushed")

            a._connections.connection("b@h").protocol.pause_writing()
            a.spawn(body)
            await run_iterations()
            assert trace == []
            a.disconnect("b@h")
            await run_iterations()

            assert trace == ["flushed"]

    run(main())


# Starting and stopping


def test_node_cannot_be_used_before_start_or_after_stop():
    async def main():
        async with started(MemoryNetwork(), "a@h") as node:
            pass
        with pytest.raises(NodeNotAlive):
            node.spawn(idle)
        with pytest.raises(NodeNotAlive):
            await node.call("server", 1)
        with pytest.raises(NodeStartError):
            await node.start()
        await node.stop()

    run(main())


@with_node
async def test_stop_terminates_the_youngest_first_and_lets_them_clean_up(node):
    trace = []

    async def body(me, name):
        try:
            await me.receive()
        finally:
            trace.append(name)
            await asyncio.sleep(0.1)
            trace.append(name + " tidied")

    pids = [node.spawn(body, "old"), node.spawn(body, "young")]
    reasons = ends(node, *pids)
    await run_iterations()
    await node.stop()

    assert trace == ["young", "old", "young tidied", "old tidied"]
    assert reasons == [SHUTDOWN, SHUTDOWN]
    assert node.processes() == []


@with_node
async def test_stop_does_not_wait_forever(node):
    free = asyncio.Event()

    async def stubborn(me):
        with suppress(asyncio.CancelledError):
            await me.receive()
        await free.wait()

    node.spawn(stubborn)
    await run_iterations()
    start = node.now()
    await node.stop()

    assert node.now() - start < 1
    free.set()
    await run_iterations()


@with_node
async def test_process_can_stop_its_own_node(node):
    trace = []

    async def body(me):
        me.spawn(idle, link=True)
        await run_iterations()
        await node.stop()
        trace.append(node.processes())
        await me.sleep(1)
        trace.append("to its end")

    node.spawn(body)
    await asyncio.sleep(5)

    assert trace == [[], "to its end"]


def test_yields_are_rare_enough_to_cost_little():
    assert module.REDUCTIONS >= 1_000
