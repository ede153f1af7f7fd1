"""The statistics of a serving as a term."""

from __future__ import annotations

from typing import Any

from erlmesh.core.batching import BatchBook
from erlmesh.terms import Atom, Map, Term

__all__ = ["statistics_of"]


def statistics_of(book: BatchBook[Any]) -> Term:
    """Return a map of atoms to numbers. Times are milliseconds; the means are 0.0 without a batch."""
    seen = book.statistics
    return Map(
        {
            Atom(name): value
            for name, value in {
                "waiting": book.waiting,
                "running": book.running,
                "requests": seen.requests,
                "batches": seen.batches,
                "largest_batch": seen.largest_batch,
                "mean_batch": _ratio(seen.batched, seen.batches),
                "mean_wait": round(1000 * _ratio(seen.waited, seen.batched), 3),
                "longest_wait": round(1000 * seen.longest_wait, 3),
                "dropped": seen.dropped,
                "overloaded": seen.overloaded,
                "expired": seen.expired,
                "failed_batches": seen.failed_batches,
            }.items()
        }
    )


def _ratio(total: float, count: int) -> float:
    return total / count if count else 0.0
