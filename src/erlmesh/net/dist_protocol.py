"""The asyncio protocol of one connection.

It feeds a handshake, and then a channel, with bytes and time, and writes what they queue. It has one timer.

Frames are written at the end of each iteration of the event loop, or as soon as WRITE_THRESHOLD bytes are queued. All
that waits for the peer is in one queue, so its size decides when senders must wait, and when the peer is given up.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, Protocol

from erlmesh.core.read_suspension import MARK
from erlmesh.errors import ConnectError, ErlmeshError
from erlmesh.net.addresses import address_group
from erlmesh.net.dist_socket import DistSocket, SharedSocketFactory, socket_fd
from erlmesh.net.native_socket import NativeSharedSocket
from erlmesh.net.native_turn import NativeTurn, native_turn
from erlmesh.net.read_suspender import ReadSuspender
from erlmesh.net.shared_socket import PureSharedSocket
from erlmesh.proto.channel import Channel, ConnectionLost, Event
from erlmesh.proto.control import Signal
from erlmesh.proto.frame_writer import TICK
from erlmesh.proto.handshake import HandshakeCompleted
from erlmesh.proto.handshake_driver import HandshakeDriver, HandshakeFailed
from erlmesh.proto.receive_buffer import ReceiveBudget
from erlmesh.proto.unfinished import COUNTED_FROM, UnfinishedBudget
from erlmesh.terms import Pid, Term

__all__ = ["SEND_QUEUE_FULL", "SEND_QUEUE_LIMIT", "UNFINISHED_FULL", "ConnectionDelegate", "DistProtocol"]

HIGH_WATER: Final = 1 << 20
"""Bytes queued to a peer above which senders are suspended. It is OTP's default of ``dist_buf_busy_limit`` (+zdbbl)."""
WRITE_THRESHOLD: Final = 64 * 1024
"""Bytes that are written before the end of the iteration, so that the peer reads while the sender encodes more."""
MAX_WRITE_THRESHOLD: Final = 256 * 1024
"""The threshold doubles up to this with each such write of an iteration: each write wakes up the peer once more."""
TURN_SIZE: Final = 1 << 20
"""Bytes queued in one iteration of the event loop after which senders wait for the next one."""
TURN_TIME: Final = 0.005
"""Seconds of sending in one iteration after which they wait, too. It is checked at each WRITE_THRESHOLD."""
SEND_QUEUE_LIMIT: Final = 64 << 20
"""Default of the bytes queued to a peer at which the connection ends."""
SEND_QUEUE_FULL: Final = "send_queue_full"
"""The reason of a connection that ended at that limit. OTP has no such limit, and no such reason."""
UNFINISHED_FULL: Final = "unfinished_receive_full"
"""The reason of a connection that ended because too many messages had arrived in part."""


class ConnectionDelegate(Protocol):
    """Receives the events of a connection. All calls come from the event loop, one at a time."""

    def transport_connected(self, protocol: DistProtocol) -> None:
        """The transport is there, and ``protocol.address_group`` is known. The delegate may close other connections."""

    def handshake_completed(self, protocol: DistProtocol, event: HandshakeCompleted, now: float) -> Channel | None:
        """The handshake has succeeded. Return the channel for this connection, or None to close the connection.

        If this connection replaces an older one, close the older one in this call. Our last handshake packet is sent
        after this call, and the peer may use the new connection as soon as it has it.
        """

    def connection_ready(self, protocol: DistProtocol) -> None:
        """Signals can be sent from now on."""

    def signals_received(self, protocol: DistProtocol, signals: list[Signal]) -> list[Signal]:
        """The peer sent these signals, in this order. Return those that must wait.

        They wait because ``protocol.overfull``, or because the event loop must get a turn.
        """

    def handshake_failed(self, protocol: DistProtocol, error: ErlmeshError) -> None:
        """The handshake failed, or the connection was closed during it. The connection is closed."""

    def connection_lost(self, protocol: DistProtocol, reason: str, detail: str) -> None:
        """The connection was lost after the handshake.

        ``reason`` is the text of OTP's ``nodedown`` reason, ``detail`` is a sentence for the log.
        """


