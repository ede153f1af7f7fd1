"""Whether the parts of a message to the server of a scope have the types that the protocol gives them.

A peer can send any term. The lists can be long, so no Python code runs for each pid.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeGuard

from erlmesh import native
from erlmesh.terms import Atom, Pid, Term

__all__ = ["are_on", "is_sync_of", "parse_pids"]

_node_of = attrgetter("node")
_PID: Final = frozenset({Pid})


def parse_pids(value: Term) -> list[Pid] | None:
    """A pid or a list of pids as a list; None for another term."""
    if type(value) is Pid:
        return [value]
    if type(value) is list and _are_pids(value):
        return value
    return None


def is_sync_of(node: Atom, value: Term) -> TypeGuard[list[tuple[Term, list[Pid]]]]:
    """True for ``[{Group, [Pid]}]`` with processes of ``node`` only."""
    return _is_sync(value) and are_on(node, chain.from_iterable(pids for _, pids in value))


pure_is_sync_of: Final = is_sync_of
"""``is_sync_of`` in Python."""

if not TYPE_CHECKING and native.module is not None:
    is_sync_of = native.module.is_sync_of


def are_on(node: Atom, pids: Iterable[Pid]) -> bool:
    """True if all are processes of ``node``. A BEAM's pg lets only its own processes join."""
    return {*map(_node_of, pids)} <= {node}


def _is_sync(value: Term) -> TypeGuard[list[tuple[Term, list[Pid]]]]:
    if type(value) is not list or not {*map(type, value)} <= {tuple} or not {*map(len, value)} <= {2}:
        return False
    members = [pids for _, pids in value]
    return {*map(type, members)} <= {list} and _are_pids(chain.from_iterable(members))


def _are_pids(values: Iterable[Term]) -> bool:
    return {*map(type, values)} <= _PID
