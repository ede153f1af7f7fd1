"""One established connection: signals in, signals out, and the ticks that show that somebody is there.

A node that has said nothing for a quarter of the tick time says a frame of length 0. A peer from which nothing at all
came for the whole tick time is taken for dead (``net_kernel``, ``net_ticktime``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from erlmesh.errors import DecodeError, RemoteProtocolError
from erlmesh.proto.control import Signal
from erlmesh.proto.flags import Flags
from erlmesh.proto.frame_reader import FrameReader, FrameTooLong
from erlmesh.proto.frame_writer import TICK, FrameWriter
from erlmesh.terms import Atom

__all__ = ["Channel", "ChannelStatistics", "ConnectionLost", "Event"]

NET_TICKTIME: Final = 60.0
MAX_FRAME: Final = 128 * 1024 * 1024
MAX_UNFINISHED: Final = 512 * 1024 * 1024
_TICK_INTENSITY: Final = 4


@dataclass(frozen=True, slots=True)
class ConnectionLost:
    """The connection is over: close it. ``reason`` is the text of the atom that ``nodedown`` gives in OTP
    (``net_tick_timeout``, ``emsgsize``, ``killed`` for a broken protocol), ``why`` a sentence for the log.
    """

    reason: str
    detail: str


Event = Signal | ConnectionLost


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Since the connection was established. Bytes count lengths and ticks too."""

    signals_in: int
    signals_out: int
    bytes_in: int
    bytes_out: int
    ticks_in: int
    ticks_out: int
    pending: int
    """Bytes that wait to be sent."""
    buffered: int
    """Bytes received that wait for the rest of their frame or message."""


class Channel:
    """The connection of the node ``ours`` with the node ``peer``, both of which can do what ``flags`` says.

    ``now`` is in seconds, of any clock that never goes back. After ``receive_data``, ``send`` and ``handle_timeout``
    write what :meth:`data_to_send` gives, and call :meth:`handle_timeout` when :meth:`next_deadline` has come; but
    give it first whatever has arrived by then, if :meth:`is_silent`. Events are signals, in the order in which the peer
    sent them; the last may be :class:`Lost`, and after that the channel is silent.

    Whoever must speak while all this stands still says :meth:`word` or TICK behind what was written, and tells
    :meth:`note_said` of it later.
    """

    def __init__(
        self,
        peer: str,
        local_name: str,
        flags: Flags,
        *,
        now: float,
        net_ticktime: float = NET_TICKTIME,
        max_frame: int = MAX_FRAME,
        max_unfinished: int = MAX_UNFINISHED,
    ) -> None:
        self.peer = peer
        self.net_ticktime = net_ticktime
        self._interval = net_ticktime / _TICK_INTENSITY
        self._reader = FrameReader(Atom(peer), flags, max_frame=max_frame, max_unfinished=max_unfinished)
        self._writer = FrameWriter((Atom(local_name), Atom(peer)), flags)
        self._queue: list[bytes] = []
        self._lost = False
        self._last_received_at = self._last_sent_at = now
        self._grace_until = -math.inf
        self._sent_since_tick = False
        self._signals_in = self._signals_out = 0
        self._bytes_in = self._bytes_out = 0
        self._ticks_out = 0
        self.pending = 0
        """Bytes that :meth:`data_to_send` would give."""

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """What ``data`` completes. Whatever the bytes are, no exception: a fault is the last event, after all that was
        good before it.
        """
        if self._lost or not data:
            return []
        self._last_received_at = now
        self._bytes_in += len(data)
        events: list[Event] = []
        ticks = self._reader.ticks
        try:
            self._reader.feed_data(data, events)  # type: ignore[arg-type]
        except FrameTooLong as error:
            events.append(self._mark_lost("emsgsize", str(error)))
        except (RemoteProtocolError, DecodeError) as error:
            events.append(self._mark_lost("killed", str(error)))
        self._signals_in += len(events) - self._lost
        if self._reader.ticks > ticks:
            self._answer_tick()
        return events

    def send(self, signal: Signal) -> None:
        """Queue ``signal``. Raises EncodeError or LocalProtocolError at once, and then nothing has happened. On a lost
        channel nothing happens either.
        """
        if self._lost:
            return
        frame = self._writer.write(signal)
        self._queue.append(frame)
        self.pending += len(frame)
        self._signals_out += 1
        self._sent_since_tick = True

    def data_to_send(self, now: float) -> bytes:
        """What is to be written, which is thereby said."""
        if not self._queue:
            return b""
        data = b"".join(self._queue)
        self._queue.clear()
        self.pending = 0
        self._bytes_out += len(data)
        self._last_sent_at = now
        return data

    def encode_standalone(self, signal: Signal) -> bytes:
        """A frame that says the short ``signal`` and touches nothing here. Raises EncodeError, LocalProtocolError."""
        return self._writer.write_standalone(signal)

    def note_external_write(self, ticks: int, size: int, now: float) -> None:
        """Others have said ``size`` bytes on this connection in our stead, the last ``now``; so many were ticks."""
        self._ticks_out += ticks
        self._bytes_out += size
        self._last_sent_at = max(self._last_sent_at, now)
        self._sent_since_tick = True

    def next_deadline(self) -> float:
        """When :meth:`handle_timeout` has something to do, if nothing is heard or said before."""
        if self._lost:
            return math.inf
        return min(self._idle_deadline(), self._last_sent_at + self._interval)

    def is_timed_out(self, now: float) -> bool:
        """Whether :meth:`handle_timeout` would find that the peer is gone."""
        return now >= self._idle_deadline() and not self._lost

    def handle_timeout(self, now: float) -> list[Event]:
        """Tick, or find that the peer is gone. Harmless at any time."""
        if self._lost:
            return []
        if now >= self._idle_deadline():
            if not self._woke_late(now):
                silence = now - self._last_received_at
                return [self._mark_lost("net_tick_timeout", f"nothing was heard of {self.peer} for {silence:.3g} s")]
            self._grace_until = now + self._interval
        if now >= self._last_sent_at + self._interval:
            self._last_sent_at = now
            if not self._queue:
                self._tick()
        return []

    def sent_recently(self, now: float) -> bool:
        """Whether a peer that hears us cannot have missed us yet: it would wait for three quarters of a tick time."""
        return now < self._last_sent_at + self.net_ticktime / 2

    def _idle_deadline(self) -> float:
        return max(self._last_received_at + self.net_ticktime, self._grace_until)

    def _woke_late(self, now: float) -> bool:
        """Whether we stood still ourselves. The peer may have stood still too, and would have spoken had anybody
        listened: it gets the time for one tick, once, as a BEAM in our place would give it.
        """
        due = self._last_received_at + self.net_ticktime
        return now >= due + self._interval and self._grace_until <= due

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            signals_in=self._signals_in,
            signals_out=self._signals_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            ticks_in=self._reader.ticks,
            ticks_out=self._ticks_out,
            pending=self.pending,
            buffered=self._reader.buffered,
        )

    def _answer_tick(self) -> None:
        """A peer with a shorter tick time than ours must hear us in its own rhythm. Silence between two of its ticks is
        what we answer, so that two nodes never answer each other's answers.
        """
        if not self._sent_since_tick and not self._lost:
            self._tick()
        else:
            self._sent_since_tick = False

    def _tick(self) -> None:
        self._queue.append(TICK)
        self.pending += len(TICK)
        self._ticks_out += 1
        self._sent_since_tick = True

    def _mark_lost(self, reason: str, detail: str) -> ConnectionLost:
        self._lost = True
        self._queue.clear()
        self.pending = 0
        return ConnectionLost(reason, detail)
