"""Is the node alive, and does its loop turn? Told over a unix socket by a thread, so that a loop that hangs is told.

Whoever connects gets one line of JSON and the end. Only this user can connect: the folder is his alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from erlmesh.net.health_socket import short_socket_path
from erlmesh.net.thread_stack import innermost_call, stack_of_thread
from erlmesh.net.watchdog_thread import WatchdogThread

__all__ = ["HealthServer"]

log = logging.getLogger("erlmesh.health")

ANSWER_TIMEOUT: Final = 1.0
"""Seconds that the loop has to answer; then what is told is how long it has not."""


class HealthServer:
    """Serves ``report()``, called in the loop that runs now, under the name of ``node`` until :meth:`close`."""

    def __init__(self, node: str, report: Callable[[], dict[str, Any]], folders: list[Path]) -> None:
        """Raises ``OSError`` if no place can be written."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread_id = threading.get_ident()
        self._report = report
        self._asked_since: float | None = None
        self.path, self._listener = _listen(node, folders)
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
                link.settimeout(ANSWER_TIMEOUT)
                link.sendall(json.dumps(self._query_loop()).encode() + b"\n")

    def _query_loop(self) -> dict[str, Any]:
        """The report, with the milliseconds that the loop took to come to it; without one, how long it has not turned,
        and which code holds it.
        """
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
        if answered.wait(ANSWER_TIMEOUT):
            return {**answer, "alive": True, "loop_ms": round((time.monotonic() - asked) * 1000, 1)}
        since = self._asked_since
        held = time.monotonic() - (asked if since is None else since)
        if (guardian := WatchdogThread.for_loop(self._loop)) is not None:
            held = max(held, guardian.blocked_for())
        by = innermost_call(stack_of_thread(self._loop_thread_id))
        return {"alive": False, "loop_ms": round(held * 1000, 1), "blocked_by": by}


def _listen(node: str, folders: list[Path]) -> tuple[Path, socket.socket]:
    fault: OSError = FileNotFoundError("there is no home folder and no ERLMESH_STATE")
    for place in folders:
        path = place / f"{node}.health"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # of a former life: no second node of this name runs
            with short_socket_path(path) as short:
                listener.bind(short)
            path.chmod(0o600)
            listener.listen(4)
        except OSError as error:
            listener.close()
            fault = error
        else:
            return path, listener
    raise fault
