"""Whether an event loop turns, judged by one who asks it about once a second; and when a connection must be spoken on.

The loop is asked to answer in its next turn. While it does not, somebody's code holds it: that is worth telling after
``TELL_AFTER`` seconds, and then at times five times as far apart. A peer is never left in silence for more than half a
tick time, whoever holds the loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["PERIOD", "TELL_AFTER", "Look", "Vigil", "is_due", "period_of"]

PERIOD: Final = 1.0
"""Seconds between two looks, at most."""
TELL_AFTER: Final = 2.0
AGAIN: Final = 5.0
"""Times as long until it is told again."""
COMPUTING: Final = 0.1
"""The share of a processor from which on a process has not been stopped."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be done after a look, and why. All times are seconds."""

    ask: bool
    """Ask the loop for an answer."""
    held: float
    """The loop has not turned for so long; 0 if nothing is known against it."""
    tell: bool
    """Tell that it is held."""
    mute: float
    """Tell that for so long not even this look could be taken, although the process was computing; 0 if it could."""


class Vigil:
    """:meth:`look` and :meth:`answer`, never both at a time. ``now`` is in seconds."""

    def __init__(self) -> None:
        self._asked: float | None = None
        self._tell_after = TELL_AFTER
        self._looked = (math.inf, math.inf)

    def look(self, now: float, computed: float) -> Look:
        """``computed`` is the processor time of the process in seconds: one that was stopped has used none."""
        (before, so_far), self._looked = self._looked, (now, computed)
        gap = now - before
        mute = gap if gap >= PERIOD + TELL_AFTER and computed - so_far >= gap * COMPUTING else 0.0
        if self._asked is None:
            self._asked = now
            return Look(ask=True, held=0.0, tell=False, mute=mute)
        held = now - self._asked
        tell = held >= self._tell_after
        if tell:
            self._tell_after = held * AGAIN
        return Look(ask=False, held=held, tell=tell, mute=mute)

    def held(self, now: float) -> float:
        """For how long the loop has not turned; 0 if nothing is known against it. At any time, in any thread."""
        asked = self._asked
        return 0.0 if asked is None else now - asked

    def answer(self, now: float) -> float:
        """The loop answers. Returns how long it had not turned, if that has been told; else 0."""
        held = 0.0 if self._asked is None or self._tell_after == TELL_AFTER else now - self._asked
        self._asked, self._tell_after = None, TELL_AFTER
        return held


def period_of(net_ticktime: float) -> float:
    """Seconds between two looks at the connections of a node with that tick time."""
    return min(PERIOD, net_ticktime / 8)


def is_due(silence: float, net_ticktime: float, held: float) -> bool:
    """Whether a peer must hear us now. The loop itself speaks after a quarter of the tick time. While it is held, peers
    with a shorter tick time than ours must hear us too.
    """
    return silence >= net_ticktime * 3 / 8 or (held > 0 and silence >= PERIOD / 2)
