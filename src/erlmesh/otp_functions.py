"""The OTP functions that Erlang tools and test suites call on a node by rpc.

Expose them with ``node.expose(erlmesh.otp_functions)`` or ``erlmesh start --expose erlmesh.otp_functions``. Results,
errors and stack traces are those of OTP 25, also for wrong arguments (erlang.erl, timer.erl, gen_server.erl, pg.erl;
pg2.erl of OTP 23).

As in OTP, "the caller" is the process in which the remote call runs. It terminates with the call. So ``pg:monitor/1``
by rpc leaves a monitor without an owner, and a scope that ``pg:start_link/1`` starts stops at once.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from erlmesh.errors import CalleeExited, ErlangError, Exit, GroupError, NoConnection, NoProcess, Throw
from erlmesh.node import Process
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.terms import Atom, ImproperList, Map, Pid, Term

__all__ = ["EXPOSED"]

EXPOSED: Final = FunctionTable()
"""The table that :meth:`erlmesh.Node.expose` merges into the node's own."""

F = TypeVar("F", bound=Callable[..., Any])

OK: Final = Atom("ok")
ERROR: Final = Atom("error")
NORMAL: Final = Atom("normal")
NOPROC: Final = Atom("noproc")
INFINITY: Final = Atom("infinity")
PG: Final = Atom("pg")
MAX_SLEEP_MS: Final = 1 << 50
"""A longer sleep is treated as infinity."""
# The last element of a BIF's stack frame since OTP 24: the module that formats the error (erl_erts_errors.erl).
_BIF_INFO: Final = [(Atom("error_info"), Map([(Atom("module"), Atom("erl_erts_errors"))]))]


def _badarg() -> ErlangError:
    return ErlangError(Atom("badarg"))


def _function_clause() -> ErlangError:
    return ErlangError(Atom("function_clause"))


def _expose(module: str, name: str | None = None, *, scope: bool = False) -> Callable[[F], F]:
    """Add the decorated function to the table. With ``scope``, also a variant whose first argument is ``pg``."""

    def register(function: F) -> F:
        erlang_name = name or function.__name__
        EXPOSED.add(_with_otp_stack(function, module, erlang_name, ()), module, erlang_name)
        if scope:
            EXPOSED.add(_with_otp_stack(function, module, erlang_name, (PG,)), module, erlang_name)
        return function

    return register


def _with_otp_stack(
    function: Callable[..., Any], module: str, name: str, bound: tuple[Term, ...]
) -> Callable[..., Any]:
    """Wrap ``function``: prepend ``bound`` to its arguments, and give its errors the stack frame of OTP's function."""
    info = _BIF_INFO if module == "erlang" else []

    def explain(error: ErlangError, arguments: tuple[Term, ...]) -> ErlangError:
        error.stack = error.stack or [(Atom(module), Atom(name), [*bound, *arguments], info)]
        return error

    @functools.wraps(function)
    def call(me: Process, *arguments: Term) -> Term:
        try:
            return function(me, *bound, *arguments)
        except ErlangError as error:
            raise explain(error, arguments) from None

    @functools.wraps(function)
    async def call_async(me: Process, *arguments: Term) -> Term:
        try:
            return await function(me, *bound, *arguments)
        except ErlangError as error:
            raise explain(error, arguments) from None

    wrapped: Any = call_async if inspect.iscoroutinefunction(function) else call
    signature = inspect.signature(function)
    me, *rest = signature.parameters.values()
    wrapped.__signature__ = signature.replace(parameters=[me, *rest[len(bound) :]])
    return wrapped  # type: ignore[no-any-return]


# erlang


@_expose("erlang")
def node(me: Process) -> Term:
    return me.node.internals.atom


@_expose("erlang")
def nodes(me: Process) -> Term:
    return [Atom(name) for name in me.node.nodes()]


@_expose("erlang")
def whereis(me: Process, name: Term) -> Term:
    return me.node.whereis(_require_atom(name, _badarg)) or Atom("undefined")


@_expose("erlang")
def is_process_alive(me: Process, pid: Term) -> Term:
    if not isinstance(pid, Pid) or pid.node is not me.node.internals.atom:
        raise _badarg()
    return me.node.internals.is_alive(pid)


@_expose("erlang", "exit")
def exit_signal(me: Process, pid: Term, reason: Term) -> Term:
    if not isinstance(pid, Pid):
        raise _badarg()
    me.exit(pid, reason)
    return True


@_expose("erlang", "exit")
def exit_with(_me: Process, reason: Term) -> Term:
    raise Exit(reason)


@_expose("erlang")
def throw(_me: Process, value: Term) -> Term:
    raise Throw(value)


