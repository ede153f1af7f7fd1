"""What the end of a function call on another node means: its value, or an exception.

Source: ``call/5`` in erpc.erl and in rpc.erl.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from erlmesh.core.node_names import NodeTable
from erlmesh.errors import CalleeExited, CallError, NoConnection, NoProcess, RemoteError, RemoteExit, RemoteThrow
from erlmesh.terms import Atom, Ref, Term

__all__ = ["ERPC", "EXECUTE_CALL", "MFA", "Replies", "format_mfa", "value_of_exit", "value_of_rex_answer"]

ERPC: Final = Atom("erpc")
EXECUTE_CALL: Final = Atom("execute_call")

MFA: TypeAlias = tuple[Atom, Atom, list[Term]]


class Replies(NamedTuple):
    """The result of a multicall."""

    replies: NodeTable[Term]
    """The values by node name, for the nodes whose function returned."""
    missing: NodeTable[CallError]
    """The exceptions of the other nodes by node name: NoConnection, CallTimeout, RemoteError and others."""


def value_of_exit(
    peer: Atom, mfa: MFA, result: Ref, reason: Term, no_connection_error: Callable[[Atom], NoConnection]
) -> Term:
    """Return the value of ``erpc:execute_call`` with the reference ``result`` on ``peer``, or raise its exception.

    ``reason`` is the exit reason of its process.
    """
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
            raise CallError(f"{format_mfa(mfa)} on {peer.name}: {_text(error_reason)}")
        case Atom("noconnection"):
            raise no_connection_error(peer)
    # An exit reason without our reference: the process got an exit signal.
    raise CalleeExited(f"{format_mfa(mfa)} on {peer.name} was ended by a signal: {_text(reason)}", reason)


def value_of_rex_answer(peer: Atom, mfa: MFA, answer: Term) -> Term:
    """Return the value in an answer of rex, or raise its exception.

    The answer does not show whether a value was thrown or returned.
    """
    match answer:
        case (Atom("badrpc"), (Atom("EXIT"), (error_reason, list() as stack))) if stack and isinstance(stack[0], tuple):
            raise _remote_error(peer, mfa, error_reason, stack)
        case (Atom("badrpc"), (Atom("EXIT"), error_reason)):
            raise _remote_exit(peer, mfa, error_reason)
        case (Atom("badrpc"), error_reason):
            raise NoProcess(f"rpc to {peer.name} failed: {_text(error_reason)}")
    return answer


def _remote_throw(peer: Atom, mfa: MFA, value: Term) -> RemoteThrow:
    return RemoteThrow(f"{format_mfa(mfa)} on {peer.name} threw {_text(value)}", value)


def _remote_exit(peer: Atom, mfa: MFA, reason: Term) -> RemoteExit:
    return RemoteExit(f"{format_mfa(mfa)} on {peer.name} exited: {_text(reason)}", reason)


def _remote_error(peer: Atom, mfa: MFA, reason: Term, stack: list[Term]) -> RemoteError:
    """An error with its stack. ``undef`` of the called function itself gets a text of its own."""
    if reason is Atom("undef") and stack and _is_frame_of(stack[0], mfa):
        return RemoteError(f"there is no function {format_mfa(mfa)} on {peer.name}", reason, stack)
    from erlmesh.terms.exit_text import format_frame  # noqa: PLC0415 - for errors only

    lines = "".join(f"\n    {format_frame(frame)}" for frame in stack)
    return RemoteError(f"{format_mfa(mfa)} on {peer.name} failed: {_text(reason)}{lines}", reason, stack)


def _is_frame_of(frame: Term, mfa: MFA) -> bool:
    """True if the stack frame is of the called function."""
    return isinstance(frame, tuple) and frame[:2] == mfa[:2]


def format_mfa(mfa: MFA) -> str:
    """``module:function/arity``."""
    module, function, arguments = mfa
    return f"{module}:{function}/{len(arguments)}"


def _text(reason: Term) -> str:
    from erlmesh.terms.exit_text import format_reason  # noqa: PLC0415 - for errors only

    return format_reason(reason)
