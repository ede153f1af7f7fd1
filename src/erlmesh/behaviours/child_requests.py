"""Child specifications of other nodes: maps and tuples of ``supervisor``, and those of Elixir's supervisors.

The start function ``{M, F, A}`` must be an exposed function of this node. It runs in the process of the supervisor, and
returns the pid of a process that it has started and linked, ``{ok, Pid}``, ``{ok, Pid, Info}`` or ``ignore``, as in
OTP::

    @expose
    async def start_link(me: Process, number: int) -> Pid:
        return await Worker.start_link(me, number)

``Task.Supervisor`` runs exposed functions as processes: ``start_child``, ``async`` and ``async_nolink`` with M, F, A.
"""

from __future__ import annotations

from typing import Any, Final

from erlmesh.behaviours.child_spec import ChildSpec, Modules, StartResult
from erlmesh.behaviours.task_bodies import run_function, wait_for_function
from erlmesh.core.supervision import Shutdown
from erlmesh.errors import ErlangError, Exit
from erlmesh.node import Process
from erlmesh.runtime.exceptions import to_erlang
from erlmesh.runtime.process import Body
from erlmesh.terms import Atom, Map, Pid, Term

__all__ = ["UNDEFINED", "BadChildSpec", "modules_term", "parse_child_spec", "parse_task", "spec_term"]

UNDEFINED: Final = Atom("undefined")
INFINITY: Final = Atom("infinity")
BRUTAL_KILL: Final = Atom("brutal_kill")
DYNAMIC: Final = Atom("dynamic")
OK: Final = Atom("ok")
EXIT: Final = Atom("EXIT")
RESTARTS: Final = ("permanent", "transient", "temporary")
TYPES: Final = ("worker", "supervisor")
TASK: Final[Any] = (Atom("Elixir.Task.Supervised"), Atom("start_link"), [])
MAX_MILLISECONDS: Final = 0xFFFF_FFFF


class BadChildSpec(Exception):
    """The specification is malformed. ``reason`` is OTP's, as ``{invalid_restart_type, What}``."""

    def __init__(self, reason: Term) -> None:
        super().__init__(reason)
        self.reason = reason


def parse_child_spec(requested: Any) -> ChildSpec:
    """Return the specification of a ``start_child`` request. Raises BadChildSpec.

    Code of this node may send a ChildSpec itself.
    """
    match requested:
        case ChildSpec():
            return requested
        case dict() | Map():
            fields = {key.name: value for key, value in requested.items() if isinstance(key, Atom)}
            kind = fields.get("type", Atom("worker"))
            restart = fields.get("restart", Atom("permanent"))
            default = INFINITY if kind is Atom("supervisor") else 5000
            if "id" not in fields:
                raise BadChildSpec(Atom("missing_id"))
            if "start" not in fields:
                raise BadChildSpec(Atom("missing_start"))
            shutdown, modules = fields.get("shutdown", default), fields.get("modules")
            spec = _spec(fields["id"], (fields["start"], restart, shutdown, kind, modules))
            _refuse_significant(fields.get("significant", False))
            return spec
        case (child_id, start, restart, shutdown, kind, modules):
            return _spec(child_id, (start, restart, shutdown, kind, modules))
        case (start, restart, shutdown, kind, modules):  # of Elixir's DynamicSupervisor, whose children have no id
            return _spec(UNDEFINED, (start, restart, shutdown, kind, modules))
    raise BadChildSpec((Atom("invalid_child_spec"), requested))


def parse_task(arguments: Term, restart: Term, shutdown: Term) -> ChildSpec:
    """Return the specification for a request of ``Task.Supervisor``. Raises BadChildSpec.

    ``[Owner, Callers, MFA]`` names the function. ``[Owner, monitor | nomonitor]`` is followed by a message with it.
    """
    body: Body
    given: tuple[Any, ...]
    match arguments:
        case [(_, _, Pid()), list(), (Atom(), Atom(), list()) as mfa]:
            body, given = run_function, mfa
        case [(_, _, Pid() as owner), Atom("monitor" | "nomonitor") as monitor]:
            body, given = wait_for_function, (owner, monitor is Atom("monitor"))
        case _:
            raise BadChildSpec((Atom("invalid_task"), arguments))

    async def start(me: Process) -> Pid:
        return me.spawn(body, *given, link=True)

    # Elixir sends nil for its default: a temporary child, which gets five seconds to end.
    nil = (Atom("nil"), False)
    restart = Atom("temporary") if restart in nil else restart
    shutdown = 5000 if shutdown in nil else shutdown
    checked = _spec(UNDEFINED, (TASK, restart, shutdown, Atom("worker"), []))
    return ChildSpec(UNDEFINED, start, checked.restart, checked.shutdown, modules=(TASK[0],), mfa=TASK)


