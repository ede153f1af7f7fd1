"""The watchdog of the native build: a thread without the GIL, and what it needs in Python.

The native thread (``native/src/watchdog/``) does what :mod:`erlmesh.net.watchdog_thread` does: it samples the loop,
sends ticks and the signal for each peer, and reads the connections. It needs no GIL, so it works while a C function
holds the GIL. Two parts need Python, and are here:

* The event loop has a callback for a pipe. The thread writes to it to find out whether the loop runs, and if it has
  done something that the loop must know. The loop need not be woken up while it waits in its selector: the thread sees
  that. So an idle node runs no Python.
* A Python thread writes the log, with the stack of the loop. It also serves what the native thread cannot answer: some
  requests to an embedded EPMD, and health checks. It waits until the native thread needs it, and then for the GIL.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import threading
import time
from functools import partial
from typing import Any, Final

from erlmesh.net.event_log import event_log
from erlmesh.net.fork_guard import close_in_children
from erlmesh.net.native_registry import ServedByThread, new_number, server_of_id, watchdog_of_loop, watchdogs
from erlmesh.net.native_socket import native_links
from erlmesh.net.thread_stack import stack_of_thread
from erlmesh.net.watchdog_log import WatchdogLog
from erlmesh.net.watched_node import ThreadWritable, WatchedNode
from erlmesh.net.watched_sockets import WatchedSocket, WatchedSockets

__all__ = ["TEMPLATE_SECONDS", "NativeWatchdog"]

log = event_log("erlmesh")

GIL_WAIT: Final = 0.5
"""Seconds that the Python thread had to wait before it ran, from which that is reported: some code held the GIL."""
TEMPLATE_SECONDS: Final = (1 << 30) / 1000
"""Seconds in the signal that the native thread completes. Their milliseconds have the longest encoding, of 4 bytes."""

_running: Final[dict[asyncio.AbstractEventLoop, NativeWatchdog]] = {}


class NativeWatchdog:
    """Implements :class:`erlmesh.net.watched_node.Watchdog`. The event loop calls methods that name no other thread.

    It runs for nodes, and for servers that are not part of a node.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread_id = threading.get_ident()
        self._nodes: dict[WatchedNode, int] = {}
        """The numbers of the nodes for the native thread."""
        self._servers: set[object] = set()
        self._log = WatchdogLog()
        self._native = watchdog_of_loop(loop)
        self._sockets = WatchedSockets(loop)
        """The sockets that the Python thread serves, and how it is woken up."""
        self._stopping = False
        self._process = os.getpid()
        self._sockets.open()
        try:
            self._bell, reports = self._native.start()
        except OSError:
            self._sockets.close()
            raise
        self._sockets.watch(_Reports(), reports)
        loop.add_reader(self._bell, self._loop_responded)
        self._thread = threading.Thread(target=self._run, name="erlmesh watchdog", daemon=True)

    @classmethod
    def attach(cls, node: WatchedNode) -> NativeWatchdog:
        """Watch the running loop for ``node`` from now on. Return the watchdog, which is shared by all nodes."""
        watchdog = cls._of_loop(asyncio.get_running_loop())
        watchdog._nodes[node] = new_number()
        return watchdog

    @classmethod
    def attach_server(cls, server: object) -> NativeWatchdog:
        """Run for ``server``, too, until :meth:`detach_server`."""
        watchdog = cls._of_loop(asyncio.get_running_loop())
        watchdog._servers.add(server)
        return watchdog

    @classmethod
    def _of_loop(cls, loop: asyncio.AbstractEventLoop) -> NativeWatchdog:
        watchdog = cls.for_loop(loop)
        if watchdog is None:
            watchdog = _running[loop] = cls(loop)
            watchdog._thread.start()
        return watchdog

    @classmethod
    def for_loop(cls, loop: asyncio.AbstractEventLoop) -> NativeWatchdog | None:
        """Return the watchdog of ``loop``, if it has one. Any thread may call this."""
        return _running.get(loop)

    def connection_ready(self, node: WatchedNode, connection: ThreadWritable) -> None:
        if (number := self._nodes.get(node)) is not None:
            connection.let_thread_keep_alive(number, node.net_ticktime, node.blocked_signal(TEMPLATE_SECONDS))

    def detach(self, node: WatchedNode) -> None:
        if (number := self._nodes.pop(node, None)) is not None:
            self._native.forget_node(number)
        self._stop_if_unused()

    def detach_server(self, server: object) -> None:
        """Stop running for ``server``."""
        self._servers.discard(server)
        self._stop_if_unused()

    def blocked_for(self) -> float:
        found: float = self._native.blocked_for()
        return found

    def _stop_if_unused(self) -> None:
        if not self._nodes and not self._servers and not self._stopping:
            self._stop()
            self._thread.join()
            self._log.close()

    def _stop(self) -> None:
        """End the native thread, and let the Python thread end. That thread calls this if the loop is closed."""
        self._stopping = True
        if not self._loop.is_closed() and self._process == os.getpid():  # a forked child shares the selector
            self._loop.remove_reader(self._bell)
        self._native.stop()
        if _running.get(self._loop) is self:
            del _running[self._loop]
        self._sockets.ring()

    def _loop_responded(self) -> None:
        """The native thread has woken up the loop."""
        self._loop_thread_id = threading.get_ident()  # a loop may be run by another thread than the one that attached
        blocked_for = self._native.acknowledge()
        for number in self._native.take_attention():
            if (shared := native_links.get(number)) is not None:
                self._loop.call_soon(shared.attend)  # an error there must not keep the others from running
        for server, connection, received in self._connections(in_loop=True):
            server.adopt_in_loop(connection, received)
        if blocked_for:
            nodes = list(self._nodes)
            self._log.recovered(nodes, blocked_for)
            for node in nodes:
                node.loop_recovered()

    def _connections(self, *, in_loop: bool) -> list[tuple[ServedByThread, socket.socket, Any]]:
        """Take over the connections that the native thread has accepted and cannot answer."""
        taken: list[tuple[ServedByThread, socket.socket, Any]] = []
        native_clients = [*self._native.take_epmd_clients(not in_loop), *self._native.take_health_clients(not in_loop)]
        for number, fd, received in native_clients:
            connection = close_in_children(socket.socket(fileno=fd))
            server = server_of_id(number)
            if server is None:
                connection.close()
            else:
                taken.append((server, connection, received))
        return taken

    # Runs in the Python thread

    def _run(self) -> None:
        while not self._stopping:
            try:
                self._step(self._sockets.wait(None))
            except Exception:
                log.exception("watchdog_failed", "error in the watchdog thread; it continues")
        self._sockets.close()

    def _step(self, with_data: dict[WatchedSocket, int]) -> None:
        """Do what the native thread cannot do. ``with_data`` has the sockets to serve."""
        # If some code held the GIL, it continues as soon as this thread waits for anything. So take the stack first.
        stack = stack_of_thread(self._loop_thread_id)
        if self._stopping:
            return
        now = time.monotonic()
        is_unanswered, blocked_for, waits_since, full = self._native.take_report()
        if is_unanswered and self._loop.is_closed():
            self._stop()
            return
        nodes = list(self._nodes)
        if not nodes:  # nodes with TLS have another watchdog, which logs a blocked loop
            blocked_for = 0.0
        if blocked_for and now - waits_since >= GIL_WAIT:
            self._log.gil_held(nodes, blocked_for, stack)
        elif blocked_for:
            self._log.blocked(nodes, blocked_for, stack)
        if peers := [shared.peer for number in full if (shared := native_links.get(number)) is not None]:
            self._log.full(nodes, peers)
        for watched in with_data:
            watched.serve_from_thread()
        for server, connection, received in self._connections(in_loop=False):
            server.adopt_from_thread(connection, received, self._sockets)


class _Reports:
    """Stands for the descriptor that is readable while there is a report."""

    progress = 0

    def serve_from_thread(self) -> str:
        return ""  # every step takes the report


def _stop_all() -> None:
    """End the native threads before the interpreter ends."""
    for watchdog in list(_running.values()):
        watchdog._native.stop()


_forking: list[Any] = []


def _begin_fork() -> None:
    """In the child there is no native thread, so it must not hold a lock now."""
    _forking[:] = watchdogs.values()
    for watchdog in _forking:
        watchdog.begin_fork()


def _end_fork(*, in_child: bool) -> None:
    for watchdog in _forking:
        watchdog.end_fork(in_child)
    _forking.clear()


atexit.register(_stop_all)
os.register_at_fork(
    before=_begin_fork,
    after_in_parent=partial(_end_fork, in_child=False),
    after_in_child=partial(_end_fork, in_child=True),
)
