"""A relay between nodes: while this process is stopped (SIGSTOP), the links that it carries are cut, without a FIN.

It forwards connections from each port of 127.0.0.1 to another one. It ends when its stdin ends::

    python -m cep.relay 5001=6001 5002=6002
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from functools import partial

__all__ = ["main"]

HOST = "127.0.0.1"


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _forward(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        there_reader, there_writer = await asyncio.open_connection(HOST, port)
    except OSError:
        writer.close()
        return
    await asyncio.gather(_carry(reader, there_writer), _carry(there_reader, writer))


async def main(*pairs: str) -> None:
    """Forward until stdin ends. A pair is ``LISTEN=TO``, two ports."""
    async with contextlib.AsyncExitStack() as stack:
        for pair in pairs:
            listen, to = map(int, pair.split("="))
            server = await asyncio.start_server(partial(_forward, to), HOST, listen)
            await stack.enter_async_context(server)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
