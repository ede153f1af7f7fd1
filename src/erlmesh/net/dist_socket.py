"""Reads and writes the socket of one connection, in place of its asyncio transport.

Data is written from the queue of the connection, without a second buffer. So another thread can write while the event
loop is blocked: the queue always ends with a whole frame. It reads then, too, into a buffer that the loop takes first
when it runs again. The transport still makes and closes the connection, and it is the transport that reports the end of
the stream.
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
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from erlmesh.net.watched_sockets import WatchedSockets
from erlmesh.proto.channel import Event
from erlmesh.proto.receive_buffer import ReceiveBudget, ReceiveBuffer
from erlmesh.proto.send_queue import Buffer

__all__ = ["DistSocket", "ExternalWrites", "SocketOwner", "SocketQueue", "socket_fd"]

READ_SIZE: Final = 256 * 1024
"""Maximum number of bytes of one read. There is one read per readiness callback, so that connections take turns."""
THREAD_READ_SIZE: Final = 1 << 20
"""Maximum number of bytes of one read by the watchdog thread. It waits for the GIL after each."""
THREAD_TURN_SIZE: Final = 4 << 20
"""Bytes after which the thread continues with the next connection."""
WRITE_SIZE: Final = 1 << 20
"""Bytes after which a write continues in a later iteration of the event loop, even if the socket takes more."""
RETRY_WITHOUT_FD: Final = 0.05
"""Seconds between attempts to write if the process has no free file descriptor to wait with."""


class SocketQueue(Protocol):
    """Data that waits to be written; see :class:`erlmesh.proto.send_queue.SendQueue`."""

    @property
    def queued(self) -> int: ...
    def buffers(self) -> list[Buffer]: ...
    def advance(self, size: int) -> None: ...
    def clear(self) -> None: ...


class SocketOwner(Protocol):
    """The asyncio protocol of the connection. All calls come from the event loop."""

    def data_received(self, data: bytes) -> None: ...

    def run_read(self, read: Callable[[], object]) -> None:
        """Call ``read``, which calls one of the next two. Then write what was sent meanwhile."""

    def events_received(self, events: list[Event]) -> None:
        """The function that was passed to :meth:`DistSocket.start_reading` returned these events."""

    def data_written(self, size: int) -> None:
        """``size`` bytes of the queue were written, because the socket became writable."""

    def end_of_stream(self) -> None:
        """The peer has sent the end of the stream. The transport reports it in a later iteration, too."""

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class ExternalWrites(NamedTuple):
    """What a thread wrote in place of the event loop."""

    frames: int
    """Number of frames that it added. The queued data that it wrote does not count."""
    size: int
    """Bytes of all that it wrote."""
    last_at: float
    """When it wrote last (``time.monotonic``)."""


NO_WRITES: Final = ExternalWrites(0, 0, 0.0)


def socket_fd(transport: asyncio.BaseTransport) -> int | None:
    """Return the descriptor of the socket that carries exactly the transport's data.

    None if there is none: the transport is in memory, or TLS transforms its data.
    """
    found = transport.get_extra_info("socket")
    if found is None or transport.get_extra_info("sslcontext") is not None:
        return None
    number: int = found.fileno()
    return number if number >= 0 else None  # -1: the socket is closed already


class DistSocket:
    """The socket of ``transport``.

    Before :meth:`use_queue` the caller writes bytes with :meth:`write` and the transport reads. After it, the caller
    appends whole frames to the queue and calls :meth:`flush`. :meth:`start_reading` takes over the reading.

    It calls ``owner.pause_writing`` when more than ``high_water`` bytes wait, and ``owner.resume_writing`` when at most
    a quarter of that is left. The caller must call :meth:`detach` in the protocol's ``connection_lost``.

    All methods are for the thread of the event loop, except :meth:`write_from_thread` and :meth:`serve_from_thread`,
    which are for any thread. What the latter may buffer is in ``receive_budget``.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        fd: int,
        owner: SocketOwner,
        *,
        high_water: int,
        receive_budget: ReceiveBudget | None = None,
    ) -> None:
        self.error: OSError | None = None
        """Why the connection is broken. The transport will see the end of the stream."""
        self.last_written_at = time.monotonic()
        """When data was last written to the socket."""
        self.last_thread_read_at: float | None = None
        """When a thread last read data from the socket (``time.monotonic``)."""
        self.progress = 0
        """How many times the event loop has read, or taken data from the buffer."""
        self.peer = ""
        """The name of the peer, for the log."""
        self._transport = transport
        self._fd = fd
        self._owner = owner
        self._high_water = high_water
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        """Held during every write to the socket and every change of the fields that a writing thread uses."""
        self._read_lock = threading.RLock()
        """Held during every read and every change of ``_buffer``, so that the bytes keep their order. Signals may be
        decoded during a read, and finalizers may then write or close. So it is another lock, and it is reentrant.
        """
        self._receive_budget = receive_budget or ReceiveBudget()
        self._buffer = ReceiveBuffer(self._receive_budget)
        """What a thread has read while the event loop was blocked. The loop takes it before it reads."""
        self._taking_scheduled = False
        """``_take_buffered`` will run in the event loop."""
        self._queue: SocketQueue | None = None
        self._flush_queue: Callable[[int], int] | None = None
        """The queue's own function that writes to a descriptor, if it has one."""
        self._read: Callable[[int], tuple[int, list[Event]]] | None = None
        """See ``start_reading``."""
        self._first = b""
        """Written before the queue: handshake packets, or the rest of a frame that a thread has written in part."""
        self._external_writes = NO_WRITES
        """What ``write_from_thread`` wrote since the last ``take_external_writes``."""
        self._paused = False
        """``owner.pause_writing`` was called."""
        self._closing = False
        """``close`` was called. The transport is closed when nothing waits to be written any more."""
        self._detached = False
        """The transport may have closed the descriptor, and its number may belong to another file already."""
        self._reading = self._waiting = False
        """The event loop watches ``_duplicate`` for data to read, and until it is writable."""
        self._duplicate: int | None = None
        """A duplicate of the descriptor, because asyncio refuses to watch a descriptor that a transport uses."""
        self._retry_timer: asyncio.TimerHandle | None = None
        """Used in place of waiting if the process has no free descriptor."""

    # Writing

    def use_queue(self, queue: SocketQueue) -> None:
        """From now on, write the data of ``queue``, after all data passed to :meth:`write`."""
        self._queue = queue
        self._flush_queue = getattr(queue, "flush", None)

    @property
    def queued(self) -> int:
        """Bytes that wait to be written."""
        return len(self._first) + (0 if self._queue is None else self._queue.queued)

    def write(self, data: bytes) -> None:
        """Write ``data`` before everything in the queue. It must end at the end of a packet or a frame."""
        with self._lock:
            self._first += data
        self.flush()

    def flush(self) -> int:
        """Write what waits, as far as the socket takes it, and the rest later. Return the bytes written of the queue.

        On a closing connection this does nothing, and on a broken one it drops the queue.
        """
        with self._lock:
            if self._closing or self._detached:
                return 0
            sent = self._write_waiting()
            queued = self.queued
        if queued:
            self._wait_writable()
            if not self._paused and queued > self._high_water:
                self._paused = True
                self._owner.pause_writing()
        return sent

    def close(self) -> None:
        """Close the transport as soon as all that waits is written. Nothing more is read."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._stop_reading()
        if self.queued and not self._transport.is_closing():
            self._transport.pause_reading()  # the connection is closed for its user: nothing more may arrive
        else:
            self._close_transport()

    def abort(self) -> None:
        """Close the transport at once, and drop all that waits to be written."""
        with self._lock:
            self._closing = True
            self._drop_waiting()
        self._stop_reading()
        if not self._detached and not self._transport.is_closing():
            self._shutdown(socket.SHUT_RDWR)  # a forked child may have the socket open
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether ``close`` was called or the transport is closing."""
        return self._closing or self._transport.is_closing()

    def detach(self) -> None:
        """Stop reading and writing, because the transport is about to close its descriptor."""
        with self._lock:
            self._detached = True
            self._drop_waiting()
        self._stop_reading()
        self._stop_waiting()
        self._close_duplicate()

    # Writing from another thread

    def write_from_thread(self, frame: bytes) -> bool:
        """Write one whole frame from any thread. Return whether it was written.

        If data waits, this writes that data instead and returns False. To the peer, any data proves that this node is
        alive. The event loop reads the result with :meth:`take_external_writes`.
        """
        with self._lock:
            if self._detached or self._closing or self.error is not None:
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
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._wait_writable)
        return True

    def _count_external(self, frames: int, size: int) -> None:
        if size:
            before = self._external_writes
            self._external_writes = ExternalWrites(before.frames + frames, before.size + size, self.last_written_at)

    def take_external_writes(self) -> ExternalWrites:
        """Return what :meth:`write_from_thread` wrote since the last call, and reset it."""
        if self._external_writes is NO_WRITES:  # the usual case, without the lock
            return NO_WRITES
        with self._lock:
            writes, self._external_writes = self._external_writes, NO_WRITES
        return writes

    def all_acknowledged(self) -> bool:
        """Return whether the peer's machine has acknowledged all written data. False if that is unknown.

        Data that waits for the end of the iteration does not count. Data that waits for the socket does.
        """
        if self._waiting or self._retry_timer is not None or self._detached or self.error is not None:
            return False
        try:
            # TIOCOUTQ on a TCP socket is the number of bytes that were sent but not acknowledged, see tcp(7).
            unacknowledged = fcntl.ioctl(self._fd, termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return not any(unacknowledged)

    # The caller of the next five must hold the lock.

    def _write_waiting(self) -> int:
        """Write what waits, until the socket is full. Return the bytes written of the queue."""
        total = 0
        if self._first:
            self._first = self._first[self._send((self._first,)) :]
        if self.error is not None:
            self._drop_waiting()
        elif self._flush_queue is not None:
            total = 0 if self._first else self._send_queue(self._flush_queue)
        elif self._queue is not None:
            while not self._first and total < WRITE_SIZE and (buffers := self._queue.buffers()):
                offered = sum(map(len, buffers))
                sent = self._send(buffers)
                self._queue.advance(sent)
                total += sent
                if sent < offered:
                    break
        return total

    def _send_queue(self, flush: Callable[[int], int]) -> int:
        """Let the queue write itself. Return the bytes written."""
        try:
            sent = flush(self._fd)
        except OSError as error:
            self._fail(error)
            return 0
        if sent:
            self.last_written_at = time.monotonic()
        return sent

    def _send(self, buffers: list[Buffer] | tuple[bytes]) -> int:
        """Write to the socket without blocking. Return the number of bytes written; 0 if it is full or broken."""
        try:
            sent = os.writev(self._fd, buffers)
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
        if not self._shutdown(socket.SHUT_RDWR) and not isinstance(error, ConnectionError):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._transport.abort)

    def _drop_waiting(self) -> None:
        self._first = b""
        if self._queue is not None:
            self._queue.clear()

    def _shutdown(self, how: int) -> bool:
        """Shut down the connection. Return whether that succeeded."""
        try:
            # A socket object of our own, on a duplicate: closing it must not close the transport's descriptor.
            with socket.socket(fileno=os.dup(self._fd)) as duplicate:
                duplicate.shutdown(how)
        except OSError:
            return False
        return True

    # Reading, in the event loop

    def start_reading(self, read: Callable[[int], tuple[int, list[Event]]] | None = None) -> None:
        """Read the socket in place of the transport, and pass the data to ``owner.data_received``.

        If ``read`` is given, it is called with the descriptor when data has arrived. It reads once, as ``os.read``
        does, and returns the number of bytes and the events for ``owner.events_received``.

        Do not call this in ``connection_made``, because uvloop starts to read after it. Without a free descriptor the
        transport continues to read.
        """
        if self._closing or self._detached or self._transport.is_closing() or not self._open_duplicate():
            return
        self._transport.pause_reading()
        self._read = read
        assert self._duplicate is not None
        self._loop.add_reader(self._duplicate, self._owner.run_read, self._on_readable)
        with self._read_lock:
            self._reading = True
            self._watch()

    def _on_readable(self) -> None:
        self.progress += 1
        data, events = b"", None
        try:
            with self._read_lock:
                if self._taking_scheduled:  # `_take_buffered` runs in this iteration or the next: its data comes first
                    return
                if self._read is not None:
                    size, events = self._read(self._fd)
                else:
                    data = os.read(self._fd, READ_SIZE)
                    size = len(data)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.error, size = self.error or error, 0
        except BaseException:
            self.abort()
            raise
        if not size:  # the transport sees the end of the stream once more and reports it
            if self.error is None:
                self._owner.end_of_stream()
            self._stop_reading()
            self._transport.resume_reading()
            return
        if events is None or events:  # The native wire delivers most messages itself.
            self._pass_on(data, events)

    def _pass_on(self, data: bytes, events: list[Event] | None) -> None:
        try:
            if events is None:
                self._owner.data_received(data)
            else:
                self._owner.events_received(events)
        except BaseException:  # signals may be lost, so the connection must end; a transport does the same
            self.abort()
            raise

    def _take_buffered(self) -> None:
        """Pass on a part of what a thread has read. The rest follows in the next iterations of the event loop."""
        self.progress += 1
        with self._read_lock:
            data = self._buffer.take(READ_SIZE)
            self._taking_scheduled = self._buffer.size > 0
            if self._reading and not self._taking_scheduled:
                self._watch()  # the thread has stopped to watch the socket if the buffer was full
        if self._taking_scheduled:
            self._loop.call_soon(self._take_buffered)
        if data:
            self._pass_on(data, None)

    def _watch(self) -> None:
        """Let the watchdog thread read while the event loop is blocked. The caller holds ``_read_lock``."""
        assert self._duplicate is not None
        if self._receive_budget.limit:
            WatchedSockets.of_loop(self._loop).watch(self, self._duplicate)

    def _stop_reading(self) -> None:
        if self._reading:
            with self._read_lock:
                self._reading = False
                self._buffer.clear()
                WatchedSockets.of_loop(self._loop).unwatch(self)
            assert self._duplicate is not None
            self._loop.remove_reader(self._duplicate)

    # Reading in another thread

    def serve_from_thread(self) -> str:
        """Read into the buffer, because the event loop is blocked. See :class:`WatchedSocket`."""
        result, total = "", 0
        if not self._read_lock.acquire(blocking=False):  # the loop reads at this moment
            return ""
        try:
            while self._reading and total < THREAD_TURN_SIZE:
                reserved = self._buffer.reserve(THREAD_READ_SIZE)
                data = None
                try:
                    data = os.read(self._fd, reserved) if reserved else None
                except (BlockingIOError, InterruptedError):
                    break
                except OSError as error:
                    self.error = self.error or error  # the loop will read the end of the stream, without the error
                finally:
                    self._buffer.append(data or b"", reserved)
                if not data:
                    WatchedSockets.of_loop(self._loop).unwatch(self)
                    result = "" if reserved else self.peer
                    self._schedule_taking()  # it starts to watch again
                    break
                total += len(data)
                self._schedule_taking()
            if total:
                self.last_thread_read_at = time.monotonic()
        finally:
            self._read_lock.release()
        return result

    def _schedule_taking(self) -> None:
        if not self._taking_scheduled:
            self._taking_scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._take_buffered)

    # Waiting until the socket is writable, in the event loop

    def _wait_writable(self) -> None:
        """Ask the event loop to call ``_on_writable``."""
        if self._waiting or self._retry_timer is not None or self._detached:
            return
        if not self._open_duplicate():
            self._retry_timer = self._loop.call_later(RETRY_WITHOUT_FD, self._retry)
            return
        assert self._duplicate is not None
        self._loop.add_writer(self._duplicate, self._on_writable)
        self._waiting = True

    def _retry(self) -> None:
        self._retry_timer = None
        self._on_writable()
        if self.queued:
            self._wait_writable()

    def _on_writable(self) -> None:
        with self._lock:
            sent = self._write_waiting()
            remaining = self.queued
        if sent:
            self._owner.data_written(sent)
        if not remaining:
            self._stop_waiting()
        if self._paused and remaining <= self._high_water // 4:
            self._paused = False
            self._owner.resume_writing()
        if not remaining and self._closing and not self._detached:  # `close` waited for this
            self._close_transport()

    def _stop_waiting(self) -> None:
        if self._waiting:
            assert self._duplicate is not None
            self._loop.remove_writer(self._duplicate)
            self._waiting = False
        if self._retry_timer is not None:
            self._retry_timer.cancel()
            self._retry_timer = None

    def _open_duplicate(self) -> bool:
        """Make ``_duplicate``. Return false if the process has no free descriptor."""
        if self._duplicate is None:
            try:
                self._duplicate = os.dup(self._fd)
            except OSError:
                return False
        return True

    def _close_duplicate(self) -> None:
        if self._duplicate is not None:
            os.close(self._duplicate)
            self._duplicate = None

    def __del__(self) -> None:
        self._close_duplicate()  # the event loop ended before the connection

    def _close_transport(self) -> None:
        if not self._transport.is_closing():
            self._shutdown(socket.SHUT_WR)  # so that the peer sees the end even if a forked child has the socket open
        self._transport.close()
