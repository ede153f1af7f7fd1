"""The process of a supervisor: starts, stops and restarts children as the book of :mod:`erlmesh.core.supervision` says.

It answers the calls of OTP's ``supervisor`` and of Elixir's ``Supervisor``, ``DynamicSupervisor`` and
``Task.Supervisor``. These calls wait with ``infinity``, so each is answered, unknown ones with ``unknown_call``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from erlmesh.behaviours.cancellation import require_cancelled_task
from erlmesh.behaviours.child_requests import (
    UNDEFINED,
    BadChildSpec,
    modules_term,
    parse_child_spec,
    parse_task,
    spec_term,
)
from erlmesh.behaviours.child_spec import ChildSpec
from erlmesh.behaviours.gen_server import Caller, GenServer
from erlmesh.core.exit_reasons import KILL, KILLED, NORMAL, SHUTDOWN
from erlmesh.core.supervision import Child, ChildBook, Nothing, Restart, Strategy, is_regular
from erlmesh.errors import Exit, ProcessStartError
from erlmesh.net.event_log import event_log
from erlmesh.records import record
from erlmesh.runtime.exceptions import exit_reason
from erlmesh.runtime.process_types import StopMode
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.exit_text import format_reason

__all__ = ["SupervisorServer"]

log = event_log("erlmesh.supervisor")

OK: Final = Atom("ok")
ERROR: Final = Atom("error")
IGNORE: Final = Atom("ignore")
IGNORED: Final = (OK, UNDEFINED)
"""OTP's reply for a child whose start function returned ``ignore``: it has no process."""
NOT_FOUND: Final = (ERROR, Atom("not_found"))
RESTARTING: Final = Atom("restarting")
EXIT: Final = Atom("EXIT")
DOWN: Final = Atom("DOWN")


@record(frozen=True, eq=False)
class _TryAgain:
    """The message to itself after a restart that has failed."""

    child: Child