def spec_term(spec: ChildSpec) -> Term:
    """The map that ``supervisor:get_childspec/2`` returns."""
    if spec.shutdown is None:
        shutdown: Term = INFINITY
    elif spec.shutdown == "brutal_kill":
        shutdown = BRUTAL_KILL
    else:
        shutdown = round(float(spec.shutdown) * 1000)
    return {
        Atom("id"): spec.id,
        Atom("start"): spec.mfa,
        Atom("restart"): Atom(spec.restart),
        Atom("shutdown"): shutdown,
        Atom("type"): Atom(spec.type),
        Atom("modules"): modules_term(spec),
        Atom("significant"): False,
    }


def modules_term(spec: ChildSpec) -> Term:
    """The modules, as ``which_children`` shows them."""
    return DYNAMIC if spec.modules == "dynamic" else list(spec.modules)


def _spec(child_id: Term, rest: tuple[Term, Term, Term, Term, Term]) -> ChildSpec:
    """Check ``{Start, Restart, Shutdown, Type, Modules}``, in the order of OTP."""
    start, restart, shutdown, kind, modules = rest
    match start:
        case (Atom() as module, Atom() as function, list() as arguments):
            pass
        case _:
            raise BadChildSpec((Atom("invalid_mfa"), start))
    if not isinstance(restart, Atom) or restart.name not in RESTARTS:
        raise BadChildSpec((Atom("invalid_restart_type"), restart))
    if not isinstance(kind, Atom) or kind.name not in TYPES:
        raise BadChildSpec((Atom("invalid_child_type"), kind))

    async def start_child(me: Process) -> StartResult:
        return await _start_by_function(me, module, function, arguments)

    return ChildSpec(
        child_id,
        start_child,
        restart.name,  # type: ignore[arg-type] # looked up in RESTARTS
        _shutdown(shutdown),
        kind.name,  # type: ignore[arg-type] # looked up in TYPES
        (module,) if modules is None else _modules(modules),
        start,
    )


def _modules(modules: Term) -> Modules:
    if modules is DYNAMIC:
        return "dynamic"
    if not isinstance(modules, list):
        raise BadChildSpec((Atom("invalid_modules"), modules))
    for each in modules:
        if not isinstance(each, Atom):
            raise BadChildSpec((Atom("invalid_module"), each))
    return tuple(modules)


def _refuse_significant(significant: Term) -> None:
    """As a supervisor of OTP whose ``auto_shutdown`` is ``never``, which is the default."""
    if significant is True:
        combination = [(Atom("auto_shutdown"), Atom("never")), (Atom("significant"), True)]
        raise BadChildSpec((Atom("bad_combination"), combination))
    if significant is not False:
        raise BadChildSpec((Atom("invalid_significant"), significant))


def _shutdown(shutdown: Term) -> Shutdown:
    if shutdown is INFINITY:
        return None
    if shutdown is BRUTAL_KILL:
        return "brutal_kill"
    if type(shutdown) is int and 0 <= shutdown <= MAX_MILLISECONDS:
        return shutdown / 1000
    raise BadChildSpec((Atom("invalid_shutdown"), shutdown))


async def _start_by_function(me: Process, module: Atom, function: Atom, arguments: list[Term]) -> StartResult:
    """Call the start function. Raises Exit with OTP's reason if it fails."""
    try:
        result = await me.node._functions.apply(me, module, function, arguments)
    except ErlangError as error:
        _, reason, stack = to_erlang(error)
        raise Exit((EXIT, (reason, stack))) from None
    match result:
        case Pid() | Atom("ignore") | (Atom("ok"), Pid()) | (Atom("ok"), Pid(), _):
            return result
        case (Atom("error"), reason):
            raise Exit(reason)
    raise Exit(result)
