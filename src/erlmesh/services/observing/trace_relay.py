"""What ``dbg`` and etop of Erlang get when they want to trace a node of Python: answers that say that this is not done.

``dbg:n/1`` and ``dbg:tracer/3`` start a relay process on the node, and wait without a time limit for its message:

* ``{started, Tracer}``, from a closure of ``dbg:relay/2``, up to OTP 26;
* ``{started, Tracer, Session}``, from ``dbg:do_relay(SessionName, Parent, _)``, since OTP 27.

Here the relay starts, traces nothing, and ends with its parent. What dbg asks for then (``dbg:p``, ``dbg:tp``) gives
``{error, Sentence}`` in the place of a number of processes or functions.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from erlmesh.errors import ErlangError
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.system_messages import charlist
from erlmesh.services.observing.look_limit import LookLimit
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["TraceRelay"]

ERROR: Final = Atom("error")
OK: Final = Atom("ok")
STARTED: Final = Atom("started")


class TraceRelay:
    """The functions that a tracer calls on a node. At most as many relays live at a time as ``limit`` has looks."""

    def __init__(self, runtime: Runtime, limit: LookLimit) -> None:
        self._runtime = runtime
        self._limit = limit

    def add_to(self, table: FunctionTable) -> None:
        """Add all functions to ``table``."""
        table.add(self._relay, "dbg", "do_relay")
        table.add(self._session_relay, "dbg", "do_relay")
        for module, function, body in (
            ("dbg", "erlang_trace", self._refuse),
            ("dbg", "erlang_trace", self._refuse_in_session),
            ("erlang", "trace_pattern", self._refuse),
            ("trace", "function", self._refuse_in_session),
        ):
            table.add(body, module, function, inline=True)

    async def _relay(self, me: LocalProcess, parent: Term, _to: Term) -> Term:
        return await self._live_with(me, parent, (STARTED, me.pid))

    async def _session_relay(self, me: LocalProcess, _name: Term, parent: Term, _to: Term) -> Term:
        return await self._live_with(me, parent, (STARTED, me.pid, me.pid))

    async def _live_with(self, me: LocalProcess, parent: Term, started: Term) -> Term:
        """Live until the parent ends. At the limit of looks, end at once: then dbg drops this node."""
        if not isinstance(parent, Pid):
            raise ErlangError(Atom("badarg"), [])
        me.trap_exit = True  # The parent has linked it.
        me.monitor(parent)  # One that has not must not leave it behind.
        me.send(parent, started)
        with suppress(ErlangError), self._limit.look():  # a refusal must not fill the log with errors
            async for message in me:
                match message:
                    case (Atom("EXIT"), _, _) | (Atom("DOWN"), _, _, _, _):
                        break
        return OK

    def _refuse(self, _what: Term, _how: Term, _flags: Term) -> Term:
        """``{error, Sentence}``, which dbg shows."""
        return (ERROR, charlist(f"{self._runtime.name} is a node of Python. It cannot be traced"))

    def _refuse_in_session(self, _session: Term, what: Term, how: Term, flags: Term) -> Term:
        return self._refuse(what, how, flags)
