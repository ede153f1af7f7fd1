"""Runtimes on one simulated host without delays. A test controls refusals and silence, and counts loop iterations."""

from contextlib import asynccontextmanager

from erlmesh.errors import ConnectError
from erlmesh.runtime.config import NodeConfig
from erlmesh.runtime.runtime import Runtime
from erlmesh.testing.network import SimulatedNetwork

HOST = "memory"


class Pipe:
    """Both ends of a connection. After ``silence``, nothing arrives."""

    def __init__(self, *ends):
        self.ends = ends

    @property
    def is_open(self):
        return not any(end.is_closing() for end in self.ends)

    def silence(self):
        for end in self.ends:
            end.hold()


class MemoryNetwork:
    """The network, EPMD and resolver of all nodes.

    ``gates[name]`` is an Event that delays each connect to that node. ``on_pipe(pipe)`` is called with each new pipe
    before it carries data.
    """

    def __init__(self):
        network = SimulatedNetwork(delay=(0.0, 0.0))
        network.on_connect = self._connected
        self.host = network.host(HOST)
        self.listening = self.host._listeners
        self.names = {}
        self.gates = {}
        self.on_pipe = lambda pipe: None
        self.pipes = []
        self.registrations = 0

    def _connected(self, initiator, acceptor):
        pipe = Pipe(initiator, acceptor)
        self.pipes.append(pipe)
        self.on_pipe(pipe)

    async def dial(self, host, port, protocol):
        await self.host.dial(HOST, port, protocol)

    async def addresses(self, host, listen):
        return None, None

    async def listen(self, hosts, ports, protocol):
        return await self.host.listen(hosts, ports, protocol)

    async def resolve(self, name):
        if name in self.gates:
            await self.gates[name].wait()
        if name not in self.names:
            raise ConnectError(f"no node {name}")
        return HOST, self.names[name]

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
