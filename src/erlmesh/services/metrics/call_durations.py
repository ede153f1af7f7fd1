"""Durations and outcomes of the calls of a node."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Final

from erlmesh.core.duration_counts import DurationCounts
from erlmesh.errors import CalleeExited, CallTimeout, Exit, NoConnection, NoProcess
from erlmesh.services.metrics.catalogue import DURATION_BUCKETS

__all__ = ["CallDurations", "outcome_of"]

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
    """Counts the calls of a node by kind and outcome. It is a :class:`CallObserver`."""

    def __init__(self) -> None:
        self.by_outcome: dict[tuple[str, str], DurationCounts] = {}

    def outgoing(self, kind: str, _target: object, _name: object) -> _Measured:
        return _Measured(self, kind)

    def ended(self, kind: str, outcome: str, seconds: float) -> None:
        """Count a call."""
        counts = self.by_outcome.get((kind, outcome))
        if counts is None:
            counts = self.by_outcome[kind, outcome] = DurationCounts(DURATION_BUCKETS)
        counts.add(seconds)


class _Measured:
    __slots__ = ("_durations", "_kind", "_started")

    def __init__(self, durations: CallDurations, kind: str) -> None:
        self._durations = durations
        self._kind = kind

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._durations.ended(self._kind, outcome_of(kind), time.perf_counter() - self._started)
