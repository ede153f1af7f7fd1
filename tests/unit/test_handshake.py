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
    TooManyGuesses,
    WrongCookie,
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


def initiating(node, name, *, keep_attempt=True, **options):
    return HandshakeDriver(initiate(node, name, lambda: keep_attempt), now=0.0, **options)


def accepting(node, status=Status.OK, **options):
    return HandshakeDriver(accept(node, lambda _name, _flags: status), now=0.0, **options)


def framed(*packets):
    return b"".join(struct.pack(">H", len(packet)) + packet for packet in packets)


def name_packet(name, flags=OFFERED, creation=1):
    return struct.pack(">cQIH", b"N", flags, creation, len(name)) + name.encode("latin-1")


def challenge_packet(name, flags=OFFERED, challenge=1):
    return struct.pack(">cQIIH", b"N", flags, challenge, 9, len(name)) + name.encode()


def reply_packet(challenge):
    """Return a challenge reply that answers challenge 1."""
    return b"r" + struct.pack(">I", challenge) + digest("monster", 1)


def exchange(initiator, acceptor):
    """Carry bytes until neither side sends more. Return the events of both."""
    events_of_both = ([], [])
    while True:
        from_initiator, from_acceptor = initiator.data_to_send(), acceptor.data_to_send()
        if not from_initiator and not from_acceptor:
            return events_of_both
        events_of_both[0].extend(initiator.receive_data(from_acceptor, 0.0))
        events_of_both[1].extend(acceptor.receive_data(from_initiator, 0.0))


def both_completed(events_of_both):
    return [[type(event) for event in side] for side in events_of_both] == [[HandshakeCompleted], [HandshakeCompleted]]


def captured_packets(captured, direction):
    return [bytes.fromhex(frame["hex"]) for frame in captured["frames"] if frame["dir"] == direction and "hex" in frame]


# Against captures of OTP


@pytest.mark.parametrize(
    "title",
    [title for title, vector in CAPTURED.items() if vector["we_are"] == "initiator" and "dynamic" not in title],
)
def test_repeats_a_captured_initiation_byte_for_byte(title):
    captured = CAPTURED[title]
    node = local_node(
        captured["our_name"],
        cookie=captured["cookie"],
        creation=captured["our_creation"],
        flags=Flags(int(captured["our_flags"], 16)),
    )
    handshake = initiating(node, "a@127.0.0.1", keep_attempt="false" not in title)

    sent, events = handshake.data_to_send(), []
    for packet in captured_packets(captured, "beam->us"):
        events += handshake.receive_data(framed(packet), 0.0)
        sent += handshake.data_to_send()
    events += handshake.receive_eof()

    assert sent == framed(*captured_packets(captured, "us->beam"))
    assert len(events) == 1
    assert isinstance(events[0], HandshakeCompleted) == (captured["result"] == "connected")


def test_repeats_a_captured_acceptance_byte_for_byte():
    captured = CAPTURED["beam connects to us: ok"]
    handshake = accepting(local_node("acc@127.0.0.1", cookie=captured["cookie"], challenge=0xDEADBEEF))

    sent, events = b"", []
    for packet in captured_packets(captured, "beam->us"):
        events += handshake.receive_data(framed(packet), 0.0)
        sent += handshake.data_to_send()

    assert sent == framed(*captured_packets(captured, "us->beam"))
    assert events == [HandshakeCompleted("a@127.0.0.1", OFFERED, OFFERED, 0x6B02C00C)]


@pytest.mark.parametrize("session", ["session_beam_beam", "session_beam_beam_pg2"])
def test_repeats_the_handshake_of_two_real_nodes(session):
    packets = [bytes.fromhex(frame["hex"]) for frame in VECTORS[session]["frames"] if frame["kind"] == "handshake"]
    name, status, challenge, reply, ack = packets[:5]
    flags, number, creation, _ = struct.unpack_from(">QIIH", challenge, 1)
    acceptor = accepting(local_node("b@127.0.0.1", cookie="c", creation=creation, challenge=number, flags=Flags(flags)))

    events = acceptor.receive_data(framed(name, reply), 0.0)

    assert acceptor.data_to_send() == framed(status, challenge, ack)
    assert [event.name for event in events] == ["a@127.0.0.1"]


