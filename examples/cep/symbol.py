"""What the owner of a symbol keeps: its window, its watermark and its partial matches.

Each message gives results. An *eager* mean leaves at once, with a revision number: a late tick revises the means after
it. A *final* mean leaves when the watermark has passed its tick. Patterns match on final ticks only.

The results are terms, ``Source`` and ``Number`` being those of the tick:

* ``{mean, Source, Number, Time, Sum, Count, Revision}``, ``{final, Source, Number, Time, Sum, Count}``
* ``{match, Pattern, [{Time, Source, Number, Price}]}``
* ``{idle, Time}``: the window has become empty

All of it depends on the messages and their order only. So a backup that gets the same messages has the same state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Self

from cep.pattern import Match, Pattern, down, up
from cep.watermark import Watermark
from cep.window import Sized, Span, Tick, Timed, Window
from erlmesh import Atom

__all__ = ["CLOCK", "END", "FINAL", "IDLE", "MATCH", "MEAN", "Refused", "Settings", "Symbol"]

CLOCK, END = Atom("clock"), Atom("end")
MEAN, FINAL, MATCH, IDLE = Atom("mean"), Atom("final"), Atom("match"), Atom("idle")

MAX_REVISIONS: Final = 200
"""Means that one late tick revises at once: those of the newest ticks. The others are right when they are final."""
MAX_FINAL: Final = 500
"""Final means that leave with one message. More leave with the next ones. Results must fit into one message."""
PIECE: Final = 400
"""Ticks in a piece of a hand-over: about 20 KiB."""
MAX_SOURCES: Final = 1000
"""Sources of a symbol that are remembered."""
MAX_NUMBER: Final = 1 << 53


class Refused(ValueError):
    """The message is not applied; the text says why. The state is as before."""


class Settings(NamedTuple):
    """What is the same for all symbols and on all nodes. Times are in milliseconds."""

    span: Span = Timed(60_000)
    pattern: Pattern = Pattern("peak").next(up).times(3).next(down)
    lateness: int = 10_000
    idle: int = 5_000
    ahead: int = 60_000


class Symbol:
    """The state of one symbol."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.window = Window(settings.span)
        self.watermark = Watermark(settings.lateness, settings.idle)
        self.frontier: Tick | None = None  # The last final tick, also when it has left the window.
        self.settled = 0  # So many ticks of the window are not behind it. Their means have left, except `owed`.
        self.owed: set[Tick] = set()
        self.revisions: dict[tuple[bytes, int], int] = {}  # (source, number) of ticks that are not final
        self.numbers: dict[bytes, int] = {}  # The last tick of each source, also when it has left the window.
        self.partial: list[Match] = []
        self.searched_from: Tick | None = None  # The last tick of the last match.

    # Messages

    def tick(self, tick: Tick, now: int) -> list[Any]:
        """Take a tick. Raises Refused if the watermark has passed it, or if it is ahead of the owner's clock."""
        watermark = self.watermark
        if tick.time <= watermark.time:
            raise Refused(f"late: {tick.time} is not after the watermark {watermark.time}")
        if tick.time > now + self.settings.ahead:
            raise Refused(f"ahead: {tick.time} is {tick.time - now} ms ahead of the owner's clock")
        if not (-MAX_NUMBER < tick.time < MAX_NUMBER and -MAX_NUMBER < tick.price < MAX_NUMBER):
            raise Refused("the time and the price are less than 2 to the power of 53")
        self._count(tick.source, tick.number)
        position = self.window.add(tick)
        watermark.tick(tick.source, tick.time)
        results = [self._mean(position, 0)]
        for later in self.window.revised_by(position)[-MAX_REVISIONS:]:
            name = self.window[later][1:3]
            self.revisions[name] = revision = self.revisions.get(name, 0) + 1
            results.append(self._mean(later, revision))
        return results + self._settle()

    def clock(self, now: int) -> list[Any]:
        """The owner's clock shows ``now``: silent sources do not hold the watermark, and old ticks leave the window."""
        self.watermark.tell_clock(now)
        paid = self._pay()
        return paid + self._settle(MAX_FINAL - len(paid))

    def end(self, source: bytes) -> list[Any]:
        """``source`` sends nothing older than its last tick any more."""
        self.watermark.end(source)
        paid = self._pay()
        return paid + self._settle(MAX_FINAL - len(paid))

    # Results

    def _mean(self, position: int, revision: int) -> Any:
        tick = self.window[position]
        return (MEAN, tick.source, tick.number, tick.time, *self.window.mean(position), revision)

    def _final(self, position: int) -> Any:
        tick = self.window[position]
        return (FINAL, tick.source, tick.number, tick.time, *self.window.mean(position))

    def _pay(self) -> list[Any]:
        """The final means that a merge owes. They do not leave with a tick.

        While two sides merge, both may apply the same tick, and sinks take the results of one. A message of the clock
        is from the owner itself, so one side alone applies it.
        """
        due = sorted(self.owed)[:MAX_FINAL]
        self.owed.difference_update(due)
        return [self._final(self.window.position_after(tick) - 1) for tick in due]

    def _settle(self, room: int = MAX_FINAL) -> list[Any]:
        """What has become final since the last message: at most ``room`` means."""
        window, results = self.window, list[Any]()
        end = min(window.count_until(self.watermark.time), self.settled + room)
        for position in range(self.settled, end):
            self.frontier = tick = window[position]
            results.append(self._final(position))
            self.revisions.pop(tick[1:3], None)
            if (match := self._search(tick, position)) is not None:
                self.searched_from = tick
                results.append((MATCH, self.settings.pattern.name, [tuple(each) for each in match]))
        self.settled = max(self.settled, end)
        if self._trim() and not window:
            results.append((IDLE, self.watermark.time))
        return results

    def _search(self, tick: Tick, position: int) -> Match | None:
        oldest = self.window[self.window.start(position)]
        self.partial, match = self.settings.pattern.advance(self.partial, tick, oldest)
        return match

    def _trim(self) -> int:
        """Forget ticks. Those that a mean which has not left still needs stay."""
        time, settled = self.watermark.time, self.settled
        if self.owed:
            first = min(self.owed)
            time, settled = first.time - 1, self.window.position_after(first) - 1
        elif settled < len(self.window):
            time = min(time, self.window[settled].time - 1)
        gone = self.window.trim(time, settled)
        self.settled -= gone
        return gone

    # Two states become one

    def merge(self, other: Self) -> Self:
        """The union of both: of ticks by (source, number), of what has left, of sources. It changes neither.

        The final mean of a tick leaves again, unless it has left both sides. Of several, the one with most ticks is
        right. So it does no harm that results are lost in a merge: of a message that both sides have applied, the
        results of one side are kept. A match is not searched again among ticks that were final on one side.
        """
        merged = type(self)(self.settings)
        for each in (self, other):
            mark = each.watermark
            merged.watermark.merge(mark.time, mark.clock, mark.ended, mark.sources)
        for source, number in sorted({*self.numbers.items(), *other.numbers.items()}):
            merged._count(source, number)
        ours, theirs = set(self.window.rows()), set(other.window.rows())
        merged.window = Window(self.settings.span, sorted([*self.window.rows(), *(theirs - ours)]))
        merged.window.gone = max(filter(None, (self.window.gone, other.window.gone)), default=None)
        merged._set_frontier(max(filter(None, (self.frontier, other.frontier)), default=None))
        # A sized window with trimmed ticks would have older ones in their place. So its mean leaves one side only.
        enough = any if isinstance(self.settings.span, Sized) else all
        settled = map(Tick._make, merged.window.rows(0, merged.settled))
        merged.owed = {tick for tick in settled if not enough((self._has_left(tick), other._has_left(tick)))}
        for _, source, number, _ in merged.window.rows(merged.settled):
            name = source, number
            if revision := max(side.revisions.get(name, 0) for side in (self, other)):
                merged.revisions[name] = revision
        merged.searched_from = max(filter(None, (self.searched_from, other.searched_from)), default=None)
        merged._search_again()
        return merged

    def _set_frontier(self, frontier: Tick | None) -> None:
        self.frontier = frontier
        self.settled = 0 if frontier is None else self.window.position_after(frontier)

    def _is_settled(self, tick: Tick) -> bool:
        return self.frontier is not None and tick <= self.frontier

    def _has_left(self, tick: Tick) -> bool:
        return self._is_settled(tick) and tick not in self.owed and (tick in self.window or self._has_trimmed(tick))

    def _has_trimmed(self, tick: Tick) -> bool:
        """Whether the tick was in the window. Without the tick itself, its number is the best evidence."""
        gone = self.window.gone
        return gone is not None and tick <= gone and tick.number <= self.numbers.get(tick.source, -1)

    def _count(self, source: bytes, number: int) -> None:
        self.numbers[source] = number
        if len(self.numbers) > MAX_SOURCES:
            del self.numbers[next(iter(self.numbers))]

    def _search_again(self) -> None:
        """Find the partial matches from the ticks behind the last match."""
        after = self.searched_from
        for position in range(0 if after is None else self.window.position_after(after), self.settled):
            self._search(self.window[position], position)

    # A hand-over

    def dump(self) -> Iterable[Any]:
        """The state as terms of at most some 20 KiB."""
        mark = self.watermark
        yield (
            (mark.time, mark.clock, mark.ended),
            [(source, *times) for source, times in sorted(mark.sources.items())],
            [tuple(tick) for tick in (self.frontier,) if tick is not None],
            [tuple(tick) for tick in (self.searched_from,) if tick is not None],
            [tuple(tick) for tick in (self.window.gone,) if tick is not None],
        )
        rows = self.window.rows()
        parts = {
            "ticks": rows,
            "owed": sorted(map(tuple, self.owed)),
            "numbers": list(self.numbers.items()),
            "revisions": [(*name, count) for name, count in sorted(self.revisions.items())],
            "partial": [[tuple(tick) for tick in match] for match in self.partial],
        }
        for name, items in parts.items():
            for start in range(0, len(items), PIECE):
                yield (Atom(name), list(items[start : start + PIECE]))

    @classmethod
    def load(cls, settings: Settings, pieces: Iterable[Any]) -> Self:
        """The state that :meth:`dump` has described."""
        (times, sources, frontier, searched, gone), *rest = pieces
        parts: dict[Any, list[Any]] = {}
        for name, items in rest:
            parts.setdefault(name, []).extend(items)
        state = cls(settings)
        time, clock, ended = times
        state.watermark.merge(time, clock, ended, {source: (last, silence) for source, last, silence in sources})
        state.window = Window(settings.span, parts.get(Atom("ticks"), ()))
        state.window.gone = Tick._make(gone[0]) if gone else None
        state._set_frontier(Tick._make(frontier[0]) if frontier else None)
        state.owed = {Tick._make(row) for row in parts.get(Atom("owed"), ())}
        state.revisions = {(source, number): count for source, number, count in parts.get(Atom("revisions"), ())}
        state.numbers = dict(parts.get(Atom("numbers"), ()))
        state.partial = [tuple(map(Tick._make, match)) for match in parts.get(Atom("partial"), ())]
        state.searched_from = Tick._make(searched[0]) if searched else None
        return state
