"""A shell on a real node, with an EPMD of its own on a free port; lines in, what was printed out."""

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
    return Node(f"{name}@127.0.0.1", cookie="lab", epmd=Epmd(port), **options)


class ShellHarness:
    """``await lab("1 + 1")`` gives what was printed for the line: results, then errors and hints."""

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
    """A lab for each name; the nodes have not met."""
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        labs = []
        for name in names:
            lab = ShellHarness(await stack.enter_async_context(new_node(name, port)))
            await lab.session.start()
            stack.callback(lab.session.close)
            labs.append(lab)
        yield labs


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
