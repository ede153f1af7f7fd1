"""What the results must be, computed from all ticks at once in one process, in the plainest way.

It shares no code with the window: no prefix sums, no bisection, no watermark. Tests and the demo compare.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from cep.pattern import Match, Pattern
from cep.window import Sized, Span, Tick, Timed

__all__ = ["Mean", "Name", "eager_means", "final_means", "matches", "window_at_end"]

Name = tuple[bytes, int]
"""The source and the number of a tick."""
Mean = tuple[int, int]
"""The sum of the prices, and how many there are."""


def final_means(ticks: Iterable[Tick], span: Span) -> dict[Name, Mean]:
    """The mean at each tick. The order of ``ticks`` has no meaning."""
    means, window, total = {}, deque[Tick](), 0
    for tick in sorted(ticks):
        window.append(tick)
        total += tick.price
        while _is_outside(window[0], tick, len(window) - 1, span):
            total -= window.popleft().price
        means[tick.source, tick.number] = total, len(window)
    return means


def window_at_end(ticks: Iterable[Tick], span: Span) -> list[Tick]:
    """The window of the last tick."""
    ordered = sorted(ticks)
    aged = enumerate(reversed(ordered))
    return [tick for age, tick in aged if not _is_outside(tick, ordered[-1], age, span)][::-1]


def eager_means(arriving: Iterable[Tick], span: Span) -> list[tuple[Name, Mean, int]]:
    """The eager results in their order, with their revisions, for ticks in the order in which they arrive.

    It computes everything again at each tick, so it is for small inputs.
    """
    arrived: list[Tick] = []
    revisions: dict[Name, int] = {}
    results = []
    for new in arriving:
        arrived.append(new)
        means = final_means(arrived, span)
        ordered = sorted(arrived)
        position = ordered.index(new)
        for age, tick in enumerate(ordered[position:]):
            if not _is_outside(new, tick, age, span):
                name = tick.source, tick.number
                revisions[name] = revisions.get(name, -1) + 1
                results.append((name, means[name], revisions[name]))
    return results


def matches(ticks: Iterable[Tick], span: Span, pattern: Pattern) -> Iterator[Match]:
    """The matches, in order. Of those that overlap, the first that ends counts, and then the first that starts."""
    ordered = sorted(ticks)
    tries = (_match_from(first, ordered, span, pattern) for first in range(len(ordered)))
    behind = -1
    for last, first, match in sorted(found for found in tries if found is not None):
        if first > behind:
            behind = last
            yield match


def _match_from(first: int, ordered: list[Tick], span: Span, pattern: Pattern) -> tuple[int, int, Match] | None:
    """The match that starts at the tick ``first``: the position of its last tick, of its first tick, and its ticks."""
    matched: Match = ()
    for position in range(first, len(ordered)):
        tick, step = ordered[position], pattern.steps[len(matched)]
        too_long = pattern.limit is not None and tick.time - ordered[first].time >= pattern.limit
        if too_long or _is_outside(ordered[first], tick, position - first, span):
            return None
        if step.condition(tick, matched):
            matched = (*matched, tick)
            if len(matched) == len(pattern.steps):
                return position, first, matched
        elif not (matched and step.skips):
            return None
    return None


def _is_outside(old: Tick, new: Tick, age: int, span: Span) -> bool:
    """True if ``old``, which is ``age`` ticks before ``new``, is not in the window of ``new``."""
    match span:
        case Timed(duration):
            return old.time <= new.time - duration
        case Sized(length):
            return age >= length
