"""Reads and writes the socket of one connection, in place of its asyncio transport.

Data is written from the queue of the connection, without a second buffer. So the watchdog thread can write while the
event loop is blocked: the queue always ends with a whole frame. It reads then, too; see
:mod:`erlmesh.net.shared_socket`. The transport still makes and closes the connection, and it is the transport that
reports the end of the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
import termios
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from erlmesh.net.native_socket import native_socket
from erlmesh.net.read_pauses import ReadPauses
from erlmesh.net.shared_socket import PureSharedSocket, SharedSocket, SocketQueue, shut_down
from erlmesh.proto.channel import Event
from erlmesh.proto.receive_buffer import ReceiveBudget, make_receive_budget
from erlmesh.proto.wire import READ_AHEAD

if TYPE_CHECKING:
    from erlmesh.net.socket_errors import SocketErrors

__all__ = ["DistSocket", "SharedSocketFactory", "SocketOwner", "socket_fd"]

CLOSE_TIMEOUT: Final = 30.0
"""Seconds that the data of a connection that was closed may wait for a peer that does not read."""
RETRY_WITHOUT_FD: Final = 0.05
"""Seconds between attempts to write if the process has no free file descriptor to wait with."""


Read: TypeAlias = Callable[[int], tuple[int, list[Event]]]
"""See :meth:`DistSocket.start_reading`."""


class SocketOwner(Protocol):
    """The asyncio protocol of the connection. All calls come from the event loop."""

    def stream_received(self, data: bytes) -> None:
        """These bytes of the stream of packets and frames were read."""

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


def socket_fd(transport: asyncio.BaseTransport) -> int | None:
    """Return the descriptor of the socket that carries exactly the transport's data.

    None if there is none: the transport is in memory, or TLS transforms its data.
    """
    found = transport.get_extra_info("socket")
    if found is None or transport.get_extra_info("sslcontext") is not None:
        return None
    number: int = found.fileno()
    return number if number >= 0 else None  # -1: the socket is closed already


SharedSocketFactory: TypeAlias = Callable[[int, Callable[[], None], ReceiveBudget], PureSharedSocket]
"""Makes the part for the watchdog thread; the arguments are those of :class:`PureSharedSocket`."""


def unacknowledged_bytes(fd: int) -> int | None:
    """Return how many bytes were written to a TCP socket and not acknowledged. None if the system does not say it."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)), sys.byteorder)  # see tcp(7)
    except OSError:
        return None


def socket_errors(loop: asyncio.AbstractEventLoop) -> SocketErrors | None:
    """Return what reports the errors of sockets on ``loop``. None if the loop reports them until they are read."""
    if type(loop).__module__.partition(".")[0] != "uvloop":
        return None
    from erlmesh.net.socket_errors import SocketErrors  # noqa: PLC0415 - only uvloop needs it

    return SocketErrors.of_loop(loop)


