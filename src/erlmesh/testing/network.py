"""An in-memory network with TCP's failure modes: its hosts and its faults.

A :class:`Host` has the interface of :class:`erlmesh.net.network.TcpNetwork`. One seed determines every choice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, copy_context
from random import Random
from typing import Final

from erlmesh.errors import ConnectError, NodeStartError
from erlmesh.net.network import Listener
from erlmesh.testing.connection import Pipe, SimulatedTransport

__all__ = ["Host", "SimulatedNetwork"]

SYN_RETRANSMIT: Final = 1.0
"""Seconds after which an unanswered connection attempt is repeated."""
MAX_RETRANSMIT_DELAY: Final = 30.0
"""Longest delay, in seconds, between a heal and the arrival of data that the cut held back. TCP's retransmission
timer has backed off for as long as the cut lasted, but not longer than this.
"""


class SimulatedNetwork:
    """All hosts and the connections between them. ``seed`` determines every delay and every split."""

    def __init__(self, seed: int = 0, *, delay: tuple[float, float] = (0.0002, 0.003)) -> None:
        self.random = Random(seed)
        self.delay = delay
        self.hosts: dict[str, Host] = {}
        self.delivered: Counter[tuple[str, str]] = Counter()
        """Number of chunks delivered from one address to another. Checks use it to prove that a pair is idle."""
        self.on_connect: Callable[[SimulatedTransport, SimulatedTransport], object] | None = None
        """Called with both ends of a new connection, before a protocol is called. The initiating end comes first."""
        self._cuts: dict[tuple[str, str], float] = {}

    def host(self, address: str) -> Host:
        """The host with that address. It is created on first use."""
        if address not in self.hosts:
            self.hosts[address] = Host(self, address)
        return self.hosts[address]

    def cut(self, sender: str, receiver: str) -> None:
        """Deliver nothing from ``sender`` to ``receiver`` until :meth:`heal`. Data that is sent is held back."""
        self._cuts.setdefault((sender, receiver), asyncio.get_running_loop().time())

    def heal(self, sender: str, receiver: str) -> None:
        """End the cut. Data that was held back arrives a little later."""
        since = self._cuts.pop((sender, receiver), None)
        if since is not None:
            duration = asyncio.get_running_loop().time() - since
            for pipe in self._pipes_between(sender, receiver):
                pipe.resume(self.random.uniform(0.0, min(duration, MAX_RETRANSMIT_DELAY)))

    def is_cut(self, sender: str, receiver: str) -> bool:
        """True if :meth:`cut` stopped the packets from ``sender`` to ``receiver``."""
        return (sender, receiver) in self._cuts

    def is_reachable(self, one: str, other: str) -> bool:
        """True if packets pass in both directions, so that the two addresses can connect."""
        return not self.is_cut(one, other) and not self.is_cut(other, one)

    def reset(self, one: str, other: str) -> bool:
        """Reset all connections between the two. Both ends notice it. Returns False if there is none."""
        pipes = [*self._pipes_between(one, other), *self._pipes_between(other, one)]
        for pipe in pipes:
            pipe.receiver.disconnected(ConnectionResetError("connection reset by peer"))
        return bool(pipes)

    def half_open(self, one: str, other: str) -> bool:
        """Drop the connections between the two, at ``one`` only. ``other`` notices it when it sends.

        Returns False if there is no connection.
        """
        pipes = self._pipes_between(one, other)
        for pipe in pipes:
            pipe.sender.disconnected(ConnectionAbortedError("connection timed out"))
        return bool(pipes)

    def latency(self) -> float:
        """Draw the travel time of one packet, in seconds."""
        return self.random.uniform(*self.delay)

    def _pipes_between(self, sender: str, receiver: str) -> list[Pipe]:
        return [pipe for pipe in self.host(sender).pipes if pipe.receiver.host.address == receiver]


class Host:
    """One address. A node gets it as its ``network``."""

    def __init__(self, network: SimulatedNetwork, address: str) -> None:
        self.network = network
        self.address = address
        self.has_power = True
        self.pipes: dict[Pipe, None] = {}
        self.names: dict[str, int] = {}
        self.registrations = 0
        self._listeners: dict[int, tuple[Callable[[], asyncio.Protocol], Context]] = {}
        self._last_port = 40_000

    async def addresses(
        self, host: str, listen: Iterable[str] | None
    ) -> tuple[Sequence[str] | None, Sequence[str] | None]:
        """The addresses of the node and the addresses to listen on, as in TcpNetwork."""
        return [host], [host] if listen is None else list(listen)

    async def dial(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Connect to a port of the host with the address ``host``. Raises ConnectError if no listener is there."""
        there = await self.reach(host)
        answering = there.listener(port)
        if answering is None:
            raise ConnectError(f"nothing listens on port {port} of {host}")
        caller = SimulatedTransport(self, host, copy_context())
        called = SimulatedTransport(there, self.address, answering[1].copy())
        caller.pipe_to(called)
        called.pipe_to(caller)
        if self.network.on_connect is not None:
            self.network.on_connect(caller, called)
        caller.start_protocol(protocol)
        called.accept(answering[0], lambda: there.listener(port) is not None)

    async def listen(
        self,
        hosts: Iterable[str] | None,  # noqa: ARG002
        ports: Iterable[int],
        protocol: Callable[[], asyncio.Protocol],
    ) -> Listener:
        """Listen on the first free port of ``ports``; 0 stands for any port. Raises NodeStartError if none is free."""
        for wanted in ports:
            if not wanted:
                self._last_port += 1
            port = wanted or self._last_port
            if port not in self._listeners:
                self._listeners[port] = (protocol, copy_context())
                return _Listener(self, port)
        raise NodeStartError(f"all allowed ports of {self.address} are taken")

    async def reach(self, address: str) -> Host:
        """Wait until a packet and its answer have passed, and return the host with that address.

        It retries forever, so the caller needs a timeout. Raises ConnectError if there is no such address.
        """
        network = self.network
        await asyncio.sleep(network.latency() + network.latency())
        there = network.hosts.get(address)
        if there is None:
            raise ConnectError(f"there is no host {address}")
        while not there.has_power or not network.is_reachable(self.address, address):  # noqa: ASYNC110 - as TCP does
            await asyncio.sleep(SYN_RETRANSMIT)
        return there

    def listener(self, port: int) -> tuple[Callable[[], asyncio.Protocol], Context] | None:
        return self._listeners.get(port)

    def close(self, port: int) -> None:
        """Stop listening on ``port``."""
        self._listeners.pop(port, None)

    def crash(self, *, silently: bool = False) -> None:
        """Kill the process on this host. Its kernel closes or resets the connections.

        With ``silently`` the host loses power: the peers keep half-open connections.
        """
        self._listeners.clear()
        self.names.clear()
        self.has_power = not silently
        for pipe in list(self.pipes):
            pipe.sender.owner_killed(silently=silently)

    def restart(self) -> None:
        """Turn the power on again."""
        self.has_power = True


class _Listener:
    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self.port = port

    def close(self) -> None:
        self._host.close(self.port)
