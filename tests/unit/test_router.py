"""The router without connections and tasks: each test applies signals and checks their effects."""

import asyncio
import itertools
import logging

import pytest
from router_harness import RouterHarness, mailbox

from erlmesh.core.gen import GEN_CALL
from erlmesh.errors import CalleeExited, CallTimeout, EncodeError, Exit, NoConnection, NoProcess
from erlmesh.proto.control import (
    Demonitor,
    Down,
    ExitLink,
    ExitSend,
    GroupLeader,
    Link,
    Monitor,
    Send,
    SendAlias,
    SendName,
    SpawnReply,
    SpawnRequest,
    Unlink,
    UnlinkAck,
)
from erlmesh.runtime.termination import SIGNALS_AT_ONCE
from erlmesh.terms import Atom, ImproperList, Pid, Ref
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B, C = Atom("a@h"), Atom("b@h"), Atom("c@h")
DOWN, EXIT, PROCESS = Atom("DOWN"), Atom("EXIT"), Atom("process")
NORMAL, KILL, KILLED, BOOM = Atom("normal"), Atom("kill"), Atom("killed"), Atom("boom")
NOPROC, NOCONNECTION = Atom("noproc"), Atom("noconnection")
X, Y, Z = Pid(B, 64, 0, 5), Pid(B, 65, 0, 5), Pid(C, 64, 0, 5)
REF = Ref(B, 5, (1, 2, 3))


@pytest.fixture
def harness():
    harness = RouterHarness()
    yield harness
    for process in list(harness.router.registry.processes.values()):
        harness.router.termination.terminate(process, NORMAL)
    for node in list(harness.router.peers):
        harness.disconnect(node)
    harness.assert_empty()


# Messages


def test_message_to_local_pid_is_delivered_at_once(harness):
    p, q = harness.process(), harness.process()

    p.send(q.pid, 1)

    assert mailbox(q) == [1]


def test_message_to_local_name_is_delivered_at_once(harness):
    p, q = harness.process(), harness.process("server")

    p.send("server", 1)
    p.send(Atom("server"), 2)
    p.send(("server", A), 3)
    p.send((Atom("server"), "a@h"), 4)

    assert mailbox(q) == [1, 2, 3, 4]


def test_send_to_unregistered_local_name_raises_but_cast_does_not(harness):
    p = harness.process()

    with pytest.raises(ValueError, match="no process is registered here as server"):
        p.send("server", 1)
    p.cast("server", 1)
    p.send(("server", A), 1)


def test_message_to_local_alias_is_delivered_until_unalias(harness):
    p, q = harness.process(), harness.process()
    alias = q.alias()

    p.send(alias, 1)
    assert not p.unalias(alias)
    assert q.unalias(alias)
    p.send(alias, 2)

    assert mailbox(q) == [1]
    assert not q.unalias(alias)


@pytest.mark.parametrize("gone", [Pid(A, 999, 0, 1), Pid(A, 64, 0, 2), Ref(A, 1, (9, 9, 9))])
def test_message_to_missing_process_is_dropped(harness, gone):
    p = harness.process()
    assert p.pid == Pid(A, 64, 0, 1)

    p.send(gone, 1)

    assert (mailbox(p), harness.enqueued) == ([], [])


def test_message_to_connected_node_is_sent_with_its_destination(harness):
    peer, p = harness.connect(), harness.process()

    p.send(X, 1)
    p.send(("server", B), 2)
    p.send(REF, 3)

    assert peer.take() == [Send(p.pid, X, 1), SendName(p.pid, Atom("server"), 2), SendAlias(p.pid, REF, 3)]


@pytest.mark.parametrize("nothing", [7, None, (Atom("a"),), ("a", "b", "c"), ["server"]])
def test_send_to_invalid_destination_raises(harness, nothing):
    with pytest.raises(TypeError, match="a destination is a pid, an alias, a name"):
        harness.process().send(nothing, 1)


def test_sender_to_busy_peer_is_blocked_on_it(harness):
    peer, p = harness.connect(), harness.process()

    p.send(X, 1)
    assert p._blocked_on is None
    peer.busy = True
    p.send(X, 2)

    assert p._blocked_on is peer


def test_remote_messages_reach_pids_names_and_aliases(harness):
    p = harness.process("server")
    alias = p.alias()

    harness.receive(Send(X, p.pid, 1), Send(None, p.pid, 2), SendName(X, Atom("server"), 3), SendAlias(X, alias, 4))

    assert mailbox(p) == [1, 2, 3, 4]


