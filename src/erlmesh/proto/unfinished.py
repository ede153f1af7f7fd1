"""The bytes of messages that have arrived in part, over all connections of a node, within a limit.

These are the first bytes of long frames, and the fragments of long messages. Each connection limits its own; this is
the limit for their sum. Above it, the connection is given up whose unfinished messages have made no progress for the
longest time: since then, they have not become less than half of what they were.
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["COUNTED_FROM", "UNFINISHED_LIMIT", "UnfinishedBudget", "UnfinishedOwner"]

UNFINISHED_LIMIT: Final = 512 << 20
"""Default of the limit, in bytes."""
COUNTED_FROM: Final = 64 * 1024
"""Bytes of one connection below which they do not count: the end of nearly every read is a part of a frame."""


class UnfinishedOwner(Protocol):
    """A connection."""

    def give_up_unfinished(self, limit: int) -> None:
        """End the connection soon, because of the limit. Nothing may be read from it any more."""


class UnfinishedBudget:
    """The unfinished bytes of all connections. All calls come from the event loop."""

    def __init__(self, limit: int = UNFINISHED_LIMIT) -> None:
        self.limit = limit
        self.used = 0
        """Bytes of all connections."""
        self._owners: dict[UnfinishedOwner, tuple[int, int]] = {}
        """The bytes of each, and the most since its last progress. The one without progress for longest is the
        first.
        """

    def __len__(self) -> int:
        return len(self._owners)

    def update(self, owner: UnfinishedOwner, size: int) -> None:
        """Record that ``owner`` has ``size`` unfinished bytes now. Give up connections until the sum is allowed."""
        before, most = self._owners.get(owner, (0, 0))
        self.used += size - before
        if size <= most // 2 or not size:  # It goes to the end.
            self._owners.pop(owner, None)
            most = 0
        if size:
            self._owners[owner] = (size, max(size, most))
        while self.used > self.limit:
            oldest = next(iter(self._owners))
            self.remove(oldest)
            oldest.give_up_unfinished(self.limit)

    def remove(self, owner: UnfinishedOwner) -> None:
        """The connection of ``owner`` has ended."""
        size, _ = self._owners.pop(owner, (0, 0))
        self.used -= size