def naming(name, creation, challenge=0xCAFEBABE, node=None, status=Status.OK):
    """An acceptor that gives ``name`` and ``creation`` to each node that asks for a name."""
    node = node or local_node(PLATO, challenge=challenge)
    make_name = lambda host: (f"{name}@{host}", creation)  # noqa: E731
    return HandshakeDriver(accept(node, lambda _name, _flags: status, lambda _: 0.0, make_name), now=0.0)


def test_names_a_nameless_node_byte_for_byte_as_a_real_node_does():
    captured = CAPTURED["dynamic name (NAME_ME, name = host only)"]
    request, reply = captured_packets(captured, "us->beam")
    challenge = captured["frames"][2]["decoded"]
    node = local_node(
        challenge["name"],
        cookie=captured["cookie"],
        challenge=challenge["challenge"],
        creation=challenge["creation"],
    )
    handshake = naming("2U6D1NTSBM4UN", 0xC970EB91, node=node)

    events = handshake.receive_data(framed(request), 0.0)
    sent = handshake.data_to_send()
    events += handshake.receive_data(framed(reply), 0.0)
    sent += handshake.data_to_send()

    assert sent == framed(*captured_packets(captured, "beam->us"))
    assert [(event.name, event.creation) for event in events] == [("2U6D1NTSBM4UN@127.0.0.1", 0xC970EB91)]


@pytest.mark.parametrize("host", ["", "a@h", "a\nb", "\xe9", "h" * 254])
def test_a_request_for_a_name_at_an_invalid_host_ends_the_handshake_without_an_answer(host):
    handshake = naming("N", 5)

    (event,) = handshake.receive_data(framed(name_packet(host, OFFERED | Flags.NAME_ME)), 0.0)

    assert type(event.error) is RemoteProtocolError
    assert handshake.data_to_send() == b""


@pytest.mark.parametrize("status", [Status.NOT_ALLOWED, Status.NOK, Status.ALIVE, Status.OK_SIMULTANEOUS])
def test_a_name_that_may_not_connect_is_not_given(status):
    handshake = naming("N", 5, status=status)

    (event,) = handshake.receive_data(framed(name_packet("h", OFFERED | Flags.NAME_ME)), 0.0)

    assert "N@h rejected" in str(event.error)
    assert handshake.data_to_send() == framed(b"snot_allowed")


def test_a_nameless_node_is_refused_where_no_names_are_given():
    captured = CAPTURED["dynamic name (NAME_ME, name = host only)"]
    handshake = accepting(local_node(PLATO))

    (event,) = handshake.receive_data(framed(captured_packets(captured, "us->beam")[0]), 0.0)

    assert "asks for a dynamic node name" in str(event.error)
    assert handshake.data_to_send() == framed(b"snot_allowed")


# Both roles, every status


def test_two_nodes_with_the_same_cookie_connect():
    events_of_both = exchange(
        initiating(local_node(SOCRATES), PLATO), accepting(local_node(PLATO, challenge=1, creation=9))
    )

    assert events_of_both == (
        [HandshakeCompleted(PLATO, OFFERED, OFFERED, 9)],
        [HandshakeCompleted(SOCRATES, OFFERED, OFFERED, 7)],
    )


def test_both_know_the_common_flags_and_the_peers_flags():
    acceptor = accepting(local_node(PLATO, challenge=1, flags=OFFERED & ~Flags.FRAGMENTS))
    (at_initiator,), (at_acceptor,) = exchange(initiating(local_node(SOCRATES, flags=HIDDEN), PLATO), acceptor)

    assert at_initiator.flags == at_acceptor.flags == HIDDEN & ~Flags.FRAGMENTS
    assert Flags.PUBLISHED in at_initiator.peer_flags
    assert Flags.PUBLISHED not in at_acceptor.peer_flags


