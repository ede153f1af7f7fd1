"""Signals and their control tuples, in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.errors import LocalProtocolError, RemoteProtocolError
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
from erlmesh.proto.decode_control import decode_control
from erlmesh.proto.encode_control import encode_control
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.ops import NO_MESSAGE, carries_message
from erlmesh.terms import Atom, Pid, Ref

PEER = Atom("peer@127.0.0.1")
THEIRS = Pid(PEER, 85, 0, 1)
OURS = Pid(Atom("ours@127.0.0.1"), 3, 0, 2)
THIRD = Pid(Atom("third@127.0.0.1"), 3, 0, 2)
REF = Ref(PEER, 1, (1, 2, 3))
NAME, MESSAGE, REASON = Atom("rex"), (Atom("ping"), 1), Atom("killed")
TOKEN = (0, 17, 1, THEIRS, 0)
MFA = (Atom("erpc"), Atom("execute_call"), 4)
OPTIONS = [Atom("monitor")]
EMPTY = Atom("")

# The forms of OTP 25 with a peer that has all capabilities, from `erl_dist_protocol` and captures.
CURRENT_FORMS = [
    (Send(THEIRS, OURS, MESSAGE), (22, THEIRS, OURS), MESSAGE),
    (Send(THEIRS, OURS, MESSAGE, TOKEN), (23, THEIRS, OURS, TOKEN), MESSAGE),
    (Send(None, OURS, MESSAGE), (2, EMPTY, OURS), MESSAGE),
    (Send(None, OURS, MESSAGE, TOKEN), (12, EMPTY, OURS, TOKEN), MESSAGE),
    (SendName(THEIRS, NAME, MESSAGE), (6, THEIRS, EMPTY, NAME), MESSAGE),
    (SendName(THEIRS, NAME, MESSAGE, TOKEN), (16, THEIRS, EMPTY, NAME, TOKEN), MESSAGE),
    (SendAlias(THEIRS, REF, MESSAGE), (33, THEIRS, REF), MESSAGE),
    (SendAlias(THEIRS, REF, MESSAGE, TOKEN), (34, THEIRS, REF, TOKEN), MESSAGE),
    (Link(THEIRS, OURS), (1, THEIRS, OURS), NO_MESSAGE),
    (Unlink(7, THEIRS, OURS), (35, 7, THEIRS, OURS), NO_MESSAGE),
    (Unlink(None, THEIRS, OURS), (4, THEIRS, OURS), NO_MESSAGE),
    (UnlinkAck(7, THEIRS, OURS), (36, 7, THEIRS, OURS), NO_MESSAGE),
    (ExitLink(THEIRS, OURS, REASON), (24, THEIRS, OURS), REASON),
    (ExitLink(THEIRS, OURS, REASON, TOKEN), (25, THEIRS, OURS, TOKEN), REASON),
    (ExitSend(THEIRS, OURS, REASON), (26, THEIRS, OURS), REASON),
    (ExitSend(THEIRS, OURS, REASON, TOKEN), (27, THEIRS, OURS, TOKEN), REASON),
    (Monitor(THEIRS, OURS, REF), (19, THEIRS, OURS, REF), NO_MESSAGE),
    (Monitor(THEIRS, NAME, REF), (19, THEIRS, NAME, REF), NO_MESSAGE),
    (Demonitor(THEIRS, OURS, REF), (20, THEIRS, OURS, REF), NO_MESSAGE),
    (Demonitor(THEIRS, NAME, REF), (20, THEIRS, NAME, REF), NO_MESSAGE),
    (Down(THEIRS, OURS, REF, REASON), (28, THEIRS, OURS, REF), REASON),
    (Down(NAME, OURS, REF, REASON), (28, NAME, OURS, REF), REASON),
    (GroupLeader(THEIRS, OURS), (7, THEIRS, OURS), NO_MESSAGE),
    (SpawnRequest(REF, THEIRS, THEIRS, *MFA, OPTIONS, [1]), (29, REF, THEIRS, THEIRS, MFA, OPTIONS), [1]),
    (
        SpawnRequest(REF, THEIRS, THEIRS, *MFA, NAME, [1]),
        (29, REF, THEIRS, THEIRS, MFA, NAME),
        [1],
    ),  # the receiver answers badopt
    (SpawnRequest(REF, THEIRS, THEIRS, *MFA, [], [], TOKEN), (30, REF, THEIRS, THEIRS, MFA, [], TOKEN), []),
    (SpawnReply(REF, OURS, 2, THEIRS), (31, REF, OURS, 2, THEIRS), NO_MESSAGE),
    (SpawnReply(REF, OURS, 0, Atom("badopt")), (31, REF, OURS, 0, Atom("badopt")), NO_MESSAGE),
    (SpawnReply(REF, OURS, 2, THEIRS, TOKEN), (32, REF, OURS, 2, THEIRS, TOKEN), NO_MESSAGE),
]
# The forms without EXIT_PAYLOAD, SEND_SENDER and UNLINK_ID.
OLDER_FORMS = [
    (Send(None, OURS, MESSAGE), (2, EMPTY, OURS), MESSAGE),
    (ExitLink(THEIRS, OURS, REASON), (3, THEIRS, OURS, REASON), NO_MESSAGE),
    (ExitLink(THEIRS, OURS, REASON, TOKEN), (13, THEIRS, OURS, TOKEN, REASON), NO_MESSAGE),
    (ExitSend(THEIRS, OURS, REASON), (8, THEIRS, OURS, REASON), NO_MESSAGE),
    (ExitSend(THEIRS, OURS, REASON, TOKEN), (18, THEIRS, OURS, TOKEN, REASON), NO_MESSAGE),
    (Down(NAME, OURS, REF, REASON), (21, NAME, OURS, REF, REASON), NO_MESSAGE),
    (Unlink(None, THEIRS, OURS), (4, THEIRS, OURS), NO_MESSAGE),
]
OLD = OFFERED & ~(Flags.EXIT_PAYLOAD | Flags.SEND_SENDER | Flags.UNLINK_ID)


def case_id(case):
    return f"{type(case[0]).__name__}-{case[1][0]}"


def heard(control, message=NO_MESSAGE):
    return decode_control(control, message, PEER)


@pytest.mark.parametrize(("signal", "control", "message"), CURRENT_FORMS, ids=map(case_id, CURRENT_FORMS))
def test_a_signal_has_this_control_tuple(signal, control, message):
    assert encode_control(signal, OFFERED) == (control, message)
    assert heard(control, message) == signal
    assert carries_message(control) == (message is not NO_MESSAGE)


@pytest.mark.parametrize(("signal", "control", "message"), OLDER_FORMS, ids=map(case_id, OLDER_FORMS))
def test_a_signal_to_an_older_peer_has_this_control_tuple(signal, control, message):
    assert encode_control(signal, OLD) == (control, message)
    assert heard(control, message) == signal
    assert carries_message(control) == (message is not NO_MESSAGE)


def test_an_older_peer_gets_no_sender_and_no_unlink_id():
    assert encode_control(Send(THEIRS, OURS, MESSAGE), OLD)[0] == (2, EMPTY, OURS)
    assert encode_control(Unlink(7, THEIRS, OURS), OLD)[0] == (4, THEIRS, OURS)


@pytest.mark.parametrize(
    ("signal", "flag"),
    [
        (SendAlias(THEIRS, REF, MESSAGE), Flags.ALIAS),
        (UnlinkAck(1, THEIRS, OURS), Flags.UNLINK_ID),
        (SpawnRequest(REF, THEIRS, THEIRS, *MFA, [], []), Flags.SPAWN),
        (SpawnReply(REF, OURS, 0, THEIRS), Flags.SPAWN),
    ],
)
def test_a_signal_that_the_peer_does_not_know_is_a_local_error(signal, flag):
    with pytest.raises(LocalProtocolError, match=f"{flag.name} was not negotiated"):
        encode_control(signal, OFFERED & ~flag)


@pytest.mark.parametrize(
    ("control", "signal"),
    [
        ((37, 0, THEIRS, OURS), Send(THEIRS, OURS, MESSAGE)),
        ((37, 1, THEIRS, OURS, 1, 2, 3), Send(THEIRS, OURS, MESSAGE)),
        ((37, 2, THEIRS, OURS, TOKEN), Send(THEIRS, OURS, MESSAGE, TOKEN)),
        ((37, 4, THEIRS, REF), SendAlias(THEIRS, REF, MESSAGE)),
        ((37, 8 | 64, THEIRS, NAME), SendName(THEIRS, NAME, MESSAGE)),
        ((37, 16, THEIRS, OURS), ExitSend(THEIRS, OURS, MESSAGE)),
    ],
)
def test_the_altact_op_of_otp_28_is_decoded(control, signal):
    assert heard(control, MESSAGE) == signal


def test_true_and_false_are_decoded_as_names():
    assert heard((6, THEIRS, EMPTY, True), MESSAGE) == SendName(THEIRS, Atom("true"), MESSAGE)
    assert heard((19, THEIRS, False, REF)) == Monitor(THEIRS, Atom("false"), REF)


@pytest.mark.parametrize("control", [(), 1, [1], Atom("x"), (True, THEIRS, OURS), (1.0, THEIRS, OURS), ("1",), (None,)])
def test_a_term_that_is_not_a_control_tuple_is_refused(control):
    with pytest.raises(RemoteProtocolError, match="not a control tuple"):
        carries_message(control)


@pytest.mark.parametrize(
    "control", [control for _, control, _ in CURRENT_FORMS + OLDER_FORMS], ids=lambda control: str(control[0])
)
@pytest.mark.parametrize("change", [lambda control: (*control, 1), lambda control: control[:-1]], ids=["more", "less"])
def test_a_tuple_of_another_size_is_refused(control, change):
    with pytest.raises(RemoteProtocolError, match="Invalid distribution message"):
        heard(change(control), [])


@pytest.mark.parametrize(
    "control",
    [
        (99, THEIRS, OURS),
        (5, THEIRS, OURS),
        (1, THIRD, OURS),
        (1, THEIRS, NAME),
        (4, THIRD, OURS),
        (35, 1, THIRD, OURS),
        (35, 0, THEIRS, OURS),
        (35, 1 << 64, THEIRS, OURS),
        (35, True, THEIRS, OURS),
        (36, 0, THEIRS, OURS),
        (19, THIRD, OURS, REF),
        (19, THEIRS, OURS, NAME),
        (19, THEIRS, 1, REF),
        (20, THIRD, OURS, REF),
        (28, REF, OURS, REF),
        (28, THEIRS, NAME, REF),
        (24, THIRD, OURS),
        (26, THIRD, OURS),
        (8, THIRD, OURS, REASON),
        (3, THIRD, OURS, REASON),
        (6, NAME, EMPTY, NAME),
        (6, THEIRS, EMPTY, THEIRS),
        (22, NAME, OURS),
        (22, THEIRS, NAME),
        (33, THEIRS, OURS),
        (29, REF, THIRD, THEIRS, MFA, []),
        (29, REF, THEIRS, THEIRS, (Atom("m"), Atom("f")), []),
        (29, REF, THEIRS, THEIRS, (Atom("m"), Atom("f"), True), []),
        (29, REF, THEIRS, THEIRS, (Atom("m"), 1, 0), []),
        (31, REF, OURS, NAME, THEIRS),
        (31, REF, OURS, 0, 1),
        (37, 16, THIRD, OURS),
        (37, 0, THEIRS, NAME),
        (37, 8, THEIRS, 1),
        (37, 0, THEIRS, REF),
    ],
    ids=str,
)
def test_a_malformed_tuple_is_refused_and_shown_in_the_error(control):
    with pytest.raises(RemoteProtocolError, match=rf"Invalid distribution message: \{{{control[0]},"):
        heard(control, [])


def test_the_sender_of_a_message_is_not_checked_as_in_otp():
    assert heard((22, THIRD, OURS), MESSAGE) == Send(THIRD, OURS, MESSAGE)


TERMS = st.sampled_from(
    [THEIRS, OURS, THIRD, REF, NAME, EMPTY, TOKEN, MFA, OPTIONS, [], 0, 1, 1 << 64, True, 1.0, b"x"]
)


@given(st.lists(TERMS, max_size=6), st.integers(-1, 40))
def test_any_tuple_gives_a_signal_or_a_remote_protocol_error(elements, op):
    control = (op, *elements)
    try:
        message = MESSAGE if carries_message(control) else NO_MESSAGE
        signal = heard(control, message)
    except RemoteProtocolError:
        return
    if op != 37:
        again, same_message = encode_control(signal, OFFERED if op > 21 or op in (1, 4, 6, 7, 16, 19, 20) else OLD)
        assert heard(again, same_message) == signal
