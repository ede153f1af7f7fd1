"""Starts a process and waits until its ``init`` has returned, as OTP's ``proc_lib:start_link`` does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from erlmesh.core.exit_reasons import NORMAL
from erlmesh.errors import Exit, NodeNotAlive, ProcessStartError
from erlmesh.node import Node, Process
from erlmesh.runtime.process import REDUCTIONS
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.exit_text import format_reason

__all__ = ["Body", "require_free_name", "start_process"]

Body = Callable[[Process, Callable[[], None]], Awaitable[None]]
"""``async def body(me, started)``. It calls ``started()`` when its ``init`` has returned."""


def require_free_name(node: Node, name: Atom | str | None) -> None:
    """Raise ProcessStartError with ``(already_started, pid)`` if another process of the node has the name."""
    taken = None if name is None else node.whereis(name)
    if taken is not None:
        raise ProcessStartError(f"the name {name} is taken by {taken}", (Atom("already_started"), taken))


async def start_process(
    starter: Node | Process, body: Body, *, link: bool, name: Atom | str | None, timeout: float | None
) -> Pid:
    """Start ``body`` and return its pid when it has called ``started``.

    ``starter`` is the parent with ``link``. Raises ProcessStartError with the exit reason if the process ends before,
    with ``(already_started, pid)`` if the name is taken, and with ``timeout`` after ``timeout`` seconds: then the
    process is killed.
    """
    node = starter if isinstance(starter, Node) else starter.node
    require_free_name(node, name)
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish(error: Exception | None = None) -> None:
        if not ready.done():
            ready.set_result(None) if error is None else ready.set_exception(error)

    async def run(me: Process) -> None:
        # Not "never received": a system message that comes during `init` waits for its end.
        me._reductions_left = REDUCTIONS
        await body(me, finish)

    run.__qualname__ = getattr(body, "__qualname__", "server")  # The label of the process shows it,
    run.__module__ = getattr(body, "__module__", __name__)  # and the tools of other nodes show both.
    if link and isinstance(starter, Process):
        pid = starter.spawn(run, name=name, link=True)
    else:
        pid = node.spawn(run, name=name)
    # A handler has no task, so its DOWN arrives also if the starter is the process that ends.
    watcher = node.spawn_handler(lambda message: finish(_start_error(message[4])))
    watcher.monitor(pid)
    try:
        await asyncio.wait_for(asyncio.shield(ready), timeout)
    except TimeoutError:
        _give_up(starter, node, pid)
        raise ProcessStartError(f"init did not return within {timeout:g} s", Atom("timeout")) from None
    except asyncio.CancelledError:
        _give_up(starter, node, pid)
        raise
    finally:
        if ready.done():
            ready.exception()  # Mark it as seen.
        watcher.stop()
    return pid


def _give_up(starter: Node | Process, node: Node, pid: Pid) -> None:
    """End a process whose ``init`` nobody waits for any more."""
    try:
        if isinstance(starter, Process):
            starter.unlink(pid)
        node.exit(pid, Atom("kill"))
    except (Exit, NodeNotAlive):
        pass  # The node has stopped, and the process with it.


def _start_error(reason: Term) -> ProcessStartError:
    what = "it ended in init" if reason is NORMAL else f"init failed: {format_reason(reason)}"
    return ProcessStartError(what, reason)
