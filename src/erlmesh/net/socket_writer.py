"""The writing side of one connection on a socket, with a buffer of our own: what lies in it can be written while the
event loop stands still, by another thread, and that one knows where a frame ends. The reading side is the transport's.
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
"""Seconds between two attempts to write where no descriptor is left to wait with."""


class ExternalWrites(NamedTuple):
    """What a thread has said on the loop's behalf: so many words, their bytes, and when the last was said."""

    frames: int
    size: int
    last_at: float


NO_WRITES: Final = ExternalWrites(0, 0, 0.0)


def socket_fd(transport: asyncio.BaseTransport) -> int | None:
    """The descriptor of a socket whose bytes are those of ``transport``; None if there is none (memory, TLS)."""
    found = transport.get_extra_info("socket")
    if found is None or transport.get_extra_info("sslcontext") is not None:
        return None
    number: int = found.fileno()
    return number if number >= 0 else None


class SocketWriter:
    """Writes where ``transport`` reads, and behaves as a transport does: ``write``, ``close``, ``is_closing``, and it
    calls ``protocol.pause_writing`` above ``high`` bytes and ``resume_writing`` below a quarter of it. ``write`` is
    given whole frames. The transport must not be written to by anybody else, and ``protocol`` says when it is
    :meth:`gone`.

    All is for the event loop's thread but :meth:`say`, which is for any.
    """

    def __init__(
        self, transport: asyncio.Transport, fd: int, protocol: asyncio.BaseProtocol, *, high_water: int
    ) -> None:
        self.error: OSError | None = None
        """Why nothing can be written any more. The transport will see the end of its stream."""
        self.last_written_at = time.monotonic()
        """When the last byte went out."""
        self._transport = transport
        self._fd = fd
        self._protocol = protocol
        self._high_water = high_water
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._pending = bytearray()
        self._external_writes = NO_WRITES
        self._paused = False
        self._closing = False
        self._detached = False
        self._writer_fd: int | None = None
        self._retry_timer: asyncio.TimerHandle | None = None

    def write(self, data: bytes) -> None:
        """Writes ``data``, now or when there is room. On a connection that is broken or closing nothing happens."""
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
        """Closes the transport when all is written."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        if self._pending and not self._transport.is_closing():
            self._transport.pause_reading()
        else:
            self._close_transport()

    def is_closing(self) -> bool:
        return self._closing or self._transport.is_closing()

    def detach(self) -> None:
        """The transport is about to close its descriptor. Nothing is written any more."""
        with self._lock:
            self._detached = True
            self._pending.clear()
        self._stop_waiting()

    def write_from_thread(self, frame: bytes) -> bool:
        """From any thread: pushes what waits, and says ``word``, a whole frame, if nothing does. Whether it was said.

        The loop learns of it by :meth:`take_said`.
        """
        with self._lock:
            if self._detached or self._closing or self.error is not None:
                return False
            if self._pending:
                self._flush_pending()
                return False
            sent = self._send(frame)
            if not sent:
                return False
            words, size, _ = self._external_writes
            self._external_writes = ExternalWrites(words + 1, size + len(frame), self.last_written_at)
            if sent == len(frame):
                return True
            self._pending += frame[sent:]
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._wait_writable)
        return True

    def take_external_writes(self) -> ExternalWrites:
        """What :meth:`say` has said since the last call."""
        if self._external_writes is NO_WRITES:
            return NO_WRITES
        with self._lock:
            said, self._external_writes = self._external_writes, NO_WRITES
        return said

    def all_acknowledged(self) -> bool:
        """Whether the other machine has acknowledged all that was written; False also where that cannot be known."""
        if self._pending or self._detached:
            return False
        try:
            unacknowledged = fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return not any(unacknowledged)

    # With the lock

    def _send(self, data: bytes | bytearray) -> int:
        try:
            sent = os.write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as fault:
            self._fail(fault)
            return 0
        self.last_written_at = time.monotonic()
        return sent

    def _flush_pending(self) -> None:
        sent = self._send(self._pending)
        del self._pending[:sent]

    def _fail(self, error: OSError) -> None:
        """A stream with a hole in it must end. What the peer has said before can still be read."""
        self.error = error
        self._pending.clear()
        if not self._shutdown(socket.SHUT_RDWR) and not isinstance(error, ConnectionError):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._transport.abort)

    def _shutdown(self, how: int) -> bool:
        try:
            with socket.socket(fileno=os.dup(self._fd)) as same:
                same.shutdown(how)
        except OSError:
            return False
        return True

    # Waiting for room

    def _wait_writable(self) -> None:
        """Until the socket takes more, at a descriptor of our own, for the loop does not share the transport's."""
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
            left = len(self._pending)
        if not left:
            self._stop_waiting()
        if self._paused and left <= self._high_water // 4:
            self._paused = False
            self._protocol.resume_writing()
        if not left and self._closing and not self._detached:
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
        if self._writer_fd is not None:  # the loop has ended with somebody still waiting
            os.close(self._writer_fd)

    def _close_transport(self) -> None:
        if not self._transport.is_closing():
            self._shutdown(socket.SHUT_WR)  # also where a forked child still holds the socket
        self._transport.close()
