"""Ways for nodes to find each other without EPMD: one port for all nodes, a static table, or your own resolver.

A node has a *port mapper*, which publishes the node and chooses its port, and a *resolver*, which finds other nodes.
EPMD is both. Any object with an ``async def resolve(self, name) -> (host, port)`` can be a resolver.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from erlmesh.errors import ConnectError

__all__ = ["FixedPort", "NoEpmd", "PortMapper", "Resolver", "StaticResolver", "listen_ports", "validate_port"]

FIRST_CREATION: Final = 4
"""The smallest random creation. EPMD gave the creations 1 to 3 before OTP 23, so they are avoided."""


class Resolver(Protocol):
    """Finds where a node listens."""

    async def resolve(self, name: str) -> tuple[str, int]:
        """Return the host and port of the node ``name``. Raises ConnectError."""


class PortMapper(Resolver, Protocol):
    """Publishes a node, so that other nodes can find it."""

    async def register(self, name: str, port: int, *, hosts: Sequence[str] | None, hidden: bool) -> int:
        """Publish that the node ``name`` listens on ``port``. Return its creation.

        ``name`` is the node name without ``@host``. ``hosts`` are this machine's addresses in the node's name; None
        means all addresses. Raises NodeStartError.
        """

    async def close(self) -> None:
        """Withdraw the publication."""


class FixedPort(PortMapper):
    """Every node listens on ``port`` of its own address, so no EPMD is needed (OTP's ``-erl_epmd_port``).

    Each address can have one node only. The creation is random, as in OTP, because no EPMD assigns it.
    """

    def __init__(self, port: int) -> None:
        self.port = validate_port(port, "the port of all nodes")

    async def register(self, name: str, port: int, *, hosts: Sequence[str] | None, hidden: bool) -> int:  # noqa: ARG002
        return random_creation()

    async def resolve(self, name: str) -> tuple[str, int]:
        return name.partition("@")[2], self.port

    async def close(self) -> None:
        """There is nothing to withdraw."""


class NoEpmd(PortMapper):
    """The node is not published. It finds other nodes with its ``resolver``, and they find it with theirs."""

    async def register(self, name: str, port: int, *, hosts: Sequence[str] | None, hidden: bool) -> int:  # noqa: ARG002
        return random_creation()

    async def resolve(self, name: str) -> tuple[str, int]:
        raise ConnectError(f"the address of {name} is unknown: this node uses no EPMD, and its resolver has no entry")

    async def close(self) -> None:
        """There is nothing to withdraw."""


class StaticResolver(Resolver):
    """A table of addresses by node name, such as ``{"plato@10.0.0.7": ("10.0.0.7", 9100)}``.

    Names that are not in the table are resolved by ``fallback``, if there is one.
    """

    def __init__(self, table: Mapping[str, tuple[str, int]], fallback: Resolver | None = None) -> None:
        """Raises ``ValueError`` for an entry that is not a host and a port."""
        self._table = {name: (host, validate_port(port, f"the port of {name}")) for name, (host, port) in table.items()}
        self._fallback: Resolver = fallback or NoEpmd()

    async def resolve(self, name: str) -> tuple[str, int]:
        return self._table.get(name) or await self._fallback.resolve(name)


def random_creation() -> int:
    """Return a random creation of 32 bits, which very probably differs from those of all earlier incarnations."""
    return FIRST_CREATION + random.SystemRandom().randrange((1 << 32) - FIRST_CREATION)


def validate_port(port: int, what: str) -> int:
    """Return ``port``. Raises ``ValueError`` if it is not a port number; ``what`` names it in the message."""
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        raise ValueError(f"{what} must be a number from 1 to 65535, not {port!r}")
    return port


def listen_ports(ports: Iterable[int] | None, mapper: PortMapper | None) -> tuple[int, ...]:
    """Return the ports to try to listen on, in order. 0 means any free port. Raises ``ValueError``."""
    if isinstance(mapper, FixedPort):
        if ports is not None:
            raise ValueError(f"FixedPort({mapper.port}) already defines the port: omit `ports`")
        return (mapper.port,)
    chosen = (0,) if ports is None else tuple(ports)
    if not chosen or not all(port == 0 or validate_port(port, "each of `ports`") for port in chosen):
        raise ValueError("`ports` is empty: give at least one port, or omit it for any port")
    return chosen
