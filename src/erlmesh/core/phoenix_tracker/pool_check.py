"""Finds out that the number of shards is not that of the other nodes. It is not on the wire.

A topic belongs to the shard ``phash2(Topic, PoolSize)``. With different numbers, nodes look for a topic in different
shards, and each sees a part of the entries. Three things tell:

* Somebody talks on the topic of the shard behind our last one: the others have more.
* A shard has an entry of a topic that belongs to another one.
* A node has our first shard, and not all of the others: it has fewer.
"""

from __future__ import annotations

from collections.abc import Iterable

from erlmesh.core.phash2 import phash2
from erlmesh.terms import Atom
from erlmesh.terms.foreign_text import foreign_text

__all__ = ["PoolCheck"]


class PoolCheck:
    """``tracker`` is the name to show. Methods return True if the first mismatch was found now."""

    def __init__(self, tracker: str, size: int) -> None:
        self.mismatch: str | None = None
        """What is wrong, and what to do."""
        self._tracker = tracker
        self._size = size

    def heard_next_shard(self) -> bool:
        """Somebody talks on the topic of the shard behind the last one."""
        return self._found("other nodes have more shards")

    def entries(self, shard: int, topics: Iterable[bytes]) -> bool:
        """A shard has entries of these topics."""
        if self.mismatch is None and self._size > 1:
            for topic in topics:
                if phash2(topic, self._size) != shard:
                    return self._found(f"other nodes have the topic {foreign_text(topic)} in another shard")
        return False

    def incomplete(self, nodes: Iterable[Atom]) -> bool:
        """These nodes have the first shard, and not all of the others."""
        first = min((node.name for node in nodes), default=None)
        return False if first is None else self._found(f"{first} has fewer shards")

    def _found(self, why: str) -> bool:
        if self.mismatch is not None:
            return False
        self.mismatch = (
            f"the pool_size {self._size} of the Tracker {self._tracker} is wrong: {why}. "
            "Give the pool_size of the Elixir module"
        )
        return True