def test_ok_simultaneous_continues_the_handshake():
    assert both_completed(
        exchange(
            initiating(local_node(SOCRATES), PLATO), accepting(local_node(PLATO, challenge=1), Status.OK_SIMULTANEOUS)
        )
    )


def test_nok_ends_the_handshake_in_favour_of_the_other_connection():
    (at_initiator,), (at_acceptor,) = exchange(
        initiating(local_node(SOCRATES), PLATO), accepting(local_node(PLATO), Status.NOK)
    )

    assert type(at_initiator.error) is SimultaneousConnect
    assert type(at_acceptor.error) is SimultaneousConnect


def test_not_allowed_refuses_the_connection():
    (at_initiator,), (at_acceptor,) = exchange(
        initiating(local_node(SOCRATES), PLATO), accepting(local_node(PLATO), Status.NOT_ALLOWED)
    )

    assert "not_allowed" in str(at_initiator.error)
    assert "not allowed" in str(at_acceptor.error)


def test_an_old_connection_is_replaced_if_the_initiator_has_lost_it():
    assert both_completed(
        exchange(initiating(local_node(SOCRATES), PLATO), accepting(local_node(PLATO, challenge=1), Status.ALIVE))
    )


def test_an_old_connection_is_kept_if_the_initiator_still_has_it():
    initiator = initiating(local_node(SOCRATES), PLATO, keep_attempt=False)
    (at_initiator,), (at_acceptor,) = exchange(initiator, accepting(local_node(PLATO), Status.ALIVE))

    assert type(at_initiator.error) is SimultaneousConnect
    assert "keeps its existing connection" in str(at_acceptor.error)


def test_a_wrong_cookie_does_not_replace_an_old_connection():
    acceptor = accepting(local_node(PLATO, challenge=1), Status.ALIVE)
    _, (at_acceptor,) = exchange(initiating(local_node(SOCRATES, cookie="other"), PLATO), acceptor)

    assert "cookies differ" in str(at_acceptor.error)


def test_an_unwanted_incarnation_is_refused_after_its_challenge():
    asked = []
    initiator = HandshakeDriver(
        initiate(
            local_node(SOCRATES), PLATO, lambda: True, lambda creation: asked.append(creation) or "it disconnected"
        ),
        now=0.0,
    )
    acceptor = accepting(local_node(PLATO, creation=9))

    events_of_both, seen = exchange(initiator, acceptor)

    assert asked == [9]
    assert isinstance(events_of_both[0], HandshakeFailed)
    assert "it disconnected" in str(events_of_both[0].error)
    assert seen == []
    (failed,) = acceptor.receive_eof()
    assert isinstance(failed.error, InitiatorClosed)


def test_an_unwanted_incarnation_is_accepted_if_it_was_connecting_to_us():
    initiator = HandshakeDriver(
        initiate(local_node(SOCRATES), PLATO, lambda: True, lambda _: "it disconnected"), now=0.0
    )

    (at_initiator,), (at_acceptor,) = exchange(
        initiator, accepting(local_node(PLATO, challenge=1), Status.OK_SIMULTANEOUS)
    )

    assert isinstance(at_initiator, HandshakeCompleted)
    assert isinstance(at_acceptor, HandshakeCompleted)


def test_decide_is_called_once_with_the_name_and_the_flags():
    asked = []

    def decide(name, flags):
        asked.append((name, flags))
        return Status.OK

    exchange(
        initiating(local_node(SOCRATES, flags=HIDDEN), PLATO),
        HandshakeDriver(accept(local_node(PLATO, challenge=1), decide), now=0.0),
    )

    assert asked == [(SOCRATES, HIDDEN)]


