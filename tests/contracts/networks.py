"""Two networks for one suite: TCP on this machine's loopback, and the simulated one. Both can be cut, per direction:
the real one by a relay between the two that stops passing on.
"""

from __future__ import annotations

import asyncio
from random import Random

from erlmesh.net.network import TcpNetwork
from erlmesh.testing import clock
from erlmesh.testing.network import Internet

__all__ = ["Recorder", "Simulated", "Tcp"]


class Recorder(asyncio.Protocol):
    """What a protocol is told, in order, and its transport."""

    def __init__(self):
        self.told = []
        self.received = bytearray()
        self.transport = None
        self.error = None

    def connection_made(self, transport):
        self.told.append("made")
        self.transport = transport

    def data_received(self, data):
        assert data
        if self.told[-1] != "data":
            self.told.append("data")
        self.received += data

    def pause_writing(self):
        self.told.append("pause")

    def resume_writing(self):
        self.told.append("resume")

    def connection_lost(self, exception):
        self.told.append("lost")
        self.error = exception


async def until(condition, *, patience=30.0):
    """The clock of the network decides how long that is."""
    async with asyncio.timeout(patience):
        while not condition():
            await asyncio.sleep(0.005)


class Pair:
    """Two ends of a connection, and what may happen between them."""

    def __init__(self, network, caller, called, listener):
        self.network, self.caller, self.called, self.listener = network, caller, called, listener

    async def close(self):
        self.listener.close()
        for end in (self.caller, self.called):
            end.transport.abort()
        await until(lambda: "lost" in self.caller.told and "lost" in self.called.told)


class Simulated:
    """The network in memory."""

    here, there = "10.0.0.1", "10.0.0.2"

    def __init__(self, seed):
        self.internet = Internet(seed)

    def run(self, main):
        async def within():
            self.machines = [asyncio.get_running_loop().machine(name) for name in ("here", "there")]
            return await main()

        return clock.run(within)

    @property
    def dialler(self):
        return self.internet.host(self.here)

    @property
    def answerer(self):
        return self.internet.host(self.there)

    async def pair(self):
        ends = Recorder(), Recorder()
        with self.machines[1]:
            listener = await self.answerer.listen(None, [0], lambda: ends[1])
        with self.machines[0]:
            await self.dialler.dial(self.there, listener.port, lambda: ends[0])
        await until(lambda: ends[1].transport is not None)
        return Pair(self, *ends, listener)

    def stop_reading(self, _end):
        self.machines[1].pause()

    def read_on(self, _end):
        self.machines[1].resume()

    def cut(self, *, forth=True, back=True):
        for way in self._ways(forth, back):
            self.internet.cut(*way)

    def heal(self):
        for way in self._ways(True, True):
            self.internet.heal(*way)

    def _ways(self, forth, back):
        return [(self.here, self.there)] * forth + [(self.there, self.here)] * back

    async def close(self):
        pass


class Tcp:
    """The real one. Its pairs are connected through a relay."""

    here = there = "127.0.0.1"

    def __init__(self, seed):
        self.random = Random(seed)
        self.dialler = self.answerer = TcpNetwork()
        self._ways = {"forth": asyncio.Event(), "back": asyncio.Event()}
        self._servers = []
        self._writers = []
        self._tasks = []
        self.heal()

    def run(self, main):
        return asyncio.run(main())

    async def pair(self):
        ends = Recorder(), Recorder()
        listener = await self.answerer.listen([self.there], [0], lambda: ends[1])
        relay = await asyncio.start_server(lambda *sides: self._relay(listener.port, *sides), "127.0.0.1", 0)
        self._servers.append(relay)
        await self.dialler.dial(self.there, relay.sockets[0].getsockname()[1], lambda: ends[0])
        await until(lambda: ends[1].transport is not None)
        return Pair(self, *ends, listener)

    async def _relay(self, port, reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers += [writer, there_writer]
        self._tasks += [
            asyncio.ensure_future(self._pass_on(reader, there_writer, self._ways["forth"])),
            asyncio.ensure_future(self._pass_on(there_reader, writer, self._ways["back"])),
        ]

    async def _pass_on(self, reader, writer, open_way):
        try:
            while data := await reader.read(self.random.randrange(1, 1 << 16)):
                await open_way.wait()
                writer.write(data)
                await writer.drain()
            await open_way.wait()
            writer.write_eof() if writer.can_write_eof() else None
        except OSError:
            writer.transport.abort()

    def stop_reading(self, end):
        end.transport.pause_reading()

    def read_on(self, end):
        end.transport.resume_reading()

    def cut(self, *, forth=True, back=True):
        for name, wanted in (("forth", forth), ("back", back)):
            if wanted:
                self._ways[name].clear()

    def heal(self):
        for way in self._ways.values():
            way.set()

    async def close(self):
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, *(writer.wait_closed() for writer in self._writers), return_exceptions=True)
