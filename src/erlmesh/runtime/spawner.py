"""Starts local processes, runs their bodies, and turns the end of a body into an exit reason."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Generator
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias

from erlmesh.core.exit_reasons import KILLED, NORMAL
from erlmesh.errors import EncodeError, Exit, NodeNotAlive, Undef
from erlmesh.etf import encode_term
from erlmesh.net.event_log import event_log
from erlmesh.runtime.exceptions import exit_reason
from erlmesh.runtime.process import Body, LocalProcess
from erlmesh.runtime.process_types import Cancellable, RequestedBody
from erlmesh.runtime.router import Router
from erlmesh.runtime.running_process import RUNNING
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.foreign_text import loggable_error

__all__ = ["NewProcess", "Spawner", "continue_in_task", "ensure_task", "wait_without_task"]

log = event_log("erlmesh")

NewProcess: TypeAlias = "Callable[[Pid, str | Callable[[], str]], LocalProcess]"
"""Makes the object of a process from its pid and its description (a text, or a function that returns one)."""


class Spawner:
    """Starts the processes of one node instance.

    Until :meth:`system_processes_started` is called, processes get the low pids of system processes.
    """

    def __init__(self, router: Router, new_process: NewProcess) -> None:
        self._router = router
        self._new_process = new_process
        self._closed = False
        """True while the node stops: no process may be started."""
        self.on_start: Callable[[LocalProcess], None] | None = None
        """Called with each process that :meth:`start` has started. Set while the node stops."""
        self._starting = True
        """True until the node's services run. The first process that starts after that is <0.64.0>."""

    def system_processes_started(self) -> None:
        """Give ordinary pids to all processes that are started from now on."""
        self._starting = False

    def close(self) -> None:
        """Refuse to start processes: from now on every attempt raises NodeNotAlive."""
        self._closed = True

    def start(self, body: Body, arguments: tuple[Any, ...], name: Atom | str | None = None) -> LocalProcess:
        """Start ``await body(me, *arguments)`` as a process with a task.

        Raises ``ValueError`` if ``name`` is taken, and NodeNotAlive after :meth:`close`.
        """
        process = self._new(getattr(body, "__qualname__", repr(body)), name)
        parent = RUNNING.get()
        process._parent = None if parent is None else parent.pid
        process._task = asyncio.get_running_loop().create_task(_run(process, body, arguments))
        if self.on_start is not None:
            self.on_start(process)
        return process

    def start_without_task(
        self, body: RequestedBody, arguments: tuple[Any, ...], description: Callable[[], str]
    ) -> LocalProcess:
        """Start a body that seldom waits. It gets a task only if it waits.

        A task costs as much as all the rest of a short process. The body must await :func:`ensure_task` before it
        waits for anything else.
        """
        process = self._new(description)
        # After the SPAWN_REQUEST of a peer, it runs in the same loop iteration as the processes that the read wakes up.
        self._router.wakeups.schedule(
            asyncio.get_running_loop(), copy_context(), _run_until_first_wait, process, body, arguments
        )
        return process

    def start_handler(
        self,
        receive: Callable[[Term], None],
        name: Atom | str | None = None,
        on_end: Callable[[], object] | None = None,
        restart: Callable[[], object] | None = None,
    ) -> LocalProcess:
        """Start a process that has a handler instead of a task and traps exits. See :meth:`Runtime.spawn_handler`.

        ``restart()`` is called after its end, as ``on_end()``, but later if it ends again and again.
        """
        process = self._new(getattr(receive, "__qualname__", repr(receive)), name)
        process._handler = receive
        process.trap_exit = True
        process._on_end = on_end
        if restart is not None:
            label = getattr(receive, "__qualname__", repr(receive)) if name is None else Atom(name).name
            process._on_end = partial(self._router.termination.restart_server, label, restart)
        return process

    def _new(self, description: str | Callable[[], str], name: Atom | str | None = None) -> LocalProcess:
        registry = self._router.registry
        if self._closed:
            raise NodeNotAlive(f"{self._router.atom.name} has stopped")
        if name is not None:
            registry.require_free(Atom(name))
        identifiers = registry.identifiers
        pid = identifiers.system_pid() if self._starting else identifiers.pid(registry.processes)
        process = self._new_process(pid, description)
        registry.add(process)
        if name is not None:
            registry.register_name(Atom(name), process)
        return process


