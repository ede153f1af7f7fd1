"""The handshake in both roles, against captures of real nodes and against itself."""

import hashlib
import json
import math
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.errors import ErlmeshError, HandshakeRefused, HandshakeTimeout, LocalProtocolError, RemoteProtocolError
from erlmesh.proto.flags import HIDDEN, OFFERED, REQUIRED, Flags
from erlmesh.proto.handshake import (
    HandshakeCompleted,
    InitiatorClosed,
    LocalNode,
    SimultaneousConnect,
    Status,
    accept,
    digest,
    initiate,
    is_node_name,
)
from erlmesh.proto.handshake_driver import HandshakeDriver, HandshakeFailed

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "otp25.json").read_text())
CAPTURED = {vector["title"]: vector for vector in VECTORS["handshake"]}
SOCRATES, PLATO = "socrates@127.0.0.1", "plato@127.0.0.1"


def local_node(name, *, cookie="monster", challenge=0xCAFEBABE, creation=7, flags=OFFERED, outstanding=None):
    return LocalNode(
        name, creation, lambda _: cookie, lambda: challenge, set() if outstanding is None else outstanding, flags
    )


def calling(who, name, *, still_wanted=True, **options):
    return HandshakeDriver(initiate(who, name, lambda: still_wanted), now=0.0, **options)


def answering(who, status=Status.OK, **options):
    return HandshakeDriver(accept(who, lambda _name, _flags: status), now=0.0, **options)


def framed(*packets):
    return b"".join(struct.pack(">H", len(packet)) + packet for packet in packets)


def name_packet(name, flags=OFFERED, creation=1):
    return struct.pack(">cQIH", b"N", flags, creation, len(name)) + name.encode("latin-1")


def challenge_packet(name, flags=OFFERED, challenge=1):
    return struct.pack(">cQIIH", b"N", flags, challenge, 9, len(name)) + name.encode()


def reply_packet(challenge):
    """Return a challenge reply that answers challenge 1."""
    return b"r" + struct.pack(">I", challenge) + digest("monster", 1)


def converse(caller, answerer):
    """Carry bytes until neither side sends more. Return the events of both."""
    learned = ([], [])
    while True:
        question, reply = caller.data_to_send(), answerer.data_to_send()
        if not question and not reply:
            return learned
        learned[0].extend(caller.receive_data(reply, 0.0))
        learned[1].extend(answerer.receive_data(question, 0.0))


def have_met(learned):
    return [[type(event) for event in side] for side in learned] == [[HandshakeCompleted], [HandshakeCompleted]]


def said(captured, direction):
    return [bytes.fromhex(frame["hex"]) for frame in captured["frames"] if frame["dir"] == direction and "hex" in frame]


# Against captures of OTP


@pytest.mark.parametrize(
    "title",
    [title for title, vector in CAPTURED.items() if vector["we_are"] == "initiator" and "dynamic" not in title],
)
def test_repeats_a_captured_initiation_byte_for_byte(title):
    captured = CAPTURED[title]
    who = local_node(
        captured["our_name"],
        cookie=captured["cookie"],
        creation=captured["our_creation"],
        flags=Flags(int(captured["our_flags"], 16)),
    )
    handshake = calling(who, "a@127.0.0.1", still_wanted="false" not in title)

    sent, events = handshake.data_to_send(), []
    for packet in said(captured, "beam->us"):
        events += handshake.receive_data(framed(packet), 0.0)
        sent += handshake.data_to_send()
    events += handshake.receive_eof()

    assert sent == framed(*said(captured, "us->beam"))
    assert len(events) == 1
    assert isinstance(events[0], HandshakeCompleted) == (captured["result"] == "connected")


def test_repeats_a_captured_acceptance_byte_for_byte():
    captured = CAPTURED["beam connects to us: ok"]
    handshake = answering(local_node("acc@127.0.0.1", cookie=captured["cookie"], challenge=0xDEADBEEF))

    sent, events = b"", []
    for packet in said(captured, "beam->us"):
        events += handshake.receive_data(framed(packet), 0.0)
        sent += handshake.data_to_send()

    assert sent == framed(*said(captured, "us->beam"))
    assert events == [HandshakeCompleted("a@127.0.0.1", OFFERED, OFFERED, 0x6B02C00C)]


