"""Channels: signals between two ends, fragments, invalid data, ticks and timeouts."""

import math
import re
import struct
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmesh import native
from erlmesh.errors import EncodeError, LocalProtocolError
from erlmesh.etf import encode_term
from erlmesh.etf.element_count import KEY_SURCHARGE, first_beyond
from erlmesh.proto.atom_cache import encode_references
from erlmesh.proto.channel import Channel, ConnectionLost
from erlmesh.proto.control import (
    Demonitor,
    Down,
    ExitLink,
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
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.fragments import split
from erlmesh.proto.wire import PureWire
from erlmesh.terms import Atom, Map, Pid, Ref

SOCRATES, PLATO = "socrates@127.0.0.1", "plato@127.0.0.1"
HERE, THERE = Pid(Atom(SOCRATES), 85, 0, 7), Pid(Atom(PLATO), 90, 0, 9)
REF = Ref(Atom(SOCRATES), 7, (1, 2, 3))
REMOTE_REF = Ref(Atom(PLATO), 9, (4, 5, 6))
PING = Atom("ping")
TICK = bytes(4)

CACHED = OFFERED
FRAGMENTS_ONLY = OFFERED & ~Flags.DIST_HDR_ATOM_CACHE
CACHE_ONLY = OFFERED & ~Flags.FRAGMENTS
PASS_THROUGH = FRAGMENTS_ONLY & ~Flags.FRAGMENTS
FRAMINGS = [CACHED, FRAGMENTS_ONLY, CACHE_ONLY, PASS_THROUGH]
every_framing = pytest.mark.parametrize("flags", FRAMINGS, ids=["both", "fragments", "cache", "pass-through"])


# Every test runs with all combinations of both builds at the two ends.
BUILDS = {"pure": PureWire} | ({"native": native.module.Wire} if native.module is not None else {})
ends = {"socrates": PureWire, "plato": PureWire}
"""The wires that ``pair`` uses."""


@pytest.fixture(
    autouse=True, scope="module", params=product(BUILDS, repeat=2), ids=lambda both: f"{both[0]}-to-{both[1]}"
)
def builds_of_both_ends(request):
    ends["socrates"], ends["plato"] = (BUILDS[name] for name in request.param)


def pair(flags=OFFERED, **options):
    """Return the channel of socrates to plato, and the channel of plato to socrates."""
    return (
        Channel(PLATO, SOCRATES, flags, now=0.0, make_wire=ends["socrates"], **options),
        Channel(SOCRATES, PLATO, flags, now=0.0, make_wire=ends["plato"], **options),
    )


def plato(flags=OFFERED, **options):
    return pair(flags, **options)[1]


def framed(*frames):
    return b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)


def transfer(signals, flags=OFFERED):
    """Return the events that ``signals`` give at the receiver, and the number of bytes sent."""
    sender, receiver = pair(flags)
    events, size = [], 0
    for signal in signals:
        sender.send(signal)
        data = sender.data_to_send(0.0)
        size += len(data)
        events += receiver.receive_data(data, 0.0)
    return events, size


SIGNALS = [
    Send(HERE, THERE, (PING, 1)),
    SendName(HERE, Atom("rex"), [HERE, THERE, True]),
    SendAlias(HERE, REMOTE_REF, b"answer"),
    Link(HERE, THERE),
    Unlink(5, HERE, THERE),
    UnlinkAck(1 << 63, HERE, THERE),
    ExitLink(HERE, THERE, Atom("killed")),
    Monitor(HERE, Atom("rex"), REF),
    Monitor(HERE, THERE, REF),
    Demonitor(HERE, THERE, REF),
    Down(Atom("rex"), THERE, REMOTE_REF, Atom("noproc")),
    Down(HERE, THERE, REMOTE_REF, (Atom("shutdown"), 1)),
    SpawnRequest(REF, HERE, HERE, Atom("m"), Atom("f"), 1, [Atom("monitor")], [1]),
    SpawnReply(REMOTE_REF, THERE, 2, HERE),
    Send(HERE, THERE, (PING, 2), (0, 1, 2, HERE, 0)),
]


@every_framing
def test_every_signal_arrives_unchanged_many_times(flags):
    sent = [signal for _ in range(4) for signal in SIGNALS]

    assert transfer(sent, flags)[0] == sent


def test_a_repeated_signal_takes_fewer_bytes():
    once, many = transfer([SIGNALS[0]])[1], transfer([SIGNALS[0]] * 101)[1]

    assert (many - once) / 100 < 0.7 * once


def test_a_cached_prefix_carries_different_messages():
    sent = [Send(HERE, THERE, (PING, number, Atom(f"other{number % 7}"))) for number in range(50)]

    assert transfer(sent)[0] == sent


