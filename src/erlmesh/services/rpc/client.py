"""Calling functions of other nodes.

A call uses erpc: it spawns a process on the other node for ``erpc:execute_call/4``. The exit reason of this process is
the result (see ``erpc.py``). A node that cannot be sent a SPAWN_REQUEST (before OTP 23) is called through its server
``rex`` instead.

Source: ``call/5`` in erpc.erl and in rpc.erl.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Final

from erlmesh.core.node_names import NodeTable
from erlmesh.errors import CallError, CallTimeout, NoConnection
from erlmesh.services.rpc.outcomes import (
    ERPC,
    EXECUTE_CALL,
    MFA,
    Replies,
    format_mfa,
    value_of_exit,
    value_of_rex_answer,
)
from erlmesh.terms import Atom, SendableTerm, Term

if TYPE_CHECKING:
    from erlmesh.core.node_counters import TracedCall
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Replies", "Rpc", "call", "cast", "multicall"]

REX: Final = Atom("rex")
EXECUTE_CAST: Final = Atom("execute_cast")


class Rpc:
    """``node.rpc``: calls functions of other nodes (OTP's ``rpc`` and ``erpc``)."""

    def __init__(self, node: Runtime) -> None:
        self._node = node

    async def __call__(
        self,
        peer: Atom | str,
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[SendableTerm] = (),
        *,
        timeout: float | None = 5.0,
    ) -> Term:
        """Call a function on ``peer`` in a new process there, and return its value. ::

            await node.rpc("plato@127.0.0.1", "lists", "sum", [[1, 2, 3]])

        Raises RemoteThrow, RemoteExit or RemoteError if the function raised, CalleeExited if its process was
        terminated, NoConnection, CallTimeout after ``timeout`` seconds (the function continues there, as with OTP), and
        EncodeError if an argument is not a term. What the function prints is written here.
        """
        return await call(self._node, peer, module, function, arguments, timeout=timeout)

    async def multicall(
        self,
        nodes: Iterable[Atom | str],
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[SendableTerm] = (),
        *,
        timeout: float | None = 5.0,
    ) -> Replies:
        """Call a function on several nodes at the same time. The result has the values and the errors by node name."""
        return await multicall(self._node, nodes, module, function, arguments, timeout=timeout)

    def cast(
        self, peer: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[SendableTerm] = ()
    ) -> None:
        """Call a function on ``peer`` without waiting. There is no reply, not even if the node does not exist."""
        cast(self._node, peer, module, function, arguments)


async def call(
    node: Runtime,
    peer: Atom | str,
    module: Atom | str,
    function: Atom | str,
    arguments: Sequence[Term] = (),
    *,
    timeout: float | None = 5.0,
) -> Term:
    """Call a function on ``peer`` and return its value. See :meth:`Rpc.__call__`."""
    target, mfa = Atom(peer), (Atom(module), Atom(function), list(arguments))
    counters = node.state.counters
    if counters.calls is None and counters.durations is None:
        return await _call(node, target, mfa, timeout)
    durations, started, failure = counters.durations, perf_counter(), None
    try:
        tracing = None if counters.calls is None else counters.calls.outgoing("rpc", target, mfa)
        if tracing is None:
            return await _call(node, target, mfa, timeout)
        with tracing as traced:
            return await _call(node, target, mfa, timeout, traced)
    except BaseException as error:
        failure = type(error)
        raise
    finally:
        if durations is not None:
            durations.ended("rpc", started, failure)


async def _call(node: Runtime, target: Atom, mfa: MFA, timeout: float | None, traced: TracedCall | None = None) -> Term:
    try:
        async with asyncio.timeout(timeout):
            if target is not node.atom and not await node.connect(target):
                raise _no_connection_error(node, target)
            if node.supports_spawn_request(target):
                token = None if traced is None else traced.token_for(target, None)
                return await _call_by_erpc(node, target, mfa, token)
            return await _call_by_rex(node, target, mfa)
    except TimeoutError as error:
        if isinstance(error, CallTimeout):
            raise  # Raised inside, with its own text. CallTimeout is a TimeoutError.
        raise CallTimeout(f"no answer from {format_mfa(mfa)} on {target.name} within {timeout:g} s") from None


def cast(
    node: Runtime, peer: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
) -> None:
    """Call a function on ``peer`` without waiting for it. See :meth:`Rpc.cast`."""
    target, mfa, observer = Atom(peer), (Atom(module), Atom(function), list(arguments)), node.state.counters.calls
    tracing = None if observer is None else observer.outgoing("rpc", target, mfa)
    if tracing is None:
        node.spawn_remote_nowait(target, ERPC, EXECUTE_CAST, [*mfa])
        return
    with tracing as traced:
        node.spawn_remote_nowait(target, ERPC, EXECUTE_CAST, [*mfa], traced.token_for(target, None))


async def multicall(
    node: Runtime,
    nodes: Iterable[Atom | str],
    module: Atom | str,
    function: Atom | str,
    arguments: Sequence[Term] = (),
    *,
    timeout: float | None = 5.0,
) -> Replies:
    """Call a function on several nodes at the same time. See :meth:`Rpc.multicall`."""
    if isinstance(nodes, str | bytes | Atom):
        raise TypeError(f"the first argument of multicall is a list of nodes, such as node.nodes(), not {nodes!r}")
    names = list(dict.fromkeys(Atom(name).name for name in nodes))

    async def call_one(name: str) -> Term | CallError:
        try:
            return await call(node, name, module, function, arguments, timeout=timeout)
        except CallError as error:
            return error

    outcomes = dict(zip(names, await asyncio.gather(*map(call_one, names)), strict=True))
    return Replies(
        NodeTable({name: value for name, value in outcomes.items() if not isinstance(value, CallError)}),
        NodeTable({name: error for name, error in outcomes.items() if isinstance(error, CallError)}),
    )


async def _call_by_erpc(node: Runtime, peer: Atom, mfa: MFA, token: Term | None) -> Term:
    """Spawn ``erpc:execute_call`` on ``peer``. Return the value, or raise what its exit reason says."""
    result = node.make_ref()
    reason = await node.spawn_and_wait(peer, ERPC, EXECUTE_CALL, [result, *mfa], token)
    return value_of_exit(peer, mfa, result, reason, lambda name: _no_connection_error(node, name))


async def _call_by_rex(node: Runtime, peer: Atom, mfa: MFA) -> Term:
    """Call rex on ``peer``."""
    answer = await node.call((REX, peer), (Atom("call"), *mfa, node.group_leader), timeout=None)
    return value_of_rex_answer(peer, mfa, answer)


def _no_connection_error(node: Runtime, peer: Atom) -> NoConnection:
    """NoConnection with the reason of the last failed attempt."""
    reason = node.last_connect_error(peer)
    return NoConnection(f"no connection to {peer.name}" + (f": {reason}" if reason else ""))
