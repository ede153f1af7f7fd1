"""The entries of a shard by topic and key."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from erlmesh.core.phoenix_tracker.entries import Entry, Tag
from erlmesh.terms import Term, exact_key

__all__ = ["EntryIndex"]


class EntryIndex:
    """Several entries may have the same topic and key: one for each process, or for each replica that tracks it."""

    def __init__(self) -> None:
        self._topics: dict[bytes, dict[Hashable, dict[Tag, Entry]]] = {}

    def add(self, tag: Tag, entry: Entry) -> None:
        """Add an entry."""
        self._topics.setdefault(entry.topic, {}).setdefault(exact_key(entry.key), {})[tag] = entry

    def remove(self, tag: Tag, entry: Entry) -> None:
        """Remove an entry that was added. A topic without entries takes no memory."""
        keys = self._topics[entry.topic]
        unique = exact_key(entry.key)
        del keys[unique][tag]
        if not keys[unique]:
            del keys[unique]
            if not keys:
                del self._topics[entry.topic]

    def topics(self) -> list[bytes]:
        """The topics that have entries."""
        return list(self._topics)

    def of_topic(self, topic: bytes) -> Iterator[tuple[Tag, Entry]]:
        """The entries of a topic, those of one key together."""
        for entries in self._topics.get(topic, {}).values():
            yield from entries.items()

    def of_key(self, topic: bytes, key: Term) -> Iterator[tuple[Tag, Entry]]:
        """The entries of one key of a topic."""
        yield from self._topics.get(topic, {}).get(exact_key(key), {}).items()
