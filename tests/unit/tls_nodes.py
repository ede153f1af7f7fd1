"""Nodes with TLS in one event loop, on loopback and without EPMD."""

import asyncio
import ssl
from contextlib import asynccontextmanager

from erlmesh import Node, NoEpmd, StaticResolver

HOST = "127.0.0.1"


class Ports(StaticResolver):
    """Finds the nodes that were started with it."""

    def __init__(self):
        super().__init__({}, NoEpmd())
        self.nodes = {}
        self.silent = {}
        """Ports of names that are no node."""

    async def resolve(self, name):
        return HOST, self.silent.get(name) or self.nodes[name].internals.port


@asynccontextmanager
async def running(ports, name, tls, **options):
    full = name if "@" in name else f"{name}@{HOST}"
    options.setdefault("listen", HOST)
    async with Node(full, cookie="monster", epmd=NoEpmd(), resolver=ports, tls=tls, reconnect=False, **options) as node:
        ports.nodes[full] = node
        yield node


def run(test):
    """Run ``test(ports)`` in an event loop of its own. An error that asyncio would only log fails it."""

    async def main():
        errors = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with asyncio.timeout(60):
            await test(Ports())
        assert errors == []

    asyncio.run(main())


def shake_hands(client, server, host):
    """Run a TLS handshake of two contexts in memory. Return both ends. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    pending = list(ends)
    while pending:
        for end in list(pending):
            try:
                end.do_handshake()
                pending.remove(end)
            except ssl.SSLWantReadError:
                pass
    return ends
