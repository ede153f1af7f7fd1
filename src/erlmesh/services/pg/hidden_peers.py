"""When a hidden node sends a discover to a node that it is connected to. No I/O: time and randomness are arguments.

pg of a BEAM gets ``nodeup`` of visible nodes only (pg.erl, ``net_kernel:monitor_nodes/1``), and a scope that starts
later asks ``nodes()``, which has no hidden node. So the scope of a hidden node has to start the exchange on each
connection, and once more when the scope on the other node starts after the connection or starts again. It cannot see
that start. So it sends a discover now and then until it knows the server of that node::

    connected ──► discover ──► known ──► (its server terminates) ──► discover ──► …
                   ▲    │
                   └────┘ after 1 s, 2 s … 30 s
"""

from __future__ import annotations

import math
from collections.abc import Container
from random import Random
from typing import Final

from erlmesh.core.backoff import Backoff
from erlmesh.terms import Atom

__all__ = ["HiddenPeers"]

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds between two discovers to one node that does not run the scope."""
JITTER: Final = (0.75, 1.25)


class HiddenPeers:
    """The connected nodes, and when each gets its next discover from one scope."""

    def __init__(self, rng: Random) -> None:
        self._random = rng
        self._backoffs: dict[Atom, Backoff] = {}
        self._next: dict[Atom, float] = {}
        """When a node without a known server gets the next discover."""

    def connected(self, node: Atom, now: float) -> None:
        """The caller sends the first discover itself, now."""
        self._backoffs[node] = Backoff(FIRST_PAUSE, LONGEST_PAUSE, JITTER)
        self._schedule(node, now)

    def disconnected(self, node: Atom) -> None:
        """The members of that node leave with its server. Nothing is sent to it any more."""
        self._backoffs.pop(node, None)
        self._next.pop(node, None)

    def server_lost(self, node: Atom, now: float) -> None:
        """The server on that node has terminated. If it was lost with its connection, ``disconnected`` follows."""
        if (backoff := self._backoffs.get(node)) is not None:
            backoff.reset()
            self._schedule(node, now)

    def due(self, known: Container[Atom], now: float) -> list[Atom]:
        """Return the nodes that get a discover now. ``known`` are the nodes whose server is known."""
        due = []
        for node, when in list(self._next.items()):
            if node in known:
                del self._next[node]
            elif when <= now:
                due.append(node)
                self._schedule(node, now)
        return due

    def next_deadline(self) -> float:
        """When to call :meth:`due`; ``math.inf`` if every server is known."""
        return min(self._next.values(), default=math.inf)

    def _schedule(self, node: Atom, now: float) -> None:
        self._next[node] = now + self._backoffs[node].next_delay(self._random)
