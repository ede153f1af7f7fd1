"""Shells controlled through pipes: the shell of erlmesh, and Elixir's iex.

After each line the shell must print a sentinel. The output before the sentinel is the answer to the line.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

import erlmesh

__all__ = ["SENTINEL", "DemoFailed", "PythonShell", "ShellProcess", "iex"]

SENTINEL: Final = "-- end of erlmesh demo output --"
LINE_TIMEOUT: Final = 30.0
"""Seconds that a shell may take for a line, or to start."""


class DemoFailed(Exception):
    """A step of the demo failed. The text says which expectation was not met."""


class ShellProcess:
    """A shell of the node ``name``. ``prompt`` is its prompt, with ``{}`` for the line number.

    Subclasses define ``sentinel_line``, the line that prints ``sentinel_output``.
    """

    sentinel_line = ""
    sentinel_output = SENTINEL

    def __init__(self, name: str, prompt: str, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self.prompt = prompt
        self.line_number = 1
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, or iex from the PATH
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def alive_name(self) -> str:
        """The part of the node name before the ``@``."""
        return self.name.partition("@")[0]

    def wait_up(self) -> None:
        """Wait until the shell answers. Raises DemoFailed if it does not."""
        self._exchange("")

    def ask(self, line: str) -> str:
        """Type ``line`` and return its output. Raises DemoFailed if the shell does not answer or has exited."""
        return self._exchange(line)

    def value(self, line: str) -> str:
        """Type ``line`` and return the last line of its output, which is its value; hints come before it."""
        return self._exchange(line).rpartition("\n")[2]

    def kill(self) -> None:
        """Kill the process group with SIGKILL. Does not wait."""
        os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill the shell and release its pipes. May be called again."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _exchange(self, line: str) -> str:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{line}\n{self.sentinel_line}\n")
            self._process.stdin.flush()
        except OSError:
            raise DemoFailed(f"the shell of {self.name} exited: {self._remaining_output()}") from None
        answer: list[str] = []
        while True:
            try:
                printed = self._lines.get(timeout=LINE_TIMEOUT)
            except queue.Empty:
                raise DemoFailed(f"{self.name} did not answer {line!r} within {LINE_TIMEOUT:g} s: {answer}") from None
            if printed is None:
                raise DemoFailed(f"the shell of {self.name} exited: {' '.join(answer)}")
            printed = self._strip_prompt(printed)
            if printed == self.sentinel_output:
                return "\n".join(answer).strip("\n")
            answer.append(printed)

    def _strip_prompt(self, printed: str) -> str:
        return printed

    def _remaining_output(self) -> str:
        lines = []
        while (line := self._lines.get(timeout=LINE_TIMEOUT)) is not None:
            lines.append(line)
        return " ".join(lines)

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._lines.put(line.rstrip("\n"))
        except (OSError, ValueError):
            pass
        self._lines.put(None)


class PythonShell(ShellProcess):
    """``erlmesh shell``."""

    sentinel_line = f"print({SENTINEL!r})"

    def __init__(self, name: str, cookie_file: Path, epmd_port: int) -> None:
        command = [sys.executable, "-m", "erlmesh", "shell", "--name", name, "--cookie-file", str(cookie_file)]
        command.append("--no-reconnect")  # as in the post: a restarted node is connected by a ping, not before
        paths = [str(Path(erlmesh.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        environment = {"ERL_EPMD_PORT": str(epmd_port), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        for variable in ("ERLMESH_NAME", "ERLMESH_JOIN"):
            environment[variable] = ""
        super().__init__(name, f"py({name}){{}}> ", command, environment)


class _Iex(ShellProcess):
    sentinel_line = f':"{SENTINEL}"'
    sentinel_output = sentinel_line

    def _strip_prompt(self, printed: str) -> str:
        return re.sub(r"^(?:(?:iex|\.\.\.)\([^)]*\)\d*>\s?)+", "", printed)


def iex(program: str, name: str, cookie: str, epmd_port: int) -> ShellProcess:
    """Start a real Elixir node that listens only on the loopback address. ``program`` is the path of iex."""
    erl = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} -kernel logger_level error"
    command = [program, "--name", name, "--cookie", cookie, "--erl", erl, "--dot-iex", "/dev/null"]
    environment = {"ERL_EPMD_PORT": str(epmd_port), "ERL_EPMD_ADDRESS": "127.0.0.1", "NO_COLOR": "1"}
    return _Iex(name, f"iex({name}){{}}> ", command, environment)