@pytest.mark.parametrize("session", ["session_beam_beam", "session_beam_beam_pg2"])
def test_repeats_the_handshake_of_two_real_nodes(session):
    packets = [bytes.fromhex(frame["hex"]) for frame in VECTORS[session]["frames"] if frame["kind"] == "handshake"]
    name, status, challenge, reply, ack = packets[:5]
    flags, number, creation, _ = struct.unpack_from(">QIIH", challenge, 1)
    answerer = answering(local_node("b@127.0.0.1", cookie="c", creation=creation, challenge=number, flags=Flags(flags)))

    events = answerer.receive_data(framed(name, reply), 0.0)

    assert answerer.data_to_send() == framed(status, challenge, ack)
    assert [event.name for event in events] == ["a@127.0.0.1"]


def test_a_request_for_a_dynamic_name_is_refused():
    captured = CAPTURED["dynamic name (NAME_ME, name = host only)"]
    handshake = answering(local_node(PLATO))

    (event,) = handshake.receive_data(framed(said(captured, "us->beam")[0]), 0.0)

    assert "asks for a dynamic node name" in str(event.error)
    assert handshake.data_to_send() == framed(b"snot_allowed")


# Both roles, every status


def test_two_nodes_with_the_same_cookie_connect():
    learned = converse(calling(local_node(SOCRATES), PLATO), answering(local_node(PLATO, challenge=1, creation=9)))

    assert learned == (
        [HandshakeCompleted(PLATO, OFFERED, OFFERED, 9)],
        [HandshakeCompleted(SOCRATES, OFFERED, OFFERED, 7)],
    )


def test_both_know_the_common_flags_and_the_peers_flags():
    answerer = answering(local_node(PLATO, challenge=1, flags=OFFERED & ~Flags.FRAGMENTS))
    (at_caller,), (at_answerer,) = converse(calling(local_node(SOCRATES, flags=HIDDEN), PLATO), answerer)

    assert at_caller.flags == at_answerer.flags == HIDDEN & ~Flags.FRAGMENTS
    assert Flags.PUBLISHED in at_caller.peer_flags
    assert Flags.PUBLISHED not in at_answerer.peer_flags


def test_ok_simultaneous_continues_the_handshake():
    assert have_met(
        converse(
            calling(local_node(SOCRATES), PLATO), answering(local_node(PLATO, challenge=1), Status.OK_SIMULTANEOUS)
        )
    )


def test_nok_ends_the_handshake_in_favour_of_the_other_connection():
    (at_caller,), (at_answerer,) = converse(
        calling(local_node(SOCRATES), PLATO), answering(local_node(PLATO), Status.NOK)
    )

    assert type(at_caller.error) is SimultaneousConnect
    assert type(at_answerer.error) is SimultaneousConnect


def test_not_allowed_refuses_the_connection():
    (at_caller,), (at_answerer,) = converse(
        calling(local_node(SOCRATES), PLATO), answering(local_node(PLATO), Status.NOT_ALLOWED)
    )

    assert "not_allowed" in str(at_caller.error)
    assert "not allowed" in str(at_answerer.error)


def test_an_old_connection_is_replaced_if_the_initiator_has_lost_it():
    assert have_met(
        converse(calling(local_node(SOCRATES), PLATO), answering(local_node(PLATO, challenge=1), Status.ALIVE))
    )


def test_an_old_connection_is_kept_if_the_initiator_still_has_it():
    caller = calling(local_node(SOCRATES), PLATO, still_wanted=False)
    (at_caller,), (at_answerer,) = converse(caller, answering(local_node(PLATO), Status.ALIVE))

    assert type(at_caller.error) is SimultaneousConnect
    assert "keeps its existing connection" in str(at_answerer.error)


def test_a_wrong_cookie_does_not_replace_an_old_connection():
    answerer = answering(local_node(PLATO, challenge=1), Status.ALIVE)
    _, (at_answerer,) = converse(calling(local_node(SOCRATES, cookie="other"), PLATO), answerer)

    assert "cookies differ" in str(at_answerer.error)


def test_an_unwanted_incarnation_is_refused_after_its_challenge():
    asked = []
    caller = HandshakeDriver(
        initiate(
            local_node(SOCRATES), PLATO, lambda: True, lambda creation: asked.append(creation) or "it disconnected"
        ),
        now=0.0,
    )
    answerer = answering(local_node(PLATO, creation=9))

    learned, seen = converse(caller, answerer)

    assert asked == [9]
    assert isinstance(learned[0], HandshakeFailed)
    assert "it disconnected" in str(learned[0].error)
    assert seen == []
    (left,) = answerer.receive_eof()
    assert isinstance(left.error, InitiatorClosed)


def test_an_unwanted_incarnation_is_accepted_if_it_was_connecting_to_us():
    caller = HandshakeDriver(initiate(local_node(SOCRATES), PLATO, lambda: True, lambda _: "it disconnected"), now=0.0)

    (at_caller,), (at_answerer,) = converse(caller, answering(local_node(PLATO, challenge=1), Status.OK_SIMULTANEOUS))

    assert isinstance(at_caller, HandshakeCompleted)
    assert isinstance(at_answerer, HandshakeCompleted)


