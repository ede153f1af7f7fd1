"""A handshake given bytes and time: lengths, one time limit for the whole, and faults as the last event."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

from erlmesh.errors import ErlmeshError, HandshakeRefused, PeerSilent, RemoteProtocolError
from erlmesh.proto.handshake import Conversation, Hear, Met, PeerClosed

__all__ = ["Failed", "Handshake"]

SETUP_TIME: Final = 7.0
"""Seconds; kernel's ``net_setuptime``."""
MAX_PACKET: Final = 0xFFFF
LATE: Final = 0.5
"""Seconds; a time limit that is looked at so much later ran while nobody here could listen."""

_STRANGERS: Final = {
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
class Failed:
    """The handshake is over and the connection is to be closed, once what :meth:`Handshake.data_to_send` gives is
    written: it may tell the peer why.
    """

    why: ErlmeshError


class Handshake:
    """One conversation on one connection: ``Handshake(call(…), now=…)`` or ``Handshake(answer(…), now=…)``.

    After every verb write what :meth:`data_to_send` gives. At most one event ever comes, :class:`Met` or
    :class:`Failed`; then give the connection and :attr:`leftover` to a Channel, or close it. ``timeout`` seconds is for
    all of it, however the bytes trickle in; only time in which nobody here could listen does not count, once. Before
    :meth:`handle_timeout` give it whatever has arrived by then, if :meth:`is_silent`. ``tls`` says that the connection
    is encrypted: lengths then take 4 bytes.
    Raises LocalProtocolError if the conversation cannot even begin.
    """

    def __init__(
        self, conversation: Conversation, *, now: float, timeout: float = SETUP_TIME, tls: bool = False
    ) -> None:
        self._conversation = conversation
        self._timeout = timeout
        self._deadline = now + timeout
        self._length = struct.Struct(">I" if tls else ">H")
        self._received = bytearray()
        self._to_send: list[bytes] = []
        self._hear = Hear("anything", b"")
        self._over = False
        self._first = True
        self._excused = False
        self._speak_on(next(conversation))

    @property
    def leftover(self) -> bytes:
        """What arrived behind the last packet of the handshake: it belongs to the channel."""
        return bytes(self._received)

    def receive_data(self, data: bytes, now: float) -> list[Met | Failed]:
        self._received += data
        if self._over:
            return []
        try:
            while (packet := self._next_packet()) is not None:
                self._first = False
                if now >= self._deadline:  # it lay there when the time was up
                    self._excuse(now + LATE)
                if met := self._go_on(packet):
                    return self._end(met)
        except ErlmeshError as error:
            return self._fail(error)
        return []

    def eof(self) -> list[Met | Failed]:
        """The peer closed the connection."""
        if self._over:
            return []
        try:
            self._conversation.throw(PeerClosed())
        except PeerClosed:
            return self._fail(HandshakeRefused(f"the connection was closed while we waited for {self._hear.what}"))
        except ErlmeshError as error:
            return self._fail(error)
        raise AssertionError("a conversation went on after the end of its stream")

    def next_deadline(self) -> float:
        return math.inf if self._over else self._deadline

    def is_silent(self, now: float) -> bool:
        """Whether its time is up."""
        return now >= self.next_deadline()

    def handle_timeout(self, now: float) -> list[Met | Failed]:
        if not self.is_silent(now):
            return []
        late = now - self._deadline
        if late >= LATE and self._excuse(now + min(late, self._timeout)):
            return []
        return self._fail(PeerSilent(f"{self._hear.what} did not arrive within {self._timeout:g} s"))

    def _excuse(self, deadline: float) -> bool:
        """Gives the peer until then, once."""
        if self._excused:
            return False
        self._excused, self._deadline = True, deadline
        return True

    def data_to_send(self) -> bytes:
        data, self._to_send = b"".join(self._to_send), []
        return data

    def give_up(self) -> None:
        """End without an event: the attempt is no longer wanted."""
        self._end(None)

    def _next_packet(self) -> bytes | None:
        received, start = self._received, self._length.size
        if len(received) < start:
            return None
        (size,) = self._length.unpack_from(received)
        if not 0 < size <= MAX_PACKET:
            raise RemoteProtocolError(f"{self._hear.what} was expected, but a packet of {size} bytes is announced")
        if len(received) == start:
            return None
        if received[start] not in self._hear.tags:
            raise RemoteProtocolError(self._who_is_this(bytes(received[: start + 1])))
        if len(received) < start + size:
            return None
        packet = bytes(received[start : start + size])
        del received[: start + size]
        return packet

    def _who_is_this(self, beginning: bytes) -> str:
        if self._first and (language := _STRANGERS.get(beginning)):
            return f"{self._hear.what} was expected, but the peer speaks {language}"
        return f"{self._hear.what} was expected, but a packet came that begins with {beginning[self._length.size :]!r}"

    def _go_on(self, packet: bytes) -> Met | None:
        try:
            self._speak_on(self._conversation.send(packet))
        except StopIteration as stop:
            met: Met = stop.value
            return met
        return None

    def _speak_on(self, step: bytes | Hear) -> None:
        while not isinstance(step, Hear):
            self._to_send.append(self._length.pack(len(step)) + step)
            step = next(self._conversation)
        self._hear = step

    def _end(self, event: Met | None) -> list[Met | Failed]:
        self._over = True
        self._conversation.close()
        return [event] if event is not None else []

    def _fail(self, why: ErlmeshError) -> list[Met | Failed]:
        self._over = True
        self._received.clear()
        self._conversation.close()
        return [Failed(why)]
