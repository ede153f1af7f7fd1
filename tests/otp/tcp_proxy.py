"""A TCP proxy, as in a NAT or a container engine: it forwards connections of one port to another address."""

import asyncio
import contextlib

__all__ = ["tcp_proxy"]


@contextlib.asynccontextmanager
async def tcp_proxy(at, to, answers=None):
    """Forward from the address and port ``at`` to those of ``to``, in both directions, until the block ends.

    ``answers`` is an Event: data from ``to`` is read only while it is set.
    """
    tasks = set()

    async def forward(reader, writer, gate):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
                if gate is not None:
                    await gate.wait()
        finally:
            writer.close()

    async def accepted(reader, writer):
        there_reader, there_writer = await asyncio.open_connection(*to)
        for ends in ((reader, there_writer, None), (there_reader, writer, answers)):
            tasks.add(asyncio.create_task(forward(*ends)))

    server = await asyncio.start_server(accepted, *at)
    async with server:
        yield
        for carrier in tasks:
            carrier.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
