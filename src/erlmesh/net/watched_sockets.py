"""The sockets of one event loop that a thread serves while the loop is blocked.

Connections and an embedded EPMD add their sockets. The watchdog thread waits for data on all of them at once. Adding
and removing a socket has effect at once, also while the thread waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import threading
from typing import Final, Protocol

__all__ = ["WatchedSocket", "WatchedSockets"]

READ: Final = selectors.EVENT_READ


class WatchedSocket(Protocol):
    """A socket that the event loop serves, and a thread instead while the loop is blocked."""

    @property
    def progress(self) -> int:
        """How many times the loop has served the socket."""

    def serve_from_thread(self) -> str:
        """Do what the loop would do now, without blocking. There may be nothing to do.

        If only the loop can go on, this removes the socket. If it does so because of a limit, it returns the name of
        the peer, for the log; otherwise the result is empty.
        """


_of_loops: dict[asyncio.AbstractEventLoop, WatchedSockets] = {}


class WatchedSockets:
    """The watched sockets of ``loop``. All methods are for any thread, unless they say something else."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._descriptors: dict[WatchedSocket, int] = {}
        self._selector: selectors.BaseSelector | None = None
        """None while there is no thread."""
        self._bell: tuple[int, int] | None = None
        """A pipe that ends the wait."""
        self._lock = threading.Lock()
        """Held while the fields change. The thread does not hold it while it waits."""

    @staticmethod
    def of_loop(loop: asyncio.AbstractEventLoop) -> WatchedSockets:
        """Return those of ``loop``."""
        found = _of_loops.get(loop)
        if found is None:
            found = _of_loops[loop] = WatchedSockets(loop)
        return found

    def watch(self, watched: WatchedSocket, fd: int) -> None:
        """Add a socket. Its owner must remove it before it closes the descriptor."""
        with self._lock:
            if watched not in self._descriptors:
                if self._selector is not None:
                    try:
                        self._selector.register(fd, READ, watched)
                    except OSError:  # a limit of the system: the loop serves this socket alone
                        return
                self._descriptors[watched] = fd

    def unwatch(self, watched: WatchedSocket) -> None:
        """Remove a socket. It may be removed already."""
        with self._lock:
            fd = self._descriptors.pop(watched, None)
            if fd is not None and self._selector is not None:
                self._selector.unregister(fd)
            self._forget_if_unused()

    def open(self) -> None:
        """Prepare for :meth:`wait`. The loop calls this before it starts the thread. Raises ``OSError``."""
        selector = selectors.DefaultSelector()
        try:
            bell = os.pipe()
        except OSError:
            selector.close()
            raise
        os.set_blocking(bell[1], False)
        with self._lock:
            self._bell, self._selector = bell, selector
            self._selector.register(bell[0], READ)
            for watched, fd in self._descriptors.items():
                self._selector.register(fd, READ, watched)

    def close(self) -> None:
        """Undo :meth:`open`. The thread calls this at its end."""
        with self._lock:
            selector, self._selector = self._selector, None
            bell, self._bell = self._bell, None
            if self._loop.is_closed():
                self._descriptors.clear()
            self._forget_if_unused()
        if selector is not None:
            selector.close()
        for fd in bell or ():
            os.close(fd)

    def _forget_if_unused(self) -> None:
        if self._selector is None and not self._descriptors and _of_loops.get(self._loop) is self:
            del _of_loops[self._loop]

    def ring(self) -> None:
        """End the wait of the thread, now and from now on."""
        with self._lock:
            if self._bell is not None:
                with contextlib.suppress(BlockingIOError):
                    os.write(self._bell[1], b"x")

    def wait(self, timeout: float | None) -> dict[WatchedSocket, int]:
        """Return the sockets with data, with their progress. Wait for up to ``timeout`` seconds until there is one.
        None is forever.

        Only the thread calls this.
        """
        selector = self._selector
        if selector is None:
            return {}
        ready = [key.data for key, _ in selector.select(timeout)]
        return {watched: watched.progress for watched in ready if watched is not None}

    def total_progress(self) -> int:
        """Return the progress of all sockets together."""
        with self._lock:
            return sum(watched.progress for watched in self._descriptors)
