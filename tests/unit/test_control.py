"""Signals and their control tuples, in both directions."""

import gc
import weakref

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

PEER = Atom("remote@127.0.0.1")
REMOTE = Pid(PEER, 85, 0, 1)
LOCAL = Pid(Atom("local@127.0.0.1"), 3, 0, 2)
THIRD = Pid(Atom("third@127.0.0.1"), 3, 0, 2)
REF = Ref(PEER, 1, (1, 2, 3))
NAME, MESSAGE, REASON = Atom("rex"), (Atom("ping"), 1), Atom("killed")
TOKEN = (0, 17, 1, REMOTE, 0)
MFA = (Atom("erpc"), Atom("execute_call"), 4)
OPTIONS = [Atom("monitor")]
EMPTY = Atom("")

# The forms of OTP 25 with a peer that has all capabilities, from `erl_dist_protocol` and captures.
CURRENT_FORMS = [
    (Send(REMOTE, LOCAL, MESSAGE), (22, REMOTE, LOCAL), MESSAGE),
    (Send(REMOTE, LOCAL, MESSAGE, TOKEN), (23, REMOTE, LOCAL, TOKEN), MESSAGE),
    (Send(None, LOCAL, MESSAGE), (2, EMPTY, LOCAL), MESSAGE),
    (Send(None, LOCAL, MESSAGE, TOKEN), (12, EMPTY, LOCAL, TOKEN), MESSAGE),
    (SendName(REMOTE, NAME, MESSAGE), (6, REMOTE, EMPTY, NAME), MESSAGE),
    (SendName(REMOTE, NAME, MESSAGE, TOKEN), (16, REMOTE, EMPTY, NAME, TOKEN), MESSAGE),
    (SendAlias(REMOTE, REF, MESSAGE), (33, REMOTE, REF), MESSAGE),
    (SendAlias(REMOTE, REF, MESSAGE, TOKEN), (34, REMOTE, REF, TOKEN), MESSAGE),
    (Link(REMOTE, LOCAL), (1, REMOTE, LOCAL), NO_MESSAGE),
    (Unlink(7, REMOTE, LOCAL), (35, 7, REMOTE, LOCAL), NO_MESSAGE),
    (Unlink(None, REMOTE, LOCAL), (4, REMOTE, LOCAL), NO_MESSAGE),
    (UnlinkAck(7, REMOTE, LOCAL), (36, 7, REMOTE, LOCAL), NO_MESSAGE),
    (ExitLink(REMOTE, LOCAL, REASON), (24, REMOTE, LOCAL), REASON),
    (ExitLink(REMOTE, LOCAL, REASON, TOKEN), (25, REMOTE, LOCAL, TOKEN), REASON),
    (ExitSend(REMOTE, LOCAL, REASON), (26, REMOTE, LOCAL), REASON),
    (ExitSend(REMOTE, LOCAL, REASON, TOKEN), (27, REMOTE, LOCAL, TOKEN), REASON),
    (Monitor(REMOTE, LOCAL, REF), (19, REMOTE, LOCAL, REF), NO_MESSAGE),
    (Monitor(REMOTE, NAME, REF), (19, REMOTE, NAME, REF), NO_MESSAGE),
    (Demonitor(REMOTE, LOCAL, REF), (20, REMOTE, LOCAL, REF), NO_MESSAGE),
    (Demonitor(REMOTE, NAME, REF), (20, REMOTE, NAME, REF), NO_MESSAGE),
    (Down(REMOTE, LOCAL, REF, REASON), (28, REMOTE, LOCAL, REF), REASON),
    (Down(NAME, LOCAL, REF, REASON), (28, NAME, LOCAL, REF), REASON),
    (GroupLeader(REMOTE, LOCAL), (7, REMOTE, LOCAL), NO_MESSAGE),
    (SpawnRequest(REF, REMOTE, REMOTE, *MFA, OPTIONS, [1]), (29, REF, REMOTE, REMOTE, MFA, OPTIONS), [1]),
    (
        SpawnRequest(REF, REMOTE, REMOTE, *MFA, NAME, [1]),
        (29, REF, REMOTE, REMOTE, MFA, NAME),
        [1],
    ),  # the receiver answers badopt
    (SpawnRequest(REF, REMOTE, REMOTE, *MFA, [], [], TOKEN), (30, REF, REMOTE, REMOTE, MFA, [], TOKEN), []),
    (SpawnReply(REF, LOCAL, 2, REMOTE), (31, REF, LOCAL, 2, REMOTE), NO_MESSAGE),
    (SpawnReply(REF, LOCAL, 0, Atom("badopt")), (31, REF, LOCAL, 0, Atom("badopt")), NO_MESSAGE),
    (SpawnReply(REF, LOCAL, 2, REMOTE, TOKEN), (32, REF, LOCAL, 2, REMOTE, TOKEN), NO_MESSAGE),
]
# The forms without EXIT_PAYLOAD, SEND_SENDER and UNLINK_ID.
OLDER_FORMS = [
    (Send(None, LOCAL, MESSAGE), (2, EMPTY, LOCAL), MESSAGE),
    (ExitLink(REMOTE, LOCAL, REASON), (3, REMOTE, LOCAL, REASON), NO_MESSAGE),
    (ExitLink(REMOTE, LOCAL, REASON, TOKEN), (13, REMOTE, LOCAL, TOKEN, REASON), NO_MESSAGE),
    (ExitSend(REMOTE, LOCAL, REASON), (8, REMOTE, LOCAL, REASON), NO_MESSAGE),
    (ExitSend(REMOTE, LOCAL, REASON, TOKEN), (18, REMOTE, LOCAL, TOKEN, REASON), NO_MESSAGE),
    (Down(NAME, LOCAL, REF, REASON), (21, NAME, LOCAL, REF, REASON), NO_MESSAGE),
    (Unlink(None, REMOTE, LOCAL), (4, REMOTE, LOCAL), NO_MESSAGE),
]
OLD = OFFERED & ~(Flags.EXIT_PAYLOAD | Flags.SEND_SENDER | Flags.UNLINK_ID)


