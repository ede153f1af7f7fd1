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
from erlmesh.services.gen_server import BADARG
from erlmesh.services.rpc.erpc import Apply, run_call
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.runtime.process import Process
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Rex"]

log = logging.getLogger("erlmesh.rex")


class Tag:
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
        self._features = (Tag.FEATURES_REPLY, node.atom, [Tag.ERPC])
        self._apply = apply
        self._start()

    def _start(self) -> None:
        self._process = self._node.spawn_handler(self._handle_message, name=Tag.REX, on_end=self._start)
        self._pending_replies: dict[Ref, Callable[[Term], None]] = {}  # who waited for one before has heard of its end

    def _handle_message(self, message: Term) -> None:
        match message:
            case (Pid() as asker, Tag.FEATURES_REQUEST):
                self._process.send(asker, self._features)
            case (gen.GEN_CALL, (Pid(), _) as asker, (Tag.CALL | Tag.BLOCK_CALL, *call)) if len(call) == 4:
                self._start_call(call, lambda answer: self._process.reply(asker, answer))
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                log.debug("not understood: call %r", request)
                self._process.reply(caller, BADARG)
            case (gen.GEN_CAST, (Tag.CAST, *call)) if len(call) == 4:
                self._start_call(call, lambda _: None)
            case (Pid() as caller, (Tag.CALL, *call)) if len(call) == 4:
                self._start_call(call, lambda answer: self._process.send(caller, (Tag.REX, answer)))
            case (Pid() as speaker, (Tag.SBCAST, Atom() as name, what)):
                self._process.send(speaker, (Tag.REX, self._node.atom, self._sbcast(name, what)))
            case (Atom("DOWN"), Ref() as ref, _, _, reason):
                if (reply := self._pending_replies.pop(ref, None)) is not None:
                    reply(_badrpc(reason))  # it was killed
            case _:
                log.debug("ignored %r", message)

    def _sbcast(self, name: Atom, message: Term) -> Term:
        pid = self._node.whereis(name)
        if pid is None:
            return (Tag.NONEXISTING_NAME, name)
        self._process.send(pid, message)
        return self._node.atom

    def _start_call(self, call: list[Term], reply: Callable[[Term], None]) -> None:
        *what, leader = call

        async def answer(me: Process) -> None:
            me.group_leader = leader if isinstance(leader, Pid) else None
            value = await self._run_call(me, *what)
            if self._pending_replies.pop(ref, None) is not None:
                reply(value)

        ref = self._process.monitor(self._node.spawn(answer))
        self._pending_replies[ref] = reply

    async def _run_call(self, me: Process, module: Term, function: Term, arguments: Term) -> Term:
        kind, value, stack = await run_call(me, self._apply, module, function, arguments)
        if kind is EXIT:
            return _badrpc(value)
        if kind is ERROR:
            return _badrpc((value, stack))
        return _badrpc(value[1]) if kind is THROW and _is_exit_tuple(value) else value


def _is_exit_tuple(value: Term) -> bool:
    """A caught exit in old Erlang's clothes is taken for one, as rpc does."""
    return isinstance(value, tuple) and len(value) == 2 and value[0] is Tag.EXIT


def _badrpc(reason: Term) -> Term:
    return (Tag.BADRPC, (Tag.EXIT, reason))
