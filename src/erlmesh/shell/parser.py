"""Parse a typed line to a syntax tree: as Python if it is valid Python, else translated from Elixir syntax.

The tree is then rewritten so that commands work as in iex. A command without arguments needs no parentheses (``self``,
``Node.list``). An async command needs no ``await`` (``x = Node.ping(:plato)``). Inside ``def``, ``class``, lambdas and
generator expressions nothing is rewritten: the rules of Python apply there.
"""

from __future__ import annotations

import ast
import codeop
import warnings
from collections.abc import Callable
from typing import Any, Final

from erlmesh.records import record
from erlmesh.shell.elixir_syntax import has_pid_literal, translate
from erlmesh.shell.lists import rewrite_tails
from erlmesh.shell.map_access import access_of

__all__ = ["NOT_A_COMMAND", "TOP_LEVEL_AWAIT", "UNKNOWN_COMMAND", "CommandSyntax", "parse"]

TOP_LEVEL_AWAIT: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_FLAGS: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
_COMPOUND: Final = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.For, ast.AsyncFor, ast.While, ast.With,
    ast.AsyncWith, ast.Try, ast.TryStar, ast.Match,
)  # fmt: skip

_PYTHON_RULES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.GeneratorExp)


@record(frozen=True)
class CommandSyntax:
    """How the parser rewrites a command."""

    implicit_call: bool = False  # it is called when it is written without parentheses
    implicit_await: bool = False  # its call is awaited
    quoted_arguments: bool = False  # its arguments are not rewritten: ``h(self)`` is about the command ``self``


NOT_A_COMMAND: Final = CommandSyntax()
UNKNOWN_COMMAND: Final = CommandSyntax()
"""The syntax of a function that a module of the shell does not have: a call of it is an error, not Python."""


def parse(
    source: str, syntax_of: Callable[[str], CommandSyntax], *, final: bool = True, filename: str = "<line>"
) -> ast.Module | None:
    """Return the tree of ``source``, or ``None`` if more lines must follow.

    ``syntax_of`` returns the syntax of a dotted name. ``final=False`` means that the user can still type more lines: a
    compound statement is then complete only after an empty line. Raises ``SyntaxError`` about the line as typed, not
    about its translation.
    """
    error: SyntaxError | None = None
    rewritten = translate(source)
    for candidate in _candidates(source, rewritten):
        try:
            if not _is_complete(candidate, filename):
                return None
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = compile(candidate, filename, "exec", _FLAGS)
        except (SyntaxError, ValueError, OverflowError) as reason:
            error = error or _as_syntax_error(reason)
            continue
        assert isinstance(tree, ast.Module)
        if candidate == source != rewritten and _annotates_a_command(tree, syntax_of):
            continue
        if not final and _may_continue(tree, source):
            return None
        tree = rewrite_tails(tree, candidate)
        _CommandRewriter(syntax_of).visit(tree)
        return ast.fix_missing_locations(tree)
    raise error or SyntaxError("invalid syntax")


def _candidates(source: str, rewritten: str) -> list[str]:
    if rewritten == source:
        return [source]
    return [rewritten, source] if has_pid_literal(source) else [source, rewritten]


def _is_complete(source: str, filename: str) -> bool:
    if not source.strip():
        return True
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= TOP_LEVEL_AWAIT
    return compiler(source, filename, "exec") is not None


def _annotates_a_command(tree: ast.Module, syntax_of: Callable[[str], CommandSyntax]) -> bool:
    """Return true for ``Node.ping :plato``. It is valid Python, an annotation, but it is meant as a call."""
    return any(
        isinstance(statement, ast.AnnAssign)
        and statement.value is None
        and syntax_of(_dotted(statement.target)) is not NOT_A_COMMAND
        for statement in tree.body
    )


def _as_syntax_error(reason: Exception) -> SyntaxError:
    return reason if isinstance(reason, SyntaxError) else SyntaxError(str(reason))


def _may_continue(tree: ast.Module, source: str) -> bool:
    if not tree.body or not isinstance(tree.body[-1], _COMPOUND):
        return False
    return bool(source.rstrip(" \t").rpartition("\n")[2])


class _CommandRewriter(ast.NodeTransformer):
    """Adds the calls and awaits that commands may leave out."""

    def __init__(self, syntax_of: Callable[[str], CommandSyntax]) -> None:
        self.syntax_of = syntax_of

    def visit_Call(self, node: ast.Call) -> ast.AST:
        syntax = self._syntax_of_node(node.func)
        if syntax is NOT_A_COMMAND:
            node.func = self.visit(node.func)
        if not syntax.quoted_arguments:
            node.args = [self.visit(argument) for argument in node.args]
            node.keywords = [self.visit(argument) for argument in node.keywords]
        return ast.copy_location(ast.Await(node), node) if syntax.implicit_await else node

    def visit_Await(self, node: ast.Await) -> ast.AST:
        value = self.visit(node.value)
        return value if isinstance(value, ast.Await) else ast.copy_location(ast.Await(value), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return self._implicit_call(node) or self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        access = access_of(node)
        return self.generic_visit(node if access is None else access)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self._implicit_call(node) or node

    def _implicit_call(self, node: ast.Name | ast.Attribute) -> ast.AST | None:
        syntax = self._syntax_of_node(node)
        if not syntax.implicit_call or not isinstance(node.ctx, ast.Load):
            return None
        call = ast.copy_location(ast.Call(node, [], []), node)
        return ast.copy_location(ast.Await(call), node) if syntax.implicit_await else call

    def _syntax_of_node(self, node: ast.expr) -> CommandSyntax:
        name = _dotted(node)
        return self.syntax_of(name) if name else NOT_A_COMMAND

    def visit(self, node: ast.AST) -> Any:
        return node if isinstance(node, _PYTHON_RULES) else super().visit(node)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""
