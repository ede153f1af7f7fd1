"""Fragmentation: a long message is sent in several frames, so that it does not delay other messages.

The first frame of a sequence has the header, the control tuple and the start of the message. The fragment numbers
count down to 1. Sequences of several senders may interleave (``erl_dist_protocol``, "Distribution Header for fragmented
messages").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Final

from erlmesh.errors import RemoteProtocolError
from erlmesh.proto.send_queue import Buffer, join_short_pieces
from erlmesh.records import field, record
from erlmesh.terms import Atom

__all__ = ["FRAGMENT_HEAD_SIZE", "FRAGMENT_SIZE", "MAX_UNFRAGMENTED", "Reassembled", "Reassembly", "split"]

FRAGMENT_SIZE: Final = 64 * 1024
"""Bytes of the message in one frame (ERTS_DIST_FRAGMENT_SIZE in ``dist.h``)."""
MAX_UNFRAGMENTED: Final = 128 * 1024
"""Bytes of the longest message that is sent in one frame. A BEAM fragments from 64 KiB on, but it reads longer frames.

A message that is only a little longer than a fragment would cost the peer a copy and gain nothing.
"""
FRAGMENT_HEAD_SIZE: Final = 18
"""Bytes of ``131 69`` or ``131 70``, the sequence id and the fragment number."""

_FIRST: Final = b"\x83E"
_FURTHER: Final = b"\x83F"
_head = Struct(">2sQQ")

Reassembled = tuple[tuple[Atom, ...], bytes]
"""The atoms of a complete sequence, and its bytes from the control tuple on."""


def split(sequence: int, head: bytes, message: Sequence[bytes]) -> Iterator[list[Buffer]]:
    """Yield the frames of ``message``, which is given in pieces. Each frame is a list of pieces. Only short pieces are
    copied.

    ``head`` is the header, from N on, and the control tuple.
    """
    size = sum(map(len, message))
    count = max(1, -(-size // FRAGMENT_SIZE))
    views = iter([memoryview(piece) for piece in join_short_pieces(message)])
    rest = memoryview(b"")
    for number in range(count, 0, -1):
        frame: list[Buffer] = [_head.pack(_FURTHER, sequence, number)]
        if number == count:
            frame = [_head.pack(_FIRST, sequence, number), head]
        room = FRAGMENT_SIZE
        while room and (rest := rest or next(views, rest)):
            frame.append(rest[:room])
            room, rest = max(0, room - len(rest)), rest[room:]
        yield frame


@record
class _Sequence:
    atoms: tuple[Atom, ...]
    """The atoms of the header, which only the first fragment has."""
    next_number: int
    """The number that the next fragment must have; 0 after the last one."""
    pieces: list[Buffer] = field(default_factory=list)
    size: int = 0
    """Bytes of all pieces."""


class Reassembly:
    """The unfinished sequences of the receiving direction.

    A peer may have at most ``max_sequences`` of them, with ``max_bytes`` bytes in total. Methods raise
    RemoteProtocolError.
    """

    def __init__(self, *, max_sequences: int, max_bytes: int) -> None:
        self._max_sequences = max_sequences
        self._max_bytes = max_bytes
        self._sequences: dict[int, _Sequence] = {}
        self.buffered = 0
        """Bytes of all unfinished sequences together."""

    def __len__(self) -> int:
        return len(self._sequences)

    def restore(self, sequences: list[tuple[int, int, int]]) -> None:
        """Take over unfinished sequences without their bytes. See :meth:`FrameReader.restored`."""
        for sequence, next_number, size in sequences:
            self._sequences[sequence] = _Sequence((), next_number, size=size)
            self.buffered += size

    def clear(self) -> None:
        """Drop all unfinished sequences."""
        self._sequences.clear()
        self.buffered = 0

    def add_first(self, frame: bytes, offset: int, atoms: tuple[Atom, ...]) -> Reassembled | None:
        """Add the first fragment of a sequence, whose header ends at ``offset`` and lists ``atoms``.

        The atoms are resolved now, because frames before the last fragment may overwrite cells of the atom cache.
        Returns the whole if the sequence has only one fragment.
        """
        _, sequence, number = _head.unpack_from(frame)
        if sequence in self._sequences:
            raise RemoteProtocolError(f"fragment sequence {sequence} starts a second time")
        if number == 0:
            raise RemoteProtocolError(f"fragment sequence {sequence} starts with fragment 0")
        if len(self._sequences) >= self._max_sequences:
            raise RemoteProtocolError(f"more than {self._max_sequences} unfinished fragment sequences")
        self._sequences[sequence] = _Sequence(atoms, number)
        return self._add(sequence, _rest(frame, offset))

    def add_next(self, frame: bytes) -> Reassembled | None:
        """Add the next fragment of a sequence. Return the whole if it was the last one."""
        if len(frame) < FRAGMENT_HEAD_SIZE:
            raise RemoteProtocolError("the header of a fragment is truncated")
        _, sequence, number = _head.unpack_from(frame)
        pending = self._sequences.get(sequence)
        if pending is None:
            raise RemoteProtocolError(f"fragment {number} of sequence {sequence}, which has no first fragment")
        if number != pending.next_number:
            # The order within a sequence never changes on one TCP connection, so a gap is a protocol violation.
            raise RemoteProtocolError(f"fragment {number} of sequence {sequence} instead of {pending.next_number}")
        return self._add(sequence, _rest(frame, FRAGMENT_HEAD_SIZE))

    def _add(self, sequence: int, piece: Buffer) -> Reassembled | None:
        pending = self._sequences[sequence]
        pending.pieces.append(piece)
        pending.size += len(piece)
        self.buffered += len(piece)
        if self.buffered > self._max_bytes:
            raise RemoteProtocolError(f"unfinished fragment sequences have more than {self._max_bytes} bytes")
        pending.next_number -= 1
        if pending.next_number:
            return None
        del self._sequences[sequence]
        self.buffered -= pending.size
        return pending.atoms, b"".join(pending.pieces)


def _rest(frame: bytes, offset: int) -> Buffer:
    """Return the bytes of ``frame`` from ``offset`` on, without a copy if they are most of it.

    The result keeps the frame in memory. If most of it were the header, much more memory would be used than counted.
    """
    return memoryview(frame)[offset:] if 2 * offset <= len(frame) else frame[offset:]