def case_id(case):
    return f"{type(case[0]).__name__}-{case[1][0]}"


def decode(control, message=NO_MESSAGE):
    return decode_control(control, message, PEER)


@pytest.mark.parametrize(("signal", "control", "message"), CURRENT_FORMS, ids=map(case_id, CURRENT_FORMS))
def test_a_signal_has_this_control_tuple(signal, control, message):
    assert encode_control(signal, OFFERED) == (control, message)
    assert decode(control, message) == signal
    assert carries_message(control) == (message is not NO_MESSAGE)


@pytest.mark.parametrize(("signal", "control", "message"), OLDER_FORMS, ids=map(case_id, OLDER_FORMS))
def test_a_signal_to_an_older_peer_has_this_control_tuple(signal, control, message):
    assert encode_control(signal, OLD) == (control, message)
    assert decode(control, message) == signal
    assert carries_message(control) == (message is not NO_MESSAGE)


def test_an_older_peer_gets_no_sender_and_no_unlink_id():
    assert encode_control(Send(REMOTE, LOCAL, MESSAGE), OLD)[0] == (2, EMPTY, LOCAL)
    assert encode_control(Unlink(7, REMOTE, LOCAL), OLD)[0] == (4, REMOTE, LOCAL)


@pytest.mark.parametrize(
    ("signal", "flag"),
    [
        (SendAlias(REMOTE, REF, MESSAGE), Flags.ALIAS),
        (UnlinkAck(1, REMOTE, LOCAL), Flags.UNLINK_ID),
        (SpawnRequest(REF, REMOTE, REMOTE, *MFA, [], []), Flags.SPAWN),
        (SpawnReply(REF, LOCAL, 0, REMOTE), Flags.SPAWN),
    ],
)
def test_a_signal_that_the_peer_does_not_know_is_a_local_error(signal, flag):
    with pytest.raises(LocalProtocolError, match=f"{flag.name} was not negotiated"):
        encode_control(signal, OFFERED & ~flag)


@pytest.mark.parametrize(
    ("control", "signal"),
    [
        ((37, 0, REMOTE, LOCAL), Send(REMOTE, LOCAL, MESSAGE)),
        ((37, 1, REMOTE, LOCAL, 1, 2, 3), Send(REMOTE, LOCAL, MESSAGE)),
        ((37, 2, REMOTE, LOCAL, TOKEN), Send(REMOTE, LOCAL, MESSAGE, TOKEN)),
        ((37, 4, REMOTE, REF), SendAlias(REMOTE, REF, MESSAGE)),
        ((37, 8 | 64, REMOTE, NAME), SendName(REMOTE, NAME, MESSAGE)),
        ((37, 16, REMOTE, LOCAL), ExitSend(REMOTE, LOCAL, MESSAGE)),
    ],
)
def test_the_altact_op_of_otp_28_is_decoded(control, signal):
    assert decode(control, MESSAGE) == signal


def test_true_and_false_are_decoded_as_names():
    assert decode((6, REMOTE, EMPTY, True), MESSAGE) == SendName(REMOTE, Atom("true"), MESSAGE)
    assert decode((19, REMOTE, False, REF)) == Monitor(REMOTE, Atom("false"), REF)


