"""``gen_server:call``: sends a request and waits for the reply, for the callee's exit, or for the timeout."""

from __future__ import annotations

from collections.abc import Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any

from erlmesh.core import gen
from erlmesh.core.monitors import MonitorEntry
from erlmesh.errors import CallError, CallTimeout
from erlmesh.runtime.node_state import Dispatcher, NodeState
from erlmesh.runtime.process import Destination, LocalProcess
from erlmesh.runtime.signal_sender import SignalSender
from erlmesh.runtime.wakeups import Wait
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

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

    def call(
        self, caller: LocalProcess, to: Destination, request: Term, timeout: float | None
    ) -> Coroutine[Any, Any, Term]:
        """See :meth:`Process.call`."""
        observer = self._counters.calls
        if observer is None:
            return self._call(caller, to, request, timeout)
        tracing = observer.outgoing("call", to, request)
        if tracing is None:
            return self._call(caller, to, request, timeout)
        return self._traced_call(tracing, caller, to, request, timeout)

    async def _traced_call(
        self,
        tracing: AbstractContextManager[TracedCall],
        caller: LocalProcess,
        to: Destination,
        request: Term,
        timeout: float | None,
    ) -> Term:
        with tracing as traced:
            return await self._call(caller, to, request, timeout, traced)

    async def _call(
        self,
        caller: LocalProcess,
        to: Destination,
        request: Term,
        timeout: float | None,
        traced: TracedCall | None = None,
    ) -> Term:
        registry, sender, durations = self._registry, self._signal_sender, self._counters.durations
        started = 0.0 if durations is None else perf_counter()
        failure: type[BaseException] | None = None
        ref = registry.alias(caller)
        answer = caller._pending_calls[ref] = Wait(self._wakeups)
        if timeout is not None:
            self._deadlines.add(answer, timeout)
        try:
            token = None if traced is None else traced.token_for(self._node_of(to), ref)
            sender.send_call(caller, to, gen.call(caller.pid, ref, request), ref, token)
            return await answer
        except TimeoutError:
            failure = CallTimeout if answer.timed_out else TimeoutError
            if not answer.timed_out:
                raise
            raise CallTimeout(f"no answer from {to} within {timeout:g} s") from None
        except BaseException as error:
            failure = type(error)
            raise
        finally:
            if timeout is not None:
                self._deadlines.remove(answer, timeout)
            caller._pending_calls.pop(ref, None)
            registry.unalias(caller, ref)  # A late reply to an alias is dropped.
            sender.demonitor(caller, ref)
            if durations is not None:
                if failure is None:
                    durations.calls.append(perf_counter() - started)
                else:
                    durations.ended("call", started, failure)

    def _node_of(self, to: Destination) -> Atom:
        if type(to) is Pid:
            return to.node
        return Atom(to[1]) if type(to) is tuple and len(to) == 2 else self._registry.identifiers.node

    def down_error(self, monitor: MonitorEntry, reason: Term) -> CallError:
        """Return the error for a caller whose callee is gone for ``reason``."""
        return gen.down_error(monitor.target, monitor.node, reason, self._dispatcher.no_connection_error)
