"""Elixir's exceptions as one line of text.

An Elixir exception is a struct with ``__exception__: true`` (``Kernel.defexception/1``). Most have a binary
``message``. For some of the others, ``Exception.message/1`` builds the text from the fields; the common ones are done
here as there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from erlmesh.terms.atoms import Atom
from erlmesh.terms.elixir import format_elixir
from erlmesh.terms.maps import Map
from erlmesh.terms.values import Term

__all__ = ["exception_line", "exception_message", "exception_module", "is_exception"]

_STRUCT: Final = Atom("__struct__")
_EXCEPTION: Final = Atom("__exception__")
_MESSAGE: Final = Atom("message")
_NIL: Final = Atom("nil")


def is_exception(term: Term) -> bool:
    """Return whether the term is an Elixir exception."""
    return isinstance(term, Map) and term.get(_EXCEPTION) is True and type(term.get(_STRUCT)) is Atom


def exception_module(term: Map) -> str:
    """Return the name of the exception without the prefix ``Elixir.``."""
    return str(term[_STRUCT].name.removeprefix("Elixir."))


def exception_line(term: Map) -> str:
    """Return the exception as Elixir prints it: ``** (ArgumentError) bad argument``, always on one line."""
    message = exception_message(term)
    return " ".join(f"** ({exception_module(term)}) {message}".split())


def exception_message(term: Map) -> str:
    """Return the text of ``Exception.message/1``. For an exception that is not known here, the fields."""
    message = term.get(_MESSAGE)
    if isinstance(message, bytes):
        return message.decode("utf-8", "replace")
    build = _MESSAGES.get(exception_module(term))
    if build is not None:
        return build(term)
    hidden = (_STRUCT, _EXCEPTION, _MESSAGE)
    fields = [(key, value) for key, value in term.items() if key not in hidden and value is not _NIL]
    return ", ".join(f"{key.name}: {format_elixir(value)}" for key, value in fields if type(key) is Atom)


def _field(term: Map, name: str) -> str:
    return format_elixir(term.get(Atom(name), _NIL))


def _function(term: Map) -> str:
    return f"{_field(term, 'module')}.{_name(term, 'function')}/{_field(term, 'arity')}"


def _name(term: Map, name: str) -> str:
    atom = term.get(Atom(name))
    return atom.name if type(atom) is Atom else format_elixir(atom)


_MESSAGES: Final[dict[str, Callable[[Map], str]]] = {
    "KeyError": lambda term: f"key {_field(term, 'key')} not found in: {_field(term, 'term')}",
    "BadMapError": lambda term: f"expected a map, got: {_field(term, 'term')}",
    "BadBooleanError": lambda term: (
        f'expected a boolean on left-side of "{_name(term, "operator")}", got: {_field(term, "term")}'
    ),
    "BadFunctionError": lambda term: f"expected a function, got: {_field(term, 'term')}",
    "MatchError": lambda term: f"no match of right hand side value: {_field(term, 'term')}",
    "CaseClauseError": lambda term: f"no case clause matching: {_field(term, 'term')}",
    "WithClauseError": lambda term: f"no with clause matching: {_field(term, 'term')}",
    "TryClauseError": lambda term: f"no try clause matching: {_field(term, 'term')}",
    "CondClauseError": lambda _term: "no cond clause evaluated to a truthy value",
    "UndefinedFunctionError": lambda term: f"function {_function(term)} is undefined",
    "FunctionClauseError": lambda term: f"no function clause matching in {_function(term)}",
    "ErlangError": lambda term: f"Erlang error: {_field(term, 'original')}",
}
