"""Prints what may contain names and texts of other nodes: without control characters and marks of text direction."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

__all__ = ["print_error", "print_lines", "shown"]

MAX_LENGTH: Final = 20_000
"""Characters of one text."""


def shown(text: object) -> str:
    """Return the lines of ``text`` with every other character that is not printable spelt out."""
    lines = str(text)[:MAX_LENGTH]
    if lines.replace("\n", "").isprintable():
        return lines  # the usual case, also of `erlmesh health`, which must start fast
    from erlmesh.terms.foreign_text import printable_lines  # noqa: PLC0415

    return printable_lines(lines)


def print_lines(text: object) -> None:
    """Print to standard output."""
    print(shown(text), flush=True)


def print_error(error: object) -> None:
    """Print the reason of a failure to standard error."""
    write_error(shown(error))


def _print_error(text: str) -> None:
    print(f"erlmesh: {text}", file=sys.stderr, flush=True)


write_error: Callable[[str], object] = _print_error
"""Writes the text of an error. With logs in JSON it writes to the log."""
