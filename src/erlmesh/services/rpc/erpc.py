"""erpc: how OTP 23 and later call a function on this node.

There is no server. The calling node sends a SPAWN_REQUEST for ``erpc:execute_call(ResultRef, Module, Function,
Arguments)`` with a monitor. The exit reason of the spawned process is the result::

    {ResultRef, return, Value}
    {ResultRef, throw, Value}
    {ResultRef, exit, Reason}
    {ResultRef, error, Reason, Stack}

``erpc:execute_cast(Module, Function, Arguments)`` has no result.

A BEAM starts the function at once. Here it may wait for a thread. If the caller gives up meanwhile (its time-out, its
exit, or a lost connection), the function is not called.

Source: ``execute_call/4`` and ``execute_cast/3`` in erpc.erl.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

from erlmesh.core.exit_reasons import KILLED, NORMAL
from erlmesh.errors import ErlangError, Exit, Throw
from erlmesh.etf import encode_term
from erlmesh.net.event_log import event_log
from erlmesh.runtime.exceptions import ERROR, to_erlang
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.runtime.process_types import MFA, StopMode
from erlmesh.runtime.spawner import continue_in_task, wait_without_task
from erlmesh.runtime.thread_pool import Job
from erlmesh.services.rpc.function_table import FunctionTable, value_of
from erlmesh.terms import Atom, Pid, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.core.node_counters import NodeCounters
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Apply", "function_name", "is_mfa", "outcome_of_kind", "run_call", "serve"]

log = event_log("erlmesh.erpc")
_peer_log = PeerLog(log)

RETURN: Final = Atom("return")
BADARG: Final = Atom("badarg")

Apply: TypeAlias = "Callable[[LocalProcess, Atom, Atom, Sequence[Term]], Awaitable[Term]]"
"""``await apply(me, module, function, arguments)`` runs the function in the process ``me`` and returns its value.

It raises ``Undef`` if there is no such function, and all that the function raises."""
Answer: TypeAlias = "tuple[Atom, Term, list[Term]]"
"""``(kind, value or reason, stack)``, where kind is ``return``, ``throw``, ``exit`` or ``error``.

