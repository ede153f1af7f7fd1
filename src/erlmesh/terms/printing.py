"""The loop that formats a term of any depth in any notation.

A notation is a table from a Python type to its formatter. The formatter of a leaf returns a ``str``. The formatter of
a container returns a list of :class:`Text` and of terms that the loop still has to format.

The table of Erlang's notation lives here because the term classes print with it. :mod:`erlmesh.terms.erlang` fills it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

__all__ = ["ERLANG_FORMATTERS", "ErlangRepr", "ErlangStr", "Formatters", "Text", "format_term", "joined"]


class Text(str):
    """Finished text in a list of terms. (A plain ``str`` there is a term: a binary.)"""

    __slots__ = ()


class _End:
    """Marks, on the stack, the end of a list or a dict."""

    __slots__ = ("term",)

    def __init__(self, term: Any) -> None:
        self.term = term


Formatted: TypeAlias = "str | list[Any]"
Formatters: TypeAlias = "dict[type, Callable[[Any], Formatted]]"

ERLANG_FORMATTERS: Formatters = {}


def format_term(term: Any, formatters: Formatters, limit: int | None = None) -> str:
    """Return the term as text on one line. A value that is not a term appears as its ``repr``.

    A list or a dict inside itself appears as ``...``, so that a log line about a wrong value ends. With ``limit``, the
    text is not continued after so many characters, and is a little longer than that if something is missing.
    """
    out: list[str] = []
    left, counted = limit, 0
    pending = [term]
    opened: set[int] = set()
    while pending:
        item = pending.pop()
        if left is not None:
            left -= sum(map(len, out[counted:]))
            counted = len(out)
            if left < 0:
                break
            if isinstance(item, (bytes, str)) and type(item) is not Text:
                item = item[: left + 1]
        if type(item) is Text:
            out.append(item)
            continue
        if type(item) is _End:
            opened.discard(id(item.term))
            continue
        if isinstance(item, (list, dict)):  # every cycle goes through one of these
            if id(item) in opened:
                out.append("...")
                continue
            opened.add(id(item))
            pending.append(_End(item))
        formatted = _formatter_for(type(item), formatters)(item)
        if isinstance(formatted, str):
            out.append(formatted)
        else:
            pending.extend(reversed(formatted))  # the stack gives them back in order
    return "".join(out)


def joined(opening: str, terms: Iterable[Any], separator: Text, closing: str) -> list[Any]:
    """Return the pieces of a bracketed sequence."""
    pieces: list[Any] = [Text(opening)]
    for term in terms:
        pieces += (term, separator)
    # The closing bracket replaces the last separator, if there is one.
    pieces[-1 if len(pieces) > 1 else 1 :] = [Text(closing)]
    return pieces


def _formatter_for(kind: type, formatters: Formatters) -> Callable[[Any], Formatted]:
    for ancestor in kind.__mro__:
        formatter = formatters.get(ancestor)
        if formatter is not None:
            return formatter
    return repr


class ErlangStr:
    """Base of terms whose ``str`` is Erlang's notation."""

    __slots__ = ()

    def __str__(self) -> str:
        return format_term(self, ERLANG_FORMATTERS)


class ErlangRepr(ErlangStr):
    """Base of terms whose ``repr`` equals their ``str``, so that they print alike alone and inside a list."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
