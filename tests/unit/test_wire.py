"""The wire of a connection, in both builds: the frames in its queue."""

import pytest

from erlmesh import native
from erlmesh.errors import EncodeError, LocalProtocolError
from erlmesh.proto.control import Send
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.wire import PureWire
from erlmesh.terms import Atom, Pid

LOCAL, PEER = Atom("local@h"), Atom("peer@h")
HERE, THERE = Pid(LOCAL, 90, 0, 7), Pid(PEER, 91, 0, 8)
CACHE_ONLY = OFFERED & ~Flags.FRAGMENTS
BINARY = bytes(range(256)) * 512
"""128 KiB."""


BUILDS = ["pure"] + ["native"] * (native.module is not None)


@pytest.fixture(params=BUILDS)
def new_wire(request):
    """Make a wire of the local node."""
    make = PureWire if request.param == "pure" else native.module.Wire
    return lambda flags=OFFERED: make(PEER, LOCAL, flags, (1 << 27, 1 << 29, 1 << 22))


def test_send_writes_the_same_bytes_as_write(new_wire):
    one, other = new_wire(), new_wire()
    for message in [Atom("ping"), (Atom("ping"), 1), BINARY, [BINARY, BINARY], Atom("new")]:
        one.send(HERE, THERE, message)
        other.write(Send(HERE, THERE, message))

    assert one.data_to_send() == other.data_to_send()


@pytest.mark.parametrize("message", [BINARY[:16_384], (Atom("data"), BINARY[:-20]), [BINARY, BINARY]])
def test_a_large_binary_is_queued_without_a_copy(message):
    wire = PureWire(PEER, LOCAL, OFFERED, (1 << 27, 1 << 29, 1 << 22))
    for _ in range(2):  # in full, and with the cached prefix
        wire.send(HERE, THERE, message)

    parts = [message] if type(message) is bytes else [part for part in message if type(part) is bytes]
    owners = [getattr(buffer, "obj", buffer) for buffer in wire.buffers() if len(buffer) >= 16_384]
    assert {id(owner) for owner in owners} == {id(part) for part in parts}


def test_a_message_that_cannot_be_encoded_changes_nothing(new_wire):
    wire, untouched = new_wire(), new_wire()
    for _ in range(2):
        with pytest.raises(EncodeError):
            wire.send(HERE, THERE, (Atom("half"), BINARY, None))
        assert wire.queued == 0
        wire.send(HERE, THERE, Atom("ping"))
        untouched.send(HERE, THERE, Atom("ping"))

        assert wire.data_to_send() == untouched.data_to_send()


def test_a_message_too_long_for_a_peer_is_refused_with_a_known_prefix(new_wire):
    wire = new_wire(CACHE_ONLY)
    for _ in range(2):
        wire.send(HERE, THERE, 1)
    wire.clear()

    with pytest.raises(LocalProtocolError, match="longer than a peer reads"):
        wire.send(HERE, THERE, bytes(0x08000000))

    assert wire.queued == 0


def test_write_and_send_return_the_bytes_that_are_queued_then(new_wire):
    wire = new_wire()

    sizes = [wire.send(HERE, THERE, 1), wire.write(Send(HERE, THERE, 2)), wire.send(HERE, THERE, [BINARY, BINARY])]

    assert sizes == sorted(sizes)
    assert sizes[-1] == wire.queued == len(wire.data_to_send())
    assert wire.send(HERE, THERE, 3) == wire.queued


def test_signals_out_counts_signals_that_were_queued_and_nothing_else(new_wire):
    wire = new_wire()
    wire.write_tick()
    wire.encode_standalone(Send(HERE, THERE, 1))
    for refused in (lambda: wire.send(HERE, THERE, None), lambda: wire.write(Send(HERE, THERE, None))):
        with pytest.raises(EncodeError):
            refused()
    assert wire.signals_out == 0

    wire.send(HERE, THERE, [BINARY, BINARY])  # in fragments
    wire.write(Send(HERE, THERE, 2))
    wire.clear()

    assert wire.signals_out == 2


def test_queued_counts_frames_until_they_are_written(new_wire):
    wire = new_wire()
    wire.write_tick()
    wire.send(HERE, THERE, BINARY)
    size, data = wire.queued, b"".join(wire.buffers())
    assert size == len(data)

    wire.advance(100)

    assert wire.queued == size - 100
    assert wire.data_to_send() == data[100:]
    assert wire.queued == 0
