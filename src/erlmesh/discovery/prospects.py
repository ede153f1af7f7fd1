"""Which nodes to call, and when: those found and not connected, each after a pause that grows while it fails.

Pure: time and chance are arguments.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

__all__ = ["Prospects"]

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
LOOK_AGAIN: Final = 10.0
"""Seconds between two looks when all is well; the first ones come sooner."""
REMEMBERED: Final = 600.0
"""Seconds that a name is kept which nobody names any more, while not everybody can be asked."""


@dataclass(slots=True)
class _Prospect:
    call_at: float
    seen: float
    pause: float = FIRST_PAUSE


class Prospects:
    """The book of one node called ``ours``. Names are added by what is found, and dropped when a full look no longer
    has them; whoever is connected stays connected whatever is found.
    """

    def __init__(self, ours: str, random: Random, now: float) -> None:
        self._ours = ours
        self._random = random
        self._prospects: dict[str, _Prospect] = {}
        self._look_at = now
        self._look_pause = FIRST_PAUSE

    @property
    def names(self) -> list[str]:
        """Everybody who was found and not dropped."""
        return list(self._prospects)

    def looked(self, names: Iterable[str], *, whole: bool, now: float) -> None:
        """A look is over. ``whole`` is false if a part of it failed: then nobody is dropped. New names are called at
        once, with a little jitter, for many may have found each other in the same moment.
        """
        found = dict.fromkeys(name for name in names if name != self._ours)
        oldest = now if whole else now - REMEMBERED
        for name in found:
            known = self._prospects.setdefault(name, _Prospect(now + self._random.uniform(0.0, 0.2), now))
            known.seen = now
        self._prospects = {name: kept for name, kept in self._prospects.items() if kept.seen >= oldest}
        self._look_pause = LOOK_AGAIN if found and whole else min(self._look_pause * 2, LOOK_AGAIN)
        self._look_at = now + self._jittered(self._look_pause)

    def to_call(self, connected: Collection[str], now: float) -> list[str]:
        """Those whose turn has come; until :meth:`looked` drops them each gets its next turn later."""
        due = []
        for name, prospect in self._prospects.items():
            if name in connected:
                prospect.pause = FIRST_PAUSE
                prospect.call_at = max(prospect.call_at, now + self._jittered(FIRST_PAUSE))
            elif prospect.call_at <= now:
                due.append(name)
                prospect.call_at = now + self._jittered(prospect.pause)
                prospect.pause = min(prospect.pause * 2, LONGEST_PAUSE)
        return due

    def look_now(self, now: float) -> None:
        """The next look is due."""
        self._look_at = now

    def look_due(self, now: float) -> bool:
        """Whether it is time to look."""
        return now >= self._look_at

    def next_deadline(self) -> float:
        """When there may be something to do."""
        return min([self._look_at, *(prospect.call_at for prospect in self._prospects.values())], default=math.inf)

    def _jittered(self, pause: float) -> float:
        return pause * self._random.uniform(0.75, 1.25)
