"""A network in memory: the two verbs of the real one, and what TCP may do to people who trust it.

It keeps TCP's promises (order, nothing lost while both ends live) and breaks only what TCP may break: delay, the
size of pieces, silence for as long as a cut lasts, a reset, an end that nobody hears of. One seed decides everything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from random import Random
from typing import Any, Final

from erlmesh.errors import ConnectError, NodeStartError
from erlmesh.net.network import Listener

__all__ = ["Internet", "Host"]

CONNECT_TIME: Final = 0.5
RETRANSMIT: Final = 1.0
"""Seconds at most until what a cut has held back arrives after the heal: TCP backs off."""


class Internet:
    """All hosts and the ways between them. Every delay and cut into pieces comes from ``seed``."""

    def __init__(self, seed: int = 0, *, delay: tuple[float, float] = (0.0002, 0.003)) -> None:
        self.random = Random(seed)
        self.delay = delay
        self.machines: dict[str, Host] = {}
        self._cuts: set[tuple[str, str]] = set()

    def host(self, address: str) -> Host:
        """The host with that address."""
        if address not in self.machines:
            self.machines[address] = Host(self, address)
        return self.machines[address]

    def cut(self, sender: str, receiver: str) -> None:
        """From now on nothing passes from ``sender`` to ``receiver``; what is sent waits."""
        self._cuts.add((sender, receiver))

    def heal(self, sender: str, receiver: str) -> None:
        """What waited arrives, a little late."""
        self._cuts.discard((sender, receiver))
        for wire in self.machines[sender].wires:
            if wire.receiver.host.address == receiver:
                wire.heal(self.random.uniform(0.0, RETRANSMIT))

    def is_cut(self, sender: str, receiver: str) -> bool:
        return (sender, receiver) in self._cuts


class Host:
    """One address: what a node is given as its network."""

    def __init__(self, internet: Internet, address: str) -> None:
        self.internet = internet
        self.address = address
        self.up = True
        self.wires: dict[_Wire, None] = {}
        self._listeners: dict[int, tuple[Callable[[], asyncio.Protocol], Context]] = {}
        self._next_port = 40_000

    async def dial(self, host: str, port: int, protocol: Callable[[], asyncio.Protocol]) -> None:
        internet, there = self.internet, self.internet.machines.get(host)
        await asyncio.sleep(internet.random.uniform(*internet.delay))
        while there is not None and (internet.is_cut(self.address, host) or internet.is_cut(host, self.address) or not there.up):
            await asyncio.sleep(CONNECT_TIME)  # the caller's own time limit ends this
        answer = None if there is None else there.answer(port)
        if there is None or answer is None:
            raise ConnectError(f"nobody listens on port {port} of {host}")
        caller, called = _Transport(self, host), _Transport(there, self.address)
        factory, context = answer
        caller.connect(called, protocol(), copy_context())
        called.connect(caller, context.run(factory), context.copy())

    async def listen(
        self, hosts: Iterable[str] | None, ports: Iterable[int], protocol: Callable[[], asyncio.Protocol]  # noqa: ARG002
    ) -> Listener:
        for wanted in ports:
            if not wanted:
                self._next_port += 1
            port = wanted or self._next_port
            if port not in self._listeners:
                self._listeners[port] = (protocol, copy_context())
                return _Listener(self, port)
        raise NodeStartError(f"all ports of {self.address} that may be used are taken")

    def answer(self, port: int) -> tuple[Callable[[], asyncio.Protocol], Context] | None:
        return self._listeners.get(port)

    def close(self, port: int) -> None:
        self._listeners.pop(port, None)

    def crash(self, *, silently: bool = False) -> None:
        """The machine is off. The kernel of a killed process resets its connections; a machine without power does not,
        and its peers are left with half-open connections (``silently``).
        """
        self._listeners.clear()
        for wire in list(self.wires):
            wire.vanish()
            if not silently:
                wire.reset()
        self.wires.clear()


class _Listener:
    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self.port = port

    def close(self) -> None:
        self._host.close(self.port)


class _Wire:
    """One direction of a connection: pieces on their way, in order."""

    def __init__(self, sender: _Transport, receiver: _Transport) -> None:
        self.sender, self.receiver = sender, receiver
        self._pieces: deque[bytes | None] = deque()
        self._arrives = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.in_flight = 0
        sender.host.wires[self] = None

    def put(self, data: bytes | None) -> None:
        """``None`` is the end of the stream."""
        random = self.sender.host.internet.random
        while data and len(data) > 1 and random.random() < 0.2:
            cut = random.randrange(1, len(data))
            self._pieces.append(data[:cut])
            data = data[cut:]
        self._pieces.append(data)
        self.in_flight = sum(len(piece or b"") for piece in self._pieces)
        self._schedule(random.uniform(*self.sender.host.internet.delay))

    def heal(self, after: float) -> None:
        if self._pieces:
            self._schedule(after)

    def _schedule(self, after: float) -> None:
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._arrives = max(self._arrives, loop.time() + after)
            self._timer = loop.call_at(self._arrives, self._arrive, context=Context())  # a wire is no machine's

    def _arrive(self) -> None:
        self._timer = None
        sender, receiver = self.sender.host, self.receiver.host
        if sender.internet.is_cut(sender.address, receiver.address):
            return
        if self._pieces:
            piece = self._pieces.popleft()
            self.in_flight -= len(piece or b"")
            if piece is None:
                self.receiver.end(None)
            else:
                self.receiver.receive(piece)
            self.sender.drained(self.in_flight)
        if self._pieces:
            self._schedule(sender.internet.random.uniform(0.0, sender.internet.delay[0]))

    def reset(self) -> None:
        """The other end hears that this one is no more."""
        loop = asyncio.get_running_loop()
        after = self.sender.host.internet.random.uniform(*self.sender.host.internet.delay)
        loop.call_later(after, self._reset, context=Context())

    def _reset(self) -> None:
        sender, receiver = self.sender.host, self.receiver.host
        if sender.internet.is_cut(sender.address, receiver.address):
            return  # it will never be heard: the connection is half open
        self.receiver.end(ConnectionResetError("connection reset by peer"))

    def vanish(self) -> None:
        """This end is gone, and what it had sent with it."""
        self._pieces.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.sender.vanish()


class _Transport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, host: Host, peer: str) -> None:
        super().__init__({"peername": (peer, 0), "sockname": (host.address, 0)})
        self.host = host
        self._protocol: asyncio.Protocol | None = None
        self._machine: Context | None = None
        self._wire: _Wire | None = None
        self._closing = False
        self._high = 1 << 16
        self._full = False

    def connect(self, other: _Transport, protocol: asyncio.Protocol, machine: Context) -> None:
        """``machine`` is where ``protocol`` is at home: what it is told, it is told there, or when that wakes."""
        self._wire = _Wire(self, other)
        self._protocol = protocol
        self._machine = machine
        self._tell("connection_made", self)

    def write(self, data: Any) -> None:
        if self._wire is None or self._closing:
            return
        self._wire.put(bytes(data))
        if not self._full and self._wire.in_flight > self._high and self._protocol is not None:
            self._full = True
            self._tell("pause_writing")

    def drained(self, in_flight: int) -> None:
        if self._full and in_flight <= self._high // 4 and self._protocol is not None:
            self._full = False
            self._tell("resume_writing")

    def receive(self, data: bytes) -> None:
        self._tell("data_received", data)

    def end(self, error: Exception | None) -> None:
        if self._protocol is not None:
            self._leave()
            self._tell("connection_lost", error)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if self._wire is not None:
                self._wire.put(None)
            asyncio.get_running_loop().call_soon(self.end, None)

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            if self._wire is not None:
                self._wire.reset()
            asyncio.get_running_loop().call_soon(self.end, None)

    def vanish(self) -> None:
        self._closing = True
        self._protocol = None

    def _tell(self, what: str, *arguments: Any) -> None:
        asyncio.get_running_loop().call_soon(self._say, what, arguments, context=self._machine)

    def _say(self, what: str, arguments: tuple[Any, ...]) -> None:
        protocol = self._protocol
        if what == "connection_lost":
            self._protocol = None
        elif what == "data_received" and self._closing:
            return
        if protocol is not None:
            getattr(protocol, what)(*arguments)

    def is_closing(self) -> bool:
        return self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:  # noqa: ARG002
        self._high = high or self._high

    def get_write_buffer_size(self) -> int:
        return 0 if self._wire is None else self._wire.in_flight

    def _leave(self) -> None:
        if self._wire is not None:
            self.host.wires.pop(self._wire, None)
