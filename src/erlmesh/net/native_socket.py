"""The part of a connection's socket that the event loop shares with the native watchdog thread.

The thread needs no GIL, so its state is in native objects: a ``Link`` for each connection, and a ``Watchdog`` for each
event loop, which knows the links.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from typing import Any, Final

from erlmesh import native
from erlmesh.net.native_registry import watchdog_of_loop
from erlmesh.net.shared_socket import NO_WRITES, ExternalWrites, PureSharedSocket, SocketQueue

__all__ = ["NativeSharedSocket", "native_links", "native_socket"]

native_links: Final[weakref.WeakValueDictionary[int, NativeSharedSocket]] = weakref.WeakValueDictionary()
"""The sockets by the identifiers of their links."""


def native_socket(queue: SocketQueue, pure: PureSharedSocket) -> NativeSharedSocket | None:
    """Return the socket that replaces ``pure`` if ``queue`` is a native wire. It takes over the data of ``pure``.

    The result is None for TLS, because a link writes the bytes of the wire. It is None, too, if the process has no free
    descriptor. Then the watchdog thread does not serve this connection.
    """
    if native.module is None or not isinstance(queue, native.module.Wire) or not pure.is_plain:
        return None
    try:
        duplicate = os.dup(pure.fd)
    except OSError:
        return None
    link = native.module.Link(queue, duplicate, pure.budget, pure.take_first())
    return NativeSharedSocket(link, duplicate, pure.attend, pure.peer)


class NativeSharedSocket:
    """Implements :class:`erlmesh.net.shared_socket.SharedSocket` with a native link.

    ``fd`` is a duplicate of the transport's descriptor. It belongs to the link.
    """

    def __init__(self, link: Any, fd: int, attend: Callable[[], None], peer: str) -> None:
        self.link = link
        self.fd = fd
        self.attend = attend
        """Call this in the event loop when the thread needs it."""
        self.peer = peer
        # Attributes instead of methods: a call that only passes on costs a tenth of a short message.
        self.flush: Callable[[], int] = link.flush
        self.drop_waiting: Callable[[], None] = link.drop_waiting
        self.stop_thread_writes: Callable[[], None] = link.stop_thread_writes
        self.write_from_thread: Callable[[bytes], bool] = link.write_from_thread
        self._loop = asyncio.get_running_loop()
        self._watchdog = watchdog_of_loop(self._loop)
        self._watchdog.add_link(link)
        native_links[link.id] = self

    @property
    def error(self) -> OSError | None:
        found: OSError | None = self.link.error
        return found

    @property
    def must_abort(self) -> bool:
        return bool(self.link.must_abort)

    @property
    def last_written_at(self) -> float:
        return float(self.link.last_written_at)

    @property
    def last_thread_read_at(self) -> float | None:
        found: float | None = self.link.last_thread_read_at
        return found

    @property
    def queued(self) -> int:
        found: int = self.link.queued
        return found

    @property
    def buffered(self) -> int:
        found: int = self.link.buffered
        return found

    def take_external_writes(self) -> ExternalWrites:
        frames, size, last_at = self.link.take_external_writes()
        return ExternalWrites(frames, size, last_at) if size else NO_WRITES

    def start_reading(self) -> None:
        self.link.start_reading()
        self._watchdog.link_changed()

    def stop_reading(self) -> None:
        self.link.stop_reading()

    def watch_again(self) -> None:
        if self.link.watch_again():
            self._watchdog.link_changed()

    def keep_alive(self, node: int, net_ticktime: float, blocked_frame: bytes) -> None:
        """Let the thread send ticks, and once ``blocked_frame``, in place of a blocked event loop.

        ``blocked_frame`` ends with a number of 4 bytes, which is replaced with the milliseconds of the block. ``node``
        identifies the local node.
        """
        self.link.keep_alive(node, net_ticktime, blocked_frame)
        self._watchdog.link_changed()

    def close(self) -> None:
        self._watchdog.remove_link(self.link)
        self.link.close()

    def serve_from_thread(self) -> str:
        is_full = self.link.serve_from_thread()
        self._loop.call_soon_threadsafe(self.attend)
        return self.peer if is_full else ""
