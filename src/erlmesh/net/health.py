"""The health server of a node: it reports, over a Unix socket, whether the event loop responds.

It runs in a thread, so it can also report a blocked loop. In the native build that is the native watchdog thread, which
reports also while some code holds the GIL. A client gets one line of JSON, then the server closes the connection. Only
the same user can connect, because only that user can access the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from erlmesh import native
from erlmesh.net.acceptor import ACCEPT_PAUSE, is_out_of_resources, log_exhaustion
from erlmesh.net.event_log import event_log
from erlmesh.net.fork_guard import close_in_children
from erlmesh.net.health_socket import short_socket_path
from erlmesh.net.native_registry import new_server_id, watchdog_of_loop
from erlmesh.net.native_watchdog import NativeWatchdog
from erlmesh.net.thread_stack import innermost_call, stack_of_thread
from erlmesh.net.watchdog import watchdog_for_loop
from erlmesh.net.watched_sockets import WatchedSockets

__all__ = ["HealthServer"]

log = event_log("erlmesh.health")

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
        self._native_id = new_server_id(self)
        if native.module is None:
            threading.Thread(target=self._serve, name=f"health of {node}", daemon=True).start()
        else:
            try:
                watchdog_of_loop(self._loop).add_health(self._native_id, self._listener.fileno())
                NativeWatchdog.attach_server(self)
            except OSError:
                self.close()
                raise

    def close(self) -> None:
        """Stop the server and remove its socket file."""
        if native.module is not None:
            watchdog_of_loop(self._loop).remove_server(self._native_id)
            if (watchdog := NativeWatchdog.for_loop(self._loop)) is not None:
                watchdog.detach_server(self)
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
                _answer(connection, self._query_loop())

    # In the native build

    def adopt_in_loop(self, connection: socket.socket, asked: float) -> None:
        """Answer a client that connected at ``asked`` (``time.monotonic``). The event loop calls this."""
        self._loop_thread_id = threading.get_ident()
        with connection:
            _answer(connection, self._alive(self._report(), asked))

    def adopt_from_thread(self, connection: socket.socket, asked: float, _sockets: WatchedSockets) -> None:
        """Answer a client. The loop has not answered in time. It has not responded since ``asked``."""
        with connection:
            _answer(connection, self._blocked(asked))

    # In the thread of the pure build

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
            return self._alive(answer, asked)
        since = self._asked_since  # read once: the loop may set it to None at any time
        return self._blocked(asked if since is None else since)

    # Answers

    def _alive(self, report: dict[str, Any], asked: float) -> dict[str, Any]:
        return {**report, "alive": True, "loop_ms": round((time.monotonic() - asked) * 1000, 1)}

    def _blocked(self, since: float) -> dict[str, Any]:
        blocked_for = time.monotonic() - since
        if (watchdog := watchdog_for_loop(self._loop)) is not None:
            blocked_for = max(blocked_for, watchdog.blocked_for())
        blocked_by = innermost_call(stack_of_thread(self._loop_thread_id))
        return {"alive": False, "loop_ms": round(blocked_for * 1000, 1), "blocked_by": blocked_by}


def _answer(connection: socket.socket, answer: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the client has disconnected
        connection.sendall(json.dumps(answer).encode() + b"\n")


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
