"""Starts processes: creates each one, runs its body, and propagates its exit."""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeAlias

from erlmesh.core.exit_reasons import KILLED, NORMAL
from erlmesh.errors import EncodeError, Exit, NodeNotAlive, Undef
from erlmesh.etf import encode_term
from erlmesh.runtime.exceptions import TermExit, exit_reason
from erlmesh.runtime.process import Body, LocalProcess
from erlmesh.runtime.router import Router
from erlmesh.terms import Atom, Pid, Term

__all__ = ["NewProcess", "Spawner", "ensure_task"]

log = logging.getLogger("erlmesh")

NewProcess: TypeAlias = "Callable[[Pid, str | Callable[[], str]], LocalProcess]"
"""Makes the object of a process from its pid and its description."""


class Spawner:
    """Starts the processes of one node. Until :meth:`system_processes_started` they get the low pids of services."""

    def __init__(self, router: Router, new_process: NewProcess) -> None:
        self._router = router
        self._new_process = new_process
        self._closed = False
        self._starting = True  # services get pids below <0.64.0>, the first one of an application

    def system_processes_started(self) -> None:
        self._starting = False

    def close(self) -> None:
        """Start no more processes: from now on every attempt raises NodeNotAlive."""
        self._closed = True

    def start(self, body: Body, arguments: tuple[Any, ...], name: Atom | str | None = None) -> LocalProcess:
        """Starts ``await body(me, *arguments)``. Raises ``ValueError`` if ``name`` is taken."""
        process = self._new(getattr(body, "__qualname__", repr(body)), name)
        process._task = asyncio.get_running_loop().create_task(_run(self._router, process, body, arguments))
        return process

    def start_without_task(
        self, body: Body, arguments: tuple[Any, ...], description: Callable[[], str]
    ) -> LocalProcess:
        """The same for a body that seldom waits, and says :func:`in_a_task` before it does: if it never does, it needs
        no task, and a task costs as much as all the rest of a short life.
        """
        process = self._new(description)
        life = _run(self._router, process, body, arguments)
        asyncio.get_running_loop().call_soon(_run_until_first_wait, process, life)
        return process

    def start_handler(
        self,
        receive: Callable[[Term], None],
        name: Atom | str | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> LocalProcess:
        """A process without a task, that traps exits. See :meth:`Runtime.spawn_server`."""
        process = self._new(getattr(receive, "__qualname__", repr(receive)), name)
        process._handler = receive
        process.trap_exit = True
        process._on_end = on_end
        return process

    def _new(self, description: str | Callable[[], str], name: Atom | str | None = None) -> LocalProcess:
        registry = self._router.registry
        if self._closed:
            raise NodeNotAlive(f"{self._router.atom.name} has stopped")
        if name is not None and Atom(name) in registry.names:
            raise ValueError(f"the name {name} is taken by {registry.names[Atom(name)].pid}")
        identifiers = registry.identifiers
        pid = identifiers.system_pid() if self._starting else identifiers.pid(registry.processes)
        process = self._new_process(pid, description)
        registry.add(process)
        if name is not None:
            registry.register_name(Atom(name), process)
        return process


@types.coroutine
def ensure_task() -> Generator[None, None, None]:
    """From here on a process may wait for anything, whichever way it was started."""
    try:
        needs_one = asyncio.current_task() is None
    except RuntimeError:
        needs_one = False  # whoever runs it does so without asyncio, and is not us
    if needs_one:
        yield


def _run_until_first_wait(process: LocalProcess, coroutine: Coroutine[None, None, None]) -> None:
    if not process.alive:
        coroutine.close()
        return
    try:
        coroutine.send(None)
    except StopIteration:
        return
    # A task can continue a coroutine that has already started.
    process._task = asyncio.get_running_loop().create_task(coroutine)


async def _run(router: Router, process: LocalProcess, body: Body, arguments: tuple[Any, ...]) -> None:
    """The life of a process: its body, and what its end means to others."""
    try:
        await body(process, *arguments)
        reason: Term = NORMAL
    except TermExit as end:
        reason = end.reason
    except Exit as end:
        reason = _as_term(end.reason)
    except asyncio.CancelledError:
        reason = KILLED if process.alive else process.exit_reason
    except Exception as fault:
        if process.alive and not isinstance(fault, Undef):
            log.exception("process %s ended by an exception", process.label)
        reason = _as_term(exit_reason(fault))
    process._task = None  # it ends by itself
    router.termination.terminate(process, reason)


def _as_term(reason: object) -> Term:
    """``reason``, or its picture if it is no term."""
    try:
        encode_term(reason)
    except EncodeError:
        return repr(reason).encode("utf-8", "backslashreplace").decode()
    return reason
