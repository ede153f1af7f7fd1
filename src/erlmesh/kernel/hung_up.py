"""Who has hung up on us and meant it. Pure.

A BEAM says nothing when it disconnects on purpose: its connection ends as if it had died. But one that has just heard
us and closes has not missed us; and if the node of that name that is found afterwards is still in the same life, it did
not die either. One that is shutting down may still answer for a moment, so it must have lived on for some seconds. It
is left alone then, until somebody wants it or it calls by itself. (Our own nodes say so before.)
"""

from __future__ import annotations

from typing import Final

__all__ = ["HungUp"]

LINGERING: Final = 10.0
"""Seconds in which a node that is shutting down may still answer."""
MOST: Final = 256
"""Peers that are remembered; above it the oldest is forgotten."""


class HungUp:
    """The book of one node."""

    def __init__(self) -> None:
        self._lives: dict[str, tuple[int, float]] = {}
        self._living: dict[str, None] = {}

    def closed(self, name: str, creation: int, now: float) -> None:
        """The peer ``name`` in that life has heard us to the end, and closed the connection."""
        self.forget(name)
        self._lives[name] = creation, now
        if len(self._lives) > MOST:
            self.forget(next(iter(self._lives)))

    def lives_on(self, name: str, creation: int, now: float) -> bool:
        """Whether ``name`` has been found in the life in which it hung up; in the end it is left alone for that."""
        life, since = self._lives.get(name, (None, now))
        if life != creation:
            return False
        if now - since >= LINGERING:
            self._living[name] = None
        return True

    def is_left_alone(self, name: str) -> bool:
        """Whether it has been found to live on, long after it hung up."""
        return name in self._living

    def forget(self, name: str) -> None:
        """Somebody wants ``name``, or there was another reason."""
        self._lives.pop(name, None)
        self._living.pop(name, None)
