"""Decides when a peer that does not read is not read from. No I/O.

A peer may send requests and not read the answers. Then the answers would fill the queue of its connection, and the
requests would fill mailboxes. So reading is suspended, and further requests wait in the peer's own socket. So do the
signals of a read that come after the one whose answer was too much::

             more than `mark` bytes wait for the peer, or it has sent UNANSWERED_BYTES and has taken nothing
    reading ─────────────────────────────────────────────────────────────────────────────────► suspended
       ▲                                                                                           │
       └───────────────────────────────────────────────────────────────────────────────────────────┘
          little waits, or the peer has taken nothing for `patience`, or `longest` seconds have passed

Two nodes may suspend reading from each other. Then neither takes anything, and each resumes after its patience. The
mark rises with each such end. So the data of both flows again. What waits for a peer that never reads grows in small
steps up to the limit of the queue, where the connection ends.

Each suspension ends long before the net tick time, and at least one read follows. So a peer that is alive is not taken
for lost.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MARK", "MARK_STEP", "MAX_PATIENCE", "MIN_PATIENCE", "UNANSWERED_BYTES", "ReadSuspension"]

MARK: Final = 4 << 20
"""Bytes that wait for the peer. Processes that wait for a full connection do not queue as many."""
MARK_STEP: Final = 4 << 20
"""How much more may wait after a suspension in which the peer has taken nothing."""
UNANSWERED_BYTES: Final = 4 << 20
"""Bytes that are read from a peer which takes nothing, while the connection to it is full."""
MIN_PATIENCE: Final = 0.02
"""Seconds in which the peer must take something. They double with each suspension in which it did not. Two nodes that
suspend reading from each other take something after each, so they lose little time.
"""
MAX_PATIENCE: Final = 1.0


class ReadSuspension:
    """The state of one connection, which has the tick time ``net_ticktime``.

    ``queued`` is always what waits for the peer, ``read`` and ``taken`` are the bytes that were ever read from the peer
    and that its socket has ever taken. ``now`` is in seconds of a monotonic clock.
    """

    __slots__ = ("_checked_at", "_longest", "_mark", "_max_patience", "_patience", "_read", "_since", "_taken")

    def __init__(self, net_ticktime: float) -> None:
        self._max_patience = min(MAX_PATIENCE, net_ticktime / 16)
        self._longest = net_ticktime / 4
        self._mark = MARK
        self._patience = MIN_PATIENCE
        self._read = -1
        """``read`` when the peer had last taken something; -1 if the connection was not full yet."""
        self._taken = 0
        self._since = self._checked_at = 0.0
        """When this suspension began, and when the peer was last seen to take something."""

    def drained(self) -> None:
        """Little waits for the peer: start again."""
        self._mark = MARK
        self._patience = MIN_PATIENCE
        self._read = -1

    def after_read(self, queued: int, read: int, taken: int, now: float) -> bool:
        """Record a read while the connection is full. Return whether reading is suspended now."""
        if taken != self._taken or self._read < 0:
            self._note_progress(taken, read)
        self._since = self._checked_at = now
        return queued > self._mark or read - self._read > UNANSWERED_BYTES

    @property
    def mark(self) -> int:
        """Bytes above which the answers to one read are enough, so that the rest of the read waits."""
        return self._mark

    @property
    def next_check(self) -> float:
        """When to call :meth:`check`, while reading is suspended."""
        return min(self._checked_at + min(self._patience, self._max_patience), self._since + self._longest)

    def check(self, queued: int, taken: int, now: float) -> bool:
        """Return whether reading stays suspended."""
        if taken != self._taken:
            self._note_progress(taken, -1)
            self._checked_at = now
            return now < self._since + self._longest
        if now < self.next_check:
            return True
        self._mark = max(self._mark, queued + MARK_STEP)
        self._patience = min(2 * self._patience, self._max_patience)
        self._read = -1  # It may send as much again.
        return False

    def _note_progress(self, taken: int, read: int) -> None:
        if taken != self._taken:
            self._patience = MIN_PATIENCE
        self._taken, self._read = taken, read
