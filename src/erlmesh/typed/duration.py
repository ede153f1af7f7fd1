"""Elixir's ``Duration`` (Elixir 1.17 and later) ↔ Python's ``timedelta``."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from erlmesh.terms import Atom, Map
from erlmesh.typed.structs import STRUCT

__all__ = ["DURATION", "duration_from_term", "duration_to_term"]

DURATION: Final = Atom("Elixir.Duration")
_SECONDS: Final = {"week": 604_800, "day": 86_400, "hour": 3_600, "minute": 60, "second": 1}
_MICROSECOND: Final = Atom("microsecond")
_PRECISION: Final = 6


def duration_to_term(value: timedelta) -> Map:
    """Return a ``Duration`` of seconds and microseconds, both with the sign of ``value``.

    It has no days: a day of a ``timedelta`` has 24 hours, and ``DateTime.shift/2`` may shift a day by 23 or 25.
    """
    total = value // timedelta(microseconds=1)
    seconds, microseconds = divmod(abs(total), 1_000_000)
    sign = -1 if total < 0 else 1
    numbers = {Atom(name): 0 for name in ("year", "month", *_SECONDS)}
    numbers[Atom("second")] = sign * seconds
    return Map({STRUCT: DURATION, **numbers, _MICROSECOND: (sign * microseconds, _PRECISION)})


def duration_from_term(term: Map) -> timedelta:
    """Return the time. A week has seven days, and a day 24 hours.

    Raises ValueError for years and months, whose length is not fixed, and for fields that Elixir does not write.
    """
    if _number(term, "year") or _number(term, "month"):
        raise ValueError("it has years or months, which have no fixed length")
    seconds = sum(_number(term, name) * length for name, length in _SECONDS.items())
    match term.get(_MICROSECOND):
        case (int() as microseconds, int()):
            return timedelta(seconds=seconds, microseconds=microseconds)
    raise ValueError("its field microsecond is not {Microsecond, Precision}")


def _number(term: Map, name: str) -> int:
    value = term.get(Atom(name))
    if type(value) is int:
        return value
    raise ValueError(f"its field {name} is not an integer")
