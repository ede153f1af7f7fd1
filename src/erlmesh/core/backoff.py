"""Growing delays between attempts. No clock: the caller passes the random generator."""

from __future__ import annotations

from random import Random

__all__ = ["Backoff"]


class Backoff:
    """A delay that doubles from ``initial`` up to ``maximum`` (seconds), multiplied by a random factor."""

    __slots__ = ("_current", "_initial", "_jitter", "_maximum")

    def __init__(self, initial: float, maximum: float, jitter: tuple[float, float]) -> None:
        self._initial = initial
        self._maximum = maximum
        self._jitter = jitter
        self._current = initial

    def next_delay(self, rng: Random) -> float:
        """Return the delay before the next attempt, and double the one after it."""
        delay = self.peek_delay(rng)
        self._current = min(self._current * 2, self._maximum)
        return delay

    def peek_delay(self, rng: Random) -> float:
        """Return a delay of the current length, which stays as it is."""
        return self._current * rng.uniform(*self._jitter)

    def reset(self) -> None:
        """Start from the initial delay again."""
        self._current = self._initial

    def raise_to_maximum(self) -> None:
        """Use the maximum delay from now on."""
        self._current = self._maximum
