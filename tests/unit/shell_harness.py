"""Run lines in a shell on a real node, with its own EPMD on a free port, and capture the output."""

import asyncio
import contextlib
import io
import socket

from erlmesh.net.epmd import Epmd
from erlmesh.node import Node
from erlmesh.shell.session import Session


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def new_node(name, port, **options):
    return Node(f"{name}@127.0.0.1", cookie="cookie", epmd=Epmd(port), **options)


class ShellHarness:
    """A shell session. ``await shell("1 + 1")`` returns the output of the last line: results, then errors and hints."""

    def __init__(self, node):
        self.node = node
        self.output, self.err = io.StringIO(), io.StringIO()
        self.session = Session(node, out=self.output, err=self.err)

    async def __call__(self, *lines):
        for line in lines:
            self.output.truncate(self.output.seek(0))
            self.err.truncate(self.err.seek(0))
            await self.session.run(line)
        return (self.output.getvalue() + self.err.getvalue()).rstrip("\n")

    async def wait_for_answer(self, line, expected):
        async with asyncio.timeout(5):
            while (answer := await self(line)) != expected:
                await asyncio.sleep(0.005)
        return answer

    async def wait_for_error_output(self, text):
        async with asyncio.timeout(5):
            while text not in self.err.getvalue():
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def open_shells(*names):
    """Yield a shell for each name. The nodes are not connected."""
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        shells = []
        for name in names:
            shell = ShellHarness(await stack.enter_async_context(new_node(name, port)))
            await shell.session.start()
            stack.callback(shell.session.close)
            shells.append(shell)
        yield shells


def with_shell(test):
    """Runs ``async def test(shell, …)`` with a shell on one node."""

    def run():
        async def body():
            async with asyncio.timeout(20), open_shells("socrates") as (shell,):
                await test(shell)

        asyncio.run(body())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def with_two_shells(test):
    """Runs ``async def test(socrates, plato)``."""

    def run():
        async def body():
            async with asyncio.timeout(20), open_shells("socrates", "plato") as (socrates, plato):
                await test(socrates, plato)

        asyncio.run(body())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
