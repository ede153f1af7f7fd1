"""How many events a consumer of GenStage asks for. No I/O.

The events that were asked for and not yet handled are the *demand* of a subscription. It never exceeds ``max_demand``.
When it has fallen to ``min_demand``, the consumer asks for as many as bring it back to ``max_demand``::

    ask(max) ──► events arrive ──► batches are handled ──► demand ≤ min: ask(max − demand) ──► …

Source: gen_stage.ex of Elixir's library gen_stage, "Message protocol" and ``split_batches`` of its utils.
"""

from __future__ import annotations

from typing import Final

from erlmesh.terms import Term

__all__ = ["DEFAULT_MAX_DEMAND", "ConsumerDemand"]

DEFAULT_MAX_DEMAND: Final = 1000


class ConsumerDemand:
    """The demand of one subscription. ``max_demand`` None is a manual one: only :meth:`ask` asks."""

    def __init__(self, max_demand: int | None = DEFAULT_MAX_DEMAND, min_demand: int | None = None) -> None:
        """``min_demand`` None is half of ``max_demand``. Raises ValueError."""
        if max_demand is None:
            if min_demand is not None:
                raise ValueError("a manual subscription has no min_demand: call ask()")
            max_demand = min_demand = 0
            self._batch_size = 0
        else:
            min_demand = max_demand // 2 if min_demand is None else min_demand
            if not 0 <= min_demand < max_demand:
                raise ValueError(f"0 <= min_demand < max_demand must hold, not {min_demand} and {max_demand}")
            self._batch_size = max_demand - min_demand
        self._max = max_demand
        self._min = min_demand
        self._outstanding = 0
        """Events that were asked for and have not arrived."""
        self._demand = 0
        """The same, and those that have arrived and are not handled."""

    @property
    def outstanding(self) -> int:
        """Events that were asked for and have not arrived."""
        return self._outstanding

    def first_ask(self) -> int:
        """How many events to ask for after the subscription; 0 for a manual one."""
        return self._raise_to_max()

    def ask(self, count: int) -> int:
        """Ask for ``count`` more events. Raises ValueError."""
        if count < 1:
            raise ValueError(f"ask for 1 event or more, not {count}")
        self._outstanding += count
        self._demand += count
        return count

    def arrived(self, events: list[Term]) -> list[list[Term]] | None:
        """Return the batches of a message with ``events``. None if it has more events than were asked for."""
        if len(events) > self._outstanding:
            return None
        self._outstanding -= len(events)
        if not self._batch_size:
            return [events]
        return [events[start : start + self._batch_size] for start in range(0, len(events), self._batch_size)]

    def handled(self, count: int) -> int:
        """A batch of ``count`` events is handled. Return how many events to ask for now; 0 is none."""
        self._demand -= count
        return self._raise_to_max() if self._demand <= self._min else 0

    def _raise_to_max(self) -> int:
        missing = max(self._max - self._demand, 0)
        self._outstanding += missing
        self._demand += missing
        return missing
