"""Nodes in one event loop, connected by in-memory pipes. A test controls every byte, refusal and silence.

It stays beside :mod:`erlmesh.testing.network`: these tests count iterations of the event loop, in which no time passes,
and silence one connection of two that join the same nodes.
"""

import asyncio
from contextlib import asynccontextmanager

from erlmesh.errors import ConnectError
from erlmesh.runtime.config import NodeConfig
from erlmesh.runtime.runtime import Runtime


class Transport(asyncio.Transport):
    """One end of a pipe. Data arrives in a later iteration of the loop, and never while the pipe is ``silent``."""

    def __init__(self, pipe, protocol):
        super().__init__({"peername": ("memory", pipe.number)})
        self.pipe = pipe
        self.protocol = protocol
        self.closing = False
        self.written = bytearray()

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def is_closing(self):
        return self.closing

    def write(self, data):
        assert not self.closing
        self.written += data
        self.pipe.loop.call_soon(self._arrive, data)

    def _arrive(self, data):
        other = self.pipe.other(self)
        if not other.closing and not self.pipe.silent:
            other.protocol.data_received(data)

    def close(self):
        if not self.closing:
            self.closing = True
            self.pipe.loop.call_soon(self._closed)

    abort = close

    def _closed(self):
        self.protocol.connection_lost(None)
        other = self.pipe.other(self)
        if not other.closing and not self.pipe.silent:
            other.closing = True
            other.protocol.connection_lost(None)


class Pipe:
    def __init__(self, number, caller, answerer):
        self.number = number
        self.loop = asyncio.get_running_loop()
        self.silent = False
        self.ends = [Transport(self, caller), Transport(self, answerer)]

    def other(self, end):
        return self.ends[1 - self.ends.index(end)]

    @property
    def is_open(self):
        return not any(end.closing for end in self.ends)

    def open(self):
        for end in reversed(self.ends):
            end.protocol.connection_made(end)


class Listener:
    def __init__(self, network, port):
        self.network, self.port = network, port

    def close(self):
        self.network.listening.pop(self.port, None)


class MemoryNetwork:
    """The network, EPMD and resolver of all nodes.

    ``gates[name]`` is an Event that delays each connect to that node. ``on_pipe(pipe)`` is called with each new pipe
    before it carries data.
    """

    def __init__(self):
        self.listening = {}
        self.names = {}
        self.gates = {}
        self.on_pipe = lambda pipe: None
        self.pipes = []
        self.registrations = 0

    async def dial(self, host, port, protocol):
        accept = self.listening.get(port)
        if accept is None:
            raise ConnectError("nobody listens there")
        pipe = Pipe(len(self.pipes), protocol(), accept())
        self.pipes.append(pipe)
        self.on_pipe(pipe)
        pipe.open()

    async def addresses(self, host, listen):
        return None, None

    async def listen(self, hosts, ports, protocol):
        port = 1000 + self.registrations
        self.listening[port] = protocol
        return Listener(self, port)

    async def resolve(self, name):
        if name in self.gates:
            await self.gates[name].wait()
        if name not in self.names:
            raise ConnectError(f"no node {name}")
        return "memory", self.names[name]

    def open_pipes(self):
        return [pipe for pipe in self.pipes if pipe.is_open]


class MemoryEpmd:
    def __init__(self, network, host):
        self.network, self.host, self.name = network, host, None

    async def register(self, alive, port, *, hosts, hidden):
        self.name = f"{alive}@{self.host}"
        self.network.names[self.name] = port
        self.network.registrations += 1
        return self.network.registrations

    async def close(self):
        self.network.names.pop(self.name, None)


@asynccontextmanager
async def started(network, name, **options):
    """Start a runtime without services, and stop it at the end."""
    defaults = {"cookie": "monster", "network": network, "resolver": network, "reconnect": False}
    node = Runtime(NodeConfig(name, **defaults | options, epmd=MemoryEpmd(network, name.partition("@")[2])))
    await node.start()
    try:
        yield node
    finally:
        await node.stop()
