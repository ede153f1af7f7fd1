"""A network in memory: the verbs of the real one, and what TCP may do to people who trust it.

It keeps TCP's promises (order, nothing lost while both ends live) and breaks only what TCP may break: delay, the
size of pieces, silence for as long as a cut lasts, a reset, an end that nobody hears of. One seed decides everything.
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
"""Seconds after which an unanswered attempt to connect is repeated."""
MAX_BACKOFF: Final = 30.0
"""What a cut has held back arrives some time after the heal: TCP has backed off as long as the cut was, at most
this.
"""
SPLIT_PROBABILITY: Final = 0.2
"""How often what is written arrives in more than one piece."""
SOCKET_BUFFERS: Final = 1 << 17
"""Bytes that two kernels take before a write has to wait."""


class SimulatedNetwork:
    """All hosts and the ways between them. Every delay and cut into pieces comes from ``seed``."""

    def __init__(self, seed: int = 0, *, delay: tuple[float, float] = (0.0002, 0.003)) -> None:
        self.random = Random(seed)
        self.delay = delay
        self.hosts: dict[str, Host] = {}
        self.delivered: Counter[tuple[str, str]] = Counter()
        """How many pieces have come from one address to another: a truth about silence that no node keeps."""
        self._cuts: dict[tuple[str, str], float] = {}

    def host(self, address: str) -> Host:
        """The host with that address."""
        if address not in self.hosts:
            self.hosts[address] = Host(self, address)
        return self.hosts[address]

    def cut(self, sender: str, receiver: str) -> None:
        """From now on nothing passes from ``sender`` to ``receiver``; what is sent waits."""
        self._cuts.setdefault((sender, receiver), asyncio.get_running_loop().time())

    def heal(self, sender: str, receiver: str) -> None:
        """What waited arrives, a little late."""
        since = self._cuts.pop((sender, receiver), None)
        if since is not None:
            duration = asyncio.get_running_loop().time() - since
            for pipe in self._pipes_between(sender, receiver):
                pipe.resume(self.random.uniform(0.0, min(duration, MAX_BACKOFF)))

    def is_cut(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) in self._cuts

    def is_reachable(self, one: str, other: str) -> bool:
        """Whether a packet and its answer get through, so that the two can connect."""
        return not self.is_cut(one, other) and not self.is_cut(other, one)

    def reset(self, one: str, other: str) -> bool:
        """Breaks every connection between the two, and both hear of it. False if there is none."""
        pipes = [*self._pipes_between(one, other), *self._pipes_between(other, one)]
        for pipe in pipes:
            pipe.receiver.disconnected(ConnectionResetError("connection reset by peer"))
        return bool(pipes)

    def half_open(self, one: str, other: str) -> bool:
        """``one`` loses its connections with ``other``, which hears nothing until it speaks. False if there is none."""
        pipes = self._pipes_between(one, other)
        for pipe in pipes:
            pipe.sender.disconnected(ConnectionAbortedError("connection timed out"))
        return bool(pipes)

    def latency(self) -> float:
        """Seconds that a packet takes."""
        return self.random.uniform(*self.delay)

    def _pipes_between(self, sender: str, receiver: str) -> list[_Pipe]:
        return [wire for wire in self.host(sender).pipes if wire.receiver.host.address == receiver]


class Host:
    """One address: what a node is given as its ``network``."""

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
        return [host], [host] if listen is None else list(listen)

    async def dial(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        there = await self.reach(host)
        answering = there.listener(port)
        if answering is None:
            raise ConnectError(f"nobody listens on port {port} of {host}")
        caller = _Transport(self, host, copy_context())
        called = _Transport(there, self.address, answering[1].copy())
        caller.pipe_to(called)
        called.pipe_to(caller)
        caller.start_protocol(protocol)
        called.accept(answering[0], lambda: there.listener(port) is not None)

    async def listen(
        self,
        hosts: Iterable[str] | None,  # noqa: ARG002
        ports: Iterable[int],
        protocol: Callable[[], asyncio.Protocol],
    ) -> Listener:
        for wanted in ports:
            if not wanted:
                self._last_port += 1
            port = wanted or self._last_port
            if port not in self._listeners:
                self._listeners[port] = (protocol, copy_context())
                return _Listener(self, port)
        raise NodeStartError(f"all ports of {self.address} that may be used are taken")

    async def reach(self, address: str) -> Host:
        """The host with that address, once a packet has come through to it and back; the caller's own time limit ends
        the attempts. Raises ConnectError if there is no such address.
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
        """Nobody listens on ``port`` any more."""
        self._listeners.pop(port, None)

    def crash(self, *, silently: bool = False) -> None:
        """The process is gone. Its kernel closes or resets the connections; but a machine without power does not
        (``silently``), and leaves its peers with half-open ones.
        """
        self._listeners.clear()
        self.names.clear()
        self.has_power = not silently
        for pipe in list(self.pipes):
            pipe.sender.owner_killed(silently=silently)

    def restart(self) -> None:
        """It has power again."""
        self.has_power = True


