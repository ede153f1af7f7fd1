"""Which nodes to call, and when: those found and not connected, each after a pause that grows while it fails.

Pure: time and chance are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

__all__ = ["PeerCandidates"]

INITIAL_BACKOFF: Final = 1.0
MAX_BACKOFF: Final = 60.0
LOOKUP_INTERVAL: Final = 10.0
"""Seconds between two looks when all is well; the first ones come sooner."""
NAME_RETENTION: Final = 600.0
"""Seconds that a name is kept which nobody names any more, while not everybody can be asked."""


@dataclass(slots=True)
class _Candidate:
    next_attempt: float
    last_seen: float
    backoff: float = INITIAL_BACKOFF


class PeerCandidates:
    """The book of one node called ``ours``. Names are added by what is found, and dropped when a full look no longer
    has them; whoever is connected stays connected whatever is found.
    """

    def __init__(self, own_name: str, random: Random, now: float) -> None:
        self._own_name = own_name
        self._random = random
        self._candidates: dict[str, _Candidate] = {}
        self._next_lookup = now
        self._lookup_interval = INITIAL_BACKOFF

    @property
    def names(self) -> list[str]:
        """Everybody who was found and not dropped."""
        return list(self._candidates)

    def lookup_finished(self, names: Iterable[str], *, complete: bool, now: float) -> None:
        """A look is over. ``whole`` is false if a part of it failed: then nobody is dropped. New names are called at
        once, with a little jitter, for many may have found each other in the same moment.
        """
        found = dict.fromkeys(name for name in names if name != self._own_name)
        oldest = now if complete else now - NAME_RETENTION
        for name in found:
            known = self._candidates.setdefault(name, _Candidate(now + self._random.uniform(0.0, 0.2), now))
            known.last_seen = now
        self._candidates = {name: kept for name, kept in self._candidates.items() if kept.last_seen >= oldest}
        self._lookup_interval = (
            LOOKUP_INTERVAL if found and complete else min(self._lookup_interval * 2, LOOKUP_INTERVAL)
        )
        self._next_lookup = now + self._jittered(self._lookup_interval)

    def due(self, connected: Collection[str], now: float) -> list[str]:
        """Those whose turn has come; until :meth:`looked` drops them each gets its next turn later."""
        due = []
        for name, prospect in self._candidates.items():
            if name in connected:
                prospect.backoff = INITIAL_BACKOFF
                prospect.next_attempt = max(prospect.next_attempt, now + self._jittered(INITIAL_BACKOFF))
            elif prospect.next_attempt <= now:
                due.append(name)
                prospect.next_attempt = now + self._jittered(prospect.backoff)
                prospect.backoff = min(prospect.backoff * 2, MAX_BACKOFF)
        return due

    def lookup_now(self, now: float) -> None:
        """The next look is due."""
        self._next_lookup = now

    def lookup_due(self, now: float) -> bool:
        """Whether it is time to look."""
        return now >= self._next_lookup

    def next_deadline(self) -> float:
        """When there may be something to do."""
        return min(
            [self._next_lookup, *(prospect.next_attempt for prospect in self._candidates.values())], default=math.inf
        )

    def _jittered(self, interval: float) -> float:
        return interval * self._random.uniform(0.75, 1.25)
