"""The network as a node sees it: three verbs. Everything that opens a socket for a connection goes through here."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from erlmesh.errors import ConnectError, NodeStartError

__all__ = ["Listener", "Network", "TcpNetwork", "addresses_of_name", "addresses_to_listen_on"]

ALL_INTERFACES: Final = ("0.0.0.0", "::")  # noqa: S104 - asked for by name
SAME_PORT_ATTEMPTS: Final = 10
"""To find a port that is free at every address."""
HAPPY_EYEBALLS_DELAY: Final = 0.25
"""Seconds that one address of a host has before the next is tried too."""


class Listener(Protocol):
    """What accepts connections until it is closed."""

    port: int

    def close(self) -> None:
        """No connection is accepted any more; those there are live on."""


class Network(Protocol):
    """Three verbs; :class:`TcpNetwork` is the real one, and :mod:`erlmesh.testing` has one that keeps its promises."""

    async def addresses(
        self, host: str, listen: Iterable[str] | None
    ) -> tuple[Sequence[str] | None, Sequence[str] | None]:
        """This machine's addresses behind ``host``, the name's part after the ``@``; and those to listen on, which are
        the same unless ``listen`` names others (``*``: every interface). None means any. Raises NodeStartError.
        """

    async def dial(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Opens a connection and hands it to a new ``protocol()``. Raises ConnectError in words."""

    async def listen(
        self, hosts: Iterable[str] | None, ports: Iterable[int], protocol: Callable[[], asyncio.Protocol]
    ) -> Listener:
        """Accepts on all of ``hosts`` (None: every interface), on the first of ``ports`` that is free (0: any).

        Raises NodeStartError.
        """


class _TcpListener:
    def __init__(self, servers: list[asyncio.Server]) -> None:
        self._servers = servers
        self.port: int = servers[0].sockets[0].getsockname()[1]

    def close(self) -> None:
        for server in self._servers:
            server.close()


class TcpNetwork:
    """TCP by asyncio."""

    async def addresses(
        self, host: str, listen: Iterable[str] | None
    ) -> tuple[Sequence[str] | None, Sequence[str] | None]:
        own = await addresses_of_name(host, needed=listen is None)
        return own, own if listen is None else await addresses_to_listen_on(listen)

    async def dial(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        loop = asyncio.get_running_loop()
        try:
            if isinstance(loop, asyncio.BaseEventLoop):
                await loop.create_connection(protocol, host, port, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY)
            else:  # uvloop, which tries one address after the other
                await loop.create_connection(protocol, host, port)
        except socket.gaierror as fault:
            raise ConnectError(f"the host name {host!r} is unknown: {fault.strerror}") from None
        except ConnectionRefusedError:
            raise ConnectError(
                f"nobody listens on port {port} of {host}, where the node is said to be: is it still there?"
            ) from None
        except OSError as fault:
            raise ConnectError(f"cannot reach {host} port {port}: {fault.strerror or fault}") from None

    async def listen(
        self, hosts: Iterable[str] | None, ports: Iterable[int], protocol: Callable[[], asyncio.Protocol]
    ) -> Listener:
        addresses = list(ALL_INTERFACES if hosts is None else hosts)
        tried: list[int] = []
        for port in ports:
            for _ in range(1 if port else SAME_PORT_ATTEMPTS):
                try:
                    return _TcpListener(await _create_servers(addresses, port, protocol, all_needed=hosts is not None))
                except OSError as fault:
                    if fault.errno != errno.EADDRINUSE:
                        raise NodeStartError(f"cannot listen on port {port}: {fault.strerror or fault}") from None
            tried.append(port)
        raise NodeStartError(
            f"cannot listen: {'port' if len(tried) == 1 else 'ports'} {', '.join(map(str, tried))} taken; "
            "choose another, or 0 for any"
        )


async def _create_servers(
    addresses: list[str], port: int, protocol: Callable[[], asyncio.Protocol], *, all_needed: bool
) -> list[asyncio.Server]:
    """One server an address, all on the same port: with 0, on the one that the first gets. Raises ``OSError``."""
    loop = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []
    for address in addresses:
        try:
            servers.append(await loop.create_server(protocol, address, port, backlog=512))
        except OSError as fault:
            if all_needed or not servers or fault.errno == errno.EADDRINUSE:
                for server in servers:
                    server.close()
                raise
            continue  # a machine without IPv6
        port = servers[0].sockets[0].getsockname()[1]
    return servers


async def addresses_of_name(host: str, *, needed: bool = True) -> list[str] | None:
    """The addresses behind a node name's ``host`` if all are this machine's own; None means every interface.

    A node whose name says 127.0.0.1 is for this machine alone. One whose name is a public or a service address that no
    interface here carries (a NAT, a load balancer) can only listen everywhere. Raises NodeStartError if the host is
    unknown here; unless it is not ``needed``: then that means every interface, too.
    """
    try:
        addresses = await _resolve_host(host)
    except socket.gaierror as fault:
        if not needed:
            return None
        raise NodeStartError(
            f"the host part of the node name, {host!r}, cannot be resolved here ({fault.strerror}): "
            "use an address of this machine, for instance 127.0.0.1, or say where to listen"
        ) from None
    return addresses if all(map(_is_local_address, addresses)) else None


async def addresses_to_listen_on(hosts: Iterable[str]) -> list[str] | None:
    """The addresses of ``hosts``, which must be this machine's own; ``*`` means every interface (None).

    Raises NodeStartError.
    """
    found: list[str] = []
    for host in hosts:
        if host == "*":
            return None
        try:
            addresses = await _resolve_host(host)
        except socket.gaierror as fault:
            raise NodeStartError(f"cannot listen on {host!r}: it cannot be resolved here ({fault.strerror})") from None
        if elsewhere := [address for address in addresses if not _is_local_address(address)]:
            raise NodeStartError(f"cannot listen on {host!r}: {elsewhere[0]} is no address of this machine")
        found += addresses
    if not found:
        raise NodeStartError("there is no address to listen on: name one, or * for all")
    return list(dict.fromkeys(found))


async def _resolve_host(host: str) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _is_local_address(address: str) -> bool:
    family = socket.AF_INET6 if ipaddress.ip_address(address.partition("%")[0]).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
