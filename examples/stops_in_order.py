"""A supervised worker that finishes its work when its node stops.

Start it, and send SIGTERM (or `docker stop`) while it works. The calls in flight are answered first::

    erlmesh start --name py@127.0.0.1 --cookie monster --app stops_in_order:main

In Elixir: ``GenServer.call({:images, :"py@127.0.0.1"}, {:resize, "cat.png"})``.
"""

import time
from typing import Any

from erlmesh import Atom, ChildSpec, GenServer, Process, Supervisor, blocking


class Images(GenServer):
    """Does slow work in a thread, one call after the other."""

    def init(self) -> None:
        self.me.trap_exit = True  # So that `terminate` is called when the node stops.
        self.done = 0

    @blocking
    def handle_call(self, request: Any, caller: Any) -> Any:  # noqa: ARG002 - the reply is returned
        match request:
            case (Atom("resize"), name):
                time.sleep(1)  # Real work.
                self.done += 1
                return (Atom("ok"), name)
        return None

    def terminate(self, reason: Any) -> None:
        print(f"{self.done} images done, ends with {reason}", flush=True)


async def audit(me: Process) -> None:
    """A plain process: it traps exits, so it is told, and may still work."""
    me.trap_exit = True
    print("ready", flush=True)
    async for message in me:
        match message:
            case (Atom("EXIT"), _, reason):
                print(f"audit written after {reason}", flush=True)
                return


async def main(me: Process) -> None:
    """The process of ``--app``. It does not trap exits: the node ends it, and waits for the others."""
    children = [
        ChildSpec.process(audit, restart="transient"),
        ChildSpec.server(Images, name="images", groups=["images"]),
    ]
    async with Supervisor.running(me.node, children):
        async for message in me:
            me.unhandled(message)
