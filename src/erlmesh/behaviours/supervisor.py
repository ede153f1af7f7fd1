"""Supervisor: starts children, and restarts those that fail (OTP's ``supervisor``, Elixir's ``Supervisor``)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

from erlmesh.behaviours.child_spec import ChildSpec
from erlmesh.behaviours.supervisor_server import SupervisorServer
from erlmesh.core.exit_reasons import NORMAL
from erlmesh.core.supervision import Strategy
from erlmesh.errors import Exit, ProcessStartError
from erlmesh.node import Node, Process
from erlmesh.runtime.process import Destination
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.exit_text import format_reason

__all__ = ["DynamicSupervisor", "Supervisor"]


class Supervisor:
    """Functions that start a supervisor, and functions that ask one. A supervisor is a process, named by its pid.

    Other nodes ask it with the functions of ``supervisor`` and ``Supervisor``.
    """

    _dynamic = False

    @classmethod
    async def start(
        cls,
        node: Node,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: int = 5,
        max_children: int | None = None,
        name: Atom | str | None = None,
    ) -> Pid:
        """Start a supervisor and its children, in order, and return its pid.

        It ends with ``shutdown`` after more than ``max_restarts`` restarts within ``max_seconds``. ``max_children``
        bounds those that ``start_child`` adds. Raises ProcessStartError if a child does not start; those that were
        started are stopped.
        """
        arguments = (children, strategy, max_restarts, max_seconds, max_children)
        return await _server(dynamic=cls._dynamic).start(node, *arguments, name=name)

    @classmethod
    async def start_link(
        cls,
        parent: Process,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: int = 5,
        max_children: int | None = None,
        name: Atom | str | None = None,
    ) -> Pid:
        """Do the same as :meth:`start`, with a link to ``parent``: the supervisor and its children end with it."""
        arguments = (children, strategy, max_restarts, max_seconds, max_children)
        return await _server(dynamic=cls._dynamic).start_link(parent, *arguments, name=name)

    @classmethod
    @asynccontextmanager
    async def running(cls, node: Node, children: Iterable[ChildSpec] = (), **options: Any) -> AsyncIterator[Pid]:
        """``async with Supervisor.running(node, [...]) as supervisor:`` stops it and its children at the end.

        The options are those of :meth:`start`. If the supervisor ends before, as after too many restarts, the block is
        cancelled, and Exit is raised with its reason.
        """
        block = _Block()
        pid = await cls.start(node, children, **options)
        watcher = node.spawn_handler(lambda message: block.supervisor_ended(message[4]))
        watcher.monitor(pid)
        try:
            try:
                yield pid
            finally:
                block.leave()
                watcher.stop()
                if not block.reasons:
                    await _stop(node, pid)
        except asyncio.CancelledError:
            if not block.is_cancelled_by_supervisor:
                raise
        if block.reasons:
            raise Exit(block.reasons[0])

    # Requests to a supervisor of this node

    @staticmethod
    async def start_child(caller: Node | Process, supervisor: Destination, spec: ChildSpec) -> Pid:
        """Add a child and start it. Raises ProcessStartError with OTP's reason, as ``{already_started, Pid}``.

        If the start function returns ``Atom("ignore")``, the reason is ``ignore``. Then the supervisor keeps the child
        without a process, unless the child is temporary or the supervisor is a DynamicSupervisor.
        """
        request: Any = (Atom("start_child"), spec)
        match await caller.call(supervisor, request, timeout=None):
            case (Atom("ok"), Pid() as pid) | (Atom("ok"), Pid() as pid, _):
                return pid
            case Atom("ignore") | (Atom("ok"), Atom("undefined")):
                raise ProcessStartError(f"the start function of the child {spec.id} returned ignore", Atom("ignore"))
            case (_, reason):
                raise ProcessStartError(f"the child {spec.id} did not start: {format_reason(reason)}", reason)
        raise AssertionError("a supervisor answers {ok, Pid} or {error, Reason}")

    @staticmethod
    async def terminate_child(caller: Node | Process, supervisor: Destination, child: Term) -> bool:
        """Stop a child, given by its id (of a DynamicSupervisor: by its pid). False if there is none."""
        return await caller.call(supervisor, (Atom("terminate_child"), child), timeout=None) is Atom("ok")

    @staticmethod
    async def which_children(caller: Node | Process, supervisor: Destination) -> dict[Any, Pid | None]:
        """The pid of each child by its id, the last one first; None for one that does not run now.

        For a DynamicSupervisor by pid, because its children have no id.
        """
        children = await caller.call(supervisor, Atom("which_children"), timeout=None)
        found: dict[Any, Pid | None] = {}
        for child_id, pid, _, _ in children:
            running = pid if isinstance(pid, Pid) else None
            found[pid if child_id is Atom("undefined") else child_id] = running
        return found


class _Block:
    """The block of ``Supervisor.running``. It is cancelled when the supervisor ends."""

    def __init__(self) -> None:
        self.reasons: list[Term] = []
        """The exit reason of the supervisor, if it has ended before the block."""
        self.is_cancelled_by_supervisor = False
        """True if nobody else has cancelled the block. It is known after ``leave``."""
        self._task = asyncio.current_task()
        self._cancelled = self._left = False

    def supervisor_ended(self, reason: Term) -> None:
        """Cancel the block when it waits next, because it may be what has ended the supervisor."""
        self.reasons.append(reason)
        asyncio.get_running_loop().call_soon(self._cancel)

    def leave(self) -> None:
        """The block has ended. Withdraw the cancellation."""
        self._left = True
        if self._cancelled and self._task is not None:
            self.is_cancelled_by_supervisor = self._task.uncancel() == 0

    def _cancel(self) -> None:
        if not self._left and self._task is not None:
            self._cancelled = True
            self._task.cancel()


class DynamicSupervisor(Supervisor):
    """A supervisor whose children are added by :meth:`start_child` and have no id. They end at the same time."""

    _dynamic = True


class _Dynamic(SupervisorServer):
    dynamic = True


def _server(*, dynamic: bool) -> type[SupervisorServer]:
    return _Dynamic if dynamic else SupervisorServer


async def _stop(node: Node, pid: Pid) -> None:
    """Stop a supervisor in order, and wait for its end."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def received(message: Term) -> None:
        # The first message is the reply to the stop, which comes before the children end.
        if message[0] is Atom("DOWN") and not ended.done():
            ended.set_result(None)

    watcher = node.spawn_handler(received)
    watcher.monitor(pid)
    watcher.send(pid, (Atom("system"), (watcher.pid, Atom("stop")), (Atom("terminate"), NORMAL)))
    try:
        await ended
    finally:
        watcher.stop()
