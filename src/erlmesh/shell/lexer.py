"""Syntax colours of the prompt: those of Python, and one for atoms and pids."""

from __future__ import annotations

from typing import Any, ClassVar

from pygments.lexers.python import PythonLexer  # type: ignore[import-untyped]
from pygments.token import Comment, Number, String  # type: ignore[import-untyped]

__all__ = ["ShellLexer"]


class ShellLexer(PythonLexer):  # type: ignore[misc]
    """Python's lexer with atoms and pids, to be wrapped in :class:`prompt_toolkit.lexers.PygmentsLexer`."""

    tokens: ClassVar[dict[str, Any]] = {
        **PythonLexer.tokens,
        "root": [
            (r"#PID<[\d.]+>", Number),
            (r"#.*$", Comment.Single),
            (r"(?<![\w\])}:]):(?:[a-zA-Z_][\w@]*[?!]?|\"[^\"\n]*\"?)", String.Symbol),
            *PythonLexer.tokens["root"],
        ],
    }