def test_signals_for_missing_processes_are_ignored(harness):
    p = harness.process()
    peer = harness.connect()
    missing_pids = [Pid(A, 999, 0, 1), Pid(A, 64, 0, 2), Pid(C, 64, 0, 1), Pid(A, 64, 1, 1)]

    for pid in missing_pids:
        harness.receive(
            Send(X, pid, 1), ExitSend(X, pid, KILL), ExitLink(X, pid, BOOM), GroupLeader(X, pid),
            UnlinkAck(1, X, pid), Down(X, pid, REF, BOOM), SpawnReply(REF, pid, 0, X), Demonitor(X, pid, REF),
        )  # fmt: skip
    harness.receive(SendName(X, Atom("missing"), 1), SendAlias(X, REF, 1))

    assert p.alive
    assert mailbox(p) == []
    assert peer.take() == []


def test_group_leader_signal_sets_the_group_leader(harness):
    p = harness.process()

    harness.receive(GroupLeader(Z, p.pid))

    assert p.group_leader == Z


def test_unexpected_spawn_reply_is_ignored(harness):
    p = harness.process()
    ref = harness.router.identifiers.ref()

    harness.receive(SpawnReply(ref, p.pid, 3, X), SpawnReply(ref, p.pid, 0, Atom("notsup")))

    assert mailbox(p) == []
    assert harness.router.links.links_of(p.pid) == []


def test_router_without_spawn_server_refuses_spawn_requests(harness):
    peer = harness.connect()

    harness.receive(SpawnRequest(REF, X, X, Atom("m"), Atom("f"), 0, [], []))

    assert peer.take() == [SpawnReply(REF, X, 0, Atom("notsup"))]


# Handler processes


def test_handlers_run_in_order_and_are_never_nested(harness):
    log = []

    def first(message):
        log.append(("first in", message))
        if message < 3:
            p.send(q.pid, message)
            p.send(p.pid, message + 10)
        log.append(("first out", message))

    def second(message):
        log.append(("second in", message))
        q.send(p.pid, message + 1)
        log.append(("second out", message))

    p, q = harness.server(first), harness.server(second)
    harness.receive(Send(X, p.pid, 1))

    assert log == [
        (f"{handler} {way}", n)
        for handler, n in [
            ("first", 1),
            ("second", 1),
            ("first", 11),
            ("first", 2),
            ("second", 2),
            ("first", 12),
            ("first", 3),
        ]
        for way in ("in", "out")
    ]


def test_failing_handler_keeps_running_as_do_others(harness, caplog):
    q = harness.server()

    def fail(message):
        p.send(q.pid, message)
        raise RuntimeError("this one is wrong")

    p = harness.server(fail)
    with caplog.at_level(logging.ERROR):
        harness.receive(Send(X, p.pid, 1), Send(X, p.pid, 2))

    assert q.received == [1, 2]
    assert p.alive
    assert caplog.text.count("RuntimeError: this one is wrong") == 2


def test_terminated_handler_gets_no_queued_message(harness):
    q = harness.server()

    def execute(_):
        p.send(q.pid, 1)
        harness.router.termination.terminate(q, BOOM)
        p.send(q.pid, 2)

    p = harness.server(execute)
    harness.receive(Send(X, p.pid, 0))

    assert q.received == []


def test_handler_that_stops_itself_gets_no_more_messages(harness):
    received = []

    def receive(message):
        received.append(message)
        harness.router.termination.terminate(p, BOOM)

    p = harness.server(receive)
    harness.receive(Send(X, p.pid, 1), Send(X, p.pid, 2))

    assert received == [1]


def test_interrupt_in_a_handler_keeps_messages_of_others(harness):
    def interrupted(_):
        raise KeyboardInterrupt

    p, q = harness.server(interrupted), harness.server()

    with pytest.raises(KeyboardInterrupt):
        harness.receive(Send(X, p.pid, 1))
    harness.receive(Send(X, q.pid, 2))

    assert q.received == [2]


# Exit signals


EXITS = [
    # by, reason, traps exits, exits with this reason, or gets it as a message
    ("link", NORMAL, False, None, None),
    ("link", NORMAL, True, None, NORMAL),
    ("link", BOOM, False, BOOM, None),
    ("link", BOOM, True, None, BOOM),
    ("link", KILL, False, KILL, None),
    ("link", KILL, True, None, KILL),
    ("exit2", NORMAL, False, None, None),
    ("exit2", NORMAL, True, None, NORMAL),
    ("exit2", BOOM, False, BOOM, None),
    ("exit2", BOOM, True, None, BOOM),
    ("exit2", KILL, False, KILLED, None),
    ("exit2", KILL, True, KILLED, None),
    ("exit2", KILLED, True, None, KILLED),
    ("self", NORMAL, False, NORMAL, None),
    ("self", NORMAL, True, None, NORMAL),
    ("self", BOOM, False, BOOM, None),
    ("self", BOOM, True, None, BOOM),
    ("self", KILL, False, KILLED, None),
    ("self", KILL, True, KILLED, None),
]


