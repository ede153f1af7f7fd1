"""Is the node alive, and does its loop turn? Told over a unix socket by a thread, so that a loop that hangs is told.

Whoever connects gets one line of JSON and the end. Only this user can connect: the folder is his alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["HealthServer", "folders", "read_health"]

log = logging.getLogger("erlmesh.health")

ANSWER: Final = 1.0
"""Seconds that the loop has to answer; then what is told is how long it has not."""
MAX_LINE: Final = 1 << 16


def folders(environment: Mapping[str, str]) -> list[Path]:
    """Where the socket may be, the likeliest first: ERLMESH_STATE, or else XDG's runtime and state folders."""
    if state := environment.get("ERLMESH_STATE"):
        return [Path(state)]
    home = environment.get("HOME")
    named = [
        environment.get("XDG_RUNTIME_DIR"),
        environment.get("XDG_STATE_HOME"),
        f"{home}/.local/state" if home else None,
    ]
    return [Path(root) / "erlmesh" for root in named if root and Path(root).is_absolute()]


class HealthServer:
    """Serves ``report()``, called in the loop that runs now, under the name of ``node`` until :meth:`close`."""

    def __init__(self, node: str, report: Callable[[], dict[str, Any]], places: list[Path]) -> None:
        """Raises ``OSError`` if no place can be written."""
        self._loop = asyncio.get_running_loop()
        self._report = report
        self._asked_since: float | None = None
        self.path, self._listener = _listen(node, places)
        self._inode = self.path.stat().st_ino
        threading.Thread(target=self._serve, name=f"health of {node}", daemon=True).start()

    def close(self) -> None:
        """Nobody is answered any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._listener.close()
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with link, contextlib.suppress(OSError):
                link.settimeout(ANSWER)
                link.sendall(json.dumps(self._ask()).encode() + b"\n")

    def _ask(self) -> dict[str, Any]:
        """The report, with the milliseconds that the loop took to come to it; without one, how long it has not."""
        answer: dict[str, Any] = {}
        answered = threading.Event()
        asked = time.monotonic()
        if self._asked_since is None:
            self._asked_since = asked

        def report() -> None:
            self._asked_since = None
            answer.update(self._report())
            answered.set()

        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(report)
        if answered.wait(ANSWER):
            return {**answer, "alive": True, "loop_ms": round((time.monotonic() - asked) * 1000, 1)}
        since = self._asked_since
        return {"alive": False, "loop_ms": round((time.monotonic() - (asked if since is None else since)) * 1000, 1)}


def read_health(path: Path, timeout: float) -> dict[str, Any]:
    """What the node with the socket ``path`` tells. Raises ``OSError``; refused means that it has been killed."""
    with _short(path) as short, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout)
        link.connect(short)
        data = b""
        while len(data) < MAX_LINE and (piece := link.recv(MAX_LINE)):
            data += piece
    try:
        told = json.loads(data)
    except ValueError:
        raise ConnectionAbortedError("the answer breaks off") from None
    return told if isinstance(told, dict) else {}


def _listen(node: str, places: list[Path]) -> tuple[Path, socket.socket]:
    fault: OSError = FileNotFoundError("there is no home folder and no ERLMESH_STATE")
    for place in places:
        path = place / f"{node}.health"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # of a former life: no second node of this name runs
            with _short(path) as short:
                listener.bind(short)
            path.chmod(0o600)
            listener.listen(4)
        except OSError as error:
            listener.close()
            fault = error
        else:
            return path, listener
    raise fault


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits into a socket's address, which has room for 107 bytes."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
