"""Where others find a node: it listens, and is registered under its name, from the start to the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from erlmesh.net.network import Network
from erlmesh.net.resolvers import PortMapper, listen_ports, validate_port

if TYPE_CHECKING:
    from erlmesh.net.network import Listener

__all__ = ["NodeListener"]


class NodeListener:
    """``port`` is where it listens, once it does. See :class:`erlmesh.Node` for what the arguments mean."""

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
        self._name = name
        self._network = network
        self._epmd = epmd
        self._hidden = hidden
        self._listen = (listen,) if isinstance(listen, str) else None if listen is None else tuple(listen)
        self._ports = listen_ports(ports, epmd)
        self._advertised_port = None if advertise_port is None else validate_port(advertise_port, "advertise_port")
        self._protocol_factory: Callable[[], asyncio.Protocol] = _RejectingProtocol
        self._listener: Listener | None = None

    async def start(self) -> int:
        """Listens and registers; the creation that the node has in this life. Who calls is sent away until
        :meth:`answer_with`. Raises NodeStartError.
        """
        alive, _, host = self._name.partition("@")
        hosts, listen = await self._network.addresses(host, self._listen)
        self._listener = await self._network.listen(listen, self._ports, self._make_protocol)
        self.port = self._listener.port
        try:
            return await self._epmd.register(
                alive, self._advertised_port or self.port, hosts=hosts, hidden=self._hidden
            )
        except BaseException:
            self._listener.close()
            raise

    def set_protocol_factory(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """From now on ``answer()`` makes the protocol for each connection that comes in."""
        self._protocol_factory = factory

    def _make_protocol(self) -> asyncio.Protocol:
        return self._protocol_factory()

    def stop_accepting(self) -> None:
        """Accepts nobody any more."""
        if self._listener is not None:
            self._listener.close()

    async def stop(self) -> None:
        """The name is free again."""
        await self._epmd.close()


class _RejectingProtocol(asyncio.Protocol):
    """For whoever calls between our listening and our being up."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's
        transport.abort()
