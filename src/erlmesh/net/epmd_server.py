"""An EPMD in this process: the event loop serves it, and a thread instead while the loop is blocked.

The thread accepts connections and answers look-ups and registrations. One request waits for the loop: the registration
of a name that is taken. The loop may not have noticed yet that the node which had the name has disconnected. When the
loop runs again, it takes over the connections that the thread has accepted and not closed.

In the native build the native thread accepts. It answers look-ups itself, also while some code holds the GIL, from
answers that are encoded after each change. The other requests it gives to a Python thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from erlmesh import native
from erlmesh.core.fair_share import FairShare
from erlmesh.net.acceptor import Acceptor, is_scarce, share_of_descriptors
from erlmesh.net.addresses import address_group, is_loopback
from erlmesh.net.event_log import event_log
from erlmesh.net.fork_guard import close_in_children
from erlmesh.net.host_names import resolve_host, wildcard_addresses
from erlmesh.net.native_registry import new_server_id, watchdog_of_loop
from erlmesh.net.watched_sockets import WatchedSockets
from erlmesh.proto import epmd as protocol

__all__ = ["EpmdServer"]

log = event_log("erlmesh.epmd")

CREATION_TICKS_PER_SECOND: Final = 256
"""Creation seeds per second. OTP's epmd uses the time in seconds. An embedded EPMD may stop and start with its node
within one second, and must still give the two incarnations different creations. The seeds repeat after 194 days, and
then only for an incarnation that starts within the same 1/256 second.
"""
MAX_THREAD_CLIENTS: Final = 64
"""Open connections that a thread has accepted. Others wait in the queue of the listening socket."""
READ_SIZE: Final = 1 << 16
FULL_LOG_INTERVAL: Final = 60.0
"""Seconds between two log lines about nodes that were refused because too many are registered."""


class EpmdServer:
    """An EPMD on ``port``. Call :meth:`start` to listen and :meth:`close` to stop.

    ``unix_time`` is the clock for creation seeds, in seconds. ``client_limit`` and ``clients_per_address`` limit the
    clients whose request is not complete. Above a limit the oldest is closed. Registered nodes do not count: at most
    ``max_nodes`` register, or as many as half of the descriptors that the process may have. ``own_name`` is the name of
    the node that runs this EPMD: it always has a place.
    """

    def __init__(
        self,
        port: int,
        unix_time: Callable[[], float] = time.time,
        *,
        client_limit: int = 256,
        clients_per_address: int = 64,
        max_nodes: int = protocol.MAX_NODES,
        own_name: str | None = None,
    ) -> None:
        max_nodes = share_of_descriptors(max_nodes, 2)
        self.registry = protocol.EpmdRegistry(port, max_nodes=max_nodes, own_name=own_name)
        self._waiting: FairShare[_Client] = FairShare(share_of_descriptors(client_limit), clients_per_address)
        """The clients of the event loop whose request is not complete."""
        self.accepted = 0
        """Connections that the event loop has accepted."""
        self._unix_time = unix_time
        self.lock = threading.RLock()
        """Held during every request and every change of the fields below."""
        self._acceptors: list[Acceptor] = []
        self._clients: set[_Client] = set()
        self._listening: list[_ListeningSocket] = []
        self._thread_clients: dict[_ThreadClient, None] = {}
        """The open connections that a thread has accepted, oldest first."""
        self._take_over_scheduled = False
        """``_take_over`` will run in the event loop."""
        self._adoptions: set[asyncio.Task[None]] = set()
        """Tasks that take over a connection."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._native_id = new_server_id(self)
        self._answers: Any = None if native.module is None else native.module.EpmdAnswers()
        """The answers that the native thread knows; None in the pure build."""
        self._logged_full = -math.inf
        self._published = -1
        """``registry.changes`` of these answers."""

    async def start(self, hosts: Iterable[str] | None) -> None:
        """Listen on ``hosts``, or on all interfaces if it is None. Raises ``OSError``."""
        addresses = (
            wildcard_addresses() if hosts is None else [each for host in hosts for each in await resolve_host(host)]
        )
        self._loop = asyncio.get_running_loop()
        acceptor = await Acceptor.listen(
            addresses, self.registry.port, lambda: _Client(self), make_room=self._make_room
        )
        self._acceptors.append(acceptor)
        self._publish()
        for listening in acceptor.sockets:
            with contextlib.suppress(OSError):  # no free descriptor: the loop serves this address alone
                if self._answers is None:
                    self._listening.append(_ListeningSocket(self, self._loop, listening.fileno()))
                else:
                    watchdog = watchdog_of_loop(self._loop)
                    watchdog.add_epmd(self._native_id, listening.fileno(), self._answers)

    @property
    def addresses(self) -> list[str]:
        """The addresses where it listens."""
        return [str(sock.getsockname()[0]) for acceptor in self._acceptors for sock in acceptor.sockets]

    async def listen_additional(self, host: str) -> None:
        """Listen on ``host``, too. Do nothing if its port is in use, for example by this EPMD itself."""
        with contextlib.suppress(OSError):
            await self.start([host])

    def close(self) -> None:
        """Stop listening and close all connections. This ends every registration."""
        if self._answers is not None and self._loop is not None:
            watchdog_of_loop(self._loop).remove_server(self._native_id)
        with self.lock:
            for listening in self._listening:
                listening.close()
            self._listening.clear()
            for thread_client in list(self._thread_clients):
                thread_client.close()
        for task in self._adoptions:
            task.cancel()
        for acceptor in self._acceptors:
            acceptor.close()
        for client in list(self._clients):
            client.close()

    # Requests, in any thread

    def receive_data(self, request: protocol.ServerConnection, data: bytes) -> bytes:
        """Return the response to ``data``; see :meth:`ServerConnection.receive_data`."""
        with self.lock:
            refused = self.registry.refused
            response = request.receive_data(data, _next_creation_seed(self._unix_time()))
            self._publish()
            is_refused = self.registry.refused != refused
        if is_refused:
            self._log_full(time.monotonic())
        return response

    def _log_full(self, now: float) -> None:
        if now - self._logged_full >= FULL_LOG_INTERVAL:
            self._logged_full = now
            log.warning(
                "epmd_full",
                "EPMD on port %d refuses new nodes: %d are registered. Stop some, or allow more open files (ulimit -n)",
                self.registry.port,
                len(self.registry.nodes),
                port=self.registry.port,
            )

    def request_ended(self, request: protocol.ServerConnection) -> None:
        """The connection was closed. This ends its registration."""
        with self.lock:
            self.registry.client_disconnected(request)
            self._publish()

    def _publish(self) -> None:
        """Tell the native thread the answers, if they have changed."""
        registry = self.registry
        if self._answers is not None and self._published != registry.changes:
            self._published = registry.changes
            ports = {name: registry.handle_port_please2(name) for name in registry.nodes}
            self._answers.set(registry.handle_names(), ports)

    # Connections of the event loop

    def client_connected(self, client: _Client, address: str) -> None:
        self.accepted += 1
        if self._answers is not None:
            self._answers.note_accept()
        self._clients.add(client)
        if client.is_waiting() and (oldest := self._waiting.add(client, address)) is not None:
            oldest.close()

    def request_completed(self, client: _Client) -> None:
        self._waiting.discard(client)

    def client_disconnected(self, client: _Client) -> None:
        self._waiting.discard(client)
        self._clients.discard(client)

    def _make_room(self) -> bool:
        """The descriptors are scarce: close the client that waits longest. Without one, accept no other client."""
        client = self._waiting.drop()
        if client is not None:
            client.close()
        return client is not None

    # Connections of a thread

    def adopt_from_thread(self, connection: socket.socket, received: bytes, sockets: WatchedSockets) -> None:
        """Serve a connection that a thread has accepted, until the event loop takes it over.

        It has sent ``received``. The thread serves ``sockets``.
        """
        assert self._loop is not None
        with self.lock:
            if not self._take_over_scheduled:
                self._take_over_scheduled = True
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._take_over)
            client = _ThreadClient(self, self._loop, connection)
            self._thread_clients[client] = None
            client.serve_in(sockets, received)

    def adopt_in_loop(self, connection: socket.socket, received: bytes) -> None:
        """Serve a connection that the native thread has accepted, because the event loop runs again."""
        assert self._loop is not None
        client = _ThreadClient(self, self._loop, connection)
        client.unanswered = received
        self._start_adoption(client)

    def has_room(self) -> bool:
        """Return whether a thread may accept a connection."""
        return len(self._thread_clients) < MAX_THREAD_CLIENTS

    def thread_client_ended(self, client: _ThreadClient) -> None:
        self._thread_clients.pop(client, None)

    def _take_over(self) -> None:
        """Continue with the connections of the thread in the event loop."""
        with self.lock:
            self._take_over_scheduled = False
            clients, self._thread_clients = list(self._thread_clients), {}
            for client in clients:
                client.release()
        for client in clients:
            self._start_adoption(client)

    def _start_adoption(self, client: _ThreadClient) -> None:
        task = asyncio.ensure_future(self._adopt(client))
        self._adoptions.add(task)
        task.add_done_callback(partial(self._adoption_ended, client))

    async def _adopt(self, client: _ThreadClient) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: _Client(self, client.request, client.unanswered), client.socket
        )

    def _adoption_ended(self, client: _ThreadClient, task: asyncio.Task[None]) -> None:
        self._adoptions.discard(task)
        if task.cancelled() or task.exception() is not None:  # the server was closed, or the client has disconnected
            self.request_ended(client.request)
            client.socket.close()


