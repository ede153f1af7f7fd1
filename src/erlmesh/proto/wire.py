"""The frames of one connection: bytes to signals, and signals to a queue of bytes.

This is the implementation in Python. Another one may have the same interface, because the channel gets a factory. It
must write the same bytes and raise the same errors. The interface::

    Wire(peer, local_name, flags, max_frame, max_unfinished)

    receive_data(data, signals)      appends the signals that data completes
    buffered, ticks_in

    write(signal)  send(sender, to, message)  write_tick()
    encode_standalone(signal)        any thread
    queued                           bytes that wait to be written

    data_to_send()                   takes everything: transports that are not plain sockets
    buffers()  advance(size)         for a socket
    clear()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from erlmesh.proto.flags import Flags
from erlmesh.proto.frame_reader import FrameReader
from erlmesh.proto.frame_writer import TICK, FrameWriter
from erlmesh.proto.send_queue import SendQueue
from erlmesh.terms import Atom

__all__ = ["Wire", "WireFactory"]


class Wire:
    """The frames of the connection between ``local_name`` and ``peer``.

    ``flags`` are the capabilities that both nodes have. A received frame has at most ``max_frame`` bytes, and all
    unfinished fragment sequences together have at most ``max_unfinished`` bytes.
    """

    def __init__(self, peer: Atom, local_name: Atom, flags: Flags, max_frame: int, max_unfinished: int) -> None:
        reader = FrameReader(peer, flags, max_frame=max_frame, max_unfinished=max_unfinished)
        self._reader = reader
        self._queue = queue = SendQueue()
        writer = FrameWriter((local_name, peer), flags, queue)
        # Attributes instead of methods: a call that only passes its arguments on costs a tenth of a short message.
        self.receive_data = reader.feed_data
        """See :meth:`FrameReader.feed_data`."""
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
        self.clear = queue.clear
        """Drop everything that is queued, because the connection is lost."""

    def write_tick(self) -> None:
        """Queue a frame of length 0."""
        self._queue.append(TICK)

    @property
    def queued(self) -> int:
        """Bytes queued and not yet taken or written."""
        queue = self._queue  # one property instead of two: this is read for each message
        return queue.appended - queue.removed

    @property
    def buffered(self) -> int:
        """Bytes of incomplete frames and unfinished fragment sequences."""
        return self._reader.buffered

    @property
    def ticks_in(self) -> int:
        """Frames of length 0 received."""
        return self._reader.ticks


WireFactory: TypeAlias = Callable[[Atom, Atom, Flags, int, int], Wire]
"""Makes the wire of a connection; the arguments are those of :class:`Wire`."""
