"""Values of maps by atoms, as in Elixir: ``map[:key]``. For Python, ``[:key]`` is a slice, which no map has.

The value that has the brackets decides. With a map, the result is the value of ``Atom("key")``, or ``nil``; with
another value, the slice.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, Final

from erlmesh.terms import Atom, Map

__all__ = ["AT", "access_of", "at"]

AT: Final = "__at__"
"""The name of :func:`at` for the typed lines."""


def access_of(node: ast.Subscript) -> ast.expr | None:
    """Return a call of :func:`at` if ``node`` is ``value[:key]`` or ``value[:"key"]`` and is read; else None."""
    match node:
        case ast.Subscript(ctx=ast.Load(), slice=ast.Slice(lower=None, upper=ast.Name(id=key), step=None)):
            pass
        case ast.Subscript(ctx=ast.Load(), slice=ast.Slice(lower=None, upper=ast.Constant(value=str(key)), step=None)):
            pass
        case _:
            return None
    assert isinstance(node.slice, ast.Slice)
    assert node.slice.upper is not None
    no_arguments = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    end = ast.Lambda(no_arguments, node.slice.upper)  # a name that is perhaps not bound
    call = ast.Call(ast.Name(AT, ast.Load()), [node.value, ast.Constant(key), end], [])
    return ast.copy_location(call, node)


def at(value: Any, key: str, end: Callable[[], Any]) -> Any:
    """Return the value of the atom ``key`` in a map, ``nil`` if it has none; of others the slice ``[:end()]``."""
    if isinstance(value, (dict, Map)):
        return value.get(Atom(key), Atom("nil"))
    return value[: end()]
