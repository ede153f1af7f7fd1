"""The loop that prints a term, whatever the notation and however deep the term.

A notation is a table from a Python type to the function that spells it. A leaf is spelt as a ``str``; a container
as a list of :class:`Text` and of terms that are yet to be spelt. The table of Erlang's notation is kept here, and
filled by :mod:`erlmesh.terms.erlang`, because the terms themselves print by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

__all__ = ["ERLANG_FORMATTERS", "ErlangStr", "Formatters", "Text", "format_term", "joined"]


class Text(str):
    """Ready text among terms (where a plain ``str`` would be a term: a binary)."""

    __slots__ = ()


Formatted: TypeAlias = "str | list[Any]"
Formatters: TypeAlias = "dict[type, Callable[[Any], Formatted]]"

ERLANG_FORMATTERS: Formatters = {}


def format_term(term: Any, formatters: Formatters) -> str:
    """The term as text on one line. What is no term is shown by its ``repr``."""
    out: list[str] = []
    pending = [term]
    while pending:
        item = pending.pop()
        if type(item) is Text:
            out.append(item)
            continue
        spelling = _formatter_for(type(item), formatters)(item)
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


def _formatter_for(kind: type, formatters: Formatters) -> Callable[[Any], Formatted]:
    for ancestor in kind.__mro__:
        speller = formatters.get(ancestor)
        if speller is not None:
            return speller
    return repr


class ErlangStr:
    """A term whose ``str`` is Erlang's notation."""

    __slots__ = ()

    def __str__(self) -> str:
        return format_term(self, ERLANG_FORMATTERS)
