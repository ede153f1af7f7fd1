"""Two nodes exchange a message and a reply.

Run each line in a terminal of its own::

    python examples/ping_pong.py pong
    python examples/ping_pong.py ping
"""

import asyncio
import sys

from erlmesh import Atom, Node, Pid, Process

PONG_NODE = "pong@127.0.0.1"


async def pong(me: Process) -> None:
    """Reply to each ping. The registered name makes this process reachable as ``("pong", node)``."""
    me.register("pong")
    async for message in me:
        match message:
            case (Atom("ping"), Pid() as sender):
                print(f"ping from {sender.node.name}", flush=True)
                me.send(sender, (Atom("pong"), me.pid))


async def ping(me: Process) -> None:
    """Send one ping and wait five seconds for the reply."""
    me.send(("pong", PONG_NODE), (Atom("ping"), me.pid))
    match await me.receive(timeout=5.0):
        case (Atom("pong"), Pid() as sender):
            print(f"pong from {sender.node.name}", flush=True)


async def main(role: str) -> None:
    async with Node(f"{role}@127.0.0.1", cookie="monster") as node:
        if role == "pong":
            node.spawn(pong)
            await asyncio.Event().wait()
        finished = asyncio.Event()

        async def client(me: Process) -> None:
            try:
                await ping(me)
            finally:
                finished.set()

        node.spawn(client)
        await finished.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
