"""rex: the server behind OTP's ``rpc`` module. Peers also ask it which features this node has.

Since OTP 23, nodes make calls with erpc. Older nodes and C nodes use rex::

    {Pid, features_request}              sent by every node on nodeup; reply {features_reply, Node, [erpc]}
    call {call, M, F, Args, Leader}      reply: the value, or {badrpc, {'EXIT', Reason}}
    call {block_call, M, F, Args, Leader}  the same
    cast {cast, M, F, Args, Leader}      no reply
    {Pid, {call, M, F, Args, user}}      a call from a C node; reply {rex, Value}
    {Pid, {sbcast, Name, Message}}       forward to Name; reply {rex, Node, Node}, or
                                         {rex, Node, {nonexisting_name, Name}}

Each call runs in a process of its own, as with erpc, so calls and casts of one caller may overlap. OTP's rex runs a
block_call itself and handles no other message meanwhile. This is not done here, because no caller needs it.

Source: ``handle_call/3``, ``handle_cast/2`` and ``handle_info/2`` in rpc.erl.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Final

from erlmesh.core import gen
from erlmesh.net.event_log import event_log
from erlmesh.runtime.exceptions import ERROR, EXIT, THROW
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.runtime.process_types import StopMode
from erlmesh.services.gen_server import BADARG
from erlmesh.services.rpc.erpc import Apply, function_name, is_mfa, outcome_of_kind, run_call
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Rex"]

log = event_log("erlmesh.rex")
_peer_log = PeerLog(log)

NODEDOWN: Final = (Atom("badrpc"), Atom("nodedown"))
"""What ``rpc:call`` returns for a node that is not connected."""


class Tag:
    """The atoms of the protocol."""

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
    """The server registered as ``rex`` on ``node``. ``apply`` decides which functions may be called."""

    def __init__(self, node: Runtime, apply: Apply) -> None:
        self._node = node
        self._features = (Tag.FEATURES_REPLY, node.atom, [Tag.ERPC])
        self._apply = apply
        self.refusing = False
        """True while the node stops: calls are answered as by a node that is not connected."""
        self._start()

    def _start(self) -> None:
        """Start the server. After its exit this starts it again."""
        self._process = self._node.spawn_handler(self._handle_message, name=Tag.REX, restart=self._start)
        # Maps the monitor of the process that runs a call to the function that sends the reply. It starts empty: when a
        # server terminates, its callers get a DOWN message.
        self._pending_replies: dict[Ref, Callable[[Term], object]] = {}

    def _handle_message(self, message: Term) -> None:
        match message:
            # The answer goes to the pid, and the call runs for its node. So the pid must be of the node that asks.
            case (gen.GEN_CALL, (Pid() as sender, _), _) | (Pid() as sender, _) if not self._node.is_message_from(
                sender.node
            ):
                pass
            case (Pid() as sender, Tag.FEATURES_REQUEST):
                self._process.send(sender, self._features)
            case (gen.GEN_CALL, (Pid(), _) as caller, (Tag.CALL | Tag.BLOCK_CALL, *call)) if len(call) == 4:
                self._start_call(call, lambda answer: self._process.reply(caller, answer))
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                _peer_log.debug("request_ignored", "unknown call %s", ForeignText(request))
                self._process.reply(caller, BADARG)
            case (gen.GEN_CAST, (Tag.CAST, *call)) if len(call) == 4:
                self._start_call(call, lambda _: None)
            case (Pid() as sender, (Tag.CALL, *call)) if len(call) == 4:
                self._start_call(call, lambda answer: self._process.send(sender, (Tag.REX, answer)))
            case (Pid() as sender, (Tag.SBCAST, Atom() as name, content)):
                self._process.send(sender, (Tag.REX, self._node.atom, self._sbcast(name, content)))
            case (Atom("DOWN"), Ref() as ref, _, _, reason) if self._node.is_message_local():
                if (reply := self._pending_replies.pop(ref, None)) is not None:
                    reply(_badrpc(reason))  # An exit signal terminated the process before it replied.
            case _:
                _peer_log.debug("message_ignored", "ignored %s", ForeignText(message))

    def _sbcast(self, name: Atom, message: Term) -> Term:
        """Send to a registered process. Return the third element of the reply."""
        pid = self._node.whereis(name)
        if pid is None:
            return (Tag.NONEXISTING_NAME, name)
        self._process.send(pid, message)
        return self._node.atom

    def _start_call(self, call: list[Term], reply: Callable[[Term], object]) -> None:
        """Run the call in a process and monitor it. ``reply`` is called once, with the result or the exit reason."""
        *mfa, leader = call
        if self.refusing:
            reply(NODEDOWN)
            return

        async def answer(me: LocalProcess) -> None:
            me._stop_mode = StopMode.FINISHES
            me.group_leader = leader if isinstance(leader, Pid) else None
            value = await self._run_call(me, *mfa)
            # None after a restart of the server: then the caller already got a DOWN message of the old server.
            if self._pending_replies.pop(ref, None) is not None:
                reply(value)

        ref = self._process.monitor(self._node.spawn(answer))
        self._pending_replies[ref] = reply

    async def _run_call(self, me: LocalProcess, module: Term, function: Term, arguments: Term) -> Term:
        """Run the call and return the reply. rpc returns a thrown value as if the function had returned it."""
        tracer, span = self._node.state.counters.tracer, None
        if tracer is not None and is_mfa((module, function, arguments)):
            span = tracer.start_function("rpc", function_name((module, function, arguments)), me.group_leader)
        timer = self._node.state.counters.durations
        started = 0.0 if timer is None else perf_counter()
        kind, value, stack = await run_call(me, self._apply, module, function, arguments)
        if tracer is not None and span is not None:
            tracer.end_function(span, kind.name)
        if timer is not None:
            timer.served("rpc", started, outcome_of_kind(kind))
        if kind is EXIT:
            return _badrpc(value)
        if kind is ERROR:
            return _badrpc((value, stack))
        return _badrpc(value[1]) if kind is THROW and _is_exit_tuple(value) else value


def _is_exit_tuple(value: Term) -> bool:
    """True for ``{'EXIT', _}``. A thrown value of this form becomes badrpc; the caller's rpc treats a returned one."""
    return isinstance(value, tuple) and len(value) == 2 and value[0] is Tag.EXIT


def _badrpc(reason: Term) -> Term:
    """``{badrpc, {'EXIT', Reason}}``."""
    return (Tag.BADRPC, (Tag.EXIT, reason))
