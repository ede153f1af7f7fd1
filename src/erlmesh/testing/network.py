"""An in-memory network with TCP's failure modes.

A :class:`Host` has the interface of :class:`erlmesh.net.network.TcpNetwork`.

It keeps the guarantees of TCP: bytes arrive in order, and none is lost while both ends exist. It simulates what TCP
allows: delay, arbitrary chunk sizes, silence during a partition, a reset, and a half-open connection. One seed
determines every choice.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context, copy_context
from random import Random
from typing import Any, Final

from erlmesh.errors import ConnectError, NodeStartError
from erlmesh.net.network import Listener

__all__ = ["Host", "SimulatedEpmd", "SimulatedNetwork"]

SYN_RETRANSMIT: Final = 1.0
"""Seconds after which an unanswered connection attempt is repeated."""
MAX_RETRANSMIT_DELAY: Final = 30.0
"""Longest delay, in seconds, between a heal and the arrival of data that the cut held back. TCP's retransmission
timer has backed off for as long as the cut lasted, but not longer than this.
"""
SPLIT_PROBABILITY: Final = 0.2
"""Probability of each further split of written data."""
SOCKET_BUFFERS: Final = 1 << 17
"""Bytes that the socket buffers of both kernels hold before the sender has to wait."""


class SimulatedNetwork:
    """All hosts and the connections between them. ``seed`` determines every delay and every split."""

    def __init__(self, seed: int = 0, *, delay: tuple[float, float] = (0.0002, 0.003)) -> None:
        self.random = Random(seed)
        self.delay = delay
        self.hosts: dict[str, Host] = {}
        self.delivered: Counter[tuple[str, str]] = Counter()
        """Number of chunks delivered from one address to another. Checks use it to prove that a pair is idle."""
        self.on_connect: Callable[[_Transport, _Transport], object] | None = None
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

    def _pipes_between(self, sender: str, receiver: str) -> list[_Pipe]:
        return [pipe for pipe in self.host(sender).pipes if pipe.receiver.host.address == receiver]


class Host:
    """One address. A node gets it as its ``network``."""

    def __init__(self, network: SimulatedNetwork, address: str) -> None:
        self.network = network
        self.address = address
        self.has_power = True
        self.pipes: dict[_Pipe, None] = {}
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
        caller = _Transport(self, host, copy_context())
        called = _Transport(there, self.address, answering[1].copy())
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


class _Listener:
    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self.port = port

    def close(self) -> None:
        self._host.close(self.port)


class _Pipe:
    """One direction of a connection: the chunks in flight, in order. ``None`` marks the end of the stream."""

    def __init__(self, sender: _Transport, receiver: _Transport) -> None:
        self.sender, self.receiver = sender, receiver
        self.unread = 0
        self.is_held = False
        """True if a test holds back all data and the end of the stream. A reset is dropped meanwhile."""
        self._chunks: deque[bytes | None] = deque()
        self._arrival_time = 0.0
        self._timer: asyncio.TimerHandle | None = None
        sender.host.pipes[self] = None

    def put(self, data: bytes | None) -> None:
        network = self.sender.host.network
        if data is not None:
            self.unread += len(data)
        while data and len(data) > 1 and network.random.random() < SPLIT_PROBABILITY:
            cut = network.random.randrange(1, len(data))
            self._chunks.append(data[:cut])
            data = data[cut:]
        self._chunks.append(data)
        self._schedule(network.latency())

    def resume(self, after: float) -> None:
        """Send the chunks that a cut held back. They arrive after ``after`` seconds."""
        if self._chunks:
            self._schedule(after)

    def consume(self, size: int) -> None:
        """The receiver has read ``size`` bytes."""
        self.unread -= size
        self.sender.buffer_drained(self.unread)

    def _schedule(self, after: float) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._arrival_time = max(self._arrival_time, loop.time() + after)
            self._timer = loop.call_at(
                self._arrival_time, self._deliver, context=Context()
            )  # the network runs on no machine

    def _deliver(self) -> None:
        self._timer = None
        sender, receiver = self.sender.host, self.receiver.host
        if self.is_held or sender.network.is_cut(sender.address, receiver.address) or not self._chunks:
            return
        chunk = self._chunks.popleft()
        sender.network.delivered[sender.address, receiver.address] += 1
        if self.receiver.is_disconnected:
            self._reset_sender()
        elif chunk is None:
            self.receiver.disconnected(None)
        else:
            self.receiver.data_arrived(chunk)
        if self._chunks:
            self._schedule(sender.network.random.uniform(0.0, sender.network.delay[0]))
        elif chunk is None:
            sender.pipes.pop(self, None)

    def _reset_sender(self) -> None:
        """The receiving end is closed. Its kernel answers with a reset, unless the host has no power."""
        self._chunks.clear()
        if self.receiver.host.has_power:
            _reset(self.receiver, self.sender)

    def clear(self) -> None:
        """Drop the chunks in flight."""
        self._chunks.clear()
        self.sender.host.pipes.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Transport(asyncio.Transport):
    """One end of a connection. Its protocol is called in ``context``, that is, on the machine that owns the protocol.

    While that machine is paused, the calls are deferred.
    """

    def __init__(self, host: Host, peer: str, context: Context) -> None:
        super().__init__({"peername": (peer, 0), "sockname": (host.address, 0)})
        self.host = host
        self.is_disconnected = False
        self._protocol: asyncio.Protocol | None = None
        self._context = context
        self._outgoing: _Pipe | None = None
        self._incoming: _Pipe | None = None
        self._closing = False
        self._high_water = 1 << 16
        self._writing_paused = False

    def pipe_to(self, other: _Transport) -> None:
        """Deliver to ``other`` what is written here."""
        self._outgoing = other._incoming = _Pipe(self, other)

    def start_protocol(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Start the protocol of the initiator at once."""
        self._protocol = protocol()
        self._protocol.connection_made(self)

    def accept(self, protocol: Callable[[], asyncio.Protocol], is_listening: Callable[[], bool]) -> None:
        """Start the protocol of the acceptor when its machine runs next."""

        def accepted() -> None:
            if is_listening():
                self.start_protocol(protocol)
            else:
                self.abort()

        asyncio.get_running_loop().call_soon(accepted, context=self._context)

    # Called by the network

    def data_arrived(self, data: bytes) -> None:
        self._call_soon(self._data_received, data)

    def disconnected(self, error: Exception | None) -> None:
        """The peer has closed (``error`` is None), or the connection is broken."""
        if not self.is_disconnected:
            self.is_disconnected = True
            if error is None and self._outgoing is not None:
                self._outgoing.put(None)
            elif self._outgoing is not None:
                self._outgoing.clear()
            self._call_soon(self._connection_lost, error)

    def buffer_drained(self, unread: int) -> None:
        if self._writing_paused and unread <= self._high_water // 4:
            self._writing_paused = False
            self._call_soon(self._call_protocol, "resume_writing")

    def owner_killed(self, *, silently: bool) -> None:
        """The process that owns this end was killed."""
        self._closing = self.is_disconnected = True
        self._protocol = None
        if self._outgoing is None:
            return
        if silently:
            self._outgoing.clear()
        elif self._incoming is not None and self.host.network.random.random() < 0.3:  # unread data: the kernel resets
            self._outgoing.clear()
            _reset(self, self._outgoing.receiver)
        else:
            self._outgoing.put(None)

    # asyncio.Transport

    def write(self, data: Any) -> None:
        if self._outgoing is None or self._closing or self.is_disconnected:
            return
        self._outgoing.put(bytes(data))
        if not self._writing_paused and self._outgoing.unread > self._high_water + SOCKET_BUFFERS:
            self._writing_paused = True
            self._call_soon(self._call_protocol, "pause_writing")

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if self._outgoing is not None and not self.is_disconnected:
                self._outgoing.put(None)
            self._call_soon(self._connection_lost, None)

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            if self._outgoing is not None and not self.is_disconnected:
                self._outgoing.clear()
                _reset(self, self._outgoing.receiver)
            self._call_soon(self._connection_lost, None)

    def hold(self) -> None:
        """Hold back all that this end writes, as a cut of this connection alone. It cannot be undone."""
        if self._outgoing is not None:
            self._outgoing.is_held = True

    def is_closing(self) -> bool:
        return self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:  # noqa: ARG002
        self._high_water = high or self._high_water

    def get_write_buffer_size(self) -> int:
        return 0 if self._outgoing is None else max(0, self._outgoing.unread - SOCKET_BUFFERS)

    # Calls of the protocol, in its context

    def _call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(callback, *arguments, context=self._context)

    def _data_received(self, data: bytes) -> None:
        if self._incoming is not None:
            self._incoming.consume(len(data))
        if self._protocol is not None and not self._closing:
            self._protocol.data_received(data)

    def _call_protocol(self, callback_name: str) -> None:
        if self._protocol is not None:
            getattr(self._protocol, callback_name)()

    def _connection_lost(self, error: Exception | None) -> None:
        self._closing = self.is_disconnected = True
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)


def _reset(one: _Transport, other: _Transport) -> None:
    """Send a reset from ``one`` to ``other``. A cut in that direction drops it."""
    network = one.host.network

    def deliver() -> None:
        held = one._outgoing is not None and one._outgoing.is_held
        if not held and not network.is_cut(one.host.address, other.host.address):
            other.disconnected(ConnectionResetError("connection reset by peer"))

    asyncio.get_running_loop().call_later(network.latency(), deliver, context=Context())
