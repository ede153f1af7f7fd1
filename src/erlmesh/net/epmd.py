"""EPMD on the network: look-ups, a permanent registration, and an embedded EPMD on hosts where none runs.

There is one EPMD per host. A node that finds none starts one inside itself, for as long as the node runs. When that
node stops, the others register with the next EPMD and keep their creation.

Nodes of the same host reach EPMD on 127.0.0.1. Other hosts reach it at the addresses in the names of nodes. An embedded
EPMD may not be able to listen there, because it may belong to a node with another address. So each node makes sure that
EPMD is reachable at its own address, with a relay if necessary.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from erlmesh.errors import ConnectError, ErlmeshError, NodeStartError, RemoteProtocolError
from erlmesh.net.addresses import has_ipv6_loopback, is_loopback, local_addresses
from erlmesh.net.epmd_port import default_port
from erlmesh.net.event_log import event_log
from erlmesh.net.happy_eyeballs import connect_host
from erlmesh.proto import epmd as protocol

if TYPE_CHECKING:
    from erlmesh.net.epmd_relay import EpmdRelay
    from erlmesh.net.epmd_server import EpmdServer

__all__ = ["CLIENTS_PER_ADDRESS", "CLIENT_LIMIT", "Epmd", "configured_addresses", "default_port", "registered_names"]

log = event_log("erlmesh.epmd")

LOCALHOST: Final = "127.0.0.1"
LOCALHOST_6: Final = "::1"
"""The address at which a BEAM with ``-proto_dist inet6_tcp`` registers."""
RETRY_INTERVAL: Final = 2.0
"""Seconds between attempts to register again, as in ``erl_epmd.erl``."""
ANSWER_TIMEOUT: Final = 5.0
"""Seconds to wait for the response of an EPMD."""
MAX_ANSWER_BYTES: Final = 1 << 20
"""Bytes of a response to read at most, so that another service on the port cannot fill the memory."""
CLIENT_LIMIT: Final = 256
"""Clients of an embedded EPMD or a relay whose request is not complete. Registered nodes do not count."""
CLIENTS_PER_ADDRESS: Final = 64
"""The same for the clients of one address."""


def configured_addresses() -> list[str] | None:
    """Return the addresses in ``ERL_EPMD_ADDRESS``, where an embedded EPMD listens; None if it is not set.

    As with OTP's epmd, the value is a list with commas, and the loopback address is always one of them. Raises
    NodeStartError if one is not an address.
    """
    text = os.environ.get("ERL_EPMD_ADDRESS", "")
    if not text.strip():
        return None
    found = [LOCALHOST]
    for address in filter(None, (each.strip() for each in text.split(","))):
        try:
            socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address.partition("%")[0])
        except OSError:
            raise NodeStartError(f"ERL_EPMD_ADDRESS contains {address!r}, which is not an IP address") from None
        found.append(address)
    return list(dict.fromkeys(found))


def _contains_wildcard(addresses: Sequence[str]) -> bool:
    """Tell whether the list means every interface. OTP's epmd does not start then, as it also binds 127.0.0.1."""
    return bool({"0.0.0.0", "::"} & {*addresses})  # noqa: S104 - to compare


