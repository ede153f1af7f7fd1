"""Connections between nodes in one event loop: who waits, who is told, and in which order."""

import asyncio
import inspect
from contextlib import AsyncExitStack

import pytest
from memory_network import MemoryNetwork, started

from erlmesh.errors import CalleeExited, NoConnection, NodeNotAlive
from erlmesh.proto.handshake_driver import SETUP_TIMEOUT
from erlmesh.runtime import connections as module
from erlmesh.runtime.connections import MAX_NODES
from erlmesh.runtime.pending_signals import MAX_PENDING_BYTES
from erlmesh.terms import Atom, Pid
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B, C = Atom("a@h"), Atom("b@h"), Atom("c@h")
NODEUP, NODEDOWN, DOWN, EXIT, PROCESS = map(Atom, ("nodeup", "nodedown", "DOWN", "EXIT", "process"))
NOCONNECTION, BOOM = Atom("noconnection"), Atom("boom")


def with_nodes(*names, **options):
    """The test is given the network and a started node for each name; everything is closed in the end."""

    def decorate(test):
        def wrapped(**fixtures):
            async def main():
                async with AsyncExitStack() as stack:
                    network = MemoryNetwork()
                    nodes = [await stack.enter_async_context(started(network, name, **options)) for name in names]
                    await test(network, *nodes, **fixtures)
                await run_iterations()
                assert network.open_pipes() == []
                for node in nodes:
                    connections = node._connections
                    assert connections._by_protocol == {}
                    assert len(connections._pending) == 0
                    assert not connections._tasks
                    assert connections._pending_handshakes == {}

            run(main())

        parameters = list(inspect.signature(test).parameters.values())
        fixtures = [each.replace(kind=each.KEYWORD_ONLY) for each in parameters[1 + len(names) :]]
        wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
        wrapped.__signature__ = inspect.Signature(fixtures)
        return wrapped

    return decorate


def listener(node, name=None, *, events=True):
    """A server that writes down what it hears, node events among it."""
    heard = []
    process = node.spawn_handler(heard.append, name=name)
    if events:
        node.monitor_nodes(process.pid, reasons=True)
    return process, heard


def told(node, name):
    answers = []
    node.connect_nowait(name, answers.append)
    return answers


@with_nodes("a@h", "b@h")
async def test_two_nodes_connect_and_part(network, a, b):
    (_, at_a), (_, at_b) = listener(a), listener(b)

    assert await a.connect("b@h")
    assert (a.nodes(), b.nodes()) == (["b@h"], ["a@h"])
    assert await a.disconnect("b@h")
    await run_iterations()

    assert (a.nodes(), b.nodes()) == ([], [])
    assert at_a == [(NODEUP, B), (NODEDOWN, B, Atom("disconnect"))]
    assert at_b == [(NODEUP, A), (NODEDOWN, A, Atom("connection_closed"))]
    assert not await a.disconnect("b@h")


@with_nodes("a@h", "b@h")
async def test_connecting_twice_or_to_oneself_is_true_at_once(network, a, b):
    await a.connect("b@h")

    assert told(a, "b@h") == [True]
    assert told(a, "a@h") == [True]
    assert len(network.pipes) == 1


