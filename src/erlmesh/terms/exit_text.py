"""Exit reasons as one line of text, for errors and logs.

A process that fails ends with ``{Reason, Stack}``. Written as a term, the stack hides the reason. Here it reads as
``ValueError: no such coin in wallet:charge/2 (wallet.py, line 12)``: the reason, and the innermost call.

These forms are known, also inside each other: ``{Reason, Stack}``, ``{'EXIT', Reason}``, ``{nocatch, Value}``,
``{Reason, {Module, Function, Arguments}}`` of a call that exited (``gen_server:call/3``), and
``{shutdown, {failed_to_start_child, Id, Reason}}`` of a supervisor. Any other reason is written as a term. What
Elixir's ``Exception.format_exit/1`` writes on several lines is the model.
"""

from __future__ import annotations

from typing import Final

from erlmesh.terms.atoms import Atom
from erlmesh.terms.elixir_exceptions import exception_line, is_exception
from erlmesh.terms.erlang import format_erlang
from erlmesh.terms.foreign_text import printable
from erlmesh.terms.maps import Map
from erlmesh.terms.printing import ERLANG_FORMATTERS, format_term
from erlmesh.terms.values import Fun, Term

__all__ = ["format_frame", "format_reason", "is_stack"]

MAX_REASON_LENGTH: Final = 500
"""A longer term is truncated in the text of an exception."""
MAX_NESTING: Final = 8
"""Forms inside each other. What is deeper is written as a term."""
FILE: Final = Atom("file")
LINE: Final = Atom("line")


def format_reason(reason: Term) -> str:
    """Return an exit reason, or the reason of an error, as one printable line of about 500 characters at most."""
    return _truncated(_reason(reason, MAX_NESTING))


def is_stack(term: Term) -> bool:
    """True for a stack trace: a list that begins with ``{Module, Function, Arity | Arguments, Info}``."""
    if not isinstance(term, list) or not term:
        return False
    match term[0]:
        case (Atom(), Atom(), int() | list(), list()) | (Fun(), int() | list(), list()):
            return True
    return False


def format_frame(frame: Term) -> str:
    """Format a stack frame, for example ``lists:nth/2 (lists.erl, line 5)`` or ``Wallet.charge/2``."""
    match frame:
        case (Atom() as module, Atom() as function, int() as arity, info):
            text = f"{_call(module, function)}/{arity}"
        case (Atom() as module, Atom() as function, list() as arguments, info):
            text = f"{_call(module, function)}({_term(arguments)[1:-1]})"
        case _:
            return _term(frame)
    location = (
        dict(pair for pair in info if isinstance(pair, tuple) and len(pair) == 2) if isinstance(info, list) else {}
    )
    file, line = location.get(FILE), location.get(LINE)
    if isinstance(file, list) and all(isinstance(code, int) and 0 <= code < 0x110000 for code in file):
        text += f" ({''.join(map(chr, file))}, line {line})"
    return printable(text)


def _reason(reason: Term, nesting: int) -> str:
    if nesting == 0:
        return _term(reason)
    match reason:
        case str():  # of Python code, which did not get it from another node
            return reason
        case Map():
            return exception_line(reason) if is_exception(reason) else _term(reason)
        case (Atom("EXIT"), inner):
            return _reason(inner, nesting - 1)
        case (Atom("shutdown"), (Atom("failed_to_start_child"), child_id, inner)):
            return f"the child {_term(child_id)} did not start: {_reason(inner, nesting - 1)}"
        case (inner, stack) if is_stack(stack):
            return f"{_error(inner, nesting - 1)} in {_innermost(stack)}"
        case (inner, []) if _is_python_exception(inner) or isinstance(inner, Map):
            return _error(inner, nesting - 1)
        case (inner, (Atom() as module, Atom() as function, list() as arguments)):
            return f"{_reason(inner, nesting - 1)} (exited in {_call(module, function)}/{len(arguments)})"
    return _term(reason)


def _error(reason: Term, nesting: int) -> str:
    """The reason of an error, which has a stack beside it."""
    match reason:
        case (Atom("nocatch"), value):
            return f"the value {_term(value)} was thrown and not caught"
        case (Atom() as name, (bytes() | str()) as text) if _is_python_exception(reason):
            return f"{name.name}: {text.decode('utf-8', 'replace') if isinstance(text, bytes) else text}"
    return _reason(reason, nesting)


def _is_python_exception(reason: Term) -> bool:
    """True for ``{'ValueError', <<"its text">>}``: see :mod:`erlmesh.runtime.exceptions`."""
    match reason:
        case (Atom() as name, bytes() | str()):
            return name.name.isidentifier() and name.name[:1].isupper()
    return False


def _innermost(stack: list[Term]) -> str:
    # The arguments of the innermost call are often the largest part. The number of them is enough here.
    match stack[0]:
        case (module, function, list() as arguments, info):
            return format_frame((module, function, len(arguments), info))
    return format_frame(stack[0])


def _call(module: Atom, function: Atom) -> str:
    """``lists:nth``, or ``Wallet.charge`` for a module of Elixir."""
    name = module.name
    if name.startswith("Elixir."):
        return f"{name.removeprefix('Elixir.')}.{function.name}"
    return f"{format_erlang(module)}:{format_erlang(function)}"


def _term(term: Term) -> str:
    return _truncated(format_term(term, ERLANG_FORMATTERS, MAX_REASON_LENGTH))


def _truncated(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= MAX_REASON_LENGTH else f"{shown[:MAX_REASON_LENGTH]}…"
