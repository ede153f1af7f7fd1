"""Passes look-ups of other hosts on to the EPMD of this host, at addresses where that EPMD does not listen.

To EPMD, a request of the relay comes from its own host, so EPMD would allow it everything. So the relay takes only what
other hosts may ask: where a node listens, and which nodes there are. It never passes on the bytes of a client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from erlmesh.core.fair_share import FairShare
from erlmesh.errors import RemoteProtocolError
from erlmesh.net.acceptor import Acceptor, share_of_descriptors
from erlmesh.net.addresses import address_group
from erlmesh.proto import epmd as protocol

__all__ = ["EpmdRelay"]


class EpmdRelay:
    """Listens on ``port``. ``ask(request)`` sends a request to the EPMD of this host and returns its response.

    ``client_limit`` and ``clients_per_address`` limit the clients, as for an embedded EPMD.
    """

    def __init__(
        self, port: int, ask: Callable[[bytes], Awaitable[bytes]], *, client_limit: int, clients_per_address: int
    ) -> None:
        self.port = port
        self.ask = ask
        self.clients: FairShare[_Client] = FairShare(share_of_descriptors(client_limit), clients_per_address)
        self._acceptors: list[Acceptor] = []

    @property
    def addresses(self) -> list[str]:
        """The addresses where it listens."""
        return [str(sock.getsockname()[0]) for acceptor in self._acceptors for sock in acceptor.sockets]

    async def listen(self, host: str) -> None:
        """Listen on ``host``, too. Raises ``OSError``."""
        acceptor = await Acceptor.listen([host], self.port, lambda: _Client(self), make_room=self._make_room)
        self._acceptors.append(acceptor)

    def close(self) -> None:
        """Stop listening, and close all connections."""
        for acceptor in self._acceptors:
            acceptor.close()
        self._acceptors.clear()
        while (client := self.clients.drop()) is not None:
            client.close()

    def _make_room(self) -> bool:
        client = self.clients.drop()
        if client is not None:
            client.close()
        return client is not None


class _Client(asyncio.Protocol):
    """One client with one request."""

    def __init__(self, relay: EpmdRelay) -> None:
        self._relay = relay
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvloop's
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(protocol.REQUEST_TIMEOUT, self.close)
        rival = self._relay.clients.add(self, address_group(transport.get_extra_info("peername")))
        if rival is not None:
            rival.close()

    def data_received(self, data: bytes) -> None:
        if self._answering is not None or self._transport is None:
            return
        self._received += data
        try:
            request = protocol.remake_request(self._received)
        except RemoteProtocolError:
            self.close()
            return
        if request is not None:
            self._answering = asyncio.ensure_future(self._answer(request))

    async def _answer(self, request: bytes) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            answer = await self._relay.ask(request)
            if self._transport is not None:
                self._transport.write(answer)
        self.close()

    def connection_lost(self, _exception: Exception | None) -> None:
        self._transport = None
        self._relay.clients.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._answering is not None:
            self._answering.cancel()

    def close(self) -> None:
        """Close the connection, after the response has been written."""
        self._relay.clients.discard(self)
        if self._transport is not None:
            self._transport.close()