class DistProtocol(asyncio.Protocol):
    """Runs ``handshake``, and then the channel that ``delegate`` returns, on one transport."""

    __slots__ = (
        "__dict__",
        "__weakref__",
        # A native turn reads and sets these.
        "_flush_scheduled",
        "_in_read",
        "_is_paused",
        "_open_channel",
        "_postponed",
        "_turn_size",
        "_unfinished",
        "_write_at",
        "busy",
    )

    def __init__(
        self,
        handshake: HandshakeDriver,
        delegate: ConnectionDelegate,
        *,
        send_queue_limit: int = SEND_QUEUE_LIMIT,
        receive_budget: ReceiveBudget | None = None,
        unfinished_budget: UnfinishedBudget | None = None,
    ) -> None:
        self.handshake: HandshakeDriver | None = handshake
        """None when the handshake has succeeded."""
        self.channel: Channel | None = None
        """None until the handshake has succeeded."""
        self.busy = False
        """So much was sent that senders must wait (OTP's ``busy_dist_port``): more than HIGH_WATER bytes are queued, or
        it is time for a turn of other tasks.
        """
        self.overfull = False
        """So much waits for the peer that further signals of it wait, too."""
        self.peer_address = ""
        """The peer's address in readable form, for logs and reports."""
        self.address_group = ""
        """What stands for the peer's address where addresses share limits, see :func:`address_group`."""
        self.closed_after_ack = False
        """The peer closed after acknowledging all our data, and we had sent some recently: it disconnected on purpose.
        A peer that lost us would have timed out only after a longer silence.
        """
        self.run_round: Callable[..., object] = _call
        """Calls the function that reads and applies data, and then the processes that it wakes up. The delegate sets
        it when the connection is ready, see :meth:`Wakeups.run_round`.
        """
        self._is_eof_seen = False
        """The peer has sent the end of the stream."""
        self._delegate = delegate
        self._send_queue_limit = send_queue_limit
        self._receive_budget = receive_budget
        """What may be buffered while the event loop is blocked. None is the default."""
        self._unfinished_budget = UnfinishedBudget() if unfinished_budget is None else unfinished_budget
        self._unfinished = 0
        """Bytes of messages that have arrived in part, as far as they count."""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        """None while disconnected."""
        self._socket: DistSocket | None = None
        """Reads and writes the socket. None while disconnected, and for transports in memory."""
        self._open_channel: Channel | None = None
        """The same as ``channel`` while signals may be sent, else None."""
        self._write_at = WRITE_THRESHOLD
        """As soon as so many bytes are queued, they are written."""
        self._write_threshold = WRITE_THRESHOLD
        """Bytes between the last write and ``_write_at``."""
        self._turn_size = 0
        """Bytes written early in this iteration of the event loop."""
        self._turn_ends_at = math.inf
        """When senders must give other tasks a turn; infinity before the first early write of the iteration."""
        self._is_dropping = False
        """What is queued must not be written any more when the connection ends."""
        self._is_paused = False
        """The transport or the socket has called ``pause_writing``."""
        self._flush_scheduled = False
        """_flush will run in this iteration of the event loop or the next."""
        self._timer: asyncio.TimerHandle | None = None
        self._writable_waiter: asyncio.Future[None] | None = None
        """Resolved when ``busy`` becomes false. All waiting senders share it."""
        self._in_read = False
        """``run_read`` runs."""
        self._resume_scheduled = False
        """_resume_now will run in the next iteration of the event loop."""
        self._postponed: list[Event] = []
        """What was received and waits until the peer has read more. Nothing is read meanwhile."""
        self._overfull_at = MARK
        """Bytes that wait for the peer above which it is ``overfull``."""
        self._turn: NativeTurn | None = None
        """Reads and writes in place of the methods here, as long as nothing unusual happens."""
        self._suspender: ReadSuspender | None = None
        """Made when a read finds the connection full for the first time."""
        self._closed = False
        """No more events are delivered."""

    # Called by the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's
        if self._closed:  # closed while the connection was being made
            transport.abort()
            return
        self._transport = transport
        fd = socket_fd(transport)
        if fd is None:
            transport.set_write_buffer_limits(high=HIGH_WATER)
        else:
            self._socket = DistSocket(
                transport,
                fd,
                self,
                high_water=HIGH_WATER,
                receive_budget=self._receive_budget,
                make_shared=self._make_shared,
            )
        address = transport.get_extra_info("peername")
        self.peer_address = f"{address[0]} port {address[1]}" if isinstance(address, tuple) else str(address)
        self.address_group = address_group(address)
        self._delegate.transport_connected(self)
        self._arm_timer(0.0)
        self._flush()

    _make_shared: SharedSocketFactory = PureSharedSocket
    """Makes what the watchdog thread uses. TLS has another one."""

    def data_received(self, data: bytes) -> None:
        self.stream_received(data)

    def stream_received(self, data: bytes) -> None:
        """Handle bytes of the stream of packets and frames."""
        if self._closed:
            return
        if self.channel is not None:
            self.run_read(self._apply_data, data)
        elif self.handshake is not None:
            now = self._loop.time()
            self._handshake_events(self.handshake, self.handshake.receive_data(data, now), now)

    def _apply_data(self, data: bytes) -> None:
        if self.channel is not None:
            self._channel_events(self.channel.receive_data(data, self._loop.time()))

    def run_read(self, read: Callable[..., object], *arguments: Any) -> None:
        """Call ``read``, which receives data, run the processes that it wakes up, and write what all of them sent."""
        if self._in_read:
            read(*arguments)
            return
        self._in_read = True
        self._flush_scheduled = True  # What is sent meanwhile leaves below, in one write.
        try:
            self.run_round(read, *arguments)
        finally:
            self._in_read = False
            self._end_read()

    def _end_read(self) -> None:
        self._flush()
        if self._is_paused:
            self._after_read_while_full()
        if self._postponed:
            self._resume_soon()
        # The other attribute: it is None if the connection has ended meanwhile.
        if self._open_channel is not None:
            if self._open_channel.is_decoding:
                self.pause_reading()
                self._resume_soon()
            unfinished = self._open_channel.wire.buffered
            if unfinished > COUNTED_FROM or self._unfinished:
                self._count_unfinished(unfinished)

    def _unusual_read(self, result: int | BaseException, events: list[Event], ticks: int) -> None:
        """Handle the result of a read of a native turn, or what it has raised, as after a read of the channel.

        ``ticks`` is the number of ticks that had been received before.
        """

        def read(_fd: int) -> tuple[int, list[Event]]:
            if self.channel is not None and isinstance(result, (int, ErlmeshError)):
                return self.channel.after_read(result, events, ticks, self._loop.time())
            if isinstance(result, BaseException):
                raise result
            return 0, []

        if self._socket is not None:
            self._socket.receive_with(read)

    def events_received(self, events: list[Event]) -> None:
        """Handle the events of received data."""
        if events and type(events[-1]) is not ConnectionLost and not self._closed:  # nearly all reads
            rest = self._delegate.signals_received(self, events)  # type: ignore[arg-type]  # all of them are signals
            if rest:
                self._postpone([*rest])
        elif not self._closed:
            self._channel_events(events)

    def eof_received(self) -> None:
        self.end_of_stream()

    def end_of_stream(self) -> None:
        # The decision must be made at the first call, from the socket: until the transport reports the end, this node
        # may send data that the peer never acknowledges. After connection_lost the socket no longer knows anything.
        if self.channel is not None and self._socket is not None and not self._is_eof_seen:
            self._is_eof_seen = True
            self._update_channel(self.channel)
            self.closed_after_ack = self.channel.sent_recently(self._loop.time()) and self._socket.all_acknowledged()

    def connection_lost(self, exception: Exception | None) -> None:
        connected_socket, self._socket, self._transport = self._socket, None, None
        if connected_socket is not None:
            connected_socket.detach()
            exception = exception or connected_socket.error  # the transport itself sees only the end of the stream
        if self._closed:
            return
        if self.handshake is not None:
            self._handshake_events(self.handshake, self.handshake.receive_eof(), self._loop.time())
        if not self._closed:
            self._connection_ended(
                "connection_closed",
                "the connection was closed" if exception is None else f"the connection broke: {exception}",
            )

    def pause_writing(self) -> None:
        self._is_paused = self.busy = True

    def resume_writing(self) -> None:
        self._is_paused = self.busy = self.overfull = False
        if self._suspender is not None:
            self._suspender.drained()
        if self._writable_waiter is not None and not self._writable_waiter.done():
            self._writable_waiter.set_result(None)
        self._writable_waiter = None

    # Called by the socket

    def data_written(self, size: int) -> None:
        """Data of the queue was written because the socket became writable."""
        if self.channel is not None:
            self.channel.note_write(size, self._loop.time())
            self._write_at = self.channel.wire.queued + self._write_threshold

    # Called by the node

    def send(self, signal: Signal) -> None:
        """Queue a signal. All signals of one iteration of the event loop leave together, or earlier if they are many.

        Raises EncodeError or LocalProtocolError. Before the end of the handshake and after the end of the connection
        this does nothing.
        """
        channel = self._open_channel
        if channel is None:
            return
        if channel.send(signal) >= self._write_at:
            self._write_early(channel)
        if not self._flush_scheduled:
            self._flush_soon()

    def send_message(self, sender: Pid, to: Pid, message: Term) -> None:
        """Do the same as ``send(Send(sender, to, message))``, without making the signal."""
        channel = self._open_channel
        if channel is None:
            return
        if channel.send_message(sender, to, message) >= self._write_at:
            self._write_early(channel)
        if not self._flush_scheduled:
            self._flush_soon()

    async def wait_writable(self) -> None:
        """Wait until the peer has read enough data, so that ``busy`` is false, or until the connection is closed."""
        while self.busy and not self._closed:
            if self._writable_waiter is None:
                self._writable_waiter = self._loop.create_future()
            await asyncio.shield(self._writable_waiter)  # a cancelled sender must not cancel the shared future

    def silence(self) -> float:
        """Return the seconds since anything came from the peer, also to the watchdog thread. 0 before the handshake."""
        if self.channel is None:
            return 0.0
        self._update_channel(self.channel)
        return self.channel.silence(self._loop.time())

    def undelivered(self) -> int:
        """Return how many bytes are queued, or written and not acknowledged by the peer's machine.

        0 if the connection has ended.
        """
        channel = self.channel
        if self._closed or self._transport is None or channel is None:
            return 0
        if self._socket is not None:
            return channel.wire.queued + (self._socket.unacknowledged() or 0)
        # A transport without a socket of its own: a simulated one knows the number itself.
        return self._queued(channel) + (self._transport.get_extra_info("unacknowledged") or 0)

    def close(self) -> None:
        """Close the connection after all queued data is written. The delegate gets no event."""
        if self._closed:
            return
        self._flush()
        self._close_transport()

    def let_thread_keep_alive(self, node: int, net_ticktime: float, blocked_signal: Signal) -> None:
        """Let a native watchdog thread send ticks and, once, ``blocked_signal`` while the event loop is blocked.

        ``blocked_signal`` ends with a number that is encoded in 4 bytes. It is replaced with the milliseconds. ``node``
        identifies the local node. If another thread serves the connection, this does nothing.
        """
        if self.channel is not None and self._socket is not None:
            shared = self._socket.shared
            if isinstance(shared, NativeSharedSocket):
                shared.keep_alive(node, net_ticktime, self.channel.encode_standalone(blocked_signal))

    # Called by the watchdog thread while the event loop is blocked

    def last_written_at(self) -> float | None:
        """Return when data was written last (``time.monotonic``); None if only the event loop can write."""
        connected_socket = self._socket  # read once: the event loop may set it to None at any time
        return None if connected_socket is None or self.channel is None else connected_socket.shared.last_written_at

    def write_from_thread(self, signal: Signal | None) -> bool:
        """Write a short signal, or a tick if ``signal`` is None. Return whether it was written.

        If earlier data still waits to be written, this writes that data instead. Raises EncodeError or
        LocalProtocolError.
        """
        connected_socket, channel = self._socket, self.channel
        if connected_socket is None or channel is None:
            return False
        return connected_socket.shared.write_from_thread(TICK if signal is None else channel.encode_standalone(signal))

    # Internals

    def _handshake_events(
        self, handshake: HandshakeDriver, events: list[HandshakeCompleted | HandshakeFailed], now: float
    ) -> None:
        for event in events:
            if isinstance(event, HandshakeFailed):
                self._flush()  # the last packet may tell the peer the reason
                self._close_transport()
                self._delegate.handshake_failed(self, event.error)
                return
            channel = self._delegate.handshake_completed(self, event, now)
            if channel is None:
                self._close_transport()
                return
            self._flush()  # the last packet of the handshake must leave before the first frame of the channel
            self.handshake, self.channel, self._open_channel = None, channel, channel
            channel.allow_slices()
            if self._socket is not None:
                self._socket.use_queue(channel.wire, channel.peer)
            self._delegate.connection_ready(self)
            if handshake.trailing_data and not self._closed:  # the peer sent frames right after its last packet
                self.run_read(self._apply_data, handshake.trailing_data)
            if self._socket is not None and not self._closed:
                self._turn = native_turn(self, self._socket, channel, self.run_round, WRITE_THRESHOLD)
                self._socket.start_reading(self._read_socket if channel.can_read else None, self._turn)
                if self._must_wait:
                    self.pause_reading()
        if not self._closed:
            self._arm_timer(now)
            self._flush()

    def _read_socket(self, fd: int) -> tuple[int, list[Event]]:
        return (0, []) if self.channel is None else self.channel.read(fd, self._loop.time())

    @property
    def _must_wait(self) -> bool:
        """Whether something was received and is not handled yet, so that nothing may be read."""
        return bool(self._postponed) or (self.channel is not None and self.channel.is_decoding)

    def _decode_more(self) -> None:
        if self.channel is not None:
            self._channel_events(self.channel.decode_more(self._loop.time()))

    def _channel_events(self, events: list[Event]) -> None:
        if events:
            lost = events.pop() if type(events[-1]) is ConnectionLost else None
            rest = self._delegate.signals_received(self, events)  # type: ignore[arg-type]  # `cast` is one more call
            if rest:
                self._postpone([*rest] if lost is None else [*rest, lost])
            elif lost is not None and not self._closed:  # a signal may have led the delegate to close the connection
                assert isinstance(lost, ConnectionLost)
                self._connection_ended(lost.reason, lost.detail)

    def _flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write what is queued. This runs once in each iteration in which something was sent."""
        self._flush_scheduled = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        channel = self.channel
        if channel is not None:
            self._write_threshold = WRITE_THRESHOLD
            if self._socket is None or channel.wire.queued:
                self._write(channel)
            else:  # A read that nobody answers: most reads of a stream.
                self._write_at = WRITE_THRESHOLD
            # A new turn starts: resume senders that have only waited for it.
            self._turn_size, self._turn_ends_at = 0, math.inf
            if self.busy and not self._is_paused:
                self.resume_writing()
        elif self.handshake is not None and (data := self.handshake.data_to_send()):
            (self._socket or transport).write(data)

    def _write(self, channel: Channel) -> None:
        if self._socket is not None:
            sent = self._socket.flush()
            if sent:
                channel.note_write(sent, self._loop.time())
        elif self._transport is not None and (data := channel.data_to_send(self._loop.time())):
            self._transport.write(data)
        self._write_at = channel.wire.queued + self._write_threshold

    def _write_early(self, channel: Channel) -> None:
        """Write in the middle of an iteration, because much is queued. Suspend senders if they have sent enough."""
        now = self._loop.time()
        before = self._queued(channel) - channel.wire.queued + self._write_at  # at most this before the last signal
        self._turn_ends_at = min(self._turn_ends_at, now + TURN_TIME)
        self._turn_size += channel.wire.queued - self._write_at + self._write_threshold
        # Not beyond the end of the turn, so that senders wait when they have queued TURN_SIZE bytes.
        longest = min(MAX_WRITE_THRESHOLD, TURN_SIZE - self._turn_size)
        self._write_threshold = max(WRITE_THRESHOLD, min(2 * self._write_threshold, longest))
        self._write(channel)
        queued = self._queued(channel)
        self.overfull = queued > self._overfull_at
        if queued >= self._send_queue_limit and before >= self._send_queue_limit:
            self._queue_is_full()  # one message may be longer than the limit: the peer may be reading it
        elif self._turn_size >= TURN_SIZE or now >= self._turn_ends_at:
            self.busy = True

    def _queued(self, channel: Channel) -> int:
        """Return how many bytes wait for the peer. A transport without a socket has a buffer of its own."""
        if self._socket is None and self._transport is not None:
            return channel.wire.queued + self._transport.get_write_buffer_size()
        return channel.wire.queued

    def _count_unfinished(self, size: int) -> None:
        self._unfinished = size if size > COUNTED_FROM else 0
        self._unfinished_budget.update(self, self._unfinished)

    def give_up_unfinished(self, limit: int) -> None:
        """End the connection, because unfinished messages of all nodes have more than ``limit`` bytes."""
        detail = (
            f"its messages that have arrived in part have {self._unfinished >> 20} MiB, and those of all nodes more "
            f"than {limit >> 20} MiB"
        )
        self._end_soon(UNFINISHED_FULL, detail)
        if self._socket is not None:
            self._socket.pause_reading()

    def _after_read_while_full(self) -> None:
        """Suspend reading, perhaps: the peer has sent something and does not read what waits for it."""
        endpoint = self._socket or self._transport
        if self.channel is None or endpoint is None or endpoint.is_closing():
            return
        if self._suspender is None:
            self._suspender = ReadSuspender(self, self._counts, self.channel.net_ticktime)
        self._suspender.after_read()

    def _resume_soon(self) -> None:
        """Handle what was postponed in the next iteration of the event loop, unless reading is suspended."""
        is_suspended = self._suspender is not None and self._suspender.is_suspended
        if not is_suspended and not self._resume_scheduled:
            self._resume_scheduled = True
            self._loop.call_soon(self._resume_now)

    def _resume_now(self) -> None:
        self._resume_scheduled = False
        if self._suspender is None or not self._suspender.is_suspended:
            self.resume_reading()

    def _postpone(self, events: list[Event]) -> None:
        """Keep events of a read until the peer has read more, or until the next iteration of the event loop.

        Nothing may be read before them.
        """
        if not self._closed:
            self._postponed = events
            self.pause_reading()

    def pause_reading(self) -> None:
        """Read nothing until :meth:`resume_reading`. For the :class:`ReadSuspender`."""
        endpoint = self._socket or self._transport
        if endpoint is not None and not endpoint.is_closing():
            endpoint.pause_reading()

    def resume_reading(self) -> None:
        """Handle what was postponed, and then read again."""
        if self._suspender is not None:
            self._overfull_at = self._suspender.mark
        self.overfull = False
        if self._postponed:
            postponed, self._postponed = self._postponed, []
            self.run_read(self.events_received, postponed)
        elif self._must_wait:
            self.run_read(self._decode_more)
        endpoint = self._socket or self._transport
        is_suspended = self._suspender is not None and self._suspender.is_suspended
        if not self._must_wait and not is_suspended and endpoint is not None and not endpoint.is_closing():
            endpoint.resume_reading()

    def counts(self) -> tuple[int, int, int, int, int, int]:
        """Return bytes in and out, signals in and out, ticks in and out, since the connection was established."""
        if self.channel is None:
            return 0, 0, 0, 0, 0, 0
        self._update_channel(self.channel)
        each = self.channel.statistics()
        return each.bytes_in, each.bytes_out, each.signals_in, each.signals_out, each.ticks_in, each.ticks_out

    def _counts(self) -> tuple[int, int, int]:
        """Return the bytes that wait for the peer, that were read from it, and that its socket has taken."""
        if self.channel is None:
            return 0, 0, 0
        self._update_channel(self.channel)
        statistics, waiting = self.channel.statistics(), self._queued(self.channel)
        return waiting, statistics.bytes_in, statistics.bytes_out + self.channel.wire.queued - waiting

    def _queue_is_full(self) -> None:
        """End the connection, because otherwise the queue would grow without limit, or the stream would have a gap.

        The process that sends is still running its own code, so the delegate is told later.
        """
        self._end_soon(SEND_QUEUE_FULL, f"{self._send_queue_limit >> 20} MiB waited for it, and it did not read them")

    def _end_soon(self, reason: str, detail: str) -> None:
        """End the connection in the next iteration of the event loop. What is queued is dropped."""
        self._open_channel = None
        self._is_dropping = self.overfull = True
        self._loop.call_soon(self._end_now, reason, detail)

    def _end_now(self, reason: str, detail: str) -> None:
        if not self._closed:
            self._connection_ended(reason, detail)

    def _update_channel(self, channel: Channel) -> None:
        """Tell the channel what was read and written without it since the last call.

        Call this before a decision that depends on its counters or on the times of the last read and write.
        """
        if self._turn is not None:
            channel.note_turns(*self._turn.take_counts())
        if self._socket is not None:
            self._record_thread(channel, self._socket)

    def _record_thread(self, channel: Channel, connected_socket: DistSocket) -> None:
        """Tell the channel what the watchdog thread wrote since the last call, and when it read last."""
        shared = connected_socket.shared
        writes = shared.take_external_writes()
        if writes.size:
            channel.note_external_write(writes.frames, writes.size, writes.last_at)
        if (read_at := shared.last_thread_read_at) is not None:
            channel.note_external_read(read_at)

    def _arm_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        state_machine = self.channel or self.handshake
        deadline = math.inf if state_machine is None else state_machine.next_deadline()
        # A missed deadline is due now, and not before the other timers that are due now.
        self._timer = None if deadline == math.inf else self._loop.call_at(max(deadline, now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        state_machine = self.channel or self.handshake
        now = self._loop.time()
        if self.channel is not None:
            self._update_channel(self.channel)
        if state_machine is not None and state_machine.is_timed_out(now):
            # The event loop may have been blocked for long, and data of the peer may wait in the socket. The loop polls
            # the socket once per iteration, and the timers may come first. So the check runs in the iteration after
            # the next one: by then the loop has polled and read the socket.
            self._loop.call_soon(self._loop.call_soon, self._check_timeout, now)
        else:
            self._check_timeout(now)

    def _check_timeout(self, due: float) -> None:
        """Pass the time ``due`` to the channel or the handshake. Data read since then prevents a timeout."""
        if self._closed:
            return
        if self.channel is not None:
            self._update_channel(self.channel)
            if self._must_wait:  # What it has sent since then is not read yet.
                self.channel.note_external_read(due)
            self._channel_events(self.channel.handle_timeout(due))
            self._flush()
        elif self.handshake is not None:
            self._handshake_events(self.handshake, self.handshake.handle_timeout(due), due)
        if not self._closed:
            self._arm_timer(self._loop.time())

    def _connection_ended(self, reason: str, detail: str) -> None:
        handshaking = self.handshake is not None
        # What waits does not reach a peer that is silent or gone. In memory nothing waits.
        self._is_dropping = self._is_dropping or (self._socket is not None and not handshaking)
        self._close_transport()  # first, so that the delegate sees a closed connection
        if handshaking:
            self._delegate.handshake_failed(self, ConnectError(detail))
        else:
            self._delegate.connection_lost(self, reason, detail)

    def _close_transport(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._open_channel = None
        if self._suspender is not None:
            self._suspender.close()
        self._postponed = []
        if self.channel is not None and (self._unfinished or self.channel.is_decoding):
            self._unfinished_budget.remove(self)
            self.channel.wire.drop_received()  # The collector may find this object much later.
        endpoint = self._socket or self._transport
        if self._is_dropping and endpoint is not None:
            endpoint.abort()
        elif endpoint is not None:
            endpoint.close()
        self.resume_writing()  # wakes up senders that wait in wait_writable


def _call(function: Callable[..., object], *arguments: Any) -> object:
    return function(*arguments)