All parts are terms that can be encoded: a value that cannot gives an ``error``."""


def serve(node: Runtime, functions: FunctionTable) -> None:
    """Handle erpc calls on ``node``. Only ``functions`` may be called."""

    def execute_call(me: LocalProcess, result: Term, *mfa: Term) -> Coroutine[Any, Any, None] | None:
        # The caller monitors the process. It gives up when it demonitors, terminates, or loses the connection.
        return _Call(me, mfa, result, node.is_monitored, node.state.counters).start(functions)

    def execute_cast(me: LocalProcess, *mfa: Term) -> Coroutine[Any, Any, None] | None:
        return _Call(me, mfa, counters=node.state.counters).start(functions)

    node.serve_spawn_request("erpc", "execute_call", 4, execute_call)
    node.serve_spawn_request("erpc", "execute_cast", 3, execute_cast)


class _Call:
    """One call, whose process terminates with its result.

    Most calls need no task: the function returns at once, or in a thread. ``mfa`` is module, function and arguments as
    received. ``is_monitored(pid)`` tells whether the result is wanted; None for a cast, which has no result.
    """

    __slots__ = ("_is_monitored", "_me", "_mfa", "_result", "_span", "_started", "_timer", "_tracer", "_was_monitored")

    def __init__(
        self,
        me: LocalProcess,
        mfa: tuple[Term, ...],
        result: Term = None,
        is_monitored: Callable[[Pid], bool] | None = None,
        counters: NodeCounters | None = None,
    ) -> None:
        self._me = me
        self._tracer = None if counters is None else counters.tracer
        self._timer = None if counters is None else counters.durations
        self._started = 0.0 if self._timer is None else perf_counter()
        self._span: Any = None
        self._mfa = mfa
        self._result = result
        self._is_monitored = is_monitored
        self._was_monitored: bool | None = None
        """At the start of the call; None if nothing has asked yet, because only a call in a thread can be given up."""

    def start(self, functions: FunctionTable) -> Coroutine[Any, Any, None] | None:
        """Call the function. Return a coroutine for the rest if the process needs a task."""
        if not is_mfa(self._mfa):
            self._finish(_badarg(self._mfa))
            return None
        if self._tracer is not None:
            self._span = self._tracer.start_function("erpc", function_name(self._mfa), self._me.group_leader)
        try:
            outcome = functions.start(self._me, self._mfa, self._job_done, self._is_wanted)
        except (Exception, SystemExit) as error:  # sys.exit() ends the call, not the node
            self._finish(_answer_of_error(error, self._mfa))
            return None
        if type(outcome) is CoroutineType:
            self._me._stop_mode = StopMode.FINISHES
            return self._await(outcome)
        if type(outcome) is Job:
            self._me._stop_mode = StopMode.FINISHES
            wait_without_task(self._me, outcome)
            self._is_wanted()  # Note whether it is monitored now.
        else:
            self._finish(_answer_of_value(outcome, self._mfa))
        return None

    async def _await(self, outcome: Awaitable[Term]) -> None:
        try:
            value = await outcome
        except (Exception, SystemExit) as error:  # sys.exit() ends the call, not the node
            answer = _answer_of_error(error, self._mfa)
        else:
            answer = _answer_of_value(value, self._mfa)
        self._me._task = None  # The task is about to finish: termination must not cancel it.
        self._finish(answer)

    def _job_done(self, job: Job) -> None:
        """The function has returned in a thread, or could not be called."""
        try:
            outcome = value_of(self._me, job)
        except (Exception, SystemExit) as error:
            self._finish(_answer_of_error(error, self._mfa))
        except asyncio.CancelledError:
            self._me.stop(KILLED)
        else:
            if type(outcome) is CoroutineType:
                job.context.run(continue_in_task, self._me, self._await(outcome))
            else:
                self._finish(_answer_of_value(outcome, self._mfa))

    def _is_wanted(self) -> bool:
        """Asked after a wait for a thread. A call that nobody monitored at its start is wanted, too."""
        is_monitored = self._is_monitored is not None and self._is_monitored(self._me.pid)
        if self._was_monitored is None:  # The call has just been started, and gets a thread at once.
            self._was_monitored = is_monitored
        return is_monitored or not self._was_monitored

    def _finish(self, answer: Answer) -> None:
        """Terminate the process with the result of the call."""
        kind, value, stack = answer
        if self._span is not None and self._tracer is not None:
            self._tracer.end_function(self._span, kind.name)
        if self._timer is not None:
            self._timer.served("rpc", self._started, outcome_of_kind(kind))
        if self._is_monitored is None:
            self._me.stop(NORMAL)
        elif kind is ERROR:
            self._me.stop((self._result, kind, value, stack))
        else:
            self._me.stop((self._result, kind, value))


async def run_call(me: LocalProcess, apply: Apply, module: Term, function: Term, arguments: Term) -> Answer:
    """Call a function. An exception that does not stand for an Erlang one is logged."""
    mfa = (module, function, arguments)
    if not is_mfa(mfa):
        return _badarg(mfa)
    try:
        value = await apply(me, *mfa)
    except (Exception, SystemExit) as error:  # sys.exit() ends the call, not the node
        return _answer_of_error(error, mfa)
    return _answer_of_value(value, mfa)


def is_mfa(mfa: tuple[Term, ...]) -> TypeGuard[MFA]:
    """Return whether these are a module, a function and a list of arguments."""
    module, function, arguments = mfa
    return type(module) is Atom and type(function) is Atom and type(arguments) is list


def outcome_of_kind(kind: Atom) -> str:
    """Return the outcome of an answer, for metrics: ``ok``, ``throw``, ``exit`` or ``error``."""
    return "ok" if kind is RETURN else kind.name


def function_name(mfa: MFA) -> str:
    """Return ``module:function/arity``, as another node has named it."""
    module, function, arguments = mfa
    return f"{module.name}:{function.name}/{len(arguments)}"


def _badarg(mfa: tuple[Term, ...]) -> Answer:
    return ERROR, BADARG, [(Atom("erlang"), Atom("apply"), list(mfa), [])]


def _answer_of_value(value: Term, mfa: MFA) -> Answer:
    try:
        encode_term(value)  # Raises here rather than later, when the result is sent.
    except Exception as error:
        return _answer_of_error(error, mfa)
    return RETURN, value, []


def _answer_of_error(error: Exception | SystemExit, mfa: MFA) -> Answer:
    """Return the answer for what a function has raised. It is logged if it does not stand for an Erlang exception."""
    if not isinstance(error, (Exit, Throw, ErlangError)):
        what = function_name(mfa)
        _peer_log.write(
            logging.ERROR,
            "function_failed",
            what,
            "%s, called from another node, failed",
            ForeignText(what),
            error=error,
            function=what,
            reason=type(error).__name__,
        )
    kind, reason, stack = to_erlang(error)
    try:
        encode_term((reason, stack))
    except Exception as unencodable:
        kind, reason, stack = to_erlang(unencodable)
    return kind, reason, stack