def test_a_cached_prefix_carries_different_references():
    refs = [Ref(Atom(SOCRATES), 7, (number, 1 << 31, 3)) for number in range(20)]
    sent = [kind(HERE, Atom("rex"), ref) for ref in refs for kind in (Monitor, Demonitor)]
    sent += [Down(HERE, THERE, Ref(Atom(PLATO), 9, ref.words), (Atom("noproc"), ref)) for ref in refs]
    sent += [SendAlias(HERE, Ref(Atom(PLATO), 9, ref.words), ref.words[0]) for ref in refs]
    sent += [SendAlias(HERE, Ref(Atom(PLATO), 9, (number, 2)), 1) for number in range(5)]

    assert transfer(sent)[0] == sent


def test_pids_of_two_incarnations_have_two_cached_prefixes():
    sent = [Send(HERE, Pid(Atom(PLATO), 90, 0, creation), 1) for creation in (9, 10, 9, 10, 9, 10)]

    assert transfer(sent)[0] == sent


def test_more_pairs_than_the_prefix_cache_holds_are_carried():
    sent = [Send(Pid(Atom(SOCRATES), number % 1500, 0, 7), THERE, number) for number in range(5000)]

    assert transfer(sent)[0] == sent


def test_more_atoms_than_the_cache_holds_are_carried():
    sent = [SendName(HERE, Atom(f"name{number}"), Atom(f"message{number}")) for number in range(3000)] * 2

    assert transfer(sent)[0] == sent


def test_one_write_keeps_the_order():
    sender, receiver = pair()
    for signal in SIGNALS:
        sender.send(signal)

    assert receiver.receive_data(sender.data_to_send(0.0), 0.0) == SIGNALS


def test_atoms_of_messages_leave_cells_for_names():
    messages = [Send(HERE, Pid(Atom(PLATO), number, 0, 9), Atom(f"once{number}")) for number in range(3000)]
    late = SendName(HERE, Atom("a_name_that_comes_late_and_is_rather_long"), 1)

    _, once = transfer([*messages, late])
    _, again = transfer([*messages, late, late])

    assert again - once < len(late.name.name) + 30


# Long messages


@every_framing
@pytest.mark.parametrize("size", [65_536 - 5, 65_537, 131_072 - 5, 131_072 - 4, 196_608 - 5, 196_608 - 4, 1_000_000])
def test_a_long_message_arrives_complete(flags, size):
    sent = [Send(HERE, THERE, b"\x07" * size), Send(HERE, THERE, (PING, b"\x08" * size)), Send(HERE, THERE, PING)]

    assert transfer(sent, flags)[0] == sent


def test_a_long_message_is_sent_in_fragments_of_64_kib():
    sender, _ = pair()
    sender.send(Send(HERE, THERE, bytes(200_000)))
    data, sizes = sender.data_to_send(0.0), []
    while data:
        size = int.from_bytes(data[:4], "big")
        sizes.append((data[5:6], size))
        data = data[4 + size :]

    assert [kind for kind, _ in sizes] == [b"E", b"F", b"F", b"F"]
    assert max(size for _, size in sizes) < 65_536 + 200


def test_a_fragment_of_a_term_of_many_small_parts_has_few_pieces():
    message = [piece for number in range(20_000) for piece in (b"a", b"%d" % number)] + [bytes(100_000), b"b", b"c"]

    frames = list(split(1, b"head", message))

    assert len(frames) == 4
    assert sum(map(len, frames)) <= 4 * 4
    assert b"".join(piece for frame in frames for piece in frame[1 + (frame is frames[0]) :]) == b"".join(message)


def test_every_fragmented_message_has_its_own_sequence():
    sender, _ = pair()
    for number in range(3):
        sender.send(Send(HERE, THERE, bytes(140_000 + number)))

    assert len({match[1] for match in re.finditer(rb"\x83E(.{8})", sender.data_to_send(0.0), re.DOTALL)}) == 3