def test_an_initiator_with_our_own_name_is_refused_without_decide():
    handshake = HandshakeDriver(accept(local_node(PLATO), lambda _name, _flags: pytest.fail("asked")), now=0.0)
    (at_initiator,), (at_acceptor,) = exchange(initiating(local_node(PLATO), PLATO), handshake)

    assert type(at_initiator.error) is SimultaneousConnect
    assert "our own name" in str(at_acceptor.error)


# Cookies


def test_the_acceptor_refuses_a_wrong_cookie():
    _, (event,) = exchange(
        initiating(local_node(SOCRATES, cookie="other"), PLATO), accepting(local_node(PLATO, challenge=1))
    )

    assert str(event.error) == (
        "Connection attempt from node socrates@127.0.0.1 rejected: invalid challenge reply (the cookies differ)"
    )


def test_the_initiator_sees_a_wrong_cookie_as_a_close():
    initiator, acceptor = (
        initiating(local_node(SOCRATES, cookie="other"), PLATO),
        accepting(local_node(PLATO, challenge=1)),
    )
    exchange(initiator, acceptor)

    (event,) = initiator.receive_eof()

    assert type(event.error) is HandshakeRefused
    assert str(event.error) == (
        "plato@127.0.0.1 closed the connection after our challenge reply: the cookies probably differ"
    )


def test_the_initiator_refuses_a_wrong_digest():
    initiator = initiating(local_node(SOCRATES), PLATO)

    (event,) = initiator.receive_data(framed(b"sok", challenge_packet(PLATO), b"a" + bytes(16)), 0.0)

    assert "does not know our cookie" in str(event.error)


def test_each_peer_may_have_its_own_cookie():
    cookies = {PLATO: "one", SOCRATES: "one", "other@h": "two"}
    socrates = LocalNode(SOCRATES, 1, {PLATO: "one"}.__getitem__, lambda: 5, set())
    plato = LocalNode(PLATO, 1, cookies.__getitem__, lambda: 6, set())

    events_of_both = exchange(initiating(socrates, PLATO), accepting(plato))

    assert both_completed(events_of_both)


def test_a_cookie_is_encoded_in_latin_1():
    assert digest("é", 1) == hashlib.md5(b"\xe91").digest()
    with pytest.raises(ValueError, match="Latin-1"):
        digest("€", 1)


def test_the_initiator_does_not_answer_a_reflected_challenge():
    outstanding = set()
    acceptor = accepting(local_node(PLATO, challenge=0xAAAA, outstanding=outstanding))
    acceptor.receive_data(framed(name_packet(SOCRATES)), 0.0)
    initiator = initiating(local_node(PLATO, outstanding=outstanding), SOCRATES)
    initiator.data_to_send()

    (event,) = initiator.receive_data(framed(b"sok", challenge_packet(SOCRATES, challenge=0xAAAA)), 0.0)

    assert "our own challenge" in str(event.error)
    assert initiator.data_to_send() == b""


def test_the_acceptor_does_not_answer_a_reflected_challenge():
    acceptor = accepting(local_node(PLATO, challenge=1, outstanding={5}))

    (event,) = acceptor.receive_data(framed(name_packet(SOCRATES), reply_packet(5)), 0.0)

    assert "our own challenge" in str(event.error)
    assert not acceptor.data_to_send().endswith(digest("monster", 5))


@pytest.mark.parametrize("end", ["abort", "receive_eof"])
def test_no_challenge_stays_outstanding_after_a_handshake(end):
    outstanding = set()
    acceptor = accepting(local_node(PLATO, outstanding=outstanding))
    acceptor.receive_data(framed(name_packet(SOCRATES)), 0.0)
    assert outstanding == {0xCAFEBABE}

    getattr(acceptor, end)()

    assert outstanding == set()


# Names and flags


@pytest.mark.parametrize("name", ["a@b", "x" * 100 + "@" + "y" * 154, "a@::1", "a.b@c.d"])
def test_valid_node_names(name):
    assert is_node_name(name)


