"""Ends the processes of a node that stops, and gives them time to finish their work.

::

    tell each process, in the order of erlmesh.core.stop_order
      traps exits, or is a GenServer     the message {'EXIT', pid of the node, shutdown}
      a call of another node             nothing: it ends with its result
      any other                          it is terminated with shutdown, and its task cleans up
    wait until all have ended and their tasks have cleaned up
    at the deadline                      those that are left are killed, each with a line in the log
"""

from __future__ import annotations

import asyncio
from typing import Final

from erlmesh.core.exit_reasons import KILLED, SHUTDOWN
from erlmesh.core.stop_order import Candidate, StopOrder
from erlmesh.net.event_log import event_log
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.process_types import StopMode
from erlmesh.runtime.router import Router
from erlmesh.runtime.spawner import Spawner
from erlmesh.terms import Atom, Pid
from erlmesh.terms.foreign_text import ForeignText

__all__ = ["GracefulStop"]

log = event_log("erlmesh")

EXIT: Final = Atom("EXIT")
MAX_LINES: Final = 20
"""Processes that are logged one by one. A last line has the number of the others."""


class GracefulStop:
    """One stop of one node. ``sender`` is the pid that the processes see in their ``EXIT`` message.

    ``deadline`` is on the clock of the event loop.
    """

    def __init__(self, router: Router, spawner: Spawner, sender: Pid, deadline: float) -> None:
        self._router = router
        self._spawner = spawner
        self._sender = sender
        self._deadline = deadline
        self._order = StopOrder()
        self._untold: list[Pid] = []
        """The processes to tell in the next step."""
        self._started_processes: list[LocalProcess] = []
        """The processes that were started since the last step."""
        self._tasks: dict[asyncio.Task[None], LocalProcess] = {}
        """The tasks of terminated processes that still clean up."""
        self._excluded: asyncio.Task[object] | None = asyncio.current_task()
        """The task that stops the node. If it is the task of a process, that process is not waited for."""
        self._changed = asyncio.Event()

    async def run(self) -> list[asyncio.Task[None]]:
        """End all processes that have a task. Return the tasks that still clean up at the deadline."""
        self._begin()
        try:
            while True:
                self._tell()
                if not self._order and not self._tasks:
                    break
                self._changed.clear()
                if not await self._wait_for_change():
                    break
        finally:
            self._kill()
            self._spawner.on_start = self._router.termination.on_terminated = None
        return list(self._tasks)

    def hurry(self, deadline: float, task: asyncio.Task[object] | None) -> None:
        """Kill the processes at ``deadline`` if that is earlier. ``task`` waits for the stop, so it cannot end."""
        self._deadline = min(self._deadline, deadline)
        for process in self._living():
            if task is not None and process._task is task:
                process._task = None
                self._untold += self._order.ended(process.pid)
        self._changed.set()

    def _begin(self) -> None:
        processes = self._living()
        for process in processes:
            if process._task is not None and process._task is self._excluded:
                process._task = None  # Termination must not cancel the call of `stop`.
                processes.remove(process)
                break
        # Services are older than the processes that use them, so the youngest is told first.
        self._untold = self._order.begin(_candidate(each) for each in reversed(processes))
        self._router.termination.on_terminated = self._terminated
        self._spawner.on_start = self._started

    def _living(self) -> list[LocalProcess]:
        """Return the processes that end before the services of the node."""
        return [each for each in self._router.registry.processes.values() if _ends_first(each)]

    def _started(self, process: LocalProcess) -> None:
        self._started_processes.append(process)
        self._changed.set()

    def _terminated(self, process: LocalProcess) -> None:
        task = process._task
        if isinstance(task, asyncio.Task) and task is not asyncio.current_task():
            self._tasks[task] = process
            task.add_done_callback(self._task_done)
        self._untold += self._order.ended(process.pid)
        self._changed.set()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        self._changed.set()

    def _tell(self) -> None:
        # It is known only now whether a process that was just started belongs to a service.
        started, self._started_processes = self._started_processes, []
        for process in started:
            if process.alive and _ends_first(process):
                self._untold += self._order.started(_candidate(process))
        while self._untold:
            told, self._untold = self._untold, []
            for process in filter(None, map(self._router.registry.local, told)):
                if process.trap_exit or process._stop_mode in (StopMode.DRAINS, StopMode.SUPERVISES):
                    self._router.delivery.deliver(process, (EXIT, self._sender, SHUTDOWN))
                elif process._stop_mode is StopMode.ENDS:
                    self._router.termination.terminate(process, SHUTDOWN)

    async def _wait_for_change(self) -> bool:
        """Wait until a process or a task has ended. False if the deadline comes first."""
        seconds = self._deadline - asyncio.get_running_loop().time()
        if seconds <= 0:
            return False
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _kill(self) -> None:
        left = [each for each in map(self._router.registry.local, self._order.remaining()) if each is not None]
        _log_processes([*left, *self._tasks.values()])
        for process in left:
            self._router.termination.terminate(process, KILLED)


def _ends_first(process: LocalProcess) -> bool:
    """A handler has no code of its own that could end it. It ends with the node, as the services do."""
    return process._handler is None and process._stop_mode is not StopMode.SERVES


def _candidate(process: LocalProcess) -> Candidate:
    return Candidate(process.pid, process._parent, process._stop_mode is StopMode.SUPERVISES)


def _log_processes(processes: list[LocalProcess]) -> None:
    for process in processes[:MAX_LINES]:
        log.warning(
            "process_killed_at_stop",
            "the process %s did not end in time and is killed",
            ForeignText(process.label),
            pid=process.pid,
        )
    if len(processes) > MAX_LINES:
        log.warning(
            "processes_killed_at_stop",
            "%d more processes did not end in time and are killed",
            len(processes) - MAX_LINES,
            count=len(processes) - MAX_LINES,
        )