def test_decide_is_called_once_with_the_name_and_the_flags():
    asked = []

    def decide(name, flags):
        asked.append((name, flags))
        return Status.OK

    converse(
        calling(local_node(SOCRATES, flags=HIDDEN), PLATO),
        HandshakeDriver(accept(local_node(PLATO, challenge=1), decide), now=0.0),
    )

    assert asked == [(SOCRATES, HIDDEN)]


def test_an_initiator_with_our_own_name_is_refused_without_decide():
    handshake = HandshakeDriver(accept(local_node(PLATO), lambda _name, _flags: pytest.fail("asked")), now=0.0)
    (at_caller,), (at_answerer,) = converse(calling(local_node(PLATO), PLATO), handshake)

    assert type(at_caller.error) is SimultaneousConnect
    assert "our own name" in str(at_answerer.error)


# Cookies


def test_the_acceptor_refuses_a_wrong_cookie():
    _, (event,) = converse(
        calling(local_node(SOCRATES, cookie="other"), PLATO), answering(local_node(PLATO, challenge=1))
    )

    assert str(event.error) == (
        "Connection attempt from node socrates@127.0.0.1 rejected: invalid challenge reply (the cookies differ)"
    )


def test_the_initiator_sees_a_wrong_cookie_as_a_close():
    caller, answerer = calling(local_node(SOCRATES, cookie="other"), PLATO), answering(local_node(PLATO, challenge=1))
    converse(caller, answerer)

    (event,) = caller.receive_eof()

    assert type(event.error) is HandshakeRefused
    assert str(event.error) == (
        "plato@127.0.0.1 closed the connection after our challenge reply: the cookies probably differ"
    )


def test_the_initiator_refuses_a_wrong_digest():
    caller = calling(local_node(SOCRATES), PLATO)

    (event,) = caller.receive_data(framed(b"sok", challenge_packet(PLATO), b"a" + bytes(16)), 0.0)

    assert "does not know our cookie" in str(event.error)


def test_each_peer_may_have_its_own_cookie():
    cookies = {PLATO: "one", SOCRATES: "one", "other@h": "two"}
    socrates = LocalNode(SOCRATES, 1, {PLATO: "one"}.__getitem__, lambda: 5, set())
    plato = LocalNode(PLATO, 1, cookies.__getitem__, lambda: 6, set())

    learned = converse(calling(socrates, PLATO), answering(plato))

    assert have_met(learned)


def test_a_cookie_is_encoded_in_latin_1():
    assert digest("é", 1) == hashlib.md5(b"\xe91").digest()
    with pytest.raises(ValueError, match="Latin-1"):
        digest("€", 1)


def test_the_initiator_does_not_answer_a_reflected_challenge():
    outstanding = set()
    answerer = answering(local_node(PLATO, challenge=0xAAAA, outstanding=outstanding))
    answerer.receive_data(framed(name_packet(SOCRATES)), 0.0)
    caller = calling(local_node(PLATO, outstanding=outstanding), SOCRATES)
    caller.data_to_send()

    (event,) = caller.receive_data(framed(b"sok", challenge_packet(SOCRATES, challenge=0xAAAA)), 0.0)

    assert "our own challenge" in str(event.error)
    assert caller.data_to_send() == b""


def test_the_acceptor_does_not_answer_a_reflected_challenge():
    answerer = answering(local_node(PLATO, challenge=1, outstanding={5}))

    (event,) = answerer.receive_data(framed(name_packet(SOCRATES), reply_packet(5)), 0.0)

    assert "our own challenge" in str(event.error)
    assert not answerer.data_to_send().endswith(digest("monster", 5))


@pytest.mark.parametrize("end", ["abort", "receive_eof"])
def test_no_challenge_stays_outstanding_after_a_handshake(end):
    outstanding = set()
    answerer = answering(local_node(PLATO, outstanding=outstanding))
    answerer.receive_data(framed(name_packet(SOCRATES)), 0.0)
    assert outstanding == {0xCAFEBABE}

    getattr(answerer, end)()

    assert outstanding == set()


# Names and flags


@pytest.mark.parametrize("name", ["a@b", "x" * 100 + "@" + "y" * 154, "a@::1", "a.b@c.d"])
def test_valid_node_names(name):
    assert is_node_name(name)


