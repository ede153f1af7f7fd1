"""The processes that ``Task.Supervisor`` starts on a supervisor of this node (Elixir's ``Task.Supervised``).

::

    caller ── call {start_task, [Owner, monitor], Restart, Shutdown} ──▶ supervisor
    caller ◀── {ok, Pid} ── supervisor
    caller ── {OwnerPid, Ref, ReplyTo, Callers, {M, F, A}} ──▶ Pid
    ReplyTo ◀── {Ref, Value} ── Pid, which then ends with normal
"""

from __future__ import annotations

from typing import Final

from erlmesh.errors import ErlangError, Exit, Throw
from erlmesh.node import Process
from erlmesh.runtime.exceptions import exit_reason
from erlmesh.runtime.process_types import StopMode
from erlmesh.terms import Atom, Pid, Term

__all__ = ["run_function", "wait_for_function"]

DOWN: Final = Atom("DOWN")
START_TIMEOUT: Final = 5.0
"""Seconds after which a task ends that is told no function, as in Elixir."""


async def run_function(me: Process, module: Atom, function: Atom, arguments: list[Term]) -> Term:
    """Run an exposed function and return its value. A fault ends the process with ``{Reason, Stack}``."""
    me._stop_mode = StopMode.FINISHES
    try:
        return await me.node._functions.apply(me, module, function, arguments)
    except (ErlangError, Throw) as error:  # The caller on the other node reads the reason. It is no error of this node.
        raise Exit(exit_reason(error)) from None


async def wait_for_function(me: Process, owner: Pid, monitored: bool) -> None:
    """Run the function that ``owner`` names in a message, and send its value to where the message says."""
    ref = me.monitor(owner) if monitored else None

    def is_told(message: Term) -> bool:
        if type(message) is not tuple or len(message) != 5:
            return False
        return message[0] == owner or (message[0] is DOWN and message[1] == ref)

    try:
        message = await me.receive(is_told, timeout=START_TIMEOUT if monitored else None)
    except TimeoutError:
        raise Exit(Atom("timeout")) from None
    if message[0] is DOWN:
        raise Exit((Atom("shutdown"), message[4]))
    if ref is not None:
        me.demonitor(ref, flush=True)
    _, tag, reply_to, _, call = message
    match call:
        case (Atom() as module, Atom() as function, list() as arguments):
            value = await run_function(me, module, function, arguments)
        case _:
            raise Exit((Atom("undef"), [(call, 0, [])]))
    me.send(reply_to, (tag, value))