@pytest.mark.parametrize("name", ["", "@", "a@", "@b", "a", "a@b@c", "é@h", "a\n@h", "x" * 100 + "@" + "y" * 155])
def test_an_invalid_node_name_ends_the_handshake_without_an_answer(name):
    handshake = accepting(local_node(PLATO))

    (event,) = handshake.receive_data(framed(name_packet(name)), 0.0)

    assert not is_node_name(name)
    assert type(event.error) is RemoteProtocolError
    assert handshake.data_to_send() == b""


def test_initiating_to_an_invalid_node_name_is_a_local_error():
    with pytest.raises(LocalProtocolError, match="name@host"):
        initiating(local_node(SOCRATES), "plato")


def test_the_error_names_the_other_node_at_the_address():
    (event,), _ = exchange(
        initiating(local_node(SOCRATES), "plato@localhost"), accepting(local_node(PLATO, challenge=1))
    )

    assert "plato@127.0.0.1, not plato@localhost" in str(event.error)


@pytest.mark.parametrize("lacking", list(REQUIRED))
def test_an_initiator_without_a_required_flag_is_not_allowed(lacking):
    flags = REQUIRED & ~lacking
    (at_initiator,), (at_acceptor,) = exchange(
        initiating(local_node(SOCRATES, flags=flags), PLATO), accepting(local_node(PLATO))
    )

    assert lacking.name in str(at_acceptor.error)
    assert "not_allowed" in str(at_initiator.error)


def test_an_acceptor_without_a_required_flag_is_refused():
    packet = challenge_packet(PLATO, flags=REQUIRED & ~Flags.UTF8_ATOMS)

    (event,) = initiating(local_node(SOCRATES), PLATO).receive_data(framed(b"sok", packet), 0.0)

    assert "lacks required capabilities: UTF8_ATOMS" in str(event.error)


def test_bytes_after_the_name_are_ignored():
    acceptor = accepting(local_node(PLATO))

    assert acceptor.receive_data(framed(name_packet(SOCRATES) + b"more"), 0.0) == []
    assert acceptor.data_to_send().startswith(framed(b"sok"))


def test_an_old_name_packet_is_followed_by_a_complement():
    acceptor = accepting(local_node(PLATO, challenge=1))
    old = b"n" + struct.pack(">HI", 5, OFFERED & 0xFFFFFFFF) + SOCRATES.encode()
    complement = b"c" + struct.pack(">II", OFFERED >> 32, 77)
    events = acceptor.receive_data(framed(old, complement, reply_packet(5)), 0.0)

    assert events == [HandshakeCompleted(SOCRATES, OFFERED, OFFERED, 77)]


def test_a_node_without_handshake_23_is_refused():
    (event,) = accepting(local_node(PLATO)).receive_data(
        framed(b"n" + struct.pack(">HI", 5, 0x7499) + SOCRATES.encode()), 0.0
    )

    assert "HANDSHAKE_23" in str(event.error)


# Bytes, time and other protocols


def test_lengths_have_four_bytes_with_tls():
    initiator = initiating(local_node(SOCRATES), PLATO, tls=True)
    first = initiator.data_to_send()

    assert first[:4] == struct.pack(">I", len(first) - 4)
    assert both_completed(
        exchange(initiating(local_node(SOCRATES), PLATO, tls=True), accepting(local_node(PLATO, challenge=1), tls=True))
    )


def test_the_time_limit_is_for_the_whole_handshake():
    handshake = accepting(local_node(PLATO))
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
    (event,) = initiating(local_node(SOCRATES), PLATO).receive_eof()

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
    handshake = accepting(local_node(PLATO))

    (event,) = handshake.receive_data(greeting, 0.0)

    assert f"speaks {protocol}" in str(event.error)
    assert handshake.data_to_send() == handshake.trailing_data == b""


@pytest.mark.parametrize("packet", [b"\x00\x00", b"\x00\x01N", framed(b"Nabc"), framed(b"s" + b"ok")])
def test_an_invalid_name_packet_ends_the_handshake(packet):
    (event,) = accepting(local_node(PLATO)).receive_data(packet, 0.0)

    assert type(event.error) is RemoteProtocolError


