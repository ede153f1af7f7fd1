"""A histogram: how many durations were at most so long. No I/O."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

__all__ = ["DurationCounts"]


class DurationCounts:
    """Counts durations in seconds. ``bounds`` are the upper bounds of the buckets, in rising order."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """The sum of all durations."""

    def add(self, seconds: float) -> None:
        """Count a duration. One of exactly a bound is in the bucket of that bound."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def add_all(self, durations: Sequence[float]) -> None:
        """Count several durations. A sorted list has few places to find, so this is faster than one at a time."""
        ordered, before = sorted(durations), 0
        for bucket, bound in enumerate(self.bounds):
            after = bisect_right(ordered, bound, before)
            self.counts[bucket] += after - before
            before = after
        self.counts[-1] += len(ordered) - before
        self.total += sum(ordered)

    def buckets(self) -> list[tuple[str, float]]:
        """Return the upper bounds as text, each with the number of durations up to it. The last is ``+Inf``."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))

    def copy(self) -> DurationCounts:
        """Return a copy that does not change any more."""
        copied = DurationCounts(self.bounds)
        copied.counts, copied.total = [*self.counts], self.total
        return copied