@pytest.mark.parametrize("name", ["", "@", "a@", "@b", "a", "a@b@c", "é@h", "a\n@h", "x" * 100 + "@" + "y" * 155])
def test_an_invalid_node_name_ends_the_handshake_without_an_answer(name):
    handshake = answering(local_node(PLATO))

    (event,) = handshake.receive_data(framed(name_packet(name)), 0.0)

    assert not is_node_name(name)
    assert type(event.error) is RemoteProtocolError
    assert handshake.data_to_send() == b""


def test_initiating_to_an_invalid_node_name_is_a_local_error():
    with pytest.raises(LocalProtocolError, match="name@host"):
        calling(local_node(SOCRATES), "plato")


def test_the_error_names_the_other_node_at_the_address():
    (event,), _ = converse(calling(local_node(SOCRATES), "plato@localhost"), answering(local_node(PLATO, challenge=1)))

    assert "plato@127.0.0.1, not plato@localhost" in str(event.error)


@pytest.mark.parametrize("lacking", list(REQUIRED))
def test_an_initiator_without_a_required_flag_is_not_allowed(lacking):
    flags = REQUIRED & ~lacking
    (at_caller,), (at_answerer,) = converse(
        calling(local_node(SOCRATES, flags=flags), PLATO), answering(local_node(PLATO))
    )

    assert lacking.name in str(at_answerer.error)
    assert "not_allowed" in str(at_caller.error)


def test_an_acceptor_without_a_required_flag_is_refused():
    packet = challenge_packet(PLATO, flags=REQUIRED & ~Flags.UTF8_ATOMS)

    (event,) = calling(local_node(SOCRATES), PLATO).receive_data(framed(b"sok", packet), 0.0)

    assert "lacks required capabilities: UTF8_ATOMS" in str(event.error)


def test_bytes_after_the_name_are_ignored():
    answerer = answering(local_node(PLATO))

    assert answerer.receive_data(framed(name_packet(SOCRATES) + b"more"), 0.0) == []
    assert answerer.data_to_send().startswith(framed(b"sok"))


def test_an_old_name_packet_is_followed_by_a_complement():
    answerer = answering(local_node(PLATO, challenge=1))
    old = b"n" + struct.pack(">HI", 5, OFFERED & 0xFFFFFFFF) + SOCRATES.encode()
    complement = b"c" + struct.pack(">II", OFFERED >> 32, 77)
    events = answerer.receive_data(framed(old, complement, reply_packet(5)), 0.0)

    assert events == [HandshakeCompleted(SOCRATES, OFFERED, OFFERED, 77)]


def test_a_node_without_handshake_23_is_refused():
    (event,) = answering(local_node(PLATO)).receive_data(
        framed(b"n" + struct.pack(">HI", 5, 0x7499) + SOCRATES.encode()), 0.0
    )

    assert "HANDSHAKE_23" in str(event.error)


# Bytes, time and other protocols


def test_lengths_have_four_bytes_with_tls():
    caller = calling(local_node(SOCRATES), PLATO, tls=True)
    first = caller.data_to_send()

    assert first[:4] == struct.pack(">I", len(first) - 4)
    assert have_met(
        converse(calling(local_node(SOCRATES), PLATO, tls=True), answering(local_node(PLATO, challenge=1), tls=True))
    )


def test_the_time_limit_is_for_the_whole_handshake():
    handshake = answering(local_node(PLATO))
    packet = framed(name_packet(SOCRATES))
    for second in range(6):
        assert handshake.receive_data(packet[second : second + 1], float(second)) == []
        assert handshake.handle_timeout(float(second)) == []

    assert handshake.next_deadline() == 7.0
    (event,) = handshake.handle_timeout(7.0)
    assert type(event.error) is HandshakeTimeout
    assert str(event.error) == "the initiator's name did not arrive within 7 s"
    assert handshake.next_deadline() == math.inf


def test_the_error_of_a_close_names_the_expected_packet():
    (event,) = calling(local_node(SOCRATES), PLATO).receive_eof()

    assert str(event.error) == "the connection was closed while we waited for plato@127.0.0.1's status"


@pytest.mark.parametrize(
    ("greeting", "protocol"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "TLS"),
        (b"SSH-2.0-OpenSSH", "SSH"),
    ],
)
def test_other_protocols_are_recognized_at_once(greeting, protocol):
    handshake = answering(local_node(PLATO))

    (event,) = handshake.receive_data(greeting, 0.0)

    assert f"speaks {protocol}" in str(event.error)
    assert handshake.data_to_send() == handshake.trailing_data == b""