def fragments(count, sequence, message, control=(22, HERE, THERE), references=()):
    """Return the frames of ``message`` in ``count`` fragments."""
    numbers = {Atom(name.decode()): number for number, (_, name) in enumerate(references)}
    head = encode_references(references) + encode_term(control, numbers)
    data = encode_term(message, numbers)
    cuts = [len(data) * index // count for index in range(count + 1)]
    pieces = [data[start:end] for start, end in pairwise(cuts)]
    return [
        struct.pack(">2sQQ", b"\x83E" if not index else b"\x83F", sequence, count - index)
        + (head if not index else b"")
        + piece
        for index, piece in enumerate(pieces)
    ]


def test_sequences_may_interleave():
    first, second = fragments(3, 1, [1] * 30), fragments(2, 2, b"x" * 30)
    frames = [first[0], second[0], first[1], second[1], first[2]]

    events = plato().receive_data(framed(*frames), 0.0)

    assert [event.message for event in events] == [b"x" * 30, [1] * 30]


def test_atoms_of_fragments_are_resolved_with_the_first_fragment():
    first = fragments(2, 1, (Atom("early"), 1), references=[(5, b"early")])
    between = b"\x83D" + encode_references([(5, b"late")]) + encode_term((22, HERE, THERE)) + b"R\x00"

    events = plato().receive_data(framed(first[0], between, first[1]), 0.0)

    assert [event.message for event in events] == [Atom("late"), (Atom("early"), 1)]


def test_a_sequence_may_have_only_one_fragment():
    events = plato().receive_data(framed(*fragments(1, 9, PING)), 0.0)

    assert events == [Send(HERE, THERE, PING)]


@pytest.mark.parametrize(
    "message",
    [bytes(300), (PING, bytes(300)), (bytes(300), [1, PING], b""), [1000] * 30, [[[b"x" * 99]]] * 3, "x" * 99],
)
@pytest.mark.parametrize("control", [(22, HERE, THERE), (6, HERE, Atom(""), PING), (26, HERE, THERE)])
def test_two_fragments_in_one_read_are_one_message(message, control):
    whole, between = fragments(2, 1, message, control), fragments(1, 2, PING, control)
    receiver = plato()

    events = receiver.receive_data(framed(*whole, *between, *whole), 0.0)

    assert events == [*apart(whole), *apart(between), *apart(whole)]
    assert len(events) == 3
    assert receiver.statistics().buffered == 0


def apart(frames):
    """Return the events of frames of which each arrives in a read of its own."""
    receiver = plato()
    return [event for frame in frames for event in receiver.receive_data(framed(frame), 0.0)]


@pytest.mark.parametrize("missing", [1, 1 << 20])
def test_a_binary_longer_than_both_fragments_ends_the_connection(missing):
    first, second = fragments(2, 1, bytes(300))
    at = first.index(struct.pack(">I", 300))
    first = first[:at] + struct.pack(">I", 300 + missing) + first[at + 4 :]

    (lost,) = plato().receive_data(framed(first, second), 0.0)

    assert lost.detail == apart([first, second])[0].detail


def test_a_fault_before_an_empty_second_fragment_is_at_the_same_byte_as_in_two_reads():
    (only,) = fragments(1, 1, bytes(300))
    faulty = only[:10] + struct.pack(">Q", 2) + only[18:-1]  # the binary lacks a byte
    second = struct.pack(">2sQQ", b"\x83F", 1, 1)

    (lost,) = plato().receive_data(framed(faulty, second), 0.0)

    assert lost.detail == apart([faulty, second])[0].detail


def test_two_fragments_in_one_read_are_limited_like_others():
    frames = fragments(2, 1, bytes(300))

    (lost,) = plato(max_unfinished=299).receive_data(framed(*frames), 0.0)

    assert "299 bytes" in lost.detail


A, B, C = fragments(3, 1, [1] * 30)


@pytest.mark.parametrize(
    ("frames", "detail"),
    [
        ([A, C], "fragment 1 of sequence 1 instead of 2"),
        ([A, B, B], "fragment 2 of sequence 1 instead of 1"),
        ([A, A], "starts a second time"),
        ([B], "which has no first fragment"),
        ([A, B, C, C], "which has no first fragment"),
        ([A[:10] + bytes(8) + A[18:]], "starts with fragment 0"),
        ([A, B[:17]], "truncated"),
        ([A[:18]], "truncated"),
        ([A[:15]], "truncated"),
    ],
)
def test_invalid_fragments_end_the_connection(frames, detail):
    *_, lost = plato().receive_data(framed(*frames), 0.0)

    assert lost.reason == "killed"
    assert detail in lost.detail


def test_fragments_that_were_not_negotiated_end_the_connection():
    (lost,) = plato(CACHE_ONLY).receive_data(framed(A), 0.0)

    assert "unknown type" in lost.detail


def test_unfinished_messages_are_limited_in_bytes_and_number():
    (lost,) = plato(max_unfinished=100).receive_data(framed(*fragments(2, 1, bytes(300))[:1]), 0.0)
    assert "100 bytes" in lost.detail

    first_fragments = framed(*(fragments(2, number, 1)[0] for number in range(4097)))
    (lost,) = plato().receive_data(first_fragments, 0.0)
    assert "4096 unfinished" in lost.detail


def test_a_finished_message_no_longer_counts_against_the_limit():
    receiver = plato(max_unfinished=400)

    for number in range(5):
        assert receiver.receive_data(framed(*fragments(3, number, bytes(300))), 0.0) == [Send(HERE, THERE, bytes(300))]
    assert receiver.statistics().buffered == 0


# Invalid data


@every_framing
def test_signals_before_an_invalid_frame_are_delivered(flags):
    sender, receiver = pair(flags)
    sender.send(SIGNALS[0])

    events = receiver.receive_data(sender.data_to_send(0.0) + framed(b"nonsense") + TICK, 0.0)

    assert events[0] == SIGNALS[0]
    assert isinstance(events[1], ConnectionLost)
    assert len(events) == 2


def test_a_lost_channel_gives_nothing_and_sends_nothing():
    channel = plato()
    channel.send(SIGNALS[0])
    channel.receive_data(framed(b"nonsense"), 0.0)

    channel.send(SIGNALS[0])

    assert channel.receive_data(framed(b"more"), 0.0) == channel.handle_timeout(1e9) == []
    assert channel.data_to_send(0.0) == b""
    assert channel.pending == 0
    assert channel.next_deadline() == math.inf


SENT = encode_term((22, HERE, THERE))


@pytest.mark.parametrize(
    ("frame", "detail"),
    [
        (b"\x83", "unknown type"),
        (b"\x84D\x00", "starts with 131"),
        (b"\x83G\x00", "unknown type"),
        (b"\x83D", "truncated"),
        (b"\x83D\x01\x00\x05", "empty atom cache cell"),
        (b"\x83D\x00" + SENT, "ends inside"),
        (b"\x83D\x00" + SENT + b"R\x00", "cache reference"),
        (b"\x83D\x00" + SENT + b"P\x00\x00\x00\x01", "tag 80"),
        (b"\x83D\x00" + SENT + b"F\x7f\xf8\x00\x00\x00\x00\x00\x00", "finite"),
        (b"\x83D\x00" + encode_term((99, HERE, THERE)), "Invalid distribution message: {99,"),
        (b"\x83D\x00" + encode_term((1, THERE, THERE)), "Invalid distribution message: {1,"),
        (b"\x83D\x00" + encode_term(PING), "not a control tuple"),
        (b"p\x83" + SENT + b"\x83a\x01", "starts with 131"),
    ],
)
def test_an_invalid_frame_is_reported(frame, detail):
    (lost,) = plato().receive_data(framed(frame), 0.0)

    assert lost.reason == "killed"
    assert detail in lost.detail


@pytest.mark.parametrize("frame", [b"\x83D\x00" + SENT + b"a\x01", b"p\x83" + SENT + b"a\x01", b"p" + SENT, b"p"])
def test_an_invalid_pass_through_frame_ends_the_connection(frame):
    (lost,) = plato(PASS_THROUGH).receive_data(framed(frame), 0.0)

    assert lost.reason == "killed"


def test_bytes_after_the_message_are_ignored():
    assert plato().receive_data(framed(b"\x83D\x00" + SENT + b"a\x01" + b"more"), 0.0) == [Send(HERE, THERE, 1)]


def cached_frame(message):
    return b"\x83D" + encode_references([(0, None), (1, None)]) + CACHED_CONTROL + message


NODES = {Atom(SOCRATES): 0, Atom(PLATO): 1}
CACHED_CONTROL = encode_term((22, HERE, THERE), NODES)
FIRST = b"\x83D" + encode_references([(0, SOCRATES.encode()), (1, PLATO.encode())]) + CACHED_CONTROL + b"a\x00"


@pytest.mark.parametrize("cut", [b"h\x02a\x01", b"m\x00\x00\x00\x04ab", b"a", b""])
def test_a_truncated_message_after_a_cached_prefix_does_not_read_into_the_next_frame(cut):
    cut = cached_frame(cut)

    *signals, lost = plato().receive_data(framed(FIRST, cached_frame(b"a\x01"), cut, cached_frame(b"a\x02")), 0.0)

    assert [signal.message for signal in signals] == [0, 1]
    assert "ends inside" in lost.detail


def test_trailing_bytes_after_a_cached_prefix_are_ignored():
    events = plato().receive_data(framed(FIRST, *[cached_frame(b"a\x01more"), cached_frame(b"a\x02")] * 2), 0.0)

    assert [event.message for event in events] == [0, 1, 2, 1, 2]


def test_a_send_prefix_is_dropped_when_its_cell_is_overwritten():
    renamed = b"\x83D" + encode_references([(1, b"other@127.0.0.1")]) + encode_term((2, Atom(""), HERE)) + b"a\x02"

    frames = [FIRST, cached_frame(b"a\x01"), cached_frame(b"a\x01"), renamed, cached_frame(b"a\x03")]
    events = plato().receive_data(framed(*frames), 0.0)

    assert [event.to.node.name for event in events] == [PLATO, PLATO, PLATO, SOCRATES, "other@127.0.0.1"]


def test_a_ref_prefix_is_dropped_when_its_cell_is_overwritten():
    control = encode_term((19, HERE, Atom("rex"), REF), NODES | {Atom("rex"): 2})
    cells = [(0, SOCRATES.encode()), (1, PLATO.encode()), (2, b"rex")]
    first = b"\x83D" + encode_references(cells) + control
    again = b"\x83D" + encode_references([(cell, None) for cell, _ in cells]) + control
    renamed = b"\x83D" + encode_references([(2, b"kernel")]) + encode_term((1, HERE, THERE))

    events = plato().receive_data(framed(first, again, again, renamed, again), 0.0)

    assert [event.target.name for event in events if isinstance(event, Monitor)] == ["rex", "rex", "rex", "kernel"]


def test_a_reference_of_another_size_does_not_match_a_ref_prefix():
    references = [Ref(Atom("a@bc"), 9, (number, 2)) for number in range(4)]
    header = b"\x83D" + encode_references([(0, None), (1, None)])
    frames = [header + encode_term((33, HERE, ref), NODES) + b"a\x01" for ref in references]

    events = plato().receive_data(framed(FIRST, *frames), 0.0)

    assert [event.alias for event in events[1:]] == references


def test_a_too_long_frame_is_refused_at_its_length_field():
    (lost,) = plato(max_frame=1000).receive_data(b"\x00\x00\x03\xe9", 0.0)
    assert lost.reason == "emsgsize"

    (lost,) = plato().receive_data(b"\x7f\xff\xff\xff", 0.0)
    assert lost.reason == "emsgsize"


def test_a_frame_of_the_maximum_length_is_accepted():
    frame = b"\x83D\x00" + SENT + encode_term(bytes(100))

    assert plato(max_frame=len(frame)).receive_data(framed(frame), 0.0) == [Send(HERE, THERE, bytes(100))]


LIST_OF_100 = encode_term([[]] * 100)


@pytest.mark.parametrize("flags", [OFFERED, OFFERED & ~Flags.DIST_HDR_ATOM_CACHE & ~Flags.FRAGMENTS])
def test_a_message_with_too_many_elements_is_refused_before_it_is_decoded(flags):
    head = b"\x83D\x00" if Flags.FRAGMENTS in flags else b"p\x83"
    between = b"" if Flags.FRAGMENTS in flags else b"\x83"
    frame = head + SENT + between + LIST_OF_100
    announced = 3 + 101  # the control tuple, and the list with its tail

    assert len(plato(flags, max_elements=announced).receive_data(framed(frame), 0.0)) == 1

    (lost,) = plato(flags, max_elements=announced - 1).receive_data(framed(frame), 0.0)

    assert lost.reason == "emsgsize"
    at = frame.index(LIST_OF_100)
    assert lost.detail == f"a message with more than the {announced - 1} elements allowed (at byte {at})"


def test_a_message_with_a_known_prefix_is_counted_too():
    receiver = plato(max_elements=50)
    frame = b"\x83D\x00" + SENT
    assert len(receiver.receive_data(framed(*[frame + b"j"] * 3), 0.0)) == 3

    (lost,) = receiver.receive_data(framed(frame + LIST_OF_100), 0.0)

    assert lost.reason == "emsgsize"


def test_the_elements_of_a_message_in_fragments_are_counted_together():
    frames = fragments(3, 1, [[]] * 1000)

    assert len(plato(max_elements=1100).receive_data(framed(*frames), 0.0)) == 1

    (lost,) = plato(max_elements=900).receive_data(framed(*frames), 0.0)

    assert lost.reason == "emsgsize"


def test_the_containers_in_keys_are_counted_alike_in_both_builds():
    inner = Map([((1,), (2,)), ([Map([((), 3)])], (4, [])), (5, ((6,),))])
    message = encode_term((inner, [inner, (1,)]))
    frame = b"\x83D\x00" + SENT + message
    limit, start = 4, frame.index(SENT)

    while (at := first_beyond(frame, start, limit)) is not None:
        (lost,) = plato(max_elements=limit).receive_data(framed(frame), 0.0)
        assert lost.detail == f"a message with more than the {limit} elements allowed (at byte {at})"
        limit += 1
    assert limit > 3 * KEY_SURCHARGE
    (received,) = plato(max_elements=limit).receive_data(framed(frame), 0.0)
    assert received.message == (inner, [inner, (1,)])


def test_a_message_is_counted_from_a_quarter_of_the_limit_on():
    """In fewer bytes than the limit, keys can cost more than it allows."""
    message = (b"t\0\0\0\1" + b"h\1") * 50 + b"j" + b"j" * 50
    limit = len(message) + 200

    assert first_beyond(message, 0, limit) is not None
    (lost,) = plato(max_elements=limit).receive_data(framed(b"\x83D\x00" + SENT + message), 0.0)

    assert lost.reason == "emsgsize"


def test_the_bytes_of_a_binary_are_no_elements():
    frame = b"\x83D\x00" + SENT + encode_term([bytes(100_000)])

    assert len(plato(max_elements=10).receive_data(framed(frame), 0.0)) == 1


# Invalid signals to send


@every_framing
@pytest.mark.parametrize("message", [None, float("nan"), object(), (PING, Atom("new"), None)])
def test_a_value_that_is_not_a_term_is_refused_without_a_change_of_state(flags, message):
    sender, receiver = pair(flags)
    for signal in (
        Send(HERE, THERE, message),
        SendName(HERE, Atom("unused"), message),
        SendAlias(HERE, REMOTE_REF, message),
    ):
        with pytest.raises(EncodeError):
            sender.send(signal)
    assert sender.pending == 0

    for signal in SIGNALS:
        sender.send(signal)

    assert receiver.receive_data(sender.data_to_send(0.0), 0.0) == SIGNALS


def test_a_frame_too_long_for_a_beam_is_refused():
    sender, _ = pair(CACHE_ONLY)

    with pytest.raises(LocalProtocolError, match="longer than a peer reads"):
        sender.send(Send(HERE, THERE, bytes(0x08000000)))


def test_pending_counts_the_bytes_to_send():
    sender, _ = pair()
    sender.send(SIGNALS[0])
    sender.send(SIGNALS[1])

    pending, data = sender.pending, sender.data_to_send(0.0)

    assert pending == len(data)
    assert sender.pending == 0
    assert sender.data_to_send(0.0) == b""


# Ticks


def test_a_tick_is_sent_after_an_idle_quarter_of_the_tick_time():
    channel = plato(net_ticktime=8.0)
    assert channel.next_deadline() == 2.0
    assert channel.handle_timeout(1.9) == []
    assert channel.data_to_send(1.9) == b""

    assert channel.handle_timeout(2.0) == []

    assert channel.data_to_send(2.0) == TICK
    assert channel.next_deadline() == 4.0


def test_a_node_that_sent_data_sends_no_tick():
    channel = plato(net_ticktime=8.0)
    channel.send(SIGNALS[0])
    channel.data_to_send(1.5)

    channel.handle_timeout(2.0)

    assert channel.data_to_send(2.0) == b""
    assert channel.next_deadline() == 3.5


def test_no_tick_is_queued_behind_pending_data():
    channel = plato(net_ticktime=8.0)
    channel.send(SIGNALS[0])

    channel.handle_timeout(2.0)

    assert channel.next_deadline() == 4.0
    assert not channel.data_to_send(2.0).endswith(TICK)


def test_a_peer_times_out_after_an_idle_tick_time():
    channel = plato(net_ticktime=8.0)
    channel.receive_data(TICK, 1.0)
    times = [2.0 * step for step in range(1, 5)]

    assert [channel.handle_timeout(now) for now in times] == [[], [], [], []]
    (lost,) = channel.handle_timeout(9.0)
    assert lost == ConnectionLost("net_tick_timeout", "no data from socrates@127.0.0.1 for 8 s")


def test_handling_every_deadline_finds_the_timeout_in_time():
    channel, now = plato(net_ticktime=8.0), 0.0
    while not channel.handle_timeout(now):
        channel.data_to_send(now)
        assert channel.next_deadline() > now
        now = channel.next_deadline()

    assert now == 8.0


def test_any_byte_prevents_a_timeout():
    channel = plato(net_ticktime=8.0)
    for now in range(1, 100):
        channel.receive_data(b"\x00" if now % 2 else b"\x00\x00\x00\x00", float(now))
        assert channel.handle_timeout(float(now)) == []


def test_a_tick_is_answered_for_peers_with_a_shorter_tick_time():
    channel = plato()
    channel.receive_data(TICK, 0.0)

    assert channel.data_to_send(0.0) == TICK


def test_a_tick_is_not_answered_if_data_was_sent_since_the_last_one():
    channel = plato()
    channel.send(SIGNALS[0])
    channel.receive_data(TICK, 0.0)
    data = channel.data_to_send(0.0)

    assert not data.endswith(TICK)
    channel.receive_data(TICK, 1.0)
    assert channel.data_to_send(1.0) == TICK


def test_two_idle_nodes_stay_connected_for_an_hour():
    ends = pair(net_ticktime=8.0)
    ticks = 0
    for quarter in range(4 * 3600):
        now = quarter / 4
        for end, other in (ends, ends[::-1]):
            assert end.handle_timeout(now) == []
            data = end.data_to_send(now)
            ticks += len(data) // 4
            assert other.receive_data(data, now) == []

    assert ticks <= 2 * 3600 / 2 * 2


def test_a_peer_with_an_eighth_of_our_tick_time_stays_connected():
    slow, fast = (
        Channel(PLATO, SOCRATES, OFFERED, now=0.0),
        Channel(SOCRATES, PLATO, OFFERED, now=0.0, net_ticktime=8.0),
    )
    for quarter in range(4 * 300):
        now = quarter / 4
        for end, other in ((slow, fast), (fast, slow)):
            assert end.handle_timeout(now) == []
            assert other.receive_data(end.data_to_send(now), now) == []


def test_after_a_stall_the_peer_gets_the_time_of_one_tick_once():
    channel = plato(net_ticktime=8.0)
    assert channel.is_timed_out(24.0)

    assert channel.handle_timeout(24.0) == []

    assert channel.data_to_send(24.0) == TICK
    assert not channel.is_timed_out(25.9)
    assert channel.next_deadline() == 26.0
    (lost,) = channel.handle_timeout(50.0)
    assert lost == ConnectionLost("net_tick_timeout", "no data from socrates@127.0.0.1 for 50 s")


def test_data_after_a_stall_allows_another_extension():
    channel = plato(net_ticktime=8.0)
    for stall_end in range(30, 300, 30):
        assert channel.handle_timeout(float(stall_end)) == []
        channel.receive_data(TICK, stall_end + 0.1)


def test_a_short_delay_gives_no_extension():
    channel = plato(net_ticktime=8.0)

    (lost,) = channel.handle_timeout(9.9)

    assert lost.reason == "net_tick_timeout"


def test_external_writes_count_as_sent():
    channel = plato(net_ticktime=8.0)
    channel.note_external_write(2, 50, 1.5)

    channel.handle_timeout(2.0)

    assert channel.data_to_send(2.0) == b""
    assert channel.next_deadline() == 3.5
    assert (channel.statistics().ticks_out, channel.statistics().bytes_out) == (2, 50)
    channel.receive_data(TICK, 2.5)
    assert channel.data_to_send(2.5) == b""


def test_data_that_another_thread_received_counts_as_data():
    channel = plato(net_ticktime=8.0)

    channel.note_external_read(5.0)
    channel.note_external_read(4.0)

    assert not channel.is_timed_out(12.9)
    assert channel.is_timed_out(13.0)


@every_framing
def test_a_standalone_frame_fits_between_any_two_frames(flags):
    sender, receiver = pair(flags)
    standalone = SendName(HERE, Atom("erlmesh"), (Atom("loop_blocked"), Atom(SOCRATES), 2000))
    events = []
    for signal in SIGNALS * 3:
        frame = sender.encode_standalone(standalone)
        sender.send(signal)
        events += receiver.receive_data(frame + sender.data_to_send(0.0), 0.0)

    assert events == [each for signal in SIGNALS * 3 for each in (standalone, signal)]
    assert sender.statistics().signals_out == len(SIGNALS) * 3


def test_a_standalone_frame_is_not_queued():
    channel = plato()

    assert channel.encode_standalone(SIGNALS[0])

    assert channel.pending == 0
    assert channel.data_to_send(0.0) == b""


# Statistics


def test_statistics_count_signals_ticks_and_bytes():
    sender, receiver = pair()
    sender.send(SIGNALS[0])
    data = sender.data_to_send(0.0)
    receiver.receive_data(TICK + data + data[:5], 0.0)

    assert sender.statistics().signals_out == 1
    assert sender.statistics().bytes_out == len(data)
    seen = receiver.statistics()
    assert (seen.signals_in, seen.ticks_in, seen.ticks_out, seen.bytes_in) == (1, 1, 1, len(data) + 9)
    assert (seen.pending, seen.buffered) == (4, 5)


# Three properties of the parser

ATOMS = st.sampled_from([PING, Atom("pong"), Atom(PLATO), Atom("true"), Atom("ж" * 200)])
PIDS = st.builds(Pid, st.sampled_from([Atom(SOCRATES)]), st.integers(0, 3), st.just(0), st.integers(7, 8))
REMOTE_PIDS = st.builds(Pid, st.sampled_from([Atom(PLATO), Atom("third@h")]), st.integers(0, 3), st.just(0), st.just(9))
REFS = st.builds(
    Ref, st.sampled_from([Atom(PLATO)]), st.just(9), st.lists(st.integers(0, 5), min_size=1, max_size=5).map(tuple)
)
MESSAGES = st.recursive(
    st.one_of(st.integers(), ATOMS, st.binary(max_size=9), PIDS, REFS, st.just(bytes(140_000))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner, inner), st.builds(lambda a: Map({1: a}), inner)
    ),
    max_leaves=5,
)
ANY_SIGNAL = st.one_of(
    st.builds(Send, PIDS, REMOTE_PIDS, MESSAGES),
    st.builds(SendName, PIDS, ATOMS, MESSAGES),
    st.builds(SendAlias, PIDS, REFS, MESSAGES),
    st.builds(Monitor, PIDS, st.one_of(REMOTE_PIDS, ATOMS), REFS),
    st.builds(Demonitor, PIDS, st.one_of(REMOTE_PIDS, ATOMS), REFS),
    st.builds(Down, st.one_of(PIDS, ATOMS), REMOTE_PIDS, REFS, MESSAGES),
    st.builds(ExitLink, PIDS, REMOTE_PIDS, MESSAGES),
)


