"""The listening socket of a node and its registration with EPMD (or another port mapper)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from erlmesh.net.network import Network
from erlmesh.net.resolvers import PortMapper, listen_ports, validate_port

if TYPE_CHECKING:
    from erlmesh.net.network import Listener

__all__ = ["NodeListener"]


class NodeListener:
    """Accepts connections while the node runs.

    ``port`` is the listening port, or None before :meth:`start`. :class:`erlmesh.NodeConfig` documents the arguments.
    """

    def __init__(
        self,
        name: str,
        network: Network,
        epmd: PortMapper,
        *,
        hidden: bool,
        listen: str | Iterable[str] | None,
        ports: Iterable[int] | None,
        advertise_port: int | None,
    ) -> None:
        self.port: int | None = None
        self.addresses: Sequence[str] | None = None
        """Where it listens; None before the start, or if it is every interface."""
        self._name = name
        self._network = network
        self._epmd = epmd
        self._hidden = hidden
        self._listen = (listen,) if isinstance(listen, str) else None if listen is None else tuple(listen)
        self._ports = listen_ports(ports, epmd)
        self._advertised_port = None if advertise_port is None else validate_port(advertise_port, "advertise_port")
        # The socket must listen before the node has a creation, and thus before connections can be handled.
        self._protocol_factory: Callable[[], asyncio.Protocol] = _RejectingProtocol
        self._listener: Listener | None = None

    async def start(self) -> int:
        """Listen, register the name, and return the creation that EPMD has assigned.

        Connections are rejected until :meth:`set_protocol_factory`. Raises NodeStartError.
        """
        alive, _, host = self._name.partition("@")
        hosts, listen = await self._network.addresses(host, self._listen)
        self.addresses = listen
        self._listener = await self._network.listen(listen, self._ports, self._make_protocol)
        self.port = self._listener.port
        try:
            return await self._epmd.register(
                alive, self._advertised_port or self.port, hosts=hosts, hidden=self._hidden
            )
        except BaseException:  # Cancellation must release the port too.
            self._listener.close()
            raise

    def set_protocol_factory(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Accept connections: ``factory()`` makes the protocol for each."""
        self._protocol_factory = factory

    def _make_protocol(self) -> asyncio.Protocol:
        # A method, since the listening socket keeps the function it was created with.
        return self._protocol_factory()

    def stop_accepting(self) -> None:
        """Close the listening socket. Connections that exist stay open."""
        if self._listener is not None:
            self._listener.close()

    async def stop(self) -> None:
        """Unregister the name: another node can use it."""
        await self._epmd.close()


class _RejectingProtocol(asyncio.Protocol):
    """Closes connections that come before the node can handle them."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's transport
        transport.abort()
