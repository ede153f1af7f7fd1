"""The port mapper of the simulated network."""

from __future__ import annotations

from collections.abc import Sequence

from erlmesh.errors import ConnectError, NodeStartError
from erlmesh.testing.network import Host

__all__ = ["SimulatedEpmd"]


class SimulatedEpmd:
    """The port mapper and the resolver of the node on ``host``. It registers there, and asks the EPMD of any host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def register(self, name: str, port: int, *, hosts: Sequence[str] | None, hidden: bool) -> int:  # noqa: ARG002
        """Register a node name and return its creation, a new one for each registration. Raises NodeStartError."""
        host = self._host
        if name in host.names:
            raise NodeStartError(f"the name {name} is in use on {host.address}")
        host.names[name] = port
        host.registrations += 1
        return host.registrations + 3  # creations from 4 on, as a node of OTP 23 and later has them

    async def resolve(self, name: str) -> tuple[str, int]:
        """Ask the EPMD of the node's host. Returns address and port. Raises ConnectError if the name is unknown."""
        alive, _, address = name.partition("@")
        there = await self._host.reach(address)
        if alive not in there.names:
            raise ConnectError(f"there is no node {alive} on {address}")
        return address, there.names[alive]

    async def close(self) -> None:
        """Unregister all names of the host."""
        self._host.names.clear()
