"""The router, driven by hand: no connections, no tasks, only signals and what they cause."""

import asyncio
import itertools
import logging
import random

import pytest

from erlmesh.core.gen import GEN_CALL
from erlmesh.core.identifiers import Identifiers
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
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.process_ops import NodeProcessOps
from erlmesh.runtime.router import Router
from erlmesh.terms import Atom, ImproperList, Pid, Ref
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B, C = Atom("a@h"), Atom("b@h"), Atom("c@h")
DOWN, EXIT, PROCESS = Atom("DOWN"), Atom("EXIT"), Atom("process")
NORMAL, KILL, KILLED, BOOM = Atom("normal"), Atom("kill"), Atom("killed"), Atom("boom")
NOPROC, NOCONNECTION = Atom("noproc"), Atom("noconnection")
X, Y, Z = Pid(B, 64, 0, 5), Pid(B, 65, 0, 5), Pid(C, 64, 0, 5)
REF = Ref(B, 5, (1, 2, 3))


class FakePeer:
    """Writes down what it is given to send."""

    def __init__(self):
        self.sent = []
        self.busy = False

    def send(self, signal):
        self.sent.append(signal)

    def take(self):
        sent, self.sent = self.sent, []
        return sent


class Subject(LocalProcess):
    """A process without a task, that a test can write on."""

    heard = None


class World:
    """One router, node ``a@h`` in its life 1. While ``outgoing`` is set, what is held is kept whoever holds it."""

    def __init__(self):
        self.enqueued = []
        self.outgoing = set()
        self.router = Router(Identifiers(A, 1), self.enqueue)
        self.ops = NodeProcessOps(self.router, random.Random(0), spawn=None, nodes=None, group_leader=None)

    def enqueue(self, node, signal, _size, dial):
        if dial:
            self.outgoing.add(node)
        if node in self.outgoing:
            self.enqueued.append((node, signal))
        return FakePeer() if node in self.outgoing else None

    def connect(self, node=B):
        peer = self.router.peers[node] = FakePeer()
        return peer

    def disconnect(self, node=B):
        del self.router.peers[node]
        self.router.termination.connection_lost(node)

    def process(self, name=None, *, trap=False):
        """A process with a mailbox and no task."""
        process = Subject(self.ops, self.router.identifiers.pid(self.router.registry.processes), "test")
        process.trap_exit = trap
        self.router.registry.add(process)
        if name is not None:
            self.router.registry.register_name(Atom(name), process)
        return process

    def server(self, receive=None, **options):
        process = self.process(**options)
        process.heard = []
        process._handler = receive or process.heard.append
        return process

    def hear(self, *signals, peer=B):
        self.router.handle_signals(signals, peer)

    def assert_empty(self):
        """Nothing is left of those who lived here."""
        router = self.router
        assert (len(router.links), len(router.monitors)) == (0, 0)
        assert (router.registry.processes, router.registry.names, router.registry.aliases) == ({}, {}, {})


@pytest.fixture
def world():
    world = World()
    yield world
    for process in list(world.router.registry.processes.values()):
        world.router.termination.terminate(process, NORMAL)
    for node in list(world.router.peers):
        world.disconnect(node)
    world.assert_empty()


def mailbox(process):
    return list(process._mailbox.messages)


# Messages


def test_a_message_to_a_local_pid_is_there_at_once(world):
    p, q = world.process(), world.process()

    p.send(q.pid, 1)

    assert mailbox(q) == [1]


def test_a_message_to_a_local_name_is_there_at_once(world):
    p, q = world.process(), world.process("server")

    p.send("server", 1)
    p.send(Atom("server"), 2)
    p.send(("server", A), 3)
    p.send((Atom("server"), "a@h"), 4)

    assert mailbox(q) == [1, 2, 3, 4]


def test_a_local_name_nobody_has_is_an_error_at_the_call_but_not_for_a_cast(world):
    p = world.process()

    with pytest.raises(ValueError, match="no process is registered here as server"):
        p.send("server", 1)
    p.cast("server", 1)
    p.send(("server", A), 1)


def test_a_message_to_an_alias_of_here_is_there_until_it_is_taken_back(world):
    p, q = world.process(), world.process()
    alias = q.alias()

    p.send(alias, 1)
    assert not p.unalias(alias)
    assert q.unalias(alias)
    p.send(alias, 2)

    assert mailbox(q) == [1]
    assert not q.unalias(alias)


