"""gen_server for the services: ``sys`` messages, and calls to several servers at once.

Source: sys.erl (``handle_system_msg``) and ``multi_call/4`` in gen_server.erl.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from erlmesh.core import gen
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from erlmesh.runtime.process import LocalProcess

__all__ = ["BADARG", "ERROR", "OK", "call_each", "handle_system_msg", "multi_call"]

D = TypeVar("D", Pid, tuple[Atom, Atom])
N = TypeVar("N", str, Atom)

OK: Final = Atom("ok")
TIMEOUT: Final = Atom("timeout")
ERROR: Final = Atom("error")
RUNNING: Final = Atom("running")
BADARG: Final = (ERROR, Atom("badarg"))
"""The reply to an unknown call. OTP's servers crash; a reply is more useful for the caller."""


def handle_system_msg(
    me: LocalProcess, caller: tuple[Pid, Term], request: Term, *, get_state: Callable[[], Term]
) -> None:
    """Answer ``{system, caller, request}``, which ``sys`` sends to a server; ``gen_server:stop`` uses it too
    (sys.erl).

    ``get_state`` returns the term to show. ``terminate`` stops the server ``me``. While the server is suspended,
    other messages wait.
    """
    match request:
        case (Atom("terminate"), reason):
            me.reply(caller, OK)
            me.stop(reason)
        case Atom("get_state"):
            me.reply(caller, (OK, get_state()))  # The form of OTP 26, which older releases accept too.
        case (Atom("debug"), (Atom("log"), Atom("get"))):
            me.reply(caller, (OK, []))  # There is no log. The reply proves that earlier messages are handled.
        case Atom("get_status"):
            me.reply(caller, _status(me, RUNNING, get_state))
        case Atom("suspend"):
            _suspend(me, get_state)
            me.reply(caller, OK)
        case Atom("resume"):
            me.reply(caller, OK)
        case _:
            me.reply(caller, (ERROR, (Atom("unknown_system_msg"), request)))


def _status(me: LocalProcess, sys_state: Atom, get_state: Callable[[], Term]) -> Term:
    """The reply to ``sys:get_status``."""
    shown = [(Atom("header"), f"Status for {me.label}"), (Atom("data"), [("State", get_state())])]
    return (Atom("status"), me.pid, (Atom("module"), Atom("gen_server")), [[], sys_state, me.pid, [], shown])


def _suspend(me: LocalProcess, get_state: Callable[[], Term]) -> None:
    """Replace the server's handler until ``resume``. The messages that waited are handled then, in order."""
    handler = me._handler
    queue: list[tuple[Term, Atom | None]] = []

    def suspended_handler(message: Term) -> None:
        match message:
            case (Atom("system"), (Pid(), _) as caller, Atom("resume")):
                me._handler = handler
                me.reply(caller, OK)
                me._ops.deliver_first(me, queue)
            case (Atom("system"), (Pid(), _) as caller, Atom("suspend")):
                me.reply(caller, OK)
            case (Atom("system"), (Pid(), _) as caller, Atom("get_status")):
                me.reply(caller, _status(me, Atom("suspended"), get_state))
            case (Atom("system"), (Pid(), _) as caller, request):
                handle_system_msg(me, caller, request, get_state=get_state)
            case _:
                queue.append((message, me._ops.message_peer))

    me._handler = suspended_handler


async def call_each(
    me: LocalProcess, targets: Iterable[D], request: Term, timeout: float | None = None
) -> tuple[dict[D, Term], dict[D, Term]]:
    """Make one call to each of ``targets`` (pids, or ``(name, node)``) at the same time, and wait for all replies.

    Return the replies, and the reasons of the targets that did not reply: the reason of their DOWN, or ``timeout``
    after ``timeout`` seconds.
    """
    waiting: dict[Ref, D] = {}
    replies: dict[D, Term] = {}
    missing: dict[D, Term] = {}

    def is_reply_or_down(message: Term) -> bool:
        match message:
            case (Ref() as ref, _) | (Atom("DOWN"), Ref() as ref, _, _, _):
                return ref in waiting
        return False

    deadline = None if timeout is None else me._ops.now() + timeout
    try:
        for target in targets:
            ref = me.monitor(target)
            waiting[ref] = target
            me.send(target, (gen.GEN_CALL, (me.pid, ref), request))
        while waiting:
            left = None if deadline is None else max(0.0, deadline - me._ops.now())
            match await me.receive(is_reply_or_down, timeout=left):
                case (Ref() as ref, reply):
                    me.demonitor(ref, flush=True)
                    replies[waiting.pop(ref)] = reply
                case (_, ref, _, _, reason):
                    missing[waiting.pop(ref)] = reason
    except TimeoutError:
        missing |= dict.fromkeys(waiting.values(), TIMEOUT)
    finally:  # After a timeout or a cancellation, later replies and DOWNs must not reach the mailbox.
        for ref in waiting:
            me.demonitor(ref, flush=True)
    return replies, missing


async def multi_call(me: LocalProcess, nodes: Iterable[N], name: Atom, request: Term) -> dict[N, Term]:
    """Call the server registered as ``name`` on each of ``nodes`` at the same time. Return the replies by node.

    A node without such a server is left out, and so is a node that is lost meanwhile. There is no time limit, as in
    ``gen_server:multi_call/4`` with ``infinity``.
    """
    targets = {(name, Atom(node)): node for node in nodes}
    replies, _ = await call_each(me, targets, request)
    return {targets[target]: reply for target, reply in replies.items()}
