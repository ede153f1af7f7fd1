"""The one way in which what others have said goes into a log line or onto a terminal.

A term of another node may be huge, nested a million times, or contain escape codes for a terminal. So the text is cut
before it is built, every character that is not printable is spelt out, and nothing is stored and nothing is raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from erlmesh.terms.atoms import Atom
from erlmesh.terms.maps import Map
from erlmesh.terms.values import Pid, Ref

__all__ = [
    "MAX_LENGTH",
    "ForeignText",
    "foreign_text",
    "loggable_error",
    "printable",
    "printable_lines",
    "printable_sentence",
]

MAX_LENGTH: Final = 200
"""Characters of a text, without the ``…`` that says that something is missing."""
MAX_SENTENCE: Final = 1000
"""Characters of a sentence of this node about another one."""
MAX_DECIMAL_BITS: Final = 256
"""Integers with more bits are only described."""


class ForeignText:
    """``value`` as an argument of a log call. Its text is made when the line is written."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return foreign_text(self._value)

    __repr__ = __str__


def foreign_text(value: object) -> str:
    """Return ``value`` (a term, a text or an exception) as at most about ``MAX_LENGTH`` printable characters."""
    try:
        return _cut(_text_of(value))
    except Exception:  # whatever it is, it must not reach the caller, which is logging
        return f"<{type(value).__name__}>"


def loggable_error(error: BaseException) -> BaseException:
    """Return ``error``, or one with the same type name, stack and a short printable text instead.

    The text of an exception often quotes an argument, which another node may have chosen.
    """
    if error.__cause__ is None and error.__context__ is None and not getattr(error, "__notes__", None):
        try:
            text = str(error)
        except (Exception, SystemExit):
            text = ""
        if text and len(text) <= MAX_LENGTH and text.isprintable():
            return error
    shown = type(type(error).__name__, (Exception,), {"__module__": type(error).__module__})
    replaced: Exception = shown(_cut(_exception_text(error)))
    return replaced.with_traceback(error.__traceback__)


def printable(text: str) -> str:
    r"""Return ``text`` with each character that is not printable spelt out: ``\x1b``, ``\u202e``.

    That includes controls, line separators, marks that change the direction of the text, and surrogates.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _spelt_out(character) for character in text)


def printable_sentence(sentence: object) -> str:
    """Return a sentence of this node, in which names that others have chosen may stand, as printable text."""
    return printable(str(sentence)[:MAX_SENTENCE])


def printable_lines(text: str) -> str:
    """Return a text with each of its lines :func:`printable`. The line feeds stay."""
    return "\n".join(map(printable, text.split("\n")))


def _spelt_out(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return {9: "\\t", 10: "\\n", 13: "\\r"}.get(code, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _cut(text: str) -> str:
    shown = printable(text[: MAX_LENGTH + 1])
    return shown if len(shown) <= MAX_LENGTH else shown[:MAX_LENGTH] + "…"


def _text_of(value: object) -> str:
    if isinstance(value, str):
        return value[: MAX_LENGTH + 1]
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {_exception_text(value)}"
    return _term_text(value)


def _exception_text(error: BaseException) -> str:
    try:
        return str(error)[:MAX_LENGTH]
    except (Exception, SystemExit):  # its own __str__ failed
        return "(its text cannot be made)"


class _Text(str):
    """A finished piece, where a plain ``str`` is a term."""

    __slots__ = ()


def _term_text(term: Any) -> str:
    """Return the beginning of a term in a notation like Erlang's. Each step adds a piece, so the work is bounded."""
    pieces: list[str] = []
    length = 0
    pending: list[Any] = [term]
    while pending and length <= MAX_LENGTH:
        item = pending.pop()
        formatted = item if type(item) is _Text else _formatted(item)
        if isinstance(formatted, str):
            pieces.append(formatted)
            length += len(formatted)
        else:
            pending.extend(reversed(formatted))
    return "".join(pieces) + ("…" if pending else "")


def _formatted(item: Any) -> str | list[Any]:
    """Return the text of a leaf, or the pieces and the first items of a container."""
    match item:
        case Atom():
            return str(item.name[:MAX_LENGTH])
        case bool():
            return "true" if item else "false"
        case int() if item.bit_length() > MAX_DECIMAL_BITS:
            return f"<integer of {item.bit_length()} bits>"
        case int() | float():
            return str(item)
        case str():
            return repr(item[:MAX_LENGTH])
        case bytes() | bytearray() | memoryview():
            return repr(bytes(item[:MAX_LENGTH]))
        case tuple():
            return _sequence("{", item, "}")
        case list():
            return _sequence("[", item, "]")
        case Map() | Mapping():
            return _mapping(item)
        case Pid():
            # The usual notation would give each node that is printed a number, for ever.
            return f"<{item.node.name[:MAX_LENGTH]} {item.id}.{item.serial}>"
        case Ref():
            return f"<reference of {item.node.name[:MAX_LENGTH]}>"
    return f"<{type(item).__name__}>"


def _sequence(opening: str, items: Iterable[Any], closing: str) -> list[Any]:
    # More items than characters cannot be shown.
    pieces: list[Any] = [_Text(opening)]
    for item in islice(items, MAX_LENGTH):
        pieces += (item, _Text(","))
    pieces[-1 if len(pieces) > 1 else 1 :] = [_Text(closing)]
    return pieces


def _mapping(mapping: Any) -> list[Any]:
    pieces: list[Any] = [_Text("#{")]
    for key, value in islice(mapping.items(), MAX_LENGTH):
        pieces += (key, _Text(" => "), value, _Text(","))
    pieces[-1 if len(pieces) > 1 else 1 :] = [_Text("}")]
    return pieces
