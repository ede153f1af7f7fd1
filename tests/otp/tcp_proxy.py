"""A relay as a NAT or a container engine is one: what comes to one port goes on to another address."""

import asyncio
import contextlib

__all__ = ["tcp_proxy"]


@contextlib.asynccontextmanager
async def tcp_proxy(at, to):
    """From the address and port ``at`` to those of ``to``, both ways, until the end of the ``async with``."""
    tasks = set()

    async def forward(reader, writer):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
        finally:
            writer.close()

    async def accepted(reader, writer):
        there_reader, there_writer = await asyncio.open_connection(*to)
        for ends in ((reader, there_writer), (there_reader, writer)):
            tasks.add(asyncio.create_task(forward(*ends)))

    server = await asyncio.start_server(accepted, *at)
    async with server:
        yield
        for carrier in tasks:
            carrier.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