@pytest.mark.parametrize("remote", [True, False])
@pytest.mark.parametrize(("by", "reason", "traps", "exits_with", "delivered"), EXITS)
def test_exit_signal_terminates_or_is_delivered(harness, by, reason, traps, exits_with, delivered, remote):  # noqa: PLR0917 - a table
    p, other = harness.process(trap=traps), harness.process()
    harness.connect()
    sender = p.pid if by == "self" else X if remote else other.pid
    match by:
        case "link" if remote:
            harness.receive(Link(X, p.pid), ExitLink(X, p.pid, reason))
        case "link":
            p.link(other.pid)
            harness.router.termination.terminate(other, reason)
        case "exit2" if remote:
            harness.receive(ExitSend(X, p.pid, reason))
        case "exit2":
            other.exit(p.pid, reason)
        case "self":
            p.exit(p.pid, reason)

    assert p.alive is (exits_with is None)
    assert p.exit_reason is exits_with
    assert mailbox(p) == ([] if delivered is None else [(EXIT, sender, delivered)])


def test_exit_signal_without_link_is_ignored(harness):
    p = harness.process()

    harness.receive(ExitLink(X, p.pid, BOOM))

    assert p.alive


def test_exit_with_a_reason_that_is_not_a_term_raises(harness):
    p, q = harness.process(), harness.process()

    for to in (q.pid, p.pid, X):
        with pytest.raises(EncodeError):
            p.exit(to, object())

    assert q.alive
    assert harness.enqueued == []


def test_exit_to_a_name_raises(harness):
    with pytest.raises(TypeError, match="expected a pid, not 'server'"):
        harness.process().exit("server", BOOM)


def test_exit_signal_is_sent_to_connected_node(harness):
    peer, p = harness.connect(), harness.process()

    p.exit(X, BOOM)

    assert peer.take() == [ExitSend(p.pid, X, BOOM)]


# Links


def test_linked_local_processes_terminate_together(harness):
    p, q, r = harness.process(), harness.process(), harness.process()
    p.link(q.pid)
    r.link(q.pid)

    harness.router.termination.terminate(p, BOOM)

    assert (q.exit_reason, r.exit_reason) == (BOOM, BOOM)


def test_long_chain_of_links_terminates_as_a_whole(harness):
    chain = [harness.process() for _ in range(3_000)]
    for one, next_one in itertools.pairwise(chain):
        one.link(next_one.pid)

    async def main():
        harness.router.termination.terminate(chain[0], BOOM)
        await run_iterations()

    run(main())

    assert {process.exit_reason for process in chain} == {BOOM}


def test_exit_signals_of_a_process_with_many_monitors_leave_in_slices_and_in_order(harness):
    origin = harness.server()
    first, second = harness.process(), harness.process()
    refs = [origin.monitor(first.pid) for _ in range(2 * SIGNALS_AT_ONCE + 1)]
    last = origin.monitor(second.pid)

    async def main():
        harness.router.termination.terminate(first, BOOM)
        at_once = len(origin.received)
        harness.router.termination.terminate(second, BOOM)
        await run_iterations()
        return at_once

    assert run(main()) == SIGNALS_AT_ONCE
    assert [down[1] for down in origin.received] == [*refs, last]


def test_exit_signals_of_a_node_that_ends_leave_at_once(harness):
    origin, process = harness.server(), harness.process()
    refs = [origin.monitor(process.pid) for _ in range(SIGNALS_AT_ONCE + 1)]

    harness.router.termination.node_stopping = True
    harness.router.termination.terminate(process, BOOM)

    assert [down[1] for down in origin.received] == refs


def test_link_to_itself_has_no_effect(harness):
    p = harness.process(trap=True)

    p.link(p.pid)
    p.unlink(p.pid)

    assert p.alive
    assert mailbox(p) == []


@pytest.mark.parametrize("terminated", [Pid(A, 999, 0, 1), Pid(A, 64, 0, 9)])
def test_link_to_terminated_local_process_gives_noproc(harness, terminated):
    p, q = harness.process(trap=True), harness.process()

    p.link(terminated)
    q.link(terminated)

    assert mailbox(p) == [(EXIT, terminated, NOPROC)]
    assert q.exit_reason is NOPROC


def test_unlinked_process_gets_no_exit_signal(harness):
    p, q = harness.process(), harness.process()
    p.link(q.pid)

    q.unlink(p.pid)
    harness.router.termination.terminate(p, BOOM)

    assert q.alive


def test_link_to_a_value_that_is_not_a_pid_raises(harness):
    p = harness.process()

    for act in (p.link, p.unlink):
        with pytest.raises(TypeError, match="expected a pid"):
            act("server")


def test_link_to_connected_node_is_sent_once(harness):
    peer, p = harness.connect(), harness.process()

    p.link(X)
    p.link(X)

    assert peer.take() == [Link(p.pid, X)]


def test_remote_link_gets_an_exit_signal_when_the_process_terminates(harness):
    peer, p = harness.connect(), harness.process()
    harness.receive(Link(X, p.pid))

    harness.router.termination.terminate(p, BOOM)

    assert peer.take() == [ExitLink(p.pid, X, BOOM)]


