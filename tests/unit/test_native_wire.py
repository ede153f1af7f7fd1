"""The native wire: it does the same as the pure one, holds no memory, and reads and writes a socket itself."""

import gc
import os
import pickle
import socket
import sys
import time
from copy import copy
from pathlib import Path
from random import Random

import pytest

from erlmesh import native
from erlmesh.errors import EncodeError, RemoteProtocolError
from erlmesh.etf import encode
from erlmesh.net.shared_socket import WRITE_SIZE
from erlmesh.proto.channel import Channel
from erlmesh.proto.control import Demonitor, Down, Monitor, Send, SendAlias, SendName, SpawnReply, SpawnRequest
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.wire import PureWire
from erlmesh.terms import Atom, ImproperList, Pid, Ref
from fuzz import wire as wire_fuzz

pytestmark = pytest.mark.skipif(native.module is None, reason=native.description)

LOCAL, PEER = Atom("local@h"), Atom("peer@h")
HERE, THERE = Pid(LOCAL, 90, 0, 7), Pid(PEER, 91, 0, 8)
REF = Ref(LOCAL, 7, (1, 2, 3))
SMALL = [Send(HERE, THERE, (Atom("ping"), number)) for number in range(100)]


def make_wire(flags=OFFERED):
    return native.module.Wire(PEER, LOCAL, flags, (1 << 27, 1 << 29, 1 << 22))


@pytest.fixture
def pair():
    """Two connected sockets that do not block."""
    here, there = socket.socketpair()
    with here, there:
        here.setblocking(False)
        there.setblocking(False)
        yield here, there


def read_all(wire, fd):
    """Return the signals of all data that has arrived."""
    signals = []
    try:
        while wire.read(fd, signals):
            pass
    except BlockingIOError:
        return signals


def transfer(sender, receiver, pair):
    """Write all that is queued, and return the signals that arrive."""
    here, there = pair
    signals = []
    while sender.queued:
        sender.flush(here.fileno())
        signals += read_all(receiver, there.fileno())
    return signals


def test_both_wires_do_the_same():
    until, seed = time.monotonic() + 2, 0
    while time.monotonic() < until or seed == 0:  # the same seeds in each run, as many as the time allows
        wire_fuzz.run_case(seed)
        seed += 1


def test_both_wires_write_the_same_when_their_tables_are_full():
    """More pairs than the cache of prefixes holds, then more atoms than there are cells."""
    wires = [make(PEER, LOCAL, OFFERED, (1 << 27, 1 << 29, 1 << 22)) for make in (PureWire, native.module.Wire)]
    pairs = [(Pid(LOCAL, number, 0, 7), Pid(PEER, number % 40, 0, 8)) for number in range(1100)]
    sent = [Send(sender, to, (Atom("ping"), number)) for number in range(3) for sender, to in pairs]
    # This atom is not in the cached prefixes, so the bytes show which pairs have one.
    sent += [Send(sender, to, Atom("pong")) for sender, to in reversed(pairs)]
    sent += [Send(HERE, THERE, [Atom(f"atom {number + step}") for step in range(9)]) for number in range(0, 1200, 7)]
    sent += [SendName(HERE, Atom(f"name {number}"), Atom(f"atom {number}")) for number in range(1300)]
    for signal in sent:
        for wire in wires:
            wire.write(signal)

    assert wires[0].data_to_send() == wires[1].data_to_send()


def test_channels_use_the_native_wire():
    assert type(Channel(PEER.name, LOCAL.name, OFFERED, now=0.0).wire) is native.module.Wire


# The signals


