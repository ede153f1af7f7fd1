"""The state of one shard: a state for each key, with what delivery needs. No I/O.

A store knows which messages it contains. Each holder counts the messages that it applies, under a *lineage*: its pid
and a number that it never uses twice. ``versions`` has the count of each lineage. So a store contains another one if no
count of the other is greater, and two stores with equal versions contain the same messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

from erlmesh.core.sharding.keeper import Keeper, Merge, Origin, newest
from erlmesh.etf import as_received, decode, encode
from erlmesh.terms import Pid, Term, exact_key

__all__ = ["KeyState", "Lineage", "Store", "UnsendableResults", "Versions", "includes"]

S = TypeVar("S")

Lineage: TypeAlias = tuple[Pid, int]
Versions: TypeAlias = dict[Lineage, int]

MAX_VERSIONS: Final = 64
"""Lineages that a store remembers: the last ones. An older one that is forgotten costs a needless transfer at most."""
MAX_SOURCES: Final = 1024
"""Sources whose last number the state of a key remembers: those that were used last."""


def includes(versions: Mapping[Lineage, int], other: Mapping[Lineage, int]) -> bool:
    """True if a store with ``versions`` has all messages of a store with the versions ``other``."""
    return all(versions.get(lineage, -1) >= count for lineage, count in other.items())


class UnsendableResults(Exception):
    """``apply`` of a keeper that changes the state in place has returned something else than terms.

    The message is applied, and its results are lost.
    """


class KeyState(Generic[S]):
    """The state of one key, the last number of each source, and the results that receivers have not acknowledged."""

    __slots__ = ("applied", "lasts", "results", "state")

    def __init__(self, state: S) -> None:
        self.state = state
        self.applied = 0
        """How many messages this state has got, for :func:`~erlmesh.core.sharding.keeper.newest`."""
        self.lasts: dict[Term, int] = {}
        self.results: dict[tuple[Term, int], list[Term]] = {}


class Store(Generic[S]):
    """The states of one shard."""

    def __init__(self, keeper: Keeper[S], merge: Merge[S] | None = None) -> None:
        """``merge`` replaces the one of the keeper."""
        self._keeper = keeper
        self._merge: Merge[S] = keeper.merge if merge is None else merge
        self._in_place = bool(getattr(keeper, "all_or_nothing", False))
        self.keys: dict[bytes, KeyState[S]] = {}
        self.versions: Versions = {}

    def last(self, key: bytes, source: Term) -> int:
        """The last number of a source that the state of ``key`` contains. 0 if there is none."""
        found = self.keys.get(key)
        return 0 if found is None else found.lasts.get(source, 0)

    def apply(self, message: Term, at: Origin) -> list[Term]:
        """Apply a message and keep its results. Raises what the keeper raises; then nothing has changed.

        After :class:`UnsendableResults` the message is applied, and has no results.
        """
        entry = self.keys.get(at.key)
        if entry is None:
            entry = KeyState(self._keeper.new(at.key))
        state = entry.state if self._in_place else self._copy(entry.state)
        given = self._keeper.apply(state, message, at)
        if isinstance(given, Iterator):  # The body of a generator runs here, so what it raises refuses the message.
            given = list(given)
        results: list[Term] = []
        unsendable: Exception | None = None
        try:
            results = _as_results(given)
        except Exception as error:
            if not self._in_place:
                raise
            unsendable = error  # The state is changed already. It must be the same here and on each backup.
        entry.state = state
        entry.applied += 1
        entry.lasts.pop(at.source, None)  # Those that were used last are at the end.
        entry.lasts[at.source] = at.number
        if len(entry.lasts) > MAX_SOURCES:
            del entry.lasts[next(iter(entry.lasts))]
        if results:
            entry.results[at.source, at.number] = results
        self.keys[at.key] = entry
        if unsendable is not None:
            raise UnsendableResults(str(unsendable)) from unsendable
        return results

    def _copy(self, state: S) -> S:
        pieces = decode(encode(list(self._keeper.dump(state))))
        assert isinstance(pieces, list)
        return self._keeper.load(pieces)

    def forget_results(self, key: bytes, source: Term, number: int) -> bool:
        """The receivers have these results. False if that was known."""
        found = self.keys.get(key)
        return found is not None and found.results.pop((source, number), None) is not None

    def merge_key(self, key: bytes, theirs: KeyState[S]) -> tuple[int, Exception | None]:
        """Merge the state of one key. ``theirs`` belongs to this store from now on.

        Return how many messages are lost, and the error of a merge that raised. Then ours stays.
        """
        ours = self.keys.get(key)
        if ours is None:
            self.keys[key] = theirs
            return 0, None
        lost, error = 0, None
        if self._merge is newest:
            loser = theirs if ours.applied >= theirs.applied else ours
            winner = ours if loser is theirs else theirs
            lost = _missing(winner, loser)
            ours.state = winner.state
        else:
            try:
                ours.state = self._merge(ours.state, theirs.state)
            except Exception as raised:
                lost, error = _missing(ours, theirs), raised
        ours.applied = max(ours.applied, theirs.applied)
        for source, number in theirs.lasts.items():
            if number > ours.lasts.get(source, 0):
                ours.lasts[source] = number
        for place, results in theirs.results.items():
            ours.results[place] = _both(ours.results.get(place, []), results)
        return lost, error

    def include(self, versions: Mapping[Lineage, int]) -> None:
        """From now on this store has the messages of a store with these versions."""
        for lineage, count in versions.items():
            if count > self.versions.get(lineage, -1):
                self.versions[lineage] = count
        self._forget_old_versions()

    def start_lineage(self, lineage: Lineage) -> None:
        """Count from here on under a new lineage."""
        self.versions[lineage] = 0
        self._forget_old_versions()

    def _forget_old_versions(self) -> None:
        while len(self.versions) > MAX_VERSIONS:
            del self.versions[next(iter(self.versions))]


def _as_results(given: object) -> list[Term]:
    """What ``apply`` has returned, as receivers get it. Raises TypeError, and EncodeError for something else."""
    if given is None:
        return []
    if isinstance(given, str | bytes | bytearray | Mapping) or not isinstance(given, Iterable):
        raise TypeError(f"apply() returns results in a list, or None, and not {type(given).__name__}")
    return [as_received(each) for each in given]


def _both(ours: list[Term], theirs: list[Term]) -> list[Term]:
    """The results of a message that both states have applied. Each side says what the other one does not know."""
    known = {exact_key(term) for term in ours}
    return ours + [term for term in theirs if exact_key(term) not in known]


def _missing(winner: KeyState[Any], loser: KeyState[Any]) -> int:
    """Messages that only the loser has. A source sends to one side at a time, and each side has all up to a number."""
    return sum(max(0, number - winner.lasts.get(source, 0)) for source, number in loser.lasts.items())
