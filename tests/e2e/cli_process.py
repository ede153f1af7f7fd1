"""``erlmesh`` as a user runs it: in a process, with an EPMD port and a cookie of its own."""

import os
import queue
import socket
import subprocess
import sys
import threading
from pathlib import Path

import erlmesh

SOURCE = str(Path(erlmesh.__file__).parent.parent)
TIMEOUT = 60
"""Seconds after which a command hangs."""


class Cli:
    """``run`` waits for the exit. ``start`` returns a process with lines to wait for. All stop with the test."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.cookie = folder / "cookie"
        self.cookie.touch(mode=0o600)
        self.cookie.write_text("e2e-cookie")
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith("ERL") or name == "ERLMESH_PURE"
            },
            "ERL_EPMD_PORT": str(self.port),
            "ERLMESH_COOKIE_FILE": str(self.cookie),
            "PYTHONPATH": SOURCE,
            "HOME": str(folder),
            "ERLMESH_STATE": str(folder / "state"),
            "PYTHONWARNINGS": "error",
        }
        self.processes = []

    def run(self, *arguments, stdin="", **environment):
        """(exit code, stdout, stderr)"""
        done = subprocess.run(
            [sys.executable, "-m", "erlmesh", *arguments], input=stdin, capture_output=True, text=True,
            timeout=TIMEOUT, env={**self.environment, **environment}, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def start(self, *arguments, **environment):
        process = CliProcess([sys.executable, "-m", "erlmesh", *arguments], {**self.environment, **environment})
        self.processes.append(process)
        return process

    def close(self):
        for process in self.processes:
            process.close()


class CliProcess:
    def __init__(self, command, environment):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def type(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self):
        """The next printed line, or None at the end of the output."""
        return self._lines.get(timeout=TIMEOUT)

    def wait_for(self, text):
        """The first line from here on that contains ``text``."""
        printed = []
        while (line := self.line()) is not None:
            if text in line:
                return line
            printed.append(line)
        raise AssertionError(f"it ended without printing {text!r}: {printed}")

    def ask(self, line):
        """Types ``line`` into a shell and returns its output."""
        self.type(line)
        self.type("print('-- mark --')")
        answer = []
        while (printed := self.line()) != "-- mark --":
            assert printed is not None, answer
            answer.append(printed)
        return "\n".join(answer)

    def until(self, line, expected):
        for _ in range(2000):
            if (answer := self.ask(line)) == expected:
                return
        raise AssertionError(f"{line} is still {answer}, not {expected}")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
