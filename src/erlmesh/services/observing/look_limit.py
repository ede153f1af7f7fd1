"""How many looks at a node may be under way. Each keeps a list of all processes, or a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from erlmesh.errors import ErlangError
from erlmesh.terms import Atom

__all__ = ["LOOK_LIMIT", "LookLimit"]

LOOK_LIMIT: Final = 32


class LookLimit:
    """Counts the looks of one node. No look may be started at the limit; those that are under way go on."""

    def __init__(self, limit: int = LOOK_LIMIT) -> None:
        self._limit = limit
        self._count = 0

    def require_free(self) -> None:
        """Raise the error ``{overloaded, Text}`` for the caller of another node if the limit is reached."""
        if self._count >= self._limit:
            raise ErlangError((Atom("overloaded"), f"{self._limit} tools look at this node already"), [])

    @contextmanager
    def look(self) -> Iterator[None]:
        """Count one look while the context lasts. Raises as :meth:`require_free`."""
        self.require_free()
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
