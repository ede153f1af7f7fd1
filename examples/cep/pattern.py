"""Patterns of ticks: a sequence of conditions, strict (``next``) or with other ticks between (``then``).

Three rising prices and a drop within a minute::

    Pattern("peak").next(up).times(3).next(down).within(60_000)

A condition gets the tick, and the ticks that are matched so far. After a match, the search goes on behind its last
tick. If several matches end at the same tick, the one that started first counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from cep.window import Tick

__all__ = ["Condition", "Match", "Pattern", "Step", "down", "up"]

Match = tuple[Tick, ...]
"""The ticks that are matched, in order. It is partial until each step of the pattern has one."""
Condition = Callable[[Tick, Match], bool]

MAX_PARTIAL = 1000
"""Partial matches that are kept. Beyond it, no new one starts."""


def up(tick: Tick, matched: Match) -> bool:
    """The price is above that of the matched tick before. The first tick needs none."""
    return not matched or tick.price > matched[-1].price


def down(tick: Tick, matched: Match) -> bool:
    """The price is below that of the matched tick before. The first tick needs none."""
    return not matched or tick.price < matched[-1].price


class Step(NamedTuple):
    condition: Condition
    skips: bool


class Pattern:
    """An immutable pattern: each method returns a new one."""

    def __init__(self, name: str, steps: tuple[Step, ...] = (), limit: int | None = None) -> None:
        self.name = name
        self.steps = steps
        self.limit = limit

    def next(self, condition: Condition) -> Self:
        """The very next tick must meet ``condition``."""
        return self._with(Step(condition, skips=False))

    def then(self, condition: Condition) -> Self:
        """A later tick meets ``condition``: the first one that does. Ticks before it are skipped."""
        return self._with(Step(condition, skips=True))

    def times(self, count: int) -> Self:
        """Repeat the last step, so that ``count`` ticks meet it. Raises ValueError if there is no step."""
        if not self.steps or count < 1:
            raise ValueError("times(n) repeats the step before it at least once: call next or then first")
        return self._with(*[self.steps[-1]] * (count - 1))

    def within(self, duration: int) -> Self:
        """The last tick of a match comes less than ``duration`` milliseconds after the first."""
        return type(self)(self.name, self.steps, duration)

    def _with(self, *steps: Step) -> Self:
        return type(self)(self.name, (*self.steps, *steps), self.limit)

    def advance(self, partial: Iterable[Match], tick: Tick, oldest: Tick) -> tuple[list[Match], Match | None]:
        """Take the next tick. Return the partial matches from now on, and the match that is complete.

        ``oldest`` is the first tick of the window of ``tick``: a match lies inside the window of its last tick.
        """
        if not self.steps:
            raise ValueError(f"the pattern {self.name!r} has no step: call next or then")
        kept: list[Match] = []
        for matched in (*partial, ()):
            if matched and (matched[0] < oldest or self._is_over(matched[0], tick)):
                continue
            condition, skips = self.steps[len(matched)]
            if condition(tick, matched):
                longer = (*matched, tick)
                if len(longer) == len(self.steps):
                    return [], longer
                kept.append(longer)
            elif matched and skips:
                kept.append(matched)
        return kept[:MAX_PARTIAL], None

    def _is_over(self, first: Tick, last: Tick) -> bool:
        return self.limit is not None and last.time - first.time >= self.limit
