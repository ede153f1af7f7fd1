"""Maps a Python exception to Erlang's class (``throw``, ``exit``, ``error``), reason and stack trace."""

from __future__ import annotations

import traceback
from types import CodeType, FrameType
from typing import Final

from erlmesh.errors import ErlangError, Exit, Throw
from erlmesh.terms import Atom, Term

__all__ = ["ERROR", "EXIT", "THROW", "exit_reason", "to_erlang"]

THROW: Final = Atom("throw")
EXIT: Final = Atom("exit")
ERROR: Final = Atom("error")
NOCATCH: Final = Atom("nocatch")
FILE: Final = Atom("file")
LINE: Final = Atom("line")
MAX_DEPTH: Final = 20
"""The most calls in a stack trace, innermost first. A BEAM shows 8; a frame of Python tells less than one of Erlang."""
_INTERNAL_MODULES: Final = ("erlmesh.runtime.", "erlmesh.services.", "erlmesh.otp_functions")
"""Modules whose frames are left out where they lead to the user's function."""
_VARARGS: Final = 0x04
"""``inspect.CO_VARARGS``: the function takes ``*args``."""


def to_erlang(exception: BaseException) -> tuple[Atom, Term, list[Term]]:
    """Return ``(throw | exit | error, reason, stack)``.

    The reason of an ordinary Python exception is ``{'ValueError', <<"its text">>}``.
    """
    if isinstance(exception, Exit):
        return EXIT, exception.reason, []
    if isinstance(exception, Throw):
        return THROW, exception.value, _stack(exception)
    if isinstance(exception, ErlangError):
        return ERROR, exception.reason, _stack(exception) if exception.stack is None else exception.stack
    return ERROR, (_atom(type(exception).__name__), _text(exception)), _stack(exception)


def exit_reason(exception: BaseException) -> Term:
    """Return the exit reason of a process whose body raises ``exception``, as a BEAM forms it."""
    kind, reason, stack = to_erlang(exception)
    if kind is EXIT:
        return reason
    return ((NOCATCH, reason) if kind is THROW else reason, stack)


def _stack(exception: BaseException) -> list[Term]:
    calls = list(traceback.walk_tb(exception.__traceback__))
    # Frames of erlmesh that called the function say nothing about the error.
    while calls and _module(calls[0][0]).startswith(_INTERNAL_MODULES):
        del calls[0]
    return [_stack_entry(frame, line) for frame, line in reversed(calls[-MAX_DEPTH:])]


def _stack_entry(frame: FrameType, line: int) -> Term:
    """Return ``{Module, Function, Arity, [{file, File}, {line, Line}]}``, as in ``erlang:raise/3``."""
    code, module = frame.f_code, _module(frame)
    name = code.co_qualname.replace("<locals>.", "")
    place = [(FILE, list(_file(code, module).encode())), (LINE, line)]
    return (_atom(module), _atom(name), code.co_argcount + bool(code.co_flags & _VARARGS), place)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "?"))


def _file(code: CodeType, module: str) -> str:
    """Return the path from the package on, as a stack trace of Erlang has it. Folders of this machine are left out."""
    parts = code.co_filename.split("/")
    within_package = module.count(".") + (parts[-1] == "__init__.py")
    return "/".join(parts[-1 - within_package :])


def _atom(name: str) -> Atom:
    """Make an atom of any name. An atom has at most 255 characters and no surrogates."""
    return Atom(name[:255].encode("utf-8", "replace").decode())


def _text(exception: BaseException) -> str:
    """Return the exception's text without surrogates, which UTF-8 cannot encode."""
    try:
        return str(exception).encode("utf-8", "backslashreplace").decode()
    except (Exception, SystemExit):  # Its own `__str__` failed.
        return object.__repr__(exception)