def test_remote_link_to_terminated_process_is_answered_with_noproc(harness):
    peer = harness.connect()
    gone, former = Pid(A, 999, 0, 1), Pid(A, 64, 0, 7)
    harness.process()

    harness.receive(Link(X, gone), Link(X, former))

    assert peer.take() == [ExitLink(gone, X, NOPROC), ExitLink(former, X, NOPROC)]


def test_unlink_is_acknowledged_first(harness):
    peer, p = harness.connect(), harness.process()
    harness.receive(Link(X, p.pid))

    harness.receive(Unlink(9, X, p.pid))
    harness.router.termination.terminate(p, BOOM)

    assert peer.take() == [UnlinkAck(9, p.pid, X)]


def test_unlink_of_terminated_process_is_acknowledged(harness):
    peer, gone = harness.connect(), Pid(A, 999, 0, 1)

    harness.receive(Unlink(9, X, gone))

    assert peer.take() == [UnlinkAck(9, gone, X)]


def test_unlink_is_sent_and_completed_by_its_ack(harness):
    peer, p = harness.connect(), harness.process()
    p.link(X)

    p.unlink(X)
    _, unlink = peer.take()
    harness.receive(ExitLink(X, p.pid, BOOM))
    assert p.alive
    harness.receive(UnlinkAck(unlink.id, X, p.pid))

    assert unlink == Unlink(unlink.id, p.pid, X)
    assert len(harness.router.links) == 0


# Monitors


def test_monitor_of_local_process_delivers_one_down(harness):
    p, q = harness.process(), harness.process("server")
    by_pid, by_name, by_node = p.monitor(q.pid), p.monitor("server"), p.monitor(("server", A))

    harness.router.termination.terminate(q, BOOM)

    named = (Atom("server"), A)
    assert mailbox(p) == [
        (DOWN, by_pid, PROCESS, q.pid, BOOM),
        (DOWN, by_name, PROCESS, named, BOOM),
        (DOWN, by_node, PROCESS, named, BOOM),
    ]


@pytest.mark.parametrize("gone", [Pid(A, 999, 0, 1), Pid(A, 64, 0, 2), (Atom("missing"), A)])
def test_monitor_of_missing_process_delivers_noproc_at_once(harness, gone):
    p = harness.process()

    ref = p.monitor(gone)

    assert mailbox(p) == [(DOWN, ref, PROCESS, gone, NOPROC)]


def test_handler_has_the_monitor_reference_before_the_down(harness):
    received, refs = [], []
    server = harness.server(lambda message: received.append((message[1], list(refs))))

    async def main():
        refs.append(server.monitor(Pid(A, 999, 0, 1)))
        refs.append(server.monitor(Pid(A, 998, 0, 1)))
        await run_iterations(1)

    run(main())

    assert received == [(refs[0], refs), (refs[1], refs)]


def test_monitor_of_itself_delivers_nothing_and_leaves_no_entry(harness):
    p = harness.process()

    p.monitor(p.pid)
    harness.router.termination.terminate(p, BOOM)

    assert mailbox(p) == []
    harness.assert_empty()


def test_demonitored_process_delivers_no_down(harness):
    p, q = harness.process(), harness.process()
    ref = p.monitor(q.pid)

    assert p.demonitor(ref)
    harness.router.termination.terminate(q, BOOM)

    assert mailbox(p) == []
    assert not p.demonitor(ref)


def test_flush_removes_a_received_down_and_no_other_message(harness):
    p, q = harness.process(), harness.process()
    ref = p.monitor(q.pid)
    alike = [(Atom("UP"), ref, PROCESS, q.pid, BOOM), (DOWN, ref), (DOWN, REF, PROCESS, q.pid, BOOM)]
    for message in alike:
        q.send(p.pid, message)
    harness.router.termination.terminate(q, BOOM)

    assert not p.demonitor(ref, flush=True)

    assert mailbox(p) == alike


def test_flush_removes_a_down_queued_for_a_handler(harness):
    q = harness.process()
    received = []

    def receive(message):
        received.append(message)
        if message == 1:
            harness.router.termination.terminate(q, BOOM)
            p.send(p.pid, 2)
            p.demonitor(ref, flush=True)

    p = harness.server(receive)
    ref = p.monitor(q.pid)
    harness.receive(Send(X, p.pid, 1))

    assert received == [1, 2]


def test_process_cannot_demonitor_for_another(harness):
    p, q, r = harness.process(), harness.process(), harness.process()
    ref = p.monitor(q.pid)

    assert not r.demonitor(ref)
    harness.router.termination.terminate(q, BOOM)

    assert mailbox(p) == [(DOWN, ref, PROCESS, q.pid, BOOM)]


