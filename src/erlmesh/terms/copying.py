"""Messages are values: what is sent must not change at the receiver when its sender changes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from erlmesh.terms.maps import Map
from erlmesh.terms.values import ImproperList, Term

__all__ = ["copy_term"]


def copy_term(term: Term) -> Term:
    """``term`` with lists, dicts and bytearrays of its own, wherever they are in it; the rest is the same objects.

    What is no term is not looked into, nor is a term that is nested more deeply than Python's recursion goes.
    """
    copy = _COPIERS.get(type(term))
    if copy is None:
        return term
    try:
        return copy(term)
    except RecursionError:
        return term


def _list(term: Any) -> list[Term]:
    copies = _COPIERS
    return [copies[type(part)](part) if type(part) in copies else part for part in term]


def _tuple(term: tuple[Term, ...]) -> tuple[Term, ...]:
    for part in term:
        if type(part) in _COPIERS:
            return tuple(_list(term))
    return term


def _improper(term: ImproperList) -> ImproperList:
    elements, tail = _tuple(term.elements), copy_term(term.tail)
    return term if elements is term.elements and tail is term.tail else ImproperList(elements, tail)


def _dict(term: dict[Term, Term]) -> dict[Term, Term]:
    return dict(zip(term, _list(term.values()), strict=True))  # a key cannot change: it has a hash


def _map(term: Map) -> Map:
    return Map(zip(_list(term), _list(value for _, value in term.items()), strict=True))


_COPIERS: Final[dict[type, Callable[[Any], Any]]] = {
    tuple: _tuple,
    list: _list,
    dict: _dict,
    bytearray: bytearray.copy,
    ImproperList: _improper,
    Map: _map,
}
