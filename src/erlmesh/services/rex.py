"""rex: the server behind OTP's ``rpc`` module, and where nodes ask each other what they can do.

Since OTP 23 calls come as spawn requests for ``erpc``, with rex as the way back for older nodes and for C nodes ::

    {Pid, features_request}              every node asks on nodeup; {features_reply, Node, [erpc]}
    call {call, M, F, Args, Leader}      the value, or {badrpc, {'EXIT', Reason}}; likewise block_call
    cast {cast, M, F, Args, Leader}      no answer
    {Pid, {call, M, F, Args, user}}      a C node's way to call: {rex, Value}
    {Pid, {sbcast, Name, Message}}       pass it on, and say {rex, Node, Node}, or {nonexisting_name, Name} last

Each call runs in a process of its own. (OTP's rex runs a block_call itself and is deaf meanwhile; that helps nobody.)
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmesh.core import gen
from erlmesh.runtime.exceptions import ERROR, EXIT, THROW
from erlmesh.services.erpc import Apply, outcome
from erlmesh.services.gen_server import BADARG
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.runtime.process import Process
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Rex"]

log = logging.getLogger("erlmesh.rex")


class Word:
    FEATURES_REQUEST: Final = Atom("features_request")
    FEATURES_REPLY: Final = Atom("features_reply")
    ERPC: Final = Atom("erpc")
    REX: Final = Atom("rex")
    CALL: Final = Atom("call")
    BLOCK_CALL: Final = Atom("block_call")
    CAST: Final = Atom("cast")
    SBCAST: Final = Atom("sbcast")
    NONEXISTING_NAME: Final = Atom("nonexisting_name")
    BADRPC: Final = Atom("badrpc")
    EXIT: Final = Atom("EXIT")


class Rex:
    """Registered as ``rex`` on ``node``; ``apply`` decides what may be called."""

    def __init__(self, node: Runtime, apply: Apply) -> None:
        self._node = node
        self._features = (Word.FEATURES_REPLY, node.atom, [Word.ERPC])
        self._apply = apply
        self._start()

    def _start(self) -> None:
        self._me = self._node.spawn_handler(self._receive, name=Word.REX, on_end=self._start)
        self._waiting: dict[Ref, Callable[[Term], None]] = {}  # who waited for one before has heard of its end

    def _receive(self, message: Term) -> None:
        match message:
            case (Pid() as asker, Word.FEATURES_REQUEST):
                self._me.send(asker, self._features)
            case (gen.GEN_CALL, (Pid(), _) as asker, (Word.CALL | Word.BLOCK_CALL, *call)) if len(call) == 4:
                self._call(call, lambda answer: self._me.reply(asker, answer))
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                log.debug("not understood: call %r", request)
                self._me.reply(caller, BADARG)
            case (gen.GEN_CAST, (Word.CAST, *call)) if len(call) == 4:
                self._call(call, lambda _: None)
            case (Pid() as caller, (Word.CALL, *call)) if len(call) == 4:
                self._call(call, lambda answer: self._me.send(caller, (Word.REX, answer)))
            case (Pid() as speaker, (Word.SBCAST, Atom() as name, what)):
                self._me.send(speaker, (Word.REX, self._node.atom, self._pass_on(name, what)))
            case (Atom("DOWN"), Ref() as ref, _, _, reason):
                if (reply := self._waiting.pop(ref, None)) is not None:
                    reply(_badrpc(reason))  # it was killed
            case _:
                log.debug("ignored %r", message)

    def _pass_on(self, name: Atom, message: Term) -> Term:
        pid = self._node.whereis(name)
        if pid is None:
            return (Word.NONEXISTING_NAME, name)
        self._me.send(pid, message)
        return self._node.atom

    def _call(self, call: list[Term], reply: Callable[[Term], None]) -> None:
        *what, leader = call

        async def answer(me: Process) -> None:
            me.group_leader = leader if isinstance(leader, Pid) else None
            value = await self._value(me, *what)
            if self._waiting.pop(ref, None) is not None:
                reply(value)

        ref = self._me.monitor(self._node.spawn(answer))
        self._waiting[ref] = reply

    async def _value(self, me: Process, module: Term, function: Term, arguments: Term) -> Term:
        kind, value, stack = await outcome(me, self._apply, module, function, arguments)
        if kind is EXIT:
            return _badrpc(value)
        if kind is ERROR:
            return _badrpc((value, stack))
        return _badrpc(value[1]) if kind is THROW and _is_exit(value) else value


def _is_exit(value: Term) -> bool:
    """A caught exit in old Erlang's clothes is taken for one, as rpc does."""
    return isinstance(value, tuple) and len(value) == 2 and value[0] is Word.EXIT


def _badrpc(reason: Term) -> Term:
    return (Word.BADRPC, (Word.EXIT, reason))