@pytest.mark.parametrize("nothing", [7, REF, ("a", "b", "c"), None])
def test_monitor_of_invalid_target_raises(harness, nothing):
    with pytest.raises(TypeError, match="cannot monitor"):
        harness.process().monitor(nothing)


def test_remote_monitor_and_demonitor_carry_the_same_target(harness):
    peer, p = harness.connect(), harness.process()

    by_pid, by_name = p.monitor(X), p.monitor(("server", B))
    p.demonitor(by_pid)
    p.demonitor(by_name)

    server = Atom("server")
    assert peer.take() == [
        Monitor(p.pid, X, by_pid), Monitor(p.pid, server, by_name),
        Demonitor(p.pid, X, by_pid), Demonitor(p.pid, server, by_name),
    ]  # fmt: skip


def test_down_from_the_monitored_node_is_delivered_once(harness):
    p = harness.process()
    harness.connect()
    by_pid, by_name = p.monitor(X), p.monitor(("server", B))

    for _ in range(2):
        harness.receive(Down(X, p.pid, by_pid, BOOM), Down(Atom("server"), p.pid, by_name, BOOM))

    assert mailbox(p) == [
        (DOWN, by_pid, PROCESS, X, BOOM),
        (DOWN, by_name, PROCESS, (Atom("server"), B), BOOM),
    ]


def test_down_from_another_node_is_ignored(harness):
    p = harness.process()
    harness.connect()
    ref = p.monitor(X)

    harness.receive(Down(X, p.pid, ref, BOOM), peer=C)

    assert mailbox(p) == []


def test_remote_monitors_get_down_with_their_own_target(harness):
    peer, p = harness.connect(), harness.process("server")
    refs = [Ref(B, 5, (n, 0, 0)) for n in range(3)]
    harness.receive(Monitor(X, p.pid, refs[0]), Monitor(X, Atom("server"), refs[1]), Monitor(Y, p.pid, refs[2]))
    harness.receive(Demonitor(Y, p.pid, refs[2]))

    harness.router.termination.terminate(p, BOOM)

    assert peer.take() == [Down(p.pid, X, refs[0], BOOM), Down(Atom("server"), X, refs[1], BOOM)]


@pytest.mark.parametrize("target", [Pid(A, 999, 0, 1), Pid(A, 64, 0, 2), Pid(C, 64, 0, 1), Atom("missing")])
def test_remote_monitor_of_missing_process_is_answered_with_noproc(harness, target):
    peer = harness.connect()
    harness.process()

    harness.receive(Monitor(X, target, REF))

    assert peer.take() == [Down(target, X, REF, NOPROC)]


def test_termination_sends_exit_signals_then_downs_then_demonitors(harness):
    peer, p = harness.connect(), harness.process()
    mine = p.monitor(Y)
    peer.take()
    harness.receive(Monitor(X, p.pid, REF), Link(X, p.pid))

    harness.router.termination.terminate(p, BOOM)

    assert peer.take() == [ExitLink(p.pid, X, BOOM), Down(p.pid, X, REF, BOOM), Demonitor(p.pid, Y, mine)]


def test_second_termination_has_no_effect(harness):
    p, q = harness.process(), harness.process(trap=True)
    q.link(p.pid)

    harness.router.termination.terminate(p, BOOM)
    harness.router.termination.terminate(p, KILLED)

    assert p.exit_reason is BOOM
    assert mailbox(q) == [(EXIT, p.pid, BOOM)]


# Names


def test_name_is_unique_and_free_after_termination(harness):
    p, q = harness.process("server"), harness.process()

    with pytest.raises(ValueError, match=r"the name server is taken by <\d+.64.0>"):
        harness.router.registry.register_name(Atom("server"), q)
    harness.router.termination.terminate(p, BOOM)
    harness.router.registry.register_name(Atom("server"), q)

    assert harness.router.registry.names == {Atom("server"): q}


def test_unregistered_name_stays_free(harness):
    p = harness.process("server")

    assert harness.router.registry.unregister_name(Atom("server"))
    assert not harness.router.registry.unregister_name(Atom("server"))
    harness.router.registry.register_name(Atom("server"), harness.process())
    harness.router.termination.terminate(p, BOOM)

    assert Atom("server") in harness.router.registry.names


# Nodes that are not connected


def test_signals_to_unconnected_node_are_queued_in_order(harness):
    p = harness.process()

    p.send(X, 1)
    p.link(X)
    ref = p.monitor(X)
    p.exit(X, BOOM)
    p.send(REF, 2)
    p.send(("server", B), 3)

    assert harness.enqueued == [
        (B, signal)
        for signal in (
            Send(p.pid, X, 1), Link(p.pid, X), Monitor(p.pid, X, ref), ExitSend(p.pid, X, BOOM),
            SendAlias(p.pid, REF, 2), SendName(p.pid, Atom("server"), 3),
        )
    ]  # fmt: skip


