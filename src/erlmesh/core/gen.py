"""The messages of OTP's calls and casts (``gen.erl``).

A call is the message ``{'$gen_call', {CallerPid, Tag}, Request}``. Its reply is ``{Tag, Reply}``. Since OTP 24, callers
put an alias into the tag: ``['alias' | Ref]`` or ``[['alias' | Ref] | _]``. The reply is sent to that alias, so that it
is dropped if the caller has stopped waiting. A cast is ``{'$gen_cast', Message}``. A system message (a call of
``sys``) is ``{system, {CallerPid, Tag}, Request}``.

A *library request* is a request of OTP's or Elixir's libraries whose caller waits without a time limit::

    {'$gen_call', {Pid, Tag}, which_children | {start_child, _} | …}     supervisor.erl and Elixir's supervisors
    {Pid, {Pid, Tag}, Request}                                           gen_event.erl
    {io_request | file_request, Pid, ReplyAs, Request}                   io.erl, file.erl
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from erlmesh import native
from erlmesh.core.exit_reasons import NOCONNECTION, NOPROC
from erlmesh.errors import CalleeExited, CallError, NoConnection, NoProcess
from erlmesh.terms import Atom, ImproperList, Pid, Ref, Term

__all__ = [
    "ALIAS",
    "FILE_REQUEST",
    "GEN_CALL",
    "GEN_CAST",
    "IO_REQUEST",
    "SYSTEM",
    "call",
    "cast",
    "down_error",
    "is_call",
    "is_library_request",
    "is_system_message",
    "pure_reply_to",
    "reply_to",
]

GEN_CALL: Final = Atom("$gen_call")
GEN_CAST: Final = Atom("$gen_cast")
ALIAS: Final = Atom("alias")
SYSTEM: Final = Atom("system")
IO_REQUEST: Final = Atom("io_request")
FILE_REQUEST: Final = Atom("file_request")

# The requests to supervisors. `which_child` exists since OTP 28, `start_task` in Elixir's Task.Supervisor.
SUPERVISOR_ATOMS: Final = frozenset((Atom("which_children"), Atom("count_children")))
SUPERVISOR_PAIRS: Final = frozenset(
    Atom(name)
    for name in ("start_child", "terminate_child", "restart_child", "delete_child", "get_childspec", "which_child")
)
START_TASK: Final = Atom("start_task")


def call(caller: Pid, alias: Ref, request: Term) -> tuple[Atom, tuple[Pid, ImproperList], Term]:
    """Return the message of a call whose reply is to be sent to ``alias``."""
    return (GEN_CALL, (caller, ImproperList((ALIAS,), alias)), request)


def cast(message: Term) -> tuple[Atom, Term]:
    """Return the message of a cast."""
    return (GEN_CAST, message)


def is_call(message: Term) -> bool:
    """True for ``{'$gen_call', {Pid, Tag}, Request}``."""
    return type(message) is tuple and len(message) == 3 and message[0] is GEN_CALL and _is_caller(message[1])


def is_system_message(message: Term) -> bool:
    """True for ``{system, {Pid, Tag}, Request}``."""
    return type(message) is tuple and len(message) == 3 and message[0] is SYSTEM and _is_caller(message[1])


def is_library_request(message: Term) -> bool:
    """True for a request whose caller waits without a time limit: see the header."""
    if type(message) is not tuple:
        return False
    if len(message) == 4:
        return (message[0] is IO_REQUEST or message[0] is FILE_REQUEST) and type(message[1]) is Pid
    if len(message) != 3:
        return False
    kind = message[0]
    if kind is GEN_CALL:  # This runs for each call, so it looks at the request first: mostly it is another one.
        return _is_supervisor_request(message[2]) and _is_caller(message[1])
    return type(kind) is Pid and _is_caller(message[1]) and bool(kind == message[1][0])


def _is_caller(term: Term) -> bool:
    return type(term) is tuple and len(term) == 2 and type(term[0]) is Pid


def _is_supervisor_request(request: Term) -> bool:
    if type(request) is not tuple:
        return type(request) is Atom and request in SUPERVISOR_ATOMS
    if len(request) == 2:
        return type(request[0]) is Atom and request[0] in SUPERVISOR_PAIRS
    return len(request) == 4 and request[0] is START_TASK


def pure_reply_to(caller: tuple[Pid, Term]) -> Pid | Ref:
    """Return where to send ``(tag, reply)`` for ``caller``, the ``{Pid, Tag}`` of a call."""
    pid, tag = caller
    alias = _alias_in(tag)
    return pid if alias is None else alias


def _alias_in(tag: Term) -> Ref | None:
    if type(tag) is ImproperList:
        alias = _as_alias(tag)
        return _as_alias(tag.elements[0]) if alias is None else alias
    return _as_alias(tag[0]) if type(tag) is list and tag else None


def _as_alias(term: Term) -> Ref | None:
    """Return the reference of ``[alias | Ref]``. None for any other term. (This runs for each reply.)"""
    if type(term) is not ImproperList or type(term.tail) is not Ref:
        return None
    elements = term.elements
    return term.tail if len(elements) == 1 and elements[0] is ALIAS else None


def down_error(
    target: Pid | Atom, node: Atom, reason: Term, no_connection_error: Callable[[Atom], NoConnection]
) -> CallError:
    """Return the error for the ``reason`` in the DOWN of ``target``, a pid or a name that is registered on ``node``.

    ``no_connection_error(node)`` is called if the connection is lost.
    """
    callee = str(target) if isinstance(target, Pid) else f"{target} on {node.name}"
    if reason is NOPROC:
        return NoProcess(f"there is no process {callee}")
    if reason is NOCONNECTION:
        return no_connection_error(node)
    from erlmesh.terms.exit_text import format_reason  # noqa: PLC0415 - for errors only

    return CalleeExited(f"{callee} exited before it answered: {format_reason(reason)}", reason)


reply_to = pure_reply_to

if not TYPE_CHECKING and native.module is not None:
    # The same function in Rust. Type checkers see the Python function.
    reply_to = native.module.reply_to