@types.coroutine
def ensure_task() -> Generator[None, None, None]:
    """Wait until the process runs in a task. After this it may wait for anything, whichever way it was started."""
    try:
        has_no_task = asyncio.current_task() is None
    except RuntimeError:
        has_no_task = False  # No event loop runs: the coroutine is driven by other code than the spawner.
    if has_no_task:
        yield


def wait_without_task(process: LocalProcess, work: Cancellable) -> None:
    """Let ``process``, which has no task, wait for ``work``. This is cancelled when the process terminates."""
    process._task = work


def continue_in_task(process: LocalProcess, rest: Awaitable[Any]) -> None:
    """Run ``rest`` for a process whose body has returned None. ``rest`` awaits :func:`ensure_task` before it waits.

    Call this from a callback of the event loop, not within a task.
    """
    process._task = None
    _run_rest(process, rest)


def _run_until_first_wait(process: LocalProcess, body: RequestedBody, arguments: tuple[Any, ...]) -> None:
    """Run the first step of a process. If the body is not finished by then, give it a task."""
    if not process.alive:  # An exit signal came before the first step: the body never runs.
        return
    RUNNING.set(process)
    try:
        rest = body(process, *arguments)
    except (Exception, SystemExit) as error:
        process.stop(_reason_of(process, error))
        return
    if rest is not None:
        _run_rest(process, rest)


def _run_rest(process: LocalProcess, rest: Awaitable[Any]) -> None:
    coroutine = _run(process, lambda _: rest, (), (Exception, asyncio.CancelledError, SystemExit))
    try:
        coroutine.send(None)
    except StopIteration:
        return
    # A task can continue a coroutine that has already started.
    process._task = task = asyncio.get_running_loop().create_task(coroutine)
    if process.exit_reason is not None:  # It terminated itself and then waited. Termination found no task to cancel.
        task.cancel()


async def _run(
    process: LocalProcess,
    body: Body,
    arguments: tuple[Any, ...],
    ends: tuple[type[BaseException], ...] = (Exception, asyncio.CancelledError),
) -> None:
    """Run the body of a process and terminate the process with the exit reason that follows from it.

    What is not in ``ends`` goes on to the event loop. ``sys.exit()`` in a body of this program ends the program; in one
    that another node has started it ends the process.
    """
    RUNNING.set(process)
    try:
        await body(process, *arguments)
        reason: Term = NORMAL
    except ends as error:
        reason = _reason_of(process, error)
    except BaseException as error:  # Other processes must see the exit.
        process._task = None
        process.stop(_as_term(exit_reason(error)))
        raise
    process._task = None  # The task is about to finish: `terminate` must not cancel it.
    process.stop(reason)


def _reason_of(process: LocalProcess, error: BaseException) -> Term:
    """Return the exit reason of a process whose body has raised ``error``."""
    if isinstance(error, asyncio.CancelledError):
        # A living process was not cancelled by an exit signal, so other code of this program cancelled its task.
        return KILLED if process.alive else process.exit_reason
    if isinstance(error, Exit):
        return _as_term(error.reason)
    # Undef means that another node asked for a function that does not exist. Its exit reason tells it so.
    if process.alive and not isinstance(error, Undef):
        log.error(
            "process_failed",
            "process %s ended by an exception",
            process.label,
            exc_info=loggable_error(error),
            pid=process.pid,
            reason=type(error).__name__,
        )
    return _as_term(exit_reason(error))


def _as_term(reason: object) -> Term:
    """Return ``reason``, or its ``repr`` as a string if it is not a term."""
    try:
        encode_term(reason)
    except EncodeError:
        return repr(reason).encode("utf-8", "backslashreplace").decode()
    return reason