def test_a_packet_that_is_too_long_is_refused_at_its_length():
    (event,) = accepting(local_node(PLATO), tls=True).receive_data(b"\x7f\xff\xff\xff", 0.0)

    assert "length field of the packet is 2147483647" in str(event.error)


def test_an_unknown_status_ends_the_handshake():
    (event,) = initiating(local_node(SOCRATES), PLATO).receive_data(framed(b"snamed:xyz"), 0.0)

    assert "unknown status" in str(event.error)


def test_an_invalid_answer_to_alive_ends_the_handshake():
    handshake = accepting(local_node(PLATO), Status.ALIVE)

    (event,) = handshake.receive_data(framed(name_packet(SOCRATES), b"sperhaps"), 0.0)

    assert "neither true nor false" in str(event.error)


def test_trailing_data_is_left_for_the_channel():
    acceptor = accepting(local_node(PLATO, challenge=1))
    initiator = initiating(local_node(SOCRATES), PLATO)
    acceptor.receive_data(initiator.data_to_send(), 0.0)
    initiator.receive_data(acceptor.data_to_send(), 0.0)

    acceptor.receive_data(initiator.data_to_send() + b"\x00\x00\x00\x00\x00", 0.0)

    assert acceptor.trailing_data == b"\x00\x00\x00\x00\x00"


def test_an_aborted_handshake_gives_no_more_events():
    handshake = accepting(local_node(PLATO))
    handshake.abort()

    assert handshake.receive_data(b"GET /", 0.0) == handshake.receive_eof() == handshake.handle_timeout(9.0) == []


NAME = framed(name_packet(SOCRATES))
REPLY = framed(reply_packet(5))


def feed(handshake, pieces):
    events = []
    for piece in pieces:
        events += handshake.receive_data(piece, 0.0)
    return [
        str(event.error) if isinstance(event, HandshakeFailed) else event for event in events
    ], handshake.data_to_send()


BYTE_STREAMS = st.lists(
    st.one_of(st.just(NAME), st.just(REPLY), st.binary(max_size=40), st.binary(max_size=30).map(framed)),
    max_size=4,
).map(b"".join)


