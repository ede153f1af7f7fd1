"""Which results a receiver has counted already. No I/O.

A result belongs to the message that has caused it: a source, a key and a number. A holder that takes over from another
one sends again what was not acknowledged, and two holders may do so at the same time. So numbers come repeated and in
any order, and most numbers have no result at all. For each source and key the last ``WINDOW`` numbers are remembered
one by one. What is older counts as known.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from erlmesh.core.sharding.messages import Source
from erlmesh.terms import Atom

__all__ = ["SEEN_LIMIT", "WINDOW", "ReceiptBook"]

WINDOW: Final = 16_384
"""Numbers: many times the credit of an outbox, which bounds how far results can be behind each other."""
SEEN_LIMIT: Final = 65_536
"""Pairs of source and key that are remembered for each node that sends results."""


class _Seen:
    """The numbers of one source and key: a bit for each one from ``base`` on."""

    __slots__ = ("base", "bits", "node", "used")

    def __init__(self, node: Atom) -> None:
        self.base = 1
        self.bits = 0
        self.node = node
        self.used = True

    def add(self, number: int) -> bool:
        """Return whether the number is new."""
        beyond = number - self.base - WINDOW + 1
        if beyond > 0:
            self.base += beyond
            self.bits = self.bits >> beyond if beyond < WINDOW else 0
        if number < self.base:
            return False
        bit = 1 << (number - self.base)
        if self.bits & bit:
            return False
        self.bits |= bit
        return True


class ReceiptBook:
    """The results that one receiver has counted."""

    def __init__(self, *, limit: int = SEEN_LIMIT) -> None:
        self._limit = limit
        self._seen: dict[tuple[Source, bytes], _Seen] = {}
        self._of_node: dict[Atom, OrderedDict[tuple[Source, bytes], None]] = {}
        """Who has sent what last: a node that sends too many different ones makes itself forgotten, not others."""
        self.duplicates = 0
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._seen)

    def is_new(self, node: Atom, source: Source, key: bytes, number: int) -> bool:
        """Count a result that ``node`` has sent. False if it was counted before."""
        at = (source, key)
        seen = self._seen.get(at)
        if seen is None:
            seen = self._seen[at] = _Seen(node)
            self._add(node, at)
        elif seen.node is not node:
            self._remove(seen.node, at)
            seen.node = node
            self._add(node, at)
        seen.used = True
        if seen.add(number):
            return True
        self.duplicates += 1
        return False

    def _add(self, node: Atom, at: tuple[Source, bytes]) -> None:
        table = self._of_node.setdefault(node, OrderedDict())
        while len(table) >= self._limit:
            oldest, _ = table.popitem(last=False)
            seen = self._seen[oldest]
            if seen.used:
                seen.used = False
                table[oldest] = None
            else:
                del self._seen[oldest]
                self.forgotten += 1
        table[at] = None

    def _remove(self, node: Atom, at: tuple[Source, bytes]) -> None:
        table = self._of_node[node]
        del table[at]
        if not table:
            del self._of_node[node]
