"""Measures how late the event loop runs its timers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from erlmesh.core.duration_counts import DurationCounts
from erlmesh.services.metrics.catalogue import LAG_BUCKETS

__all__ = ["LoopLag"]

INTERVAL: Final = 0.5
"""Seconds between two samples."""


class LoopLag:
    """Takes a sample every :data:`INTERVAL` seconds, while ``is_wanted()``, until :meth:`close`.

    ``on_sample()`` is called after each.
    """

    def __init__(self, is_wanted: Callable[[], bool], on_sample: Callable[[], object]) -> None:
        self._is_wanted = is_wanted
        self._on_sample = on_sample
        self.counts = DurationCounts(LAG_BUCKETS)
        self._loop = asyncio.get_running_loop()
        self._start()

    def _start(self) -> None:
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._sample)

    def _sample(self) -> None:
        if self._is_wanted():
            self.counts.add(max(0.0, self._loop.time() - self._due))
            self._on_sample()
            self._start()

    def close(self) -> None:
        """Take no more samples."""
        self._timer.cancel()
