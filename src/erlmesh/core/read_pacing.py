"""Decides when a stream of short messages is read less often. No I/O.

A reader that is faster than its sender is woken up for each write of the sender. It gets some dozens of short messages,
and a loop iteration costs as much as they do. So such a stream is read in fewer, larger reads::

                  STREAM_READS short reads close together, each with some messages, and no answer
    read at once ────────────────────────────────────────────────────────────────────────────────► pause after each read
         ▲                                                                                                │
         └────────────────────────────────────────────────────────────────────────────────────────────────┘
                             a read that brings little, or anything was sent to the peer

A pause ends when ``LOW_WATER`` bytes have arrived, or ``MAX_DELAY`` after the read. So a message of a stream is late by
at most ``MAX_DELAY``. A message that comes alone is not late. Neither is the answer to what this node sends, because a
write ends the pause.
"""

from __future__ import annotations

from typing import Final

__all__ = ["LOW_WATER", "MAX_DELAY", "MAX_READ", "MIN_READ", "STREAM_READS", "ReadPacing"]

MAX_DELAY: Final = 0.0005
"""Seconds of a pause at most."""
LOW_WATER: Final = 16 * 1024
"""Bytes that end a pause earlier."""
MIN_READ: Final = 512
"""Bytes of a read below which it is not a part of a stream: some messages."""
MAX_READ: Final = 32 * 1024
"""Bytes of a read from which the loop iteration costs little beside its messages. A stream does not start with it."""
STREAM_READS: Final = 8
"""Reads that are a stream if they take place in ``STREAM_TIME``."""
STREAM_TIME: Final = STREAM_READS * MAX_DELAY / 2
"""Then a pause saves at least every second read."""


class ReadPacing:
    """The state of one connection."""

    __slots__ = ("_reads", "_sent", "_started_at")

    def __init__(self) -> None:
        self._reads = 0
        """Reads of the stream, up to ``STREAM_READS``."""
        self._started_at = 0.0
        """When the first of them took place."""
        self._sent = 0

    def after_read(self, size: int, sent: int, now: float) -> bool:
        """Record a read of ``size`` bytes, and return whether a pause follows.

        ``sent`` counts all that was ever sent to the peer; ``now`` is in seconds of a monotonic clock.
        """
        is_part = size >= MIN_READ and sent == self._sent
        self._sent = sent
        if is_part and self._reads == STREAM_READS:
            return True
        if not is_part or size >= MAX_READ:
            self._reads = 0
            return False
        if not self._reads or now - self._started_at > STREAM_TIME:
            self._reads, self._started_at = 0, now
        self._reads += 1
        return self._reads == STREAM_READS
