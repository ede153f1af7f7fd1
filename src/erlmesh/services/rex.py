"""rex: the server behind OTP's ``rpc`` module, and where nodes ask each other what they can do.

Since OTP 23 calls come as spawn requests for ``erpc``, with rex as the way back for older nodes and for C nodes ::

    {Pid, features_request}              every node asks on nodeup; {features_reply, Node, [erpc]}
    call {call, M, F, Args, Leader}      the value, or {badrpc, {'EXIT', Reason}}; likewise block_call
    cast {cast, M, F, Args, Leader}      no answer
    {Pid, {call, M, F, Args, user}}      a C node's way to call: {rex, Value}
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh.errors import Exit, Undef
from erlmesh.kernel import gen
from erlmesh.services.gen_server import BADARG
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Apply", "Rex", "nothing_is_exposed"]

log = logging.getLogger("erlmesh.rex")

Apply: TypeAlias = Callable[[Atom, Atom, list[Term]], Term]
"""``apply(module, function, arguments)``: the function's value. Raises ``Undef`` when there is none to call, ``Exit``
to give the caller an exit reason; whatever else it raises is logged here and told to the caller by name only."""


class Word:
    FEATURES_REQUEST: Final = Atom("features_request")
    FEATURES_REPLY: Final = Atom("features_reply")
    ERPC: Final = Atom("erpc")
    REX: Final = Atom("rex")
    CALL: Final = Atom("call")
    BLOCK_CALL: Final = Atom("block_call")
    CAST: Final = Atom("cast")
    BADRPC: Final = Atom("badrpc")
    EXIT: Final = Atom("EXIT")
    UNDEF: Final = Atom("undef")


def nothing_is_exposed(module: Atom, function: Atom, arguments: list[Term]) -> Term:
    """The safe choice of ``apply``: there is no function to call."""
    raise Undef(module.name, function.name, len(arguments))


class Rex:
    """Registered as ``rex`` on ``node``; ``apply`` decides what may be called."""

    def __init__(self, node: Runtime, apply: Apply = nothing_is_exposed) -> None:
        self._features = (Word.FEATURES_REPLY, node.atom, [Word.ERPC])
        self._apply = apply
        self._me = node.spawn_server(self._receive, name=Word.REX)

    def _receive(self, message: Term) -> None:
        match message:
            case (Pid() as asker, Word.FEATURES_REQUEST):
                self._me.send(asker, self._features)
            case (
                gen.GEN_CALL,
                (Pid(), _) as caller,
                (Word.CALL | Word.BLOCK_CALL, Atom() as module, Atom() as function, list() as arguments, _),
            ):
                self._me.reply(caller, self._value(module, function, arguments))
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                log.debug("not understood: call %r", request)
                self._me.reply(caller, BADARG)
            case (gen.GEN_CAST, (Word.CAST, Atom() as module, Atom() as function, list() as arguments, _)):
                self._value(module, function, arguments)
            case (Pid() as caller, (Word.CALL, Atom() as module, Atom() as function, list() as arguments, _)):
                self._me.send(caller, (Word.REX, self._value(module, function, arguments)))
            case _:
                log.debug("ignored %r", message)

    def _value(self, module: Atom, function: Atom, arguments: list[Term]) -> Term:
        try:
            return self._apply(module, function, arguments)
        except Undef:
            return _badrpc((Word.UNDEF, [(module, function, arguments, [])]))
        except Exit as ended:
            return _badrpc(ended.reason)
        except Exception as error:
            log.exception("%s:%s/%d, called from another node, failed", module.name, function.name, len(arguments))
            return _badrpc((Atom("error"), type(error).__name__))


def _badrpc(reason: Term) -> Term:
    return (Word.BADRPC, (Word.EXIT, reason))
