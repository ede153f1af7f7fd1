"""Runs a handshake with bytes and time, without I/O.

It adds and removes the lengths of packets, enforces one time limit for the whole handshake, and reports every error as
an event.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from erlmesh.errors import ErlmeshError, HandshakeRefused, HandshakeTimeout, RemoteProtocolError
from erlmesh.proto.handshake import HandshakeCompleted, HandshakeSteps, NeedPacket, Pause, PeerClosed
from erlmesh.records import record

__all__ = ["HandshakeDriver", "HandshakeFailed"]

SETUP_TIMEOUT: Final = 7.0
"""Seconds; OTP's default of ``net_setuptime``."""
MAX_PACKET: Final = 0xFFFF
"""Bytes of a packet, which is the most that a length of two bytes allows."""
STALL_THRESHOLD: Final = 0.5
"""Seconds. If a timer fires this much too late, this node was stalled, and part of the time limit does not count."""

# By the first three bytes on a connection, which are the length and the tag of a packet if the peer is a node.
_OTHER_PROTOCOLS: Final = {
    b"GET": "HTTP",
    b"HEA": "HTTP",
    b"POS": "HTTP",
    b"PUT": "HTTP",
    b"OPT": "HTTP",
    b"HTT": "HTTP",
    b"\x16\x03\x01": "TLS",
    b"\x16\x03\x03": "TLS",
    b"\x15\x03\x01": "TLS",
    b"\x15\x03\x03": "TLS",
    b"SSH": "SSH",
}


@record(frozen=True)
class HandshakeFailed:
    """The handshake failed. The caller must close the connection, after it has written the remaining data.

    That data (:meth:`HandshakeDriver.data_to_send`) may contain the status that tells the peer the reason.
    """

    error: ErlmeshError


