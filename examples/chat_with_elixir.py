"""A chat room for Python and Elixir. The room is a process group; every member gets every message.

Start the Python side. Each line that you type is sent to the room::

    python examples/chat_with_elixir.py socrates

Start the Elixir side in another terminal (``iex --name diotima@127.0.0.1 --cookie monster``)::

    Node.connect(:"socrates@127.0.0.1")
    :pg.start_link()
    :pg.join("chat", self())
    for pid <- :pg.get_members("chat"), pid != self(), do: send(pid, {:chat, "diotima", "Hello!"})
    flush()
"""

import asyncio
import sys
from functools import partial

from erlmesh import Atom, Joined, Left, Node, Process

ROOM = "chat"


async def print_messages(me: Process) -> None:
    """Print ``{chat, From, Text}`` messages. A Python str and an Elixir string are both binaries in Erlang."""
    me.node.pg.join(ROOM, me.pid)
    async for message in me:
        match message:
            case (Atom("chat"), bytes() as sender, bytes() as text):
                print(f"{sender.decode()}: {text.decode()}", flush=True)


async def print_changes(node: Node) -> None:
    async for change in node.pg.watch(ROOM):
        match change:
            case Joined(pids):
                print(f"* joined: {', '.join(pid.node.name for pid in pids)}", flush=True)
            case Left(pids, reason):
                print(f"* left: {', '.join(pid.node.name for pid in pids)} ({reason})", flush=True)


async def main(name: str) -> None:
    async with Node(f"{name}@127.0.0.1", cookie="monster") as node:
        changes = asyncio.create_task(print_changes(node))
        node.spawn(print_messages)
        read_line = partial(asyncio.to_thread, sys.stdin.readline)  # reading blocks, so it runs in a thread
        while line := await read_line():
            node.pg.publish(ROOM, (Atom("chat"), name, line.strip()))
        changes.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
