"""The addresses of a host name. A numeric address needs no thread; a name is looked up in a thread of our own."""

from __future__ import annotations

import socket
from functools import partial
from typing import Final, TypeAlias

from erlmesh.net.lookup_threads import look_up

__all__ = ["SocketAddress", "interleave", "resolve_host", "resolve_sockets", "wildcard_addresses"]

SocketAddress: TypeAlias = "tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]"
"""The family, and what ``socket.connect`` takes: address and port; for IPv6 also flow information and scope."""

NOT_A_HOST_NAME: Final = "it is not a host name"


async def resolve_host(host: str) -> list[str]:
    """Return the addresses of ``host`` as texts, in the order of preference. Raises ``socket.gaierror``."""
    return list(dict.fromkeys(address[0] for _, address in await resolve_sockets(host, 0)))


async def resolve_sockets(host: str, port: int) -> list[SocketAddress]:
    """Return where to connect to for ``port`` of ``host``, in the order of preference. Raises ``socket.gaierror``."""
    try:
        try:
            # With this flag, the call does not ask a name server. It refuses names.
            found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = await look_up(f"host {host}", partial(socket.getaddrinfo, host, 0, type=socket.SOCK_STREAM))
    except UnicodeError:  # not valid in IDNA
        raise socket.gaierror(socket.EAI_NONAME, NOT_A_HOST_NAME) from None
    # The port is entered here, so that look-ups for several ports share one thread.
    addresses = [_with_port(family, address, port) for family, _, _, _, address in found if len(address) in (2, 4)]
    return list(dict.fromkeys(addresses))


def wildcard_addresses() -> list[str]:
    """Return the addresses that stand for all interfaces, of each family that this machine has."""
    # Without a name nothing is looked up. asyncio would do it in the default executor, which may be full.
    found = socket.getaddrinfo(None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))


def interleave(addresses: list[SocketAddress]) -> list[SocketAddress]:
    """Return the addresses with alternating families, the family of the first one first (RFC 8305, section 4)."""
    by_family: dict[socket.AddressFamily, list[SocketAddress]] = {}
    for address in addresses:
        by_family.setdefault(address[0], []).append(address)
    rows = max(map(len, by_family.values()), default=0)
    return [family[row] for row in range(rows) for family in by_family.values() if row < len(family)]


def _with_port(family: socket.AddressFamily, address: tuple[object, ...], port: int) -> SocketAddress:
    host, _, *rest = address
    return family, (str(host), port, *rest)  # type: ignore[return-value]  # two or four elements, as in `address`
