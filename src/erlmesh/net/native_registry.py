"""The native watchdog of each event loop, and the servers whose connections it accepts.

A loop has a native watchdog as soon as there is a socket for it. Its thread runs only while
:class:`erlmesh.net.native_watchdog.NativeWatchdog` needs it.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import weakref
from typing import Any, Final, Protocol

from erlmesh import native
from erlmesh.core import loop_watchdog
from erlmesh.net.watched_sockets import WatchedSockets

__all__ = ["ServedByThread", "new_number", "new_server_id", "server_of_id", "watchdog_of_loop", "watchdogs"]

watchdogs: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any]] = weakref.WeakKeyDictionary()
"""The ``erlmesh_native.Watchdog`` of each event loop that has one."""
_servers: Final[weakref.WeakValueDictionary[int, ServedByThread]] = weakref.WeakValueDictionary()
new_number: Final = itertools.count(1).__next__
"""Returns a number that identifies a node or a server for the native thread."""


class ServedByThread(Protocol):
    """A server whose connections the native thread accepts. Each method takes over one of them.

    ``received`` is what the connection has sent, or when the client connected.
    """

    def adopt_from_thread(self, connection: socket.socket, received: Any, sockets: WatchedSockets, /) -> None:
        """The event loop is blocked. ``sockets`` are those of the Python thread, which calls this."""

    def adopt_in_loop(self, connection: socket.socket, received: Any, /) -> None:
        """The event loop runs again, and calls this."""


def watchdog_of_loop(loop: asyncio.AbstractEventLoop) -> Any:
    """Return the ``erlmesh_native.Watchdog`` of ``loop``. It may have no thread."""
    found = watchdogs.get(loop)
    if found is None:
        found = watchdogs[loop] = native.module.Watchdog(loop_watchdog.REPORT_AFTER)
    return found


def new_server_id(server: ServedByThread) -> int:
    """Return the number that identifies ``server`` for the native thread."""
    number = new_number()
    _servers[number] = server
    return number


def server_of_id(number: int) -> ServedByThread | None:
    """Return the server with that number, if it still exists."""
    return _servers.get(number)
