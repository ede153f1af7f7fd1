"""The work that a server does for callers beside its loop. It ends with the caller's interest in it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from erlmesh.behaviours.cancellation import require_cancelled_task
from erlmesh.core.gen import reply_to
from erlmesh.errors import Exit
from erlmesh.net.event_log import event_log
from erlmesh.node import Process
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["PendingWork", "Replier"]

log = event_log("erlmesh.gen_server")

ERROR: Final = Atom("error")


class Replier(Protocol):
    """A GenServer, as the work needs it."""

    me: Process

    def reply(self, caller: tuple[Pid, Term], answer: Any) -> None: ...

    def _settled(self) -> None:
        """No work is left."""


class PendingWork:
    """The work of one server, by task.

    A caller monitors the server while it waits (``gen:call``), and the reference of the monitor is in its tag. So the
    monitor's end says that the caller has given up, has terminated, or that its node is lost.
    """

    def __init__(self, server: Replier) -> None:
        self._server = server
        self._tasks: dict[asyncio.Task[None], Ref | None] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def works_for(self, caller: tuple[Pid, Term]) -> bool:
        """True if work for ``caller`` runs."""
        return bool(self._tasks) and _alias_of(caller) in self._tasks.values()

    def is_waiting(self, caller: tuple[Pid, Term]) -> bool:
        """False if the caller does not wait any more. True for a caller whose tag has no alias."""
        ref = _alias_of(caller)
        return ref is None or self._server.me._ops.monitors_with(ref)

    def start(self, caller: tuple[Pid, Term], work: Coroutine[Any, Any, Any]) -> None:
        """Run ``work`` in a task and reply with its result."""
        ref = _alias_of(caller)
        ops = self._server.me._ops
        if not self.is_waiting(caller):
            work.close()
            return
        task = asyncio.get_running_loop().create_task(self._run(caller, work))
        self._tasks[task] = ref
        if ref is not None:
            ops.on_demonitor(ref, task.cancel)
        task.add_done_callback(self._finished)

    def close(self) -> None:
        """Cancel all work: the server ends."""
        for task in list(self._tasks):
            task.cancel()

    async def _run(self, caller: tuple[Pid, Term], work: Coroutine[Any, Any, Any]) -> None:
        try:
            self._server.reply(caller, await _result_of(work))
        except Exit as error:
            self._server.reply(caller, (ERROR, error.reason))
        except Exception as error:  # also an answer that is not a term
            log.exception(
                "server_work_failed",
                "%s: exception in the work for a caller",
                self._server.me.label,
                pid=self._server.me.pid,
            )
            self._server.reply(caller, (ERROR, (Atom(type(error).__name__), str(error))))

    def _finished(self, task: asyncio.Task[None]) -> None:
        ref = self._tasks.pop(task)
        if ref is not None:
            self._server.me._ops.on_demonitor(ref, None)
        if not self._tasks:
            self._server._settled()


async def _result_of(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except asyncio.CancelledError:
        require_cancelled_task()
        raise


def _alias_of(caller: tuple[Pid, Term]) -> Ref | None:
    target = reply_to(caller)
    return target if type(target) is Ref else None
