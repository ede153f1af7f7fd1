"""Erlang's standard order of terms.

number < atom < reference < fun < port < pid < tuple < map < nil < list < bitstring. Numbers compare by value, tuples
and maps by size first, lists element by element.

:func:`sort_key` turns a term into one flat tuple of small parts that compares like the term. The parts of each term
start with the rank of its kind. So at the first difference, both tuples are at a rank or inside terms of equal kind.
"""

from __future__ import annotations

from math import copysign
from typing import Any, Final

from erlmesh.terms.atoms import Atom
from erlmesh.terms.maps import Map
from erlmesh.terms.values import BitString, Export, Fun, ImproperList, Pid, Port, Ref, Term

__all__ = ["sort_key"]

_NUMBER, _ATOM, _REF, _FUN, _PORT, _PID, _TUPLE, _MAP, _NIL, _CONS, _BITS = range(11)


def sort_key(term: Term) -> tuple[Any, ...]:
    """Return a key for ``sorted``, ``min`` and ``max`` in Erlang's standard order.

    ``1`` and ``1.0`` have equal keys, because they are ``==`` in Erlang. Raises ``TypeError`` for a value that is not a
    term, also for a list that contains itself.
    """
    return tuple(_flat(term, in_key=False))


class _Cons:
    """Marks, on the stack, that the next item is an element of a list and not its tail."""


_cons: Final = _Cons()


class _End:
    """Marks, on the stack, the end of a list or a dict."""

    def __init__(self, term: Term) -> None:
        self.term = term


def _flat(term: Term, *, in_key: bool) -> list[Any]:
    """Return the parts of the term's key.

    ``in_key`` is true inside the key of a map: there Erlang orders every integer before every float.
    """
    out: list[Any] = []
    pending = [term]
    opened: set[int] = set()
    while pending:
        item = pending.pop()
        if item is _cons:
            out.append(_CONS)
            continue
        if type(item) is _End:
            opened.discard(id(item.term))
            continue
        if isinstance(item, (list, dict)) and item:  # every cycle goes through one of these
            if id(item) in opened:
                raise TypeError(f"a {type(item).__name__} that contains itself is not an Erlang term")
            opened.add(id(item))
            pending.append(_End(item))
        if isinstance(item, tuple):
            out += (_TUPLE, len(item))
            pending.extend(reversed(item))
        elif isinstance(item, (list, ImproperList)):
            _push_list(item, pending, out)
        elif isinstance(item, (Map, dict)):
            keys, values = _sorted_pairs(item)
            out += (_MAP, len(keys))
            for key in keys:
                out += key
            pending.extend(reversed(values))
        elif isinstance(item, Fun):
            # The 0 orders closures before exports, which have 1 in `_leaf`.
            out += (_FUN, 0, item.module.name, item.index, item.old_uniq, len(item.free))
            pending.extend(reversed(item.free))
        else:
            out += _leaf(item, in_key=in_key)
    return out


def _push_list(term: list[Term] | ImproperList, pending: list[Any], out: list[Any]) -> None:
    if not term:
        out.append(_NIL)
        return
    elements, tail = (term, []) if isinstance(term, list) else (term.elements, term.tail)
    pending.append(tail)
    for element in reversed(elements):
        pending += (element, _cons)


def _sorted_pairs(term: Map | dict[Term, Term]) -> tuple[list[list[Any]], list[Term]]:
    pairs = sorted(((_flat(key, in_key=True), value) for key, value in term.items()), key=lambda pair: pair[0])
    return [key for key, _ in pairs], [value for _, value in pairs]


def _leaf(term: Term, *, in_key: bool) -> tuple[Any, ...]:
    match term:
        case bool():
            return _ATOM, "true" if term else "false"
        case int():
            return (_NUMBER, 0, term) if in_key else (_NUMBER, term)
        case float():
            # In a map's key -0.0 and 0.0 are two keys, and the sign orders them.
            return (_NUMBER, 1, term, copysign(1, term)) if in_key else (_NUMBER, term)
        case Atom():
            return _ATOM, term.name
        case Pid():
            return _PID, term.serial, term.id, term.node.name, term.creation
        case Ref():
            return _REF, term.node.name, term.creation, _significant(term.words)
        case Port():
            return _PORT, term.node.name, term.creation, term.id
        case Export():
            return _FUN, 1, term.module.name, term.function.name, term.arity
        case str():
            return _BITS, term.encode(), 0
        case bytes() | bytearray() | memoryview():
            return _BITS, bytes(term), 0
        case BitString():
            return _BITS, term.data, term.bits - 8  # negative: a bitstring is less than the binary with the same bytes
    raise TypeError(f"{type(term).__name__} is not an Erlang term")


def _significant(words: tuple[int, ...]) -> tuple[int, ...]:
    """Return the words of a reference so that they compare as one number: most significant first, no leading zeros."""
    number = words[::-1]
    while number and number[0] == 0:
        number = number[1:]
    return (len(number), *number)