@pytest.mark.parametrize(
    ("kind", "values", "text"),
    [
        (Send, (HERE, THERE, 1, None), "Send(sender=#PID<90.90.0>, to=#PID<91.91.0>, message=1, token=None)"),
        (SendName, (HERE, PEER, [], 5), "SendName(sender=#PID<90.90.0>, name=Atom('peer@h'), message=[], token=5)"),
        (SendAlias, (HERE, REF, 1, None), None),
        (Monitor, (HERE, THERE, REF), None),
        (Demonitor, (HERE, PEER, REF), None),
        (Down, (HERE, THERE, REF, 1), None),
        (SpawnRequest, (REF, HERE, HERE, PEER, PEER, 1, PEER, 7, None), None),
        (SpawnReply, (REF, THERE, 2, HERE, None), None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_signal_is_a_value(kind, values, text):
    signal, other = kind(*values), kind(*values[:-1], Atom("other"))

    assert [getattr(signal, name) for name in kind.__match_args__] == list(values)
    assert signal == kind(**dict(zip(kind.__match_args__, values, strict=True)))
    assert signal != other
    assert signal != values
    assert copy(signal) == signal == pickle.loads(pickle.dumps(signal))
    assert repr(signal).startswith(f"{kind.__name__}({kind.__match_args__[0]}={values[0]!r}, ")
    if text is not None:
        assert repr(signal).replace(str(HERE), "<90.90.0>").replace(str(THERE), "<91.91.0>") == text
    if kind is not SendName:
        assert hash(signal) == hash(copy(signal))


def test_a_signal_with_a_list_has_no_hash():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Send(HERE, THERE, []))


def test_a_token_may_be_left_out():
    assert Send(HERE, THERE, 1).token is None
    assert SpawnReply(REF, THERE, 2, HERE).token is None
    assert SpawnRequest(REF, HERE, HERE, PEER, PEER, 0, [], []).token is None


CALL = (Atom("m"), Atom("f"), 1)


@pytest.mark.parametrize("message", [[], [1], b"", Atom("a"), ImproperList([1], 2)])
@pytest.mark.parametrize(
    "control",
    [
        (29, REF, HERE, HERE, CALL, [Atom("monitor")]),
        (29, REF, HERE, THERE, (True, False, 1 << 80), Atom("not_a_list")),
        (30, REF, HERE, HERE, CALL, [], 5),
        (29, REF, THERE, THERE, CALL, []),
        (29, HERE, HERE, HERE, CALL, []),
        (29, REF, REF, HERE, CALL, []),
        (29, REF, HERE, REF, CALL, []),
        (29, REF, HERE, HERE, [*CALL], []),
        (29, REF, HERE, HERE, (*CALL, 1), []),
        (29, REF, HERE, HERE, (b"m", Atom("f"), 1), []),
        (29, REF, HERE, HERE, (Atom("m"), 1, 1), []),
        (29, REF, HERE, HERE, (Atom("m"), Atom("f"), True), []),
        (29, REF, HERE, HERE, CALL),
        (31, REF, THERE, 2, HERE),
        (31, REF, THERE, 1 << 80, True),
        (32, REF, THERE, 0, Atom("notsup"), 5),
        (31, THERE, THERE, 2, HERE),
        (31, REF, REF, 2, HERE),
        (31, REF, THERE, True, HERE),
        (31, REF, THERE, 2, b"notsup"),
    ],
)
def test_the_signals_of_a_spawn_are_read_as_the_pure_reader_reads_them(control, message):
    payload = encode(control)[1:] + (b"" if control[0] > 30 else encode(message)[1:])
    frame = bytes([131, 68, 0]) + payload
    outcomes = []
    for kind in (native.module.Wire, PureWire):
        wire, signals = kind(LOCAL, PEER, OFFERED, (1 << 27, 1 << 29, 1 << 22)), []
        try:
            wire.receive_data(len(frame).to_bytes(4, "big") + frame, signals)
        except RemoteProtocolError as error:
            signals.append(str(error))
        outcomes.append(signals)

    assert outcomes[0] == outcomes[1]


# The socket


def test_signals_of_every_size_arrive_over_a_socket(pair):
    sender, receiver = make_wire(), native.module.Wire(LOCAL, PEER, OFFERED, (1 << 27, 1 << 29, 1 << 22))
    random, sent = Random(7), []
    for size in [0, 5, 4000, 5000, 17_000, 70_000, 140_000, 300_000, 1_000_000] * 3:
        sent += [Send(HERE, THERE, (Atom("data"), random.randbytes(size))), *SMALL[:3]]
    received = []
    for signal in sent:
        sender.write(signal)
        if random.random() < 0.3:
            received += transfer(sender, receiver, pair)

    assert received + transfer(sender, receiver, pair) == sent
    assert receiver.buffered == 0


def test_a_frame_may_arrive_byte_by_byte(pair):
    here, there = pair
    wire, reader = make_wire(), native.module.Wire(LOCAL, PEER, OFFERED, (1 << 27, 1 << 29, 1 << 22))
    for signal in SMALL[:3]:
        wire.write(signal)
    signals, data = [], wire.data_to_send()
    for at in range(len(data)):
        here.send(data[at : at + 1])
        assert reader.read(there.fileno(), signals) == 1

    assert signals == SMALL[:3]
    assert reader.buffered == 0


def test_read_says_that_nothing_arrived_and_that_the_stream_ended(pair):
    here, there = pair
    wire = make_wire()
    with pytest.raises(BlockingIOError):
        wire.read(there.fileno(), [])
    here.send(bytes(6))
    assert wire.read(there.fileno(), []) == 6
    assert (wire.ticks_in, wire.buffered) == (1, 2)
    here.close()

    assert wire.read(there.fileno(), []) == 0
    assert wire.buffered == 2


def test_read_raises_the_error_of_an_invalid_frame_after_the_signals_before_it(pair):
    here, there = pair
    wire = make_wire()
    wire.write(SMALL[0])
    signals, reader = [], native.module.Wire(LOCAL, PEER, OFFERED, (1 << 27, 1 << 29, 1 << 22))
    size = here.send(wire.data_to_send() + b"\0\0\0\1?")

    with pytest.raises(RemoteProtocolError, match="starts with 131, not 63"):
        reader.read(there.fileno(), signals)

    assert signals == SMALL[:1]
    assert reader.last_read == size


def test_read_and_flush_report_a_broken_socket(pair):
    here, there = pair
    wire = make_wire()
    wire.write(SMALL[0])
    there.close()

    with pytest.raises(BrokenPipeError):
        wire.flush(here.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        wire.read(1 << 20, [])


def test_flush_writes_what_the_socket_takes(pair):
    here, there = pair
    wire, data = make_wire(), bytes(3_000_000)
    wire.send(HERE, THERE, data)
    size = wire.queued

    written = 0
    while count := wire.flush(here.fileno()):
        written += count
        assert wire.queued == size - written

    assert 0 < written < size
    rest = wire.data_to_send()
    assert len(rest) == size - written
    assert wire.queued == 0
    received = bytearray()
    while len(received) < written:
        received += there.recv(1 << 20)
    reader = native.module.Wire(LOCAL, PEER, OFFERED, (1 << 27, 1 << 29, 1 << 22))
    signals = []
    reader.receive_data(bytes(received) + rest, signals)
    assert signals == [Send(HERE, THERE, data)]


def test_one_flush_writes_a_bounded_part_even_if_the_descriptor_takes_all():
    wire = make_wire()
    data = bytes(16_000)
    for _ in range(2000):
        wire.send(HERE, THERE, data)
    size = wire.queued

    with Path(os.devnull).open("wb") as endless:
        first = wire.flush(endless.fileno())
        counts = [first, *iter(lambda: wire.flush(endless.fileno()), 0)]

    assert WRITE_SIZE <= first < 8 * WRITE_SIZE  # one call of the kernel takes up to 64 pieces
    assert sum(counts) == size
    assert wire.queued == 0


# Memory


def test_a_large_binary_is_queued_without_a_copy_and_released_when_it_is_written(pair):
    here, there = pair
    wire, data = make_wire(), os.urandom(100_000)
    before = sys.getrefcount(data)
    for _ in range(3):  # in full, and with the cached prefix
        wire.send(HERE, THERE, (Atom("data"), data))
    wire.send(HERE, THERE, [data, data])  # in fragments

    assert sys.getrefcount(data) >= before + 5
    while wire.queued:
        wire.flush(here.fileno())
        there.recv(1 << 20)
    assert sys.getrefcount(data) == before


@pytest.mark.parametrize("finish", ["clear", "data_to_send", "delete"])
def test_a_large_binary_is_released_with_the_queue(finish):
    wire, data = make_wire(), os.urandom(100_000)
    before = sys.getrefcount(data)
    wire.send(HERE, THERE, (Atom("data"), data))
    assert sys.getrefcount(data) == before + 1

    if finish == "delete":
        del wire
    else:
        getattr(wire, finish)()

    assert sys.getrefcount(data) == before


def test_a_large_binary_is_released_when_the_rest_of_the_message_is_not_a_term():
    wire, data = make_wire(), os.urandom(100_000)
    before = sys.getrefcount(data)

    with pytest.raises(EncodeError):
        wire.send(HERE, THERE, (data, None))

    assert (sys.getrefcount(data), wire.queued) == (before, 0)


@pytest.mark.slow
def test_many_messages_with_faults_leave_nothing_behind():
    def run():
        for number in range(60):
            random = Random(number)  # the same work each time
            flags, stream = wire_fuzz.compare_writers(random)
            wire_fuzz.compare_readers(random, flags, stream)

    run()  # fills the caches of atoms and pids
    gc.collect()
    counts = []
    for _ in range(3):
        run()
        gc.collect()
        counts.append((sys.getallocatedblocks(), *map(sys.getrefcount, (LOCAL, PEER, HERE, Atom("ping")))))

    assert abs(counts[2][0] - counts[1][0]) < 200
    assert counts[2][1:] == counts[1][1:]


# Unusual calls


class Sending(tuple):
    """A tuple that sends a message while it is encoded, as a finalizer could."""

    __slots__ = ()
    wire = None

    def __iter__(self):
        Sending.wire.write(SMALL[1])
        return super().__iter__()


def test_a_signal_may_be_written_while_another_one_is_encoded():
    wire = Sending.wire = make_wire()
    signals = []
    for _ in range(3):
        wire.write(Send(HERE, THERE, Sending((Atom("outer"), 1))))
        wire.send(HERE, THERE, Sending((Atom("outer"), 2)))

    PureWire(LOCAL, PEER, OFFERED, (1 << 27, 1 << 29, 1 << 22)).receive_data(wire.data_to_send(), signals)

    assert signals.count(SMALL[1]) >= 6
    assert [signal.message for signal in signals if signal != SMALL[1]] == [(Atom("outer"), 1), (Atom("outer"), 2)] * 3


@pytest.mark.parametrize(
    "call",
    [
        lambda wire: native.module.Wire(),
        lambda wire: native.module.Wire(PEER, LOCAL, "flags", (1, 1, 1)),
        lambda wire: native.module.Wire(PEER, LOCAL, -1, (1, 1, 1)),
        lambda wire: native.module.Wire(PEER, LOCAL, 0, (-1, 1, 1)),
        lambda wire: wire.receive_data("text", []),
        lambda wire: wire.receive_data(b"\0\0\0\0", ()),
        lambda wire: wire.read("fd", []),
        lambda wire: wire.read(-2, []),
        lambda wire: wire.flush(1 << 40),
        lambda wire: wire.write(None),
        lambda wire: wire.write(object()),
        lambda wire: wire.write(Send),
        lambda wire: wire.write(Send(None, None, None)),
        lambda wire: wire.send(None, None, None),
        lambda wire: wire.send(1, "x", object()),
        lambda wire: wire.encode_standalone(7),
        lambda wire: wire.advance(-1),
    ],
)
@pytest.mark.parametrize("flags", [OFFERED, OFFERED & ~Flags.FRAGMENTS & ~Flags.DIST_HDR_ATOM_CACHE])
def test_a_wrong_argument_raises_an_ordinary_error(flags, call):
    wire = make_wire(flags)
    with pytest.raises(Exception):  # noqa: B017 - any Exception, but not the BaseException of a panic
        call(wire)

    assert wire.queued == 0
    wire.write(SMALL[0])
    assert wire.queued > 0


@pytest.mark.parametrize("value", [1, "name", None, b"x", [], object()])
@pytest.mark.parametrize("field", [0, 1, 2])
@pytest.mark.parametrize(
    "signal", [SMALL[0], SendName(HERE, PEER, 1), SendAlias(HERE, REF, 1), Monitor(HERE, PEER, REF)]
)
def test_a_signal_with_a_wrong_field_raises_an_ordinary_error_or_is_sent(signal, field, value):
    fields = [getattr(signal, name) for name in type(signal).__match_args__]
    fields[field] = value
    wire = make_wire()
    try:
        wire.write(type(signal)(*fields))
    except Exception:
        assert wire.queued == 0


def test_advance_beyond_the_queue_leaves_it_empty():
    wire = make_wire()
    wire.write(SMALL[0])
    wire.advance(1 << 40)
    assert wire.queued == 0

    wire.write_tick()

    assert wire.data_to_send() == bytes(4)
