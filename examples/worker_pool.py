"""A pool of workers on any number of nodes.

The workers join a process group. A client picks one worker for each call.

Start as many workers as you like, at any time, and stop them at any time::

    python examples/worker_pool.py worker one@127.0.0.1
    python examples/worker_pool.py worker two@127.0.0.1 one@127.0.0.1
    python examples/worker_pool.py client me@127.0.0.1 one@127.0.0.1
"""

import asyncio
import math
import sys

from erlmesh import Atom, CallError, Node, Process

GROUP = "workers"
GEN_CALL = Atom("$gen_call")


async def worker(me: Process) -> None:
    """Answer ``gen_server`` calls. Elixir reaches this process with ``GenServer.call(pid, 20)``."""
    me.node.pg.join(GROUP, me.pid)
    async for message in me:
        match message:
            case (tag, caller, int(number)) if tag is GEN_CALL:
                me.reply(caller, math.factorial(number))


async def call_any_worker(node: Node, number: int) -> object:
    """Return the answer of one worker. Wait for a worker if there is none; ask another one if the call fails."""
    changes = node.pg.watch(GROUP)  # subscribe first, so that no change is missed
    try:
        while True:
            pid = node.pg.pick(GROUP, "random")
            if pid is None:
                await anext(changes)
                continue
            try:
                return await node.call(pid, number)
            except CallError as error:
                print(f"{pid}: {error}; asking another worker", flush=True)
    finally:
        changes.close()


async def main(role: str, name: str, *peers: str) -> None:
    async with Node(name, cookie="monster", join=peers) as node:
        if role == "worker":
            node.spawn(worker)
            await asyncio.Event().wait()
        for number in range(5, 8):
            print(f"{number}! = {await call_any_worker(node, number)}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