class SimulatedEpmd:
    """The EPMD of every host at once: the port mapper and the resolver of the node on ``host``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def register(self, name: str, port: int, *, hosts: Sequence[str] | None, hidden: bool) -> int:  # noqa: ARG002
        host = self._host
        if name in host.names:
            raise NodeStartError(f"the name {name} is in use on {host.address}")
        host.names[name] = port
        host.registrations += 1
        return host.registrations + 3

    async def resolve(self, name: str) -> tuple[str, int]:
        alive, _, address = name.partition("@")
        there = await self._host.reach(address)
        if alive not in there.names:
            raise ConnectError(f"there is no node {alive} on {address}")
        return address, there.names[alive]

    async def close(self) -> None:
        self._host.names.clear()


class _Listener:
    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self.port = port

    def close(self) -> None:
        self._host.close(self.port)


class _Pipe:
    """One direction of a connection: pieces on their way, in order. ``None`` is the end of the stream."""

    def __init__(self, sender: _Transport, receiver: _Transport) -> None:
        self.sender, self.receiver = sender, receiver
        self.unread = 0
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
        """What was held back is on its way."""
        if self._chunks:
            self._schedule(after)

    def consume(self, size: int) -> None:
        """The receiver has taken ``size`` bytes."""
        self.unread -= size
        self.sender.buffer_drained(self.unread)

    def _schedule(self, after: float) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._arrival_time = max(self._arrival_time, loop.time() + after)
            self._timer = loop.call_at(self._arrival_time, self._deliver, context=Context())  # a wire is no machine's

    def _deliver(self) -> None:
        self._timer = None
        sender, receiver = self.sender.host, self.receiver.host
        if sender.network.is_cut(sender.address, receiver.address) or not self._chunks:
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
        """Nobody is there for what has arrived: a kernel says so, if there is one."""
        self._chunks.clear()
        if self.receiver.host.has_power:
            _reset(self.receiver, self.sender)

    def clear(self) -> None:
        """What has been sent and has not arrived never does."""
        self._chunks.clear()
        self.sender.host.pipes.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Transport(asyncio.Transport):
    """One end of a connection. ``context`` is where its protocol is at home: what that is told, it is told there, or
    when that machine wakes.
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
        """What is written here arrives at ``other``."""
        self._outgoing = other._incoming = _Pipe(self, other)

    def start_protocol(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """For the one who dialled."""
        self._protocol = protocol()
        self._protocol.connection_made(self)

    def accept(self, protocol: Callable[[], asyncio.Protocol], is_listening: Callable[[], bool]) -> None:
        """For the one who is dialled: as soon as its machine can."""

        def accepted() -> None:
            if is_listening():
                self.start_protocol(protocol)
            else:
                self.abort()

        asyncio.get_running_loop().call_soon(accepted, context=self._context)

    # What the network does

    def data_arrived(self, data: bytes) -> None:
        self._call_soon(self._data_received, data)

    def disconnected(self, error: Exception | None) -> None:
        """The other end is closed, or the connection broken."""
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
        """The process of this end is no more."""
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

    # What its protocol asks for

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

    def is_closing(self) -> bool:
        return self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:  # noqa: ARG002
        self._high_water = high or self._high_water

    def get_write_buffer_size(self) -> int:
        return 0 if self._outgoing is None else max(0, self._outgoing.unread - SOCKET_BUFFERS)

    # In its own context

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
    """``other`` hears that ``one`` is no more, if a packet gets through."""
    network = one.host.network

    def deliver() -> None:
        if not network.is_cut(one.host.address, other.host.address):
            other.disconnected(ConnectionResetError("connection reset by peer"))

    asyncio.get_running_loop().call_later(network.latency(), deliver, context=Context())
