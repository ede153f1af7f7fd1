"""The writing side of one connection on a socket, with its own buffer instead of the transport's.

So another thread can write while the event loop is blocked. It can send the buffered data, because the buffer always
ends with a whole frame. The transport still does the reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import termios
import threading
import time
from typing import Final, NamedTuple

__all__ = ["ExternalWrites", "SocketWriter", "socket_fd"]

RETRY_WITHOUT_FD: Final = 0.05
"""Seconds between attempts to write if the process has no free file descriptor to wait with."""


class ExternalWrites(NamedTuple):
    """What a thread wrote in place of the event loop."""

    frames: int
    """Number of frames."""
    size: int
    """Bytes of all frames."""
    last_at: float
    """When the last frame was written (``time.monotonic``)."""


NO_WRITES: Final = ExternalWrites(0, 0, 0.0)


def socket_fd(transport: asyncio.BaseTransport) -> int | None:
    """Return the descriptor of the socket to which the transport's data may be written directly.

    None if there is none: the transport is in memory, or TLS transforms its data.
    """
    found = transport.get_extra_info("socket")
    if found is None or transport.get_extra_info("sslcontext") is not None:
        return None
    number: int = found.fileno()
    return number if number >= 0 else None  # -1: the socket is closed already


class SocketWriter:
    """Writes to the socket of ``transport``, in place of the transport.

    It has a transport's ``write``, ``close`` and ``is_closing``. It calls ``protocol.pause_writing`` when more than
    ``high_water`` bytes are buffered, and ``protocol.resume_writing`` when at most a quarter of that is left.

    The caller must pass whole frames to :meth:`write`, must not write to the transport itself, and must call
    :meth:`detach` in the protocol's ``connection_lost``.

    All methods are for the thread of the event loop, except :meth:`write_from_thread`, which is for any thread.
    """

    def __init__(
        self, transport: asyncio.Transport, fd: int, protocol: asyncio.BaseProtocol, *, high_water: int
    ) -> None:
        self.error: OSError | None = None
        """Why nothing can be written any more. The transport will see the end of the stream."""
        self.last_written_at = time.monotonic()
        """When data was last written to the socket."""
        self._transport = transport
        self._fd = fd
        self._protocol = protocol
        self._high_water = high_water
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        """Held during every write to the socket and every change of the fields that ``write_from_thread`` uses."""
        self._pending = bytearray()
        """Data that the socket has not taken yet. It may start inside a frame, but it ends with a whole frame."""
        self._external_writes = NO_WRITES
        """What ``write_from_thread`` wrote since the last ``take_external_writes``."""
        self._paused = False
        """``protocol.pause_writing`` was called."""
        self._closing = False
        """``close`` was called. The transport is closed when ``_pending`` is empty."""
        self._detached = False
        """The transport may have closed the descriptor, and its number may belong to another file already."""
        self._writer_fd: int | None = None
        """A duplicate of the descriptor, while the event loop waits until the socket is writable."""
        self._retry_timer: asyncio.TimerHandle | None = None
        """Used in place of ``_writer_fd`` if the process has no free descriptor."""

    def write(self, data: bytes) -> None:
        """Write ``data`` now, or buffer it until the socket takes it. On a broken or closing connection, do nothing."""
        with self._lock:
            if self._closing or self._detached or self.error is not None:
                return
            sent = 0 if self._pending else self._send(data)
            if sent == len(data) or self.error is not None:
                return
            self._pending += memoryview(data)[sent:]
        self._wait_writable()
        if not self._paused and len(self._pending) > self._high_water:
            self._paused = True
            self._protocol.pause_writing()

    def close(self) -> None:
        """Close the transport as soon as all buffered data is written."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        if self._pending and not self._transport.is_closing():
            self._transport.pause_reading()  # the connection is closed for its user: nothing more may arrive
        else:
            self._close_transport()

    def is_closing(self) -> bool:
        """Return whether ``close`` was called or the transport is closing."""
        return self._closing or self._transport.is_closing()

    def detach(self) -> None:
        """Stop writing, because the transport is about to close its descriptor."""
        with self._lock:
            self._detached = True
            self._pending.clear()
        self._stop_waiting()

    def write_from_thread(self, frame: bytes) -> bool:
        """Write one whole frame from any thread. Return whether it was written.

        If data is buffered, this writes that data instead and returns False. To the peer, any data proves that this
        node is alive. The event loop reads the result with :meth:`take_external_writes`.
        """
        with self._lock:
            if self._detached or self._closing or self.error is not None:
                return False
            if self._pending:
                self._flush_pending()
                return False
            sent = self._send(frame)
            if not sent:  # the socket is full, so nothing of this frame may be buffered: it would be stale later
                return False
            frames, size, _ = self._external_writes
            self._external_writes = ExternalWrites(frames + 1, size + len(frame), self.last_written_at)
            if sent == len(frame):
                return True
            self._pending += frame[sent:]  # a part was sent, so the rest must follow
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._wait_writable)
        return True

    def take_external_writes(self) -> ExternalWrites:
        """Return what :meth:`write_from_thread` wrote since the last call, and reset it."""
        if self._external_writes is NO_WRITES:  # the usual case, without the lock
            return NO_WRITES
        with self._lock:
            writes, self._external_writes = self._external_writes, NO_WRITES
        return writes

    def all_acknowledged(self) -> bool:
        """Return whether the peer's machine has acknowledged all written data. False if that is unknown."""
        if self._pending or self._detached:
            return False
        try:
            # TIOCOUTQ on a TCP socket is the number of bytes that were sent but not acknowledged, see tcp(7).
            unacknowledged = fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return not any(unacknowledged)

    # The caller of _send, _flush_pending and _fail must hold the lock.

    def _send(self, data: bytes | bytearray) -> int:
        """Write to the socket without blocking. Return the number of bytes written; 0 if it is full or broken."""
        try:
            sent = os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._fail(error)
            return 0
        self.last_written_at = time.monotonic()
        return sent

    def _flush_pending(self) -> None:
        sent = self._send(self._pending)
        del self._pending[:sent]

    def _fail(self, error: OSError) -> None:
        """End the stream after a failed write, because data is missing in it. Data already received stays readable."""
        self.error = error
        self._pending.clear()
        # The shutdown makes the transport see the end of the stream. If it fails, the connection is either reset, which
        # the transport sees by itself, or it must be aborted.
        if not self._shutdown(socket.SHUT_RDWR) and not isinstance(error, ConnectionError):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._transport.abort)

    def _shutdown(self, how: int) -> bool:
        """Shut down the connection. Return whether that succeeded."""
        try:
            # A socket object of our own, on a duplicate: closing it must not close the transport's descriptor.
            with socket.socket(fileno=os.dup(self._fd)) as duplicate:
                duplicate.shutdown(how)
        except OSError:
            return False
        return True

    # Waiting until the socket is writable, in the event loop

    def _wait_writable(self) -> None:
        """Ask the event loop to call ``_on_writable``.

        It needs a duplicate of the descriptor, because asyncio refuses ``add_writer`` for a descriptor that a transport
        uses.
        """
        if self._writer_fd is not None or self._retry_timer is not None or self._detached:
            return
        try:
            self._writer_fd = os.dup(self._fd)
        except OSError:
            self._retry_timer = self._loop.call_later(RETRY_WITHOUT_FD, self._retry)
            return
        self._loop.add_writer(self._writer_fd, self._on_writable)

    def _retry(self) -> None:
        self._retry_timer = None
        self._on_writable()
        if self._pending:
            self._wait_writable()

    def _on_writable(self) -> None:
        with self._lock:
            if self._pending:
                self._flush_pending()
            remaining = len(self._pending)
        if not remaining:
            self._stop_waiting()
        if self._paused and remaining <= self._high_water // 4:
            self._paused = False
            self._protocol.resume_writing()
        if not remaining and self._closing and not self._detached:  # `close` waited for this
            self._close_transport()

    def _stop_waiting(self) -> None:
        if self._writer_fd is not None:
            self._loop.remove_writer(self._writer_fd)
            os.close(self._writer_fd)
            self._writer_fd = None
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None

    def __del__(self) -> None:
        if self._writer_fd is not None:  # the event loop ended before the data was written
            os.close(self._writer_fd)

    def _close_transport(self) -> None:
        if not self._transport.is_closing():
            self._shutdown(socket.SHUT_WR)  # so that the peer sees the end even if a forked child has the socket open
        self._transport.close()
