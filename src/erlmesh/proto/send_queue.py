"""The bytes that one connection still has to write, as a queue of pieces.

Short pieces are joined when they are written. Long pieces are kept by reference, so a large binary is never copied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

__all__ = ["LARGE_PIECE", "Buffer", "SendQueue", "join_short_pieces"]

LARGE_PIECE: Final = 16 * 1024
"""Bytes from which a piece is written by reference. A shorter piece costs less to copy than to pass separately."""
MAX_BUFFERS: Final = 64
"""Maximum number of buffers that are passed to the kernel in one call."""
MAX_JOINED: Final = 256 * 1024
"""Bytes of short pieces that are joined at a time, so that a long queue does not hold the event loop."""

Buffer: TypeAlias = "bytes | memoryview"


def join_short_pieces(pieces: Sequence[bytes]) -> list[bytes]:
    """Join neighbouring pieces that are shorter than LARGE_PIECE. The result has no empty piece.

    A long term is encoded in many pieces of some bytes. Each of them would cost more than its copy.
    """
    if max(map(len, pieces), default=0) < LARGE_PIECE:
        return [joined] if (joined := b"".join(pieces)) else []
    merged: list[bytes] = []
    short: list[bytes] = []
    for piece in pieces:
        if len(piece) < LARGE_PIECE:
            short.append(piece)
        else:
            merged += (b"".join(short), piece)
            short = []
    merged.append(b"".join(short))
    return [piece for piece in merged if piece]


class SendQueue:
    """Pieces in order. Their owner appends whole frames, so the queue ends with a whole frame.

    One thread appends. Any thread may take data (:meth:`buffers` and :meth:`advance`, or :meth:`take`, or
    :meth:`clear`), but only one at a time: the caller holds a lock for that. Appending needs no lock, because the two
    sides change different fields, and one operation of a deque is atomic.
    """

    __slots__ = ("_batch", "_pieces", "appended", "removed")

    def __init__(self) -> None:
        self._pieces: deque[Buffer] = deque()
        self._batch: list[Buffer] = []
        """The oldest data, as it is passed to the kernel. Only the thread that takes data uses it."""
        self.appended = 0
        """Bytes appended in total. Only the thread that appends changes it."""
        self.removed = 0
        """Bytes taken, written or dropped in total. Only the thread that takes data changes it."""

    @property
    def queued(self) -> int:
        """Bytes in the queue."""
        return self.appended - self.removed

    def append(self, piece: bytes) -> None:
        """Append one whole frame."""
        self.appended += len(piece)  # first, so that `queued` is never too small for another thread
        self._pieces.append(piece)

    def extend(self, pieces: Iterable[Buffer], size: int) -> None:
        """Append whole frames of ``size`` bytes in several pieces. Another thread sees all of them or none."""
        self.appended += size
        self._pieces.extend(tuple(pieces))

    def buffers(self) -> list[Buffer]:
        """Return at most 64 buffers with the oldest data, for ``os.writev``; an empty list if there is none.

        After the write, :meth:`advance` must be called with the number of bytes written.
        """
        if not self._batch:
            self._batch = self._next_batch()
        return self._batch

    def _next_batch(self) -> list[Buffer]:
        pieces, joined = self._pieces, 0
        batch: list[Buffer] = []
        short: list[Buffer] = []
        while pieces and len(batch) < MAX_BUFFERS - 1 and joined < MAX_JOINED:
            piece = pieces.popleft()
            if len(piece) < LARGE_PIECE:
                short.append(piece)
                joined += len(piece)
                continue
            if short:
                batch.append(b"".join(short))
                short = []
            batch.append(piece)
        if short:
            batch.append(b"".join(short))
        return batch

    def advance(self, size: int) -> None:
        """Remove ``size`` bytes that were written from the buffers that :meth:`buffers` returned."""
        self.removed += size
        done = 0
        for buffer in self._batch:
            if size < len(buffer):
                if size:
                    self._batch[done] = memoryview(buffer)[size:]
                break
            size -= len(buffer)
            done += 1
        del self._batch[:done]

    def take(self) -> bytes:
        """Remove and return everything."""
        pieces = self._pieces
        data = b"".join([*self._batch, *[pieces.popleft() for _ in range(len(pieces))]])
        self._batch.clear()
        self.removed += len(data)
        return data

    def clear(self) -> None:
        """Drop everything."""
        self.take()
