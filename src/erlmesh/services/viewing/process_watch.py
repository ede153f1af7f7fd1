"""Asks all nodes of a collector for their processes, again and again. Each node is asked by a process of its own.

So a node that does not answer holds up none of the others. A node of Python answers ``observer_backend:etop_collect``
with its longest mailboxes. A BEAM is asked what any node may ask, without its runtime_tools::

    erlang:processes()
    lists:zipwith(fun erlang:process_info/2, Pids, Items)

The more processes a BEAM has, the more seldom it is asked: each second it answers for at most a thousand.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from erlmesh.core.cluster_view.processes import MAX_PROCESSES, ProcessSample, beam_row, etop_row, sample
from erlmesh.core.exit_reasons import KILL
from erlmesh.errors import CallError, ErlangError
from erlmesh.runtime.process import LocalProcess
from erlmesh.services.rpc.client import call
from erlmesh.services.viewing.collector import Collector
from erlmesh.terms import Atom, Export, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["ProcessWatch"]

ASK_TIMEOUT: Final = 5.0
NODES_INTERVAL: Final = 0.25
"""Seconds between two looks at which nodes there are."""
PROCESSES_PER_SECOND: Final = 1000
TICK: Final = Atom("tick")
_ITEMS: Final[list[Term]] = [
    Atom(item)
    for item in ("registered_name", "initial_call", "current_function", "message_queue_len", "memory", "reductions")
]


class ProcessWatch:
    """Looks at the processes of the nodes that ``collector`` knows. Use it as an async context manager.

    ``samples`` are the newest answers, by the text of the node. ``changed()`` is called for each new one.
    """

    def __init__(
        self,
        runtime: Runtime,
        collector: Collector,
        *,
        interval: float = 2.0,
        changed: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runtime = runtime
        self.collector = collector
        self._interval = interval
        self._changed = changed
        self._clock = clock
        self.samples: dict[str, ProcessSample] = {}
        self._askers: dict[str, Pid] = {}
        self._process: LocalProcess | None = None

    async def __aenter__(self) -> Self:
        self._process = self._runtime.spawn_handler(self._tick)
        self._process.send_after(0, TICK)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self._askers.values():
            self._end(pid)
        if self._process is not None:
            self._process.stop()

    def _end(self, pid: Pid) -> None:
        if self._process is not None and not self._runtime.is_stopping and self._runtime.is_alive(pid):
            self._process.exit(pid, KILL)

    def _tick(self, message: Term) -> None:
        assert self._process is not None
        if message is not TICK:
            return
        reports = self.collector.cluster.reports()
        wanted = {text for text, report in reports.items() if report["alive"] and report["source"] != "none"}
        for text in self._askers.keys() - wanted:
            self._end(self._askers.pop(text))
            self.samples.pop(text, None)
        for text in wanted - self._askers.keys():
            name = self.collector.node_name(text)
            if name is not None:
                is_beam = reports[text]["kind"] == "beam"
                self._askers[text] = self._runtime.spawn_service(self._ask_forever, text, name, is_beam)
        self._process.send_after(NODES_INTERVAL, TICK)

    async def _ask_forever(self, me: LocalProcess, text: str, name: str, is_beam: bool) -> None:
        ask = self._ask_beam if is_beam else self._ask_python
        while me.alive:
            pause = self._interval
            with suppress(CallError, ErlangError, TimeoutError):
                self.samples[text] = found = await ask(me, name, self.samples.get(text))
                self._changed()
                if is_beam:
                    pause = max(pause, found.count / PROCESSES_PER_SECOND)
            await asyncio.sleep(pause)

    async def _ask_python(self, me: LocalProcess, name: str, before: ProcessSample | None) -> ProcessSample:
        while me.receive_nowait() is not None:
            pass  # an answer to an earlier question, too late
        cpu = await self._cpu(name)
        await call(self._runtime, name, "observer_backend", "etop_collect", [me.pid], timeout=ASK_TIMEOUT)
        message = await me.receive(lambda each: _is_answer(each, name), timeout=ASK_TIMEOUT)
        assert isinstance(message, tuple)
        _, _, count, *_, rows = message[1]
        return sample(before, self._clock(), count, map(etop_row, rows), cpu)

    async def _ask_beam(self, _me: LocalProcess, name: str, before: ProcessSample | None) -> ProcessSample:
        cpu = await self._cpu(name)
        found = await call(self._runtime, name, "erlang", "processes", timeout=ASK_TIMEOUT)
        count = len(found) if isinstance(found, list) else 0
        pids = found[:MAX_PROCESSES] if isinstance(found, list) else []
        arguments: list[Term] = [Export(Atom("erlang"), Atom("process_info"), 2), pids, [_ITEMS] * len(pids)]
        items = await call(self._runtime, name, "lists", "zipwith", arguments, timeout=ASK_TIMEOUT)
        rows = zip(pids, items, strict=False) if isinstance(items, list) else ()
        return sample(before, self._clock(), count, (beam_row(pid, each) for pid, each in rows), cpu)

    async def _cpu(self, name: str) -> int | None:
        """Milliseconds of processor time of the node."""
        found = await call(self._runtime, name, "erlang", "statistics", [Atom("runtime")], timeout=ASK_TIMEOUT)
        total = found[0] if isinstance(found, tuple) and found else None
        return total if type(total) is int else None


def _is_answer(message: Term, name: str) -> bool:
    """Whether this is ``{Pid, #etop_info{}}`` of a process of ``name``."""
    match message:
        case (Pid() as pid, (Atom("etop_info"), _, int() as count, *_, list())):
            return pid.node.name == name and count >= 0
    return False
