"""The nodes that get a copy of one shard's state from this one: its backups, its heir, and who has asked. No I/O.

A *stream* is a snapshot on its way. A window limits its slices that the reader has not answered, so a snapshot never
fills a connection, and the loop runs between two slices.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final, Generic, TypeVar

from erlmesh.core.sharding.keeper import Keeper
from erlmesh.core.sharding.snapshot import SnapshotWriter
from erlmesh.core.sharding.store import Lineage, Store
from erlmesh.terms import Pid

__all__ = ["Follower", "Followers", "Stream"]

S = TypeVar("S")

FIRST_WINDOW: Final = 2
MAX_WINDOW: Final = 4


class Stream(Generic[S]):
    """A snapshot on its way."""

    def __init__(self, number: int, keeper: Keeper[S], stores: list[Store[S]], *, copies: bool) -> None:
        self.number = number
        """Unique among the streams of this node: an answer to an earlier stream does not count."""
        self.writer = SnapshotWriter(keeper, stores, copies=copies)
        self._taken = 0
        self._window = FIRST_WINDOW

    @property
    def wants_slice(self) -> bool:
        """Whether a slice may be written now."""
        return not self.writer.finished and self.writer.slices - self._taken < self._window

    def took(self, number: int) -> bool:
        """The reader has read a slice. True if it has read the last one."""
        if number != self._taken or number >= self.writer.slices:
            return False
        self._taken += 1
        self._window = min(self._window + 1, MAX_WINDOW)
        return self.writer.finished and self._taken == self.writer.slices


class Follower(Generic[S]):
    """A node that gets every message that this holder applies."""

    __slots__ = ("adopting", "copied", "forgetting", "is_confirmed", "stream")

    def __init__(self) -> None:
        self.stream: Stream[S] | None = None
        self.adopting: Lineage | None = None
        """It was asked whether its copy is equal."""
        self.is_confirmed = False
        """It has said that its copy is complete."""
        self.copied = 0
        """It has all messages up to this count."""
        self.forgetting = False
        """It was told to forget its copy, and has not yet said that it has."""


class Followers(Generic[S]):
    """The followers of one holder."""

    def __init__(self) -> None:
        self.table: dict[Pid, Follower[S]] = {}

    def confirmed(self, among: Container[Pid], count: int = 0) -> int:
        """How many of these nodes have a confirmed copy that stays, with all messages up to ``count``."""
        return sum(
            each.is_confirmed and not each.forgetting and each.copied >= count and pid in among
            for pid, each in self.table.items()
        )

    def copied(self, count: int) -> int:
        """Up to which message all confirmed copies are complete. ``count`` is the last message.

        A copy counts until its node has forgotten it: it could take the shard.
        """
        return min((each.copied for each in self.table.values() if each.is_confirmed), default=count)
