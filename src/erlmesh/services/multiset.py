"""A multiset of hashable values that is cheap while it is small.

Up to ``MAX_TUPLE_SIZE`` values it is a tuple, newest first. Tuples are immutable, so two tables may share one. Beyond
that it is a dict from value to count, newest last. One table owns the dict and changes it in place.

Each function returns the multiset to keep. The argument must not be used any more.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

__all__ = ["EMPTY", "Multiset", "added", "counts", "listed", "removed", "size"]

T = TypeVar("T", bound=Hashable)

Multiset: TypeAlias = tuple[T, ...] | dict[T, int]

EMPTY: Final[tuple[()]] = ()
MAX_TUPLE_SIZE: Final = 8


def added(bag: Multiset[T], values: Sequence[T]) -> Multiset[T]:
    """Add ``values`` in front of ``bag``. The first of them counts as the newest."""
    if isinstance(bag, tuple):
        if len(bag) + len(values) <= MAX_TUPLE_SIZE:
            return (*values, *bag)
        bag = _to_dict(bag)
    for value in reversed(values):
        bag[value] = bag.pop(value, 0) + 1  # Removed and inserted again: the newest is the last key.
    return bag


def removed(bag: Multiset[T], value: T) -> Multiset[T] | None:
    """Remove one ``value``. Return None if ``bag`` does not contain it."""
    if isinstance(bag, tuple):
        if value not in bag:
            return None
        index = bag.index(value)
        return bag[:index] + bag[index + 1 :]
    count = bag.get(value, 0)
    if count == 0:
        return None
    if count == 1:
        del bag[value]
    else:
        bag[value] = count - 1
    return bag


def listed(bag: Multiset[T]) -> list[T]:
    """Every value as often as it occurs, newest first."""
    if isinstance(bag, tuple):
        return list(bag)
    return [value for value in reversed(bag) for _ in range(bag[value])]


def counts(bag: Multiset[T]) -> Iterator[tuple[T, int]]:
    """Each distinct value with its number of occurrences."""
    return iter((_to_dict(bag) if isinstance(bag, tuple) else bag).items())


def size(bag: Multiset[T]) -> int:
    """The number of values, with multiplicity."""
    return len(bag) if isinstance(bag, tuple) else sum(bag.values())


def _to_dict(bag: tuple[T, ...]) -> dict[T, int]:
    """Convert a tuple to the dict form."""
    counted: dict[T, int] = {}
    for value in reversed(bag):
        counted[value] = counted.pop(value, 0) + 1
    return counted
