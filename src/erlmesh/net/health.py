"""The health server of a node: it reports, over a Unix socket, whether the event loop responds.

It runs in a thread, so it can also report a blocked loop. A client gets one line of JSON, then the server closes the
connection. Only the same user can connect, because only that user can access the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from erlmesh.net.acceptor import ACCEPT_PAUSE, is_out_of_resources, log_exhaustion
from erlmesh.net.fork_guard import close_in_children
from erlmesh.net.health_socket import short_socket_path
from erlmesh.net.thread_stack import innermost_call, stack_of_thread
from erlmesh.net.watchdog_thread import WatchdogThread

__all__ = ["HealthServer"]

log = logging.getLogger("erlmesh.health")

ANSWER_TIMEOUT: Final = 1.0
"""Seconds that the loop has for its report. After that, the server reports for how long the loop has been blocked."""


class HealthServer:
    """Serves the health of ``node`` until :meth:`close`.

    ``report()`` is called in the event loop that runs now. It returns the JSON object for a responsive loop. The socket
    is created in the first of ``folders`` that can be written.
    """

    def __init__(self, node: str, report: Callable[[], dict[str, Any]], folders: Iterable[str | Path]) -> None:
        """Start the server. Raises ``OSError`` if no folder can be written."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread_id = threading.get_ident()
        self._report = report
        self._asked_since: float | None = None
        """When the loop got the oldest request that it has not answered."""
        self.path, self._listener = _listen(node, folders)
        self._inode = self.path.stat().st_ino
        """Identifies our socket file: the next node of this name may already have replaced it when we close."""
        threading.Thread(target=self._serve, name=f"health of {node}", daemon=True).start()

    def close(self) -> None:
        """Stop the server and remove its socket file."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends the thread's accept()
        self._listener.close()
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not is_out_of_resources(error):
                    return
                log_exhaustion(error)
                time.sleep(ACCEPT_PAUSE)
                continue
            close_in_children(connection)
            with connection, contextlib.suppress(OSError):
                connection.settimeout(ANSWER_TIMEOUT)
                connection.sendall(json.dumps(self._query_loop()).encode() + b"\n")

    def _query_loop(self) -> dict[str, Any]:
        """Return the loop's report and its response time in milliseconds.

        If the loop does not respond, return for how long it has been blocked, and by which call.
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
        since = self._asked_since  # read once: the loop may set it to None at any time
        blocked_for = time.monotonic() - (asked if since is None else since)
        if (watchdog := WatchdogThread.for_loop(self._loop)) is not None:
            blocked_for = max(blocked_for, watchdog.blocked_for())
        blocked_by = innermost_call(stack_of_thread(self._loop_thread_id))
        return {"alive": False, "loop_ms": round(blocked_for * 1000, 1), "blocked_by": blocked_by}


def _listen(node: str, folders: Iterable[str | Path]) -> tuple[Path, socket.socket]:
    """Listen on a socket in the first folder that can be written. Raises the last ``OSError`` if there is none."""
    last_error: OSError = FileNotFoundError("there is no home folder, and ERLMESH_STATE is not set")
    for folder in map(Path, folders):
        path = folder / f"{node}.health"
        listener = close_in_children(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # of an earlier incarnation: no other node of this name runs now
            with short_socket_path(path) as short:
                listener.bind(short)
            path.chmod(0o600)
            listener.listen(4)
        except OSError as error:
            listener.close()
            last_error = error
        else:
            return path, listener
    raise last_error
