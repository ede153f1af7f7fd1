"""Calling functions of other nodes, by erpc: we have a process started there that runs the function, and are told how
it ended. Nodes that cannot start processes for others (before OTP 23) are asked by way of their ``rex``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

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
from erlmesh.formatting import format_erlang
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Replies", "call", "cast", "multicall"]

ERPC: Final = Atom("erpc")
REX: Final = Atom("rex")
MAX_REASON_LENGTH: Final = 500
"""Characters of a reason that go into an exception's text."""


class Replies(NamedTuple):
    """What :func:`multicall` brought."""

    replies: dict[str, Term]
    """The values by node, for each node whose function returned."""
    missing: dict[str, CallError]
    """Why there is none: NoConnection, CallTimeout, or what the function did instead."""


async def call(
    node: Runtime,
    peer: Atom | str,
    module: Atom | str,
    function: Atom | str,
    arguments: Sequence[Term] = (),
    *,
    timeout: float | None = 5.0,
) -> Term:
    """See :meth:`erlmesh.Node.rpc`."""
    target, what = Atom(peer), (Atom(module), Atom(function), list(arguments))
    try:
        async with asyncio.timeout(timeout):
            if target is not node.atom and not await node.connect(target):
                raise _no_connection_error(node, target)
            if node._supports_spawn_request(target):
                return await _call_by_erpc(node, target, what)
            return await _call_by_rex(node, target, what)
    except TimeoutError as late:
        if isinstance(late, CallTimeout):
            raise
        raise CallTimeout(f"no answer from {_format_mfa(what)} on {target.name} within {timeout:g} s") from None


def cast(
    node: Runtime, peer: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
) -> None:
    """See :meth:`erlmesh.Node.rpc_cast`."""
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
    """See :meth:`erlmesh.Node.multicall`."""
    names = list(dict.fromkeys(Atom(name).name for name in nodes))

    async def one(name: str) -> Term | CallError:
        try:
            return await call(node, name, module, function, arguments, timeout=timeout)
        except CallError as why:
            return why

    outcomes = dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))
    return Replies(
        {name: value for name, value in outcomes.items() if not isinstance(value, CallError)},
        {name: why for name, why in outcomes.items() if isinstance(why, CallError)},
    )


async def _call_by_erpc(node: Runtime, peer: Atom, mfa: tuple[Atom, Atom, list[Term]]) -> Term:
    result = node._make_ref()
    reason = await node.spawn_and_wait(peer, ERPC, Atom("execute_call"), [result, *mfa])
    match reason:
        case (ref, Atom("return"), value) if ref == result:
            return value
        case (ref, Atom("throw"), value) if ref == result:
            raise _remote_throw(peer, mfa, value)
        case (ref, Atom("exit"), why) if ref == result:
            raise _remote_exit(peer, mfa, why)
        case (ref, Atom("error"), why, list() as stack) if ref == result:
            raise _remote_error(peer, mfa, why, stack)
        case (ref, Atom("error"), (Atom("erpc"), why)) if ref == result:
            raise CallError(f"{_format_mfa(mfa)} on {peer.name}: {_truncated(why)}")
        case Atom("noconnection"):
            raise _no_connection_error(node, peer)
    raise CalleeExited(f"{_format_mfa(mfa)} on {peer.name} was ended by a signal: {_truncated(reason)}", reason)


async def _call_by_rex(node: Runtime, peer: Atom, mfa: tuple[Atom, Atom, list[Term]]) -> Term:
    answer = await node.call((REX, peer), (Atom("call"), *mfa, node.group_leader), timeout=None)
    match answer:
        case (Atom("badrpc"), (Atom("EXIT"), (why, list() as stack))) if stack and isinstance(stack[0], tuple):
            raise _remote_error(peer, mfa, why, stack)
        case (Atom("badrpc"), (Atom("EXIT"), why)):
            raise _remote_exit(peer, mfa, why)
        case (Atom("badrpc"), why):
            raise NoProcess(f"{peer.name} cannot be asked: {_truncated(why)}")
    return answer


def _no_connection_error(node: Runtime, peer: Atom) -> NoConnection:
    why_not = node.last_connect_error(peer)
    return NoConnection(f"no connection to {peer.name}" + (f": {why_not}" if why_not else ""))


def _remote_throw(peer: Atom, mfa: tuple[Atom, Atom, list[Term]], value: Term) -> RemoteThrow:
    return RemoteThrow(f"{_format_mfa(mfa)} on {peer.name} threw {_truncated(value)}", value)


def _remote_exit(peer: Atom, mfa: tuple[Atom, Atom, list[Term]], reason: Term) -> RemoteExit:
    return RemoteExit(f"{_format_mfa(mfa)} on {peer.name} exited: {_truncated(reason)}", reason)


def _remote_error(peer: Atom, mfa: tuple[Atom, Atom, list[Term]], reason: Term, stack: list[Term]) -> RemoteError:
    if reason is Atom("undef") and stack and _is_frame_of(stack[0], mfa):
        return RemoteError(f"there is no function {_format_mfa(mfa)} on {peer.name}", reason, stack)
    lines = "".join(f"\n    {_format_frame(frame)}" for frame in stack)
    return RemoteError(f"{_format_mfa(mfa)} on {peer.name} failed: {_truncated(reason)}{lines}", reason, stack)


def _is_frame_of(frame: Term, mfa: tuple[Atom, Atom, list[Term]]) -> bool:
    return isinstance(frame, tuple) and frame[:2] == mfa[:2]


def _format_frame(frame: Term) -> str:
    """``lists:nth/2 (lists.erl, line 5)``"""
    match frame:
        case (Atom() as module, Atom() as function, int() as arity, info):
            text = f"{module}:{function}/{arity}"
        case (Atom() as module, Atom() as function, list() as arguments, info):
            text = f"{module}:{function}({_truncated(arguments)[1:-1]})"
        case _:
            return _truncated(frame)
    place = dict(pair for pair in info if isinstance(pair, tuple) and len(pair) == 2) if isinstance(info, list) else {}
    file, line = place.get(Atom("file")), place.get(Atom("line"))
    if isinstance(file, list) and all(isinstance(character, int) for character in file):
        text += f" ({''.join(map(chr, file))}, line {line})"
    return text


def _format_mfa(mfa: tuple[Atom, Atom, list[Term]]) -> str:
    module, function, arguments = mfa
    return f"{module}:{function}/{len(arguments)}"


def _truncated(term: Term) -> str:
    text = format_erlang(term)
    return text if len(text) <= MAX_REASON_LENGTH else f"{text[:MAX_REASON_LENGTH]}…"
