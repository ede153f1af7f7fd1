"""erpc: how OTP 23 and later call a function here. There is no server: the caller's node asks us to spawn a process for
``erpc:execute_call(ResultRef, Module, Function, Arguments)`` and to watch it, and the exit reason is the answer ::

    {ResultRef, return, Value}
    {ResultRef, throw, Value}
    {ResultRef, exit, Reason}
    {ResultRef, error, Reason, Stack}

``erpc:execute_cast(Module, Function, Arguments)`` has no answer. (erpc.erl)
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh.errors import ErlangError, Exit, Throw
from erlmesh.etf import encode_term
from erlmesh.runtime.exceptions import ERROR, TermExit, to_erlang
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.runtime.process import Process
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Apply", "run_call", "serve"]

log = logging.getLogger("erlmesh.erpc")

RETURN: Final = Atom("return")
BADARG: Final = Atom("badarg")

Apply: TypeAlias = "Callable[[Process, Atom, Atom, Sequence[Term]], Awaitable[Term]]"
"""``await apply(me, module, function, arguments)``: the function's value, computed in the process ``me``. Raises
``Undef`` when there is none to call, and whatever the function raises."""


def serve(node: Runtime, apply: Apply) -> None:
    """Answer erpc on ``node``; ``apply`` decides what may be called."""

    async def execute_call(me: Process, result: Term, module: Term, function: Term, arguments: Term) -> None:
        kind, value, stack = await run_call(me, apply, module, function, arguments)
        raise TermExit((result, kind, value, stack) if kind is ERROR else (result, kind, value))

    async def execute_cast(me: Process, module: Term, function: Term, arguments: Term) -> None:
        await run_call(me, apply, module, function, arguments)

    node._serve_spawn_request("erpc", "execute_call", 4, execute_call)
    node._serve_spawn_request("erpc", "execute_cast", 3, execute_cast)


async def run_call(
    me: Process, apply: Apply, module: Term, function: Term, arguments: Term
) -> tuple[Atom, Term, list[Term]]:
    """``(return | throw | exit | error, value or reason, stack)`` of a call; terms for sure. Faults are logged."""
    match (module, function, arguments):
        case Atom(), Atom(), list():
            pass
        case _:
            return ERROR, BADARG, [(Atom("erlang"), Atom("apply"), [module, function, arguments], [])]
    try:
        value = await apply(me, module, function, arguments)
        encode_term(value)
        return RETURN, value, []
    except (Exit, Throw, ErlangError) as meant:
        return _ensure_encodable(*to_erlang(meant))
    except Exception as fault:
        log.exception("%s:%s/%d, called from another node, failed", module.name, function.name, len(arguments))
        return _ensure_encodable(*to_erlang(fault))


def _ensure_encodable(kind: Atom, reason: Term, stack: list[Term]) -> tuple[Atom, Term, list[Term]]:
    try:
        encode_term((reason, stack))
    except Exception as fault:
        kind, reason, stack = to_erlang(fault)
    return kind, reason, stack
