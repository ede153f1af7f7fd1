"""The frames of one connection: bytes to signals, and signals to a queue of bytes.

There are two implementations, :class:`PureWire` and the native ``erlmesh_native.Wire``. Both write the same bytes and
raise the same errors. The interface::

    Wire(peer, local_name, flags, limits)

    receive_data(data, signals)      appends the signals that data completes
    buffered, ticks_in
    allow_slices()                   from now on, decode long messages in slices
    is_decoding                      such a message is decoded in part, and nothing may be received
    decode_more(signals)             decodes one more slice of it

    write(signal)  send(sender, to, message)    return the bytes that are queued then
    write_tick()  signals_out
    encode_standalone(signal)        any thread
    queued                           bytes that wait to be written

    data_to_send()                   takes everything: transports that are not plain sockets
    buffers()  advance(size)         for a socket
    read(fd, signals)  flush(fd)     native only: the same without a copy, see :class:`SocketWire`
    clear()  drop_received()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias, cast

from erlmesh import native
from erlmesh.proto.control import Signal
from erlmesh.proto.flags import Flags
from erlmesh.proto.frame_reader import FrameReader
from erlmesh.proto.frame_writer import TICK, FrameWriter
from erlmesh.proto.send_queue import SendQueue
from erlmesh.terms import Atom

__all__ = ["READ_AHEAD", "PureWire", "SocketWire", "Wire", "WireFactory", "make_wire", "socket_wire"]

READ_AHEAD: Final = -1
"""In place of a descriptor: read what the watchdog thread has read, while the event loop was blocked."""


class PureWire:
    """The frames of the connection between ``local_name`` and ``peer``.

    ``flags`` are the capabilities that both nodes have. ``limits`` are the bytes of a received frame, the bytes of all
    unfinished fragment sequences together, and the elements of a message.
    """

    def __init__(self, peer: Atom, local_name: Atom, flags: Flags, limits: tuple[int, int, int]) -> None:
        max_frame, max_unfinished, max_elements = limits
        reader = FrameReader(peer, flags, max_frame=max_frame, max_unfinished=max_unfinished, max_elements=max_elements)
        self._reader = reader
        self._queue = queue = SendQueue()
        self._writer = writer = FrameWriter((local_name, peer), flags, queue)
        # Attributes instead of methods: a call that only passes its arguments on costs a tenth of a short message.
        self.receive_data = reader.feed_data
        """See :meth:`FrameReader.feed_data`."""
        self.allow_slices = reader.allow_slices
        """See :meth:`FrameReader.allow_slices`."""
        self.decode_more = reader.decode_more
        """See :meth:`FrameReader.decode_more`."""
        self.write = writer.write
        """See :meth:`FrameWriter.write`."""
        self.send = writer.send
        """See :meth:`FrameWriter.send`."""
        self.encode_standalone = writer.encode_standalone
        """See :meth:`FrameWriter.encode_standalone`."""
        self.data_to_send = queue.take
        """Take everything that is queued. Not for a socket that another thread writes to."""
        self.buffers = queue.buffers
        """See :meth:`SendQueue.buffers`."""
        self.advance = queue.advance
        """See :meth:`SendQueue.advance`."""
        self.drop_received = reader.drop_received
        """See :meth:`FrameReader.drop_received`."""
        self.clear = queue.clear
        """Drop everything that is queued, because the connection is lost."""

    def write_tick(self) -> None:
        """Queue a frame of length 0."""
        self._queue.append(TICK)

    @property
    def signals_out(self) -> int:
        """Signals queued since the start."""
        return self._writer.signals

    @property
    def queued(self) -> int:
        """Bytes queued and not yet taken or written."""
        queue = self._queue  # one property instead of two: this is read for each message
        return queue.appended - queue.removed

    @property
    def is_decoding(self) -> bool:
        """See :attr:`FrameReader.is_decoding`."""
        return self._reader.is_decoding

    @property
    def buffered(self) -> int:
        """Bytes of incomplete frames and unfinished fragment sequences."""
        return self._reader.buffered

    @property
    def ticks_in(self) -> int:
        """Frames of length 0 received."""
        return self._reader.ticks


Wire: TypeAlias = PureWire
"""A wire of either build, for type checkers."""


class SocketWire(Protocol):
    """What a native wire can do besides. The descriptor belongs to a socket that does not block."""

    delivered: int
    """Messages that were delivered directly and have not become signals."""

    def deliver_to(self, direct: object) -> None:
        """From now on, put messages into the mailboxes that ``direct``, an ``erlmesh_native.DirectDelivery``, knows.

        From the first signal of a read that is something else, all become signals, so that none overtakes another.
        """

    last_read: int
    """Bytes of the last read, also if it raised an error for an invalid frame."""

    def read(self, fd: int, signals: list[Signal]) -> int:
        """Read once, and do the same with the data as ``receive_data``. Return the number of bytes, 0 at the end.

        Raises OSError, which is BlockingIOError if no data has arrived, or if data of the watchdog thread waits. With
        READ_AHEAD it reads that data.
        """

    def flush(self, fd: int) -> int:
        """Write queued data. Return the number of bytes, 0 if the socket is full. Raises OSError if it is broken."""


WireFactory: TypeAlias = Callable[[Atom, Atom, Flags, tuple[int, int, int]], Wire]
"""Makes the wire of a connection; the arguments are those of :class:`PureWire`."""

make_wire: WireFactory = PureWire if native.module is None else native.module.Wire
"""Makes a wire of the build that runs."""


def socket_wire(wire: Wire) -> SocketWire | None:
    """Return a wire as one that reads and writes a socket itself; None if it cannot."""
    return None if isinstance(wire, PureWire) else cast("SocketWire", wire)
