"""Lists with a tail, as in Elixir: ``[1, 2 | tail]``. For Python, ``2 | tail`` is one element.

``tail`` decides. With a list, the result is a list; with another term, an improper list. Two integers are refused,
because both languages have a meaning for them, and with brackets around it, the expression has Python's.
"""

from __future__ import annotations

import ast
import re
from typing import Any, Final

from erlmesh.terms import ImproperList

__all__ = ["CONS", "cons", "rewrite_tails"]

CONS: Final = "__cons__"
"""The name of :func:`cons` for the typed lines."""


def rewrite_tails(tree: ast.Module, source: str) -> ast.Module:
    """Let ``[a, b | c]`` in ``source``, the text of ``tree``, call :func:`cons`. ``[a, (b | c)]`` stays."""
    if "|" not in source:
        return tree
    rewritten = _TailRewriter(source).visit(tree)
    assert isinstance(rewritten, ast.Module)
    return rewritten


class _TailRewriter(ast.NodeTransformer):
    def __init__(self, source: str) -> None:
        self._source = source

    def visit_List(self, node: ast.List) -> ast.AST:
        last = node.elts[-1] if node.elts else None
        text = ast.get_source_segment(self._source, node)
        self.generic_visit(node)
        if not isinstance(last, ast.BinOp) or not isinstance(last.op, ast.BitOr) or text is None:
            return node
        if isinstance(last.left, ast.BinOp) and isinstance(last.left.op, ast.BitOr):
            return node
        tail = ast.get_source_segment(self._source, last) or ""
        if not re.search(re.escape(tail) + r"\s*\]$", text):
            return node  # brackets are around it, or a comma is behind it
        head = ast.copy_location(ast.List([*node.elts[:-1], last.left], ast.Load()), node)
        call = ast.Call(ast.copy_location(ast.Name(CONS, ast.Load()), node), [head, last.right], [])
        return ast.copy_location(call, node)


def cons(head: list[Any], tail: Any) -> Any:
    """Return the list ``[*head | tail]``. Raises TypeError for two integers, which Python combines bit by bit."""
    if isinstance(tail, list):
        return [*head, *tail]
    if isinstance(tail, ImproperList):
        return ImproperList((*head, *tail.elements), tail.tail)
    last = head[-1]
    if type(last) is int and type(tail) is int:
        raise TypeError(
            f"[{last} | {tail}] is an improper list in Elixir and one number in Python: "
            f"write ImproperList([{last}], {tail}), or [({last} | {tail})]"
        )
    try:
        return [*head[:-1], last | tail]  # flags, sets, types: Python's operator
    except TypeError:
        return ImproperList(tuple(head), tail)
