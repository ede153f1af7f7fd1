"""The errors of the modules of OTP and Elixir in the shell. They print on one line, with the words that iex has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from erlmesh.errors import (
    CalleeExited,
    CallError,
    CallTimeout,
    ErlmeshError,
    NoConnection,
    NoProcess,
    RemoteError,
    RemoteExit,
    RemoteThrow,
)
from erlmesh.formatting import format_elixir
from erlmesh.terms import Atom, Term

__all__ = ["ShellError", "erpc_error", "gen_server_error", "milliseconds"]


class ShellError(ErlmeshError):
    """An error that prints as ``** (kind) text``."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def milliseconds(timeout: Any) -> float | None:
    """Return the seconds of a timeout as Elixir has it: a number of milliseconds, or :infinity."""
    if timeout is Atom("infinity"):
        return None
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or timeout < 0:
        raise ValueError(f"a timeout is a number of milliseconds or :infinity, not {format_elixir(timeout)}")
    return timeout / 1000


def gen_server_error(error: CallError, call: Callable[[], str]) -> ShellError:
    """Return the exit of ``GenServer.call``. ``call()`` is the call as it was typed."""
    match error:
        case NoProcess():
            reason = "no process: it is not alive, or no process has that name"
        case NoConnection():
            reason = str(error)
        case CallTimeout():
            reason = "time out"
        case CalleeExited():
            reason = format_elixir(error.reason)
        case _:
            reason = str(error)
    return ShellError("exit", f"exited in: {call()}: {reason}")


def erpc_error(error: CallError, node: str, function: str) -> ShellError:
    """Return the error of ``:erpc.call``. ``function`` is what was called."""
    match error:
        case RemoteThrow():
            return ShellError("throw", format_elixir(error.value))
        case RemoteExit():
            return ShellError("exit", format_elixir((Atom("exception"), error.reason)))
        case RemoteError(reason=Atom("undef")):
            text = format_elixir((Atom("exception"), error.reason, error.stack))
            return ShellError("ErlangError", f"{text}: {node} has no function {function}, or does not expose it")
        case RemoteError():
            return ShellError("ErlangError", format_elixir((Atom("exception"), error.reason, error.stack)))
        case NoConnection():
            return ShellError("ErlangError", f"{_erpc('noconnection')}: {error}")
        case CallTimeout():
            return ShellError("ErlangError", f"{_erpc('timeout')}: {error}")
        case CalleeExited():
            return ShellError("exit", format_elixir((Atom("signal"), error.reason)))
    return ShellError("ErlangError", str(error))


def _erpc(reason: str) -> str:
    term: Term = (Atom("erpc"), Atom(reason))
    return format_elixir(term)
