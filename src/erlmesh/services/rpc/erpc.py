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

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh.errors import ErlangError, Exit, Throw
from erlmesh.etf import encode_term
from erlmesh.runtime.exceptions import ERROR, TermExit, to_erlang
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Apply", "run_call", "serve"]

log = logging.getLogger("erlmesh.erpc")

RETURN: Final = Atom("return")
BADARG: Final = Atom("badarg")

Apply: TypeAlias = "Callable[[LocalProcess, Atom, Atom, Sequence[Term], IsWanted | None], Awaitable[Term]]"
"""``await apply(me, module, function, arguments, is_wanted)`` runs the function in the process ``me`` and returns its
value. If the function waits for a thread, it is not called if ``is_wanted()`` is false then.

It raises ``Undef`` if there is no such function, and all that the function raises."""
IsWanted: TypeAlias = "Callable[[], bool]"


def serve(node: Runtime, apply: Apply) -> None:
    """Handle erpc calls on ``node``. ``apply`` decides which functions may be called."""

    async def execute_call(me: LocalProcess, result: Term, module: Term, function: Term, arguments: Term) -> None:
        # The caller monitors the process. It gives up when it demonitors, terminates, or loses the connection.
        is_wanted = partial(node.is_monitored, me.pid)
        kind, value, stack = await run_call(
            me, apply, module, function, arguments, is_wanted=is_wanted if is_wanted() else None
        )
        raise TermExit((result, kind, value, stack) if kind is ERROR else (result, kind, value))

    async def execute_cast(me: LocalProcess, module: Term, function: Term, arguments: Term) -> None:
        await run_call(me, apply, module, function, arguments)

    node.serve_spawn_request("erpc", "execute_call", 4, execute_call)
    node.serve_spawn_request("erpc", "execute_cast", 3, execute_cast)


async def run_call(
    me: LocalProcess,
    apply: Apply,
    module: Term,
    function: Term,
    arguments: Term,
    *,
    is_wanted: IsWanted | None = None,
) -> tuple[Atom, Term, list[Term]]:
    """Call a function. Return ``(kind, value or reason, stack)``, where kind is ``return``, ``throw``, ``exit`` or
    ``error``.

    All parts are terms that can be encoded: a value that cannot gives an ``error``. An exception that does not stand
    for an Erlang one is logged.
    """
    match (module, function, arguments):
        case Atom(), Atom(), list():
            pass
        case _:
            return ERROR, BADARG, [(Atom("erlang"), Atom("apply"), [module, function, arguments], [])]
    try:
        value = await apply(me, module, function, arguments, is_wanted)
        encode_term(value)  # Raises here rather than later, when the result is sent.
        return RETURN, value, []
    except (Exit, Throw, ErlangError) as raised:
        return _ensure_encodable(*to_erlang(raised))
    except (Exception, SystemExit) as error:  # sys.exit() ends the call, not the node
        log.exception("%s:%s/%d, called from another node, failed", module.name, function.name, len(arguments))
        return _ensure_encodable(*to_erlang(error))


def _ensure_encodable(kind: Atom, reason: Term, stack: list[Term]) -> tuple[Atom, Term, list[Term]]:
    """Replace a reason or stack that cannot be encoded by the encoding error."""
    try:
        encode_term((reason, stack))
    except Exception as error:
        kind, reason, stack = to_erlang(error)
    return kind, reason, stack
