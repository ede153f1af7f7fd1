"""Connections between nodes in one event loop: what waits for them, what is reported, and in which order."""

import asyncio
import inspect
import logging
from contextlib import AsyncExitStack

import pytest
from memory_network import MemoryNetwork, started

from erlmesh.core.fair_share import HANDSHAKES_PER_ADDRESS
from erlmesh.errors import CalleeExited, NoConnection, NodeNotAlive
from erlmesh.net.dist_protocol import SEND_QUEUE_LIMIT
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.handshake_driver import SETUP_TIMEOUT
from erlmesh.proto.handshake_packets import digest, encode_name, encode_reply
from erlmesh.runtime.attempts import DIAL_QUEUE_LIMIT
from erlmesh.runtime.connection_log import log
from erlmesh.runtime.connections import CANDIDATE_GRACE
from erlmesh.runtime.last_errors import MAX_NODES
from erlmesh.runtime.termination import SIGNALS_AT_ONCE
from erlmesh.terms import Atom, Pid
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B, C = Atom("a@h"), Atom("b@h"), Atom("c@h")
NODEUP, NODEDOWN, DOWN, EXIT, PROCESS = map(Atom, ("nodeup", "nodedown", "DOWN", "EXIT", "process"))
NOCONNECTION, BOOM = Atom("noconnection"), Atom("boom")


def with_nodes(*names, **options):
    """Call the test with the network and a started node for each name. Everything is closed in the end."""

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
                    assert not connections.attempts.tasks
                    assert len(connections._admission.pending) == 0

            run(main())

        parameters = list(inspect.signature(test).parameters.values())
        fixtures = [each.replace(kind=each.KEYWORD_ONLY) for each in parameters[1 + len(names) :]]
        wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
        wrapped.__signature__ = inspect.Signature(fixtures)
        return wrapped

    return decorate


def recorder(node, name=None, *, events=True):
    """A handler process that records what it receives, by default with node events."""
    received = []
    process = node.spawn_handler(received.append, name=name)
    if events:
        node.monitor_nodes(process.pid, reasons=True)
    return process, received


def connect_results(node, name):
    answers = []
    node.connect_nowait(name, answers.append)
    return answers


@with_nodes("a@h", "b@h")
async def test_two_nodes_connect_and_disconnect(network, a, b):
    (_, at_a), (_, at_b) = recorder(a), recorder(b)

    assert await a.connect("b@h")
    assert (a.nodes(), b.nodes()) == (["b@h"], ["a@h"])
    assert a.disconnect("b@h")
    await run_iterations()

    assert (a.nodes(), b.nodes()) == ([], [])
    assert at_a == [(NODEUP, B), (NODEDOWN, B, Atom("disconnect"))]
    assert at_b == [(NODEUP, A), (NODEDOWN, A, Atom("connection_closed"))]
    assert not a.disconnect("b@h")


@with_nodes("a@h", "b@h")
async def test_connecting_twice_or_to_itself_succeeds_at_once(network, a, b):
    await a.connect("b@h")

    assert connect_results(a, "b@h") == [True]
    assert connect_results(a, "a@h") == [True]
    assert len(network.pipes) == 1


