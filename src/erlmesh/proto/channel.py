"""One established connection, without I/O: signals in, signals out, and ticks.

A node that has sent nothing for a quarter of the tick time sends a tick, a frame of length 0. If nothing at all arrives
from a peer for the whole tick time, the connection is lost (kernel's ``net_ticktime``; ``dist_util.erl``,
``con_loop``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from erlmesh.collector import without_collector
from erlmesh.errors import DecodeError, ErlmeshError, RemoteProtocolError
from erlmesh.proto.control import Signal
from erlmesh.proto.encode_control import unanswered_signals, unknown_signals
from erlmesh.proto.flags import Flags
from erlmesh.proto.frame_reader import FrameTooLong, TooManyElements
from erlmesh.proto.wire import WireFactory, make_wire, socket_wire
from erlmesh.records import record
from erlmesh.terms import Atom, Pid, Term

__all__ = ["ELEMENT_LIMIT", "FRAME_LIMIT", "Channel", "ChannelStatistics", "ConnectionLost", "Event"]

NET_TICKTIME: Final = 60.0
"""Seconds; OTP's default of ``net_ticktime``."""
FRAME_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of one received frame. A longer frame closes the connection before its bytes are buffered.

OTP 22 and later send a message of more than 64 KiB in fragments. Nodes in C and Java send each message in one frame.
"""
ELEMENT_LIMIT: Final = 1 << 22
"""Elements of one received message. So many are decoded in half a second with the native part, else in some seconds."""
MAX_UNFINISHED: Final = 512 * 1024 * 1024
"""Bytes of all unfinished fragment sequences together."""
_TICK_INTENSITY: Final = 4
"""Ticks in one tick time; OTP's default of ``net_tickintensity``."""


@record(frozen=True)
class ConnectionLost:
    """The connection is lost; the caller must close it.

    ``reason`` is the text of the atom that OTP gives as the reason of ``nodedown``: ``net_tick_timeout``, ``emsgsize``,
    or ``killed`` after a protocol violation. ``detail`` is a sentence for the log.
    """

    reason: str
    detail: str


Event = Signal | ConnectionLost


@record(frozen=True)
class ChannelStatistics:
    """Counters since the connection was established. Byte counts include length fields and ticks."""

    signals_in: int
    signals_out: int
    bytes_in: int
    bytes_out: int
    ticks_in: int
    ticks_out: int
    pending: int
    """Bytes queued and not yet written."""
    buffered: int
    """Bytes received of incomplete frames and incomplete fragmented messages."""


