"""The part of a connection's socket that the event loop shares with the watchdog thread.

While the event loop is blocked, the thread writes and reads in its place. The thread writes whole frames, after all
data that waits. It reads into a buffer, which the event loop takes before it reads the socket again. There are two
implementations of the interface :class:`SharedSocket`: one for the thread in Python, below, and one for the thread in
the native part, see :mod:`erlmesh.net.native_socket`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from erlmesh.net.watched_sockets import WatchedSockets
from erlmesh.proto.receive_buffer import ReceiveBudget, ReceiveBuffer
from erlmesh.proto.send_queue import Buffer
from erlmesh.proto.wire import READ_AHEAD

__all__ = ["NO_WRITES", "READ_SIZE", "ExternalWrites", "PureSharedSocket", "SharedSocket", "SocketQueue"]

READ_SIZE: Final = 256 * 1024
"""Maximum number of bytes of one read. There is one read per readiness callback, so that connections take turns."""
THREAD_READ_SIZE: Final = 1 << 20
"""Maximum number of bytes of one read by the watchdog thread. It waits for the GIL after each."""
THREAD_TURN_SIZE: Final = 4 << 20
"""Bytes after which the thread continues with the next connection."""
WRITE_SIZE: Final = 1 << 20
"""Bytes after which a write continues in a later iteration of the event loop, even if the socket takes more."""


class SocketQueue(Protocol):
    """Data that waits to be written; see :class:`erlmesh.proto.send_queue.SendQueue`."""

    @property
    def queued(self) -> int: ...
    @property
    def signals_out(self) -> int:
        """Signals that were ever queued."""

    def buffers(self) -> list[Buffer]: ...
    def advance(self, size: int) -> None: ...
    def clear(self) -> None: ...


class ExternalWrites(NamedTuple):
    """What a thread wrote in place of the event loop."""

    frames: int
    """Number of frames that it added. The queued data that it wrote does not count."""
    size: int
    """Bytes of all that it wrote."""
    last_at: float
    """When it wrote last (``time.monotonic``)."""


NO_WRITES: Final = ExternalWrites(0, 0, 0.0)


class SharedSocket(Protocol):
    """What the event loop uses. All methods are for its thread, except the last two, which are for any thread.

    The implementation calls ``attend()`` in the event loop after the thread has done something that needs it: it has
    read data, it has written a part of a frame, or it has met an error.
    """

    @property
    def error(self) -> OSError | None:
        """Why the connection is broken. Its stream is shut down, so the reader sees the end."""

    @property
    def must_abort(self) -> bool:
        """The connection is broken, and the reader may not see it. The transport must be aborted."""

    @property
    def last_written_at(self) -> float:
        """When data was last written to the socket (``time.monotonic``)."""

    @property
    def last_thread_read_at(self) -> float | None:
        """When a thread last read data from the socket (``time.monotonic``)."""

    @property
    def queued(self) -> int:
        """Bytes that wait to be written."""

    @property
    def buffered(self) -> int:
        """Bytes that the thread has read and the event loop has not."""

    def flush(self) -> int:
        """Write what waits, until the socket is full. Return the bytes written of the queue.

        On a broken connection this drops what waits.
        """

    def drop_waiting(self) -> None:
        """Drop all that waits to be written."""

    def take_external_writes(self) -> ExternalWrites:
        """Return what the thread wrote since the last call, and reset it."""

    def stop_thread_writes(self) -> None:
        """From now on the thread writes nothing."""

    def start_reading(self) -> None:
        """From now on the thread may read, while the event loop is blocked."""

    def stop_reading(self) -> None:
        """From now on the thread does not read. What it has read is dropped."""

    def watch_again(self) -> None:
        """The buffer is empty. If the thread has stopped to read because of a limit, it may read again."""

    def close(self) -> None:
        """The transport is about to close the descriptor. Neither the thread nor the event loop uses it again."""

    def write_from_thread(self, frame: bytes) -> bool:
        """Write one whole frame. Return whether it was written.

        If data waits, this writes that data instead and returns False. To the peer, any data proves that this node is
        alive. The event loop reads the result with :meth:`take_external_writes`.
        """

    def serve_from_thread(self) -> str:
        """Read into the buffer, because the event loop is blocked. See :class:`WatchedSocket`."""


class PureSharedSocket:
    """Implements :class:`SharedSocket` for the thread in Python, and for a connection before it has a queue."""

    is_plain = True
    """The bytes of the queue and of the socket are the same. So a native wire may read and write the socket."""

    def __init__(self, fd: int, attend: Callable[[], None], budget: ReceiveBudget) -> None:
        self.error: OSError | None = None
        self.must_abort = False
        self.last_written_at = time.monotonic()
        self.last_thread_read_at: float | None = None
        self.progress = 0
        """How many times the event loop has read, or taken data from the buffer."""
        self.peer = ""
        """The name of the peer, for the log."""
        self.fd = fd
        self.attend = attend
        self._loop = asyncio.get_running_loop()
        self._lock = threading.RLock()
        """Held during every write to the socket and every change of the fields that a writing thread uses. A finalizer
        may run meanwhile, and send. So it is reentrant.
        """
        self._writing = False
        """``_write_now`` runs. It also writes what a finalizer queues."""
        self._read_lock = threading.RLock()
        """Held during every read and every change of ``_buffer``, so that the bytes keep their order. A finalizer may
        run meanwhile, and write or close. So it is another lock, and it is reentrant.
        """
        self.budget = budget
        self._buffer = ReceiveBuffer(budget)
        """What a thread has read while the event loop was blocked. The loop takes it before it reads."""
        self._attention_scheduled = False
        """``attend`` will run in the event loop because of data in the buffer."""
        self._queue: SocketQueue | None = None
        self._first = b""
        """Written before the queue: handshake packets, or the rest of a frame that a thread has written in part."""
        self._external_writes = NO_WRITES
        self._closed = self._closing = False
        """The descriptor may belong to another file; the thread must not write any more."""
        self._reading = False

    # In the event loop

    def use_queue(self, queue: SocketQueue) -> None:
        """From now on, write the data of ``queue``, after all data passed to :meth:`write_first`."""
        self._queue = queue

    @property
    def queued(self) -> int:
        return len(self._first) + (0 if self._queue is None else self._queue.queued)

    @property
    def buffered(self) -> int:
        return self._buffer.size

    def write_first(self, data: bytes) -> None:
        """Write ``data`` before everything in the queue. It must end at the end of a packet or a frame."""
        with self._lock:
            self._first += data

    def take_first(self) -> bytes:
        """Return what is to be written before the queue, and forget it."""
        with self._lock:
            first, self._first = self._first, b""
        return first

    def flush(self) -> int:
        with self._lock:
            return 0 if self._closed else self._write_waiting()

    def drop_waiting(self) -> None:
        with self._lock:
            self._drop_waiting()

    def take_external_writes(self) -> ExternalWrites:
        if self._external_writes is NO_WRITES:  # the usual case, without the lock
            return NO_WRITES
        with self._lock:
            writes, self._external_writes = self._external_writes, NO_WRITES
        return writes

    def stop_thread_writes(self) -> None:
        with self._lock:
            self._closing = True

    def start_reading(self) -> None:
        with self._read_lock:
            self._reading = True
            self._watch()

    def stop_reading(self) -> None:
        with self._read_lock:
            self._reading = False
            self._buffer.clear()
            WatchedSockets.of_loop(self._loop).unwatch(self)

    def watch_again(self) -> None:
        with self._read_lock:
            self._attention_scheduled = self._buffer.size > 0
            if self._attention_scheduled:  # the thread has read more since the event loop looked
                self._call_loop()
            elif self._reading:
                self._watch()

    def close(self) -> None:
        with self._lock:
            self._closed = self._closing = True
            self._drop_waiting()

    def end_stream(self) -> None:
        """Tell the peer that nothing follows, if that takes more than the end of the TCP stream. Nothing waits."""

    def read(self, fd: int) -> bytes:
        """Read once from the descriptor. Raises OSError, which is BlockingIOError if no data has arrived.

        It is also raised while data of the thread waits. READ_AHEAD in place of the descriptor reads that data.
        """
        self.progress += 1
        with self._read_lock:
            if fd == READ_AHEAD:
                return self._buffer.take(READ_SIZE)
            if self._buffer.size:
                raise BlockingIOError
            return os.read(fd, READ_SIZE)

    def _watch(self) -> None:
        """Let the watchdog thread read while the event loop is blocked. The caller holds ``_read_lock``."""
        if self.budget.limit:
            WatchedSockets.of_loop(self._loop).watch(self, self.fd)

    # In another thread

    def write_from_thread(self, frame: bytes) -> bool:
        with self._lock:
            if self._closing or self.error is not None:
                return False
            if self.queued:
                self._count_external(0, self._write_waiting())
                return False
            sent = self._send((frame,))
            if not sent:  # the socket is full, so nothing of this frame may be kept: it would be stale later
                return False
            self._count_external(1, len(frame))
            if sent == len(frame):
                return True
            self._first = frame[sent:]  # a part was sent, so the rest must follow
        self._call_loop()
        return True

    def serve_from_thread(self) -> str:
        result, total = "", 0
        if not self._read_lock.acquire(blocking=False):  # the loop reads at this moment
            return ""
        try:
            while self._reading and total < THREAD_TURN_SIZE:
                reserved = self._buffer.reserve(THREAD_READ_SIZE)
                data = None
                try:
                    data = os.read(self.fd, reserved) if reserved else None
                except (BlockingIOError, InterruptedError):
                    break
                except OSError as error:
                    self.error = self.error or error  # the loop will read the end of the stream, without the error
                finally:
                    self._buffer.append(data or b"", reserved)
                if not data:
                    WatchedSockets.of_loop(self._loop).unwatch(self)
                    result = "" if reserved else self.peer
                    self._schedule_attention()  # the loop starts to watch again
                    break
                total += len(data)
                self._schedule_attention()
            if total:
                self.last_thread_read_at = time.monotonic()
        finally:
            self._read_lock.release()
        return result

    def _schedule_attention(self) -> None:
        if not self._attention_scheduled:
            self._attention_scheduled = True
            self._call_loop()

    def _call_loop(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.attend)

    # The caller of these must hold the lock.

    def _count_external(self, frames: int, size: int) -> None:
        if size:
            before = self._external_writes
            self._external_writes = ExternalWrites(before.frames + frames, before.size + size, self.last_written_at)

    def _write_waiting(self) -> int:
        """Write what waits, until the socket is full. Return the bytes written of the queue."""
        if self._writing:
            return 0
        self._writing = True
        try:
            return self._write_now()
        finally:
            self._writing = False

    def _write_now(self) -> int:
        total = 0
        if self._first:
            self._first = self._first[self._send((self._first,)) :]
        if self.error is not None:
            self._drop_waiting()
        elif self._queue is not None:
            while not self._first and total < WRITE_SIZE and (buffers := self._queue.buffers()):
                offered = sum(map(len, buffers))
                sent = self._send(buffers)
                self._queue.advance(sent)
                total += sent
                if sent < offered:
                    break
        return total

    def _send(self, buffers: list[Buffer] | tuple[Buffer]) -> int:
        """Write to the socket without blocking. Return the number of bytes written; 0 if it is full or broken."""
        try:
            sent = os.writev(self.fd, buffers)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._fail(error)
            return 0
        self.last_written_at = time.monotonic()
        return sent

    def _fail(self, error: OSError) -> None:
        """End the stream after a failed write, because data is missing in it. Data already received stays readable."""
        self.error = error
        self._drop_waiting()
        # The shutdown makes the reader see the end of the stream. If it fails, the connection is either reset, which
        # the reader sees by itself, or it must be aborted.
        if not shut_down(self.fd, socket.SHUT_RDWR) and not isinstance(error, ConnectionError):
            self.must_abort = True
            self._call_loop()

    def _drop_waiting(self) -> None:
        self._first = b""
        if self._queue is not None:
            self._queue.clear()


def shut_down(fd: int, how: int) -> bool:
    """Shut down the connection of the socket. Return whether that succeeded."""
    try:
        # A socket object of our own, on a duplicate: closing it must not close the transport's descriptor.
        with socket.socket(fileno=os.dup(fd)) as duplicate:
            duplicate.shutdown(how)
    except OSError:
        return False
    return True