def test_message_that_is_not_a_term_is_refused_before_queueing(harness):
    p = harness.process()

    for connect in (True, False):
        with pytest.raises(EncodeError):
            p.send(X, object(), connect=connect)

    assert harness.enqueued == []


def test_connect_false_drops_a_message_only_without_a_connection_attempt(harness):
    p = harness.process()

    p.send(X, 1, connect=False)
    p.send(X, 2)
    p.send(X, 3, connect=False)

    assert [signal.message for _, signal in harness.enqueued] == [2, 3]


def test_cancelling_signals_queue_behind_what_they_cancel(harness):
    p = harness.process()
    p.link(X)
    p.link(Y)
    first, second = p.monitor(X), p.monitor(Y)

    p.unlink(X)
    p.demonitor(first)
    harness.router.termination.terminate(p, BOOM)

    assert [signal for _, signal in harness.enqueued[4:]] == [
        Unlink(1, p.pid, X), Demonitor(p.pid, X, first), ExitLink(p.pid, Y, BOOM), Demonitor(p.pid, Y, second),
    ]  # fmt: skip


def fail_enqueued(harness):
    enqueued, harness.enqueued = harness.enqueued, []
    harness.outgoing.clear()
    for node, signal in enqueued:
        harness.router.termination.undeliverable(signal, node)


def test_an_unlink_is_complete_at_once_if_the_peer_does_not_acknowledge_it(harness):
    peer, process = harness.connect(), harness.process()
    process.link(X)
    process.unlink(X)

    harness.router.termination.no_answer(peer.take()[-1], B)
    harness.receive(Link(X, process.pid))

    assert harness.router.links.links_of(process.pid) == [X]


def test_undeliverable_signals_give_noconnection(harness):
    p, q = harness.process(trap=True), harness.process()
    p.link(X)
    q.link(X)
    by_pid, by_name = p.monitor(X), p.monitor(("server", B))
    p.send(X, 1)
    p.exit(X, BOOM)

    fail_enqueued(harness)

    assert mailbox(p) == [
        (EXIT, X, NOCONNECTION),
        (DOWN, by_pid, PROCESS, X, NOCONNECTION),
        (DOWN, by_name, PROCESS, (Atom("server"), B), NOCONNECTION),
    ]
    assert q.exit_reason is NOCONNECTION


def test_cancelled_undeliverable_signals_give_nothing(harness):
    p = harness.process(trap=True)
    p.link(X)
    ref = p.monitor(X)
    p.unlink(X)
    p.demonitor(ref)

    fail_enqueued(harness)

    assert mailbox(p) == []
    assert len(harness.router.links) == 0


# Lost nodes


def test_lost_node_breaks_links_and_monitors_in_both_directions(harness):
    p = harness.process(trap=True)
    harness.connect()
    third = harness.connect(C)
    p.link(X)
    p.link(Z)
    ref, other = p.monitor(X), p.monitor(Z)
    harness.receive(Link(Y, p.pid), Monitor(Y, p.pid, REF))
    third.take()

    harness.disconnect(B)

    assert mailbox(p) == [(EXIT, X, NOCONNECTION), (EXIT, Y, NOCONNECTION), (DOWN, ref, PROCESS, X, NOCONNECTION)]
    harness.router.termination.terminate(p, BOOM)
    assert third.take() == [ExitLink(p.pid, Z, BOOM), Demonitor(p.pid, Z, other)]
    harness.connect(B)
    assert harness.router.peers[B].take() == []


def test_lost_node_terminates_linked_processes(harness):
    p = harness.process()
    harness.connect()
    p.link(X)
    p.link(Y)

    harness.disconnect()

    assert p.exit_reason is NOCONNECTION


def test_monitor_created_on_a_down_gets_no_down_of_the_old_connection(harness):
    harness.connect()
    received = []

    def receive(message):
        received.append(message)
        if len(received) == 1:
            received.append(p.monitor(X))
            p.link(X)

    p = harness.server(receive, trap=True)
    p.link(X)
    harness.disconnect()

    assert received[0] == (EXIT, X, NOCONNECTION)
    assert len(received) == 2
    assert harness.enqueued == [(B, Monitor(p.pid, X, received[1])), (B, Link(p.pid, X))]


def test_unlink_while_handling_a_lost_node_leaves_no_entry(harness):
    harness.connect()

    def receive(_):
        q.unlink(X)

    p, q = harness.server(receive, trap=True), harness.process(trap=True)
    p.link(X)
    q.link(X)
    harness.disconnect()

    assert mailbox(q) == []
    assert len(harness.router.links) == 0


def test_signals_after_one_whose_answer_was_too_much_wait(harness):
    peer, handled = harness.connect(), []

    def handle(message):
        handled.append(message)
        peer.overfull = message == 2

    server = harness.server(handle)
    signals = [Send(X, server.pid, number) for number in range(1, 5)]

    assert harness.router.handle_signals(signals, B) == signals[2:]
    assert handled == [1, 2]
    peer.overfull = False
    assert harness.router.handle_signals(signals[2:], B) == []
    assert handled == [1, 2, 3, 4]


