"""Calling functions of other nodes.

A call uses erpc: it spawns a process on the other node for ``erpc:execute_call/4``. The exit reason of this process is
the result (see ``erpc.py``). A node that cannot be sent a SPAWN_REQUEST (before OTP 23) is called through its server
``rex`` instead.

Source: ``call/5`` in erpc.erl and in rpc.erl.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from erlmesh.core.node_names import NodeTable
from erlmesh.errors import (
    CalleeExited,
    CallError,
    CallTimeout,
    NoConnection,
    NoProcess,
    RemoteError,
    RemoteExit,
    RemoteThrow,
)
from erlmesh.terms import Atom, SendableTerm, Term
from erlmesh.terms.erlang import format_erlang

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Replies", "Rpc", "call", "cast", "multicall"]

ERPC: Final = Atom("erpc")
REX: Final = Atom("rex")
MAX_REASON_LENGTH: Final = 500
"""A longer term is truncated in the text of an exception."""


class Replies(NamedTuple):
    """The result of :func:`multicall`."""

    replies: NodeTable[Term]
    """The values by node name, for the nodes whose function returned."""
    missing: NodeTable[CallError]
    """The exceptions of the other nodes by node name: NoConnection, CallTimeout, RemoteError and others."""


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
    try:
        async with asyncio.timeout(timeout):
            if target is not node.atom and not await node.connect(target):
                raise _no_connection_error(node, target)
            if node.supports_spawn_request(target):
                return await _call_by_erpc(node, target, mfa)
            return await _call_by_rex(node, target, mfa)
    except TimeoutError as error:
        if isinstance(error, CallTimeout):
            raise  # Raised inside, with its own text. CallTimeout is a TimeoutError.
        raise CallTimeout(f"no answer from {_format_mfa(mfa)} on {target.name} within {timeout:g} s") from None


def cast(
    node: Runtime, peer: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
) -> None:
    """Call a function on ``peer`` without waiting for it. See :meth:`Rpc.cast`."""
    node.spawn_remote_nowait(peer, ERPC, Atom("execute_cast"), [Atom(module), Atom(function), list(arguments)])


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


async def _call_by_erpc(node: Runtime, peer: Atom, mfa: tuple[Atom, Atom, list[Term]]) -> Term:
    """Spawn ``erpc:execute_call`` on ``peer``. Return the value, or raise what its exit reason says."""
    result = node.make_ref()
    reason = await node.spawn_and_wait(peer, ERPC, Atom("execute_call"), [result, *mfa])
    match reason:
        case (ref, Atom("return"), value) if ref == result:
            return value
        case (ref, Atom("throw"), value) if ref == result:
            raise _remote_throw(peer, mfa, value)
        case (ref, Atom("exit"), error_reason) if ref == result:
            raise _remote_exit(peer, mfa, error_reason)
        case (ref, Atom("error"), error_reason, list() as stack) if ref == result:
            raise _remote_error(peer, mfa, error_reason, stack)
        # erpc itself failed, for example with badarg.
        case (ref, Atom("error"), (Atom("erpc"), error_reason)) if ref == result:
            raise CallError(f"{_format_mfa(mfa)} on {peer.name}: {_truncated(error_reason)}")
        case Atom("noconnection"):
            raise _no_connection_error(node, peer)
    # An exit reason without our reference: the process got an exit signal.
    raise CalleeExited(f"{_format_mfa(mfa)} on {peer.name} was ended by a signal: {_truncated(reason)}", reason)


async def _call_by_rex(node: Runtime, peer: Atom, mfa: tuple[Atom, Atom, list[Term]]) -> Term:
    """Call rex on ``peer``. The reply does not show whether a value was thrown or returned."""
    answer = await node.call((REX, peer), (Atom("call"), *mfa, node.group_leader), timeout=None)
    match answer:
        case (Atom("badrpc"), (Atom("EXIT"), (error_reason, list() as stack))) if stack and isinstance(stack[0], tuple):
            raise _remote_error(peer, mfa, error_reason, stack)
        case (Atom("badrpc"), (Atom("EXIT"), error_reason)):
            raise _remote_exit(peer, mfa, error_reason)
        case (Atom("badrpc"), error_reason):
            raise NoProcess(f"rpc to {peer.name} failed: {_truncated(error_reason)}")
    return answer


def _no_connection_error(node: Runtime, peer: Atom) -> NoConnection:
    """NoConnection with the reason of the last failed attempt."""
    reason = node.last_connect_error(peer)
    return NoConnection(f"no connection to {peer.name}" + (f": {reason}" if reason else ""))


def _remote_throw(peer: Atom, mfa: tuple[Atom, Atom, list[Term]], value: Term) -> RemoteThrow:
    return RemoteThrow(f"{_format_mfa(mfa)} on {peer.name} threw {_truncated(value)}", value)


def _remote_exit(peer: Atom, mfa: tuple[Atom, Atom, list[Term]], reason: Term) -> RemoteExit:
    return RemoteExit(f"{_format_mfa(mfa)} on {peer.name} exited: {_truncated(reason)}", reason)


def _remote_error(peer: Atom, mfa: tuple[Atom, Atom, list[Term]], reason: Term, stack: list[Term]) -> RemoteError:
    """An error with its stack. ``undef`` of the called function itself gets a text of its own."""
    if reason is Atom("undef") and stack and _is_frame_of(stack[0], mfa):
        return RemoteError(f"there is no function {_format_mfa(mfa)} on {peer.name}", reason, stack)
    lines = "".join(f"\n    {_format_frame(frame)}" for frame in stack)
    return RemoteError(f"{_format_mfa(mfa)} on {peer.name} failed: {_truncated(reason)}{lines}", reason, stack)


def _is_frame_of(frame: Term, mfa: tuple[Atom, Atom, list[Term]]) -> bool:
    """True if the stack frame is of the called function."""
    return isinstance(frame, tuple) and frame[:2] == mfa[:2]


def _format_frame(frame: Term) -> str:
    """Format a stack frame, for example ``lists:nth/2 (lists.erl, line 5)``."""
    match frame:
        case (Atom() as module, Atom() as function, int() as arity, info):
            text = f"{module}:{function}/{arity}"
        case (Atom() as module, Atom() as function, list() as arguments, info):
            text = f"{module}:{function}({_truncated(arguments)[1:-1]})"
        case _:
            return _truncated(frame)
    location = (
        dict(pair for pair in info if isinstance(pair, tuple) and len(pair) == 2) if isinstance(info, list) else {}
    )
    file, line = location.get(Atom("file")), location.get(Atom("line"))
    if isinstance(file, list) and all(isinstance(character, int) for character in file):
        text += f" ({''.join(map(chr, file))}, line {line})"
    return text


def _format_mfa(mfa: tuple[Atom, Atom, list[Term]]) -> str:
    """``module:function/arity``."""
    module, function, arguments = mfa
    return f"{module}:{function}/{len(arguments)}"


def _truncated(term: Term) -> str:
    """Format ``term`` in at most ``MAX_REASON_LENGTH`` characters."""
    text = format_erlang(term)
    return text if len(text) <= MAX_REASON_LENGTH else f"{text[:MAX_REASON_LENGTH]}…"
