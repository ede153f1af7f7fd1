"""Durations and outcomes of the calls of a node."""

from __future__ import annotations

import asyncio
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
    """Counts the calls of a node, and those that it answers, by kind and outcome. It is the node's ``CallTimer``."""

    def __init__(self) -> None:
        self._succeeded = {kind: DurationCounts(DURATION_BUCKETS) for kind in KINDS}
        self._failed: dict[tuple[str, str], DurationCounts] = {}
        self._served = {(kind, "ok"): DurationCounts(DURATION_BUCKETS) for kind in KINDS}
        self.calls: list[float] = []
        self.served_calls: list[float] = []
        self.users = 0
        """How many registries read it."""

    def count_all(self) -> None:
        """Count the durations in the lists. The timer of the node's metrics calls this, so the lists stay short."""
        for seconds, counts in ((self.calls, self._succeeded["call"]), (self.served_calls, self._served["call", "ok"])):
            counts.add_all(seconds)
            seconds.clear()

    def ended(self, kind: str, started: float, failure: type[BaseException] | None) -> None:
        """Count a call that began at ``started``."""
        counts = self._succeeded[kind] if failure is None else self._failures(kind, outcome_of(failure))
        counts.add(perf_counter() - started)

    def served(self, kind: str, started: float, outcome: str) -> None:
        """Count a call that this node has answered. ``outcome`` is one of a few words."""
        counts = self._served.get((kind, outcome))
        if counts is None:
            counts = self._served[kind, outcome] = DurationCounts(DURATION_BUCKETS)
        counts.add(perf_counter() - started)

    def _failures(self, kind: str, outcome: str) -> DurationCounts:
        counts = self._failed.get((kind, outcome))
        if counts is None:
            counts = self._failed[kind, outcome] = DurationCounts(DURATION_BUCKETS)
        return counts

    def by_outcome(self) -> dict[tuple[str, str], DurationCounts]:
        """Return the histograms by kind and outcome."""
        self.count_all()
        return {(kind, "ok"): counts for kind, counts in self._succeeded.items()} | self._failed

    def served_by_outcome(self) -> dict[tuple[str, str], DurationCounts]:
        """Return the histograms of the answered calls by kind and outcome."""
        self.count_all()
        return self._served
