"""A dict with a limit, for the caches of a connection."""

from __future__ import annotations

from typing import Final, TypeVar

__all__ = ["BoundedDict"]

K = TypeVar("K")
V = TypeVar("V")

STRIDE: Final = 619
"""A prime number, so that each entry is replaced once before any is replaced twice."""


class BoundedDict(dict[K, V]):
    """A dict that keeps at most ``limit`` entries, a power of two. Add entries with :meth:`store` only.

    A full dict replaces one entry for each new one, in an order that is scattered over all entries. If it replaced the
    oldest, keys that take turns and are a few more than ``limit`` would never be found: each would be replaced just
    before its turn. The order is fixed, so equal calls give equal contents.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._keys: list[K] = []
        """The keys. The position of a key does not change until it is replaced."""
        self._next = 0
        """The position of the key to replace next."""

    def store(self, key: K, value: V) -> None:
        """Set ``self[key]``. A full dict loses another entry."""
        if key not in self:
            if len(self._keys) < self._limit:
                self._keys.append(key)
            else:
                del self[self._keys[self._next]]
                self._keys[self._next] = key
                self._next = (self._next + STRIDE) % self._limit
        self[key] = value

    def clear(self) -> None:
        """Drop all entries."""
        super().clear()
        self._keys.clear()
        self._next = 0
