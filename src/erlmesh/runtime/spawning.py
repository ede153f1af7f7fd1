"""Makes processes, and runs a body as the life of one: from its birth to what its end means to others."""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from erlmesh.errors import EncodeError, Exit, Undef
from erlmesh.etf import encode_term
from erlmesh.runtime.faults import Outcome, exit_reason
from erlmesh.runtime.process import Body, Process
from erlmesh.runtime.router import KILLED, NORMAL, Router
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["Spawning", "in_a_task"]

log = logging.getLogger("erlmesh")


class Spawning:
    """The births of one node's processes. Until :meth:`services_are_there` they get the low pids of the node's own."""

    def __init__(self, node: Node, router: Router) -> None:
        self._node = node
        self._router = router
        self._starting = True  # users get the post's own <0.64.0>

    def services_are_there(self) -> None:
        self._starting = False

    def start(self, body: Body, arguments: tuple[Any, ...], label: str, name: Atom | str | None = None) -> Process:
        """Starts ``await body(me, *arguments)``. Raises ``ValueError`` if ``name`` is taken."""
        process = self._new(label, name)
        process.task = asyncio.get_running_loop().create_task(_run(self._router, process, body, arguments))
        return process

    def start_lightly(self, body: Body, arguments: tuple[Any, ...], runs: Callable[[], str]) -> Process:
        """The same for a body that seldom waits, and says :func:`in_a_task` before it does: if it never does, it needs
        no task, and a task costs as much as all the rest of a short life.
        """
        process = self._new(runs)
        life = _run(self._router, process, body, arguments)
        asyncio.get_running_loop().call_soon(_begin, process, life)
        return process

    def start_server(
        self,
        receive: Callable[[Term], None],
        name: Atom | str | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> Process:
        """A process without a task, that traps exits. See :meth:`Runtime.spawn_server`."""
        process = self._new(getattr(receive, "__qualname__", repr(receive)), name)
        process.receiver = receive
        process.trap_exit = True
        process.on_end = on_end
        return process

    def _new(self, runs: str | Callable[[], str], name: Atom | str | None = None) -> Process:
        registry = self._router.registry
        if name is not None and Atom(name) in registry.names:
            raise ValueError(f"the name {name} is taken by {registry.names[Atom(name)].pid}")
        identifiers = registry.identifiers
        pid = identifiers.system_pid() if self._starting else identifiers.pid(registry.processes)
        process = Process(self._node, self._router, pid, runs)
        registry.add(process)
        if name is not None:
            registry.register(Atom(name), process)
        return process


@types.coroutine
def in_a_task() -> Generator[None, None, None]:
    """From here on a process may wait for anything, whichever way it was started."""
    try:
        needs_one = asyncio.current_task() is None
    except RuntimeError:
        needs_one = False  # whoever runs it does so without asyncio, and is not us
    if needs_one:
        yield


def _begin(process: Process, life: Coroutine[None, None, None]) -> None:
    if not process.alive:
        life.close()
        return
    try:
        life.send(None)
    except StopIteration:
        return
    process.task = asyncio.get_running_loop().create_task(life)  # a task takes up a coroutine that has begun, too


async def _run(router: Router, process: Process, body: Body, arguments: tuple[Any, ...]) -> None:
    """The life of a process: its body, and what its end means to others."""
    try:
        await body(process, *arguments)
        reason: Term = NORMAL
    except Outcome as end:
        reason = end.reason
    except Exit as end:
        reason = _term(end.reason)
    except asyncio.CancelledError:
        reason = KILLED if process.alive else process.exit_reason
    except Exception as fault:
        if process.alive and not isinstance(fault, Undef):
            log.exception("process %s ended by an exception", process.label)
        reason = _term(exit_reason(fault))
    process.task = None  # it ends by itself
    router.deaths.terminate(process, reason)


def _term(reason: object) -> Term:
    """``reason``, or its picture if it is no term."""
    try:
        encode_term(reason)
    except EncodeError:
        return repr(reason).encode("utf-8", "backslashreplace").decode()
    return reason
