"""One connection on one transport: bytes in, bytes out, one timer. First a handshake rules it, then a channel."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol, cast

from erlmesh.errors import ConnectError, ErlmeshError
from erlmesh.net.outlet import Outlet, descriptor_of
from erlmesh.proto.channel import Channel, ConnectionLost
from erlmesh.proto.control import Signal
from erlmesh.proto.frame_writer import TICK
from erlmesh.proto.handshake import HandshakeCompleted
from erlmesh.proto.handshake_driver import HandshakeDriver, HandshakeFailed

__all__ = ["Owner", "Pump"]

HIGH_WATER = 1 << 20
"""Bytes queued to a peer from which on its senders are suspended: a BEAM's dist_buf_busy_limit."""


class Owner(Protocol):
    """Who is told what a pump meets. Calls come from the event loop, one at a time."""

    def met(self, pump: Pump, met: HandshakeCompleted, now: float) -> Channel | None:
        """The handshake is through: the channel for this connection, or None to close it. An older connection that it
        replaces ends in here: the peer must not hear our last packet before.
        """

    def up(self, pump: Pump) -> None:
        """The pump takes signals from now on."""

    def heard(self, pump: Pump, signals: list[Signal]) -> None:
        """Signals of the peer, in order."""

    def refused(self, pump: Pump, error: ErlmeshError) -> None:
        """The handshake failed."""

    def lost(self, pump: Pump, reason: str, why: str) -> None:
        """The channel ended: OTP's word for it, and a sentence."""


class Pump(asyncio.Protocol):
    """Carries ``handshake``, and after it the channel that ``owner`` gives, over one transport."""

    def __init__(self, handshake: HandshakeDriver, owner: Owner) -> None:
        self.handshake: HandshakeDriver | None = handshake
        self.channel: Channel | None = None
        self.busy = False
        self.peer_address = ""
        self.was_heard = False
        """The peer closed the connection although it had heard all that we said, and we said something lately."""
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._out: asyncio.Transport | Outlet | None = None
        self._outlet: Outlet | None = None
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._writable: asyncio.Future[None] | None = None
        self._over = False

    # The transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's
        if self._over:
            transport.abort()
            return
        descriptor = descriptor_of(transport)
        if descriptor is None:
            self._out = transport
            transport.set_write_buffer_limits(high=HIGH_WATER)
        else:
            self._out = self._outlet = Outlet(transport, descriptor, self, high=HIGH_WATER)
        address = transport.get_extra_info("peername")
        self.peer_address = f"{address[0]} port {address[1]}" if isinstance(address, tuple) else str(address)
        self._arm(0.0)
        self._flush()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        now = self._loop.time()
        if self.channel is not None:
            self._hear(self.channel.receive_data(data, now))
            # Behind the processes that this has woken: what they answer leaves in the turn in which they answer.
            self._flush_soon()
        elif self.handshake is not None:
            self._shake(self.handshake, self.handshake.receive_data(data, now), now)

    def eof_received(self) -> None:
        if self.channel is not None and self._outlet is not None:
            self._note_said(self.channel, self._outlet)
            self.was_heard = self.channel.sent_recently(self._loop.time()) and self._outlet.all_heard()

    def connection_lost(self, exception: Exception | None) -> None:
        outlet, self._out, self._outlet = self._outlet, None, None
        if outlet is not None:
            outlet.gone()
            exception = exception or outlet.fault
        if self._over:
            return
        if self.handshake is not None:
            self._shake(self.handshake, self.handshake.receive_eof(), self._loop.time())
        if not self._over:
            self._end(
                "connection_closed",
                "the connection was closed" if exception is None else f"the connection broke: {exception}",
            )

    def pause_writing(self) -> None:
        self.busy = True

    def resume_writing(self) -> None:
        self.busy = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

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
        while self.busy and not self._over:
            if self._writable is None:
                self._writable = self._loop.create_future()
            await asyncio.shield(self._writable)

    def close(self) -> None:
        """Ends the connection, after what is queued; nobody is told."""
        if self._over:
            return
        self._flush()
        self._finish()

    # For a thread, while the loop stands still

    def silent_since(self) -> float | None:
        """When we spoke last (``time.monotonic``); None where nobody but the loop can speak."""
        outlet = self._outlet
        return None if outlet is None or self.channel is None else outlet.spoke_at

    def say(self, signal: Signal | None) -> bool:
        """Says a short signal, or with None a tick; if something waits to be written, pushes that instead. Whether it
        was said. Raises EncodeError, LocalProtocolError.
        """
        outlet, channel = self._outlet, self.channel
        if outlet is None or channel is None:
            return False
        return outlet.say(TICK if signal is None else channel.encode_standalone(signal))

    # Between

    def _shake(
        self, handshake: HandshakeDriver, events: list[HandshakeCompleted | HandshakeFailed], now: float
    ) -> None:
        for event in events:
            if isinstance(event, HandshakeFailed):
                self._flush()  # it may tell the peer why
                self._finish()
                self._owner.refused(self, event.error)
                return
            channel = self._owner.met(self, event, now)
            if channel is None:
                self._finish()
                return
            self._flush()  # the last packet of the handshake, before the first of the channel
            self.handshake, self.channel = None, channel
            self._owner.up(self)
            if handshake.trailing_data and not self._over:
                self._hear(channel.receive_data(handshake.trailing_data, now))
        if not self._over:
            self._arm(now)
            self._flush()

    def _hear(self, events: list[Signal | ConnectionLost]) -> None:
        if events:
            lost = events.pop() if type(events[-1]) is ConnectionLost else None
            self._owner.heard(self, cast("list[Signal]", events))
            if lost is not None and not self._over:
                assert isinstance(lost, ConnectionLost)
                self._end(lost.reason, lost.detail)

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        out = self._out
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

    def _note_said(self, channel: Channel, outlet: Outlet) -> None:
        said = outlet.take_said()
        if said.words:
            channel.note_external_write(said.words, said.size, said.last)

    def _arm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        machine = self.channel or self.handshake
        deadline = math.inf if machine is None else machine.next_deadline()
        self._timer = None if deadline == math.inf else self._loop.call_at(max(deadline, now), self._time_out)

    def _time_out(self) -> None:
        self._timer = None
        machine = self.channel or self.handshake
        now = self._loop.time()
        if machine is not None and machine.is_timed_out(now):
            # This may be the first that we do after a long time, and what was said in it lies in the socket: the loop
            # asks that between one turn and the next, and not always before the timers.
            self._loop.call_soon(self._loop.call_soon, self._look_at, now)
        else:
            self._look_at(now)

    def _look_at(self, then: float) -> None:
        """Lets time pass for the machine: what was due ``then`` is due if nothing has been heard since."""
        if self._over:
            return
        if self.channel is not None:
            if self._outlet is not None:
                self._note_said(self.channel, self._outlet)
            self._hear(self.channel.handle_timeout(then))
            self._flush()
        elif self.handshake is not None:
            self._shake(self.handshake, self.handshake.handle_timeout(then), then)
        if not self._over:
            self._arm(self._loop.time())

    def _end(self, reason: str, why: str) -> None:
        handshaking = self.handshake is not None
        self._finish()
        if handshaking:
            self._owner.refused(self, ConnectError(why))
        else:
            self._owner.lost(self, reason, why)

    def _finish(self) -> None:
        self._over = True
        self.busy = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._out is not None:
            self._out.close()
        self.resume_writing()
