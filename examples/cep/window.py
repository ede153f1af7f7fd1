"""A window over ticks: the mean at each tick, also when ticks arrive late.

The ticks are kept in the order (time, source, number). A late tick goes to its place and expires no other tick. The
mean at a tick covers the ticks at or before it: those within a duration (``Timed``), or a number of them (``Sized``).

A tick in order costs O(log n). A late tick costs also O(k) for the k ticks after it: their means change.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

__all__ = ["Row", "Sized", "Span", "Tick", "Timed", "Window"]

_COMPACT_AT = 1024
"""Trimmed ticks that are kept, so that one removal pays for many ticks."""


class Tick(NamedTuple):
    """A price at a time in milliseconds. Prices are whole numbers (cents), so sums are exact."""

    time: int
    source: bytes
    number: int
    price: int


class Timed(NamedTuple):
    """The window of a tick at ``t`` has the ticks with a time in ``(t - duration, t]``. Milliseconds."""

    duration: int


class Sized(NamedTuple):
    """The window of a tick has the last ``length`` ticks up to it."""

    length: int


Span = Timed | Sized
Row = tuple[int, bytes, int, int]
"""A tick as a plain tuple, as it arrives in a hand-over. So 100,000 ticks are loaded in milliseconds."""


class Window:
    """The ticks of one symbol that a mean may still need. Positions count from 0 and change with :meth:`trim`."""

    def __init__(self, span: Span, rows: Iterable[Row] = ()) -> None:
        """``rows`` are ticks in order."""
        self.span = span
        self._ticks = list(rows)
        self._sums = [*accumulate(map(itemgetter(3), self._ticks), initial=0)]  # [i]: the prices before tick i
        self._first = 0  # Ticks before it are trimmed.
        self.gone: Tick | None = None  # The last tick that was trimmed.

    def __len__(self) -> int:
        return len(self._ticks) - self._first

    def __getitem__(self, position: int) -> Tick:
        return Tick._make(self._ticks[self._first + position])

    def rows(self, start: int = 0, end: int | None = None) -> Sequence[Row]:
        """The ticks from ``start`` to before ``end``, in order."""
        return self._ticks[self._first + start : len(self._ticks) if end is None else self._first + end]

    def add(self, tick: Tick) -> int:
        """Put ``tick`` in its place and return its position."""
        ticks, sums = self._ticks, self._sums
        if not ticks or tick > ticks[-1]:
            ticks.append(tick)
            sums.append(sums[-1] + tick.price)
            return len(self) - 1
        insort(ticks, tick, self._first)
        index = bisect_left(ticks, tick, self._first)
        sums[index + 1 :] = [tick.price + total for total in sums[index:]]
        return index - self._first

    def mean(self, position: int) -> tuple[int, int]:
        """The sum and the number of the prices in the window of the tick there. Their quotient is the mean."""
        start, end = self._first + self.start(position), self._first + position + 1
        return self._sums[end] - self._sums[start], end - start

    def start(self, position: int) -> int:
        """The position of the first tick in the window of the tick there."""
        match self.span:
            case Timed(duration):
                oldest = self._ticks[self._first + position][0] - duration + 1
                return bisect_left(self._ticks, (oldest,), self._first) - self._first
            case Sized(length):
                return max(0, position - length + 1)

    def revised_by(self, position: int) -> range:
        """The positions after ``position`` whose windows contain the tick there."""
        match self.span:
            case Timed(duration):
                end = self.count_until(self[position].time + duration - 1)
            case Sized(length):
                end = min(len(self), position + length)
        return range(position + 1, end)

    def count_until(self, time: int) -> int:
        """How many ticks have a time of at most ``time``."""
        return bisect_left(self._ticks, (time + 1,), self._first) - self._first

    def position_after(self, tick: Tick) -> int:
        """The position of the first tick that is greater than ``tick``."""
        return bisect_right(self._ticks, tick, self._first) - self._first

    def __contains__(self, tick: Tick) -> bool:
        index = bisect_left(self._ticks, tick, self._first)
        return index < len(self._ticks) and self._ticks[index] == tick

    def trim(self, time: int, settled: int) -> int:
        """Forget the ticks that no later mean needs, and return their number.

        The first ``settled`` ticks are final. Each later one has a time above ``time``.
        """
        match self.span:
            case Timed(duration):
                gone = min(self.count_until(time - duration), settled)
            case Sized(length):
                gone = max(0, settled - length)
        if gone:
            self.gone = self[gone - 1]
        self._first += gone
        if self._first >= max(_COMPACT_AT, len(self)):
            del self._ticks[: self._first]
            base = self._sums[self._first]
            self._sums = [total - base for total in self._sums[self._first :]]
            self._first = 0
        return gone
