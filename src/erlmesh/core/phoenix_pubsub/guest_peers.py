"""Which Elixir node a guest uses. No clock: the caller passes the random generator and waits.

::

    use current ── it is lost, or refuses ──▶ the next one of the list is current
                                                    │
                         all have failed in turn ───┴──▶ wait for a growing delay first
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final

from erlmesh.core.backoff import Backoff
from erlmesh.terms import Atom

__all__ = ["GuestPeers"]

INITIAL_DELAY: Final = 0.1
MAX_DELAY: Final = 5.0
"""Seconds between two rounds over all nodes."""


class GuestPeers:
    """The nodes that a guest may use, in the order of preference. Raises ValueError if there are none."""

    def __init__(self, peers: str | Atom | Iterable[str | Atom]) -> None:
        listed = [peers] if isinstance(peers, str | Atom) else list(peers)
        self.all: Final = tuple(dict.fromkeys(map(Atom, listed)))
        if not self.all:
            raise ValueError("a guest needs the name of an Elixir node at least: 'my_app@10.0.0.5'")
        self._current = 0
        self._failed: dict[Atom, None] = {}
        """Nodes that have failed since the last success."""
        self._backoff = Backoff(INITIAL_DELAY, MAX_DELAY, (0.75, 1.25))

    @property
    def current(self) -> Atom:
        """The node to use."""
        return self.all[self._current]

    def failed(self, peer: Atom, rng: Random) -> float:
        """``peer`` is lost, or refuses. Return the seconds to wait before :attr:`current` is tried."""
        if peer is self.current:
            self._current = (self._current + 1) % len(self.all)
        self._failed[peer] = None
        if len(self._failed) < len(self.all):
            return 0.0
        self._failed.clear()
        return self._backoff.next_delay(rng)

    def succeeded(self) -> None:
        """The current node works."""
        self._failed.clear()
        self._backoff.reset()