@pytest.mark.parametrize("gone", [Pid(A, 999, 0, 1), Pid(A, 64, 0, 2), Ref(A, 1, (9, 9, 9))])
def test_a_message_to_nobody_vanishes(world, gone):
    p = world.process()
    assert p.pid == Pid(A, 64, 0, 1)

    p.send(gone, 1)

    assert (mailbox(p), world.enqueued) == ([], [])


def test_messages_to_a_connected_node_go_out_as_they_are_addressed(world):
    peer, p = world.connect(), world.process()

    p.send(X, 1)
    p.send(("server", B), 2)
    p.send(REF, 3)

    assert peer.take() == [Send(p.pid, X, 1), SendName(p.pid, Atom("server"), 2), SendAlias(p.pid, REF, 3)]


@pytest.mark.parametrize("nothing", [7, None, (Atom("a"),), ("a", "b", "c"), ["server"]])
def test_what_is_no_destination_is_refused(world, nothing):
    with pytest.raises(TypeError, match="a destination is a pid, an alias, a name"):
        world.process().send(nothing, 1)


def test_who_writes_to_a_busy_peer_is_held_by_it(world):
    peer, p = world.connect(), world.process()

    p.send(X, 1)
    assert p._blocked_on is None
    peer.busy = True
    p.send(X, 2)

    assert p._blocked_on is peer


def test_messages_of_other_nodes_reach_pids_names_and_aliases(world):
    p = world.process("server")
    alias = p.alias()

    world.hear(Send(X, p.pid, 1), Send(None, p.pid, 2), SendName(X, Atom("server"), 3), SendAlias(X, alias, 4))

    assert mailbox(p) == [1, 2, 3, 4]


def test_signals_for_nobody_are_ignored(world):
    p = world.process()
    peer = world.connect()
    strangers = [Pid(A, 999, 0, 1), Pid(A, 64, 0, 2), Pid(C, 64, 0, 1), Pid(A, 64, 1, 1)]

    for who in strangers:
        world.hear(
            Send(X, who, 1), ExitSend(X, who, KILL), ExitLink(X, who, BOOM), GroupLeader(X, who),
            UnlinkAck(1, X, who), Down(X, who, REF, BOOM), SpawnReply(REF, who, 0, X), Demonitor(X, who, REF),
        )  # fmt: skip
    world.hear(SendName(X, Atom("nobody"), 1), SendAlias(X, REF, 1))

    assert p.alive
    assert mailbox(p) == []
    assert peer.take() == []


def test_the_group_leader_is_noted(world):
    p = world.process()

    world.hear(GroupLeader(Z, p.pid))

    assert p.group_leader == Z


def test_a_reply_to_a_spawn_nobody_asked_for_is_ignored(world):
    p = world.process()
    ref = world.router.identifiers.ref()

    world.hear(SpawnReply(ref, p.pid, 3, X), SpawnReply(ref, p.pid, 0, Atom("notsup")))

    assert mailbox(p) == []
    assert world.router.links.links_of(p.pid) == []


def test_a_spawn_request_is_refused_by_a_router_without_a_spawner(world):
    peer = world.connect()

    world.hear(SpawnRequest(REF, X, X, Atom("m"), Atom("f"), 0, [], []))

    assert peer.take() == [SpawnReply(REF, X, 0, Atom("notsup"))]


# Servers


