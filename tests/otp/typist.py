"""Somebody who types at a prompt: real ``iex``, and ``erlmesh shell``, line by line, through a pipe."""

from __future__ import annotations

import itertools
import re
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from beam import programs, surroundings
from peer import OsProcess, PeerGone
from pynode import python_surroundings

__all__ = ["ErlmeshShell", "Iex", "Typist"]

MARK = "~typed~"


class Typist(OsProcess):
    """``type(line)`` gives what the prompt answers. After each line it types one that prints a mark."""

    end = 'print("{mark}")'
    prompt = re.compile(r"")

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._numbers = itertools.count()
        self._exchange: list[str] = []
        self._marks: set[str] = set()
        self._seen_reports = threading.Condition()
        self._stop_requested = False
        super().__init__(name, command, environment)
        try:
            self.type("", timeout=30.0)
        except BaseException:
            self.close()
            raise

    def type(self, line: str, *, timeout: float = 15.0) -> str:
        """Types ``line`` and gives the printed answer, without prompts."""
        mark = f"{MARK}{next(self._numbers)}"
        with self._seen_reports:
            self._exchange.clear()
        if line:
            self.write(line)
        self.write(self.end.format(mark=mark))
        with self._seen_reports:
            if (
                not self._seen_reports.wait_for(lambda: mark in self._marks or self._stop_requested, timeout)
                or self._stop_requested
            ):
                raise PeerGone(f"{self.name} did not come back from {line!r} in {timeout} s\n{self.story()}")
            return "\n".join(self._exchange).strip()

    def heard(self, line: str) -> None:
        super().heard(line)
        with self._seen_reports:
            text = self.prompt.sub("", line)
            if text.startswith(MARK):
                self._marks.add(text)
                self._seen_reports.notify_all()
            elif not any(text.startswith(f"{word}{MARK}") for word in (":ok", "None")):
                self._exchange.append(text)

    def ended(self) -> None:
        with self._seen_reports:
            self._stop_requested = True
            self._seen_reports.notify_all()


class Iex(Typist):
    """``iex --name``, of the installed Elixir or of the one that belongs to ``otp``."""

    end = 'IO.puts("{mark}") && IEx.dont_display_result()'
    prompt = re.compile(r"(?:iex|\.\.\.)\([^)]*\)\d+> ")

    def __init__(
        self, name: str, *, epmd_port: int, home: Path, cookie: str = "monster", otp: int | None = None
    ) -> None:
        full, folder = name if "@" in name else f"{name}@127.0.0.1", programs(otp)
        command = [str(folder / "iex"), "--name", full, "--cookie", cookie, "--erl", "-start_epmd false"]
        super().__init__(full, command, surroundings(epmd_port, home, folder))


class ErlmeshShell(Typist):
    """``erlmesh shell --name``, its standard input a pipe."""

    def __init__(
        self, name: str, *, epmd_port: int, home: Path, cookie: str = "monster", arguments: tuple[str, ...] = ()
    ) -> None:
        full = name if "@" in name else f"{name}@127.0.0.1"
        command = [sys.executable, "-m", "erlmesh", "shell", "--name", full, "--cookie", cookie, *arguments]
        super().__init__(full, command, python_surroundings(epmd_port, home))
