"""What the audience sees: prompts, answers, remarks, and a mark for each thing that was checked."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from typing import Final

from erlmesh.demo.actors import Actor, Failed

__all__ = ["Stage"]

PATIENCE: Final = 8.0
"""Seconds until something that must become true has to be true."""
_COLOURS: Final = {"socrates": "36", "plato": "33", "aristotle": "35", "diotima": "32"}


class Stage:
    """Prints to stdout, in colour on a terminal unless NO_COLOR is set. Counts what was checked."""

    def __init__(self) -> None:
        self.checked = 0
        self._colours = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def chapter(self, title: str) -> None:
        _say(f"\n{self._in('1', title)}")

    def remark(self, text: str) -> None:
        _say(self._in("2", f"# {text}"))

    def type(self, actor: Actor, line: str, *, expect: str | None = None) -> str:
        """Types ``line`` into the actor's shell and shows the answer, all or a line of which must match ``expect``.

        (A line of it may be a remark of the node, which can come at any time.)
        """
        answer = actor.ask(line)
        self._show(actor, line, answer)
        if expect is not None and not any(re.fullmatch(expect, each) for each in (answer, *answer.splitlines())):
            raise Failed(f"{actor.alive_name} should have answered {expect!r}")
        return answer

    def type_until(
        self, actor: Actor, line: str, true: Callable[[str], bool], what: str, *, within: float = PATIENCE
    ) -> float:
        """Asks ``line`` again and again until its answer is ``true`` and shows that one. Returns the seconds."""
        began = time.monotonic()
        while not true(answer := actor.ask(line)):
            if time.monotonic() - began > within:
                self._show(actor, line, answer)
                raise Failed(f"{actor.alive_name}: {what} did not come true within {within:g} s")
            time.sleep(0.001)
        took = time.monotonic() - began
        self._show(actor, line, answer)
        return took

    def check(self, holds: bool, what: str) -> None:
        """One of the things that must be so. Raises Failed if it is not."""
        if not holds:
            raise Failed(what)
        self.checked += 1
        _say(f"  {self._in('32', '✓')} {what}")

    def fail(self, what: str) -> None:
        _say(f"  {self._in('31', '✗')} {what}")

    def _show(self, actor: Actor, line: str, answer: str) -> None:
        prompt = actor.prompt.format(actor.number)
        actor.number += 1
        _say(f"{self._in(_COLOURS.get(actor.alive_name, '36'), prompt)}{line}")
        if answer:
            _say(answer)

    def _in(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colours else text


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - this is what a demo is for
