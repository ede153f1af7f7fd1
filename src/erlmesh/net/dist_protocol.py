"""The asyncio protocol of one connection.

It feeds a handshake, and then a channel, with bytes and time, and writes what they return. It has one timer.
"""

from __future__ import annotations

import asyncio
import math
from typing import Protocol, cast

from erlmesh.errors import ConnectError, ErlmeshError
from erlmesh.net.socket_writer import SocketWriter, socket_fd
from erlmesh.proto.channel import Channel, ConnectionLost
from erlmesh.proto.control import Signal
from erlmesh.proto.frame_writer import TICK
from erlmesh.proto.handshake import HandshakeCompleted
from erlmesh.proto.handshake_driver import HandshakeDriver, HandshakeFailed

__all__ = ["ConnectionDelegate", "DistProtocol"]

HIGH_WATER = 1 << 20
"""Bytes queued to a peer above which senders are suspended. It is OTP's default of ``dist_buf_busy_limit`` (+zdbbl)."""


class ConnectionDelegate(Protocol):
    """Receives the events of a connection. All calls come from the event loop, one at a time."""

    def handshake_completed(self, protocol: DistProtocol, event: HandshakeCompleted, now: float) -> Channel | None:
        """The handshake has succeeded. Return the channel for this connection, or None to close the connection.

        If this connection replaces an older one, close the older one in this call. Our last handshake packet is sent
        after this call, and the peer may use the new connection as soon as it has it.
        """

    def connection_ready(self, protocol: DistProtocol) -> None:
        """Signals can be sent from now on."""

    def signals_received(self, protocol: DistProtocol, signals: list[Signal]) -> None:
        """The peer sent these signals, in this order."""

    def handshake_failed(self, protocol: DistProtocol, error: ErlmeshError) -> None:
        """The handshake failed, or the connection was closed during it. The connection is closed."""

    def connection_lost(self, protocol: DistProtocol, reason: str, detail: str) -> None:
        """The connection was lost after the handshake.

        ``reason`` is the text of OTP's ``nodedown`` reason, ``detail`` is a sentence for the log.
        """


