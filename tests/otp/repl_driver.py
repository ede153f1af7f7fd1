"""Drives a REPL line by line through a pipe: a real ``iex``, and ``erlmesh shell``."""

from __future__ import annotations

import itertools
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from beam import otp_environment, programs
from os_process import OsProcess, ProcessGone
from pynode import python_environment

__all__ = ["ErlmeshShell", "Iex", "ReplDriver"]

MARK = "~typed~"


class ReplDriver(OsProcess):
    """``type(line)`` returns the output of a line. After each line it sends a command that prints a mark."""

    marker_command = 'print("{mark}")'
    prompt_pattern = re.compile(r"")

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._numbers = itertools.count()
        self._answer: list[str] = []
        self._marks: set[str] = set()
        self._answer_changed = threading.Condition()
        self._ended = False
        super().__init__(name, command, environment)
        try:
            self.type("", timeout=30.0)
        except BaseException:
            self.close()
            raise

    def type(self, line: str, *, timeout: float = 15.0) -> str:
        """Send ``line`` and return its output, without prompts."""
        mark = f"{MARK}{next(self._numbers)}"
        with self._answer_changed:
            self._answer.clear()
        if line:
            self.write(line)
        self.write(self.marker_command.format(mark=mark))
        with self._answer_changed:
            if not self._answer_changed.wait_for(lambda: mark in self._marks or self._ended, timeout) or self._ended:
                raise ProcessGone(f"{self.name} did not answer {line!r} in {timeout} s\n{self.recent_log()}")
            return "\n".join(self._answer).strip()

    def line_received(self, line: str) -> None:
        super().line_received(line)
        with self._answer_changed:
            text = self.prompt_pattern.sub("", line)
            if text.startswith(MARK):
                self._marks.add(text)
                self._answer_changed.notify_all()
            elif not any(text.startswith(f"{word}{MARK}") for word in (":ok", "None")):
                self._answer.append(text)

    def output_ended(self) -> None:
        with self._answer_changed:
            self._ended = True
            self._answer_changed.notify_all()


class Iex(ReplDriver):
    """``iex --name``, of the installed Elixir or of the Elixir for ``otp``."""

    marker_command = 'IO.puts("{mark}") && IEx.dont_display_result()'
    prompt_pattern = re.compile(r"(?:iex|\.\.\.)\([^)]*\)\d+> ")

    def __init__(
        self, name: str, *, epmd_port: int, home: Path, cookie: str = "monster", otp: int | None = None
    ) -> None:
        full, folder = name if "@" in name else f"{name}@127.0.0.1", programs(otp)
        command = [str(folder / "iex"), "--name", full, "--cookie", cookie, "--erl", "-start_epmd false"]
        super().__init__(full, command, otp_environment(epmd_port, home, folder))


class ErlmeshShell(ReplDriver):
    """``erlmesh shell --name`` with a pipe as its standard input."""

    def __init__(
        self, name: str, *, epmd_port: int, home: Path, cookie: str = "monster", arguments: tuple[str, ...] = ()
    ) -> None:
        full = name if "@" in name else f"{name}@127.0.0.1"
        command = [sys.executable, "-m", "erlmesh", "shell", "--name", full, "--cookie", cookie, *arguments]
        super().__init__(full, command, python_environment(epmd_port, home))