def test_signals_after_a_disconnect_are_dropped(harness):
    harness.connect()

    def receive(_):
        harness.disconnect()

    p, q = harness.server(receive), harness.process()
    harness.receive(Send(X, p.pid, 1), Send(X, q.pid, 2), Monitor(X, q.pid, REF), Link(X, q.pid))

    assert mailbox(q) == []
    assert (len(harness.router.links), len(harness.router.monitors)) == (0, 0)


# Terminated processes


def test_terminated_process_can_send_and_cancel_but_not_wait_link_or_monitor(harness):
    p, q = harness.process(), harness.process()
    ref, alias = p.monitor(q.pid), p.alias()
    harness.router.termination.terminate(p, BOOM)

    p.send(q.pid, 1)
    assert not p.demonitor(ref)
    assert not p.unalias(alias)
    p.unlink(q.pid)
    for act in (lambda: p.link(q.pid), lambda: p.monitor(q.pid), p.alias, lambda: p.spawn(None, link=True)):
        with pytest.raises(Exit) as ended:
            act()
        assert ended.value.reason is BOOM

    assert mailbox(q) == [1]


def test_terminated_process_cannot_wait(harness):
    async def main():
        p = harness.process()
        p.send(p.pid, 1)
        harness.router.termination.terminate(p, BOOM)
        assert await p.receive() == 1
        with pytest.raises(Exit):
            await p.receive()
        with pytest.raises(Exit):
            await p.receive(timeout=1)
        with pytest.raises(Exit):
            await p.call("server", 1)

    run(main())


# Calls


class CallHarness(RouterHarness):
    """CallHarness are awaited by tasks; their callers are processes without one."""

    def call(self, caller, to, timeout=5.0):
        return asyncio.create_task(caller.call(to, Atom("question"), timeout=timeout))

    def assert_no_trace(self, *callers):
        assert self.router.registry.aliases == {}
        assert len(self.router.monitors) == 0
        assert all(caller._pending_calls == {} and caller._aliases == {} for caller in callers)


@pytest.fixture
def calls():
    return CallHarness()


def take_request(process):
    kind, caller, request = process._mailbox.take()
    assert (kind, request) == (GEN_CALL, Atom("question"))
    return caller


def test_call_is_answered_at_its_alias(calls):
    async def main():
        p, q = calls.process(), calls.process("server")
        answer = calls.call(p, "server")
        await run_iterations()

        q.reply(take_request(q), Atom("answer"))

        assert await answer is Atom("answer")
        assert mailbox(p) == []
        assert len(calls.router.deadlines) == 0
        calls.assert_no_trace(p)

    run(main())


def test_call_is_answered_at_its_pid_by_otp_23(calls):
    async def main():
        peer, p = calls.connect(), calls.process()
        answer = calls.call(p, ("server", B))
        await run_iterations()
        monitor, request = peer.take()
        caller, tag = request.message[1]

        calls.receive(Send(X, p.pid, (tag, Atom("answer"))))

        assert isinstance(monitor, Monitor)
        assert caller == p.pid
        assert await answer is Atom("answer")
        assert mailbox(p) == []
        assert peer.take() == [Demonitor(p.pid, Atom("server"), monitor.ref)]
        calls.assert_no_trace(p)

    run(main())


def test_handler_process_can_call_and_is_answered_at_its_pid(calls):
    async def main():
        calls.connect()
        p = calls.server()
        answer = calls.call(p, X)
        await run_iterations()
        tag = calls.router.peers[B].take()[1].message[1][1]

        calls.receive(Send(X, p.pid, (tag, 7)), Send(X, p.pid, 8))

        assert await answer == 7
        assert p.received == [8]

    run(main())


@pytest.mark.parametrize(
    "other",
    [7, (1, 2, 3), (ImproperList((Atom("alias"),), REF), 1), (ImproperList((1,), 2), 1), (REF, 1)],
)
def test_other_messages_go_to_the_mailbox_during_a_call(calls, other):
    async def main():
        p, q = calls.process(), calls.process()
        answer = calls.call(p, q.pid)
        await run_iterations()

        q.send(p.pid, other)
        q.reply(take_request(q), 1)

        assert await answer == 1
        assert mailbox(p) == [other]

    run(main())


def test_second_reply_is_dropped(calls):
    async def main():
        p, q = calls.process(), calls.process()
        answer = calls.call(p, q.pid)
        await run_iterations()
        caller = take_request(q)

        q.reply(caller, 1)
        q.reply(caller, 2)
        q.send(p.pid, (caller[1], 3))
        calls.router.termination.terminate(q, BOOM)

        assert await answer == 1
        q.reply(caller, 4)
        assert mailbox(p) == []

    run(main())


