"""Format results and errors. Terms look as in iex, other values as in Python; an error is one line and its frames."""

from __future__ import annotations

import linecache
import traceback
from pathlib import Path
from typing import Any, Final

from erlmesh.formatting import format_elixir
from erlmesh.shell.exits import ShellError
from erlmesh.shell.tables import Table
from erlmesh.terms import Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref
from erlmesh.terms.foreign_text import printable_lines

__all__ = ["cache_source", "format_error", "format_term", "format_value"]

_TERM_TYPES: Final = (Atom, BitString, Export, Fun, ImproperList, Map, Pid, Port, Ref)
# Frames of erlmesh and of Python's standard library are not shown in tracebacks.
_HIDDEN_PATHS: Final = (str(Path(__file__).parent.parent), str(Path(linecache.__file__).parent))
_MAX_DEPTH: Final = 50  # deeper nesting is not searched for terms
_MAX_FRAMES: Final = 8


def format_value(value: Any, *, is_elixir: bool = False) -> str:
    """Return ``value`` as the shell prints it: like iex if it contains a term, else its ``repr``.

    With ``is_elixir``, a bool is a term too: it prints as ``true`` or ``false``.
    """
    if is_elixir and _contains_term(value, (*_TERM_TYPES, bool)):
        return format_term(value)
    if isinstance(value, Table):
        return printable_lines(value.text())
    if _contains_term(value):
        return format_term(value)
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__qualname__} whose repr failed: {error!r}>"


def format_term(value: Any) -> str:
    """Return ``value`` as iex prints it, or its ``repr`` if it is not a term."""
    try:
        return printable_lines(format_elixir(value))  # The notation keeps marks that change the direction of text.
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _contains_term(value: Any, types: tuple[type, ...] = _TERM_TYPES, depth: int = 0) -> bool:
    if isinstance(value, types):
        return True
    if depth < _MAX_DEPTH and type(value) in (list, tuple):
        return any(_contains_term(part, types, depth + 1) for part in value)
    if depth < _MAX_DEPTH and type(value) is dict:
        return any(_contains_term(part, types, depth + 1) for pair in value.items() for part in pair)
    return False


def format_error(error: BaseException, message: str | None = None) -> str:
    """Return ``** (ZeroDivisionError) division by zero``, followed by the frames of the user's own code.

    ``message`` replaces that of the error. Then a syntax error has no position: the message is about the whole line.
    """
    kind = error.kind if isinstance(error, ShellError) else type(error).__name__
    lines = [printable_lines(f"** ({kind}) {_message(error) if message is None else message}".rstrip())]
    if isinstance(error, SyntaxError) and message is not None:
        return lines[0]
    if isinstance(error, SyntaxError) and error.text:
        lines += _caret(error)
    else:
        lines += _user_frames(error)
    return "\n".join(lines)


def _message(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg
    if isinstance(error, KeyError) and len(error.args) == 1:
        return f"no such key: {format_value(error.args[0])}"
    if len(error.args) == 1 and _contains_term(error.args[0]):
        return format_term(error.args[0])  # an exit reason
    return str(error)


def _caret(error: SyntaxError) -> list[str]:
    text = (error.text or "").rstrip("\n")
    stripped = text.lstrip()
    lines = [f"    {stripped}"]
    if error.offset:
        lines.append("    " + " " * max(0, error.offset - 1 - (len(text) - len(stripped))) + "^")
    return lines


def _user_frames(error: BaseException) -> list[str]:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*_HIDDEN_PATHS, "<frozen"))
    ]
    typed = [frame for frame in frames if frame.filename.startswith("<py ")]
    if len(frames) == 1 and typed and typed[0].name == "<module>" and _is_one_line(typed[0].filename):
        return []  # the only frame is the line itself, which is already on the screen
    lines = []
    for frame in frames[-_MAX_FRAMES:]:
        where = f"{frame.filename}:{frame.lineno}" + ("" if frame.name == "<module>" else f" in {frame.name}")
        lines.append(f"    {where}" + (f": {frame.line}" if frame.line else ""))
    return lines


def _is_one_line(filename: str) -> bool:
    return len(linecache.getlines(filename)) <= 1


def cache_source(filename: str, source: str) -> None:
    """Store typed source so that tracebacks and ``inspect.getsource`` can show it."""
    lines = [line + "\n" for line in source.splitlines()]
    linecache.cache[filename] = (len(source), None, lines, filename)
    if len(linecache.cache) > 2_000:
        linecache.checkcache()