class SupervisorServer(GenServer):
    """See :class:`erlmesh.Supervisor`, which starts it."""

    _stop_mode = StopMode.SUPERVISES
    dynamic: ClassVar[bool] = False
    """True for a DynamicSupervisor."""

    async def init(
        self,
        children: Iterable[ChildSpec],
        strategy: Strategy,
        max_restarts: int,
        max_seconds: int,
        max_children: int | None,
    ) -> None:
        self.me.trap_exit = True
        self._book = ChildBook(strategy, max_restarts, max_seconds, dynamic=self.dynamic)
        self._max_children = max_children
        for spec in children:
            if self._book.find(spec.id) is not None:
                raise Exit((Atom("start_spec"), (Atom("duplicate_child_name"), spec.id)))
            child = self._new_child(spec)
            self._book.add(child)
            reply = await self._start_child(child)
            if reply[0] is ERROR:
                self._book.remove(child)
                await self._stop_children(reversed(self._book.children()))
                raise Exit((SHUTDOWN, (Atom("failed_to_start_child"), spec.id, reply[1])))

    def get_state(self) -> Term:
        """What ``sys:get_state`` shows: the list of children."""
        return self._which_children()

    async def terminate(self, reason: Term) -> None:  # noqa: ARG002 - the same for each reason
        """Stop the children, the last one first. Those of a dynamic supervisor end at the same time."""
        await self._stop_children(reversed(self._book.children()))

    # Requests

    async def handle_call(self, request: Term, caller: Caller) -> Any:  # noqa: ARG002
        """The answers of ``supervisor.erl`` and ``DynamicSupervisor``."""
        match request:
            case Atom("which_children"):
                return self._which_children()
            case Atom("count_children"):
                return self._count_children()
            case (Atom("start_child"), spec):
                return await self._start_requested(spec)
            case (Atom("start_task"), arguments, restart, shutdown):
                return await self._start_task(arguments, restart, shutdown)
            case (Atom("terminate_child"), child_id):
                return await self._terminate_child(child_id)
            case (Atom("restart_child"), child_id) if not self._book.dynamic:
                return await self._restart_child(child_id)
            case (Atom("delete_child"), child_id) if not self._book.dynamic:
                return self._delete_child(child_id)
            case (Atom("which_child"), child_id) if not self._book.dynamic:
                child = self._book.find(child_id)
                return NOT_FOUND if child is None else (OK, self._child_term(child))
            case (Atom("get_childspec"), child_id):
                child = self._book.find(child_id)
                return NOT_FOUND if child is None else (OK, spec_term(_spec(child)))
        return None

    async def handle_info(self, message: Term) -> None:
        """A child has terminated, or a restart is to be tried again."""
        if type(message) is _TryAgain:
            if message.child.restarting:
                await self._carry_out(message.child, self._book.restart(message.child, self._now()))
            return
        match message:
            case (Atom("EXIT"), Pid() as pid, reason):
                child = self._book.with_pid(pid)
                if child is not None:
                    await self._child_exited(child, pid, reason)
            case _:
                super().handle_info(message)

    def _which_children(self) -> Term:
        # The order of OTP: the last one first. A dynamic supervisor of Elixir has no order.
        return [self._child_term(child) for child in reversed(self._book.children())]

    def _child_term(self, child: Child) -> Term:
        return (
            UNDEFINED if self._book.dynamic else child.id,
            RESTARTING if child.restarting else child.pid or UNDEFINED,
            Atom(_spec(child).type),
            modules_term(_spec(child)),
        )

    def _count_children(self) -> Term:
        children = self._book.children()
        supervisors = sum(_spec(child).type == "supervisor" for child in children)
        return [
            (Atom("specs"), len(children)),
            (Atom("active"), sum(child.pid is not None for child in children)),
            (Atom("supervisors"), supervisors),
            (Atom("workers"), len(children) - supervisors),
        ]

    async def _start_requested(self, requested: Any) -> Term:
        try:
            spec = parse_child_spec(requested)
        except BadChildSpec as error:
            return (ERROR, error.reason)
        return await self._add_child(spec)

    async def _start_task(self, arguments: Term, restart: Term, shutdown: Term) -> Term:
        try:
            spec = parse_task(arguments, restart, shutdown)
        except BadChildSpec as error:
            return (ERROR, error.reason)
        return await self._add_child(spec)

    async def _add_child(self, spec: ChildSpec) -> Term:
        book = self._book
        present = None if book.dynamic else book.find(spec.id)
        if present is not None:
            return (ERROR, Atom("already_present") if present.pid is None else (Atom("already_started"), present.pid))
        if self._max_children is not None and len(book) >= self._max_children:
            return (ERROR, Atom("max_children"))
        child = self._new_child(spec)
        book.add(child)
        reply = await self._start_child(child)
        if reply[0] is ERROR:
            book.remove(child)
        # Elixir's DynamicSupervisor says `ignore` where OTP's supervisor says `{ok, undefined}`.
        return IGNORE if book.dynamic and reply == IGNORED else reply

    async def _terminate_child(self, child_id: Term) -> Term:
        child = self._book.find(child_id)
        if child is None:
            return NOT_FOUND
        await self._stop_children([child])
        return OK

    async def _restart_child(self, child_id: Term) -> Term:
        child = self._book.find(child_id)
        if child is None:
            return NOT_FOUND
        if child.pid is not None or child.restarting:
            return (ERROR, RESTARTING if child.restarting else Atom("running"))
        return await self._start_child(child)

    def _delete_child(self, child_id: Term) -> Term:
        child = self._book.find(child_id)
        if child is None:
            return NOT_FOUND
        if child.pid is not None or child.restarting:
            return (ERROR, RESTARTING if child.restarting else Atom("running"))
        self._book.remove(child)
        return OK

    # Starting, stopping, restarting

    def _new_child(self, spec: ChildSpec) -> Child:
        return Child(spec.id, spec.restart, spec)

    async def _start_child(self, child: Child) -> tuple[Any, ...]:
        """Start a child. Return ``{ok, Pid}``, ``{ok, Pid, Info}``, ``{ok, undefined}`` or ``{error, Reason}``."""
        try:
            reply = await self._call_start(_spec(child))
        except (ProcessStartError, Exit) as error:
            return (ERROR, error.reason)  # The exit signal of a process that is no child is ignored later.
        except Exception as error:
            log.exception(
                "child_start_failed",
                "%s: child %s did not start",
                self.me.label,
                child.id,
                pid=self.me.pid,
                child=child.id,
            )
            return (ERROR, (EXIT, exit_reason(error)))
        if reply == IGNORED:
            self._book.ignored(child)
            return reply
        self.me.link(reply[1])  # It is linked already, unless its start function has forgotten it.
        self._book.started(child, reply[1])
        return reply

    async def _call_start(self, spec: ChildSpec) -> tuple[Any, ...]:
        """Call the start function. What it does wrong is an error of this child, not of the supervisor."""
        try:
            result: object = await spec.start(self.me)
        except asyncio.CancelledError:
            require_cancelled_task()
            raise
        match result:
            case Pid():
                return (OK, result)
            case (Atom("ok"), Pid()) | (Atom("ok"), Pid(), _):
                return result  # type: ignore[return-value] # a tuple: the patterns above say so
            case Atom("ignore"):
                return IGNORED
        raise TypeError(
            f"the start function of a child returns its pid, (Atom('ok'), pid, info) or Atom('ignore'), not {result!r}"
        )

    async def _child_exited(self, child: Child, pid: Pid, reason: Term) -> None:
        what = self._book.exited(child, reason, self._now())
        if not isinstance(what, Nothing):
            shown = format_reason(reason)
            log.error(
                "child_terminated",
                "Supervisor %s: child %s (%s) terminated: %s",
                self.me.label,
                child.id,
                pid,
                shown,
                pid=self.me.pid,
                child=child.id,
                reason=shown,
            )
        await self._carry_out(child, what)

    async def _carry_out(self, child: Child, what: object) -> None:
        if isinstance(what, Restart):
            await self._stop_children(what.stop, keep=what.start)
            await self._start_again(child, what.start)
        elif not isinstance(what, Nothing):
            log.error(
                "too_many_restarts",
                "Supervisor %s: too many restarts: it ends with shutdown",
                self.me.label,
                pid=self.me.pid,
                reason="shutdown",
            )
            self.stop(SHUTDOWN)

    async def _start_again(self, failed: Child, children: Iterable[Child]) -> None:
        """Start children after a crash. If one does not start, stop the others and try again: that counts, too."""
        failed.restarting = False
        started: list[Child] = []
        for child in children:
            reply = await self._start_child(child)
            if reply[0] is OK:
                started.append(child)
                continue
            log.error(
                "child_start_failed",
                "Supervisor %s: child %s did not start: %s",
                self.me.label,
                child.id,
                format_reason(reply[1]),
                pid=self.me.pid,
                child=child.id,
                reason=reply[1],
            )
            await self._stop_children(reversed(started), keep=started)
            child.restarting = True
            self.me.send(self.me.pid, _TryAgain(child))  # type: ignore[arg-type] # an object for this process
            return

    async def _stop_children(self, children: Iterable[Child], keep: Iterable[Child] = ()) -> None:
        """Stop the processes one after the other; of a dynamic supervisor, all at the same time.

        Temporary children leave the book, and so do all of a dynamic supervisor, unless they are in ``keep``.
        """
        kept = list(keep)
        stopping = [child for child in children if child.pid is not None or child.restarting]
        if self._book.dynamic:
            monitors = [self._begin_to_stop(child) for child in stopping]
            for child, monitor in zip(stopping, monitors, strict=True):
                await self._wait_for_end(child, monitor)
        else:
            for child in stopping:
                await self._wait_for_end(child, self._begin_to_stop(child))
        for child in stopping:
            child.restarting = False
            if child in kept:
                self._book.without_process(child)
            else:
                self._book.stopped(child)

    def _begin_to_stop(self, child: Child) -> tuple[Pid, Ref, float | None] | None:
        pid, shutdown = child.pid, _spec(child).shutdown
        if pid is None:
            return None
        ref = self.me.monitor(pid)
        brutal = shutdown == "brutal_kill"
        self.me.exit(pid, KILL if brutal else SHUTDOWN)
        limit = None if brutal or shutdown is None else self._now() + float(shutdown)
        return pid, ref, limit

    async def _wait_for_end(self, child: Child, stopping: tuple[Pid, Ref, float | None] | None) -> None:
        if stopping is None:
            return
        pid, ref, limit = stopping

        def is_down(message: Term) -> bool:
            return type(message) is tuple and len(message) == 5 and message[0] is DOWN and message[1] == ref

        def is_exit(message: Term) -> bool:
            return type(message) is tuple and len(message) == 3 and message[0] is EXIT and message[1] == pid

        try:
            timeout = None if limit is None else max(0.0, limit - self._now())
            down = await self.me.receive(is_down, timeout=timeout)
        except TimeoutError:
            self.me.exit(pid, KILL)
            down = await self.me.receive(is_down)
        self.me.unlink(pid)
        exited = self.me.receive_nowait(is_exit)
        reason = down[4] if exited is None else exited[2]
        if not _is_expected(reason, _spec(child)):
            shown = format_reason(reason)
            log.warning(
                "child_stop_failed",
                "Supervisor %s: child %s ended with %s when stopped",
                self.me.label,
                child.id,
                shown,
                pid=self.me.pid,
                child=child.id,
                reason=shown,
            )

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _spec(child: Child) -> ChildSpec:
    assert isinstance(child.spec, ChildSpec)
    return child.spec


def _is_expected(reason: Term, spec: ChildSpec) -> bool:
    """True if a child that was stopped may end so. As in OTP, ``normal`` is not expected of a permanent child."""
    if spec.shutdown == "brutal_kill":
        return reason is KILLED
    return is_regular(reason) and not (reason is NORMAL and spec.restart == "permanent")
