"""A multiset of hashable values that costs little when it holds little.

Up to eight values it is a tuple, newest first, which two tables may share; beyond that it is a dict from value to
count, newest last, owned by one table and changed in place. Each function returns the multiset to keep from then on.
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
    """``values`` in front of ``bag``; the first of them counts as the newest."""
    if isinstance(bag, tuple):
        if len(bag) + len(values) <= MAX_TUPLE_SIZE:
            return (*values, *bag)
        bag = _to_dict(bag)
    for value in reversed(values):
        bag[value] = bag.pop(value, 0) + 1  # taken out and put back: the newest is the last
    return bag


def removed(bag: Multiset[T], value: T) -> Multiset[T] | None:
    """``bag`` with one ``value`` less, or None when it holds none."""
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
    """Every value as often as it is in, newest first."""
    if isinstance(bag, tuple):
        return list(bag)
    return [value for value in reversed(bag) for _ in range(bag[value])]


def counts(bag: Multiset[T]) -> Iterator[tuple[T, int]]:
    """Each different value with how often it is in."""
    return iter((_to_dict(bag) if isinstance(bag, tuple) else bag).items())


def size(bag: Multiset[T]) -> int:
    """How many values there are, repeated ones counted each time."""
    return len(bag) if isinstance(bag, tuple) else sum(bag.values())


def _to_dict(bag: tuple[T, ...]) -> dict[T, int]:
    spread: dict[T, int] = {}
    for value in reversed(bag):
        spread[value] = spread.pop(value, 0) + 1
    return spread
