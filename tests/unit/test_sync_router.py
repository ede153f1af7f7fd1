"""The tables of a synchronous node, on signals alone."""

import pytest

from erlmesh.core.identifiers import Identifiers
from erlmesh.proto.control import (
    Down,
    ExitLink,
    ExitSend,
    Link,
    Monitor,
    Send,
    SendAlias,
    SendName,
    SpawnReply,
    SpawnRequest,
)
from erlmesh.sync.router import SyncRouter
from erlmesh.sync.waiting import PendingCall
from erlmesh.terms import Atom, ImproperList, Pid, Ref

PEER, OTHER = Atom("peer@127.0.0.1"), Atom("other@127.0.0.1")
CALLEE = Pid(PEER, 50, 0, 7)


class Setup:
    def __init__(self):
        self.sent = []
        self.router = SyncRouter(
            Identifiers(Atom("me@127.0.0.1"), 9), lambda node, each: self.sent.append((node, each))
        )

    def call(self, node=PEER, target=CALLEE):
        call = PendingCall(node, target)
        self.router.add_call(call)
        return call


@pytest.fixture
def setup():
    return Setup()


def alias_of(ref):
    return ImproperList((Atom("alias"),), ref)


def test_a_reply_to_the_alias_ends_the_call(setup):
    call = setup.call()

    setup.router.apply(SendAlias(CALLEE, call.ref, (alias_of(call.ref), 1)), PEER)

    assert (call.remaining, call.reply, setup.router.pending) == (0, 1, {})


@pytest.mark.parametrize("tag", [lambda ref: ref, alias_of], ids=["reference", "alias"])
def test_a_reply_to_the_pid_ends_the_call(setup, tag):
    pid = setup.router.open_server(lambda _: None)
    call = setup.call()

    setup.router.apply(Send(CALLEE, pid, (tag(call.ref), 1)), PEER)

    assert (call.remaining, call.reply) == (0, 1)


def test_a_reply_to_a_pid_of_an_earlier_incarnation_is_dropped(setup):
    pid = setup.router.open_server(lambda _: None)
    call = setup.call()

    setup.router.apply(Send(CALLEE, Pid(pid.node, pid.id, pid.serial, 8), (call.ref, 1)), PEER)

    assert call.remaining == 1


def test_only_the_node_of_the_callee_can_end_a_call_with_a_down(setup):
    call = setup.call()

    setup.router.apply(Down(CALLEE, Pid(Atom("me@127.0.0.1"), 1, 0, 9), call.ref, Atom("forged")), OTHER)
    assert call.remaining == 1
    setup.router.apply(Down(CALLEE, Pid(Atom("me@127.0.0.1"), 1, 0, 9), call.ref, Atom("noproc")), PEER)
    assert (call.remaining, call.down_reason) == (0, Atom("noproc"))


def test_a_lost_connection_ends_the_calls_to_that_node_only(setup):
    lost, kept = setup.call(), setup.call(OTHER)

    setup.router.connection_lost(PEER)

    assert (lost.down_reason, kept.remaining) == (Atom("noconnection"), 1)
    assert list(setup.router.pending) == [kept.ref]


def test_a_process_that_starts_after_its_caller_gave_up_is_cancelled(setup):
    call = setup.call(target=None)
    me = Pid(Atom("me@127.0.0.1"), 1, 0, 9)
    setup.router.apply(SpawnReply(call.ref, me, 2, CALLEE), PEER)
    assert (call.target, call.remaining) == (CALLEE, 1)
    del setup.router.pending[call.ref]

    setup.router.apply(SpawnReply(call.ref, me, 2, CALLEE), PEER)

    assert [(node, type(each).__name__) for node, each in setup.sent] == [(PEER, "Demonitor")]


def test_a_refused_process_ends_the_call_with_an_error(setup):
    call = setup.call(target=None)

    setup.router.apply(SpawnReply(call.ref, CALLEE, 0, Atom("badopt")), PEER)

    assert call.remaining == 0
    assert "badopt" in str(call.error)


def test_no_process_is_started_for_others(setup):
    ref = Ref(PEER, 7, (1, 2, 3))

    setup.router.apply(SpawnRequest(ref, CALLEE, CALLEE, Atom("m"), Atom("f"), 0, [], []), PEER)

    assert setup.sent == [(PEER, SpawnReply(ref, CALLEE, 0, Atom("notsup")))]


def test_a_ping_is_answered(setup):
    ref = Ref(PEER, 7, (1, 2, 3))
    message = (Atom("$gen_call"), (CALLEE, alias_of(ref)), (Atom("is_auth"), PEER))

    setup.router.apply(SendName(CALLEE, Atom("net_kernel"), message), PEER)

    assert setup.sent == [(PEER, SendAlias(CALLEE, ref, (alias_of(ref), Atom("yes"))))]


@pytest.mark.parametrize("target", ["pid", "name"])
def test_a_monitor_of_nothing_gets_noproc(setup, target):
    ref = Ref(PEER, 7, (1, 2, 3))
    what = Pid(Atom("me@127.0.0.1"), 900, 0, 9) if target == "pid" else Atom("nobody")

    setup.router.apply(Monitor(CALLEE, what, ref), PEER)

    assert setup.sent == [(PEER, Down(what, CALLEE, ref, Atom("noproc")))]


def test_the_end_of_a_process_reaches_its_links_and_monitors(setup):
    mailbox = setup.router.open_mailbox(Atom("inbox"))
    ref = Ref(PEER, 7, (1, 2, 3))
    setup.router.apply(Monitor(CALLEE, Atom("inbox"), ref), PEER)
    setup.router.apply(Link(CALLEE, mailbox.pid), PEER)

    setup.router.apply(ExitSend(CALLEE, mailbox.pid, Atom("kill")), PEER)

    assert setup.sent == [
        (PEER, Down(Atom("inbox"), CALLEE, ref, Atom("killed"))),
        (PEER, ExitLink(mailbox.pid, CALLEE, Atom("killed"))),
    ]
    assert mailbox.exit_reason is Atom("killed")
    assert setup.router.open_mailbox(Atom("inbox")).exit_reason is None  # the name is free


def test_an_exit_signal_becomes_a_message(setup):
    mailbox = setup.router.open_mailbox()
    setup.router.apply(Link(CALLEE, mailbox.pid), PEER)

    setup.router.apply(ExitLink(CALLEE, mailbox.pid, Atom("shutdown")), PEER)
    setup.router.apply(ExitLink(CALLEE, mailbox.pid, Atom("again")), PEER)  # the link has ended

    assert mailbox.take(None) == (Atom("EXIT"), CALLEE, Atom("shutdown"))
    assert len(mailbox) == 0


def test_a_library_that_stops_a_process_gets_its_answer(setup):
    mailbox = setup.router.open_mailbox()
    ref = Ref(PEER, 7, (1, 2, 3))
    caller = (CALLEE, alias_of(ref))

    setup.router.apply(Send(CALLEE, mailbox.pid, (Atom("system"), caller, Atom("get_state"))), PEER)
    setup.router.apply(Send(CALLEE, mailbox.pid, (Atom("system"), caller, (Atom("terminate"), Atom("bye")))), PEER)

    assert [each.message[1] for _, each in setup.sent] == [
        (Atom("error"), (Atom("unknown_system_msg"), Atom("get_state"))),
        Atom("ok"),
    ]
    assert mailbox.exit_reason is Atom("bye")


def test_no_process_is_registered_as_undefined(setup):
    with pytest.raises(ValueError, match="cannot be registered as undefined"):
        setup.router.open_mailbox(Atom("undefined"))
