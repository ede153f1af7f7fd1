"""One connection of the simulated network: two transports, and a pipe in each direction.

It keeps the guarantees of TCP: bytes arrive in order, and none is lost while both ends exist. It simulates what TCP
allows: delay, arbitrary chunk sizes, silence during a partition, a reset, and a half-open connection.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context
from random import Random
from typing import Any, Final, Protocol

__all__ = ["Pipe", "SimulatedTransport"]

SPLIT_PROBABILITY: Final = 0.2
"""Probability of each further split of written data."""
SOCKET_BUFFERS: Final = 1 << 17
"""Bytes that the socket buffers of both kernels hold before the sender has to wait."""


class _Network(Protocol):
    """What a connection needs of the network; see :class:`erlmesh.testing.network.SimulatedNetwork`."""

    random: Random
    delay: tuple[float, float]
    delivered: Counter[tuple[str, str]]

    def latency(self) -> float: ...
    def is_cut(self, sender: str, receiver: str) -> bool: ...


class _Host(Protocol):
    """What a connection needs of the host of one end; see :class:`erlmesh.testing.network.Host`."""

    address: str
    has_power: bool
    pipes: dict[Pipe, None]

    @property
    def network(self) -> _Network: ...


class Pipe:
    """One direction of a connection: the chunks in flight, in order. ``None`` marks the end of the stream."""

    def __init__(self, sender: SimulatedTransport, receiver: SimulatedTransport) -> None:
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


class SimulatedTransport(asyncio.Transport):
    """One end of a connection. Its protocol is called in ``context``, that is, on the machine that owns the protocol.

    While that machine is paused, the calls are deferred.
    """

    def __init__(self, host: _Host, peer: str, context: Context) -> None:
        super().__init__({"peername": (peer, 0), "sockname": (host.address, 0)})
        self.host = host
        self.is_disconnected = False
        self._protocol: asyncio.Protocol | None = None
        self._context = context
        self._outgoing: Pipe | None = None
        self._incoming: Pipe | None = None
        self._closing = False
        self._high_water = 1 << 16
        self._writing_paused = False
        self._reading_paused = False
        self._unread: deque[tuple[Callable[..., None], Any]] = deque()
        """What has arrived since ``pause_reading``: data, and the end of the stream."""

    def pipe_to(self, other: SimulatedTransport) -> None:
        """Deliver to ``other`` what is written here."""
        self._outgoing = other._incoming = Pipe(self, other)

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
            self._call_soon(self._end_of_stream if error is None else self._connection_lost, error)

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

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "unacknowledged" and self._outgoing is not None:
            return self._outgoing.unread
        return super().get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return 0 if self._outgoing is None else max(0, self._outgoing.unread - SOCKET_BUFFERS)

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._call_soon(self._pass_on_unread)

    def is_reading(self) -> bool:
        return not self._reading_paused

    # Calls of the protocol, in its context

    def _pass_on_unread(self) -> None:
        while self._unread and not self._reading_paused:
            callback, argument = self._unread.popleft()
            callback(argument)

    def _call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(callback, *arguments, context=self._context)

    def _data_received(self, data: bytes) -> None:
        if (self._reading_paused or self._unread) and not self._closing:
            self._unread.append((self._read, data))
        else:
            self._read(data)

    def _end_of_stream(self, error: None) -> None:
        if (self._reading_paused or self._unread) and not self._closing:
            self._unread.append((self._connection_lost, error))
        else:
            self._connection_lost(error)

    def _read(self, data: bytes) -> None:
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


def _reset(one: SimulatedTransport, other: SimulatedTransport) -> None:
    """Send a reset from ``one`` to ``other``. A cut in that direction drops it."""
    network = one.host.network

    def deliver() -> None:
        held = one._outgoing is not None and one._outgoing.is_held
        if not held and not network.is_cut(one.host.address, other.host.address):
            other.disconnected(ConnectionResetError("connection reset by peer"))

    asyncio.get_running_loop().call_later(network.latency(), deliver, context=Context())
