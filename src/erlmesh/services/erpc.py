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
from typing import TYPE_CHECKING, Final

from erlmesh.errors import Exit, Undef
from erlmesh.terms import Atom, Ref, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.rex import Apply

__all__ = ["serve"]

log = logging.getLogger("erlmesh.erpc")

RETURN: Final = Atom("return")
EXIT: Final = Atom("exit")
ERROR: Final = Atom("error")
UNDEF: Final = Atom("undef")
BADARG: Final = Atom("badarg")
NORMAL: Final = Atom("normal")


def serve(node: Runtime, apply: Apply) -> None:
    """Answer erpc on ``node``; ``apply`` decides what may be called."""

    def execute_call(arguments: list[Term]) -> Term:
        match arguments:
            case [Ref() as result, Atom() as module, Atom() as function, list() as values]:
                return _outcome(result, apply, module, function, values)
        return BADARG

    def execute_cast(arguments: list[Term]) -> Term:
        match arguments:
            case [Atom() as module, Atom() as function, list() as values]:
                _outcome(None, apply, module, function, values)
        return NORMAL

    node.spawn_answers("erpc", "execute_call", 4, execute_call)
    node.spawn_answers("erpc", "execute_cast", 3, execute_cast)


def _outcome(result: Ref | None, apply: Apply, module: Atom, function: Atom, values: list[Term]) -> Term:
    try:
        return (result, RETURN, apply(module, function, values))
    except Undef:
        return (result, ERROR, UNDEF, [(module, function, values, [])])
    except Exit as ended:
        return (result, EXIT, ended.reason)
    except Exception as error:
        log.exception("%s:%s/%d, called from another node, failed", module.name, function.name, len(values))
        return (result, ERROR, (Atom(type(error).__name__[:255]), str(error)), [])
