"""Durations and outcomes of the calls of a node."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from time import perf_counter
from typing import Final

from erlmesh.core.duration_counts import DurationCounts
from erlmesh.errors import CalleeExited, CallTimeout, Exit, NoConnection, NoProcess
from erlmesh.services.metrics.catalogue import DURATION_BUCKETS

__all__ = ["CallDurations", "outcome_of"]

KINDS: Final = ("call", "rpc")
_OUTCOMES: Final = (
    (CallTimeout, "timeout"),
    (NoProcess, "no_process"),
    (NoConnection, "no_connection"),
    ((CalleeExited, Exit), "exit"),
    ((asyncio.CancelledError, GeneratorExit), "cancelled"),
)


def outcome_of(kind: type[BaseException] | None) -> str:
    """Return the outcome of a call that ended with an exception of this class, or with None."""
    if kind is None:
        return "ok"
    return next((outcome for classes, outcome in _OUTCOMES if issubclass(kind, classes)), "error")


class CallDurations:
    """Counts the calls of a node by kind and outcome. It is the ``CallTimer`` of the node."""

    def __init__(self) -> None:
        self._succeeded = {kind: DurationCounts(DURATION_BUCKETS) for kind in KINDS}
        self._failed: dict[tuple[str, str], DurationCounts] = {}
        self.users = 0
        """How many registries read it."""

    def ended(self, kind: str, started: float, failure: type[BaseException] | None) -> None:
        """Count a call that began at ``started``."""
        seconds = perf_counter() - started
        counts = self._succeeded[kind] if failure is None else self._failures(kind, outcome_of(failure))
        # `DurationCounts.add`, inlined: this runs for each call.
        counts.counts[bisect_left(DURATION_BUCKETS, seconds)] += 1
        counts.total += seconds

    def _failures(self, kind: str, outcome: str) -> DurationCounts:
        counts = self._failed.get((kind, outcome))
        if counts is None:
            counts = self._failed[kind, outcome] = DurationCounts(DURATION_BUCKETS)
        return counts

    def by_outcome(self) -> dict[tuple[str, str], DurationCounts]:
        """Return the histograms by kind and outcome."""
        return {(kind, "ok"): counts for kind, counts in self._succeeded.items()} | self._failed
