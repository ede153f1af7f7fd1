"""Runs a body as a process, and gives its caller the result or what the process ended with."""

from __future__ import annotations

import asyncio
from typing import Any

from erlmesh.core.exit_reasons import SHUTDOWN
from erlmesh.errors import Exit
from erlmesh.runtime.exceptions import exit_reason
from erlmesh.runtime.process import Body, LocalProcess
from erlmesh.runtime.runtime import Runtime
from erlmesh.terms import Atom, Term

__all__ = ["run_process"]


async def run_process(runtime: Runtime, body: Body, arguments: tuple[Any, ...], name: Atom | str | None) -> Any:
    """See :meth:`erlmesh.Node.run`."""
    outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    ended: asyncio.Future[Term] = asyncio.get_running_loop().create_future()

    async def run(me: LocalProcess) -> None:
        try:
            result = await body(me, *arguments)
        except Exit as error:
            _set(outcome, error)
            raise
        except (asyncio.CancelledError, SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            # It is raised to the caller, so it is not logged as that of a process that nobody waits for.
            _set(outcome, error)
            raise Exit(exit_reason(error)) from None
        if not outcome.done():
            outcome.set_result(result)

    run.__qualname__ = getattr(body, "__qualname__", repr(body))
    run.__module__ = getattr(body, "__module__", __name__)
    pid = runtime.spawn(run, name=name)
    watcher = runtime.spawn_handler(lambda message: None if ended.done() else ended.set_result(message[4]))
    watcher.monitor(pid)
    try:
        reason = await asyncio.shield(ended)
    except asyncio.CancelledError:
        runtime.exit(pid, SHUTDOWN)
        raise
    finally:
        watcher.stop()
        if outcome.done():
            outcome.exception()  # Mark it as seen: an exit signal may have ended the process later.
    if outcome.done():
        return outcome.result()
    raise Exit(reason)


def _set(outcome: asyncio.Future[Any], error: BaseException) -> None:
    if not outcome.done():
        outcome.set_exception(error)
