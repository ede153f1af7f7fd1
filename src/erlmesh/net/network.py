"""The network interface of a node, with three operations. Every socket of a connection is opened here."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from erlmesh.errors import ConnectError, NodeStartError
from erlmesh.net.acceptor import Acceptor
from erlmesh.net.happy_eyeballs import connect_host
from erlmesh.net.host_names import resolve_host

__all__ = ["Listener", "Network", "TcpNetwork", "addresses_of_name", "addresses_to_listen_on"]

ALL_INTERFACES: Final = ("0.0.0.0", "::")  # noqa: S104 - used only where the user asks for all interfaces
SAME_PORT_ATTEMPTS: Final = 10
"""Attempts to find a port that is free at every address."""
BACKLOG: Final = 512
"""Connections that the kernel keeps until they are accepted."""


class Listener(Protocol):
    """Accepts connections on ``port`` until it is closed."""

    port: int

    def close(self) -> None:
        """Stop accepting connections. Existing connections stay open."""


class Network(Protocol):
    """The interface. :class:`TcpNetwork` is the real network; :mod:`erlmesh.testing` has a simulated one."""

    async def addresses(
        self, host: str, listen: Iterable[str] | None
    ) -> tuple[Sequence[str] | None, Sequence[str] | None]:
        """Return this machine's addresses of ``host``, and the addresses to listen on.

        ``host`` is the part of the node name after the ``@``. The addresses to listen on are the same, unless
        ``listen`` has other hosts; ``*`` means every interface. In the result, None means every interface. Raises
        NodeStartError.
        """

    async def dial(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Open a connection and attach it to a new ``protocol()``. Raises ConnectError."""

    async def listen(
        self, hosts: Iterable[str] | None, ports: Iterable[int], protocol: Callable[[], asyncio.Protocol]
    ) -> Listener:
        """Accept connections on all of ``hosts``, on the first port of ``ports`` that is free at all of them.

        ``hosts`` None means every interface. Port 0 means any free port. Raises NodeStartError.
        """


class _TcpListener:
    def __init__(self, acceptors: list[Acceptor]) -> None:
        self._acceptors = acceptors
        self.port: int = acceptors[0].sockets[0].getsockname()[1]

    def close(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()


class TcpNetwork:
    """The real network: TCP connections of asyncio."""

    async def addresses(
        self, host: str, listen: Iterable[str] | None
    ) -> tuple[Sequence[str] | None, Sequence[str] | None]:
        own = await addresses_of_name(host, needed=listen is None)
        return own, own if listen is None else await addresses_to_listen_on(listen)

    async def dial(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        try:
            sock = await connect_host(host, port)
            await attach(sock, protocol)
        except socket.gaierror as error:
            raise ConnectError(f"the host name {host!r} cannot be resolved: {error.strerror}") from None
        except ConnectionRefusedError:
            raise ConnectError(
                f"nothing listens on port {port} of {host}, where the node should listen: is it still running?"
            ) from None
        except OSError as error:
            raise ConnectError(f"cannot reach {host} port {port}: {error.strerror or error}") from None

    async def listen(
        self, hosts: Iterable[str] | None, ports: Iterable[int], protocol: Callable[[], asyncio.Protocol]
    ) -> Listener:
        addresses = list(ALL_INTERFACES if hosts is None else hosts)
        tried: list[int] = []
        for port in ports:
            # With port 0 the first address gets a free port, which may be in use at another address: try again.
            for _ in range(1 if port else SAME_PORT_ATTEMPTS):
                try:
                    return _TcpListener(
                        await _create_acceptors(addresses, port, protocol, all_needed=hosts is not None)
                    )
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise NodeStartError(f"cannot listen on port {port}: {error.strerror or error}") from None
            tried.append(port)
        raise NodeStartError(
            f"cannot listen: {'port' if len(tried) == 1 else 'ports'} {', '.join(map(str, tried))} taken; "
            "choose another port, or 0 for any"
        )


async def attach(sock: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
    """Attach the connected ``sock`` to a new ``protocol()``. If ``protocol`` raises, this closes the socket."""

    def make_protocol() -> asyncio.Protocol:
        try:
            return protocol()
        except BaseException:
            sock.close()
            raise

    await asyncio.get_running_loop().create_connection(make_protocol, sock=sock)


async def _create_acceptors(
    addresses: list[str], port: int, protocol: Callable[[], asyncio.Protocol], *, all_needed: bool
) -> list[Acceptor]:
    """Create one acceptor per address, all on the same port. Raises ``OSError``.

    With port 0, all use the port that the first one gets. With ``all_needed`` false, an address that this machine
    cannot use is skipped.
    """
    acceptors: list[Acceptor] = []
    for address in addresses:
        try:
            acceptors.append(await Acceptor.listen([address], port, protocol, backlog=BACKLOG))
        except OSError as error:
            if all_needed or not acceptors or error.errno == errno.EADDRINUSE:
                for acceptor in acceptors:
                    acceptor.close()
                raise
            continue  # this machine has no IPv6
        port = acceptors[0].sockets[0].getsockname()[1]
    return acceptors


async def addresses_of_name(host: str, *, needed: bool = True) -> list[str] | None:
    """Return the addresses of a node name's ``host`` if all belong to this machine; None means every interface.

    A node with 127.0.0.1 in its name can be reached from this machine only. If the name has a public or service address
    that no interface of this machine has (NAT, a load balancer), the node must listen on every interface.

    Raises NodeStartError if the host cannot be resolved here. If it is not ``needed``, because the user chose where to
    listen, the result is None instead.
    """
    try:
        addresses = await resolve_host(host)
    except socket.gaierror as error:
        if not needed:
            return None
        raise NodeStartError(
            f"the host part of the node name, {host!r}, cannot be resolved here ({error.strerror}): "
            "use an address of this machine, for instance 127.0.0.1, or choose where to listen"
        ) from None
    return addresses if all(map(_is_local_address, addresses)) else None


async def addresses_to_listen_on(hosts: Iterable[str]) -> list[str] | None:
    """Return the addresses of ``hosts``; None if one of them is ``*``, which means every interface.

    Raises NodeStartError if a host cannot be resolved or is not this machine.
    """
    found: list[str] = []
    for host in hosts:
        if host == "*":
            return None
        try:
            addresses = await resolve_host(host)
        except socket.gaierror as error:
            raise NodeStartError(f"cannot listen on {host!r}: it cannot be resolved here ({error.strerror})") from None
        if foreign := [address for address in addresses if not _is_local_address(address)]:
            raise NodeStartError(f"cannot listen on {host!r}: {foreign[0]} is not an address of this machine")
        found += addresses
    if not found:
        raise NodeStartError("there is no address to listen on: give one, or * for all")
    return list(dict.fromkeys(found))


def _is_local_address(address: str) -> bool:
    """Return whether this machine can bind a socket to ``address``."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
