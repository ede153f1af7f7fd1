"""Connect to a host that may have several addresses: each next address is tried a little later (RFC 8305).

uvloop and the functions of asyncio that take a socket have no such attempts, so they are made here for all of them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, TypeVar

from erlmesh.net.fork_guard import close_in_children
from erlmesh.net.host_names import SocketAddress, interleave, resolve_sockets

__all__ = ["ATTEMPT_DELAY", "connect_host", "first_success"]

T = TypeVar("T")
C = TypeVar("C")

ATTEMPT_DELAY: Final = 0.25
"""Seconds before the next address is tried in parallel (RFC 8305, section 5)."""


async def connect_host(host: str, port: int) -> socket.socket:
    """Return a non-blocking socket that is connected with ``host``. The caller must close it.

    Raises ``socket.gaierror`` if the name has no address, and ``OSError`` if no address can be connected with. If one
    address refuses the connection, that is the error: it shows that the host is up.
    """
    addresses = interleave(await resolve_sockets(host, port))
    return await first_success(addresses, _connect, _close)


async def first_success(
    candidates: Sequence[C], attempt: Callable[[C], Coroutine[object, object, T]], discard: Callable[[T], object]
) -> T:
    """Return the first result of ``attempt(candidate)``. It raises ``OSError`` if it fails.

    The next attempt starts after a failure, or ``ATTEMPT_DELAY`` seconds after the last start. When one attempt has
    succeeded, the others are cancelled. ``discard`` gets the results that are not returned. If all fail, this raises
    the error that :func:`_most_telling` chooses.
    """
    if len(candidates) == 1:  # the usual case needs no task
        return await attempt(candidates[0])
    waiting = list(reversed(candidates))
    running: set[asyncio.Task[T]] = set()
    errors: list[OSError] = []
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(attempt(waiting.pop())))
            done, running = await asyncio.wait(
                running, timeout=ATTEMPT_DELAY if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    running |= done - {task}  # several may have ended in the same iteration of the loop
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                errors.append(error)
    finally:
        await _cancel(running, discard)
    raise _most_telling(errors)


async def _cancel(tasks: set[asyncio.Task[T]], discard: Callable[[T], object]) -> None:
    """Cancel the attempts and wait for their end. ``discard`` gets the result of one that succeeds meanwhile."""

    def ended(task: asyncio.Task[T]) -> None:
        if not task.cancelled() and task.exception() is None:
            discard(task.result())

    for task in tasks:
        task.cancel()
        # A callback also runs if this coroutine is cancelled while it waits.
        task.add_done_callback(ended)
    if tasks:
        await asyncio.wait(tasks)


def _most_telling(errors: Sequence[OSError]) -> OSError:
    """A refusal tells most, because a host has answered. Otherwise the preferred address, which was tried first."""
    for error in errors:
        if isinstance(error, ConnectionRefusedError):
            return error
    return errors[0] if errors else OSError("the host has no address")


async def _connect(address: SocketAddress) -> socket.socket:
    family, where = address
    # asyncio sets TCP_NODELAY only on a socket that names its protocol.
    sock = close_in_children(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _close(sock: socket.socket) -> None:
    sock.close()