class Channel:
    """The connection between the node ``local_name`` and the node ``peer``.

    ``flags`` are the capabilities that both nodes have. Every ``now`` is in seconds of one monotonic clock. A signal
    that the peer does not know is not sent (:mod:`~erlmesh.proto.encode_control`). ``no_answer`` is called with each
    signal whose answer will not come for this reason.

    The caller must:

    * write what is queued after each ``receive_data``, ``send`` and ``handle_timeout``. Either it takes everything
      with :meth:`data_to_send`, or it writes from :attr:`wire` to a socket and calls :meth:`note_write`;
    * call :meth:`handle_timeout` when :meth:`next_deadline` is reached. If :meth:`is_timed_out` is true then, first
      pass in all data that has arrived by that time;
    * handle the events: signals in the order in which the peer sent them, and perhaps a final
      :class:`ConnectionLost`. After that, the channel gives no event and sends nothing.

    While the event loop is blocked, another thread may write to the connection. It appends a frame from
    :meth:`encode_standalone`, or TICK, after the data written so far. Later the loop calls
    :meth:`note_external_write`. A thread may also read data, which the loop passes in later; see
    :meth:`note_external_read`.
    """

    __slots__ = ("__dict__", "__weakref__", "lost")  # a native turn reads it

    def __init__(
        self,
        peer: str,
        local_name: str,
        flags: Flags,
        *,
        now: float,
        net_ticktime: float = NET_TICKTIME,
        max_frame: int = FRAME_LIMIT,
        max_unfinished: int = MAX_UNFINISHED,
        max_elements: int = ELEMENT_LIMIT,
        make_wire: WireFactory = make_wire,
        no_answer: Callable[[Signal], object] | None = None,
    ) -> None:
        self.peer = peer
        self.wire = make_wire(Atom(peer), Atom(local_name), flags, (max_frame, max_unfinished, max_elements))
        """Frames in, and the queue of frames out."""
        self._socket_wire = socket_wire(self.wire)
        self.send: Callable[[Signal], int] = self.wire.write
        """Queue a signal, see :meth:`PureWire.write`. On a lost channel this does nothing."""
        # The wire's own method, without one of the channel around it: a process may send millions of messages.
        self.send_message: Callable[[Pid, Pid, Term], int] = self.wire.send
        """Do the same as ``send(Send(sender, to, message))``, without making the signal."""
        self._unknown, self._unanswered = unknown_signals(flags), unanswered_signals(flags)
        self._no_answer = no_answer
        if self._unknown or self._unanswered:  # Not a BEAM of today. All other peers are spared this step.
            self.send = self._send_if_known
        self.net_ticktime = net_ticktime
        self._interval = net_ticktime / _TICK_INTENSITY
        self.lost = False
        """A ConnectionLost event was returned. Queued data has no meaning any more."""
        self._last_received_at = self._last_sent_at = now
        self._grace_until = -math.inf
        """Earliest time of a timeout after our own stall, see :meth:`_woke_late`."""
        self._sent_at_tick = 0
        """The counter ``_sent`` at the last tick of the peer, see :meth:`_answer_tick`."""
        self._external_writes = 0
        """How many times another thread has written to the connection."""
        self._allows_slices = False
        """Long messages are decoded in slices, see :meth:`decode_more`."""
        self._signals_in = 0
        self._bytes_in = self._bytes_out = 0
        self._ticks_out = 0  # the wire counts the ticks received

    def receive_data(self, data: bytes, now: float) -> list[Event]:
        """Return the events that ``data`` completes, without the messages that were delivered (:meth:`deliver_to`).

        Invalid data never raises. It gives a :class:`ConnectionLost` as the last event, after all valid signals.
        """
        if self.lost or not data:
            return []
        events: list[Event] = []
        ticks = self.wire.ticks_in
        try:
            without_collector(self.wire.receive_data, data, events)  # type: ignore[arg-type]
        except ErlmeshError as error:
            events.append(self._invalid(error))
        self._note_received(len(data), events, ticks, now)
        return events

    def deliver_to(self, direct: object | None) -> None:
        """From now on, let a native wire put messages into mailboxes, see :meth:`SocketWire.deliver_to`."""
        if direct is not None and self._socket_wire is not None:
            self._socket_wire.deliver_to(direct)

    @property
    def is_decoding(self) -> bool:
        """A long message is decoded in part. Call :meth:`decode_more`, and pass in no data before it is complete."""
        return self._allows_slices and self.wire.is_decoding and not self.lost

    def allow_slices(self) -> None:
        """From now on, decode long messages in slices, unless the native part is of an earlier build."""
        if hasattr(self.wire, "allow_slices"):
            self.wire.allow_slices()
            self._allows_slices = True

    def decode_more(self, now: float) -> list[Event]:
        """Decode one more slice of a long message. Return the events as :meth:`receive_data` does."""
        if self.lost:
            return []
        events: list[Event] = []
        ticks = self.wire.ticks_in
        try:
            without_collector(self.wire.decode_more, events)  # type: ignore[arg-type]
        except ErlmeshError as error:
            events.append(self._invalid(error))
        self._note_received(0, events, ticks, now)
        return events

    @property
    def can_read(self) -> bool:
        """Whether :meth:`read` can be used."""
        return self._socket_wire is not None

    def read(self, fd: int, now: float) -> tuple[int, list[Event]]:
        """Read once from a socket that does not block. Return the number of bytes, 0 at the end, and the events.

        The events are those of :meth:`receive_data`. Raises OSError, which is BlockingIOError if no data has arrived.
        """
        wire = self._socket_wire
        if self.lost or wire is None:
            return 0, []
        events: list[Event] = []
        ticks = self.wire.ticks_in
        result: int | ErlmeshError
        try:
            result = wire.read(fd, events)  # type: ignore[arg-type]
        except ErlmeshError as error:
            result = error
        return self.after_read(result, events, ticks, now)

    def after_read(
        self, result: int | ErlmeshError, events: list[Event], ticks: int, now: float
    ) -> tuple[int, list[Event]]:
        """Do the rest of :meth:`read`. ``result`` is what the wire has returned or raised.

        ``ticks`` is the number of ticks that had been received before.
        """
        if isinstance(result, int):
            size = result
        else:
            size = 0 if self._socket_wire is None else self._socket_wire.last_read
            events.append(self._invalid(result))
        if size:
            self._note_received(size, events, ticks, now)
        return size, events

    def note_turns(self, bytes_in: int, signals_in: int, read_at: float, bytes_out: int, written_at: float) -> None:
        """Record what the wire has read and written without this object.

        These are bytes and signals since the last call, and the times of the last read and of the last write.
        """
        self._bytes_in += bytes_in
        self._signals_in += signals_in
        self._bytes_out += bytes_out
        self._last_received_at = max(self._last_received_at, read_at)
        self._last_sent_at = max(self._last_sent_at, written_at)

    def _invalid(self, error: ErlmeshError) -> ConnectionLost:
        """Return the event for invalid data. Any other error is a fault of this node and is raised."""
        if isinstance(error, (FrameTooLong, TooManyElements)):
            return self._mark_lost("emsgsize", str(error))
        if isinstance(error, (RemoteProtocolError, DecodeError)):
            return self._mark_lost("killed", str(error))
        raise error

    def _note_received(self, size: int, events: list[Event], ticks: int, now: float) -> None:
        """Record a read. ``ticks`` is the number of ticks that had been received before it."""
        self._last_received_at = now  # any data counts, also a part of a frame: a long frame is not an idle peer
        self._bytes_in += size
        self._signals_in += len(events) - self.lost  # the ConnectionLost event is not a signal
        if self.wire.ticks_in > ticks:
            self._answer_tick()

    @property
    def pending(self) -> int:
        """Bytes queued and not yet written."""
        return 0 if self.lost else self.wire.queued

    def data_to_send(self, now: float) -> bytes:
        """Return the bytes to write and take them from the queue. The caller must write them, in this order."""
        if not self.pending:
            return b""
        data = self.wire.data_to_send()
        self.note_write(len(data), now)
        return data

    def note_write(self, size: int, now: float) -> None:
        """Record that ``size`` bytes of the queue were written at ``now``."""
        self._bytes_out += size
        self._last_sent_at = now

    def _send_if_known(self, signal: Signal) -> int:
        """Do the same as ``wire.write``, for a peer that does not know all signals or does not answer them."""
        kind = type(signal)
        queued = self.wire.queued if kind in self._unknown else self.wire.write(signal)
        if kind in self._unanswered and self._no_answer is not None:
            self._no_answer(signal)
        return queued

    def encode_standalone(self, signal: Signal) -> bytes:
        """Return a frame for a short ``signal`` without a change of state. It may be called from any thread.

        Raises EncodeError or LocalProtocolError.
        """
        return self.wire.encode_standalone(signal)

    def note_external_write(self, ticks: int, size: int, now: float) -> None:
        """Record that another thread wrote ``size`` bytes to this connection, the last of them at ``now``.

        ``ticks`` is the number of its own frames among them; the statistics count all of these as ticks.
        """
        self._ticks_out += ticks
        self._bytes_out += size
        self._last_sent_at = max(self._last_sent_at, now)  # the loop may have sent more since then
        self._external_writes += 1

    def note_external_read(self, now: float) -> None:
        """Record that another thread received data from the peer at ``now``, which the caller will pass in later."""
        self._last_received_at = max(self._last_received_at, now)

    def silence(self, now: float) -> float:
        """Return the seconds since anything came from the peer, or since the connection was established."""
        return max(0.0, now - self._last_received_at)

    def next_deadline(self) -> float:
        """Return when to call :meth:`handle_timeout`, if nothing is received or sent before. Infinity if never."""
        if self.lost:
            return math.inf
        return min(self._idle_deadline(), self._last_sent_at + self._interval)

    def is_timed_out(self, now: float) -> bool:
        """Return whether nothing has arrived from the peer for too long, so that ``handle_timeout`` may lose it."""
        return now >= self._idle_deadline() and not self.lost

    def handle_timeout(self, now: float) -> list[Event]:
        """Queue a tick if one is due, or return ConnectionLost if the peer has timed out. It may be called any time."""
        if self.lost:
            return []
        if now >= self._idle_deadline():
            if not self._woke_late(now):
                idle_for = now - self._last_received_at
                return [self._mark_lost("net_tick_timeout", f"no data from {self.peer} for {idle_for:.3g} s")]
            self._grace_until = now + self._interval
        if now >= self._last_sent_at + self._interval:
            self._last_sent_at = now  # also without a tick: otherwise next_deadline would stay in the past
            # Queued data shows the peer that this node is alive, as a tick would.
            if not self.wire.queued:
                self._tick()
        return []

    def sent_recently(self, now: float) -> bool:
        """Return whether we sent data so recently that a peer which receives it cannot have timed out on us.

        OTP's timer gives up a peer after three quarters of the tick time at the earliest. Half of it is a safe margin.
        """
        return now < self._last_sent_at + self.net_ticktime / 2

    def _idle_deadline(self) -> float:
        return max(self._last_received_at + self.net_ticktime, self._grace_until)

    def _woke_late(self, now: float) -> bool:
        """Return whether this node itself was stalled when the timeout was due, so that the peer gets more time.

        The peer may have stalled with us (a suspended laptop, for example), or may have waited for us to read. It gets
        the time of one tick, once, as a BEAM would give it: a BEAM counts the silence in ticks of its own timer.
        """
        due = self._last_received_at + self.net_ticktime
        # The second condition allows only one extension until new data arrives.
        return now >= due + self._interval and self._grace_until <= due

    def statistics(self) -> ChannelStatistics:
        """Return a snapshot of the counters."""
        return ChannelStatistics(
            signals_in=self._signals_in + (0 if self._socket_wire is None else self._socket_wire.delivered),
            signals_out=self.wire.signals_out,
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
            ticks_in=self.wire.ticks_in,
            ticks_out=self._ticks_out,
            pending=self.pending,
            buffered=self.wire.buffered,
        )

    def _answer_tick(self) -> None:
        """Answer a tick of the peer with a tick if we sent nothing since its previous tick.

        A peer with a shorter tick time than ours needs ticks at its own rate. We answer only if we were idle between
        two of its ticks, so two nodes never answer each other's answers without end.
        """
        if self._sent == self._sent_at_tick and not self.lost:
            self._tick()
        else:
            self._sent_at_tick = self._sent

    def _tick(self) -> None:
        self.wire.write_tick()
        self._ticks_out += 1

    @property
    def _sent(self) -> int:
        """A counter that grows with everything that was sent: signals, ticks, and writes of another thread."""
        return self.wire.signals_out + self._ticks_out + self._external_writes

    def _mark_lost(self, reason: str, detail: str) -> ConnectionLost:
        self.lost = True
        self.send = self.send_message = _drop
        return ConnectionLost(reason, detail)


def _drop(*_signal: object) -> int:
    """Send nothing: the channel is lost. No bytes are queued then."""
    return 0