class _Client(asyncio.Protocol):
    """A connection to the embedded EPMD. ``request`` and ``received`` are given if a thread has accepted it."""

    def __init__(
        self, server: EpmdServer, request: protocol.ServerConnection | None = None, received: bytes = b""
    ) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._is_new = request is None
        self._request = request or protocol.ServerConnection(server.registry, self._loop.time())
        self._received = received
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's
        self._transport = transport
        peername = transport.get_extra_info("peername")
        if self._is_new:
            self._request.is_local = _is_local(peername, transport.get_extra_info("sockname"))
        self._server.client_connected(self, address_group(peername))
        deadline = self._request.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._on_deadline)
        if self._received:
            self.data_received(self._received)

    def data_received(self, data: bytes) -> None:
        answer = self._server.receive_data(self._request, data)
        if not self.is_waiting():
            self._server.request_completed(self)
        if self._transport is not None and answer:
            self._transport.write(answer)
        if self._request.should_close:
            self.close()

    def connection_lost(self, _exception: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._server.client_disconnected(self)
        self._server.request_ended(self._request)

    def is_waiting(self) -> bool:
        """Whether the request is not complete."""
        return self._request.next_deadline() is not None

    def _on_deadline(self) -> None:
        if self.is_waiting():
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _ListeningSocket:
    """A listening socket of the event loop, at which a thread accepts connections while the loop is blocked."""

    def __init__(self, server: EpmdServer, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._server = server
        self._watched = WatchedSockets.of_loop(loop)
        self._socket = close_in_children(socket.socket(fileno=os.dup(fd)))  # shares the queue of connections
        self._socket.setblocking(False)
        self._watched.watch(self, self._socket.fileno())

    @property
    def progress(self) -> int:
        return self._server.accepted

    def serve_from_thread(self) -> str:
        with self._server.lock, contextlib.suppress(OSError):  # BlockingIOError after the last one
            while self._server.has_room():
                accepted, _ = self._socket.accept()
                if is_scarce(accepted.fileno()):
                    accepted.close()
                    continue
                self._server.adopt_from_thread(close_in_children(accepted), b"", self._watched)
        return ""

    def close(self) -> None:
        self._watched.unwatch(self)
        self._socket.close()


class _ThreadClient:
    """A connection that a thread has accepted. The caller of each method but the first one holds the server's lock."""

    progress = 0

    def __init__(self, server: EpmdServer, loop: asyncio.AbstractEventLoop, accepted: socket.socket) -> None:
        self._server = server
        self._watched: WatchedSockets | None = None
        """The sockets of the thread that serves this one."""
        self.socket = accepted
        self.socket.setblocking(False)
        self.request = protocol.ServerConnection(server.registry, loop.time())
        self._is_open = True
        self.unanswered = b""
        """The registration that waits for the event loop."""
        with contextlib.suppress(OSError):  # disconnected already
            self.request.is_local = _is_local(accepted.getpeername(), accepted.getsockname())

    def serve_in(self, sockets: WatchedSockets, received: bytes) -> None:
        """Let the thread that serves ``sockets`` serve this one, which has sent ``received``."""
        self._watched = sockets
        sockets.watch(self, self.socket.fileno())
        if received:
            self._receive_data(received)
        else:
            self.serve_from_thread()

    def serve_from_thread(self) -> str:
        with self._server.lock:
            if not self._is_open:
                return ""
            try:
                data = self.socket.recv(READ_SIZE)
            except (BlockingIOError, InterruptedError):
                return ""
            except OSError:
                data = b""
            if data:
                self._receive_data(data)
            else:
                self.close()
        return ""

    def _receive_data(self, data: bytes) -> None:
        if self.request.registers_taken_name(data):
            self.unanswered = data
            self._unwatch()
            return
        answer = self._server.receive_data(self.request, data)
        with contextlib.suppress(OSError):  # disconnected, which the next call of `serve_from_thread` notices
            self.socket.send(answer)
        if self.request.should_close:
            self.close()

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._watched.unwatch(self)

    def close(self) -> None:
        """Close the connection. This ends its registration."""
        self.release()
        self._server.request_ended(self.request)
        self._server.thread_client_ended(self)
        self.socket.close()

    def release(self) -> None:
        """Leave the connection to the event loop."""
        self._is_open = False
        self._unwatch()


_last_creation_seed = 0


def _next_creation_seed(unix_time: float) -> int:
    """Return a seed that is greater than all earlier ones of this process, also if the clock did not advance."""
    global _last_creation_seed  # noqa: PLW0603 - the next EPMD of this process must continue it
    _last_creation_seed = max(int(unix_time * CREATION_TICKS_PER_SECOND), _last_creation_seed + 1)
    return _last_creation_seed


def _is_local(peer: tuple[str, int] | None, local: tuple[str, int] | None) -> bool:
    """Return whether the client is on this machine: its address is a loopback address, or our own end's address."""
    if not peer or not local:  # it has disconnected already
        return False
    return is_loopback(peer[0]) or peer[0] == local[0]
