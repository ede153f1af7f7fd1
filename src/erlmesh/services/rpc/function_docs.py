"""What a node says about its exposed functions: names, arities, parameters and documentation.

Elixir makes functions of it (``Erlmesh.Module``). The answer is bounded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from erlmesh.services.rpc.function_table import FunctionTable, is_process_annotation
from erlmesh.terms import Atom, Term

__all__ = ["MAX_DOC", "MAX_FUNCTIONS", "describe_functions"]

MAX_FUNCTIONS: Final = 500
"""Functions of one answer, by name. The rest is left out."""
MAX_DOC: Final = 4_000
"""Characters of the documentation of one function."""
_NIL: Final = Atom("nil")


def describe_functions(table: FunctionTable, module: str) -> list[Term]:
    """Return ``[{Name, Arity, [Parameter], Doc}]`` for the functions of an Erlang module, sorted.

    A name is an atom. Parameters and the documentation are binaries; a function without a docstring has ``nil``. A
    module without exposed functions has an empty list.
    """
    return [
        (Atom(name), arity, [_binary(each) for each in _parameters(call, arity)], _documentation(call))
        for name, arity, call in table.functions_of(module)[:MAX_FUNCTIONS]
    ]


def _parameters(call: Callable[..., Any], arity: int) -> list[str]:
    """Return the names of the first ``arity`` parameters; the elements of ``*names`` are numbered."""
    names: list[str] = []
    parameters = list(inspect.signature(call).parameters.values())
    if parameters and is_process_annotation(parameters[0].annotation):
        del parameters[0]
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}{number}" for number in range(1, arity - len(names) + 1)]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return names[:arity]


def _documentation(call: Callable[..., Any]) -> Term:
    text = inspect.getdoc(call)
    if not text:
        return _NIL
    return _binary(text if len(text) <= MAX_DOC else text[:MAX_DOC] + "…")


def _binary(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # a docstring may have surrogates
