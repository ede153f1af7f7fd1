"""Two networks for the contract tests: TCP on the loopback interface, and the simulated network.

Both can be cut in each direction. A proxy between the two ends cuts the TCP network: it stops forwarding.
"""

from __future__ import annotations

import asyncio
from random import Random

from erlmesh.net.network import TcpNetwork
from erlmesh.testing import loop
from erlmesh.testing.network import SimulatedNetwork

__all__ = ["Recorder", "Simulated", "Tcp"]


class Recorder(asyncio.Protocol):
    """Records the calls of a protocol in order, its data and its transport."""

    def __init__(self):
        self.events = []
        self.received = bytearray()
        self.transport = None
        self.error = None

    def connection_made(self, transport):
        self.events.append("made")
        self.transport = transport

    def data_received(self, data):
        assert data
        if self.events[-1] != "data":
            self.events.append("data")
        self.received += data

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")

    def connection_lost(self, exception):
        self.events.append("lost")
        self.error = exception


async def wait_until(condition, *, timeout=30.0):
    """Wait until the condition holds. ``timeout`` is in seconds of the event loop, real or virtual."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


class Pair:
    """Both ends of a connection, with the network and the listener."""

    def __init__(self, network, initiator, acceptor, listener):
        self.network, self.initiator, self.acceptor, self.listener = network, initiator, acceptor, listener

    async def close(self):
        self.listener.close()
        for end in (self.initiator, self.acceptor):
            end.transport.abort()
        await wait_until(lambda: "lost" in self.initiator.events and "lost" in self.acceptor.events)


class Simulated:
    """The simulated network, with a machine for each end."""

    here, there = "10.0.0.1", "10.0.0.2"

    def __init__(self, seed):
        self.network = SimulatedNetwork(seed)

    def run(self, main):
        async def within():
            self.machines = [asyncio.get_running_loop().machine(name) for name in ("here", "there")]
            return await main()

        return loop.run(within)

    @property
    def initiator_host(self):
        return self.network.host(self.here)

    @property
    def acceptor_host(self):
        return self.network.host(self.there)

    async def pair(self):
        ends = Recorder(), Recorder()
        with self.machines[1]:
            listener = await self.acceptor_host.listen(None, [0], lambda: ends[1])
        with self.machines[0]:
            await self.initiator_host.dial(self.there, listener.port, lambda: ends[0])
        await wait_until(lambda: ends[1].transport is not None)
        return Pair(self, *ends, listener)

    def pause_reading(self, _end):
        self.machines[1].pause()

    def resume_reading(self, _end):
        self.machines[1].resume()

    def cut(self, *, forth=True, back=True):
        for direction in self._directions(forth, back):
            self.network.cut(*direction)

    def heal(self):
        for direction in self._directions(True, True):
            self.network.heal(*direction)

    def _directions(self, forth, back):
        return [(self.here, self.there)] * forth + [(self.there, self.here)] * back

    async def close(self):
        pass


class Tcp:
    """TCP. A proxy connects the two ends of a pair."""

    here = there = "127.0.0.1"

    def __init__(self, seed):
        self.random = Random(seed)
        self.initiator_host = self.acceptor_host = TcpNetwork()
        self._directions = {"forth": asyncio.Event(), "back": asyncio.Event()}
        self._servers = []
        self._writers = []
        self._tasks = []
        self.heal()

    def run(self, main):
        return asyncio.run(main())

    async def pair(self):
        ends = Recorder(), Recorder()
        listener = await self.acceptor_host.listen([self.there], [0], lambda: ends[1])
        proxy = await asyncio.start_server(lambda *sides: self._proxy(listener.port, *sides), "127.0.0.1", 0)
        self._servers.append(proxy)
        await self.initiator_host.dial(self.there, proxy.sockets[0].getsockname()[1], lambda: ends[0])
        await wait_until(lambda: ends[1].transport is not None)
        return Pair(self, *ends, listener)

    async def _proxy(self, port, reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers += [writer, there_writer]
        self._tasks += [
            asyncio.ensure_future(self._forward(reader, there_writer, self._directions["forth"])),
            asyncio.ensure_future(self._forward(there_reader, writer, self._directions["back"])),
        ]

    async def _forward(self, reader, writer, is_open):
        try:
            while data := await reader.read(self.random.randrange(1, 1 << 16)):
                await is_open.wait()
                writer.write(data)
                await writer.drain()
            await is_open.wait()
            writer.write_eof() if writer.can_write_eof() else None
        except OSError:
            writer.transport.abort()

    def pause_reading(self, end):
        end.transport.pause_reading()

    def resume_reading(self, end):
        end.transport.resume_reading()

    def cut(self, *, forth=True, back=True):
        for name, wanted in (("forth", forth), ("back", back)):
            if wanted:
                self._directions[name].clear()

    def heal(self):
        for direction in self._directions.values():
            direction.set()

    async def close(self):
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, *(writer.wait_closed() for writer in self._writers), return_exceptions=True)
