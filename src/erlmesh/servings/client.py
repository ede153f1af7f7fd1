"""Callers of a serving in Python, on any node of the cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from erlmesh.core.exit_reasons import NOCONNECTION, NOPROC
from erlmesh.errors import CalleeExited, CallTimeout, NoConnection, NoProcess, ServingError
from erlmesh.node import Node, Process
from erlmesh.servings.settings import serving_name
from erlmesh.servings.tensors import Template, from_wire, to_wire
from erlmesh.terms import Atom, Pid, Term

__all__ = ["ServingClient"]

GEN_CALL: Final = Atom("$gen_call")
RUN: Final = Atom("run")
STREAM: Final = Atom("stream")
STATISTICS: Final = Atom("statistics")
OVERRUN: Final = Atom("overrun")


class ServingClient:
    """``ServingClient(node, "embed")`` calls the serving of that name on any node that runs it.

    A serving of the own node is preferred. Each call chooses anew.
    """

    def __init__(self, caller: Node | Process, name: Atom | str) -> None:
        self._caller = caller
        self._node = caller if isinstance(caller, Node) else caller.node
        self.name = serving_name(name)

    async def run(self, value: Any, *, timeout: float | None = 5.0) -> Any:
        """Return the output for one input; for a function that streams, the list of its events.

        Raises ServingError with the reason of the serving, NoProcess if no node runs it, CallTimeout after ``timeout``
        seconds, and what :meth:`Process.call` raises if its node is lost.
        """
        match await self._caller.call(self._pick(), (RUN, to_wire(value, Template())), timeout=timeout):
            case (Atom("ok"), output):
                return from_wire(output, Template())
            case (Atom("error"), reason):
                raise ServingError(self.name, reason)
            case other:
                raise ServingError(self.name, other)

    async def statistics(self, *, timeout: float | None = 5.0) -> Term:
        """Return the statistics of one of the servings, as a map of atoms to numbers."""
        return await self._caller.call(self._pick(), STATISTICS, timeout=timeout)

    async def stream(self, value: Any, *, timeout: float | None = 5.0, buffer: int = 10_000) -> AsyncIterator[Any]:
        """Iterate over the events for one input: ``async for event in client.stream(value)``.

        ``timeout`` bounds the seconds to each event. If more than ``buffer`` events wait to be read, the stream ends
        with ServingError and the reason ``overrun``. Raises what :meth:`run` raises. The end of the iteration, also an
        early one, ends the work of the serving for it.
        """
        pid = self._pick()
        request = (STREAM, to_wire(value, Template()))
        events: asyncio.Queue[Term] = asyncio.Queue()

        def receive(message: Term) -> None:
            events.put_nowait(message)
            if events.qsize() > buffer:
                # The body of the loop may take any time, so the stream does not wait for it with its end.
                receiver.stop()

        receiver = self._node.spawn_handler(receive)
        try:
            monitor = receiver.monitor(pid)
            receiver.send(pid, (GEN_CALL, (receiver.pid, monitor), request))
            while True:
                try:
                    message = await asyncio.wait_for(events.get(), timeout)
                except TimeoutError:
                    raise CallTimeout(f"{self.name} has sent nothing for {timeout:g} s") from None
                if events.qsize() >= buffer:
                    raise ServingError(self.name, OVERRUN)
                match message:
                    case (_, Atom("event"), event):
                        yield from_wire(event, Template())
                    case (_, Atom("done")):
                        return
                    case (_, Atom("error"), reason) | (_, (Atom("error"), reason)):
                        raise ServingError(self.name, reason)
                    case (Atom("DOWN"), _, _, _, reason):
                        raise self._lost(pid, reason)
        finally:
            receiver.stop()  # The serving monitors it, so this also cancels the rest.

    def _pick(self) -> Pid:
        pid = self._node.pg.pick(self.name)
        if pid is None:
            raise NoProcess(f"no node runs the serving {self.name}: start it there, and connect with that node")
        return pid

    def _lost(self, pid: Pid, reason: Term) -> Exception:
        if reason is NOCONNECTION:
            return NoConnection(f"the connection to {pid.node} is lost")
        if reason is NOPROC:
            return NoProcess(f"there is no process {pid}")
        return CalleeExited(f"the serving {self.name} exited during the stream: {reason}", reason)