@pytest.mark.parametrize("packet", [b"\x00\x00", b"\x00\x01N", framed(b"Nabc"), framed(b"s" + b"ok")])
def test_an_invalid_name_packet_ends_the_handshake(packet):
    (event,) = answering(local_node(PLATO)).receive_data(packet, 0.0)

    assert type(event.error) is RemoteProtocolError


def test_a_packet_that_is_too_long_is_refused_at_its_length():
    (event,) = answering(local_node(PLATO), tls=True).receive_data(b"\x7f\xff\xff\xff", 0.0)

    assert "length field of the packet is 2147483647" in str(event.error)


def test_an_unknown_status_ends_the_handshake():
    (event,) = calling(local_node(SOCRATES), PLATO).receive_data(framed(b"snamed:xyz"), 0.0)

    assert "unknown status" in str(event.error)


def test_an_invalid_answer_to_alive_ends_the_handshake():
    handshake = answering(local_node(PLATO), Status.ALIVE)

    (event,) = handshake.receive_data(framed(name_packet(SOCRATES), b"sperhaps"), 0.0)

    assert "neither true nor false" in str(event.error)


def test_trailing_data_is_left_for_the_channel():
    answerer = answering(local_node(PLATO, challenge=1))
    caller = calling(local_node(SOCRATES), PLATO)
    answerer.receive_data(caller.data_to_send(), 0.0)
    caller.receive_data(answerer.data_to_send(), 0.0)

    answerer.receive_data(caller.data_to_send() + b"\x00\x00\x00\x00\x00", 0.0)

    assert answerer.trailing_data == b"\x00\x00\x00\x00\x00"


def test_an_aborted_handshake_gives_no_more_events():
    handshake = answering(local_node(PLATO))
    handshake.abort()

    assert handshake.receive_data(b"GET /", 0.0) == handshake.receive_eof() == handshake.handle_timeout(9.0) == []


NAME = framed(name_packet(SOCRATES))
REPLY = framed(reply_packet(5))


def hear_all(handshake, pieces):
    events = []
    for piece in pieces:
        events += handshake.receive_data(piece, 0.0)
    return [
        str(event.error) if isinstance(event, HandshakeFailed) else event for event in events
    ], handshake.data_to_send()


TALK = st.lists(
    st.one_of(st.just(NAME), st.just(REPLY), st.binary(max_size=40), st.binary(max_size=30).map(framed)),
    max_size=4,
).map(b"".join)


@given(TALK, st.data())
def test_any_split_of_the_bytes_gives_the_same_result(talk, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(talk)), max_size=8)))
    pieces = [talk[a:b] for a, b in zip([0, *cuts], [*cuts, len(talk)], strict=True)]

    assert hear_all(answering(local_node(PLATO, challenge=1)), pieces) == hear_all(
        answering(local_node(PLATO, challenge=1)), [talk]
    )


@given(st.binary(max_size=80), st.sampled_from([b"", NAME, NAME + REPLY]))
def test_the_acceptor_never_raises_on_any_bytes(noise, before):
    events = answering(local_node(PLATO, challenge=1)).receive_data(before + noise, 0.0)

    assert all(isinstance(event, HandshakeCompleted) or isinstance(event.error, ErlmeshError) for event in events)


@given(st.binary(max_size=80), st.sampled_from([b"", framed(b"sok"), framed(b"salive")]))
def test_the_initiator_never_raises_on_any_bytes(noise, before):
    events = calling(local_node(SOCRATES), PLATO).receive_data(before + noise, 0.0)

    assert all(isinstance(event, HandshakeCompleted) or isinstance(event.error, ErlmeshError) for event in events)


def test_a_stall_extends_the_deadline_once():
    handshake = answering(local_node(PLATO))
    assert handshake.is_timed_out(7.0)

    assert handshake.handle_timeout(10.0) == []

    assert handshake.next_deadline() == 13.0
    (event,) = handshake.handle_timeout(20.0)
    assert type(event.error) is HandshakeTimeout


def test_a_long_stall_extends_the_deadline_by_one_time_limit_at_most():
    handshake = answering(local_node(PLATO))

    handshake.handle_timeout(1000.0)

    assert handshake.next_deadline() == 1007.0


def test_a_packet_that_waited_in_the_socket_extends_the_deadline_once():
    caller, answerer = calling(local_node(SOCRATES), PLATO), answering(local_node(PLATO, challenge=1))
    answerer.receive_data(caller.data_to_send(), 0.0)

    assert caller.receive_data(answerer.data_to_send(), 7.0) == []

    assert caller.handle_timeout(7.0) == []
    assert caller.next_deadline() == 7.5
    (event,) = caller.handle_timeout(7.5)
    assert type(event.error) is HandshakeTimeout
