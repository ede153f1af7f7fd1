"""A bounded set of clients that all addresses share fairly. No I/O.

A client that is not known yet costs memory and a descriptor. So their number is limited, in all and for each address.
At a limit the oldest client goes: of the same address at the limit of the address, otherwise of the address that has
the most. So one address cannot take the places of others, however many connections it makes.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

__all__ = ["DIAL_LIMIT", "HANDSHAKES_PER_ADDRESS", "HANDSHAKE_LIMIT", "FairShare"]

T = TypeVar("T")

DIAL_LIMIT: Final = 64
"""Default of the nodes that are dialled at a time."""
HANDSHAKE_LIMIT: Final = 256
"""Default of the incoming connections that have not proved that they know the cookie."""
HANDSHAKES_PER_ADDRESS: Final = 128
"""The same for one address."""


class FairShare(Generic[T]):
    """At most ``limit`` clients, and at most ``limit_per_address`` of one address. Clients are hashable."""

    def __init__(self, limit: int, limit_per_address: int) -> None:
        self.limit = limit
        self.limit_per_address = limit_per_address
        self._addresses: dict[T, str] = {}
        self._by_address: dict[str, dict[T, None]] = {}
        """The clients of each address, oldest first."""

    def __len__(self) -> int:
        return len(self._addresses)

    def __contains__(self, client: T) -> bool:
        return client in self._addresses

    def add(self, client: T, address: str) -> T | None:
        """Add a client. Return the one that must go for it, which is removed; None if there is room."""
        self._addresses[client] = address
        clients = self._by_address.setdefault(address, {})
        clients[client] = None
        if len(clients) > self.limit_per_address:
            return self._remove(next(iter(clients)))
        return self.drop() if len(self._addresses) > self.limit else None

    def drop(self) -> T | None:
        """Remove and return the oldest client of the address that has the most; None if there is no client."""
        if not self._by_address:
            return None
        most = max(self._by_address, key=lambda address: len(self._by_address[address]))
        return self._remove(next(iter(self._by_address[most])))

    def discard(self, client: T) -> None:
        """Remove a client, if it is there."""
        if client in self._addresses:
            self._remove(client)

    def _remove(self, client: T) -> T:
        address = self._addresses.pop(client)
        clients = self._by_address[address]
        del clients[client]
        if not clients:
            del self._by_address[address]
        return client
