"""``gen_server:call``: sends a request and waits for the reply, for the callee's exit, or for the timeout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlmesh.core import gen
from erlmesh.core.monitors import MonitorEntry
from erlmesh.errors import CallError, CallTimeout
from erlmesh.runtime.node_state import Dispatcher, NodeState
from erlmesh.runtime.process import Destination, LocalProcess
from erlmesh.runtime.signal_sender import SignalSender
from erlmesh.runtime.wakeups import Wait
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.core.node_counters import TracedCall

__all__ = ["GenCalls"]


class GenCalls:
    """Makes the calls of this node's processes.

    One reference serves as alias, as monitor and as key of the wait in the caller's ``_pending_calls``. The reply
    comes to the alias, as in OTP's ``gen:call``.
    """

    def __init__(self, state: NodeState, dispatcher: Dispatcher, signal_sender: SignalSender) -> None:
        self._registry = state.registry
        self._wakeups = state.wakeups
        self._deadlines = state.deadlines
        self._counters = state.counters
        self._dispatcher = dispatcher
        self._signal_sender = signal_sender

    async def call(self, caller: LocalProcess, to: Destination, request: Term, timeout: float | None) -> Term:
        """See :meth:`Process.call`."""
        observer = self._counters.calls
        if observer is None:
            return await self._call(caller, to, request, timeout)
        with observer.outgoing("call", to, request) as traced:
            return await self._call(caller, to, request, timeout, traced)

    async def _call(
        self,
        caller: LocalProcess,
        to: Destination,
        request: Term,
        timeout: float | None,
        traced: TracedCall | None = None,
    ) -> Term:
        registry, sender = self._registry, self._signal_sender
        ref = registry.alias(caller)
        answer = caller._pending_calls[ref] = Wait(self._wakeups)
        if timeout is not None:
            self._deadlines.add(answer, timeout)
        try:
            token = None if traced is None else traced.token_for(self._node_of(to), ref)
            sender.send_call(caller, to, gen.call(caller.pid, ref, request), ref, token)
            return await answer
        except TimeoutError:
            if not answer.timed_out:
                raise
            raise CallTimeout(f"no answer from {to} within {timeout:g} s") from None
        finally:
            if timeout is not None:
                self._deadlines.remove(answer, timeout)
            caller._pending_calls.pop(ref, None)
            registry.unalias(caller, ref)  # A late reply to an alias is dropped.
            sender.demonitor(caller, ref)

    def _node_of(self, to: Destination) -> Atom:
        if type(to) is Pid:
            return to.node
        return Atom(to[1]) if type(to) is tuple and len(to) == 2 else self._registry.identifiers.node

    def down_error(self, monitor: MonitorEntry, reason: Term) -> CallError:
        """Return the error for a caller whose callee is gone for ``reason``."""
        return gen.down_error(monitor.target, monitor.node, reason, self._dispatcher.no_connection_error)
