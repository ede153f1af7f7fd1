"""With whom we have parted although he lives on. Pure.

A BEAM says nothing when it disconnects on purpose: its connection ends as if it had died. But one that has just heard
us and closes has not missed us; and if the node of that name that is found afterwards is still in the same life, it did
not die either. One that is shutting down may still answer for a moment, so it must have lived on for some seconds. It
is left alone then, until somebody wants it or it calls by itself. (Our own nodes say so before.)

Whom we have left for the sake of others need not be met again soon either, unless it has died since.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["HungUp"]

LINGERING: Final = 10.0
"""Seconds in which a node that is shutting down may still answer."""
MOST: Final = 256
"""Peers that are remembered; above it the oldest is forgotten."""


class _Life(NamedTuple):
    creation: int
    since: float
    for_others: bool


class HungUp:
    """The book of one node."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}
        self._alone: dict[str, None] = {}
        self._found: dict[str, None] = {}

    def closed(self, name: str, creation: int, now: float) -> None:
        """The peer ``name`` in that life has heard us to the end, and closed the connection."""
        self._note(name, _Life(creation, now, for_others=False))

    def left(self, name: str, creation: int, now: float) -> None:
        """The connection with that life of ``name`` was given up for the sake of others."""
        self._note(name, _Life(creation, now, for_others=True))

    def why_not(self, name: str, creation: int, now: float) -> str | None:
        """``name`` has been found: why it is not to be met, in words, if this is the life of which one of those was
        said. Who hung up is in the end left alone for it.
        """
        life = self._lives.get(name)
        if life is None or life.creation != creation:
            return None
        if life.for_others:
            self._found[name] = None
            return f"{name} was left for the sake of other nodes and lives on: it is not met again yet"
        if now - life.since >= LINGERING:
            self._alone[name] = None
        return f"{name} has hung up on us and lives on: it is left alone until somebody wants it"

    def is_left_alone(self, name: str) -> bool:
        """Whether it has been found to live on, long after it hung up."""
        return name in self._alone

    def was_found(self, name: str) -> bool:
        """Whether it has been found in the life in which it was left for others, since this was last asked."""
        return self._found.pop(name, name) is None

    def may_return(self, name: str) -> None:
        """If ``name`` was left for others, that is no reason any more."""
        life = self._lives.get(name)
        if life is not None and life.for_others:
            self.forget(name)

    def forget(self, name: str) -> None:
        """Somebody wants ``name``, or there was another reason."""
        for book in (self._lives, self._alone, self._found):
            book.pop(name, None)

    def _note(self, name: str, life: _Life) -> None:
        self.forget(name)
        self._lives[name] = life
        if len(self._lives) > MOST:
            self.forget(next(iter(self._lives)))
