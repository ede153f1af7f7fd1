"""The page of ``erlmesh map`` beside the demo: it shows the nodes while the lines are typed.

On a terminal, the demo waits for Enter before each part, so that there is time to look. Elsewhere it does not wait.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import erlmesh
from erlmesh.demo.console import Console
from erlmesh.demo.shells import DemoFailed

__all__ = ["LocalMap", "find_address", "open_page", "wait_for_enter"]

START_TIMEOUT: Final = 15.0
POLL_INTERVAL: Final = 0.05


class LocalMap:
    """``erlmesh map`` as a process of its own, which looks at the nodes ``names``. Raises DemoFailed.

    ``log`` is a file that gets what it prints.
    """

    def __init__(self, names: Sequence[str], cookie_file: Path, epmd_port: int, log: Path) -> None:
        paths = [str(Path(erlmesh.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        environment = {"ERL_EPMD_PORT": str(epmd_port), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        command = [sys.executable, "-m", "erlmesh", "map", *names, "--cookie-file", str(cookie_file)]
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_without_node_options(os.environ) | environment,
                start_new_session=True,  # Ctrl-C ends the demo, which then ends it
            )
        try:
            self.url = find_address(log.read_text, lambda: self._process.poll() is None)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process. May be called again."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def find_address(read: Callable[[], str], is_running: Callable[[], bool]) -> str:
    """Wait for the address that ``erlmesh map`` prints. Raises DemoFailed with its output if it ends before."""
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        was_running = is_running()
        printed = read()
        found = re.search(r"http://\S+", printed)
        if found is not None:
            return found[0]
        if not was_running or time.monotonic() > deadline:
            raise DemoFailed(f"the map did not start: {printed.strip()}")
        time.sleep(POLL_INTERVAL)


def open_page(console: Console, url: str) -> None:
    """Print the address and, on a desktop, open it in the browser."""
    console.heading(f"The map is at {url}")
    if sys.stdout.isatty() and _has_screen(os.environ):
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(url)


def wait_for_enter(question: str) -> None:
    """On a terminal, wait until the user presses Enter, or closes the input."""
    if sys.stdin.isatty():
        with contextlib.suppress(EOFError):
            input(question)


def _has_screen(environment: Mapping[str, str]) -> bool:
    return sys.platform == "darwin" or bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def _without_node_options(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without options of the user's own nodes."""
    return {name: value for name, value in environment.items() if not name.startswith("ERLMESH_") or "PURE" in name}