@pytest.mark.parametrize("missing", [Pid(A, 999, 0, 1), "missing", ("missing", A)])
def test_call_to_missing_process_raises_no_process(calls, missing):
    async def main():
        p = calls.process()

        with pytest.raises(NoProcess, match=r"there is no process (<\d+.999.0>|missing on a@h)"):
            await p.call(missing, 1)

        calls.assert_no_trace(p)
        assert mailbox(p) == []

    run(main())


def test_call_to_unreachable_node_raises_with_the_reason(calls):
    calls.router.last_connect_error = {"b@h": "its host is unknown"}.get

    async def main():
        p = calls.process()
        by_pid, by_name = calls.call(p, X), calls.call(p, ("server", B))
        await run_iterations()

        fail_enqueued(calls)

        for answer in (by_pid, by_name):
            with pytest.raises(NoConnection, match="no connection to b@h: its host is unknown"):
                await answer
        calls.assert_no_trace(p)

    run(main())


def test_call_to_lost_node_raises_no_connection(calls):
    async def main():
        calls.connect()
        p = calls.process()
        answer = calls.call(p, X)
        await run_iterations()

        calls.disconnect()

        with pytest.raises(NoConnection, match=r"no connection to b@h$"):
            await answer

    run(main())


def test_call_to_terminating_server_raises_callee_exited(calls):
    async def main():
        p, q = calls.process(), calls.process("server")
        answer = calls.call(p, "server")
        await run_iterations()

        calls.router.termination.terminate(q, BOOM)

        with pytest.raises(CalleeExited, match=r"server on a@h exited before it answered: boom") as exited:
            await answer
        assert exited.value.reason is BOOM
        assert mailbox(p) == []

    run(main())


def test_call_times_out_and_a_late_reply_is_dropped(calls):
    async def main():
        p, q = calls.process(), calls.process()
        loop = asyncio.get_running_loop()

        with pytest.raises(CallTimeout, match=r"no answer from <\d+.65.0> within 2.5 s"):
            await p.call(q.pid, Atom("question"), timeout=2.5)

        assert loop.time() == pytest.approx(2.5)
        q.reply(take_request(q), 1)
        assert mailbox(p) == []
        calls.assert_no_trace(p)

    run(main())


def test_call_without_timeout_waits(calls):
    async def main():
        p, q = calls.process(), calls.process()
        answer = calls.call(p, q.pid, timeout=None)
        await asyncio.sleep(1_000_000)

        q.reply(take_request(q), 1)

        assert await answer == 1

    run(main())


def test_cancelled_call_leaves_nothing_and_a_late_reply_is_dropped(calls):
    async def main():
        peer, p = calls.connect(), calls.process()
        answer = calls.call(p, X)
        await run_iterations()
        monitor, request = peer.take()

        answer.cancel()
        await run_iterations()

        assert answer.cancelled()
        assert peer.take() == [Demonitor(p.pid, X, monitor.ref)]
        calls.assert_no_trace(p)
        calls.receive(SendAlias(X, monitor.ref, (request.message[1][1], 1)), Down(X, p.pid, monitor.ref, BOOM))
        assert mailbox(p) == []

    run(main())


def test_call_ends_with_its_caller(calls):
    async def main():
        p, q = calls.process(), calls.process()
        answer = calls.call(p, q.pid, timeout=None)
        await run_iterations()

        calls.router.termination.terminate(p, BOOM)

        with pytest.raises(Exit):
            await answer
        calls.assert_no_trace(p)

    run(main())


def test_request_that_is_not_a_term_leaves_no_monitor(calls):
    async def main():
        p = calls.process()

        with pytest.raises(EncodeError):
            await p.call(X, object())

        assert [type(signal) for _, signal in calls.enqueued] == [Monitor, Demonitor]
        calls.assert_no_trace(p)

    run(main())


@pytest.mark.parametrize("nothing", [7, REF, ("a", "b", "c")])
def test_call_to_invalid_destination_raises(calls, nothing):
    async def main():
        p = calls.process()

        with pytest.raises(TypeError):
            await p.call(nothing, 1)

        calls.assert_no_trace(p)

    run(main())


def test_concurrent_calls_get_their_own_replies(calls):
    async def main():
        p, q = calls.process(), calls.process()
        answers = [calls.call(p, q.pid) for _ in range(50)]
        await run_iterations()
        callers = [take_request(q) for _ in range(50)]

        for number, caller in reversed(list(enumerate(callers))):
            q.reply(caller, number)

        assert await asyncio.gather(*answers) == list(range(50))
        calls.assert_no_trace(p)

    run(main())


def test_calls_answered_at_once_let_other_tasks_run(calls):
    async def main():
        p = calls.process()
        q = calls.server(lambda message: q.reply(message[1], 1))
        others = 0

        async def count():
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        for _ in range(5_000):
            await p.call(q.pid, 1)
        counting.cancel()

        assert others >= 2

    run(main())