@pytest.mark.slow
@given(BYTE_STREAMS, st.data())
def test_any_split_of_the_bytes_gives_the_same_result(stream, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert feed(accepting(local_node(PLATO, challenge=1)), pieces) == feed(
        accepting(local_node(PLATO, challenge=1)), [stream]
    )


@given(st.binary(max_size=80), st.sampled_from([b"", NAME, NAME + REPLY]))
def test_the_acceptor_never_raises_on_any_bytes(noise, before):
    events = accepting(local_node(PLATO, challenge=1)).receive_data(before + noise, 0.0)

    assert all(isinstance(event, HandshakeCompleted) or isinstance(event.error, ErlmeshError) for event in events)


@given(st.binary(max_size=80), st.sampled_from([b"", framed(b"sok"), framed(b"salive")]))
def test_the_initiator_never_raises_on_any_bytes(noise, before):
    events = initiating(local_node(SOCRATES), PLATO).receive_data(before + noise, 0.0)

    assert all(isinstance(event, HandshakeCompleted) or isinstance(event.error, ErlmeshError) for event in events)


def test_a_stall_extends_the_deadline_once():
    handshake = accepting(local_node(PLATO))
    assert handshake.is_timed_out(7.0)

    assert handshake.handle_timeout(10.0) == []

    assert handshake.next_deadline() == 13.0
    (event,) = handshake.handle_timeout(20.0)
    assert type(event.error) is HandshakeTimeout


def test_a_long_stall_extends_the_deadline_by_one_time_limit_at_most():
    handshake = accepting(local_node(PLATO))

    handshake.handle_timeout(1000.0)

    assert handshake.next_deadline() == 1007.0


def test_a_packet_that_waited_in_the_socket_extends_the_deadline_once():
    initiator, acceptor = initiating(local_node(SOCRATES), PLATO), accepting(local_node(PLATO, challenge=1))
    acceptor.receive_data(initiator.data_to_send(), 0.0)

    assert initiator.receive_data(acceptor.data_to_send(), 7.0) == []

    assert initiator.handle_timeout(7.0) == []
    assert initiator.next_deadline() == 7.5
    (event,) = initiator.handle_timeout(7.5)
    assert type(event.error) is HandshakeTimeout


# Exact lengths, and the limit on guesses


@pytest.mark.parametrize("extra", [b"\0", bytes(5000)])
def test_a_challenge_reply_has_exactly_its_length(extra):
    acceptor = accepting(local_node(PLATO, challenge=1))

    (event,) = acceptor.receive_data(framed(name_packet(SOCRATES), reply_packet(5) + extra), 0.0)

    assert "instead of 21" in str(event.error)


@pytest.mark.parametrize("extra", [b"\0", bytes(5000)])
def test_a_challenge_ack_has_exactly_its_length(extra):
    initiator = initiating(local_node(SOCRATES, challenge=1), PLATO)
    ack = b"a" + digest("monster", 1) + extra

    (event,) = initiator.receive_data(framed(b"sok", challenge_packet(PLATO), ack), 0.0)

    assert "instead of 17" in str(event.error)


def test_bytes_behind_a_name_are_room_for_growth():
    acceptor = accepting(local_node(PLATO, challenge=1))

    (event,) = acceptor.receive_data(framed(name_packet(SOCRATES) + b"more", reply_packet(5)), 0.0)

    assert isinstance(event, HandshakeCompleted)


def limited(seconds, cookie="monster"):
    node = local_node(PLATO, challenge=1, cookie=cookie)
    return HandshakeDriver(accept(node, lambda *_: Status.OK, lambda _: seconds), now=0.0)


@pytest.mark.parametrize("cookie", ["monster", "other"])
def test_a_digest_is_checked_after_the_pause(cookie):
    acceptor = limited(2.0, cookie)
    acceptor.receive_data(framed(name_packet(SOCRATES)), 0.0)
    acceptor.data_to_send()

    assert acceptor.receive_data(framed(reply_packet(5)), 1.0) == []
    assert acceptor.next_deadline() == 3.0
    assert acceptor.handle_timeout(2.9) == []
    assert acceptor.data_to_send() == b""
    (event,) = acceptor.handle_timeout(3.0)

    if cookie == "monster":
        assert isinstance(event, HandshakeCompleted)
        assert acceptor.data_to_send()[2:3] == b"a"
    else:
        assert isinstance(event.error, WrongCookie)
        assert event.error.name == SOCRATES
        assert acceptor.data_to_send() == b""


def test_too_many_guesses_are_refused_unchecked():
    (event,) = limited(None).receive_data(framed(name_packet(SOCRATES), reply_packet(5)), 0.0)

    assert isinstance(event.error, TooManyGuesses)


def test_data_during_the_pause_ends_the_handshake():
    acceptor = limited(2.0)
    (event,) = acceptor.receive_data(framed(name_packet(SOCRATES), reply_packet(5)) + b"x", 0.0)
    assert isinstance(event.error, RemoteProtocolError)
    acceptor = limited(2.0)
    acceptor.receive_data(framed(name_packet(SOCRATES), reply_packet(5)), 0.0)
    (event,) = acceptor.receive_data(b"x", 1.0)
    assert isinstance(event.error, RemoteProtocolError)


def test_the_end_of_the_connection_ends_the_pause():
    acceptor = limited(2.0)
    acceptor.receive_data(framed(name_packet(SOCRATES), reply_packet(5)), 0.0)

    (event,) = acceptor.receive_eof()

    assert isinstance(event, HandshakeFailed)
    assert acceptor.next_deadline() == math.inf