@with_nodes("a@h", "b@h")
async def test_callers_that_wait_for_one_node_share_one_attempt(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    waiting = [connect_results(a, "b@h") for _ in range(100)]
    await run_iterations()
    assert waiting == [[]] * 100

    network.gates["b@h"].set()
    await run_iterations(20)

    assert waiting == [[True]] * 100
    assert len(network.pipes) == 1


@with_nodes("a@h")
async def test_callers_that_wait_for_an_unreachable_node_get_false_and_an_error(network, a):
    waiting = [connect_results(a, "b@h") for _ in range(3)]
    await run_iterations()

    assert waiting == [[False]] * 3
    assert a.last_connect_error("b@h") == "no node b@h"
    assert a.last_connect_error("c@h") is None


@with_nodes("a@h")
async def test_an_invalid_name_and_a_long_name_are_refused_with_an_error(network, a):
    assert not await a.connect("nonsense")
    assert "is not a node name" in a.last_connect_error("nonsense")

    assert not await a.connect("b@long.name")
    assert "b@long.name is a long node name and a@h a short one" in a.last_connect_error("b@long.name")


@with_nodes("a@long.name")
async def test_a_short_name_is_refused_by_a_long_one(network, a):
    assert not await a.connect("b@h")
    assert "a@long.name is a long node name and b@h a short one" in a.last_connect_error("b@h")


@with_nodes("a@h", "b@h")
async def test_an_exception_in_the_resolver_is_a_failed_attempt(network, a, b):
    async def broken(name):
        raise UnicodeError("label empty or too long")

    network.resolve, resolve = broken, network.resolve
    assert not await a.connect("b@h")

    assert a.last_connect_error("b@h") == "cannot reach b@h: UnicodeError: label empty or too long"
    network.resolve = resolve
    assert await a.connect("b@h")
    assert a.last_connect_error("b@h") is None


@with_nodes("a@h", "b@h")
async def test_a_host_that_does_not_answer_fails_within_the_setup_time(network, a, b):
    network.gates["b@h"] = asyncio.Event()

    assert not await a.connect("b@h")

    assert a.now() == pytest.approx(SETUP_TIMEOUT)
    assert "did not answer within 7 s" in a.last_connect_error("b@h")


@with_nodes("a@h", "b@h")
async def test_resolving_connecting_and_the_handshake_share_one_time_limit(network, a, b):
    gate = network.gates["b@h"] = asyncio.Event()
    asyncio.get_running_loop().call_later(SETUP_TIMEOUT - 1, gate.set)
    network.on_pipe = lambda pipe: pipe.silence()

    assert not await a.connect("b@h")

    assert a.now() == pytest.approx(SETUP_TIMEOUT)
    assert "did not arrive within 7 s" in a.last_connect_error("b@h")
    assert a.connect_timed_out("b@h")


@with_nodes("a@h", "b@h")
async def test_the_number_of_recorded_errors_is_bounded(network, a, b):
    for number in range(MAX_NODES + 1):
        await a.connect(f"x{number}@h")

    assert a.last_connect_error("x0@h") is None
    assert a.last_connect_error("x1@h") is not None
    assert not a.connect_timed_out("x1@h")


@with_nodes("a@h", "b@h")
async def test_a_callback_that_raises_does_not_stop_the_next(network, a, b):
    a.connect_nowait("b@h", lambda up: 1 / 0)
    answers = connect_results(a, "b@h")
    await run_iterations(20)

    assert answers == [True]


# Pending signals


@with_nodes("a@h", "b@h")
async def test_pending_signals_arrive_in_order_and_before_what_nodeup_causes(network, a, b):
    _, received = recorder(b, "server", events=False)

    def on_event(message):
        sender.send(("server", B), ("after", message[0]))

    sender = a.spawn_handler(on_event)
    a.monitor_nodes(sender.pid)
    for number in range(3):
        sender.send(("server", B), number)
    await run_iterations(20)

    assert received == [0, 1, 2, (b"after", NODEUP)]


@with_nodes("a@h", "b@h")
async def test_nodeup_comes_before_anything_else_from_that_node(network, a, b):
    _, at_b = recorder(b, "server")
    a.send(("server", B), 1)
    await run_iterations(20)

    assert at_b == [(NODEUP, A), 1]


@with_nodes("a@h", "b@h")
async def test_nodedown_comes_after_everything_else_from_that_node(network, a, b):
    p, received = recorder(a)
    q, _ = recorder(b, "server")
    await a.connect("b@h")
    ref = p.monitor(q.pid)
    p.link(q.pid)
    await run_iterations()

    q.send(p.pid, 1)
    b.disconnect("a@h")
    await run_iterations()

    assert received == [
        (NODEUP, B), 1, (EXIT, q.pid, NOCONNECTION), (DOWN, ref, PROCESS, q.pid, NOCONNECTION),
        (NODEDOWN, B, Atom("connection_closed")),
    ]  # fmt: skip


@with_nodes("a@h", "b@h")
async def test_many_links_and_monitors_of_a_lost_node_end_in_several_iterations(network, a, b):
    p, received = recorder(a)
    q, _ = recorder(b, "server")
    await a.connect("b@h")
    p.link(q.pid)
    refs = [p.monitor(q.pid) for _ in range(2 * SIGNALS_AT_ONCE)]
    await run_iterations()

    a.disconnect("b@h")
    at_once = len(received)
    await run_iterations()

    assert at_once == len([(NODEUP, B)]) + SIGNALS_AT_ONCE
    assert received == [
        (NODEUP, B), (EXIT, q.pid, NOCONNECTION), *((DOWN, ref, PROCESS, q.pid, NOCONNECTION) for ref in refs),
        (NODEDOWN, B, Atom("disconnect")),
    ]  # fmt: skip


@with_nodes("a@h", "b@h")
async def test_links_and_monitors_of_a_lost_node_end_before_it_is_connected_again(network, a, b):
    p, at_a = recorder(a)
    q, _ = recorder(b)
    await a.connect("b@h")
    refs = [p.monitor(q.pid) for _ in range(20 * SIGNALS_AT_ONCE)]
    await run_iterations()
    network.pipes[0].silence()
    b.disconnect("a@h")

    assert await b.connect("a@h")
    await run_iterations()

    assert at_a == [
        (NODEUP, B), *((DOWN, ref, PROCESS, q.pid, NOCONNECTION) for ref in refs),
        (NODEDOWN, B, Atom("wait_pending")), (NODEUP, B),
    ]  # fmt: skip


@with_nodes("a@h", "b@h")
async def test_a_node_that_stops_ends_its_many_links_and_monitors_first(network, a, b):
    p, received = recorder(a)
    q, _ = recorder(b)
    await a.connect("b@h")
    refs = [p.monitor(q.pid) for _ in range(20 * SIGNALS_AT_ONCE)]
    await run_iterations()

    await a.stop()

    assert [message[1] for message in received if message[0] is DOWN] == refs


@with_nodes("a@h", "b@h")
async def test_links_and_monitors_wait_for_the_connection_that_they_cause(network, a, b):
    p, received = recorder(a)
    q, _ = recorder(b)
    ref = p.monitor(q.pid)
    p.link(q.pid)
    await run_iterations(20)

    b.exit(q.pid, Atom("kill"))
    await run_iterations()

    killed = Atom("killed")
    assert received == [(NODEUP, B), (EXIT, q.pid, killed), (DOWN, ref, PROCESS, q.pid, killed)]


@with_nodes("a@h", "b@h")
async def test_a_link_removed_while_it_is_pending_leaves_no_half_link(network, a, b):
    p, _ = recorder(a)
    q, _ = recorder(b, events=False)
    p.link(q.pid)
    p.unlink(q.pid)
    ref = p.monitor(q.pid)
    p.demonitor(ref)
    await run_iterations(20)

    assert a.nodes() == ["b@h"]
    assert len(b._router.links) == len(b._router.monitors) == 0
    assert len(a._router.links) == 0


@with_nodes("a@h", "b@h")
async def test_a_process_that_exits_while_its_link_is_pending_sends_an_exit_signal(network, a, b):
    p, _ = recorder(a)
    q, received = recorder(b, events=False)
    p.link(q.pid)
    a.exit(p.pid, Atom("kill"))
    await run_iterations(20)

    assert received == [(EXIT, p.pid, Atom("killed"))]
    assert len(b._router.links) == 0


@with_nodes("a@h")
async def test_links_and_monitors_to_an_unreachable_node_end_with_noconnection(network, a):
    p, received = recorder(a)
    gone = Pid(B, 64, 0, 1)
    p.link(gone)
    p.send(gone, 1)
    ref = p.monitor(("server", B))
    await run_iterations()

    assert received == [(EXIT, gone, NOCONNECTION), (DOWN, ref, PROCESS, (Atom("server"), B), NOCONNECTION)]


@with_nodes("a@h", "b@h")
async def test_noconnect_sends_to_nodes_that_are_connected_or_being_connected(network, a, b):
    _, received = recorder(b, "server", events=False)
    p, _ = recorder(a)

    p.send(("server", B), 1, connect=False)
    await run_iterations(20)
    assert a.nodes() == []
    a.connect_nowait("b@h", lambda _: None)
    p.send(("server", B), 2, connect=False)
    await run_iterations(20)
    p.send(("server", B), 3, connect=False)
    await run_iterations()

    assert received == [2, 3]


@with_nodes("a@h")
async def test_a_call_to_an_unreachable_node_raises_with_the_connect_error(network, a):
    with pytest.raises(NoConnection, match="no connection to b@h: no node b@h"):
        await a.call(("server", B), 1)


@with_nodes("a@h", "b@h")
async def test_a_pending_message_is_copied_when_it_is_sent(network, a, b):
    _, received = recorder(b, "server", events=False)
    message = [1]
    a.send(("server", B), message)
    message.append(2)
    await run_iterations()

    assert received == [[1]]


MEGABYTE = b"x" * (1 << 20)


@with_nodes("a@h", "b@h")
async def test_a_sender_of_many_bytes_waits_for_the_connection(network, a, b):
    gate = network.gates["b@h"] = asyncio.Event()
    _, received = recorder(b, "server", events=False)
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
    assert [number for number, _ in received] == [0, 1, 2]


@with_nodes("a@h", "b@h")
async def test_a_sender_of_few_bytes_does_not_wait(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    trace = []

    async def body(me):
        for _ in range(100):
            me.send(("server", B), b"little")
            await me.drain()
        trace.append(a.now())

    a.spawn(body)
    await run_iterations()

    assert trace == [0.0]


@with_nodes("a@h", "b@h")
async def test_a_waiting_sender_resumes_when_the_node_cannot_be_reached(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    trace = []

    async def body(me):
        me.send(("server", B), MEGABYTE)
        await me.drain()
        trace.append(a.now())

    a.spawn(body)
    await asyncio.sleep(SETUP_TIMEOUT + 1)

    assert trace == [pytest.approx(SETUP_TIMEOUT)]


@with_nodes("a@h", "b@h")
async def test_a_waiting_sender_ends_when_its_node_stops(network, a, b):
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
async def test_above_the_limit_pending_messages_are_dropped_with_a_warning(network, a, b, caplog):
    gate = network.gates["b@h"] = asyncio.Event()
    _, received = recorder(b, "server", events=False)
    monitor_process, seen = recorder(a, events=False)
    ref = monitor_process.monitor(("server", B))
    for number in range(SEND_QUEUE_LIMIT // len(MEGABYTE) + 10):
        a.send(("server", B), (number, MEGABYTE))
        assert len(a._connections._pending.get("b@h").signals) <= SEND_QUEUE_LIMIT // len(MEGABYTE)
    late = monitor_process.monitor(("server", B))
    await run_iterations()
    why = a.last_connect_error("b@h")
    gate.set()
    await run_iterations()
    a.send(("server", B), "now")
    await run_iterations()

    assert received == [b"now"]
    assert seen == [(DOWN, each, PROCESS, (Atom("server"), B), NOCONNECTION) for each in (ref, late)]
    assert why == "more than 64 MiB waited for the connection: they were dropped"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "more than 64 MiB wait for a connection to b@h: they are dropped"
    ]
    assert len(b._router.monitors) == 0


# Simultaneous connect


@with_nodes("a@h", "b@h")
async def test_nodes_that_dial_each_other_at_once_keep_one_connection(network, a, b):
    (_, at_a), (_, at_b) = recorder(a), recorder(b)

    for _ in range(20):
        assert await asyncio.gather(a.connect("b@h"), b.connect("a@h")) == [True, True]
        await run_iterations()
        assert len(network.open_pipes()) == 1
        a.disconnect("b@h")
        await run_iterations()

    assert at_a == [(NODEUP, B), (NODEDOWN, B, Atom("disconnect"))] * 20
    assert at_b == [(NODEUP, A), (NODEDOWN, A, Atom("connection_closed"))] * 20


@with_nodes("a@h", "b@h")
async def test_after_nok_the_smaller_name_waits_for_the_connection_of_the_greater(network, a, b):
    network.gates["a@h"] = asyncio.Event()
    at_b = connect_results(b, "a@h")  # it dials, but its gate is closed
    await run_iterations()
    at_a = connect_results(a, "b@h")
    await run_iterations(20)
    assert (at_a, at_b) == ([], [])

    network.gates["a@h"].set()
    await run_iterations(30)

    assert (at_a, at_b) == ([True], [True])
    assert a.last_connect_error("b@h") is None


@with_nodes("a@h", "b@h")
async def test_an_attempt_that_yields_to_an_incoming_connection_is_cancelled(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    answers = connect_results(a, "b@h")
    await run_iterations()

    assert await b.connect("a@h")
    network.gates["b@h"].set()
    await run_iterations(20)

    assert answers == [True]
    assert len(network.pipes) == 1


@with_nodes("a@h", "b@h")
async def test_handshakes_under_one_name_are_closed_when_a_newer_one_has_proved_the_cookie(network, a, b):
    first, second = NameOnlyPeer(b"b@h"), NameOnlyPeer(b"b@h")
    await network.dial("memory", a.port, lambda: first)
    await run_iterations()
    await network.dial("memory", a.port, lambda: second)
    await run_iterations()
    assert [peer.received[:5] for peer in (first, second)] == [b"\0\3sok"] * 2

    assert await b.connect("a@h")
    await run_iterations()

    assert [pipe.is_open for pipe in network.pipes] == [False, False, True]


@with_nodes("a@h", "b@h")
async def test_after_nok_without_a_connection_callers_get_false_within_the_setup_time(network, a, b):
    network.gates["a@h"] = asyncio.Event()
    b.connect_nowait("a@h", lambda _: None)
    await asyncio.sleep(1)

    assert not await a.connect("b@h")

    assert a.now() == pytest.approx(1 + SETUP_TIMEOUT)
    assert "refused our connection because it was connecting to us" in a.last_connect_error("b@h")
    network.gates.clear()
    assert await a.connect("b@h")


@with_nodes("a@h", "b@h")
async def test_after_an_incoming_handshake_fails_the_node_dials_for_its_waiting_callers(network, a, b):
    await network.dial("memory", a.port, lambda: NameOnlyPeer(b"b@h"))
    await run_iterations()
    answers = connect_results(a, "b@h")
    a.send(("server", B), 1)
    await run_iterations()
    assert answers == []

    network.pipes[0].ends[0].close()
    await run_iterations(20)

    assert answers == [True]


@with_nodes("a@h", "b@h")
async def test_signals_that_may_not_dial_do_not_wait_for_who_only_says_a_name(network, a, b):
    await network.dial("memory", a.port, lambda: NameOnlyPeer(b"b@h"))
    await run_iterations()
    p, _ = recorder(a)
    p.send(("server", B), 1, connect=False)

    assert len(a._connections._pending) == 0


class NameOnlyPeer(asyncio.Protocol):
    """A peer that sends the name of a node and nothing more."""

    def __init__(self, name):
        self.name = name

    def connection_made(self, transport):
        self.transport = transport
        self.received = b""
        flags = (0xD07DF7FBD).to_bytes(8, "big")
        body = b"N" + flags + (99).to_bytes(4, "big") + len(self.name).to_bytes(2, "big") + self.name
        transport.write(len(body).to_bytes(2, "big") + body)

    def data_received(self, data):
        self.received += data


# Replacing a connection


@with_nodes("a@h", "b@h")
async def test_a_peer_that_lost_the_connection_replaces_it_after_nodedown(network, a, b):
    (p, at_a), (q, _) = recorder(a), recorder(b)
    await a.connect("b@h")
    ref = p.monitor(q.pid)
    await run_iterations()
    network.pipes[0].silence()
    b.disconnect("a@h")
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
async def test_while_a_connection_is_replaced_the_node_is_down_and_signals_wait(network, a, b, c):
    states = []

    def on_event(message):
        match message:
            case (Atom("nodedown"), node, _):
                answers = connect_results(a, node.name)
                states.append((a.nodes(), a.disconnect(node), answers))
                monitor_process.send(("server", B), 1)
            case (Atom("nodeup"), _):
                monitor_process.send(("server", B), 2)

    monitor_process = a.spawn_handler(on_event)
    await a.connect("c@h")
    await a.connect("b@h")
    a.monitor_nodes(monitor_process.pid, reasons=True)
    _, at_b = recorder(b, "server", events=False)
    network.pipes[1].silence()
    b.disconnect("a@h")
    await run_iterations()

    await b.connect("a@h")
    await run_iterations()

    assert states == [(["c@h"], False, [True])]
    assert at_b == [1, 2]
    assert a.nodes() == ["c@h", "b@h"]


@with_nodes("a@h", "b@h")
async def test_a_connection_is_not_replaced_without_the_cookie(network, a, b):
    _, at_a = recorder(a)
    await a.connect("b@h")
    peer = NameOnlyPeer(b"b@h")
    await network.dial("memory", a.port, lambda: peer)
    await run_iterations()
    assert peer.received == b"\0\6salive"
    peer.transport.write(b"\0\5strue")
    await run_iterations()
    peer.transport.write(b"\0\x15r" + bytes(20))
    await run_iterations()

    assert peer.transport.is_closing()
    assert at_a == [(NODEUP, B)]
    assert a.nodes() == ["b@h"]


@with_nodes("a@h", "b@h")
async def test_every_connection_to_a_connected_node_is_answered_with_alive(network, a, b):
    await a.connect("b@h")
    second, third = NameOnlyPeer(b"b@h"), NameOnlyPeer(b"b@h")
    for peer in (second, third):
        await network.dial("memory", a.port, lambda peer=peer: peer)
        await run_iterations()

    assert (second.received, third.received) == (b"\0\6salive", b"\0\6salive")
    assert [pipe.is_open for pipe in network.pipes] == [True, True, True]


@with_nodes("a@h", "b@h")
async def test_a_process_that_disconnects_on_nodeup_leaves_a_clean_table(network, a, b):
    received = []

    def on_event(message):
        received.append(message[0])
        if message[0] is NODEUP:
            a.disconnect(message[1])

    monitor_process = a.spawn_handler(on_event)
    a.monitor_nodes(monitor_process.pid)

    assert not await a.connect("b@h")
    await run_iterations()

    assert received == [NODEUP, NODEDOWN]
    assert (a.nodes(), b.nodes()) == ([], [])


# Pending handshakes and hidden nodes


@with_nodes("a@h", "b@h")
async def test_too_many_pending_handshakes_drop_the_oldest_and_a_node_still_connects(network, a, b):
    limit = HANDSHAKES_PER_ADDRESS
    for _ in range(limit + 2):
        await network.dial("memory", a.port, asyncio.Protocol)
    await run_iterations()

    assert [pipe.is_open for pipe in network.pipes[:3]] == [False, False, True]
    assert await b.connect("a@h")
    assert len(a._connections._admission.pending) < limit

    await asyncio.sleep(SETUP_TIMEOUT + 1)
    assert len(network.open_pipes()) == 1


class Stranger(asyncio.Protocol):
    """Says a name and, if it has one, a wrong digest. It never knows the cookie."""

    def __init__(self, name, digest=None):
        self.name, self.digest, self.closed = name, digest, False

    def connection_made(self, transport):
        self.transport = transport
        self.send(encode_name(OFFERED, 4, self.name))

    def data_received(self, data):
        if self.digest is not None and b"N" in data[2:]:
            self.send(encode_reply(1, self.digest))

    def connection_lost(self, _error):
        self.closed = True

    def send(self, packet):
        self.transport.write(len(packet).to_bytes(2, "big") + packet)


async def call_as(network, node, name, digest=None):
    stranger = Stranger(name, digest)
    await network.dial("memory", node.port, lambda: stranger)
    await run_iterations()
    return stranger


class Nameless(Stranger):
    """A node that asks for a name, and says that it is visible. It knows the cookie."""

    def connection_made(self, transport):
        self.transport = transport
        self.send(encode_name(OFFERED | Flags.NAME_ME, 0, self.name))

    def data_received(self, data):
        length = int.from_bytes(data[:2], "big")
        status, challenge = data[2 : 2 + length], data[2 + length + 2 :]
        if status.startswith(b"snamed:"):
            number = int.from_bytes(challenge[9:13], "big")
            self.send(encode_reply(1, digest("monster", number)))


@pytest.mark.parametrize(("length", "connects"), [(200, True), (250, False)])
@with_nodes("a@h")
async def test_a_dynamic_name_is_never_longer_than_an_atom(network, a, length, connects):
    nameless = Nameless("x" * length)
    await network.dial("memory", a.port, lambda: nameless)
    await run_iterations()

    assert len(a.nodes(hidden=True)) == connects
    assert nameless.closed is not connects


@with_nodes("a@h")
async def test_a_node_that_asks_for_a_name_is_hidden_whatever_it_says(network, a):
    nameless = Nameless("h")
    await network.dial("memory", a.port, lambda: nameless)
    await run_iterations()

    (name,) = a.nodes(hidden=True)
    assert name.endswith("@h")
    assert a.nodes() == []

    nameless.transport.close()
    await run_iterations()

    assert a.nodes(hidden=True) == a.reconnecting() == []


@pytest.mark.parametrize("names", [("a@h", "b@h"), ("b@h", "a@h")])
def test_a_node_connects_although_strangers_say_its_name(names):
    async def main():
        network = MemoryNetwork()
        async with started(network, names[0]) as node, started(network, names[1]) as peer:
            strangers = [await call_as(network, node, names[1]) for _ in range(3)]

            assert await peer.connect(names[0])
            assert node.nodes() == [names[1]]
            await run_iterations()
            assert all(each.closed for each in strangers)
            await call_as(network, node, names[1])
            assert node.nodes() == [names[1]]
            peer.disconnect(names[0])
            assert await peer.connect(names[0])

    run(main())


@pytest.mark.parametrize("names", [("a@h", "b@h"), ("b@h", "a@h")])
def test_a_node_is_reached_although_strangers_say_its_name(names):
    async def main():
        network = MemoryNetwork()
        async with started(network, names[0]) as node, started(network, names[1]):
            network.gates[names[1]] = asyncio.Event()
            first = await call_as(network, node, names[1])
            attempt = asyncio.ensure_future(node.connect(names[1]))
            await asyncio.sleep(CANDIDATE_GRACE)
            await call_as(network, node, names[1])
            network.gates[names[1]].set()

            assert await attempt
            await run_iterations()
            assert first.closed

    run(main())


@with_nodes("a@h")
async def test_a_call_to_a_node_that_is_down_fails_although_strangers_say_its_name(network, a):
    await call_as(network, a, "b@h")

    started_at = asyncio.get_running_loop().time()
    assert not await a.connect("b@h")
    assert asyncio.get_running_loop().time() - started_at <= CANDIDATE_GRACE + 0.1


@with_nodes("a@h", "b@h")
async def test_wrong_cookies_are_slowed_down_and_logged_a_few_times(network, a, b):
    loop = asyncio.get_running_loop()
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    log.logger.addHandler(handler)
    try:
        end, guesses = loop.time() + 60, 0
        while loop.time() < end:
            stranger = await call_as(network, a, f"x{guesses}@h", bytes(16))
            while not stranger.closed:
                await asyncio.sleep(0.01)
            guesses += 1
    finally:
        log.logger.removeHandler(handler)

    assert 110 < guesses < 140
    assert 0 < len([record for record in records if record.levelno >= logging.WARNING]) < 10
    started_at = loop.time()
    assert await b.connect("a@h")
    assert loop.time() - started_at <= 1.0


@with_nodes("a@h", "b@h")
async def test_guesses_at_once_are_refused_unchecked_and_a_known_node_gets_in(network, a, b):
    assert await b.connect("a@h")
    b.disconnect("a@h")
    strangers = [await call_as(network, a, f"x{number}@h", bytes(16)) for number in range(100)]

    assert await b.connect("a@h")
    assert len([each for each in strangers if not each.closed]) <= 31


def test_a_hidden_node_is_connected_and_not_in_nodes():
    async def main():
        network = MemoryNetwork()
        async with started(network, "a@h") as a, started(network, "b@h", hidden=True) as b:
            (_, at_a), (_, at_b) = recorder(a, "server"), recorder(b)

            assert await b.connect("a@h")
            b.send(("server", A), 1)
            await run_iterations()

            assert (a.nodes(), a.nodes(hidden=True)) == ([], ["b@h"])
            assert (b.nodes(), b.nodes(hidden=True)) == ([], ["a@h"])
            assert (at_a, at_b) == ([1], [])

    run(main())


def test_a_wrong_cookie_is_refused_with_an_error():
    async def main():
        network = MemoryNetwork()
        async with started(network, "a@h") as a, started(network, "b@h", cookie="other") as b:
            assert not await a.connect("b@h")
            assert not await b.connect("a@h")
            assert "the cookies probably differ" in a.last_connect_error("b@h")

    run(main())


# Stopping


@with_nodes("a@h", "b@h")
async def test_a_node_that_stops_answers_all_that_wait_for_its_attempts(network, a, b):
    network.gates["b@h"] = asyncio.Event()
    answers = [connect_results(a, "b@h") for _ in range(3)]
    p, received = recorder(a)
    p.link(Pid(B, 64, 0, 1))
    call = asyncio.create_task(a.call(("server", B), 1, timeout=None))
    await run_iterations()

    await a.stop()

    assert answers == [[False]] * 3
    assert received[0] == (EXIT, Pid(B, 64, 0, 1), NOCONNECTION)
    with pytest.raises(NoConnection):
        await call
    later = connect_results(a, "b@h")
    await run_iterations()
    assert later == [False]


@with_nodes("a@h")
async def test_a_node_that_stops_closes_pending_handshakes_and_accepts_no_more(network, a):
    accept = network.listening[a.port]
    peer = NameOnlyPeer(b"b@h")
    await network.dial("memory", a.port, lambda: peer)
    await run_iterations()

    await a.stop()
    await run_iterations()

    network.listening[a.port] = accept  # the listener accepted this one before it stopped
    late = NameOnlyPeer(b"c@h")
    await network.dial("memory", a.port, lambda: late)
    await run_iterations()
    assert peer.transport.is_closing()
    assert late.transport.is_closing()
    assert late.received == b""


@with_nodes("a@h")
async def test_calls_of_the_node_end_when_it_stops(network, a):
    async def never_replies(me):
        await me.sleep(1_000)

    silent = a.spawn_handler(lambda _: None)
    waiting = [asyncio.create_task(a.call(to, 1, timeout=None)) for to in (a.spawn(never_replies), silent.pid)]
    await run_iterations()

    await a.stop()

    for call in waiting:
        with pytest.raises((CalleeExited, NodeNotAlive)):
            await call
    with pytest.raises(NodeNotAlive):
        await a.call(silent.pid, 1)


@with_nodes("a@h", "b@h")
async def test_a_handler_that_retries_at_once_does_not_stop_its_node_from_stopping(network, a, b):
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
async def test_connecting_to_a_stopped_node_fails_with_an_error(network, a, b):
    await a.stop()

    assert not await b.connect("a@h")
    assert "no node a@h" in b.last_connect_error("a@h")


@with_nodes("a@h", "b@h")
async def test_nodes_contains_an_atom(network, a, b):
    await a.connect(b.atom)
    await run_iterations()

    assert b.atom in a.nodes()
    assert a.atom in b.nodes()
    assert a.nodes() == ["b@h"]
    assert b.atom not in a.nodes(hidden=True)
    assert b.atom not in a.reconnecting()


# Calls on others' word


def test_some_nodes_are_dialled_at_a_time_and_the_rest_in_turn():
    async def main():
        network = MemoryNetwork()
        async with started(network, "a@h", dial_limit=3) as a:
            names = [f"n{number}@h" for number in range(10)]
            asked = []
            gate = asyncio.Event()

            async def resolve(name, resolve=network.resolve):
                asked.append(name)
                await gate.wait()
                return await resolve(name)

            network.resolve = resolve
            answers = [connect_results(a, name) for name in names]
            await run_iterations()
            assert asked == names[:3]

            gate.set()
            await run_iterations(60)

            assert asked == names
            assert answers == [[False]] * 10

    run(main())


@with_nodes("a@h")
async def test_attempts_beyond_the_queue_fail_at_once(network, a):
    network.gates = {f"n{number}@h": asyncio.Event() for number in range(2000)}
    answers = [connect_results(a, name) for name in network.gates]
    await run_iterations()

    assert len([answer for answer in answers if answer == [False]]) == 2000 - DIAL_QUEUE_LIMIT - 64
    assert len(a._connections.attempts.tasks) == 64


@with_nodes("a@h")
async def test_a_signal_to_what_is_not_a_node_enters_no_table(network, a):
    for name in ("nonsense", "a\n@h", "@h", "a@b@c"):
        a.send(("server", Atom(name)), 1)

    assert len(a._connections._pending) == 0
    assert a._connections._peers._peers == {}


@with_nodes("a@h")
async def test_a_reply_does_not_connect(network, a):
    process = a.spawn_handler(lambda _: None)

    process.reply((Pid(B, 1, 0, 1), 1), Atom("ok"))

    assert len(a._connections._pending) == 0
    assert not a._connections.attempts.tasks
