"""What an exception of Python is in Erlang: one of the three classes, a reason, and a stack to read."""

from __future__ import annotations

import traceback
from types import CodeType, FrameType
from typing import Final

from erlmesh.errors import ErlangError, Exit, Throw
from erlmesh.terms import Atom, Term

__all__ = ["ERROR", "EXIT", "THROW", "TermExit", "exit_reason", "to_erlang"]

THROW: Final = Atom("throw")
EXIT: Final = Atom("exit")
ERROR: Final = Atom("error")
NOCATCH: Final = Atom("nocatch")
FILE: Final = Atom("file")
LINE: Final = Atom("line")
MAX_DEPTH: Final = 20
"""Calls shown at most, the innermost first. A BEAM shows 8; Python's frames say less each."""
_INTERNAL_MODULES: Final = ("erlmesh.runtime.", "erlmesh.services.", "erlmesh.otp_functions")
_VARARGS: Final = 0x04


class TermExit(Exit):
    """An exit whose reason is known to be a term: it may be large, and is looked at once less."""


def to_erlang(exception: Exception) -> tuple[Atom, Term, list[Term]]:
    """``(throw | exit | error, reason, stack)``; the reason of a Python fault is ``{'ValueError', <<"its text">>}``."""
    if isinstance(exception, Exit):
        return EXIT, exception.reason, []
    if isinstance(exception, Throw):
        return THROW, exception.value, _stack(exception)
    if isinstance(exception, ErlangError):
        return ERROR, exception.reason, _stack(exception) if exception.stack is None else exception.stack
    return ERROR, (_atom(type(exception).__name__), _text(exception)), _stack(exception)


def exit_reason(exception: Exception) -> Term:
    """The reason a process ends with when ``fault`` leaves its body."""
    kind, reason, stack = to_erlang(exception)
    if kind is EXIT:
        return reason
    return ((NOCATCH, reason) if kind is THROW else reason, stack)


def _stack(exception: Exception) -> list[Term]:
    calls = list(traceback.walk_tb(exception.__traceback__))
    while calls and _module(calls[0][0]).startswith(_INTERNAL_MODULES):  # how the function was come to
        del calls[0]
    return [_stack_entry(frame, line) for frame, line in reversed(calls[-MAX_DEPTH:])]


def _stack_entry(frame: FrameType, line: int) -> Term:
    code, module = frame.f_code, _module(frame)
    name = code.co_qualname.replace("<locals>.", "")
    place = [(FILE, list(_file(code, module).encode())), (LINE, line)]
    return (_atom(module), _atom(name), code.co_argcount + bool(code.co_flags & _VARARGS), place)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))


def _file(code: CodeType, module: str) -> str:
    """The path below the package, as a stack of Erlang names a source: no business of this machine's folders."""
    parts = code.co_filename.split("/")
    within_package = module.count(".") + (parts[-1] == "__init__.py")
    return "/".join(parts[-1 - within_package :])


def _atom(name: str) -> Atom:
    return Atom(name[:255].encode("utf-8", "replace").decode())


def _text(exception: Exception) -> str:
    try:
        return str(exception).encode("utf-8", "backslashreplace").decode()
    except Exception:
        return object.__repr__(exception)