def test_servers_are_taken_in_turn_and_never_nested(world):
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

    p, q = world.server(first), world.server(second)
    world.hear(Send(X, p.pid, 1))

    assert log == [
        (f"{who} {way}", n)
        for who, n in [
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


def test_a_server_that_fails_goes_on_and_so_do_the_others(world, caplog):
    q = world.server()

    def fail(message):
        p.send(q.pid, message)
        raise RuntimeError("this one is wrong")

    p = world.server(fail)
    with caplog.at_level(logging.ERROR):
        world.hear(Send(X, p.pid, 1), Send(X, p.pid, 2))

    assert q.heard == [1, 2]
    assert p.alive
    assert caplog.text.count("RuntimeError: this one is wrong") == 2


def test_a_server_that_ends_another_silences_it_at_once(world):
    q = world.server()

    def execute(_):
        p.send(q.pid, 1)
        world.router.termination.terminate(q, BOOM)
        p.send(q.pid, 2)

    p = world.server(execute)
    world.hear(Send(X, p.pid, 0))

    assert q.heard == []


def test_a_server_that_ends_itself_hears_no_more(world):
    heard = []

    def receive(message):
        heard.append(message)
        world.router.termination.terminate(p, BOOM)

    p = world.server(receive)
    world.hear(Send(X, p.pid, 1), Send(X, p.pid, 2))

    assert heard == [1]


def test_after_an_interrupt_in_a_server_the_others_are_still_served(world):
    def interrupted(_):
        raise KeyboardInterrupt

    p, q = world.server(interrupted), world.server()

    with pytest.raises(KeyboardInterrupt):
        world.hear(Send(X, p.pid, 1))
    world.hear(Send(X, q.pid, 2))

    assert q.heard == [2]


# Exit signals


EXITS = [
    # by      reason  traps  dies with  or hears
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
@pytest.mark.parametrize(("by", "reason", "traps", "dies_with", "hears"), EXITS)
def test_what_an_exit_signal_does(world, by, reason, traps, dies_with, hears, remote):  # noqa: PLR0917 - a table
    p, other = world.process(trap=traps), world.process()
    world.connect()
    sender = p.pid if by == "self" else X if remote else other.pid
    match by:
        case "link" if remote:
            world.hear(Link(X, p.pid), ExitLink(X, p.pid, reason))
        case "link":
            p.link(other.pid)
            world.router.termination.terminate(other, reason)
        case "exit2" if remote:
            world.hear(ExitSend(X, p.pid, reason))
        case "exit2":
            other.exit(p.pid, reason)
        case "self":
            p.exit(p.pid, reason)

    assert p.alive is (dies_with is None)
    assert p.exit_reason is dies_with
    assert mailbox(p) == ([] if hears is None else [(EXIT, sender, hears)])


def test_an_exit_over_no_link_is_ignored(world):
    p = world.process()

    world.hear(ExitLink(X, p.pid, BOOM))

    assert p.alive


def test_an_exit_reason_that_is_no_term_is_refused_at_the_call(world):
    p, q = world.process(), world.process()

    for to in (q.pid, p.pid, X):
        with pytest.raises(EncodeError):
            p.exit(to, object())

    assert q.alive
    assert world.enqueued == []


def test_an_exit_signal_goes_to_a_pid(world):
    with pytest.raises(TypeError, match="expected a pid, not 'server'"):
        world.process().exit("server", BOOM)


def test_an_exit_signal_for_a_connected_node_goes_out(world):
    peer, p = world.connect(), world.process()

    p.exit(X, BOOM)

    assert peer.take() == [ExitSend(p.pid, X, BOOM)]


# Links


def test_linked_local_processes_die_together(world):
    p, q, r = world.process(), world.process(), world.process()
    p.link(q.pid)
    r.link(q.pid)

    world.router.termination.terminate(p, BOOM)

    assert (q.exit_reason, r.exit_reason) == (BOOM, BOOM)


def test_a_chain_of_links_of_any_length_dies_as_one(world):
    chain = [world.process() for _ in range(3_000)]
    for one, next_one in itertools.pairwise(chain):
        one.link(next_one.pid)

    world.router.termination.terminate(chain[0], BOOM)

    assert {process.exit_reason for process in chain} == {BOOM}


def test_linking_to_oneself_is_nothing(world):
    p = world.process(trap=True)

    p.link(p.pid)
    p.unlink(p.pid)

    assert p.alive
    assert mailbox(p) == []


@pytest.mark.parametrize("dead", [Pid(A, 999, 0, 1), Pid(A, 64, 0, 9)])
def test_linking_to_the_dead_of_this_node_is_noproc(world, dead):
    p, q = world.process(trap=True), world.process()

    p.link(dead)
    q.link(dead)

    assert mailbox(p) == [(EXIT, dead, NOPROC)]
    assert q.exit_reason is NOPROC


def test_after_unlink_a_death_is_not_heard(world):
    p, q = world.process(), world.process()
    p.link(q.pid)

    q.unlink(p.pid)
    world.router.termination.terminate(p, BOOM)

    assert q.alive


def test_only_pids_are_linked(world):
    p = world.process()

    for act in (p.link, p.unlink):
        with pytest.raises(TypeError, match="expected a pid"):
            act("server")


def test_a_link_to_a_connected_node_goes_out_once(world):
    peer, p = world.connect(), world.process()

    p.link(X)
    p.link(X)

    assert peer.take() == [Link(p.pid, X)]


def test_a_link_from_another_node_ends_with_our_death(world):
    peer, p = world.connect(), world.process()
    world.hear(Link(X, p.pid))

    world.router.termination.terminate(p, BOOM)

    assert peer.take() == [ExitLink(p.pid, X, BOOM)]


def test_a_link_to_a_dead_process_of_ours_is_answered_noproc(world):
    peer = world.connect()
    gone, former = Pid(A, 999, 0, 1), Pid(A, 64, 0, 7)
    world.process()

    world.hear(Link(X, gone), Link(X, former))

    assert peer.take() == [ExitLink(gone, X, NOPROC), ExitLink(former, X, NOPROC)]


def test_an_unlink_is_acknowledged_before_anything_else(world):
    peer, p = world.connect(), world.process()
    world.hear(Link(X, p.pid))

    world.hear(Unlink(9, X, p.pid))
    world.router.termination.terminate(p, BOOM)

    assert peer.take() == [UnlinkAck(9, p.pid, X)]


def test_an_unlink_from_the_dead_is_acknowledged_too(world):
    peer, gone = world.connect(), Pid(A, 999, 0, 1)

    world.hear(Unlink(9, X, gone))

    assert peer.take() == [UnlinkAck(9, gone, X)]


def test_an_unlink_goes_out_and_its_ack_ends_it(world):
    peer, p = world.connect(), world.process()
    p.link(X)

    p.unlink(X)
    _, unlink = peer.take()
    world.hear(ExitLink(X, p.pid, BOOM))
    assert p.alive
    world.hear(UnlinkAck(unlink.id, X, p.pid))

    assert unlink == Unlink(unlink.id, p.pid, X)
    assert len(world.router.links) == 0


# Monitors


def test_a_monitor_of_a_local_process_tells_of_its_death_once(world):
    p, q = world.process(), world.process("server")
    by_pid, by_name, by_node = p.monitor(q.pid), p.monitor("server"), p.monitor(("server", A))

    world.router.termination.terminate(q, BOOM)

    named = (Atom("server"), A)
    assert mailbox(p) == [
        (DOWN, by_pid, PROCESS, q.pid, BOOM),
        (DOWN, by_name, PROCESS, named, BOOM),
        (DOWN, by_node, PROCESS, named, BOOM),
    ]


@pytest.mark.parametrize("gone", [Pid(A, 999, 0, 1), Pid(A, 64, 0, 2), (Atom("nobody"), A)])
def test_a_monitor_of_nobody_says_noproc_at_once(world, gone):
    p = world.process()

    ref = p.monitor(gone)

    assert mailbox(p) == [(DOWN, ref, PROCESS, gone, NOPROC)]


def test_a_server_has_the_reference_of_its_monitor_before_it_hears_the_down(world):
    heard, refs = [], []
    server = world.server(lambda message: heard.append((message[1], list(refs))))

    async def main():
        refs.append(server.monitor(Pid(A, 999, 0, 1)))
        refs.append(server.monitor(Pid(A, 998, 0, 1)))
        await run_iterations(1)

    run(main())

    assert heard == [(refs[0], refs), (refs[1], refs)]


def test_a_monitor_of_oneself_says_nothing_and_leaves_nothing(world):
    p = world.process()

    p.monitor(p.pid)
    world.router.termination.terminate(p, BOOM)

    assert mailbox(p) == []
    world.assert_empty()


def test_after_demonitor_no_down_arrives(world):
    p, q = world.process(), world.process()
    ref = p.monitor(q.pid)

    assert p.demonitor(ref)
    world.router.termination.terminate(q, BOOM)

    assert mailbox(p) == []
    assert not p.demonitor(ref)


def test_a_flush_removes_the_down_that_is_there_and_no_other_message(world):
    p, q = world.process(), world.process()
    ref = p.monitor(q.pid)
    alike = [(Atom("UP"), ref, PROCESS, q.pid, BOOM), (DOWN, ref), (DOWN, REF, PROCESS, q.pid, BOOM)]
    for message in alike:
        q.send(p.pid, message)
    world.router.termination.terminate(q, BOOM)

    assert not p.demonitor(ref, flush=True)

    assert mailbox(p) == alike


def test_a_flush_removes_the_down_that_waits_for_a_servers_turn(world):
    q = world.process()
    heard = []

    def receive(message):
        heard.append(message)
        if message == 1:
            world.router.termination.terminate(q, BOOM)
            p.send(p.pid, 2)
            p.demonitor(ref, flush=True)

    p = world.server(receive)
    ref = p.monitor(q.pid)
    world.hear(Send(X, p.pid, 1))

    assert heard == [1, 2]


def test_nobody_takes_back_the_monitor_of_another(world):
    p, q, r = world.process(), world.process(), world.process()
    ref = p.monitor(q.pid)

    assert not r.demonitor(ref)
    world.router.termination.terminate(q, BOOM)

    assert mailbox(p) == [(DOWN, ref, PROCESS, q.pid, BOOM)]


@pytest.mark.parametrize("nothing", [7, REF, ("a", "b", "c"), None])
def test_what_cannot_be_monitored_is_refused(world, nothing):
    with pytest.raises(TypeError, match="cannot monitor"):
        world.process().monitor(nothing)


def test_a_monitor_of_another_node_is_asked_for_and_taken_back_in_the_same_words(world):
    peer, p = world.connect(), world.process()

    by_pid, by_name = p.monitor(X), p.monitor(("server", B))
    p.demonitor(by_pid)
    p.demonitor(by_name)

    server = Atom("server")
    assert peer.take() == [
        Monitor(p.pid, X, by_pid), Monitor(p.pid, server, by_name),
        Demonitor(p.pid, X, by_pid), Demonitor(p.pid, server, by_name),
    ]  # fmt: skip


def test_a_down_from_the_right_node_is_a_message_once(world):
    p = world.process()
    world.connect()
    by_pid, by_name = p.monitor(X), p.monitor(("server", B))

    for _ in range(2):
        world.hear(Down(X, p.pid, by_pid, BOOM), Down(Atom("server"), p.pid, by_name, BOOM))

    assert mailbox(p) == [
        (DOWN, by_pid, PROCESS, X, BOOM),
        (DOWN, by_name, PROCESS, (Atom("server"), B), BOOM),
    ]


def test_a_down_forged_by_a_third_node_is_ignored(world):
    p = world.process()
    world.connect()
    ref = p.monitor(X)

    world.hear(Down(X, p.pid, ref, BOOM), peer=C)

    assert mailbox(p) == []


def test_monitors_of_other_nodes_hear_of_deaths_here_in_their_own_words(world):
    peer, p = world.connect(), world.process("server")
    refs = [Ref(B, 5, (n, 0, 0)) for n in range(3)]
    world.hear(Monitor(X, p.pid, refs[0]), Monitor(X, Atom("server"), refs[1]), Monitor(Y, p.pid, refs[2]))
    world.hear(Demonitor(Y, p.pid, refs[2]))

    world.router.termination.terminate(p, BOOM)

    assert peer.take() == [Down(p.pid, X, refs[0], BOOM), Down(Atom("server"), X, refs[1], BOOM)]


@pytest.mark.parametrize("target", [Pid(A, 999, 0, 1), Pid(A, 64, 0, 2), Pid(C, 64, 0, 1), Atom("nobody")])
def test_a_monitor_from_another_node_of_nobody_is_answered_noproc(world, target):
    peer = world.connect()
    world.process()

    world.hear(Monitor(X, target, REF))

    assert peer.take() == [Down(target, X, REF, NOPROC)]


def test_at_a_death_links_are_told_before_monitors_and_watches_taken_back_last(world):
    peer, p = world.connect(), world.process()
    mine = p.monitor(Y)
    peer.take()
    world.hear(Monitor(X, p.pid, REF), Link(X, p.pid))

    world.router.termination.terminate(p, BOOM)

    assert peer.take() == [ExitLink(p.pid, X, BOOM), Down(p.pid, X, REF, BOOM), Demonitor(p.pid, Y, mine)]


def test_the_second_end_of_a_process_is_nothing(world):
    p, q = world.process(), world.process(trap=True)
    q.link(p.pid)

    world.router.termination.terminate(p, BOOM)
    world.router.termination.terminate(p, KILLED)

    assert p.exit_reason is BOOM
    assert mailbox(q) == [(EXIT, p.pid, BOOM)]


# Names


def test_a_name_is_one_processs_and_free_after_its_death(world):
    p, q = world.process("server"), world.process()

    with pytest.raises(ValueError, match=r"the name server is taken by <\d+.64.0>"):
        world.router.registry.register_name(Atom("server"), q)
    world.router.termination.terminate(p, BOOM)
    world.router.registry.register_name(Atom("server"), q)

    assert world.router.registry.names == {Atom("server"): q}


def test_a_name_that_is_taken_back_stays_back(world):
    p = world.process("server")

    assert world.router.registry.unregister_name(Atom("server"))
    assert not world.router.registry.unregister_name(Atom("server"))
    world.router.registry.register_name(Atom("server"), world.process())
    world.router.termination.terminate(p, BOOM)

    assert Atom("server") in world.router.registry.names


# Nodes that are not connected


def test_signals_to_an_unconnected_node_are_held_in_order(world):
    p = world.process()

    p.send(X, 1)
    p.link(X)
    ref = p.monitor(X)
    p.exit(X, BOOM)
    p.send(REF, 2)
    p.send(("server", B), 3)

    assert world.enqueued == [
        (B, signal)
        for signal in (
            Send(p.pid, X, 1), Link(p.pid, X), Monitor(p.pid, X, ref), ExitSend(p.pid, X, BOOM),
            SendAlias(p.pid, REF, 2), SendName(p.pid, Atom("server"), 3),
        )
    ]  # fmt: skip


def test_what_is_no_term_is_refused_before_it_is_held(world):
    p = world.process()

    for connect in (True, False):
        with pytest.raises(EncodeError):
            p.send(X, object(), connect=connect)

    assert world.enqueued == []


def test_noconnect_drops_a_message_only_if_no_connection_is_under_way(world):
    p = world.process()

    p.send(X, 1, connect=False)
    p.send(X, 2)
    p.send(X, 3, connect=False)

    assert [signal.message for _, signal in world.enqueued] == [2, 3]


def test_what_takes_something_back_follows_what_is_held(world):
    p = world.process()
    p.link(X)
    p.link(Y)
    first, second = p.monitor(X), p.monitor(Y)

    p.unlink(X)
    p.demonitor(first)
    world.router.termination.terminate(p, BOOM)

    assert [signal for _, signal in world.enqueued[4:]] == [
        Unlink(1, p.pid, X), Demonitor(p.pid, X, first), ExitLink(p.pid, Y, BOOM), Demonitor(p.pid, Y, second),
    ]  # fmt: skip


def give_back(world):
    held, world.enqueued = world.enqueued, []
    world.outgoing.clear()
    for node, signal in held:
        world.router.termination.undeliverable(signal, node)


def test_what_cannot_be_delivered_comes_back_as_noconnection(world):
    p, q = world.process(trap=True), world.process()
    p.link(X)
    q.link(X)
    by_pid, by_name = p.monitor(X), p.monitor(("server", B))
    p.send(X, 1)
    p.exit(X, BOOM)

    give_back(world)

    assert mailbox(p) == [
        (EXIT, X, NOCONNECTION),
        (DOWN, by_pid, PROCESS, X, NOCONNECTION),
        (DOWN, by_name, PROCESS, (Atom("server"), B), NOCONNECTION),
    ]
    assert q.exit_reason is NOCONNECTION


def test_what_was_taken_back_in_time_does_not_come_back(world):
    p = world.process(trap=True)
    p.link(X)
    ref = p.monitor(X)
    p.unlink(X)
    p.demonitor(ref)

    give_back(world)

    assert mailbox(p) == []
    assert len(world.router.links) == 0


# Nodes that go


def test_a_lost_node_breaks_links_and_monitors_in_both_directions(world):
    p = world.process(trap=True)
    world.connect()
    third = world.connect(C)
    p.link(X)
    p.link(Z)
    ref, other = p.monitor(X), p.monitor(Z)
    world.hear(Link(Y, p.pid), Monitor(Y, p.pid, REF))
    third.take()

    world.disconnect(B)

    assert mailbox(p) == [(EXIT, X, NOCONNECTION), (EXIT, Y, NOCONNECTION), (DOWN, ref, PROCESS, X, NOCONNECTION)]
    world.router.termination.terminate(p, BOOM)
    assert third.take() == [ExitLink(p.pid, Z, BOOM), Demonitor(p.pid, Z, other)]
    world.connect(B)
    assert world.router.peers[B].take() == []


def test_a_lost_node_ends_those_linked_to_it(world):
    p = world.process()
    world.connect()
    p.link(X)
    p.link(Y)

    world.disconnect()

    assert p.exit_reason is NOCONNECTION


def test_who_watches_a_lost_node_anew_on_hearing_of_it_is_not_told_of_the_old_connection(world):
    world.connect()
    heard = []

    def receive(message):
        heard.append(message)
        if len(heard) == 1:
            heard.append(p.monitor(X))
            p.link(X)

    p = world.server(receive, trap=True)
    p.link(X)
    world.disconnect()

    assert heard[0] == (EXIT, X, NOCONNECTION)
    assert len(heard) == 2
    assert world.enqueued == [(B, Monitor(p.pid, X, heard[1])), (B, Link(p.pid, X))]


def test_who_unlinks_on_hearing_of_a_loss_leaves_nothing(world):
    world.connect()

    def receive(_):
        q.unlink(X)

    p, q = world.server(receive, trap=True), world.process(trap=True)
    p.link(X)
    q.link(X)
    world.disconnect()

    assert mailbox(q) == []
    assert len(world.router.links) == 0


def test_what_a_node_said_behind_its_own_end_is_not_heard(world):
    world.connect()

    def receive(_):
        world.disconnect()

    p, q = world.server(receive), world.process()
    world.hear(Send(X, p.pid, 1), Send(X, q.pid, 2), Monitor(X, q.pid, REF), Link(X, q.pid))

    assert mailbox(q) == []
    assert (len(world.router.links), len(world.router.monitors)) == (0, 0)


# The dead


def test_the_dead_can_send_and_take_back_but_not_wait_link_or_watch(world):
    p, q = world.process(), world.process()
    ref, alias = p.monitor(q.pid), p.alias()
    world.router.termination.terminate(p, BOOM)

    p.send(q.pid, 1)
    assert not p.demonitor(ref)
    assert not p.unalias(alias)
    p.unlink(q.pid)
    for act in (lambda: p.link(q.pid), lambda: p.monitor(q.pid), p.alias, lambda: p.spawn(None, link=True)):
        with pytest.raises(Exit) as ended:
            act()
        assert ended.value.reason is BOOM

    assert mailbox(q) == [1]


def test_the_dead_wait_for_nothing(world):
    async def main():
        p = world.process()
        p.send(p.pid, 1)
        world.router.termination.terminate(p, BOOM)
        assert await p.receive() == 1
        with pytest.raises(Exit):
            await p.receive()
        with pytest.raises(Exit):
            await p.receive(timeout=1)
        with pytest.raises(Exit):
            await p.call("server", 1)

    run(main())


# Calls


class Calls(World):
    """Calls are awaited by tasks; their callers are processes without one."""

    def call(self, caller, to, timeout=5.0):
        return asyncio.create_task(caller.call(to, Atom("question"), timeout=timeout))

    def assert_no_trace(self, *callers):
        assert self.router.registry.aliases == {}
        assert len(self.router.monitors) == 0
        assert all(caller._pending_calls == {} and caller._aliases == {} for caller in callers)


@pytest.fixture
def calls():
    return Calls()


def asked(process):
    kind, caller, request = process._mailbox.take()
    assert (kind, request) == (GEN_CALL, Atom("question"))
    return caller


def test_a_call_is_answered_at_its_alias(calls):
    async def main():
        p, q = calls.process(), calls.process("server")
        answer = calls.call(p, "server")
        await run_iterations()

        q.reply(asked(q), Atom("answer"))

        assert await answer is Atom("answer")
        assert mailbox(p) == []
        assert all(timer.cancelled() for timer in asyncio.get_running_loop()._scheduled)
        calls.assert_no_trace(p)

    run(main())


def test_a_call_is_answered_at_its_pid_as_otp_23_does(calls):
    async def main():
        peer, p = calls.connect(), calls.process()
        answer = calls.call(p, ("server", B))
        await run_iterations()
        monitor, request = peer.take()
        caller, tag = request.message[1]

        calls.hear(Send(X, p.pid, (tag, Atom("answer"))))

        assert isinstance(monitor, Monitor)
        assert caller == p.pid
        assert await answer is Atom("answer")
        assert mailbox(p) == []
        assert peer.take() == [Demonitor(p.pid, Atom("server"), monitor.ref)]
        calls.assert_no_trace(p)

    run(main())


def test_a_server_may_call_and_is_answered_at_its_pid(calls):
    async def main():
        calls.connect()
        p = calls.server()
        answer = calls.call(p, X)
        await run_iterations()
        tag = calls.router.peers[B].take()[1].message[1][1]

        calls.hear(Send(X, p.pid, (tag, 7)), Send(X, p.pid, 8))

        assert await answer == 7
        assert p.heard == [8]

    run(main())


@pytest.mark.parametrize(
    "other",
    [7, (1, 2, 3), (ImproperList((Atom("alias"),), REF), 1), (ImproperList((1,), 2), 1), (REF, 1)],
)
def test_messages_that_answer_nothing_go_to_the_mailbox_during_a_call(calls, other):
    async def main():
        p, q = calls.process(), calls.process()
        answer = calls.call(p, q.pid)
        await run_iterations()

        q.send(p.pid, other)
        q.reply(asked(q), 1)

        assert await answer == 1
        assert mailbox(p) == [other]

    run(main())


def test_the_second_answer_is_dropped(calls):
    async def main():
        p, q = calls.process(), calls.process()
        answer = calls.call(p, q.pid)
        await run_iterations()
        caller = asked(q)

        q.reply(caller, 1)
        q.reply(caller, 2)
        q.send(p.pid, (caller[1], 3))
        calls.router.termination.terminate(q, BOOM)

        assert await answer == 1
        q.reply(caller, 4)
        assert mailbox(p) == []

    run(main())


@pytest.mark.parametrize("nobody", [Pid(A, 999, 0, 1), "nobody", ("nobody", A)])
def test_a_call_to_nobody_is_no_process(calls, nobody):
    async def main():
        p = calls.process()

        with pytest.raises(NoProcess, match=r"there is no process (<\d+.999.0>|nobody on a@h)"):
            await p.call(nobody, 1)

        calls.assert_no_trace(p)
        assert mailbox(p) == []

    run(main())


def test_a_call_to_a_node_that_cannot_be_reached_says_why(calls):
    calls.router.last_connect_error = {"b@h": "its host is unknown"}.get

    async def main():
        p = calls.process()
        by_pid, by_name = calls.call(p, X), calls.call(p, ("server", B))
        await run_iterations()

        give_back(calls)

        for answer in (by_pid, by_name):
            with pytest.raises(NoConnection, match="no connection to b@h: its host is unknown"):
                await answer
        calls.assert_no_trace(p)

    run(main())


def test_a_call_to_a_node_that_is_lost_is_no_connection(calls):
    async def main():
        calls.connect()
        p = calls.process()
        answer = calls.call(p, X)
        await run_iterations()

        calls.disconnect()

        with pytest.raises(NoConnection, match=r"no connection to b@h$"):
            await answer

    run(main())


def test_a_call_to_one_who_dies_is_callee_exited_with_the_reason(calls):
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


def test_a_call_without_an_answer_times_out_and_a_late_answer_is_dropped(calls):
    async def main():
        p, q = calls.process(), calls.process()
        loop = asyncio.get_running_loop()

        with pytest.raises(CallTimeout, match=r"no answer from <\d+.65.0> within 2.5 s"):
            await p.call(q.pid, Atom("question"), timeout=2.5)

        assert loop.time() == pytest.approx(2.5)
        q.reply(asked(q), 1)
        assert mailbox(p) == []
        calls.assert_no_trace(p)

    run(main())


def test_a_call_without_a_limit_waits(calls):
    async def main():
        p, q = calls.process(), calls.process()
        answer = calls.call(p, q.pid, timeout=None)
        await asyncio.sleep(1_000_000)

        q.reply(asked(q), 1)

        assert await answer == 1

    run(main())


def test_a_call_cancelled_by_its_caller_leaves_nothing_and_a_late_answer_is_dropped(calls):
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
        calls.hear(SendAlias(X, monitor.ref, (request.message[1][1], 1)), Down(X, p.pid, monitor.ref, BOOM))
        assert mailbox(p) == []

    run(main())


def test_a_call_ends_with_its_caller(calls):
    async def main():
        p, q = calls.process(), calls.process()
        answer = calls.call(p, q.pid, timeout=None)
        await run_iterations()

        calls.router.termination.terminate(p, BOOM)

        with pytest.raises(Exit):
            await answer
        calls.assert_no_trace(p)

    run(main())


def test_a_request_that_is_no_term_leaves_no_monitor_behind(calls):
    async def main():
        p = calls.process()

        with pytest.raises(EncodeError):
            await p.call(X, object())

        assert [type(signal) for _, signal in calls.enqueued] == [Monitor, Demonitor]
        calls.assert_no_trace(p)

    run(main())


@pytest.mark.parametrize("nothing", [7, REF, ("a", "b", "c")])
def test_what_cannot_be_called_is_refused(calls, nothing):
    async def main():
        p = calls.process()

        with pytest.raises(TypeError):
            await p.call(nothing, 1)

        calls.assert_no_trace(p)

    run(main())


def test_many_calls_are_told_apart(calls):
    async def main():
        p, q = calls.process(), calls.process()
        answers = [calls.call(p, q.pid) for _ in range(50)]
        await run_iterations()
        callers = [asked(q) for _ in range(50)]

        for number, caller in reversed(list(enumerate(callers))):
            q.reply(caller, number)

        assert await asyncio.gather(*answers) == list(range(50))
        calls.assert_no_trace(p)

    run(main())


def test_calls_that_are_answered_at_once_let_others_run(calls):
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
