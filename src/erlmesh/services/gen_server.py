"""gen_server's words for services, and the call that asks several nodes at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from erlmesh.kernel import gen
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from collections.abc import Iterable

    from erlmesh.runtime.process import Process

__all__ = ["BADARG", "ERROR", "OK", "answer_system", "multi_call"]

N = TypeVar("N", str, Atom)

OK: Final = Atom("ok")
ERROR: Final = Atom("error")
BADARG: Final = (ERROR, Atom("badarg"))
"""The answer to a call that is not understood. OTP's servers would end; a caller is better off with an answer."""


def answer_system(me: Process, caller: tuple[Pid, Term], request: Term, *, state: Term) -> None:
    """Answers ``{system, caller, request}``, which OTP's ``sys`` asks any server, and ``gen_server:stop`` by it
    (sys.erl).

    ``state`` is what there is to show. ``terminate`` ends the server ``me``.
    """
    match request:
        case (Atom("terminate"), reason):
            me.reply(caller, OK)
            me.stop(reason)
        case Atom("get_state"):
            me.reply(caller, state)
        case (Atom("debug"), (Atom("log"), Atom("get"))):
            me.reply(caller, (OK, []))  # there is no log: but all that came before has been dealt with
        case Atom("suspend") | Atom("resume"):
            me.reply(caller, (ERROR, Atom("notsup")))
        case _:
            me.reply(caller, (ERROR, (Atom("unknown_system_msg"), request)))


async def multi_call(me: Process, nodes: Iterable[N], name: Atom, request: Term) -> dict[N, Term]:
    """Ask the server registered as ``name`` on each of ``nodes`` at once; wait until each has answered or is gone.

    Returns the answers by node; a node without such a server, or lost meanwhile, is left out. There is no time limit:
    the caller ends with the last connection (gen_server:multi_call/3 with ``infinity``).
    """
    waiting: dict[Ref, N] = {}
    answers: dict[N, Term] = {}

    def concerns_us(message: Term) -> bool:
        match message:
            case (Ref() as ref, _) | (Atom("DOWN"), Ref() as ref, _, _, _):
                return ref in waiting
        return False

    try:
        for node in nodes:
            target = (name, Atom(node))
            ref = me.monitor(target)
            waiting[ref] = node
            me.send(target, (gen.GEN_CALL, (me.pid, ref), request))
        while waiting:
            match await me.receive(concerns_us):
                case (Ref() as ref, answer):
                    me.demonitor(ref, flush=True)
                    answers[waiting.pop(ref)] = answer
                case (_, ref, *_):
                    del waiting[ref]
    finally:  # whoever gives up waiting is not told of the rest
        for ref in waiting:
            me.demonitor(ref, flush=True)
    return answers
