"""The output of the demo: prompts, answers, comments, and a mark for each check."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from typing import Final

from erlmesh.demo.shells import DemoFailed, ShellProcess

__all__ = ["MEMBERS", "PID", "Console", "has_members"]

MEMBERS: Final = ":pg2.get_members(:group)"
PID: Final = r"#PID<\d+\.\d+\.\d+>"
CONDITION_TIMEOUT: Final = 8.0
"""Seconds within which a condition must become true."""
_COLORS: Final = {"socrates": "36", "plato": "33", "aristotle": "35", "diotima": "32"}


class Console:
    """Prints the demo to stdout, in colour on a terminal unless NO_COLOR is set, and counts the checks."""

    def __init__(self) -> None:
        self.checks_passed = 0
        self.before_part: Callable[[], None] = lambda: None
        """Called before each part of the demo."""
        self._use_colors = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def part(self, title: str) -> None:
        """Start a part of the demo."""
        self.before_part()
        self.heading(title)

    def heading(self, title: str) -> None:
        _print(f"\n{self._colored('1', title)}")

    def comment(self, text: str) -> None:
        _print(self._colored("2", f"# {text}"))

    def type(self, shell: ShellProcess, line: str, *, expect: str | None = None) -> str:
        """Type ``line`` into the shell, show the answer and return it.

        The answer or one of its lines must match ``expect``; else DemoFailed is raised. The other lines can be log
        lines of the node, which can appear at any time.
        """
        answer = shell.ask(line)
        self._show(shell, line, answer)
        if expect is not None and not any(re.fullmatch(expect, each) for each in (answer, *answer.splitlines())):
            raise DemoFailed(f"{shell.alive_name} answered something else than {expect!r}")
        return answer

    def type_until(
        self,
        shell: ShellProcess,
        line: str,
        predicate: Callable[[str], bool],
        expected: str,
        *,
        within: float = CONDITION_TIMEOUT,
    ) -> float:
        """Type ``line`` until ``predicate`` accepts the answer, and show that answer. Returns the seconds it took.

        ``expected`` describes the answer. Raises DemoFailed after ``within`` seconds.
        """
        started = time.monotonic()
        while not predicate(answer := shell.ask(line)):
            if time.monotonic() - started > within:
                self._show(shell, line, answer)
                raise DemoFailed(f"{shell.alive_name} did not show {expected} within {within:g} s")
            time.sleep(0.001)
        took = time.monotonic() - started
        self._show(shell, line, answer)
        return took

    def create_group(self, shell: ShellProcess) -> None:
        """Type the lines of the post that create the group and join it."""
        self.type(shell, ":pg2.start()", expect=rf"\{{:ok, {PID}\}}")
        self.type(shell, ":pg2.create(:group)", expect=":ok")
        self.type(shell, ":pg2.join(:group, self)", expect=":ok")

    def check(self, condition: bool, statement: str) -> None:
        """Print ``statement`` as a passed check. Raises DemoFailed if ``condition`` is false."""
        if not condition:
            raise DemoFailed(statement)
        self.checks_passed += 1
        _print(f"  {self._colored('32', '✓')} {statement}")

    def fail(self, statement: str) -> None:
        """Print ``statement`` as a failed check."""
        _print(f"  {self._colored('31', '✗')} {statement}")

    def _show(self, shell: ShellProcess, line: str, answer: str) -> None:
        prompt = shell.prompt.format(shell.line_number)
        shell.line_number += 1
        _print(f"{self._colored(_COLORS.get(shell.alive_name, '36'), prompt)}{line}")
        if answer:
            _print(answer)

    def _colored(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._use_colors else text


def has_members(count: int) -> Callable[[str], bool]:
    """Return a predicate for an answer that lists ``count`` pids."""
    return lambda answer: answer.count("#PID<") == count


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the demo prints to stdout
