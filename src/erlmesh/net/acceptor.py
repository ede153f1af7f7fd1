"""Listening sockets that survive the end of free descriptors.

``loop.create_server`` goes through its whole backlog when the process has no free descriptor, and logs a stack for each
connection. Here accepting pauses instead, with one line in the log. Nothing is lost: the connections wait in the queue
of the kernel.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from erlmesh.net.event_log import event_log
from erlmesh.net.fork_guard import close_in_children
from erlmesh.net.host_names import SocketAddress, resolve_sockets

__all__ = ["ACCEPT_PAUSE", "Acceptor", "is_out_of_resources", "is_scarce", "log_exhaustion", "share_of_descriptors"]

log = event_log("erlmesh")

ACCEPT_PAUSE: Final = 0.25
"""Seconds without accepting after the descriptors of the process or the machine were all in use."""
ACCEPTS_PER_TURN: Final = 64
"""Connections to accept in one iteration of the event loop, so that a flood does not hold it."""
LOG_INTERVAL: Final = 60.0
"""Seconds between two lines about exhausted descriptors."""
_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_last_logged = -LOG_INTERVAL


class Acceptor:
    """Accepts connections on ``sockets``, which listen, in the running event loop. Call :meth:`close` in the end.

    ``factory()`` makes the protocol of each connection. ``make_room()`` is called if the descriptors become scarce. It
    may close another connection. If it returns false, the new connection is closed.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        factory: Callable[[], asyncio.Protocol],
        make_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.sockets = list(sockets)
        self._factory = factory
        self._make_room = make_room
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[object]] = set()
        """Tasks that attach an accepted connection to its protocol."""
        self._unattached: set[socket.socket] = set()
        """Accepted connections without a protocol."""
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        for sock in self.sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    @classmethod
    async def listen(
        cls,
        hosts: Iterable[str],
        port: int,
        factory: Callable[[], asyncio.Protocol],
        *,
        make_room: Callable[[], bool] = lambda: True,
        backlog: int = 100,
    ) -> Acceptor:
        """Listen on ``port`` of all addresses of ``hosts``. Raises ``OSError``."""
        sockets: list[socket.socket] = []
        try:
            for host in hosts:
                addresses = await resolve_sockets(host, port)
                sockets.extend(_listening_socket(address, backlog) for address in addresses)
        except BaseException:
            for sock in sockets:
                sock.close()
            raise
        return cls(sockets, factory, make_room)

    def close(self) -> None:
        """Stop accepting. Connections that are attached to their protocol stay open."""
        for timer in self._paused.values():
            timer.cancel()
        self._paused.clear()
        for task in self._starting:
            task.cancel()
        for sock in self.sockets:
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock.fileno())
                sock.close()

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, _ = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(sock, error)
                return
            connection.setblocking(False)
            close_in_children(connection)
            if is_scarce(connection.fileno()) and not self._make_room():
                connection.close()
                continue
            # asyncio sets this option only on sockets that name their protocol.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._unattached.add(connection)
            task = self._loop.create_task(self._start(connection))
            self._starting.add(task)
            task.add_done_callback(partial(self._started, connection))

    async def _start(self, connection: socket.socket) -> object:
        def make_protocol() -> asyncio.Protocol:
            protocol = self._factory()
            self._unattached.discard(connection)  # from here on the transport closes it
            return protocol

        return await self._loop.connect_accepted_socket(make_protocol, connection)

    def _started(self, connection: socket.socket, task: asyncio.Task[object]) -> None:
        self._starting.discard(task)
        if connection in self._unattached:
            self._unattached.discard(connection)
            connection.close()
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
            log.error("accept_failed", "a connection could not be accepted", exc_info=error, reason=error)

    def _pause(self, sock: socket.socket, error: OSError) -> None:
        log_exhaustion(error)
        self._loop.remove_reader(sock.fileno())
        self._paused[sock] = self._loop.call_later(ACCEPT_PAUSE, self._resume, sock)

    def _resume(self, sock: socket.socket) -> None:
        del self._paused[sock]
        self._loop.add_reader(sock.fileno(), self._accept, sock)


def _listening_socket(address: SocketAddress, backlog: int) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # otherwise "::" would also take the port of 0.0.0.0
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return close_in_children(sock)


def is_out_of_resources(error: OSError) -> bool:
    """Return whether ``error`` says that descriptors or memory of the kernel are in short supply."""
    return error.errno in _OUT_OF_RESOURCES


def log_exhaustion(error: OSError) -> None:
    """Write the line about connections that cannot be accepted, at most one in ``LOG_INTERVAL``. For any thread."""
    global _last_logged  # noqa: PLW0603 - all listening sockets of the process share one line
    now = time.monotonic()
    if now - _last_logged < LOG_INTERVAL:
        return
    _last_logged = now
    log.warning(
        "accept_exhausted",
        "cannot accept connections: %s. New ones wait until descriptors are free (the limit is %d, see `ulimit -n`)",
        error.strerror or error,
        _descriptor_limit(),
        reason=error,
    )


def is_scarce(fd: int) -> bool:
    """Return whether the new descriptor ``fd`` is one of the last. A new descriptor is the smallest free number."""
    limit = _descriptor_limit()
    return fd >= limit - min(64, limit // 8)


def share_of_descriptors(limit: int, part: int = 4) -> int:
    """Return ``limit``, or less if it is more than a quarter (``1 / part``) of the descriptors of the process.

    So strangers leave descriptors for the connections to other nodes.
    """
    return max(4, min(limit, _descriptor_limit() // part))


def _descriptor_limit() -> int:
    import resource  # noqa: PLC0415 - a connection of another host needs it first

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if limit == resource.RLIM_INFINITY else limit
