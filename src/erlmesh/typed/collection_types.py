"""Elixir's ``Decimal``, ``MapSet`` and ``Range`` ↔ Python's ``Decimal``, ``frozenset`` and ``range``."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from erlmesh.terms import Atom, Map, Term
from erlmesh.typed.structs import STRUCT

__all__ = [
    "DECIMAL",
    "MAP_SET",
    "RANGE",
    "decimal_from_term",
    "decimal_to_term",
    "elements_of_map_set",
    "map_set_to_term",
    "range_from_term",
    "range_to_term",
]

DECIMAL, MAP_SET, RANGE = (Atom(f"Elixir.{name}") for name in ("Decimal", "MapSet", "Range"))
_SIGN, _COEF, _EXP = map(Atom, ("sign", "coef", "exp"))
_NAN, _INF = Atom("NaN"), Atom("inf")
_FIRST, _LAST, _STEP = map(Atom, ("first", "last", "step"))
_MAP: Final = Atom("map")
MAX_DIGITS: Final = 4_000
"""Digits of a number and of its exponent. Python computes with all digits, so a peer must not choose them freely."""


def decimal_to_term(value: Decimal) -> Map:
    """Return the struct of the library ``decimal``. Raises ValueError for a signalling NaN, which it does not have."""
    sign, digits, exponent = value.as_tuple()
    if value.is_snan():
        raise ValueError("Elixir's Decimal has no signalling NaN")
    coefficient: Term = int("".join(map(str, digits)) or "0")
    if not isinstance(exponent, int):
        coefficient, exponent = (_INF if value.is_infinite() else _NAN), 0
    return Map({STRUCT: DECIMAL, _SIGN: -1 if sign else 1, _COEF: coefficient, _EXP: exponent})


def decimal_from_term(term: Map) -> Decimal:
    """Return the number. Raises ValueError if a field is not what the library writes."""
    sign, coefficient, exponent = (term.get(key) for key in (_SIGN, _COEF, _EXP))
    if sign not in (1, -1) or type(exponent) is not int:
        raise ValueError("its field sign or exp is not a number as Elixir's Decimal has it")
    prefix = "-" if sign == -1 else ""
    if coefficient is _NAN or coefficient is _INF:
        return Decimal(prefix + ("NaN" if coefficient is _NAN else "Infinity"))
    if type(coefficient) is not int or coefficient < 0:
        raise ValueError("its field coef is not a number as Elixir's Decimal has it")
    if coefficient.bit_length() > MAX_DIGITS * 3 or abs(exponent) > MAX_DIGITS:
        raise ValueError(f"it has more than {MAX_DIGITS} digits")
    return Decimal((int(sign == -1), tuple(map(int, str(coefficient))), exponent))


def map_set_to_term(elements: Iterable[Term]) -> Map:
    """Return a ``MapSet`` of terms in the form of Elixir 1.15 and later.

    Elixir 1.14 reads it, too. There the set is equal by ``MapSet.equal?/2`` and not by ``==``.
    """
    return Map({STRUCT: MAP_SET, _MAP: Map((element, []) for element in elements)})


def elements_of_map_set(term: Map) -> list[Term]:
    """Return the elements of a ``MapSet``. Raises ValueError if it is not one as Elixir makes it."""
    elements = term.get(_MAP)
    if isinstance(elements, Map):
        return list(elements)
    raise ValueError("its field map is not a map")


def range_to_term(value: range) -> Map:
    """Return a ``Range``, whose end is a part of it in Elixir. An empty range becomes an empty one."""
    last = value[-1] if value else value.start - (1 if value.step > 0 else -1)
    return Map({STRUCT: RANGE, _FIRST: value.start, _LAST: last, _STEP: value.step})


def range_from_term(term: Map) -> range:
    """Return the range with the same numbers. Raises ValueError if a field is not an integer."""
    first, last, step = (term.get(key) for key in (_FIRST, _LAST, _STEP))
    if type(first) is not int or type(last) is not int or type(step) is not int or step == 0:
        raise ValueError("its field first, last or step is not a valid integer")
    return range(first, last + (1 if step > 0 else -1), step)
