"""Copying of messages between processes of one node.

A message is a value: a later change by the sender must not change it at the receiver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from erlmesh.terms.maps import Map
from erlmesh.terms.values import ImproperList, Term

__all__ = ["copy_term"]


def copy_term(term: Term) -> Term:
    """Return ``term`` with copies of all lists, dicts and bytearrays in it. All other objects are shared.

    Objects that are not terms are shared without a look inside. So is a term that is nested deeper than Python's
    recursion limit.
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
    return dict(zip(term, _list(term.values()), strict=True))  # keys are hashable, so they are immutable and shared


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