class DistSocket:
    """The socket of ``transport``.

    Before :meth:`use_queue` the caller writes bytes with :meth:`write` and the transport reads. After it, the caller
    appends whole frames to the queue and calls :meth:`flush`. :meth:`start_reading` takes over the reading.

    It calls ``owner.pause_writing`` when more than ``high_water`` bytes wait, and ``owner.resume_writing`` when at most
    a quarter of that is left. The caller must call :meth:`detach` in the protocol's ``connection_lost``.

    All methods are for the thread of the event loop. The watchdog thread uses ``shared`` only. What it may buffer is in
    ``receive_budget``.
    """

    __slots__ = ("__dict__", "__weakref__", "_closing", "_detached", "_pauses")  # a native turn reads them

    def __init__(
        self,
        transport: asyncio.Transport,
        fd: int,
        owner: SocketOwner,
        *,
        high_water: int,
        receive_budget: ReceiveBudget | None = None,
        make_shared: SharedSocketFactory = PureSharedSocket,
    ) -> None:
        self._transport = transport
        self.fd = fd
        """The descriptor of the transport. It is closed after :meth:`detach`."""
        self._owner = owner
        self._high_water = high_water
        self._loop = asyncio.get_running_loop()
        self._pure = make_shared(fd, self._attend, receive_budget or make_receive_budget())
        self.shared: SharedSocket = self._pure
        """What the watchdog thread may use. It is another object after :meth:`use_queue` with a native queue."""
        self._read: Read | None = None
        """See ``start_reading``."""
        self._on_ready: Callable[[], object] = partial(owner.run_read, self._on_readable)
        """The event loop calls it when data has arrived."""
        self._queue: SocketQueue | None = None
        """What was passed to ``use_queue``."""
        self._pauses: ReadPauses | None = None
        """Makes the reads of a stream fewer and larger, if this build can."""
        self._taking_scheduled = False
        """``_take_buffered`` will run in this iteration of the event loop or the next."""
        self._error: OSError | None = None
        """The error of a read."""
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
        self._owns_duplicate = True
        """False if the duplicate belongs to ``shared``, which closes it."""
        self._is_suspended = False
        """``pause_reading`` was called."""
        self._retry_timer: asyncio.TimerHandle | None = None
        """Used in place of waiting if the process has no free descriptor."""
        self._close_timer: asyncio.TimerHandle | None = None
        """Ends a connection whose data waits after ``close``."""
        self._errors = socket_errors(self._loop)
        """Reports an error of the socket, if the event loop watches no socket that has one."""
        self._is_failing = False
        """The socket has an error, and the event loop does not watch it. What has arrived is read without waiting."""

    @property
    def error(self) -> OSError | None:
        """Why the connection is broken. The transport will see the end of the stream."""
        return self.shared.error or self._error

    # Writing

    def use_queue(self, queue: SocketQueue, peer: str) -> None:
        """From now on, write the data of ``queue``, after all data passed to :meth:`write`.

        ``queue`` must be empty. ``peer`` is the name of the other node, for the log.
        """
        self._queue = queue
        self._pure.use_queue(queue)
        self._pure.peer = peer
        native = native_socket(queue, self._pure)
        if native is not None:
            self.shared = native
            self._stop_waiting()
            self._close_duplicate()
            self._duplicate, self._owns_duplicate = native.fd, False
            if self.queued:
                self._wait_writable()

    @property
    def queued(self) -> int:
        """Bytes that wait to be written."""
        return self.shared.queued

    def write(self, data: bytes) -> None:
        """Write ``data`` before everything in the queue, which must be a pure one if it was set already.

        The data must end at the end of a packet or a frame.
        """
        self._pure.write_first(data)
        self.flush()

    def flush(self) -> int:
        """Write what waits, as far as the socket takes it, and the rest later. Return the bytes written of the queue.

        On a closing connection this does nothing, and on a broken one it drops the queue.
        """
        if self._closing or self._detached:
            return 0
        pauses = self._pauses
        if pauses is not None and pauses.is_paused:  # The answer to what is written now must not be late.
            pauses.stop()
        shared = self.shared
        sent = shared.flush()
        if queued := shared.queued:
            self._wait_writable()
            if not self._paused and queued > self._high_water:
                self._paused = True
                self._owner.pause_writing()
        elif not sent and shared.must_abort:
            self._loop.call_soon(self._transport.abort)
        return sent

    def close(self) -> None:
        """Close the transport as soon as all that waits is written, or after CLOSE_TIMEOUT. Nothing more is read."""
        if self._closing:
            return
        self._closing = True
        self.shared.stop_thread_writes()
        self._stop_reading()
        if self.queued and not self._transport.is_closing():
            self._transport.pause_reading()  # the connection is closed for its user: nothing more may arrive
            # Nothing else may wait for the socket: what was queued in this iteration is not flushed yet.
            self._wait_writable()
            self._close_timer = self._loop.call_later(CLOSE_TIMEOUT, self.abort)
        else:
            self._close_transport()

    def abort(self) -> None:
        """Close the transport at once, and drop all that waits to be written."""
        self._closing = True
        self.shared.stop_thread_writes()
        self.shared.drop_waiting()
        self._stop_reading()
        if not self._detached and not self._transport.is_closing():
            shut_down(self.fd, socket.SHUT_RDWR)  # a forked child may have the socket open
        self._transport.abort()

    def is_closing(self) -> bool:
        """Return whether ``close`` was called or the transport is closing."""
        return self._closing or self._transport.is_closing()

    def detach(self) -> None:
        """Stop reading and writing, because the transport is about to close its descriptor."""
        self._detached = True
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._stop_reading()
        self._stop_waiting()
        if self._duplicate is not None and self._errors is not None:
            self._loop.remove_reader(self._duplicate)  # nothing may be left for the next descriptor of this number
        self.shared.close()
        self._close_duplicate()

    def all_acknowledged(self) -> bool:
        """Return whether the peer's machine has acknowledged all written data. False if that is unknown.

        Data that waits for the end of the iteration does not count. Data that waits for the socket does.
        """
        if self._waiting or self._retry_timer is not None or self._detached or self.error is not None:
            return False
        return self.unacknowledged() == 0

    def unacknowledged(self) -> int | None:
        """Return how many written bytes the peer's machine has not acknowledged. None if that is unknown."""
        return None if self._detached else unacknowledged_bytes(self.fd)

    # Reading

    def start_reading(self, read: Read | None = None, turn: Callable[[], object] | None = None) -> None:
        """Read the socket in place of the transport, and pass the data to ``owner.stream_received``.

        If ``read`` is given, it is called with the descriptor when data has arrived. It reads once, as ``os.read``
        does, and returns the number of bytes and the events for ``owner.events_received``. It is called with READ_AHEAD
        to take data that the watchdog thread has read. It must be given if the queue is a native wire. With TLS it is
        not used, because only this object can decrypt.

        If ``turn`` is given, it is called when data has arrived. Otherwise ``owner.run_read`` is.

        Do not call this in ``connection_made``, because uvloop starts to read after it. Without a free descriptor the
        transport continues to read.
        """
        if self._closing or self._detached or self._transport.is_closing() or not self._open_duplicate():
            return
        self._transport.pause_reading()
        self._read = read = read if self._pure.is_plain else None
        self._on_ready = turn or self._on_ready
        assert self._duplicate is not None
        self._watch_reader(self._duplicate)
        if read is not None and ReadPauses.available:
            # The duplicate, because it is open until `detach` has ended the pauses. The transport may close its own
            # descriptor before.
            self._pauses = ReadPauses(self._loop, self._duplicate, self._on_ready)
        self._reading = True
        self.shared.start_reading()

    def pause_reading(self) -> None:
        """Read nothing until :meth:`resume_reading`. The watchdog thread may still fill its buffer."""
        self._is_suspended = True
        if not self._reading:
            self._transport.pause_reading()
            return
        assert self._duplicate is not None
        self._loop.remove_reader(self._duplicate)
        if self._pauses is not None:
            self._pauses.stop()

    def resume_reading(self) -> None:
        """Read again, after :meth:`pause_reading`."""
        self._is_suspended = False
        if self._reading:
            assert self._duplicate is not None
            if self._is_failing:
                self._loop.call_soon(self._read_to_error)
            else:
                self._loop.add_reader(self._duplicate, self._on_ready)
            self._attend()
        elif not self.is_closing():
            self._transport.resume_reading()

    def _watch_reader(self, fd: int) -> None:
        """Call ``_on_readable`` when data has arrived, and ``_on_error`` when the socket has an error."""
        self._loop.add_reader(fd, self._on_ready)
        if self._errors is not None:
            with contextlib.suppress(OSError):  # no free descriptor: then the net tick time ends the connection
                self._errors.watch(fd, self._on_error)

    def _on_error(self) -> None:
        """The socket has an error, and the event loop has stopped to watch it. See SocketErrors."""
        if self._detached or not self._reading:
            return
        assert self._duplicate is not None
        self._is_failing = True
        self._loop.remove_reader(self._duplicate)  # the loop would use the ended handle for the next reader
        if self._waiting:
            self._stop_waiting()
            self._on_writable()
        self._read_to_error()

    def _read_to_error(self) -> None:
        """Read once in each iteration of the event loop, until the error is read."""
        if self._is_failing and self._reading and not self._is_suspended:
            self._loop.call_soon(self._read_to_error)
            self._owner.run_read(self._on_readable)

    def _on_readable(self) -> None:
        self._receive(self.fd)

    def receive_with(self, read: Read) -> None:
        """Handle the result of ``read``, or its exception, as that of the function passed to :meth:`start_reading`."""
        self._receive(self.fd, read)

    def _receive(self, fd: int, read: Read | None = None) -> None:
        """Read once, and pass on the data. ``fd`` is the descriptor or READ_AHEAD."""
        data, events = b"", None
        read = read or self._read
        try:
            if read is not None:
                size, events = read(fd)
            else:
                data = self._pure.read(fd)
                size = len(data)
        except (BlockingIOError, InterruptedError):
            if self._pauses is not None:  # A pause has ended, and nothing has arrived.
                self._pauses.stop()
            if self._is_failing and fd != READ_AHEAD and self._duplicate is not None:
                self._is_failing = False  # another call has taken the error, and the connection continues
                self._watch_reader(self._duplicate)
            return
        except OSError as error:
            self._error, size = self._error or error, 0
        except BaseException:
            self.abort()
            raise
        if not size:  # the transport sees the end of the stream once more and reports it
            if self.error is None:
                self._owner.end_of_stream()
            self._stop_reading()
            self._transport.resume_reading()
            return
        if self._pauses is not None and self._queue is not None:
            self._pauses.after_read(size, self._queue.signals_out)
        if events is None or events:  # The native wire delivers most messages itself.
            self._pass_on(data, events)

    def _pass_on(self, data: bytes, events: list[Event] | None) -> None:
        try:
            if events is None:
                self._owner.stream_received(data)
            else:
                self._owner.events_received(events)
        except BaseException:  # signals may be lost, so the connection must end; a transport does the same
            self.abort()
            raise

    def _attend(self) -> None:
        """Do what the watchdog thread needs the event loop for."""
        if self._detached:
            return
        if self.shared.must_abort:
            self._transport.abort()
        if self.queued:
            self._wait_writable()
        if not self._taking_scheduled:
            self._take_buffered()

    def _take_buffered(self) -> None:
        """Pass on a part of what a thread has read. The rest follows in the next iterations of the event loop."""
        self._taking_scheduled = False
        if not self._reading or self._is_suspended:
            return
        if self.shared.buffered:
            # Scheduled first: the data may end the connection, and the call above finds that out.
            self._taking_scheduled = True
            self._loop.call_soon(self._take_buffered)
            self._owner.run_read(self._take_part)
        else:
            self.shared.watch_again()  # the thread has stopped to watch the socket if the buffer was full

    def _take_part(self) -> None:
        self._receive(READ_AHEAD)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.shared.stop_reading()
            assert self._duplicate is not None
            self._loop.remove_reader(self._duplicate)
            if self._errors is not None:
                self._errors.unwatch(self._duplicate)
            if self._pauses is not None:
                self._pauses.close()
                self._pauses = None

    # Waiting until the socket is writable

    def _wait_writable(self) -> None:
        """Ask the event loop to call ``_on_writable``."""
        if self._waiting or self._retry_timer is not None or self._detached:
            return
        if not self._open_duplicate():
            self._retry_timer = self._loop.call_later(RETRY_WITHOUT_FD, self._retry)
            return
        assert self._duplicate is not None
        try:
            self._loop.add_writer(self._duplicate, self._on_writable)
        except RuntimeError:  # uvloop has ended its handle because of an error of the socket, see SocketErrors
            self._loop.call_soon(self._transport.abort)
            return
        self._waiting = True

    def _retry(self) -> None:
        self._retry_timer = None
        self._on_writable()
        if self.queued:
            self._wait_writable()

    def _on_writable(self) -> None:
        sent = self.shared.flush()
        remaining = self.queued
        if sent:
            self._owner.data_written(sent)
        if not remaining:
            self._stop_waiting()
        if self._paused and remaining <= self._high_water // 4:
            self._paused = False
            self._owner.resume_writing()
        if self.shared.must_abort:
            self._transport.abort()
        elif not remaining and self._closing and not self._detached:  # `close` waited for this
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
                self._duplicate = os.dup(self.fd)
            except OSError:
                return False
        return True

    def _close_duplicate(self) -> None:
        if self._duplicate is not None and self._owns_duplicate:
            os.close(self._duplicate)
        self._duplicate = None

    def __del__(self) -> None:
        if not self._detached:  # the event loop ended before the connection
            self.shared.close()
        self._close_duplicate()

    def _close_transport(self) -> None:
        if not self._transport.is_closing():
            self._pure.end_stream()
            # So that the peer sees the end even if a forked child has the socket open.
            shut_down(self.fd, socket.SHUT_WR)
        self._transport.close()
