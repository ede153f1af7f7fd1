"""An established connection: both wires read the same signals or end with the same error, however the bytes are cut.

The first byte of the input chooses the capabilities of the peer. The rest is what the peer sends.
"""

from erlmesh import native
from erlmesh.errors import ErlmeshError
from erlmesh.proto.channel import Channel, ConnectionLost
from erlmesh.proto.wire import PureWire
from fuzz.targets.cutting import pieces
from fuzz.wire import FLAGS, LOCAL, MAX_FRAME, MAX_UNFINISHED, PEER, as_text

MAX_DETAIL = 2_000
"""Characters of the sentence that says why a connection ended. It must not grow with the input."""


def read(make_wire, flags, parts):
    """Return the texts of the events, the signals, and the counters of a connection that reads the pieces."""
    channel = Channel(
        PEER.name,
        LOCAL.name,
        flags,
        now=0.0,
        max_frame=MAX_FRAME,
        max_unfinished=MAX_UNFINISHED,
        make_wire=make_wire,
    )
    events = []
    for part in parts:
        events += channel.receive_data(part, 0.0)
        if channel.lost:
            break
    lost = [event for event in events if isinstance(event, ConnectionLost)]
    assert len(lost) == channel.lost
    assert not lost or (events[-1] is lost[0] and len(lost[0].detail) < MAX_DETAIL)
    signals = [event for event in events if not isinstance(event, ConnectionLost)]
    texts = [as_text(signal) for signal in signals] + [f"{end.reason}: {end.detail}" for end in lost]
    counters = None if lost else (channel.statistics().ticks_in, channel.statistics().buffered)
    return texts, signals, counters


def write_again(signals, flags):
    """Assert that the signals can be written, and that a peer reads what was written."""
    writer, reader = (Channel(*names, flags, now=0.0) for names in ((LOCAL.name, PEER.name), (PEER.name, LOCAL.name)))
    written = []
    for signal in signals:
        try:
            writer.send(signal)
        except ErlmeshError:
            continue  # a signal that only a peer sends, or one that these capabilities do not allow
        written.append(as_text(signal))
    events = reader.receive_data(writer.data_to_send(0.0), 0.0)
    assert len(events) == len(written)


def run(data: bytes) -> None:
    """Read the bytes in one piece and in several, with both wires."""
    if not data:
        return
    flags, received = FLAGS[data[0] % len(FLAGS)], data[1:]
    texts, signals, counters = read(PureWire, flags, [received])
    wires = [PureWire] if native.module is None else [PureWire, native.module.Wire]
    for make_wire in wires:
        assert read(make_wire, flags, pieces(received))[::2] == (texts, counters), make_wire
    write_again(signals, flags)
