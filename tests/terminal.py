"""A program on a pseudo-terminal of its own, as a user has it: press keys, read the screen."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

__all__ = ["Terminal"]

TIMEOUT = 60.0
"""Seconds that a program gets for each step."""
POLL_INTERVAL = 0.1
WITH_CONTROLLING_TERMINAL = (  # so that Ctrl-C is a signal
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
)
CONTROL_SEQUENCES = re.compile(r"\x1b\[[?\d;]*[A-Za-z]")


class Terminal:
    """Runs ``command`` on a pseudo-terminal. ``environment`` replaces the environment of this process, if given."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", WITH_CONTROLLING_TERMINAL, *command],
            stdin=slave, stdout=slave, stderr=slave, close_fds=True, start_new_session=True,
            env={**(os.environ if environment is None else environment), "TERM": "xterm"},
        )  # fmt: skip
        os.close(slave)
        self.output = ""
        """All that the program wrote and that was read here."""
        self._seen = 0

    def press(self, keys: str) -> None:
        """Type ``keys``."""
        os.write(self.master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Wait until ``text`` appears in the output since the last call, without colours and cursor movements."""
        deadline = time.monotonic() + TIMEOUT
        while text not in (plain := self._unseen()):
            assert time.monotonic() < deadline, f"{text!r} is not on the screen: {plain!r}"
            self._read()
        self._seen = len(self._plain()) - len(plain.partition(text)[2])

    def wait_exit(self) -> int:
        """Read until the program ends, and return its exit status."""
        deadline = time.monotonic() + TIMEOUT
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it still runs: {self._unseen()!r}"
            self._read()
        while self._read():
            pass
        return self.process.wait()

    def close(self) -> None:
        """Kill the program if it runs, and close the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def _plain(self) -> str:
        return CONTROL_SEQUENCES.sub("", self.output)

    def _unseen(self) -> str:
        return self._plain()[self._seen :]

    def _read(self) -> bool:
        """Read what arrives soon. Return whether anything did."""
        if not select.select([self.master], [], [], POLL_INTERVAL)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the program has ended (EIO)
            return False
        self.output += data.decode(errors="replace")
        return bool(data)
