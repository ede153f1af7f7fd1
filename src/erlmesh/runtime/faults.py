"""What an exception of Python is in Erlang: one of the three classes, a reason, and a stack to read."""

from __future__ import annotations

import traceback
from types import CodeType, FrameType
from typing import Final

from erlmesh.errors import ErlangError, Exit, Throw
from erlmesh.terms import Atom, Term

__all__ = ["ERROR", "EXIT", "THROW", "Outcome", "exit_reason", "fault_of"]

THROW: Final = Atom("throw")
EXIT: Final = Atom("exit")
ERROR: Final = Atom("error")
NOCATCH: Final = Atom("nocatch")
FILE: Final = Atom("file")
LINE: Final = Atom("line")
DEPTH: Final = 20
"""Calls shown at most, the innermost first. A BEAM shows 8; Python's frames say less each."""
_MACHINERY: Final = ("erlmesh.runtime.", "erlmesh.services.", "erlmesh.stock")
_VARARGS: Final = 0x04


class Outcome(Exit):
    """An exit whose reason is known to be a term: it may be large, and is looked at once less."""


def fault_of(fault: Exception) -> tuple[Atom, Term, list[Term]]:
    """``(throw | exit | error, reason, stack)``; the reason of a Python fault is ``{'ValueError', <<"its text">>}``."""
    if isinstance(fault, Exit):
        return EXIT, fault.reason, []
    if isinstance(fault, Throw):
        return THROW, fault.value, _stack(fault)
    if isinstance(fault, ErlangError):
        return ERROR, fault.reason, _stack(fault) if fault.stack is None else fault.stack
    return ERROR, (_atom(type(fault).__name__), _text(fault)), _stack(fault)


def exit_reason(fault: Exception) -> Term:
    """The reason a process ends with when ``fault`` leaves its body."""
    kind, reason, stack = fault_of(fault)
    if kind is EXIT:
        return reason
    return ((NOCATCH, reason) if kind is THROW else reason, stack)


def _stack(fault: Exception) -> list[Term]:
    calls = list(traceback.walk_tb(fault.__traceback__))
    while calls and _module(calls[0][0]).startswith(_MACHINERY):  # how the function was come to
        del calls[0]
    return [_call(frame, line) for frame, line in reversed(calls[-DEPTH:])]


def _call(frame: FrameType, line: int) -> Term:
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


def _text(fault: Exception) -> str:
    try:
        return str(fault).encode("utf-8", "backslashreplace").decode()
    except Exception:
        return object.__repr__(fault)