@pytest.mark.parametrize(
    "control", [(), 1, [1], Atom("x"), (True, REMOTE, LOCAL), (1.0, REMOTE, LOCAL), ("1",), (None,)]
)
def test_a_term_that_is_not_a_control_tuple_is_refused(control):
    with pytest.raises(RemoteProtocolError, match="not a control tuple"):
        carries_message(control)


@pytest.mark.parametrize(
    "control", [control for _, control, _ in CURRENT_FORMS + OLDER_FORMS], ids=lambda control: str(control[0])
)
@pytest.mark.parametrize("change", [lambda control: (*control, 1), lambda control: control[:-1]], ids=["more", "less"])
def test_a_tuple_of_another_size_is_refused(control, change):
    with pytest.raises(RemoteProtocolError, match="Invalid distribution message"):
        decode(change(control), [])


@pytest.mark.parametrize(
    "control",
    [
        (99, REMOTE, LOCAL),
        (5, REMOTE, LOCAL),
        (1, THIRD, LOCAL),
        (1, REMOTE, NAME),
        (4, THIRD, LOCAL),
        (35, 1, THIRD, LOCAL),
        (35, 0, REMOTE, LOCAL),
        (35, 1 << 64, REMOTE, LOCAL),
        (35, True, REMOTE, LOCAL),
        (36, 0, REMOTE, LOCAL),
        (19, THIRD, LOCAL, REF),
        (19, REMOTE, LOCAL, NAME),
        (19, REMOTE, 1, REF),
        (20, THIRD, LOCAL, REF),
        (28, REF, LOCAL, REF),
        (28, REMOTE, NAME, REF),
        (24, THIRD, LOCAL),
        (26, THIRD, LOCAL),
        (8, THIRD, LOCAL, REASON),
        (3, THIRD, LOCAL, REASON),
        (6, NAME, EMPTY, NAME),
        (6, REMOTE, EMPTY, REMOTE),
        (22, NAME, LOCAL),
        (22, REMOTE, NAME),
        (33, REMOTE, LOCAL),
        (29, REF, THIRD, REMOTE, MFA, []),
        (29, REF, REMOTE, REMOTE, (Atom("m"), Atom("f")), []),
        (29, REF, REMOTE, REMOTE, (Atom("m"), Atom("f"), True), []),
        (29, REF, REMOTE, REMOTE, (Atom("m"), 1, 0), []),
        (31, REF, LOCAL, NAME, REMOTE),
        (31, REF, LOCAL, 0, 1),
        (37, 16, THIRD, LOCAL),
        (37, 0, REMOTE, NAME),
        (37, 8, REMOTE, 1),
        (37, 0, REMOTE, REF),
    ],
    ids=str,
)
def test_a_malformed_tuple_is_refused_and_shown_in_the_error(control):
    with pytest.raises(RemoteProtocolError, match=rf"Invalid distribution message: \{{{control[0]},"):
        decode(control, [])


def test_the_sender_of_a_message_is_not_checked_as_in_otp():
    assert decode((22, THIRD, LOCAL), MESSAGE) == Send(THIRD, LOCAL, MESSAGE)


TERMS = st.sampled_from(
    [REMOTE, LOCAL, THIRD, REF, NAME, EMPTY, TOKEN, MFA, OPTIONS, [], 0, 1, 1 << 64, True, 1.0, b"x"]
)


@given(st.lists(TERMS, max_size=6), st.integers(-1, 40))
def test_any_tuple_gives_a_signal_or_a_remote_protocol_error(elements, op):
    control = (op, *elements)
    try:
        message = MESSAGE if carries_message(control) else NO_MESSAGE
        signal = decode(control, message)
    except RemoteProtocolError:
        return
    if op != 37:
        again, same_message = encode_control(signal, OFFERED if op > 21 or op in (1, 4, 6, 7, 16, 19, 20) else OLD)
        assert decode(again, same_message) == signal


class Weak(list):
    """A list that can be referenced weakly."""


@pytest.mark.parametrize("signal", [Send, SendName, SendAlias, Monitor, Demonitor, Down, SpawnRequest, SpawnReply])
def test_a_cycle_through_each_field_of_a_signal_is_collected(signal):
    alive = []
    for index, _ in enumerate(signal.__match_args__):
        part = Weak()
        part.append(signal(*[part if place == index else None for place, _ in enumerate(signal.__match_args__)]))
        alive.append(weakref.ref(part))
        del part

    gc.collect()

    assert [each() for each in alive] == [None] * len(signal.__match_args__)
