"""Reports errors of sockets on an event loop that stops watching a socket when it has one.

When a peer resets a connection, data that arrived before can still be read, and then the error. An event loop of
asyncio calls the reader until it has read the error. uvloop (0.23) calls the reader once and then never again: libuv
ends a ``uv_poll`` handle at ``POLLERR``. The rest of the data and the end of the connection would not be seen until the
net tick time is over. So the sockets of such a loop are in an ``epoll`` of their own, which waits for errors only. The
loop watches its descriptor, and an ``epoll`` has no errors itself.
"""

from __future__ import annotations

import asyncio
import select
import weakref
from collections.abc import Callable
from typing import Final

__all__ = ["SocketErrors"]

_of_loops: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, SocketErrors]] = weakref.WeakKeyDictionary()


class SocketErrors:
    """The sockets of one event loop. All methods are for its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._callbacks: dict[int, Callable[[], object]] = {}
        self._epoll: select.epoll | None = None
        """None while no socket is watched."""

    @classmethod
    def of_loop(cls, loop: asyncio.AbstractEventLoop) -> SocketErrors | None:
        """Return the object for ``loop``. None without ``epoll``: then the net tick time ends such a connection."""
        if not hasattr(select, "epoll"):
            return None
        found = _of_loops.get(loop)
        if found is None:
            found = _of_loops[loop] = cls(loop)
        return found

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Call ``callback`` once when the socket has an error. Raises OSError if the process has no free descriptor.

        :meth:`unwatch` must be called before ``fd`` is closed.
        """
        if self._epoll is None:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._report)
        self._epoll.register(fd, 0)  # the kernel reports EPOLLERR and EPOLLHUP always
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """Forget the socket. This does nothing for a socket that is not watched."""
        if self._callbacks.pop(fd, None) is None or self._epoll is None:
            return
        self._epoll.unregister(fd)
        if not self._callbacks:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _report(self) -> None:
        for fd, _ in [] if self._epoll is None else self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            self.unwatch(fd)
            if callback is not None:
                self._loop.call_soon(callback)  # an error there must not keep the others from running