class Epmd:
    """A node's resolver and port mapper that uses EPMD.

    ``port`` is EPMD's port, by default :func:`default_port`. If ``embedded`` is false, the node never starts an EPMD
    itself; without a running EPMD it cannot start. ``client_limit`` and ``clients_per_address`` limit the clients of
    an embedded EPMD whose request is not complete yet.
    """

    def __init__(
        self,
        port: int | None = None,
        *,
        embedded: bool = True,
        client_limit: int = CLIENT_LIMIT,
        clients_per_address: int = CLIENTS_PER_ADDRESS,
    ) -> None:
        self.port = default_port() if port is None else port
        self._client_limit = client_limit
        self._clients_per_address = clients_per_address
        self.server: EpmdServer | None = None
        """The embedded EPMD, if this node runs it."""
        self._embedded = embedded
        self._name = ""
        self._request = b""
        """The registration request."""
        self._hosts: Sequence[str] | None = None
        """This machine's addresses in the node's name; None for all addresses."""
        self._writer: asyncio.StreamWriter | None = None
        """The connection that keeps the registration alive."""
        self._registration_task: asyncio.Task[None] | None = None
        self._relay: EpmdRelay | None = None
        """Listens at our own addresses and passes look-ups on to the EPMD of this host."""

    # The local node

    @property
    def addresses(self) -> list[str]:
        """The addresses at which the embedded EPMD and the relay listen."""
        return [
            *(self.server.addresses if self.server is not None else ()),
            *(self._relay.addresses if self._relay is not None else ()),
        ]

    async def register(self, name: str, port: int, *, hosts: Sequence[str] | None, hidden: bool) -> int:
        """Register the node, and keep it registered until :meth:`close`. Return the creation.

        ``name`` is the node name without ``@host``. ``hosts`` are this machine's addresses in the node's name; None
        means all addresses. If no EPMD runs, this starts an embedded one. Raises NodeStartError.
        """
        self._name = name
        self._request = protocol.encode_register(name, port, hidden=hidden)
        self._hosts = hosts
        reader, answer = await self._register_with_retries()
        if isinstance(answer, protocol.NameTaken):
            await self.close()
            raise NodeStartError(
                f"the name {name!r} is taken by another node on this host: choose another name, or stop that node"
            )
        self._registration_task = asyncio.create_task(self._stay_registered(reader))
        await self._start_relays()
        return answer.creation

    async def _register_with_retries(self) -> tuple[asyncio.StreamReader, protocol.Registered | protocol.NameTaken]:
        # Several nodes may try to start EPMD at the same time. Those that lose the race find the winner in the next
        # attempt.
        for _ in range(20):
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    return await self._send_registration()
            except ConnectionRefusedError:
                if not self._embedded:
                    raise NodeStartError(f"no EPMD answers on port {self.port} of this host") from None
                await self._start_server()
            except (ConnectionError, asyncio.IncompleteReadError):
                continue  # EPMD stopped during the request
            except TimeoutError:
                raise NodeStartError(
                    f"the service on port {self.port} does not answer like EPMD: does another program use the port?"
                ) from None
            except RemoteProtocolError as error:
                raise NodeStartError(f"port {self.port}: {error}") from None
        raise NodeStartError(f"no EPMD could be reached or started on port {self.port}")

    async def _send_registration(self) -> tuple[asyncio.StreamReader, protocol.Registered | protocol.NameTaken]:
        reader, writer = await asyncio.open_connection(sock=await connect_host(LOCALHOST, self.port))
        try:
            writer.write(self._request)
            data = b""
            while (answer := protocol.decode_register_response(data)) is None:
                piece = await reader.read(64)
                if not piece:
                    raise ConnectionResetError  # EPMD closed without a response
                data += piece
        except BaseException:
            writer.close()
            raise
        if isinstance(answer, protocol.Registered):
            self._writer = writer  # the registration lasts as long as this connection
        else:
            writer.close()
        return reader, answer

    async def _start_server(self) -> None:
        """Start the embedded EPMD. If another node started one first, return: the next attempt to register finds it."""
        from erlmesh.net.epmd_server import EpmdServer  # noqa: PLC0415 - most nodes find an EPMD

        # A node that other hosts cannot reach needs an EPMD on the loopback address only.
        all_interfaces = self._hosts is None or not all(map(is_loopback, self._hosts))
        configured = configured_addresses()
        if configured is not None:
            all_interfaces = _contains_wildcard(configured)
        server = EpmdServer(
            self.port,
            client_limit=self._client_limit,
            clients_per_address=self._clients_per_address,
            own_name=self._name,
        )
        try:
            await server.start(None if all_interfaces else [LOCALHOST])
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise NodeStartError(f"cannot start EPMD on port {self.port}: {error.strerror or error}") from None
            if all_interfaces:  # one address may be in use by the relay of another node
                try:
                    await server.start([LOCALHOST])
                except OSError:
                    return
            else:
                return
        self.server = server
        if has_ipv6_loopback() and (configured is None or LOCALHOST_6 in configured):
            await server.listen_additional(LOCALHOST_6)
        for address in () if all_interfaces else configured or ():
            if address not in (LOCALHOST, LOCALHOST_6):
                try:
                    await server.start([address])
                except OSError as error:
                    log.warning(
                        "epmd_listen_failed",
                        "ERL_EPMD_ADDRESS: EPMD cannot listen on %s: %s",
                        address,
                        error.strerror or error,
                        address=address,
                        reason=error,
                    )
        log.info("epmd_started", "no EPMD was running on port %d: started one in this node", self.port, port=self.port)

    async def _stay_registered(self, reader: asyncio.StreamReader) -> None:
        """Register again whenever EPMD closes the connection of the registration. Runs until it is cancelled."""
        while True:
            try:
                while await reader.read(256):  # EPMD sends nothing: this waits for the end of the connection
                    pass
            except OSError:
                pass
            if self._writer is not None:
                self._writer.close()
            log.info("epmd_lost", "EPMD has stopped; registering again", port=self.port)
            while True:
                try:
                    reader, answer = await self._register_with_retries()
                except ErlmeshError as error:
                    log.warning("epmd_register_failed", "%s; trying again", error, port=self.port, reason=error)
                else:
                    if isinstance(answer, protocol.Registered):
                        # Ignore the new creation: other nodes already have pids of ours with the first one.
                        break
                    log.warning("epmd_name_taken", "another node has registered our name; trying again", port=self.port)
                await asyncio.sleep(RETRY_INTERVAL)

    async def _start_relays(self) -> None:
        """Listen at each own address where EPMD does not listen yet, and where it may listen."""
        from erlmesh.net.epmd_relay import EpmdRelay  # noqa: PLC0415 - most nodes need no relay

        allowed = configured_addresses()
        for host in local_addresses() if self._hosts is None else self._hosts:
            if host == LOCALHOST or not (allowed is None or host in allowed or _contains_wildcard(allowed)):
                continue
            relay = self._relay or EpmdRelay(
                self.port,
                self._ask_local_epmd,
                client_limit=self._client_limit,
                clients_per_address=self._clients_per_address,
            )
            try:
                await relay.listen(host)
            except OSError:
                continue  # EPMD itself listens there, or the relay of a node with the same address
            self._relay = relay

    async def _ask_local_epmd(self, request: bytes) -> bytes:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return await _query(LOCALHOST, self.port, request)

    async def close(self) -> None:
        """Unregister the node and stop the embedded EPMD. The host has no EPMD until another node starts one."""
        if self._registration_task is not None:
            self._registration_task.cancel()
            await asyncio.wait([self._registration_task])
            self._registration_task = None
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
            self._writer = None
        if self._relay is not None:
            self._relay.close()
            self._relay = None
        if self.server is not None:
            self.server.close()
            self.server = None

    # Other nodes

    async def resolve(self, name: str) -> tuple[str, int]:
        """Return the host and port of the node ``name``, from the EPMD of its host. Raises ConnectError."""
        short_name, _, host = name.partition("@")
        request = protocol.encode_lookup(short_name)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                port_info = protocol.decode_lookup_response(await _query(host, self.port, request))
        except socket.gaierror as error:
            raise ConnectError(f"the host {host!r} cannot be resolved here: {error.strerror}") from None
        except ConnectionRefusedError:
            raise ConnectError(
                f"no EPMD answers on port {self.port} of {host}: no node runs there, or it uses another EPMD port"
            ) from None
        except TimeoutError:
            raise ConnectError(
                f"{host} does not answer on EPMD's port {self.port}: is it up, and the port open?"
            ) from None
        except OSError as error:
            raise ConnectError(f"cannot reach EPMD on {host} port {self.port}: {error.strerror or error}") from None
        except RemoteProtocolError as error:
            raise ConnectError(f"{host} port {self.port}: {error}") from None
        if port_info is None:
            raise ConnectError(
                f"the EPMD of {host} knows no node {short_name!r}: it is not running, or has another name"
            )
        if port_info.highest_version < 6:
            raise ConnectError(
                f"{name} supports the distribution protocol only up to version {port_info.highest_version} "
                "(OTP 22 or older): 6 is required"
            )
        return host, port_info.port


async def registered_names(host: str, port: int) -> protocol.Names:
    """Return the ports of all nodes that the EPMD of ``host`` knows, by name. The names are checked.

    Raises ``OSError`` (``TimeoutError`` included) or RemoteProtocolError.
    """
    async with asyncio.timeout(ANSWER_TIMEOUT):
        return protocol.decode_names_response(await _query(host, port, protocol.encode_names()))


async def _query(host: str, port: int, request: bytes) -> bytes:
    """Send a request, and return everything that EPMD sends until it closes the connection."""
    reader, writer = await asyncio.open_connection(sock=await connect_host(host, port))
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
