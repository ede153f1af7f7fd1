"""EPMD on the network: asks it, stays registered with it, and is it where none runs.

There is one EPMD a host. A node that finds none becomes it, for as long as the node lives; the others register anew
with whoever takes over, and keep their creation. EPMD answers on 127.0.0.1 for the nodes of its host, and for other
hosts at the addresses that nodes have in their names: an embedded one may not listen there (it belongs to a node of
another address), so each node sees to it that its own address answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from erlmesh.errors import ConnectError, ErlmeshError, NodeStartError, RemoteProtocolError
from erlmesh.net.addresses import has_ipv6_loopback, is_loopback, local_addresses
from erlmesh.proto import epmd as protocol

__all__ = ["Epmd", "EpmdServer", "default_port", "registered_names"]

log = logging.getLogger("erlmesh.epmd")

LOCALHOST: Final = "127.0.0.1"
LOCALHOST_6: Final = "::1"
"""Where a BEAM of ``-proto_dist inet6_tcp`` registers."""
RETRY_INTERVAL: Final = 2.0
"""Seconds between attempts to register anew, as erl_epmd.erl does."""
ANSWER_TIMEOUT: Final = 5.0
"""Seconds for an EPMD to answer."""
MAX_ANSWER_BYTES: Final = 1 << 20
CREATION_TICKS_PER_SECOND: Final = 16
"""In a second, for creations. OTP's epmd counts seconds; but one that ends with its node, and begins anew with it, must
tell two lives in one second apart.
"""


def default_port() -> int:
    """``ERL_EPMD_PORT``, or 4369. Raises NodeStartError for what is no port."""
    text = os.environ.get("ERL_EPMD_PORT", "")
    if not text:
        return protocol.DEFAULT_PORT
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise NodeStartError(f"ERL_EPMD_PORT is {text!r}, which is no port number")
    return int(text)


class Epmd:
    """A node's dealings with EPMD. ``port`` None means :func:`default_port`; ``be_it`` False never starts one."""

    def __init__(self, port: int | None = None, *, embedded: bool = True) -> None:
        self.port = default_port() if port is None else port
        self.server: EpmdServer | None = None
        self._embedded = embedded
        self._request = b""
        self._hosts: Sequence[str] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._registration_task: asyncio.Task[None] | None = None
        self._relays: list[asyncio.Server] = []

    # The own node

    async def register(self, name: str, port: int, *, hosts: Sequence[str] | None, hidden: bool) -> int:
        """Registers, being EPMD if none runs, and stays registered until :meth:`close`; returns the creation.

        ``hosts`` are the addresses behind the node's name (None: any). Raises NodeStartError in words.
        """
        self._request = protocol.encode_register(name, port, hidden=hidden)
        self._hosts = hosts
        reader, answer = await self._register_with_retries()
        if isinstance(answer, protocol.NameTaken):
            await self.close()
            raise NodeStartError(
                f"the name {name!r} is taken by another node of this host: choose another, or stop that one"
            )
        self._registration_task = asyncio.create_task(self._stay_registered(reader))
        await self._start_relays()
        return answer.creation

    async def _register_with_retries(self) -> tuple[asyncio.StreamReader, protocol.Registered | protocol.NameTaken]:
        for _ in range(20):  # whoever loses the race to be EPMD finds the winner at the next attempt
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    return await self._send_registration()
            except ConnectionRefusedError:
                if not self._embedded:
                    raise NodeStartError(f"no EPMD answers on port {self.port} of this host") from None
                await self._start_server()
            except (ConnectionError, asyncio.IncompleteReadError):
                continue  # it ended while we asked
            except TimeoutError:
                raise NodeStartError(
                    f"what listens on port {self.port} does not answer as an EPMD: is the port used by something else?"
                ) from None
            except RemoteProtocolError as fault:
                raise NodeStartError(f"port {self.port}: {fault}") from None
        raise NodeStartError(f"no EPMD could be reached or started on port {self.port}")

    async def _send_registration(self) -> tuple[asyncio.StreamReader, protocol.Registered | protocol.NameTaken]:
        reader, writer = await asyncio.open_connection(LOCALHOST, self.port)
        try:
            writer.write(self._request)
            data = b""
            while (answer := protocol.decode_register_response(data)) is None:
                piece = await reader.read(64)
                if not piece:
                    raise ConnectionResetError
                data += piece
        except BaseException:
            writer.close()
            raise
        if isinstance(answer, protocol.Registered):
            self._writer = writer
        else:
            writer.close()
        return reader, answer

    async def _start_server(self) -> None:
        everywhere = self._hosts is None or not all(map(is_loopback, self._hosts))
        server = EpmdServer(self.port)
        try:
            await server.start(None if everywhere else [LOCALHOST])
        except OSError as fault:
            if fault.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise NodeStartError(f"cannot be the EPMD on port {self.port}: {fault.strerror or fault}") from None
            if everywhere:  # some address is in use, by a node that answers there for itself
                try:
                    await server.start([LOCALHOST])
                except OSError:
                    return
            else:
                return
        self.server = server
        if has_ipv6_loopback():
            await server.listen_additional(LOCALHOST_6)
        log.info("no EPMD ran on port %d: this node is it now", self.port)

    async def _stay_registered(self, reader: asyncio.StreamReader) -> None:
        """Stays registered: the registration lives as long as its connection."""
        while True:
            try:
                while await reader.read(256):
                    pass
            except OSError:
                pass
            if self._writer is not None:
                self._writer.close()
            log.info("EPMD is gone; registering anew")
            while True:
                try:
                    reader, answer = await self._register_with_retries()
                except ErlmeshError as fault:
                    log.warning("%s; trying again", fault)
                else:
                    if isinstance(answer, protocol.Registered):
                        break  # its creation is not ours: our pids are out in the world already
                    log.warning("our name is registered by another node now; trying again")
                await asyncio.sleep(RETRY_INTERVAL)

    async def _start_relays(self) -> None:
        for host in local_addresses() if self._hosts is None else self._hosts:
            if host == LOCALHOST:
                continue
            try:
                front = await asyncio.start_server(self._relay, host, self.port)
            except OSError:
                continue  # somebody answers there: EPMD itself, or a node with the same address
            self._relays.append(front)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(protocol.REQUEST_TIMEOUT):
                request = await reader.readexactly(2)
                request += await reader.readexactly(int.from_bytes(request, "big"))
                if request[2] == protocol.Request.ALIVE2:
                    return  # a node registers on its own host
                writer.write(await _query(LOCALHOST, self.port, request))
        except (OSError, EOFError, TimeoutError, IndexError):
            pass
        finally:
            writer.close()

    async def close(self) -> None:
        """Unregisters; if this node was the EPMD of its host, there is none until another node takes over."""
        if self._registration_task is not None:
            self._registration_task.cancel()
            await asyncio.wait([self._registration_task])
            self._registration_task = None
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._writer = None
        for front in self._relays:
            front.close()
        self._relays.clear()
        if self.server is not None:
            self.server.close()
            self.server = None

    # Other nodes

    async def resolve(self, name: str) -> tuple[str, int]:
        """Host and port of the node ``name``, by the EPMD of its host. Raises ConnectError in words."""
        alive, _, host = name.partition("@")
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                answer = protocol.decode_lookup_response(await _query(host, self.port, protocol.encode_lookup(alive)))
        except socket.gaierror as fault:
            raise ConnectError(f"the host {host!r} is unknown here: {fault.strerror}") from None
        except ConnectionRefusedError:
            raise ConnectError(
                f"no EPMD answers on port {self.port} of {host}: no node runs there, or it uses another EPMD port"
            ) from None
        except TimeoutError:
            raise ConnectError(
                f"{host} does not answer on EPMD's port {self.port}: is it up, and the port open?"
            ) from None
        except OSError as fault:
            raise ConnectError(f"cannot reach EPMD on {host} port {self.port}: {fault.strerror or fault}") from None
        except RemoteProtocolError as fault:
            raise ConnectError(f"{host} port {self.port}: {fault}") from None
        if answer is None:
            raise ConnectError(f"the EPMD of {host} knows no node {alive!r}: it is not running, or has another name")
        if answer.highest_version < 6:
            raise ConnectError(
                f"{name} speaks the distribution protocol up to version {answer.highest_version} only (OTP 22 or before): "
                "6 is needed"
            )
        return host, answer.port


