"""The watermark of a symbol: the time up to which all ticks have arrived.

It is the least of the sources' last times, minus the lateness. A source that is silent for ``idle`` does not hold it
back. If no source holds it, it follows the clock. It never goes back. All times are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["Watermark"]

START = -(1 << 62)
"""Before all times."""
LONGEST_STEP = 1_000
"""How much silence one clock message adds to each source, at most.

A symbol that was without an owner, or whose owner was paused, gets its clock before the messages that waited. The
sources were not silent. So each has ``idle`` milliseconds of clock messages to send what waits.
"""


class Watermark:
    """The times of the sources of one symbol."""

    def __init__(self, lateness: int, idle: int) -> None:
        self._lateness = lateness
        self._idle = idle
        self.time = START
        self.clock = START
        """The last time of the owner's clock."""
        self.sources: dict[bytes, tuple[int, int]] = {}
        """The last time of each source that holds the watermark back, and its silence."""
        self.ended = START
        """The latest tick of the sources that have ended."""

    def tick(self, source: bytes, time: int) -> None:
        """``source`` has sent a tick with this time."""
        last, _ = self.sources.get(source, (START, 0))
        self.sources[source] = (max(last, time), 0)
        self._advance()

    def tell_clock(self, now: int) -> None:
        """The owner's clock shows ``now``."""
        step = min(max(now - self.clock, 0), LONGEST_STEP) if self.clock > START else 0
        self.clock = max(self.clock, now)
        aged = ((source, last, silence + step) for source, (last, silence) in self.sources.items())
        self.sources = {source: (last, silence) for source, last, silence in aged if silence < self._idle}
        self._advance()

    def end(self, source: bytes) -> None:
        """``source`` sends no tick any more that is older than its last one. With the last source, all ticks are in."""
        last, _ = self.sources.pop(source, (START, 0))
        self.ended = max(self.ended, last)
        if self.sources:
            self._advance()
        else:
            self.time = max(self.time, self.ended)

    def merge(self, time: int, clock: int, ended: int, sources: Mapping[bytes, tuple[int, int]]) -> None:
        """Take over the times of another one, and its sources: the later time and the shorter silence."""
        self.time, self.clock, self.ended = max(self.time, time), max(self.clock, clock), max(self.ended, ended)
        for source, (last, silence) in sources.items():
            own_last, own_silence = self.sources.get(source, (last, silence))
            self.sources[source] = (max(own_last, last), min(own_silence, silence))

    def _advance(self) -> None:
        last_times = [last for last, _ in self.sources.values()]
        reached = min(last_times) if last_times else self.clock - self._idle
        self.time = max(self.time, reached - self._lateness)
