"""What the audience sees: prompts, answers, remarks, and a mark for each thing that was checked."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from typing import Final

from erlmesh.demo.shells import DemoFailed, ShellProcess

__all__ = ["Console"]

CONDITION_TIMEOUT: Final = 8.0
"""Seconds until something that must become true has to be true."""
_COLORS: Final = {"socrates": "36", "plato": "33", "aristotle": "35", "diotima": "32"}


class Console:
    """Prints to stdout, in colour on a terminal unless NO_COLOR is set. Counts what was checked."""

    def __init__(self) -> None:
        self.checks_passed = 0
        self._use_colors = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def heading(self, title: str) -> None:
        _print(f"\n{self._colored('1', title)}")

    def comment(self, text: str) -> None:
        _print(self._colored("2", f"# {text}"))

    def type(self, shell: ShellProcess, line: str, *, expect: str | None = None) -> str:
        """Types ``line`` into the actor's shell and shows the answer, all or a line of which must match ``expect``.

        (A line of it may be a remark of the node, which can come at any time.)
        """
        answer = shell.ask(line)
        self._show(shell, line, answer)
        if expect is not None and not any(re.fullmatch(expect, each) for each in (answer, *answer.splitlines())):
            raise DemoFailed(f"{shell.alive_name} should have answered {expect!r}")
        return answer

    def type_until(
        self,
        shell: ShellProcess,
        line: str,
        predicate: Callable[[str], bool],
        what: str,
        *,
        within: float = CONDITION_TIMEOUT,
    ) -> float:
        """Asks ``line`` again and again until its answer is ``true`` and shows that one. Returns the seconds."""
        began = time.monotonic()
        while not predicate(answer := shell.ask(line)):
            if time.monotonic() - began > within:
                self._show(shell, line, answer)
                raise DemoFailed(f"{shell.alive_name}: {what} did not come true within {within:g} s")
            time.sleep(0.001)
        took = time.monotonic() - began
        self._show(shell, line, answer)
        return took

    def check(self, condition: bool, what: str) -> None:
        """One of the things that must be so. Raises Failed if it is not."""
        if not condition:
            raise DemoFailed(what)
        self.checks_passed += 1
        _print(f"  {self._colored('32', '✓')} {what}")

    def fail(self, what: str) -> None:
        _print(f"  {self._colored('31', '✗')} {what}")

    def _show(self, shell: ShellProcess, line: str, answer: str) -> None:
        prompt = shell.prompt.format(shell.line_number)
        shell.line_number += 1
        _print(f"{self._colored(_COLORS.get(shell.alive_name, '36'), prompt)}{line}")
        if answer:
            _print(answer)

    def _colored(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._use_colors else text


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what a demo is for
