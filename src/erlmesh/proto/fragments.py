"""Long messages in pieces, so that one does not hold up the others (``erl_dist_protocol``, "Distribution Header for
fragmented messages").

The first frame of a sequence has the header, the control tuple and the beginning of the message; the fragment numbers
count down to 1. Sequences of several senders may interleave.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from erlmesh.errors import RemoteProtocolError
from erlmesh.terms import Atom

__all__ = ["FRAGMENT_HEAD_SIZE", "FRAGMENT_SIZE", "Reassembled", "Reassembly", "split"]

FRAGMENT_SIZE: Final = 64 * 1024
"""Bytes of message in one frame (ERTS_DIST_FRAGMENT_SIZE)."""
FRAGMENT_HEAD_SIZE: Final = 18

_FIRST: Final = b"\x83E"
_FURTHER: Final = b"\x83F"
_head = Struct(">2sQQ")

Reassembled = tuple[tuple[Atom, ...], bytes]
"""The atoms of a complete sequence and its bytes from the control tuple on."""


def split(sequence: int, head: bytes, message: bytes) -> Iterator[bytes]:
    """The frames that carry ``message``; ``head`` is the header from N on and the control tuple."""
    count = max(1, -(-len(message) // FRAGMENT_SIZE))
    yield _head.pack(_FIRST, sequence, count) + head + message[:FRAGMENT_SIZE]
    for index in range(1, count):
        at = index * FRAGMENT_SIZE
        yield _head.pack(_FURTHER, sequence, count - index) + message[at : at + FRAGMENT_SIZE]


@dataclass(slots=True)
class _Sequence:
    atoms: tuple[Atom, ...]
    next_number: int
    """The number of the fragment that must come next."""
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0


class Reassembly:
    """The unfinished sequences of one direction: at most ``max_sequences`` of them, ``max_bytes`` in all."""

    def __init__(self, *, max_sequences: int, max_bytes: int) -> None:
        self._max_sequences = max_sequences
        self._max_bytes = max_bytes
        self._sequences: dict[int, _Sequence] = {}
        self.buffered = 0
        """Bytes of all unfinished sequences."""

    def __len__(self) -> int:
        return len(self._sequences)

    def add_first(self, frame: bytes, offset: int, atoms: tuple[Atom, ...]) -> Reassembled | None:
        """A first fragment, whose header ends at ``offset`` and stands for ``atoms``, whatever comes between."""
        _, sequence, number = _head.unpack_from(frame)
        if sequence in self._sequences:
            raise RemoteProtocolError(f"fragment sequence {sequence} begins a second time")
        if number == 0:
            raise RemoteProtocolError(f"fragment sequence {sequence} begins with fragment 0")
        if len(self._sequences) >= self._max_sequences:
            raise RemoteProtocolError(f"more than {self._max_sequences} unfinished fragment sequences")
        self._sequences[sequence] = _Sequence(atoms, number)
        return self._add(sequence, frame[offset:])

    def add_next(self, frame: bytes) -> Reassembled | None:
        """Another fragment. The whole, if it is the last."""
        if len(frame) < FRAGMENT_HEAD_SIZE:
            raise RemoteProtocolError("the header of a fragment is cut short")
        _, sequence, number = _head.unpack_from(frame)
        begun = self._sequences.get(sequence)
        if begun is None:
            raise RemoteProtocolError(f"fragment {number} of sequence {sequence}, which has not begun")
        if number != begun.next_number:
            raise RemoteProtocolError(f"fragment {number} of sequence {sequence}, where {begun.next_number} is due")
        return self._add(sequence, frame[FRAGMENT_HEAD_SIZE:])

    def _add(self, sequence: int, piece: bytes) -> Reassembled | None:
        begun = self._sequences[sequence]
        begun.pieces.append(piece)
        begun.size += len(piece)
        self.buffered += len(piece)
        if self.buffered > self._max_bytes:
            raise RemoteProtocolError(f"unfinished fragment sequences of more than {self._max_bytes} bytes")
        begun.next_number -= 1
        if begun.next_number:
            return None
        del self._sequences[sequence]
        self.buffered -= begun.size
        return begun.atoms, b"".join(begun.pieces)
