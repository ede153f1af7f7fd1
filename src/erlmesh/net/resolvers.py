"""Nodes that find each other without EPMD: by one port for all, by a table, or by something that you write.

A node has a *port mapper*, which makes it known and says which port to listen on, and a *resolver*, which finds the
others; EPMD is both. Any object with an ``async def resolve(self, name) -> (host, port)`` can be a resolver.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from erlmesh.errors import ConnectError

__all__ = ["FixedPort", "NoEpmd", "PortMapper", "Resolver", "StaticResolver", "listen_ports", "validate_port"]

FIRST_CREATION: Final = 4
"""Creations below are those that EPMD gave before OTP 23; a node that makes up its own keeps away from them."""


class Resolver(Protocol):
    """Finds where a node listens."""

    async def resolve(self, name: str) -> tuple[str, int]:
        """Host and port of the node ``name``. Raises ConnectError in words."""


class PortMapper(Resolver, Protocol):
    """Makes a node known to others."""

    async def register(self, name: str, port: int, *, hosts: Sequence[str] | None, hidden: bool) -> int:
        """Makes known that the node ``name`` (the part before the ``@``) listens on ``port``; returns its creation.

        ``hosts`` are this machine's addresses by which its name is found, None for any. Raises NodeStartError.
        """

    async def close(self) -> None:
        """Takes it back."""


class FixedPort(PortMapper):
    """Every node listens on ``port`` of its own address, and so no EPMD is needed: OTP's ``-erl_epmd_port``.

    One node an address. The creation is random, as in OTP, since nobody gives numbers out.
    """

    def __init__(self, port: int) -> None:
        self.port = validate_port(port, "the port of all nodes")

    async def register(self, name: str, port: int, *, hosts: Sequence[str] | None, hidden: bool) -> int:  # noqa: ARG002
        return random_creation()

    async def resolve(self, name: str) -> tuple[str, int]:
        return name.partition("@")[2], self.port

    async def close(self) -> None:
        """Nothing is to be taken back."""


class NoEpmd(PortMapper):
    """The node is made known nowhere: it finds others by its ``resolver``, and others find it by theirs."""

    async def register(self, name: str, port: int, *, hosts: Sequence[str] | None, hidden: bool) -> int:  # noqa: ARG002
        return random_creation()

    async def resolve(self, name: str) -> tuple[str, int]:
        raise ConnectError(f"nobody says where {name} listens: this node asks no EPMD, and its resolver has no entry")

    async def close(self) -> None:
        """Nothing is to be taken back."""


class StaticResolver(Resolver):
    """A table of where nodes listen, ``{"plato@10.0.0.7": ("10.0.0.7", 9100)}``; for the rest ``otherwise``."""

    def __init__(self, table: Mapping[str, tuple[str, int]], fallback: Resolver | None = None) -> None:
        """Raises ``ValueError`` for an entry that is not a host and a port."""
        self._table = {name: (host, validate_port(port, f"the port of {name}")) for name, (host, port) in table.items()}
        self._fallback: Resolver = fallback or NoEpmd()

    async def resolve(self, name: str) -> tuple[str, int]:
        return self._table.get(name) or await self._fallback.resolve(name)


def random_creation() -> int:
    """Tells this life of a node from former ones, by chance: 32 bits."""
    return FIRST_CREATION + secrets.randbelow((1 << 32) - FIRST_CREATION)


def validate_port(port: int, what: str) -> int:
    """``port``. Raises ``ValueError`` if it is none."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise ValueError(f"{what} is a number from 1 to 65535, not {port!r}")
    return port


def listen_ports(ports: Iterable[int] | None, mapper: PortMapper | None) -> tuple[int, ...]:
    """The ports a node tries to listen on, in order; 0 is any. Raises ``ValueError``."""
    if isinstance(mapper, FixedPort):
        if ports is not None:
            raise ValueError(f"FixedPort({mapper.port}) says where to listen: leave `ports` away")
        return (mapper.port,)
    chosen = (0,) if ports is None else tuple(ports)
    if not chosen or not all(port == 0 or validate_port(port, "each of `ports`") for port in chosen):
        raise ValueError("`ports` names no port: give some, or leave it away for any")
    return chosen