def as_received(signal):
    """Return a signal as it is received: inside messages the atom true is received as True."""
    return repr(signal).replace("Atom('true')", "True")


@pytest.mark.slow
@settings(deadline=None)  # some examples have a megabyte of messages
@given(st.lists(ANY_SIGNAL, max_size=12), st.sampled_from(FRAMINGS))
def test_any_signals_round_trip(sent, flags):
    assert [as_received(event) for event in transfer(sent, flags)[0]] == [as_received(signal) for signal in sent]


@st.composite
def streams(draw):
    """Generate valid frames, perhaps with a few bytes inserted or replaced."""
    sender, _ = pair()
    for signal in draw(st.lists(ANY_SIGNAL, max_size=8)):
        sender.send(signal)
    stream = sender.data_to_send(0.0)
    if len(stream) < 5000 and draw(st.booleans()):
        at = draw(st.integers(0, len(stream)))
        removed = draw(st.integers(0, 3))
        stream = stream[:at] + draw(st.binary(max_size=6)) + stream[at + removed :]
    return stream


@settings(deadline=None)
@given(streams(), st.data())
def test_any_split_of_the_bytes_gives_the_same_events(stream, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    whole, pieces = plato(), plato()

    events_of_whole = whole.receive_data(stream, 0.0)
    events_of_pieces = [
        event
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for event in pieces.receive_data(stream[start:end], 0.0)
    ]

    assert [repr(event) for event in events_of_pieces] == [repr(event) for event in events_of_whole]
    assert whole.statistics().buffered == pieces.statistics().buffered


@settings(deadline=None)
@given(streams(), st.sampled_from(FRAMINGS))
def test_any_bytes_give_signals_and_at_most_one_final_loss(stream, flags):
    events = plato(flags).receive_data(stream, 0.0)

    assert not any(isinstance(event, ConnectionLost) for event in events[:-1])


@given(st.binary(max_size=200), st.sampled_from(FRAMINGS))
def test_random_bytes_never_raise(noise, flags):
    plato(flags).receive_data(noise, 0.0)
    plato(flags).receive_data(framed(noise) if noise else TICK, 0.0)


# Peers that do not know all signals

MONITORS = {Monitor, Demonitor, Down}


@pytest.mark.parametrize(
    ("missing", "unknown"),
    [
        (Flags.DIST_MONITOR, MONITORS),
        (Flags.DIST_MONITOR_NAME, MONITORS),
        (Flags.ALIAS, {SendAlias}),
        (Flags.SPAWN, {SpawnRequest, SpawnReply}),
        (Flags.UNLINK_ID, {UnlinkAck}),
        (Flags.DIST_MONITOR | Flags.SPAWN | Flags.ALIAS, MONITORS | {SendAlias, SpawnRequest, SpawnReply}),
    ],
    ids=["DIST_MONITOR", "DIST_MONITOR_NAME", "ALIAS", "SPAWN", "UNLINK_ID", "all"],
)
def test_a_signal_that_the_peer_does_not_know_is_not_sent(missing, unknown):
    sender, receiver = pair(OFFERED & ~missing)
    for signal in SIGNALS:
        sender.send(signal)

    received = receiver.receive_data(sender.data_to_send(0.0), 0.0)

    assert [type(signal) for signal in received] == [type(signal) for signal in SIGNALS if type(signal) not in unknown]
    assert sender.statistics().signals_out == len(received)


def test_the_caller_hears_of_answers_that_will_not_come():
    unanswered = []
    channel = pair(OFFERED & ~(Flags.SPAWN | Flags.UNLINK_ID), no_answer=unanswered.append)[0]

    for signal in SIGNALS:
        channel.send(signal)

    assert [type(signal) for signal in unanswered] == [Unlink, SpawnRequest]


def test_a_lost_channel_to_such_a_peer_sends_nothing():
    sender, receiver = pair(OFFERED & ~Flags.SPAWN)
    receiver.receive_data(framed(b"not a frame"), 0.0)

    assert receiver.send(SIGNALS[0]) == 0
    assert receiver.pending == sender.pending == 0


def test_what_is_sent_to_a_beam_goes_to_the_wire_directly():
    channel = pair()[0]
    assert channel.send == channel.wire.write
