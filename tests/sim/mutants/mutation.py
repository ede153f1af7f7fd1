"""A function with a few words replaced, in place, for every module that uses it."""

from __future__ import annotations

import ast
import importlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class DoesNotApply(Exception):
    """The function, or the words, are not there (any more)."""


@dataclass(frozen=True)
class Mutant:
    """``where`` is ``module:Class.function``; ``old`` stands there exactly once, ``new`` instead of it ``breaks`` what
    is said. ``proof``: why nobody can notice.
    """

    where: str
    breaks: str
    old: str
    new: str
    proof: str = ""

    def __str__(self) -> str:
        return self.breaks

    @contextmanager
    def applied(self):
        """The function is broken meanwhile."""
        function, broken = self.function(), self.code()
        before, function.__code__ = function.__code__, broken
        try:
            yield
        finally:
            function.__code__ = before

    def function(self):
        module, _, path = self.where.partition(":")
        found = importlib.import_module(module)
        for part in path.split("."):
            try:
                found = vars(found)[part]
            except KeyError:
                raise DoesNotApply(f"{self.breaks!r}: there is no {self.where}") from None
        if isinstance(found, property):
            found = found.fget
        while hasattr(found, "__wrapped__"):
            found = found.__wrapped__
        return found

    def code(self):
        """The code of the broken function."""
        module, _, path = self.where.partition(":")
        source = Path(importlib.import_module(module).__file__).read_text()
        node = _node(ast.parse(source), path)
        lines = source.splitlines(keepends=True)
        text = "".join(lines[node.lineno - 1 : node.end_lineno])
        if text.count(self.old) != 1:
            raise DoesNotApply(f"{self.breaks!r}: {self.old!r} stands {text.count(self.old)} times in {self.where}")
        text = text.replace(self.old, self.new)
        mutated = "".join([*lines[: node.lineno - 1], text, *lines[node.end_lineno :]])
        code = _code(compile(mutated, f"<mutant of {self.where}>", "exec", dont_inherit=True), path)
        if code.co_freevars != self.function().__code__.co_freevars:
            raise DoesNotApply(f"{self.breaks!r}: it changes what the function closes over")
        return code


def _node(tree, path):
    for part in path.split("."):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        tree = next(node for node in tree.body if isinstance(node, kinds) and node.name == part)
    return tree


def _code(code, path):
    for constant in code.co_consts:
        if hasattr(constant, "co_qualname"):
            found = constant if constant.co_qualname == path else _code(constant, path)
            if found is not None:
                return found
    return None
