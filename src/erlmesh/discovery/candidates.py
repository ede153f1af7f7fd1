"""Which discovered nodes to dial and when to look them up again. No I/O: time and randomness are arguments.

Each node that was found and is not connected is dialled after a delay that grows while the attempts fail.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from random import Random
from typing import Final

from erlmesh.core.backoff import Backoff
from erlmesh.core.reconnect_policy import (
    DISCOVERY_INITIAL_BACKOFF,
    DISCOVERY_JITTER,
    DISCOVERY_MAX_BACKOFF,
)
from erlmesh.records import field, record

__all__ = ["PeerCandidates"]

FIRST_RETRY: Final = 2.0
"""Seconds between the first two lookups while they find nothing."""
LOOKUP_INTERVAL: Final = 10.0
"""Seconds between two lookups that find all there is, and at most between others."""
NAME_RETENTION: Final = 600.0
"""Seconds for which a name is kept after the last lookup with it, while a part of the lookups fails."""
START_SPREAD: Final = 0.2
"""Seconds within which a new name is dialled first: many nodes may find each other at the same moment."""


@record
class _Candidate:
    next_attempt: float
    last_seen: float
    backoff: Backoff = field(
        default_factory=lambda: Backoff(DISCOVERY_INITIAL_BACKOFF, DISCOVERY_MAX_BACKOFF, DISCOVERY_JITTER)
    )


class PeerCandidates:
    """The nodes that the node ``own_name`` has discovered.

    A lookup adds the names it finds. A complete lookup drops all others; that does not disconnect any node.
    """

    def __init__(self, own_name: str, random: Random, now: float) -> None:
        self._own_name = own_name
        self._random = random
        self._candidates: dict[str, _Candidate] = {}
        self._next_lookup = now
        self._lookup_backoff = Backoff(FIRST_RETRY, LOOKUP_INTERVAL, DISCOVERY_JITTER)

    @property
    def names(self) -> list[str]:
        """All names that were found and not dropped."""
        return list(self._candidates)

    def lookup_finished(self, names: Iterable[str], *, complete: bool, now: float) -> None:
        """A lookup has found ``names``. If a part of it failed, it is not ``complete`` and drops no recent name."""
        found = dict.fromkeys(name for name in names if name != self._own_name)
        oldest = now if complete else now - NAME_RETENTION
        for name in found:
            known = self._candidates.setdefault(name, _Candidate(now + self._random.uniform(0.0, START_SPREAD), now))
            known.last_seen = now
        self._candidates = {name: kept for name, kept in self._candidates.items() if kept.last_seen >= oldest}
        if found and complete:
            self._lookup_backoff.raise_to_maximum()
        self._next_lookup = now + self._lookup_backoff.next_delay(self._random)

    def found_one(self, name: str, now: float) -> None:
        """A node has said that it exists. It is dialled soon, without a lookup."""
        if name != self._own_name and name not in self._candidates:
            self._candidates[name] = _Candidate(now + self._random.uniform(0.0, START_SPREAD), now)

    def due(self, connected: Collection[str], now: float) -> list[str]:
        """Return the names to dial now. Each gets its next turn later, unless a lookup drops it."""
        due = []
        for name, candidate in self._candidates.items():
            if name in connected:  # after its loss the reconnect policy has the first turn
                candidate.backoff.reset()
                candidate.next_attempt = max(candidate.next_attempt, now + candidate.backoff.peek_delay(self._random))
            elif candidate.next_attempt <= now:
                due.append(name)
                candidate.next_attempt = now + candidate.backoff.next_delay(self._random)
        return due

    def lookup_now(self, now: float) -> None:
        """Make the next lookup due."""
        self._next_lookup = now

    def lookup_due(self, now: float) -> bool:
        """Whether it is time for a lookup."""
        return now >= self._next_lookup

    def next_deadline(self) -> float:
        """Return when a lookup or an attempt is due next."""
        return min(
            [self._next_lookup, *(candidate.next_attempt for candidate in self._candidates.values())], default=math.inf
        )
