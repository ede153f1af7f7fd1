"""Processes as their bodies and their nodes see them, in virtual time."""

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
    """The test is given a started node."""

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
    """What a watcher is told of the ends of ``pids``, in order; filled as time passes."""
    reasons = []
    watcher = node.spawn_handler(lambda message: reasons.append(message[4]))
    for pid in pids:
        watcher.monitor(pid)
    return reasons


# Messages are values


@with_node
async def test_a_list_that_is_changed_after_it_was_sent_is_not_changed_at_the_receiver(node):
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
async def test_a_message_to_itself_after_a_while_is_what_it_was_when_it_was_sent(node):
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
async def test_the_state_of_a_server_that_answers_with_it_is_its_own(node):
    state = [1]

    async def server(me):
        async for message in me:
            me.reply(message[1], state)

    answer = await node.call(node.spawn(server), Atom("get"))
    answer.append(2)

    assert state == [1]


@with_node
async def test_an_object_that_is_no_term_is_shared_on_its_node(node):
    thing, got = object(), []

    async def body(me):
        got.append(await me.receive())

    node.send(node.spawn(body), (1, thing))
    await run_iterations()

    assert got[0][1] is thing


# Receiving


@with_node
async def test_a_process_receives_what_matches_and_the_rest_in_order(node):
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
async def test_a_receiver_that_waits_is_woken_by_what_matches_alone(node):
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
async def test_a_receive_that_times_out_loses_no_message(node):
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
async def test_a_message_that_comes_with_the_end_of_the_time_is_not_lost(node):
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
async def test_a_process_that_always_has_a_message_lets_others_run(node):
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

    assert all(map(node.is_alive, pids))  # and the test goes on


@with_node
async def test_a_message_after_some_time_comes_then_unless_it_is_cancelled(node):
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


# Ending


@with_node
async def test_a_body_that_returns_ends_normally(node):
    async def body(me):
        pass

    pid = node.spawn(body)
    reasons = ends(node, pid)
    await run_iterations()

    assert reasons == [NORMAL]
    assert not node.is_alive(pid)
    assert pid not in node.processes()


@with_node
async def test_a_body_ends_with_the_reason_it_raises(node):
    async def body(me, reason):
        raise Exit(reason)

    reasons = ends(node, node.spawn(body, (BOOM, 1)), node.spawn(body, KILL), node.spawn(body, object))
    await run_iterations()

    assert reasons == [(BOOM, 1), KILL, "<class 'object'>"]


@with_node
async def test_an_exception_is_an_exit_reason_with_a_stack(node):
    async def body(me):
        raise KeyError("lost")

    reasons = ends(node, node.spawn(body))
    await run_iterations()

    ((kind, text), stack) = reasons[0]
    assert (kind, text) == (Atom("KeyError"), "'lost'")
    assert stack[0][:3] == (Atom("test_process"), Atom("test_an_exception_is_an_exit_reason_with_a_stack.body"), 1)


@with_node
async def test_a_process_that_dies_before_its_first_step_never_runs(node):
    ran = []

    async def body(me):
        ran.append(me)

    pid = node.spawn(body)
    reasons = ends(node, pid)
    node.exit(pid, BOOM)
    await run_iterations()

    assert (ran, reasons) == ([], [BOOM])


@with_node
async def test_the_task_of_a_process_that_is_ended_is_cancelled_and_tidies_up(node):
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
async def test_a_task_that_swallows_its_cancellation_gets_no_further_than_its_next_wait(node):
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
async def test_a_process_that_ends_itself_goes_no_further_than_its_next_await(node):
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
async def test_a_task_cancelled_by_others_is_a_killed_process(node):
    pid = node.spawn(idle)
    reasons = ends(node, pid)
    await run_iterations()

    node.local_process(pid)._task.cancel()
    await run_iterations()

    assert reasons == [KILLED]


@with_node
async def test_a_call_in_a_task_of_its_own_ends_with_the_process(node):
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
async def test_a_cancelled_caller_stops_calling(node):
    async def body(me):
        await me.call(silent, 1, timeout=None)

    silent = node.spawn(idle)
    pid = node.spawn(body)
    await run_iterations()
    node.exit(pid, BOOM)
    await run_iterations()

    assert node._router.registry.aliases == {}
    assert len(node._router.monitors) == 0


# Children, names


@with_node
async def test_a_linked_child_and_its_parent_share_their_end(node):
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
async def test_a_child_that_fails_at_once_is_a_message_to_a_parent_that_traps(node):
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
async def test_names_are_taken_given_and_free_again_at_the_end(node):
    async def body(me):
        me.register("second")
        with pytest.raises(ValueError, match="the name taken is taken by"):
            me.register("taken")
        await me.receive()

    other = node.spawn(idle, name="taken")
    pid = node.spawn(body, name="first")
    await run_iterations()

    assert node.registered() == ["erlmesh", "first", "second", "taken"]
    assert (node.whereis("second"), node.whereis("taken"), node.whereis("nobody")) == (pid, other, None)
    with pytest.raises(ValueError, match="the name first is taken by"):
        node.spawn(idle, name="first")
    node.exit(pid, BOOM)
    assert node.registered() == ["erlmesh", "taken"]
    assert node.unregister("taken")
    assert not node.unregister("taken")


@with_node
async def test_a_dying_process_cannot_take_a_name(node):
    faults = []

    async def body(me):
        try:
            await me.receive()
        finally:
            try:
                me.register("late")
            except ValueError as fault:
                faults.append(str(fault))

    pid = node.spawn(body)
    await run_iterations()
    node.exit(pid, BOOM)
    await run_iterations()

    assert "it is not a living process of this node" in faults[0]
    assert node.whereis("late") is None


@with_node
async def test_a_process_says_who_it_is_and_whether_it_lives(node):
    pid = node.spawn(idle)
    process = node.local_process(pid)
    assert repr(process) == f"<Process {pid} idle>"

    node.exit(pid, BOOM)

    assert repr(process) == f"<Process {pid} idle dead>"


@with_node
async def test_only_a_pid_of_this_node_is_known_to_live_or_not(node):
    with pytest.raises(ValueError, match="only its own node knows"):
        node.is_alive(Pid(B, 64, 0, 1))
    with pytest.raises(ValueError, match="not a living process of this node"):
        node.register("name", Pid(B, 64, 0, 1))


@with_node
async def test_an_exit_reason_from_outside_is_a_term(node):
    pid = node.spawn(idle)

    with pytest.raises(EncodeError):
        node.exit(pid, object())

    assert node.is_alive(pid)


# Writing more than a peer takes


def test_a_process_that_writes_too_much_waits_when_it_receives_or_calls_and_at_no_other_time():
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
                    await me.call(mortal, 1)
                trace.append("called")

            async def flusher(me):
                me.send(("server", B), 1)
                await me.drain()
                trace.append("flushed")

            async def dies(me):
                await me.receive()

            mortal = a.spawn(dies)
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


def test_who_waits_for_a_peer_that_is_lost_goes_on():
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


def test_a_node_is_not_used_before_it_starts_or_after_it_stops():
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
async def test_a_node_that_stops_ends_the_youngest_first_and_gives_them_time_to_tidy_up(node):
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
async def test_a_node_that_stops_does_not_wait_for_ever(node):
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
async def test_a_process_may_stop_its_own_node(node):
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


def test_a_turn_is_long_enough_to_cost_nothing():
    assert module.REDUCTIONS >= 1_000
