"""The outgoing attempts of a node: how many run at the same time, and which ones wait for them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from erlmesh.errors import ConnectError, ErlmeshError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from erlmesh.runtime.connection import Connection

__all__ = ["Attempts"]

DIAL_QUEUE_LIMIT: Final = 1024
"""Attempts that may wait for others to end. A further one fails."""


class Attempts:
    """At most ``limit`` attempts at the same time. The others wait, and start in their order.

    ``connect(connection)`` resolves the name and opens the TCP connection, in a task of its own. It never raises. An
    attempt lasts until :meth:`ended`, so also during the handshake. ``on_failed(connection, error)`` is called for one
    that does not start, because too many wait.
    """

    def __init__(
        self,
        connect: Callable[[Connection], Coroutine[Any, Any, None]],
        limit: int,
        on_failed: Callable[[Connection, ErlmeshError], None],
    ) -> None:
        self._connect = connect
        self._limit = limit
        self._on_failed = on_failed
        self.under_way: set[Connection] = set()
        """Those that have started."""
        self.queue: deque[Connection] = deque()
        """Those that wait for one of these to end."""
        self.tasks: dict[asyncio.Task[None], None] = {}
        """Their tasks. asyncio itself holds only weak references to tasks."""
        self._closed = False

    def start(self, connection: Connection) -> None:
        """Start an attempt, now or when it is its turn. After :meth:`close` this does nothing."""
        if self._closed:
            return
        if len(self.under_way) < self._limit:
            self._start_task(connection)
        elif len(self.queue) < DIAL_QUEUE_LIMIT:
            self.queue.append(connection)
        else:
            error = ConnectError("too many other nodes are being dialled")
            asyncio.get_running_loop().call_soon(self._on_failed, connection, error)

    def ended(self, connection: Connection) -> None:
        """An attempt has succeeded or failed: the next one may start."""
        self.under_way.discard(connection)
        while self.queue and len(self.under_way) < self._limit and not self._closed:
            self._start_task(self.queue.popleft())

    def drop(self, connection: Connection) -> None:
        """End an attempt that is not needed any more. Nothing happens for a connection that is no attempt."""
        if connection in self.queue:
            self.queue.remove(connection)
        self.ended(connection)
        if connection.task is not None:
            connection.task.cancel()

    def close(self) -> None:
        """Start no more attempts."""
        self._closed = True
        self.queue.clear()

    def cancel(self) -> list[asyncio.Task[None]]:
        """Cancel all tasks. The caller awaits the tasks returned."""
        for task in self.tasks:
            task.cancel()
        return list(self.tasks)

    def _start_task(self, connection: Connection) -> None:
        self.under_way.add(connection)
        connection.started_at = asyncio.get_running_loop().time()
        connection.task = task = asyncio.ensure_future(self._connect(connection))
        self.tasks[task] = None
        task.add_done_callback(self.tasks.pop)