@with_nodes("a@h", "b@h")
async def test_all_who_wait_for_one_node_share_one_attempt(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    waiting = [told(a, "b@h") for _ in range(100)]
    await run_iterations()
    assert waiting == [[]] * 100

    network.gates["b@h"].set()
    await run_iterations(20)

    assert waiting == [[True]] * 100
    assert len(network.pipes) == 1


@with_nodes("a@h")
async def test_all_who_wait_for_a_node_that_is_not_there_are_told_no_and_why(network, a):
    waiting = [told(a, "b@h") for _ in range(3)]
    await run_iterations()

    assert waiting == [[False]] * 3
    assert a.last_connect_error("b@h") == "no node b@h"
    assert a.last_connect_error("c@h") is None


@with_nodes("a@h")
async def test_a_name_that_is_none_and_one_of_the_other_kind_are_refused_in_words(network, a):
    assert not await a.connect("nonsense")
    assert "is not a node name" in a.last_connect_error("nonsense")

    assert not await a.connect("b@long.name")
    assert "b@long.name is a long node name and a@h a short one" in a.last_connect_error("b@long.name")


@with_nodes("a@long.name")
async def test_a_short_name_is_refused_by_a_long_one(network, a):
    assert not await a.connect("b@h")
    assert "a@long.name is a long node name and b@h a short one" in a.last_connect_error("b@h")


@with_nodes("a@h", "b@h")
async def test_a_fault_in_the_resolver_is_a_failed_attempt(network, a, b):
    async def broken(name):
        raise UnicodeError("label empty or too long")

    network.resolve, resolve = broken, network.resolve
    assert not await a.connect("b@h")

    assert a.last_connect_error("b@h") == "cannot reach b@h: UnicodeError: label empty or too long"
    network.resolve = resolve
    assert await a.connect("b@h")
    assert a.last_connect_error("b@h") is None


@with_nodes("a@h", "b@h")
async def test_a_host_that_does_not_answer_is_given_up_in_time(network, a, b):
    network.gates["b@h"] = asyncio.Event()

    assert not await a.connect("b@h")

    assert a._now() == pytest.approx(SETUP_TIMEOUT)
    assert "did not answer within 7 s" in a.last_connect_error("b@h")


@with_nodes("a@h", "b@h")
async def test_finding_a_node_dialling_it_and_the_handshake_have_one_time_limit_together(network, a, b):
    gate = network.gates["b@h"] = asyncio.Event()
    asyncio.get_running_loop().call_later(SETUP_TIMEOUT - 1, gate.set)
    network.on_pipe = lambda pipe: setattr(pipe, "silent", True)

    assert not await a.connect("b@h")

    assert a._now() == pytest.approx(SETUP_TIMEOUT)
    assert "did not arrive within 7 s" in a.last_connect_error("b@h")


@with_nodes("a@h", "b@h")
async def test_only_so_many_reasons_are_kept(network, a, b):
    for number in range(MAX_NODES + 1):
        await a.connect(f"x{number}@h")

    assert a.last_connect_error("x0@h") is None
    assert a.last_connect_error("x1@h") is not None


@with_nodes("a@h", "b@h")
async def test_a_failing_callback_does_not_keep_the_others_from_their_answer(network, a, b):
    a.connect_nowait("b@h", lambda up: 1 / 0)
    answers = told(a, "b@h")
    await run_iterations(20)

    assert answers == [True]


# Signals that wait


@with_nodes("a@h", "b@h")
async def test_held_signals_arrive_in_order_and_before_what_nodeup_causes(network, a, b):
    _, heard = listener(b, "server", events=False)

    def on_event(message):
        sender.send(("server", B), ("after", message[0]))

    sender = a.spawn_handler(on_event)
    a.monitor_nodes(sender.pid)
    for number in range(3):
        sender.send(("server", B), number)
    await run_iterations(20)

    assert heard == [0, 1, 2, (b"after", NODEUP)]


@with_nodes("a@h", "b@h")
async def test_nodeup_comes_before_anything_else_from_that_node(network, a, b):
    _, at_b = listener(b, "server")
    a.send(("server", B), 1)
    await run_iterations(20)

    assert at_b == [(NODEUP, A), 1]


@with_nodes("a@h", "b@h")
async def test_nodedown_comes_after_everything_else_from_that_node(network, a, b):
    p, heard = listener(a)
    q, _ = listener(b, "server")
    await a.connect("b@h")
    ref = p.monitor(q.pid)
    p.link(q.pid)
    await run_iterations()

    q.send(p.pid, 1)
    b.disconnect_nowait("a@h")
    await run_iterations()

    assert heard == [
        (NODEUP, B), 1, (EXIT, q.pid, NOCONNECTION), (DOWN, ref, PROCESS, q.pid, NOCONNECTION),
        (NODEDOWN, B, Atom("connection_closed")),
    ]  # fmt: skip


@with_nodes("a@h", "b@h")
async def test_links_and_monitors_wait_for_the_connection_they_cause(network, a, b):
    p, heard = listener(a)
    q, _ = listener(b)
    ref = p.monitor(q.pid)
    p.link(q.pid)
    await run_iterations(20)

    b.exit(q.pid, Atom("kill"))
    await run_iterations()

    killed = Atom("killed")
    assert heard == [(NODEUP, B), (EXIT, q.pid, killed), (DOWN, ref, PROCESS, q.pid, killed)]


@with_nodes("a@h", "b@h")
async def test_a_link_taken_back_while_it_waits_leaves_no_half_link(network, a, b):
    p, _ = listener(a)
    q, _ = listener(b, events=False)
    p.link(q.pid)
    p.unlink(q.pid)
    ref = p.monitor(q.pid)
    p.demonitor(ref)
    await run_iterations(20)

    assert a.nodes() == ["b@h"]
    assert len(b._router.links) == len(b._router.monitors) == 0
    assert len(a._router.links) == 0


@with_nodes("a@h", "b@h")
async def test_who_dies_while_its_link_waits_is_heard_of(network, a, b):
    p, _ = listener(a)
    q, heard = listener(b, events=False)
    p.link(q.pid)
    a.exit(p.pid, Atom("kill"))
    await run_iterations(20)

    assert heard == [(EXIT, p.pid, Atom("killed"))]
    assert len(b._router.links) == 0


@with_nodes("a@h")
async def test_signals_for_a_node_that_cannot_be_reached_come_back(network, a):
    p, heard = listener(a)
    gone = Pid(B, 64, 0, 1)
    p.link(gone)
    p.send(gone, 1)
    ref = p.monitor(("server", B))
    await run_iterations()

    assert heard == [(EXIT, gone, NOCONNECTION), (DOWN, ref, PROCESS, (Atom("server"), B), NOCONNECTION)]


@with_nodes("a@h", "b@h")
async def test_noconnect_sends_to_connected_nodes_and_to_those_that_are_being_connected(network, a, b):
    _, heard = listener(b, "server", events=False)
    p, _ = listener(a)

    p.send(("server", B), 1, connect=False)
    await run_iterations(20)
    assert a.nodes() == []
    a.connect_nowait("b@h", lambda _: None)
    p.send(("server", B), 2, connect=False)
    await run_iterations(20)
    p.send(("server", B), 3, connect=False)
    await run_iterations()

    assert heard == [2, 3]


@with_nodes("a@h")
async def test_a_call_to_a_node_that_cannot_be_reached_says_why(network, a):
    with pytest.raises(NoConnection, match="no connection to b@h: no node b@h"):
        await a.call(("server", B), 1)


@with_nodes("a@h", "b@h")
async def test_what_waits_is_what_it_was_when_it_was_sent(network, a, b):
    _, heard = listener(b, "server", events=False)
    message = [1]
    a.send(("server", B), message)
    message.append(2)
    await run_iterations()

    assert heard == [[1]]


MEGABYTE = b"x" * (1 << 20)


@with_nodes("a@h", "b@h")
async def test_who_sends_much_to_a_node_that_is_dialled_is_held_until_it_is_there(network, a, b):
    gate = network.gates["b@h"] = asyncio.Event()
    _, heard = listener(b, "server", events=False)
    trace = []

    async def flood(me):
        for number in range(3):
            me.send(("server", B), (number, MEGABYTE))
            await me.drain()
            trace.append(number)

    a.spawn(flood)
    await asyncio.sleep(SETUP_TIMEOUT - 1)
    assert trace == []
    gate.set()
    await run_iterations(30)

    assert trace == [0, 1, 2]
    assert [number for number, _ in heard] == [0, 1, 2]


@with_nodes("a@h", "b@h")
async def test_little_holds_nobody(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    trace = []

    async def body(me):
        for _ in range(100):
            me.send(("server", B), b"little")
            await me.drain()
        trace.append(a._now())

    a.spawn(body)
    await run_iterations()

    assert trace == [0.0]


@with_nodes("a@h", "b@h")
async def test_who_is_held_goes_on_when_the_node_cannot_be_reached(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    trace = []

    async def body(me):
        me.send(("server", B), MEGABYTE)
        await me.drain()
        trace.append(a._now())

    a.spawn(body)
    await asyncio.sleep(SETUP_TIMEOUT + 1)

    assert trace == [pytest.approx(SETUP_TIMEOUT)]


@with_nodes("a@h", "b@h")
async def test_who_is_held_goes_on_when_its_node_stops(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    trace = []

    async def body(me):
        me.send(("server", B), MEGABYTE)
        try:
            await me.drain()
        finally:
            trace.append("ended")

    a.spawn(body)
    await run_iterations()
    await a.stop()

    assert trace == ["ended"]


@with_nodes("a@h", "b@h")
async def test_what_those_send_who_never_wait_is_given_up_when_it_is_too_much(network, a, b, caplog):
    gate = network.gates["b@h"] = asyncio.Event()
    _, heard = listener(b, "server", events=False)
    watcher, seen = listener(a, events=False)
    ref = watcher.monitor(("server", B))
    for number in range(MAX_PENDING_BYTES // len(MEGABYTE) + 10):
        a.send(("server", B), (number, MEGABYTE))
        assert len(a._connections._pending.get("b@h").signals) <= MAX_PENDING_BYTES // len(MEGABYTE)
    late = watcher.monitor(("server", B))
    await run_iterations()
    why = a.last_connect_error("b@h")
    gate.set()
    await run_iterations()
    a.send(("server", B), "now")
    await run_iterations()

    assert heard == [b"now"]
    assert seen == [(DOWN, each, PROCESS, (Atom("server"), B), NOCONNECTION) for each in (ref, late)]
    assert why == "more than 64 MiB waited for the connection: they were dropped"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "more than 64 MiB wait for a connection to b@h: they are dropped"
    ]
    assert len(b._router.monitors) == 0


# Both at once


@with_nodes("a@h", "b@h")
async def test_nodes_that_dial_each_other_at_once_meet_on_one_connection(network, a, b):
    (_, at_a), (_, at_b) = listener(a), listener(b)

    for _ in range(20):
        assert await asyncio.gather(a.connect("b@h"), b.connect("a@h")) == [True, True]
        await run_iterations()
        assert len(network.open_pipes()) == 1
        a.disconnect_nowait("b@h")
        await run_iterations()

    assert at_a == [(NODEUP, B), (NODEDOWN, B, Atom("disconnect"))] * 20
    assert at_b == [(NODEUP, A), (NODEDOWN, A, Atom("connection_closed"))] * 20


@with_nodes("a@h", "b@h")
async def test_the_smaller_name_that_hears_nok_waits_for_the_call_of_the_greater(network, a, b):
    network.gates["a@h"] = asyncio.Event()
    at_b = told(b, "a@h")  # it dials, slowly
    await run_iterations()
    at_a = told(a, "b@h")
    await run_iterations(20)
    assert (at_a, at_b) == ([], [])

    network.gates["a@h"].set()
    await run_iterations(30)

    assert (at_a, at_b) == ([True], [True])
    assert a.last_connect_error("b@h") is None


@with_nodes("a@h", "b@h")
async def test_a_dial_that_gives_way_to_a_call_is_made_no_more(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    answers = told(a, "b@h")
    await run_iterations()

    assert await b.connect("a@h")
    network.gates["b@h"].set()
    await run_iterations(20)

    assert answers == [True]
    assert len(network.pipes) == 1


@with_nodes("a@h", "b@h")
async def test_a_connection_that_gives_way_to_a_call_is_closed(network, a, b):
    first, second = Caller(b"b@h"), Caller(b"b@h")
    await network.dial("memory", a.port, lambda: first)
    await run_iterations()

    await network.dial("memory", a.port, lambda: second)
    await run_iterations()

    assert second.heard.startswith(b"\0\x10sok_simultaneous")
    assert [pipe.is_open for pipe in network.pipes] == [False, True]


@with_nodes("a@h", "b@h")
async def test_after_nok_and_silence_those_who_wait_are_told_no_in_time(network, a, b):
    network.gates["a@h"] = asyncio.Event()
    b.connect_nowait("a@h", lambda _: None)
    await asyncio.sleep(1)

    assert not await a.connect("b@h")

    assert a._now() == pytest.approx(1 + SETUP_TIMEOUT)
    assert "refused our connection because it was connecting to us" in a.last_connect_error("b@h")
    network.gates.clear()
    assert await a.connect("b@h")


@with_nodes("a@h", "b@h")
async def test_a_dial_that_waits_for_a_call_which_then_fails_is_made(network, a, b):
    await network.dial("memory", a.port, lambda: Caller(b"b@h"))
    await run_iterations()
    answers = told(a, "b@h")
    a.send(("server", B), 1)
    await run_iterations()
    assert answers == []

    network.pipes[0].ends[0].close()
    await run_iterations(20)

    assert answers == [True]


@with_nodes("a@h", "b@h")
async def test_what_waits_for_a_call_alone_is_dropped_with_it(network, a, b):
    await network.dial("memory", a.port, lambda: Caller(b"b@h"))
    await run_iterations()
    p, _ = listener(a)
    p.send(("server", B), 1, connect=False)

    network.pipes[0].ends[0].close()
    await run_iterations(20)

    assert a.nodes() == []
    assert len(a._connections._pending) == 0


class Caller(asyncio.Protocol):
    """Says a node's name and nothing more."""

    def __init__(self, name):
        self.name = name

    def connection_made(self, transport):
        self.transport = transport
        self.heard = b""
        flags = (0xD07DF7FBD).to_bytes(8, "big")
        body = b"N" + flags + (99).to_bytes(4, "big") + len(self.name).to_bytes(2, "big") + self.name
        transport.write(len(body).to_bytes(2, "big") + body)

    def data_received(self, data):
        self.heard += data


# Taking over


@with_nodes("a@h", "b@h")
async def test_a_peer_that_has_lost_the_connection_takes_it_over_nodedown_first(network, a, b):
    (p, at_a), (q, _) = listener(a), listener(b)
    await a.connect("b@h")
    ref = p.monitor(q.pid)
    await run_iterations()
    network.pipes[0].silent = True
    b.disconnect_nowait("a@h")
    await run_iterations()

    assert await b.connect("a@h")
    await run_iterations()

    assert at_a == [
        (NODEUP, B), (DOWN, ref, PROCESS, q.pid, NOCONNECTION), (NODEDOWN, B, Atom("wait_pending")), (NODEUP, B),
    ]  # fmt: skip
    assert (a.nodes(), b.nodes()) == (["b@h"], ["a@h"])
    q.send(p.pid, 1)
    await run_iterations()
    assert at_a[-1] == 1


@with_nodes("a@h", "b@h", "c@h")
async def test_while_a_connection_is_taken_over_the_node_is_down_and_signals_wait(network, a, b, c):
    states = []

    def on_event(message):
        match message:
            case (Atom("nodedown"), node, _):
                answers = told(a, node.name)
                states.append((a.nodes(), a.disconnect_nowait(node), answers))
                watcher.send(("server", B), 1)
            case (Atom("nodeup"), _):
                watcher.send(("server", B), 2)

    watcher = a.spawn_handler(on_event)
    await a.connect("c@h")
    await a.connect("b@h")
    a.monitor_nodes(watcher.pid, reasons=True)
    _, at_b = listener(b, "server", events=False)
    network.pipes[1].silent = True
    b.disconnect_nowait("a@h")
    await run_iterations()

    await b.connect("a@h")
    await run_iterations()

    assert states == [(["c@h"], False, [True])]
    assert at_b == [1, 2]
    assert a.nodes() == ["c@h", "b@h"]


@with_nodes("a@h", "b@h")
async def test_a_stranger_does_not_take_over_without_the_cookie(network, a, b):
    _, at_a = listener(a)
    await a.connect("b@h")
    caller = Caller(b"b@h")
    await network.dial("memory", a.port, lambda: caller)
    await run_iterations()
    assert caller.heard == b"\0\6salive"
    caller.transport.write(b"\0\5strue")
    await run_iterations()
    caller.transport.write(b"\0\x15r" + bytes(20))
    await run_iterations()

    assert caller.transport.is_closing()
    assert at_a == [(NODEUP, B)]
    assert a.nodes() == ["b@h"]


@with_nodes("a@h", "b@h")
async def test_a_third_call_during_a_take_over_is_closed_without_a_word(network, a, b):
    await a.connect("b@h")
    second, third = Caller(b"b@h"), Caller(b"b@h")
    for caller in (second, third):
        await network.dial("memory", a.port, lambda caller=caller: caller)
        await run_iterations()

    assert (second.heard, third.heard) == (b"\0\6salive", b"")
    assert [pipe.is_open for pipe in network.pipes] == [True, True, False]


@with_nodes("a@h", "b@h")
async def test_who_disconnects_on_nodeup_leaves_a_clean_table(network, a, b):
    heard = []

    def on_event(message):
        heard.append(message[0])
        if message[0] is NODEUP:
            a.disconnect_nowait(message[1])

    watcher = a.spawn_handler(on_event)
    a.monitor_nodes(watcher.pid)

    assert not await a.connect("b@h")
    await run_iterations()

    assert heard == [NODEUP, NODEDOWN]
    assert (a.nodes(), b.nodes()) == ([], [])


# Strangers and hidden nodes


@with_nodes("a@h", "b@h")
async def test_of_too_many_strangers_the_oldest_is_dropped_and_a_node_still_gets_in(network, a, b):
    for _ in range(module.MAX_PENDING_HANDSHAKES + 2):
        await network.dial("memory", a.port, asyncio.Protocol)
    await run_iterations()

    assert [pipe.is_open for pipe in network.pipes[:3]] == [False, False, True]
    assert await b.connect("a@h")
    assert len(a._connections._pending_handshakes) < module.MAX_PENDING_HANDSHAKES

    await asyncio.sleep(SETUP_TIMEOUT + 1)
    assert len(network.open_pipes()) == 1


def test_a_hidden_node_is_connected_and_not_among_the_nodes():
    async def main():
        network = MemoryNetwork()
        async with started(network, "a@h") as a, started(network, "b@h", hidden=True) as b:
            (_, at_a), (_, at_b) = listener(a, "server"), listener(b)

            assert await b.connect("a@h")
            b.send(("server", A), 1)
            await run_iterations()

            assert (a.nodes(), a.nodes(hidden=True)) == ([], ["b@h"])
            assert (b.nodes(), b.nodes(hidden=True)) == ([], ["a@h"])
            assert (at_a, at_b) == ([1], [])

    run(main())


def test_a_wrong_cookie_is_refused_and_said():
    async def main():
        network = MemoryNetwork()
        async with started(network, "a@h") as a, started(network, "b@h", cookie="other") as b:
            assert not await a.connect("b@h")
            assert not await b.connect("a@h")
            assert "the cookies probably differ" in a.last_connect_error("b@h")

    run(main())


# Stopping


@with_nodes("a@h", "b@h")
async def test_a_node_that_stops_with_attempts_under_way_tells_all_who_wait(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    answers = [told(a, "b@h") for _ in range(3)]
    p, heard = listener(a)
    p.link(Pid(B, 64, 0, 1))
    call = asyncio.create_task(a.call(("server", B), 1, timeout=None))
    await run_iterations()

    await a.stop()

    assert answers == [[False]] * 3
    assert heard[0] == (EXIT, Pid(B, 64, 0, 1), NOCONNECTION)
    with pytest.raises(NoConnection):
        await call
    later = told(a, "b@h")
    await run_iterations()
    assert later == [False]


@with_nodes("a@h")
async def test_a_node_that_stops_hangs_up_on_whoever_is_calling_and_answers_nobody_else(network, a):
    accept = network.listening[a.port]
    caller = Caller(b"b@h")
    await network.dial("memory", a.port, lambda: caller)
    await run_iterations()

    await a.stop()
    await run_iterations()

    network.listening[a.port] = accept  # the listener had this one accepted already
    late = Caller(b"c@h")
    await network.dial("memory", a.port, lambda: late)
    await run_iterations()
    assert caller.transport.is_closing()
    assert late.transport.is_closing()
    assert late.heard == b""


@with_nodes("a@h")
async def test_calls_in_the_nodes_own_name_end_with_it(network, a):
    async def deaf(me):
        await me.sleep(1_000)

    silent = a.spawn_handler(lambda _: None)
    waiting = [asyncio.create_task(a.call(to, 1, timeout=None)) for to in (a.spawn(deaf), silent.pid)]
    await run_iterations()

    await a.stop()

    for call in waiting:
        with pytest.raises((CalleeExited, NodeNotAlive)):
            await call
    with pytest.raises(NodeNotAlive):
        await a.call(silent.pid, 1)


@with_nodes("a@h", "b@h")
async def test_a_server_that_tries_again_at_once_does_not_keep_its_node_from_stopping(network, a, b):
    tries = []

    def again(message):
        tries.append(message)
        p.monitor(("server", B))

    p = a.spawn_handler(again)
    await a.connect("b@h")
    p.monitor(("server", B))
    await run_iterations()

    await a.stop()

    assert 0 < len(tries) < 100


@with_nodes("a@h", "b@h")
async def test_who_calls_a_node_that_stops_is_told(network, a, b):
    await a.stop()

    assert not await b.connect("a@h")
    assert "no node a@h" in b.last_connect_error("a@h")


@with_nodes("a@h", "b@h")
async def test_an_atom_is_found_among_the_names_of_nodes(network, a, b):
    await a.connect(b.atom)
    await run_iterations()

    assert b.atom in a.nodes()
    assert a.atom in b.nodes()
    assert a.nodes() == ["b@h"]
    assert b.atom not in a.nodes(hidden=True)
    assert b.atom not in a.reconnecting()
