"""Whether an event loop turns, judged by one who asks it about once a second; and when a connection must be spoken on.

The loop is asked to answer in its next turn. While it does not, somebody's code holds it: that is worth telling after
``TELL_AFTER`` seconds, and then at times five times as far apart. A peer is never left in silence for more than half a
tick time, whoever holds the loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["REPORT_AFTER", "SAMPLE_INTERVAL", "LoopWatchdog", "Sample", "is_tick_due", "sample_interval"]

SAMPLE_INTERVAL: Final = 1.0
"""Seconds between two looks, at most."""
REPORT_AFTER: Final = 2.0
REPORT_BACKOFF: Final = 5.0
"""Times as long until it is told again."""
MIN_CPU_SHARE: Final = 0.1
"""The share of a processor from which on a process has not been stopped."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is to be done after a look, and why. All times are seconds."""

    request_ack: bool
    """Ask the loop for an answer."""
    blocked_for: float
    """The loop has not turned for so long; 0 if nothing is known against it."""
    report: bool
    """Tell that it is held."""
    gil_held_for: float
    """Tell that for so long not even this look could be taken, although the process was computing; 0 if it could."""


class LoopWatchdog:
    """:meth:`look` and :meth:`answer`, never both at a time. ``now`` is in seconds."""

    def __init__(self) -> None:
        self._requested_at: float | None = None
        self._report_after = REPORT_AFTER
        self._last_sample = (math.inf, math.inf)

    def sample(self, now: float, cpu_time: float) -> Sample:
        """``computed`` is the processor time of the process in seconds: one that was stopped has used none."""
        (before, so_far), self._last_sample = self._last_sample, (now, cpu_time)
        gap = now - before
        mute = gap if gap >= SAMPLE_INTERVAL + REPORT_AFTER and cpu_time - so_far >= gap * MIN_CPU_SHARE else 0.0
        if self._requested_at is None:
            self._requested_at = now
            return Sample(request_ack=True, blocked_for=0.0, report=False, gil_held_for=mute)
        held = now - self._requested_at
        tell = held >= self._report_after
        if tell:
            self._report_after = held * REPORT_BACKOFF
        return Sample(request_ack=False, blocked_for=held, report=tell, gil_held_for=mute)

    def blocked_for(self, now: float) -> float:
        """For how long the loop has not turned; 0 if nothing is known against it. At any time, in any thread."""
        asked = self._requested_at
        return 0.0 if asked is None else now - asked

    def acknowledge(self, now: float) -> float:
        """The loop answers. Returns how long it had not turned, if that has been told; else 0."""
        held = 0.0 if self._requested_at is None or self._report_after == REPORT_AFTER else now - self._requested_at
        self._requested_at, self._report_after = None, REPORT_AFTER
        return held


def sample_interval(net_ticktime: float) -> float:
    """Seconds between two looks at the connections of a node with that tick time."""
    return min(SAMPLE_INTERVAL, net_ticktime / 8)


def is_tick_due(idle_for: float, net_ticktime: float, blocked_for: float) -> bool:
    """Whether a peer must hear us now. The loop itself speaks after a quarter of the tick time. While it is held, peers
    with a shorter tick time than ours must hear us too.
    """
    return idle_for >= net_ticktime * 3 / 8 or (blocked_for > 0 and idle_for >= SAMPLE_INTERVAL / 2)