@_expose("erlang")
def hd(_me: Process, elements: Term) -> Term:
    if isinstance(elements, ImproperList):
        return elements.elements[0]
    if not isinstance(elements, list) or not elements:
        raise _badarg()
    return elements[0]


@_expose("erlang")
def spawn(me: Process, module: Term, function: Term, arguments: Term) -> Term:
    """``erlang:spawn/3``. A function that is not exposed exits with ``undef``, as in Erlang."""
    if not isinstance(arguments, list):
        raise _badarg()
    return me.spawn(
        me.node._functions.apply, _require_atom(module, _badarg), _require_atom(function, _badarg), arguments
    )


# timer, net_kernel, gen_server


@_expose("timer")
async def sleep(_me: Process, milliseconds: Term) -> Term:
    if milliseconds is INFINITY or (type(milliseconds) is int and milliseconds > MAX_SLEEP_MS):
        await asyncio.get_running_loop().create_future()
    if type(milliseconds) is not int or milliseconds < 0:
        raise ErlangError(Atom("timeout_value"), [(Atom("timer"), Atom("sleep"), 1, [])])
    await asyncio.sleep(milliseconds / 1000)
    return OK


@_expose("net_kernel")
async def connect_node(me: Process, name: Term) -> Term:
    return await me.node.connect(_require_atom(name, _function_clause))


@_expose("gen_server", "stop")
async def stop_gen_server(me: Process, server: Term) -> Term:
    """``gen_server:stop/1`` of a pid, a name, ``{Name, Node}`` or ``{global, Name}``; also of a pg scope."""
    match server:
        case (Atom("global"), name):
            server = me.node.global_.whereis(name)
            if server is None:
                raise Exit(NOPROC)
    if not isinstance(server, (Pid, Atom)) and not _is_name_on_node(server):
        raise _function_clause()
    # The monitor comes first: it also reports a server that does not exist (noproc).
    ref = me.monitor(server)
    if not isinstance(server, Atom) or me.node.whereis(server) is not None:
        me.send(server, (Atom("system"), (me.pid, ref), (Atom("terminate"), NORMAL)))
    down = await me.receive(lambda message: isinstance(message, tuple) and len(message) == 5 and message[1] == ref)
    match down[4]:
        case Atom("normal"):
            return OK
        case Atom("noproc"):
            raise Exit(NOPROC)
        case Atom("noconnection"):
            reason: Term = _nodedown_reason(server)
        case _:
            reason = down[4]
    raise Exit((reason, (Atom("sys"), Atom("terminate"), [server, NORMAL, INFINITY])))


# pg


@_expose("pg", "start")
def start_scope(me: Process, scope: Term) -> Term:
    name = _require_atom(scope, _function_clause)
    if (taken := me.node.whereis(name)) is not None:
        return (ERROR, (Atom("already_started"), taken))
    # No supervisor is behind `pg:start/1`: an exit signal ends the scope, as in OTP.
    return (OK, me.node.pg.start_scope(name, restart=False).pid)


@_expose("pg", "start_link")
def start_scope_linked(me: Process, scope: Term) -> Term:
    answer = start_scope(me, scope)
    if answer[0] is OK:
        me.link(answer[1])
    return answer


@_expose("pg", scope=True)
async def join(me: Process, scope: Term, group: Term, pids: Term) -> Term:
    _check_local(me, pids)
    return await _gen_call(me, scope, (Atom("join_local"), group, pids))


@_expose("pg", scope=True)
async def leave(me: Process, scope: Term, group: Term, pids: Term) -> Term:
    _check_local(me, pids)
    return await _gen_call(me, scope, (Atom("leave_local"), group, pids))


@_expose("pg", scope=True)
def get_members(me: Process, scope: Term, group: Term) -> Term:
    server = me.node.pg.find_scope(scope) if isinstance(scope, Atom) else None
    return server.get_members(group) if server else []


@_expose("pg", scope=True)
def get_local_members(me: Process, scope: Term, group: Term) -> Term:
    server = me.node.pg.find_scope(scope) if isinstance(scope, Atom) else None
    return server.get_local_members(group) if server else []


@_expose("pg", scope=True)
def which_groups(me: Process, scope: Term) -> Term:
    server = me.node.pg.find_scope(_require_atom(scope, _function_clause))
    if server is None:
        raise _no_table("match", scope, (Atom("$1"), Atom("_"), Atom("_")))
    return server.which_groups()


@_expose("pg", scope=True)
def which_local_groups(me: Process, scope: Term) -> Term:
    server = me.node.pg.find_scope(_require_atom(scope, _function_clause))
    if server is None:
        row = (Atom("$1"), Atom("_"), Atom("$2"))
        raise _no_table("select", scope, [(row, [(Atom("=/="), Atom("$2"), [])], [Atom("$1")])])
    return server.which_local_groups()