class HandshakeDriver:
    """One handshake on one connection.

    ``steps`` is a generator from :func:`~erlmesh.proto.handshake.initiate` or :func:`~erlmesh.proto.handshake.accept`.

    After each call the caller must write what :meth:`data_to_send` returns. There is at most one event,
    :class:`~erlmesh.proto.handshake.HandshakeCompleted` or :class:`HandshakeFailed`. After the first, pass the
    connection and :attr:`trailing_data` to a Channel; after the second, close the connection.

    ``timeout`` is the limit in seconds for the whole handshake, so a peer that sends single bytes cannot extend it.
    Only a stall of this node extends it, once. When :meth:`is_timed_out` is true, first pass in all data that has
    arrived by that time, then call :meth:`handle_timeout`. With ``tls`` the lengths of packets have four bytes instead
    of two (``inet_tls_dist.erl``).

    Raises LocalProtocolError if the handshake cannot start.
    """

    def __init__(self, steps: HandshakeSteps, *, now: float, timeout: float = SETUP_TIMEOUT, tls: bool = False) -> None:
        self._steps = steps
        self._timeout = timeout
        self._deadline = now + timeout
        self._length = struct.Struct(">I" if tls else ">H")
        self._received = bytearray()
        self._to_send: list[bytes] = []
        self._need = NeedPacket("anything", b"")
        """The packet that the generator waits for. _advance sets it."""
        self._finished = False
        self._is_first_packet = True
        """No packet has arrived yet, so the peer may still turn out to speak another protocol."""
        self._deadline_extended = False
        self._resume_at = math.inf
        """When the generator goes on after a pause; infinity if it does not pause."""
        self._advance(next(steps), now)

    @property
    def trailing_data(self) -> bytes:
        """The bytes received after the last packet of the handshake. They belong to the channel."""
        return bytes(self._received)

    def receive_data(self, data: bytes, now: float) -> list[HandshakeCompleted | HandshakeFailed]:
        """Process received bytes. They may contain a part of a packet, or several packets."""
        self._received += data
        if self._finished:
            return []  # the data belongs to the channel, or the connection is about to be closed
        try:
            if self._resume_at < math.inf:
                raise RemoteProtocolError("the peer sent data while we checked its challenge reply")
            while (packet := self._next_packet()) is not None:
                self._is_first_packet = False
                if now >= self._deadline:  # the packet was in the socket when the time was up, so the peer was in time
                    self._extend_deadline_once(now + STALL_THRESHOLD)
                if completed := self._feed(packet, now):
                    return self._finish(completed)
                if self._resume_at < math.inf and self._received:
                    raise RemoteProtocolError("the peer sent data before we checked its challenge reply")
        except ErlmeshError as error:
            return self._fail(error)
        return []

    def receive_eof(self) -> list[HandshakeCompleted | HandshakeFailed]:
        """Process the peer's close of the connection."""
        if self._finished:
            return []
        try:
            self._steps.throw(PeerClosed())
        except PeerClosed:  # the generator has no special meaning for a close at this step
            return self._fail(
                HandshakeRefused(f"the connection was closed while we waited for {self._need.description}")
            )
        except ErlmeshError as error:
            return self._fail(error)
        raise AssertionError("the handshake continued after PeerClosed")

    def next_deadline(self) -> float:
        """Return when to call :meth:`handle_timeout`; infinity if the handshake is finished."""
        return math.inf if self._finished else min(self._deadline, self._resume_at)

    def is_timed_out(self, now: float) -> bool:
        """Return whether the time limit is exceeded."""
        return not self._finished and now >= self._deadline

    def handle_timeout(self, now: float) -> list[HandshakeCompleted | HandshakeFailed]:
        """End a pause, or fail the handshake if its time is up. It may be called any time."""
        if not self.is_timed_out(now):
            return self._end_pause(now)
        overrun = now - self._deadline
        # We were stalled and could not read: the peer gets that time back, at most one time limit more.
        if overrun >= STALL_THRESHOLD and self._extend_deadline_once(now + min(overrun, self._timeout)):
            return []
        return self._fail(HandshakeTimeout(f"{self._need.description} did not arrive within {self._timeout:g} s"))

    def _end_pause(self, now: float) -> list[HandshakeCompleted | HandshakeFailed]:
        if self._finished or now < self._resume_at:
            return []
        self._resume_at = math.inf
        try:
            completed = self._feed(b"", now)
        except ErlmeshError as error:
            return self._fail(error)
        return [] if completed is None else self._finish(completed)

    def _extend_deadline_once(self, deadline: float) -> bool:
        """Set a later deadline. Return false, and change nothing, if that was done before."""
        if self._deadline_extended:
            return False
        self._deadline_extended, self._deadline = True, deadline
        return True

    def data_to_send(self) -> bytes:
        """Return the bytes to write and take them from the queue. The caller must write them."""
        data, self._to_send = b"".join(self._to_send), []
        return data

    def abort(self) -> None:
        """End the handshake without an event, because the attempt is no longer needed."""
        self._finish(None)

    def _next_packet(self) -> bytes | None:
        """Take the next complete packet from the received data; None if there is none.

        The length and the first byte are checked as soon as they are there. Otherwise a peer with another protocol
        would only be found by the time limit, because its data reads as a long length.
        """
        received, start = self._received, self._length.size
        if len(received) < start:
            return None
        (size,) = self._length.unpack_from(received)
        if not 0 < size <= MAX_PACKET:
            raise RemoteProtocolError(
                f"{self._need.description} was expected, but the length field of the packet is {size}"
            )
        if len(received) == start:
            return None
        if received[start] not in self._need.tags:
            raise RemoteProtocolError(self._unexpected_packet(bytes(received[: start + 1])))
        if len(received) < start + size:
            return None
        packet = bytes(received[start : start + size])
        del received[: start + size]
        return packet

    def _unexpected_packet(self, prefix: bytes) -> str:
        """Return the error text for a packet with an unexpected tag. ``prefix`` is its length and tag."""
        if self._is_first_packet and (protocol := _OTHER_PROTOCOLS.get(prefix)):
            advice = ", and this node does not: start both with TLS, or neither" if protocol == "TLS" else ""
            return f"{self._need.description} was expected, but the peer speaks {protocol}{advice}"
        return f"{self._need.description} was expected, but a packet starts with {prefix[self._length.size :]!r}"

    def _feed(self, packet: bytes, now: float) -> HandshakeCompleted | None:
        """Send ``packet`` into the generator. Return its result if it has finished."""
        try:
            self._advance(self._steps.send(packet), now)
        except StopIteration as stop:
            completed: HandshakeCompleted = stop.value
            return completed
        return None

    def _advance(self, step: bytes | NeedPacket | Pause, now: float) -> None:
        """Queue the packets that the generator yields until it needs one from the peer, or pauses."""
        while isinstance(step, bytes):
            self._to_send.append(self._length.pack(len(step)) + step)
            step = next(self._steps)
        if isinstance(step, Pause):
            self._resume_at = now + step.seconds
        else:
            self._need = step

    def _finish(self, event: HandshakeCompleted | None) -> list[HandshakeCompleted | HandshakeFailed]:
        self._finished = True
        self._steps.close()
        return [event] if event is not None else []

    def _fail(self, error: ErlmeshError) -> list[HandshakeCompleted | HandshakeFailed]:
        self._finished = True
        self._received.clear()  # no channel will follow
        self._steps.close()
        return [HandshakeFailed(error)]
