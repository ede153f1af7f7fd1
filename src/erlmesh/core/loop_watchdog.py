"""Decides whether an event loop is blocked, and when a peer needs a tick meanwhile. No I/O.

A thread takes a sample about once a second. It asks the loop to acknowledge in its next iteration. While the loop does
not, some code blocks it. That is reported after ``REPORT_AFTER`` seconds, and then each time that the loop has been
blocked for five times as long. A peer never waits for data longer than half a net tick time, whatever blocks the loop.
"""

from __future__ import annotations

import math
from typing import Final

from erlmesh.records import record

__all__ = ["REPORT_AFTER", "SAMPLE_INTERVAL", "LoopWatchdog", "Sample", "is_tick_due", "sample_interval"]

SAMPLE_INTERVAL: Final = 1.0
"""Seconds between two samples, at most."""
REPORT_AFTER: Final = 2.0
"""Seconds for which the loop must be blocked before it is reported: shorter blocks are common and harmless."""
REPORT_BACKOFF: Final = 5.0
"""Factor between the times of two reports, so that a long block does not fill the log."""
MIN_CPU_SHARE: Final = 0.1
"""CPU time per elapsed time above which the process was running. Below it the process was stopped."""


@record(frozen=True)
class Sample:
    """What to do after a sample, and why. All times are in seconds."""

    request_ack: bool
    """Ask the loop for an acknowledgement."""
    blocked_for: float
    """Time since the loop was asked and has not acknowledged; 0 if it is responsive."""
    report: bool
    """Report now that the loop is blocked."""
    gil_held_for: float
    """Time for which not even this sample could be taken, although the process used the CPU; 0 if it came in time.

    Some code has held the GIL for so long.
    """


class LoopWatchdog:
    """The state of one loop. Call :meth:`sample` and :meth:`acknowledge` never at the same time.

    ``now`` is in seconds of a monotonic clock.
    """

    def __init__(self) -> None:
        self._requested_at: float | None = None
        """When the loop was asked for the acknowledgement that is missing; None if none is."""
        self._report_after = REPORT_AFTER
        """The next report comes when the loop has been blocked for so long. At its initial value: none was made."""
        self._last_sample = (math.inf, math.inf)
        """Time and CPU time. Infinite before the first sample, so that no gap is seen then."""

    def sample(self, now: float, cpu_time: float) -> Sample:
        """Take a sample. ``cpu_time`` is the CPU time of the process in seconds: a stopped process uses none."""
        (last_at, last_cpu), self._last_sample = self._last_sample, (now, cpu_time)
        elapsed = now - last_at
        was_running = cpu_time - last_cpu >= elapsed * MIN_CPU_SHARE
        gil_held_for = elapsed if elapsed >= SAMPLE_INTERVAL + REPORT_AFTER and was_running else 0.0
        if self._requested_at is None:
            self._requested_at = now
            return Sample(request_ack=True, blocked_for=0.0, report=False, gil_held_for=gil_held_for)
        blocked_for = now - self._requested_at
        report = blocked_for >= self._report_after
        if report:
            self._report_after = blocked_for * REPORT_BACKOFF
        return Sample(request_ack=False, blocked_for=blocked_for, report=report, gil_held_for=gil_held_for)

    def blocked_for(self, now: float) -> float:
        """Return for how many seconds the loop has been blocked; 0 if it is responsive. Safe in any thread."""
        requested_at = self._requested_at  # read once: another thread may set it to None
        return 0.0 if requested_at is None else now - requested_at

    def acknowledge(self, now: float) -> float:
        """The loop runs again. Return for how long it was blocked if that was reported, else 0."""
        blocked_for = 0.0
        if self._requested_at is not None and self._report_after != REPORT_AFTER:
            blocked_for = now - self._requested_at
        self._requested_at, self._report_after = None, REPORT_AFTER
        return blocked_for


def sample_interval(net_ticktime: float) -> float:
    """Return the seconds between two samples for a node with that net tick time."""
    return min(SAMPLE_INTERVAL, net_ticktime / 8)


def is_tick_due(idle_for: float, net_ticktime: float, blocked_for: float) -> bool:
    """Whether to send a tick to a peer that has got nothing from us for ``idle_for`` seconds.

    The loop itself sends ticks after a quarter of the net tick time, so a thread waits a little longer. While the loop
    is blocked, ticks are sent more often: a peer may have a shorter net tick time than this node.
    """
    return idle_for >= net_ticktime * 3 / 8 or (blocked_for > 0 and idle_for >= SAMPLE_INTERVAL / 2)