@_expose("pg", scope=True)
async def monitor_scope(me: Process, scope: Term) -> Term:
    return await _gen_call(me, scope, Atom("monitor"))


@_expose("pg", scope=True)
async def monitor(me: Process, scope: Term, group: Term) -> Term:
    return await _gen_call(me, scope, (Atom("monitor"), group))


@_expose("pg", scope=True)
async def demonitor(me: Process, scope: Term, ref: Term) -> Term:
    if await _gen_call(me, scope, (Atom("demonitor"), ref)) is not OK:
        return False
    while me.receive_nowait(lambda event: isinstance(event, tuple) and len(event) == 4 and event[0] == ref):
        pass
    return OK


# pg2


@_expose("pg2", "start")
def start_pg2(me: Process) -> Term:
    return me.node.pg2.start()


@_expose("pg2")
async def create(me: Process, name: Term) -> Term:
    await me.node.pg2.create(name)
    return OK


@_expose("pg2")
async def delete(me: Process, name: Term) -> Term:
    await me.node.pg2.delete(name)
    return OK


@_expose("pg2", "join")
async def join_pg2(me: Process, name: Term, pid: Term) -> Term:
    if not isinstance(pid, Pid):
        raise _function_clause()
    return await _await_change(me.node.pg2.join(name, pid))


@_expose("pg2", "leave")
async def leave_pg2(me: Process, name: Term, pid: Term) -> Term:
    if not isinstance(pid, Pid):
        raise _function_clause()
    return await _await_change(me.node.pg2.leave(name, pid))


@_expose("pg2", "get_members")
def get_members_pg2(me: Process, name: Term) -> Term:
    return _read_or_error(me.node.pg2.get_members, name)


@_expose("pg2", "get_local_members")
def get_local_members_pg2(me: Process, name: Term) -> Term:
    return _read_or_error(me.node.pg2.get_local_members, name)


@_expose("pg2")
def get_closest_pid(me: Process, name: Term) -> Term:
    return _read_or_error(me.node.pg2.get_closest_pid, name)


@_expose("pg2", "which_groups")
def which_groups_pg2(me: Process) -> Term:
    return me.node.pg2.which_groups()


# Helpers


def _require_atom(value: Term, make_error: Callable[[], ErlangError]) -> Atom:
    """Return ``value`` as an atom; true and false are atoms in Erlang. Raises ``make_error()`` otherwise."""
    if isinstance(value, bool):
        return Atom("true" if value else "false")
    if not isinstance(value, Atom):
        raise make_error()
    return value


def _no_table(function: str, scope: Term, pattern: Term) -> ErlangError:
    """The error of a scope that does not run: OTP's pg reads its groups from an ETS table named after the scope."""
    return ErlangError(Atom("badarg"), [(Atom("ets"), Atom(function), [scope, pattern], [])])


def _is_name_on_node(value: Term) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, Atom) for part in value)


def _check_local(me: Process, pids: Term) -> None:
    """Raise as ``pg:ensure_local/1`` does if a member is not a process of this node (pg.erl)."""
    if not isinstance(pids, (Pid, list)):
        raise _function_clause()
    for pid in pids if isinstance(pids, list) else [pids]:
        if not isinstance(pid, Pid) or pid.node is not me.node.internals.atom:
            raise ErlangError((Atom("nolocal"), pid), [(PG, Atom("ensure_local"), 1, [])])


async def _gen_call(me: Process, server: Term, request: Term) -> Term:
    """``gen_server:call(server, request, infinity)``, with the same exits (gen_server.erl, gen.erl)."""
    try:
        if not isinstance(server, (Pid, Atom)) and not _is_name_on_node(server):
            raise CalleeExited("", (Atom("function_clause"), [(Atom("gen"), Atom("do_for_proc"), 2, [])]))
        return await me.call(server, request, timeout=None)
    except NoProcess:
        reason: Term = NOPROC
    except NoConnection:
        reason = _nodedown_reason(server)
    except CalleeExited as exited:
        reason = exited.reason
    raise Exit((reason, (Atom("gen_server"), Atom("call"), [server, request, INFINITY])))


def _nodedown_reason(server: Term) -> Term:
    return (Atom("nodedown"), server.node if isinstance(server, Pid) else server[1])


async def _await_change(change: Awaitable[None]) -> Term:
    try:
        await change
    except GroupError as error:
        return (ERROR, error.reason)
    return OK


def _read_or_error(read: Callable[[Term], Term], name: Term) -> Term:
    """Return what ``read`` returns, or ``{error, Reason}`` as pg2 does."""
    try:
        return read(name)
    except GroupError as error:
        return (ERROR, error.reason)