class DistProtocol(asyncio.Protocol):
    """Runs ``handshake``, and then the channel that ``delegate`` returns, on one transport."""

    def __init__(self, handshake: HandshakeDriver, delegate: ConnectionDelegate) -> None:
        self.handshake: HandshakeDriver | None = handshake
        """None when the handshake has succeeded."""
        self.channel: Channel | None = None
        """None until the handshake has succeeded."""
        self.busy = False
        """More than HIGH_WATER bytes wait to be sent, so senders must wait (OTP's ``busy_dist_port``)."""
        self.peer_address = ""
        """The peer's address in readable form, for logs and reports."""
        self.closed_after_ack = False
        """The peer closed after acknowledging all our data, and we had sent some recently: it disconnected on purpose.
        A peer that lost us would have timed out only after a longer silence.
        """
        self._delegate = delegate
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Transport | SocketWriter | None = None
        """Where to write: the SocketWriter if there is one, else the transport. None while disconnected."""
        self._socket_writer: SocketWriter | None = None
        """The same as ``_writer`` on a plain socket; None for other transports (memory, TLS)."""
        self._flush_scheduled = False
        """_flush will run in this iteration of the event loop or the next."""
        self._timer: asyncio.TimerHandle | None = None
        self._writable_waiter: asyncio.Future[None] | None = None
        """Resolved when ``busy`` becomes false. All waiting senders share it."""
        self._closed = False
        """No more events are delivered."""

    # Called by the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's
        if self._closed:  # closed while the connection was being made
            transport.abort()
            return
        fd = socket_fd(transport)
        if fd is None:
            self._writer = transport
            transport.set_write_buffer_limits(high=HIGH_WATER)
        else:
            self._writer = self._socket_writer = SocketWriter(transport, fd, self, high_water=HIGH_WATER)
        address = transport.get_extra_info("peername")
        self.peer_address = f"{address[0]} port {address[1]}" if isinstance(address, tuple) else str(address)
        self._arm_timer(0.0)
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        now = self._loop.time()
        if self.channel is not None:
            self._flush_scheduled = True  # What the processes send that the data wakes up leaves below, in one write.
            try:
                self._channel_events(self.channel.receive_data(data, now))
            finally:
                self._flush()
        elif self.handshake is not None:
            self._handshake_events(self.handshake, self.handshake.receive_data(data, now), now)

    def eof_received(self) -> None:
        # The decision must be made here: after connection_lost the socket no longer knows what was acknowledged.
        if self.channel is not None and self._socket_writer is not None:
            self._record_external_writes(self.channel, self._socket_writer)
            self.closed_after_ack = (
                self.channel.sent_recently(self._loop.time()) and self._socket_writer.all_acknowledged()
            )

    def connection_lost(self, exception: Exception | None) -> None:
        writer, self._writer, self._socket_writer = self._socket_writer, None, None
        if writer is not None:
            writer.detach()
            exception = exception or writer.error  # after a failed write, the transport sees only an end of the stream
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
        self.busy = True

    def resume_writing(self) -> None:
        self.busy = False
        if self._writable_waiter is not None and not self._writable_waiter.done():
            self._writable_waiter.set_result(None)
        self._writable_waiter = None

    # Called by the node

    def send(self, signal: Signal) -> None:
        """Queue a signal. All signals of one iteration of the event loop leave in one write.

        Raises EncodeError or LocalProtocolError. Before the end of the handshake this does nothing.
        """
        channel = self.channel
        if channel is None:
            return
        channel.send(signal)
        self._flush_soon()

    async def wait_writable(self) -> None:
        """Wait until the peer has read enough data, so that ``busy`` is false, or until the connection is closed."""
        while self.busy and not self._closed:
            if self._writable_waiter is None:
                self._writable_waiter = self._loop.create_future()
            await asyncio.shield(self._writable_waiter)  # a cancelled sender must not cancel the shared future

    def close(self) -> None:
        """Close the connection after all queued data is written. The delegate gets no event."""
        if self._closed:
            return
        self._flush()
        self._close_transport()

    # Called by the watchdog thread while the event loop is blocked

    def last_written_at(self) -> float | None:
        """Return when data was written last (``time.monotonic``); None if only the event loop can write."""
        writer = self._socket_writer  # read once: the event loop may set it to None at any time
        return None if writer is None or self.channel is None else writer.last_written_at

    def write_from_thread(self, signal: Signal | None) -> bool:
        """Write a short signal, or a tick if ``signal`` is None. Return whether it was written.

        If earlier data still waits to be written, this writes that data instead. Raises EncodeError or
        LocalProtocolError.
        """
        writer, channel = self._socket_writer, self.channel
        if writer is None or channel is None:
            return False
        return writer.write_from_thread(TICK if signal is None else channel.encode_standalone(signal))

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
            self.handshake, self.channel = None, channel
            self._delegate.connection_ready(self)
            if handshake.trailing_data and not self._closed:  # the peer sent frames right after its last packet
                self._channel_events(channel.receive_data(handshake.trailing_data, now))
        if not self._closed:
            self._arm_timer(now)
            self._flush()

    def _channel_events(self, events: list[Signal | ConnectionLost]) -> None:
        if events:
            lost = events.pop() if type(events[-1]) is ConnectionLost else None
            self._delegate.signals_received(self, cast("list[Signal]", events))
            if lost is not None and not self._closed:  # a signal may have led the delegate to close the connection
                assert isinstance(lost, ConnectionLost)
                self._connection_ended(lost.reason, lost.detail)

    def _flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        writer = self._writer
        if writer is None or writer.is_closing():
            return
        if self.channel is not None:
            data = self.channel.data_to_send(self._loop.time())
        elif self.handshake is not None:
            data = self.handshake.data_to_send()
        else:
            return
        if data:
            writer.write(data)

    def _record_external_writes(self, channel: Channel, writer: SocketWriter) -> None:
        """Tell the channel what the watchdog thread wrote since the last call."""
        writes = writer.take_external_writes()
        if writes.frames:
            channel.note_external_write(writes.frames, writes.size, writes.last_at)

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
            if self._socket_writer is not None:
                self._record_external_writes(self.channel, self._socket_writer)
            self._channel_events(self.channel.handle_timeout(due))
            self._flush()
        elif self.handshake is not None:
            self._handshake_events(self.handshake, self.handshake.handle_timeout(due), due)
        if not self._closed:
            self._arm_timer(self._loop.time())

    def _connection_ended(self, reason: str, detail: str) -> None:
        handshaking = self.handshake is not None
        self._close_transport()  # first, so that the delegate sees a closed connection
        if handshaking:
            self._delegate.handshake_failed(self, ConnectError(detail))
        else:
            self._delegate.connection_lost(self, reason, detail)

    def _close_transport(self) -> None:
        self._closed = True
        self.busy = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writer is not None:
            self._writer.close()
        self.resume_writing()  # wakes up senders that wait in wait_writable
