"""The part of the workload that uses the class GenServer. ``mesh_bench.erl`` has the same for a BEAM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from erlmesh import Atom, GenServer

if TYPE_CHECKING:
    from erlmesh import Node, Process
    from erlmesh.terms import Term

__all__ = ["serve"]

ADD, DONE, CALLED = Atom("add"), Atom("done"), Atom("called")


class ClassServer(GenServer):
    """Answers ``{add, N}``."""

    def handle_call(self, request: Term, caller: Any) -> Any:  # noqa: ARG002
        match request:
            case (Atom("add"), number):
                return number + 1
        return None


class ClassCaller(GenServer):
    """Makes calls, one after the other, and tells the process that has asked for them."""

    async def handle_cast(self, request: Term) -> None:
        asker, to, count = request
        for number in range(count):
            await self.me.call(to, (ADD, number), timeout=None)
        self.me.send(asker, DONE)
        self.stop()


async def serve(node: Node) -> None:
    if node.whereis("class_server") is not None:
        return
    await ClassServer.start(node, name="class_server")
    node.spawn(class_caller, name="class_caller")


async def class_caller(me: Process) -> None:
    async for _, asker, to, count, in_flight in me:
        for _ in range(in_flight):
            pid = await ClassCaller.start(me.node)
            me.cast(pid, (me.pid, to, count // in_flight))
        for _ in range(in_flight):
            await me.receive(lambda message: message is DONE)
        me.send(asker, CALLED)
