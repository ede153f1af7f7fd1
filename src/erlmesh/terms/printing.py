"""The loop that prints a term, whatever the notation and however deep the term.

A notation is a table from a Python type to the function that spells it. A leaf is spelt as a ``str``; a container
as a list of :class:`Text` and of terms that are yet to be spelt. The table of Erlang's notation is kept here, and
filled by :mod:`erlmesh.terms.erlang`, because the terms themselves print by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

__all__ = ["ERLANG", "Notation", "Printed", "Text", "joined", "spell"]


class Text(str):
    """Ready text among terms (where a plain ``str`` would be a term: a binary)."""

    __slots__ = ()


Spelling: TypeAlias = "str | list[Any]"
Notation: TypeAlias = "dict[type, Callable[[Any], Spelling]]"

ERLANG: Notation = {}


def spell(term: Any, notation: Notation) -> str:
    """The term as text on one line. What is no term is shown by its ``repr``."""
    out: list[str] = []
    pending = [term]
    while pending:
        item = pending.pop()
        if type(item) is Text:
            out.append(item)
            continue
        spelling = _speller(type(item), notation)(item)
        if isinstance(spelling, str):
            out.append(spelling)
        else:
            pending.extend(reversed(spelling))
    return "".join(out)


def joined(opening: str, terms: Iterable[Any], separator: Text, closing: str) -> list[Any]:
    """The pieces of a bracketed sequence."""
    pieces: list[Any] = [Text(opening)]
    for term in terms:
        pieces += (term, separator)
    pieces[-1 if len(pieces) > 1 else 1 :] = [Text(closing)]
    return pieces


def _speller(kind: type, notation: Notation) -> Callable[[Any], Spelling]:
    for ancestor in kind.__mro__:
        speller = notation.get(ancestor)
        if speller is not None:
            return speller
    return repr


class Printed:
    """A term whose ``str`` is Erlang's notation."""

    __slots__ = ()

    def __str__(self) -> str:
        return spell(self, ERLANG)
