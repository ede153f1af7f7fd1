"""One connection on one transport: bytes in, bytes out, one timer. First a handshake rules it, then a channel."""

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
"""Bytes queued to a peer from which on its senders are suspended: a BEAM's dist_buf_busy_limit."""


class ConnectionDelegate(Protocol):
    """Who is told what a pump meets. Calls come from the event loop, one at a time."""

    def handshake_completed(self, protocol: DistProtocol, event: HandshakeCompleted, now: float) -> Channel | None:
        """The handshake is through: the channel for this connection, or None to close it. An older connection that it
        replaces ends in here: the peer must not hear our last packet before.
        """

    def connection_ready(self, protocol: DistProtocol) -> None:
        """The pump takes signals from now on."""

    def signals_received(self, protocol: DistProtocol, signals: list[Signal]) -> None:
        """Signals of the peer, in order."""

    def handshake_failed(self, protocol: DistProtocol, error: ErlmeshError) -> None:
        """The handshake failed."""

    def connection_lost(self, protocol: DistProtocol, reason: str, detail: str) -> None:
        """The channel ended: OTP's word for it, and a sentence."""


class DistProtocol(asyncio.Protocol):
    """Carries ``handshake``, and after it the channel that ``owner`` gives, over one transport."""

    def __init__(self, handshake: HandshakeDriver, delegate: ConnectionDelegate) -> None:
        self.handshake: HandshakeDriver | None = handshake
        self.channel: Channel | None = None
        self.busy = False
        self.peer_address = ""
        self.closed_after_ack = False
        """The peer closed the connection although it had heard all that we said, and we said something lately."""
        self._delegate = delegate
        self._loop = asyncio.get_running_loop()
        self._writer: asyncio.Transport | SocketWriter | None = None
        self._socket_writer: SocketWriter | None = None
        self._flush_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._writable_waiter: asyncio.Future[None] | None = None
        self._closed = False

    # The transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's
        if self._closed:
            transport.abort()
            return
        descriptor = socket_fd(transport)
        if descriptor is None:
            self._writer = transport
            transport.set_write_buffer_limits(high=HIGH_WATER)
        else:
            self._writer = self._socket_writer = SocketWriter(transport, descriptor, self, high_water=HIGH_WATER)
        address = transport.get_extra_info("peername")
        self.peer_address = f"{address[0]} port {address[1]}" if isinstance(address, tuple) else str(address)
        self._arm_timer(0.0)
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        now = self._loop.time()
        if self.channel is not None:
            self._channel_events(self.channel.receive_data(data, now))
            # Behind the processes that this has woken: what they answer leaves in the turn in which they answer.
            self._flush_soon()
        elif self.handshake is not None:
            self._handshake_events(self.handshake, self.handshake.receive_data(data, now), now)

    def eof_received(self) -> None:
        if self.channel is not None and self._socket_writer is not None:
            self._record_external_writes(self.channel, self._socket_writer)
            self.closed_after_ack = (
                self.channel.sent_recently(self._loop.time()) and self._socket_writer.all_acknowledged()
            )

    def connection_lost(self, exception: Exception | None) -> None:
        outlet, self._writer, self._socket_writer = self._socket_writer, None, None
        if outlet is not None:
            outlet.detach()
            exception = exception or outlet.error
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

    # The node's side

    def send(self, signal: Signal) -> None:
        """Queues a signal. What is queued in one turn of the loop leaves in one write. Raises EncodeError."""
        channel = self.channel
        if channel is None:
            return
        channel.send(signal)
        self._flush_soon()

    async def wait_writable(self) -> None:
        """Until the peer has read enough for more, or is gone."""
        while self.busy and not self._closed:
            if self._writable_waiter is None:
                self._writable_waiter = self._loop.create_future()
            await asyncio.shield(self._writable_waiter)

    def close(self) -> None:
        """Ends the connection, after what is queued; nobody is told."""
        if self._closed:
            return
        self._flush()
        self._close_transport()

    # For a thread, while the loop stands still

    def last_written_at(self) -> float | None:
        """When we spoke last (``time.monotonic``); None where nobody but the loop can speak."""
        outlet = self._socket_writer
        return None if outlet is None or self.channel is None else outlet.last_written_at

    def write_from_thread(self, signal: Signal | None) -> bool:
        """Says a short signal, or with None a tick; if something waits to be written, pushes that instead. Whether it
        was said. Raises EncodeError, LocalProtocolError.
        """
        outlet, channel = self._socket_writer, self.channel
        if outlet is None or channel is None:
            return False
        return outlet.write_from_thread(TICK if signal is None else channel.encode_standalone(signal))

    # Between

    def _handshake_events(
        self, handshake: HandshakeDriver, events: list[HandshakeCompleted | HandshakeFailed], now: float
    ) -> None:
        for event in events:
            if isinstance(event, HandshakeFailed):
                self._flush()  # it may tell the peer why
                self._close_transport()
                self._delegate.handshake_failed(self, event.error)
                return
            channel = self._delegate.handshake_completed(self, event, now)
            if channel is None:
                self._close_transport()
                return
            self._flush()  # the last packet of the handshake, before the first of the channel
            self.handshake, self.channel = None, channel
            self._delegate.connection_ready(self)
            if handshake.trailing_data and not self._closed:
                self._channel_events(channel.receive_data(handshake.trailing_data, now))
        if not self._closed:
            self._arm_timer(now)
            self._flush()

    def _channel_events(self, events: list[Signal | ConnectionLost]) -> None:
        if events:
            lost = events.pop() if type(events[-1]) is ConnectionLost else None
            self._delegate.signals_received(self, cast("list[Signal]", events))
            if lost is not None and not self._closed:
                assert isinstance(lost, ConnectionLost)
                self._connection_ended(lost.reason, lost.detail)

    def _flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        out = self._writer
        if out is None or out.is_closing():
            return
        if self.channel is not None:
            data = self.channel.data_to_send(self._loop.time())
        elif self.handshake is not None:
            data = self.handshake.data_to_send()
        else:
            return
        if data:
            out.write(data)

    def _record_external_writes(self, channel: Channel, writer: SocketWriter) -> None:
        said = writer.take_external_writes()
        if said.frames:
            channel.note_external_write(said.frames, said.size, said.last_at)

    def _arm_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        machine = self.channel or self.handshake
        deadline = math.inf if machine is None else machine.next_deadline()
        self._timer = None if deadline == math.inf else self._loop.call_at(max(deadline, now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        machine = self.channel or self.handshake
        now = self._loop.time()
        if machine is not None and machine.is_timed_out(now):
            # This may be the first that we do after a long time, and what was said in it lies in the socket: the loop
            # asks that between one turn and the next, and not always before the timers.
            self._loop.call_soon(self._loop.call_soon, self._check_timeout, now)
        else:
            self._check_timeout(now)

    def _check_timeout(self, due: float) -> None:
        """Lets time pass for the machine: what was due ``then`` is due if nothing has been heard since."""
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
        self._close_transport()
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
        self.resume_writing()
