"""Mutants: a function with a piece of its source replaced, in place, for all modules that use it."""

from __future__ import annotations

import ast
import importlib
import io
import tokenize
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class DoesNotApply(Exception):
    """The function or the text does not exist (any more)."""


@dataclass(frozen=True)
class Mutant:
    """``target`` is ``module:Class.function``. ``old`` occurs exactly once in its source, and ``new`` replaces it.

    ``description`` states the wrong behaviour. Comments in the source are ignored. ``proof`` states why an equivalent
    mutant changes no observable behaviour.
    """

    target: str
    description: str
    old: str
    new: str
    proof: str = ""

    def __str__(self) -> str:
        return self.description

    @contextmanager
    def applied(self):
        """Replace the code of the function inside the ``with`` block."""
        function, broken = self.function(), self.code()
        before, function.__code__ = function.__code__, broken
        try:
            yield
        finally:
            function.__code__ = before

    def function(self):
        module, _, path = self.target.partition(":")
        found = importlib.import_module(module)
        for part in path.split("."):
            try:
                found = vars(found)[part]
            except KeyError:
                raise DoesNotApply(f"{self.description!r}: there is no {self.target}") from None
        if isinstance(found, property):
            found = found.fget
        while hasattr(found, "__wrapped__"):
            found = found.__wrapped__
        return found

    def code(self):
        """The code object of the mutated function. Raises DoesNotApply."""
        module, _, path = self.target.partition(":")
        source = Path(importlib.import_module(module).__file__).read_text()
        node = _find_node(ast.parse(source), path)
        lines = source.splitlines(keepends=True)
        text = _strip_comments("".join(lines[node.lineno - 1 : node.end_lineno]))
        if text.count(self.old) != 1:
            raise DoesNotApply(
                f"{self.description!r}: {self.old!r} occurs {text.count(self.old)} times in {self.target}"
            )
        text = text.replace(self.old, self.new)
        mutated = "".join([*lines[: node.lineno - 1], text, *lines[node.end_lineno :]])
        code = _find_code(compile(mutated, f"<mutant of {self.target}>", "exec", dont_inherit=True), path)
        if code.co_freevars != self.function().__code__.co_freevars:
            raise DoesNotApply(f"{self.description!r}: it changes the closure of the function")
        return code


def _strip_comments(text):
    """The source without comments, so that a new comment never breaks a mutant."""
    lines = text.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            code = lines[row - 1][:column].rstrip()
            lines[row - 1] = code + "\n" if code else ""
    return "".join(lines)


def _find_node(tree, path):
    for part in path.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        tree = next(node for node in tree.body if isinstance(node, kinds) and node.name == part)
    return tree


def _find_code(code, path):
    for constant in code.co_consts:
        if hasattr(constant, "co_qualname"):
            found = constant if constant.co_qualname == path else _find_code(constant, path)
            if found is not None:
                return found
    return None
