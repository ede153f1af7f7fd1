"""The messages of OTP's calls and casts (``gen.erl``).

A call is the message ``{'$gen_call', {CallerPid, Tag}, Request}``. Its reply is ``{Tag, Reply}``. Since OTP 24, callers
put an alias into the tag: ``['alias' | Ref]`` or ``[['alias' | Ref] | _]``. The reply is sent to that alias, so that it
is dropped if the caller has stopped waiting. A cast is ``{'$gen_cast', Message}``.
"""

from __future__ import annotations

from typing import Final

from erlmesh.terms import Atom, ImproperList, Pid, Ref, Term

__all__ = ["ALIAS", "GEN_CALL", "GEN_CAST", "call", "cast", "reply_to"]

GEN_CALL: Final = Atom("$gen_call")
GEN_CAST: Final = Atom("$gen_cast")
ALIAS: Final = Atom("alias")


def call(caller: Pid, alias: Ref, request: Term) -> tuple[Atom, tuple[Pid, ImproperList], Term]:
    """Return the message of a call whose reply is to be sent to ``alias``."""
    return (GEN_CALL, (caller, ImproperList((ALIAS,), alias)), request)


def cast(message: Term) -> tuple[Atom, Term]:
    """Return the message of a cast."""
    return (GEN_CAST, message)


def reply_to(caller: tuple[Pid, Term]) -> Pid | Ref:
    """Return where to send ``(tag, reply)`` for ``caller``, the ``{Pid, Tag}`` of a call."""
    pid, tag = caller
    alias = _alias_in(tag)
    return pid if alias is None else alias


def _alias_in(tag: Term) -> Ref | None:
    match tag:
        case ImproperList((Atom("alias"),), Ref() as alias):
            return alias
        case ImproperList((ImproperList((Atom("alias"),), Ref() as alias), *_), _):
            return alias
        case [ImproperList((Atom("alias"),), Ref() as alias), *_]:
            return alias
    return None