async def registered_names(host: str, port: int) -> dict[str, int]:
    """The nodes that the EPMD of ``host`` knows, with their ports. Raises ``OSError`` or RemoteProtocolError."""
    async with asyncio.timeout(ANSWER_TIMEOUT):
        return protocol.decode_names_response(await _query(host, port, protocol.encode_names()))


async def _query(host: str, port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        answer = b""
        while len(answer) < MAX_ANSWER_BYTES and (piece := await reader.read(1 << 16)):
            answer += piece
        return answer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class EpmdServer:
    """An EPMD on ``port``: :meth:`start` it, and :meth:`close` it."""

    def __init__(self, port: int, unix_time: Callable[[], float] = time.time) -> None:
        self.registry = protocol.EpmdRegistry(port)
        self.unix_time = unix_time
        self._servers: list[asyncio.Server] = []
        self._clients: set[_Client] = set()

    async def start(self, hosts: Iterable[str] | None) -> None:
        """Listens on ``hosts`` (None: all interfaces). Raises ``OSError``."""
        where = None if hosts is None else list(hosts)
        self._servers.append(
            await asyncio.get_running_loop().create_server(lambda: _Client(self), where, self.registry.port)
        )

    async def listen_additional(self, host: str) -> None:
        """Listens on ``host`` as well, if nobody else (this very EPMD, for instance) does."""
        with contextlib.suppress(OSError):
            await self.start([host])

    def close(self) -> None:
        """Ends, and with it every registration."""
        for server in self._servers:
            server.close()
        for client in list(self._clients):
            client.close()

    def client_connected(self, client: _Client) -> None:
        self._clients.add(client)

    def client_disconnected(self, client: _Client) -> None:
        self._clients.discard(client)
        self.registry.client_disconnected(client)


class _Client(asyncio.Protocol):
    def __init__(self, server: EpmdServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._request = protocol.ServerConnection(server.registry, self, self._loop.time())
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's
        self._transport = transport
        self._request.is_local = _is_local(transport)
        self._server.client_connected(self)
        deadline = self._request.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._on_deadline)

    def data_received(self, data: bytes) -> None:
        answer = self._request.receive_data(data, int(self._server.unix_time() * CREATION_TICKS_PER_SECOND))
        if self._transport is not None and answer:
            self._transport.write(answer)
        if self._request.should_close:
            self.close()

    def connection_lost(self, _exception: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._server.client_disconnected(self)

    def _on_deadline(self) -> None:
        if self._request.next_deadline() is not None:
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _is_local(transport: asyncio.Transport) -> bool:
    there, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return bool(there) and (is_loopback(there[0]) or there[0] == here[0])
