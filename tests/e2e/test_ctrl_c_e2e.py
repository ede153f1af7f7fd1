"""Ctrl-C in a program of a user that calls ``asyncio.run``: the traceback is that of asyncio, and nothing is added."""

import os
import signal
import subprocess
import sys

import pytest

WITHOUT_NODES = """
import asyncio

async def main():
    print("up", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""

STOPPED = """
import asyncio
from erlmesh import Node

async def main():
    async with Node("socrates@127.0.0.1", cookie="monster") as node:
        node.spawn(idle)
        print("up", flush=True)
        async for _ in node.pg.watch("group"):
            pass

async def idle(me):
    await me.receive()

asyncio.run(main())
"""

NOT_STOPPED = """
import asyncio
from erlmesh import Node

async def main():
    socrates, plato = [Node(f"{name}@127.0.0.1", cookie="monster") for name in ("socrates", "plato")]
    await socrates.start()
    await plato.start()
    await socrates.connect(plato.name)
    socrates.spawn(call, plato.spawn(idle))
    print("up", flush=True)
    async for _ in socrates.pg.watch("group"):
        pass

async def call(me, pid):
    await me.call(pid, 1, timeout=None)

async def idle(me):
    async for _ in me:
        pass

asyncio.run(main())
"""


def interrupt(erlmesh, program):
    """Run the program, press Ctrl-C when it is up, and return its status and what it wrote to standard error."""
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # the parent may ignore it
    with subprocess.Popen(
        [sys.executable, "-c", start + program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**erlmesh.environment, "PYTHONWARNINGS": ""},  # as a user has it: a node that is not stopped is not closed
    ) as running:  # fmt: skip
        try:
            assert running.stdout.readline() == "up\n"
            os.kill(running.pid, signal.SIGINT)
            return running.communicate(timeout=60)[1], running.returncode
        finally:
            running.kill()


def without_places(traceback):
    return [line for line in traceback.splitlines() if not line.startswith("    ") and not line.startswith("  File")]


@pytest.mark.parametrize("program", [STOPPED, NOT_STOPPED], ids=["async with", "start without stop"])
def test_nodes_add_nothing_to_the_traceback_of_asyncio(erlmesh, program):
    expected, expected_status = interrupt(erlmesh, WITHOUT_NODES)

    shown, status = interrupt(erlmesh, program)

    assert status == expected_status == -signal.SIGINT
    assert without_places(shown) == without_places(expected)
