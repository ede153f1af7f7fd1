"""gen_server's words for services, and the call that asks several nodes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from erlmesh.core import gen
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from erlmesh.runtime.process import Process

__all__ = ["BADARG", "ERROR", "OK", "call_each", "handle_system_msg", "multi_call"]

D = TypeVar("D", Pid, tuple[Atom, Atom])
N = TypeVar("N", str, Atom)

OK: Final = Atom("ok")
TIMEOUT: Final = Atom("timeout")
ERROR: Final = Atom("error")
RUNNING: Final = Atom("running")
BADARG: Final = (ERROR, Atom("badarg"))
"""The answer to a call that is not understood. OTP's servers would end; a caller is better off with an answer."""


def handle_system_msg(me: Process, caller: tuple[Pid, Term], request: Term, *, get_state: Callable[[], Term]) -> None:
    """Answers ``{system, caller, request}``, which OTP's ``sys`` asks any server, and ``gen_server:stop`` by it
    (sys.erl).

    ``state`` gives what there is to show. ``terminate`` ends the server ``me``; while it is suspended messages wait.
    """
    match request:
        case (Atom("terminate"), reason):
            me.reply(caller, OK)
            me.stop(reason)
        case Atom("get_state"):
            me.reply(caller, (OK, get_state()))  # as OTP 26 and later: older ones take any answer, those no other
        case (Atom("debug"), (Atom("log"), Atom("get"))):
            me.reply(caller, (OK, []))  # there is no log: but all that came before has been dealt with
        case Atom("get_status"):
            me.reply(caller, _status(me, RUNNING, get_state))
        case Atom("suspend"):
            _suspend(me, get_state)
            me.reply(caller, OK)
        case Atom("resume"):
            me.reply(caller, OK)
        case _:
            me.reply(caller, (ERROR, (Atom("unknown_system_msg"), request)))


def _status(me: Process, sys_state: Atom, get_state: Callable[[], Term]) -> Term:
    shown = [(Atom("header"), f"Status for {me.label}"), (Atom("data"), [("State", get_state())])]
    return (Atom("status"), me.pid, (Atom("module"), Atom("gen_server")), [[], sys_state, me.pid, [], shown])


def _suspend(me: Process, get_state: Callable[[], Term]) -> None:
    """Puts another function in the place of the server's until ``resume``, when all that has waited is dealt with."""
    awake = me._handler
    waiting: list[Term] = []

    def asleep(message: Term) -> None:
        match message:
            case (Atom("system"), (Pid(), _) as caller, Atom("resume")):
                me._handler = awake
                me.reply(caller, OK)
                for each in waiting:
                    if me._handler is not None:
                        me._handler(each)
            case (Atom("system"), (Pid(), _) as caller, Atom("suspend")):
                me.reply(caller, OK)
            case (Atom("system"), (Pid(), _) as caller, Atom("get_status")):
                me.reply(caller, _status(me, Atom("suspended"), get_state))
            case (Atom("system"), (Pid(), _) as caller, request):
                handle_system_msg(me, caller, request, get_state=get_state)
            case _:
                waiting.append(message)

    me._handler = asleep


async def call_each(
    me: Process, targets: Iterable[D], request: Term, timeout: float | None = None
) -> tuple[dict[D, Term], dict[D, Term]]:
    """Makes one call to each of ``targets`` (pids, or ``(name, node)``) at once; waits until each has answered or is
    gone, at most ``timeout`` seconds.

    Returns the answers, and the reasons of those who gave none: that of their DOWN, or ``timeout``.
    """
    waiting: dict[Ref, D] = {}
    answers: dict[D, Term] = {}
    missing: dict[D, Term] = {}

    def concerns_us(message: Term) -> bool:
        match message:
            case (Ref() as ref, _) | (Atom("DOWN"), Ref() as ref, _, _, _):
                return ref in waiting
        return False

    deadline = None if timeout is None else me.node._now() + timeout
    try:
        for target in targets:
            ref = me.monitor(target)
            waiting[ref] = target
            me.send(target, (gen.GEN_CALL, (me.pid, ref), request))
        while waiting:
            left = None if deadline is None else max(0.0, deadline - me.node._now())
            match await me.receive(concerns_us, timeout=left):
                case (Ref() as ref, answer):
                    me.demonitor(ref, flush=True)
                    answers[waiting.pop(ref)] = answer
                case (_, ref, _, _, reason):
                    missing[waiting.pop(ref)] = reason
    except TimeoutError:
        missing |= dict.fromkeys(waiting.values(), TIMEOUT)
    finally:  # whoever gives up waiting is not told of the rest
        for ref in waiting:
            me.demonitor(ref, flush=True)
    return answers, missing


async def multi_call(me: Process, nodes: Iterable[N], name: Atom, request: Term) -> dict[N, Term]:
    """Ask the server registered as ``name`` on each of ``nodes`` at once; wait until each has answered or is gone.

    Returns the answers by node; a node without such a server, or lost meanwhile, is left out. There is no time limit:
    the caller ends with the last connection (gen_server:multi_call/3 with ``infinity``).
    """
    targets = {(name, Atom(node)): node for node in nodes}
    answers, _ = await call_each(me, targets, request)
    return {targets[target]: answer for target, answer in answers.items()}
