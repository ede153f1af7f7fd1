"""A multiset of hashable values that is cheap while it is small, and while it does not change.

It is a tuple, newest first, or a dict from value to count, newest last. A multiset that is made of values at once is a
tuple, whatever its size. The first change of a tuple with more than ``MAX_TUPLE_SIZE`` values makes it a dict. Tuples
are immutable, so two tables may share one. A dict has one owner, which changes it in place.

The functions that change a multiset return the one to keep. The argument must not be used any more, unless it is a
tuple.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar

__all__ = [
    "EMPTY",
    "MAX_TUPLE_SIZE",
    "Multiset",
    "added",
    "as_tuple",
    "count_of",
    "counts",
    "listed",
    "removed",
    "removed_counts",
    "removed_each",
    "shareable",
    "size",
]

T = TypeVar("T", bound=Hashable)


class _Counts(dict[T, int]):
    """The number of occurrences of each value. ``total`` is their sum, so that it need not be computed."""

    __slots__ = ("total",)

    total: int

    def copy(self) -> _Counts[T]:
        copy = _Counts(self)
        copy.total = self.total
        return copy


Multiset: TypeAlias = tuple[T, ...] | _Counts[T]

EMPTY: Final[tuple[()]] = ()
MAX_TUPLE_SIZE: Final = 8


def added(bag: Multiset[T], values: Sequence[T]) -> Multiset[T]:
    """Add ``values`` in front of ``bag``. The first of them counts as the newest."""
    if not bag:
        return tuple(values)
    if isinstance(bag, tuple):
        if len(bag) + len(values) <= MAX_TUPLE_SIZE:
            return (*values, *bag)
        bag = _to_dict(bag)
    for value in reversed(values):
        bag[value] = bag.pop(value, 0) + 1  # Removed and inserted again: the newest is the last key.
    bag.total += len(values)
    return bag


def removed(bag: Multiset[T], value: T) -> Multiset[T] | None:
    """Remove one ``value``. Return None if ``bag`` does not contain it: then keep ``bag``."""
    found, rest = removed_each(bag, (value,))
    return rest if found else None


def removed_each(bag: Multiset[T], values: Sequence[T]) -> tuple[list[T], Multiset[T]]:
    """Remove each of ``values`` once. Return the values that were in ``bag``, and the rest.

    Keep the rest also if nothing was found. A long tuple is a dict then, so the next search is fast.
    """
    if isinstance(bag, tuple):
        if len(bag) <= MAX_TUPLE_SIZE:
            return _removed_from_tuple(bag, values)
        bag = _to_dict(bag)
    found = []
    for value in values:
        count = bag.get(value, 0)
        if count == 0:
            continue
        found.append(value)
        if count == 1:
            del bag[value]
        else:
            bag[value] = count - 1
    bag.total -= len(found)
    return found, bag


def removed_counts(bag: Multiset[T], wanted: Mapping[T, int], times: int) -> tuple[list[T], Multiset[T]]:
    """Remove each value at most ``times`` as often as ``wanted`` says. Return the removed values, and the rest to keep.

    The time is that of the smaller of the two.
    """
    if isinstance(bag, tuple) and len(bag) > MAX_TUPLE_SIZE:
        bag = _to_dict(bag)
    if isinstance(bag, tuple):
        counted = {value: bag.count(value) for value in bag if value in wanted}
    else:
        common = wanted if len(wanted) <= len(bag) else [value for value in bag if value in wanted]
        counted = {value: bag.get(value, 0) for value in common}
    return removed_each(
        bag, [value for value, count in counted.items() for _ in range(min(count, times * wanted[value]))]
    )


def _removed_from_tuple(bag: tuple[T, ...], values: Sequence[T]) -> tuple[list[T], tuple[T, ...]]:
    found = []
    for value in values:
        try:
            index = bag.index(value)
        except ValueError:
            continue
        bag = bag[:index] + bag[index + 1 :]
        found.append(value)
    return found, bag


def shareable(bag: Multiset[T]) -> Multiset[T]:
    """Return a multiset with the same values for another table: ``bag`` itself if it is a tuple, else a copy."""
    return bag if isinstance(bag, tuple) else bag.copy()


def as_tuple(bag: Multiset[T]) -> tuple[T, ...]:
    """Every value as often as it occurs, newest first. The time is constant if ``bag`` is a tuple."""
    if isinstance(bag, tuple):
        return bag
    return tuple(reversed(bag)) if bag.total == len(bag) else tuple(listed(bag))


def listed(bag: Multiset[T]) -> list[T]:
    """Every value as often as it occurs, newest first."""
    if isinstance(bag, tuple):
        return list(bag)
    if bag.total == len(bag):  # No value is repeated, which is the common case, and ten times as fast.
        return list(reversed(bag))
    return [value for value in reversed(bag) for _ in range(bag[value])]


def counts(bag: Multiset[T]) -> Iterator[tuple[T, int]]:
    """Each distinct value with its number of occurrences."""
    return iter((_to_dict(bag) if isinstance(bag, tuple) else bag).items())


def count_of(bag: Multiset[T], value: T) -> int:
    """How often ``value`` occurs."""
    return bag.count(value) if isinstance(bag, tuple) else bag.get(value, 0)


def size(bag: Multiset[T]) -> int:
    """The number of values, with multiplicity. The time is constant."""
    return len(bag) if isinstance(bag, tuple) else bag.total


def _to_dict(bag: tuple[T, ...]) -> _Counts[T]:
    """Convert a tuple to the dict form."""
    counted = _Counts(dict.fromkeys(reversed(bag), 1))
    counted.total = len(bag)
    if len(counted) < len(bag):
        counted.clear()
        for value in reversed(bag):
            counted[value] = counted.pop(value, 0) + 1
    return counted
