"""A handshake given bytes and time: lengths, one time limit for the whole, and faults as the last event."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

from erlmesh.errors import ErlmeshError, HandshakeRefused, HandshakeTimeout, RemoteProtocolError
from erlmesh.proto.handshake import HandshakeCompleted, HandshakeSteps, NeedPacket, PeerClosed

__all__ = ["HandshakeDriver", "HandshakeFailed"]

SETUP_TIMEOUT: Final = 7.0
"""Seconds; kernel's ``net_setuptime``."""
MAX_PACKET: Final = 0xFFFF
STALL_THRESHOLD: Final = 0.5
"""Seconds; a time limit that is looked at so much later ran while nobody here could listen."""

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


@dataclass(frozen=True, slots=True)
class HandshakeFailed:
    """The handshake is over and the connection is to be closed, once what :meth:`Handshake.data_to_send` gives is
    written: it may tell the peer why.
    """

    error: ErlmeshError


class HandshakeDriver:
    """One conversation on one connection: ``Handshake(call(…), now=…)`` or ``Handshake(answer(…), now=…)``.

    After every verb write what :meth:`data_to_send` gives. At most one event ever comes, :class:`Met` or
    :class:`Failed`; then give the connection and :attr:`leftover` to a Channel, or close it. ``timeout`` seconds is for
    all of it, however the bytes trickle in; only time in which nobody here could listen does not count, once. Before
    :meth:`handle_timeout` give it whatever has arrived by then, if :meth:`is_silent`. ``tls`` says that the connection
    is encrypted: lengths then take 4 bytes.
    Raises LocalProtocolError if the conversation cannot even begin.
    """

    def __init__(self, steps: HandshakeSteps, *, now: float, timeout: float = SETUP_TIMEOUT, tls: bool = False) -> None:
        self._steps = steps
        self._timeout = timeout
        self._deadline = now + timeout
        self._length = struct.Struct(">I" if tls else ">H")
        self._received = bytearray()
        self._to_send: list[bytes] = []
        self._need = NeedPacket("anything", b"")
        self._finished = False
        self._is_first_packet = True
        self._deadline_extended = False
        self._advance(next(steps))

    @property
    def trailing_data(self) -> bytes:
        """What arrived behind the last packet of the handshake: it belongs to the channel."""
        return bytes(self._received)

    def receive_data(self, data: bytes, now: float) -> list[HandshakeCompleted | HandshakeFailed]:
        self._received += data
        if self._finished:
            return []
        try:
            while (packet := self._next_packet()) is not None:
                self._is_first_packet = False
                if now >= self._deadline:  # it lay there when the time was up
                    self._extend_deadline_once(now + STALL_THRESHOLD)
                if met := self._feed(packet):
                    return self._finish(met)
        except ErlmeshError as error:
            return self._fail(error)
        return []

    def receive_eof(self) -> list[HandshakeCompleted | HandshakeFailed]:
        """The peer closed the connection."""
        if self._finished:
            return []
        try:
            self._steps.throw(PeerClosed())
        except PeerClosed:
            return self._fail(
                HandshakeRefused(f"the connection was closed while we waited for {self._need.description}")
            )
        except ErlmeshError as error:
            return self._fail(error)
        raise AssertionError("a conversation went on after the end of its stream")

    def next_deadline(self) -> float:
        return math.inf if self._finished else self._deadline

    def is_timed_out(self, now: float) -> bool:
        """Whether its time is up."""
        return now >= self.next_deadline()

    def handle_timeout(self, now: float) -> list[HandshakeCompleted | HandshakeFailed]:
        if not self.is_timed_out(now):
            return []
        late = now - self._deadline
        if late >= STALL_THRESHOLD and self._extend_deadline_once(now + min(late, self._timeout)):
            return []
        return self._fail(HandshakeTimeout(f"{self._need.description} did not arrive within {self._timeout:g} s"))

    def _extend_deadline_once(self, deadline: float) -> bool:
        """Gives the peer until then, once."""
        if self._deadline_extended:
            return False
        self._deadline_extended, self._deadline = True, deadline
        return True

    def data_to_send(self) -> bytes:
        data, self._to_send = b"".join(self._to_send), []
        return data

    def abort(self) -> None:
        """End without an event: the attempt is no longer wanted."""
        self._finish(None)

    def _next_packet(self) -> bytes | None:
        received, start = self._received, self._length.size
        if len(received) < start:
            return None
        (size,) = self._length.unpack_from(received)
        if not 0 < size <= MAX_PACKET:
            raise RemoteProtocolError(
                f"{self._need.description} was expected, but a packet of {size} bytes is announced"
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
        if self._is_first_packet and (language := _OTHER_PROTOCOLS.get(prefix)):
            return f"{self._need.description} was expected, but the peer speaks {language}"
        return (
            f"{self._need.description} was expected, but a packet came that begins with {prefix[self._length.size :]!r}"
        )

    def _feed(self, packet: bytes) -> HandshakeCompleted | None:
        try:
            self._advance(self._steps.send(packet))
        except StopIteration as stop:
            met: HandshakeCompleted = stop.value
            return met
        return None

    def _advance(self, step: bytes | NeedPacket) -> None:
        while not isinstance(step, NeedPacket):
            self._to_send.append(self._length.pack(len(step)) + step)
            step = next(self._steps)
        self._need = step

    def _finish(self, event: HandshakeCompleted | None) -> list[HandshakeCompleted | HandshakeFailed]:
        self._finished = True
        self._steps.close()
        return [event] if event is not None else []

    def _fail(self, error: ErlmeshError) -> list[HandshakeCompleted | HandshakeFailed]:
        self._finished = True
        self._received.clear()
        self._steps.close()
        return [HandshakeFailed(error)]
