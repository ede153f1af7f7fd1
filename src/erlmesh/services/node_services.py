"""The services that every node of a cluster expects of another: ``net_kernel``, ``rex``, ``global``, ``pg``, …"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from erlmesh.errors import ErlangError, GroupError, Undef
from erlmesh.services.global_.client import trans
from erlmesh.services.global_.names import GlobalNames
from erlmesh.services.group_leader import GroupLeader, to_stdout
from erlmesh.services.net_kernel import NetKernel
from erlmesh.services.pg.server import Pg
from erlmesh.services.pg2.server import Pg2
from erlmesh.services.rpc import erpc
from erlmesh.services.rpc.function_table import FunctionTable
from erlmesh.services.rpc.rex import Rex
from erlmesh.terms import Atom, Export, Fun, Pid, Term

if TYPE_CHECKING:
    from erlmesh.runtime.config import NodeConfig
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.viewing.view_server import ViewServer

__all__ = ["NodeServices"]

PG: Final = Atom("pg")
DBG: Final = Atom("dbg")
OBSERVED_MODULES: Final = [
    "erlang",
    "net_kernel",
    "net_adm",
    "code",
    "application",
    "proc_lib",
    "ets",
    "observer_backend",
    "appmon_info",
    "dbg",
    "trace",
    "shell",
    "Elixir.IEx",
    "Elixir.Phoenix.LiveDashboard.SystemInfo",
]
"""The modules of the functions that :mod:`erlmesh.services.observing` has."""


class NodeServices:
    """Starts all services on ``runtime``, which must be running, and then connects to the nodes of ``config.join``.

    ``functions`` is the node's table of exposed functions. ``builtins`` gets those that every node answers.
    """

    def __init__(self, runtime: Runtime, config: NodeConfig, functions: FunctionTable, builtins: FunctionTable) -> None:
        self._runtime = runtime
        self._functions = functions
        # The order decides the pids of the services, and with a seed the random numbers they draw.
        NetKernel(runtime)
        self.group_leader = GroupLeader(runtime, config.output or to_stdout)
        self._rex = Rex(runtime, functions.apply)
        erpc.serve(runtime, functions)
        self.global_ = GlobalNames(runtime, prevent_overlapping_partitions=config.prevent_overlapping_partitions)
        self._scopes: dict[Atom, Pg] = {}
        self._scopes[PG] = Pg(runtime, PG, self._scopes, hidden=config.hidden and config.hidden_groups)
        self.pg2 = Pg2(runtime, trans)
        self._start_global_group()
        self._view_server: ViewServer | None = None
        """Tells observers what this node sees. None while nobody looks."""
        self._add_builtins(builtins)
        for peer in config.join:
            runtime.connect_nowait(peer, partial(self._on_join_attempt, peer))

    @property
    def pg(self) -> Pg:
        """The default scope of process groups."""
        return self._scopes[PG]

    def _start_global_group(self) -> None:
        """Start ``global_group``, also after its exit."""
        self._global_group = self._runtime.spawn_handler(
            self._on_global_group_message, name=Atom("global_group"), restart=self._start_global_group
        )

    def _on_global_group_message(self, message: Term) -> None:
        # Few clusters have global groups, so the module is imported for the first message.
        from erlmesh.services import global_group  # noqa: PLC0415

        global_group.answer(self._global_group, self.global_, message)

    # What the node calls when it stops

    async def leave_groups(self, seconds: float) -> None:
        """Let all local processes leave the groups of each pg scope, and of pg2. See :class:`StoppingServices`."""
        for scope in self._scopes.values():
            scope.leave_all()
        await self.pg2.leave_all(seconds)

    def refuse_calls(self) -> None:
        """Let rex refuse calls. The node itself refuses those of erpc."""
        self._rex.refusing = True

    def node_stopping(self) -> None:
        """The loss of connections is not reported to other nodes from now on."""
        self.global_.node_stopping()

    def _on_join_attempt(self, peer: Atom | str, up: bool) -> None:
        if not up:
            self._runtime.keep_connecting(peer)

    # Functions that every node answers, whether it exposes anything or not

    def _add_builtins(self, table: FunctionTable) -> None:
        # They are quick, and most read tables of the event loop.
        table.add(self.global_.resolve_it, "global", inline=True)
        table.add(self._pg_get_members, "pg", "get_members", inline=True)
        table.add(self._pg2_get_members, "pg2", "get_members", inline=True)
        table.add(lambda: self._runtime.atom, "erlang", "node", inline=True)
        table.add(self._blocked_peers, "erlmesh", "blocked_peers", inline=True)
        table.add(self._describe_functions, "erlmesh", "functions", inline=True)
        table.add(_echo, "erlmesh", "echo", inline=True)
        table.add(self.subscribe_view, "erlmesh", "subscribe_view", inline=True)
        table.add(self._erlang_apply, "erlang", "apply")
        table.add_lazily(OBSERVED_MODULES, partial(self._add_observed, table))

    def _add_observed(self, table: FunctionTable) -> None:
        # Most nodes are never looked at, so the module is imported for the first question.
        from erlmesh.services.observing.observed_functions import add_observed_functions  # noqa: PLC0415

        add_observed_functions(table, self._runtime, self._functions)

    async def _erlang_apply(self, me: LocalProcess, function: Term, arguments: list[Term]) -> Term:
        """``erlang:apply/2`` for the external fun of an exposed function. A local fun's code is not on this node."""
        if isinstance(function, Export) and isinstance(arguments, list) and len(arguments) == function.arity:
            return await self._functions.apply(me, function.module, function.function, arguments)
        if isinstance(function, Fun) and function.module is DBG:  # its relay, up to OTP 26
            return await self._functions.apply(me, DBG, Atom("do_relay"), [function.pid, Atom("undefined")])
        if isinstance(function, Fun):
            raise Undef(Atom("undef"), [(function, arguments, [])], str(function))
        raise ErlangError(Atom("badarg"), [(Atom("erlang"), Atom("apply"), [function, arguments], [])])

    def subscribe_view(self, observer: Term) -> Pid:
        """``erlmesh:subscribe_view(Pid)``: see :mod:`erlmesh.services.viewing.view_server`."""
        if not isinstance(observer, Pid):
            raise ErlangError(Atom("badarg"), [(Atom("erlmesh"), Atom("subscribe_view"), [observer], [])])
        if self._view_server is None:  # Most nodes are never looked at, so the modules are imported now.
            from erlmesh.services.viewing.node_view import NodeViewer  # noqa: PLC0415
            from erlmesh.services.viewing.view_server import ViewServer  # noqa: PLC0415

            self._view_server = ViewServer(NodeViewer(self._runtime, self._scopes, self.global_), self._view_ended)
        return self._view_server.subscribe(observer)

    def _view_ended(self) -> None:
        self._view_server = None

    def _blocked_peers(self) -> Term:
        """``[{Node, Milliseconds}]``, for a remote shell or the command line."""
        return [(Atom(peer), round(seconds * 1000)) for peer, seconds in self._runtime.blocked_peers().items()]

    def _describe_functions(self, module: Term) -> Term:
        """``erlmesh:functions(Module)``: see :func:`~erlmesh.services.rpc.function_docs.describe_functions`."""
        from erlmesh.services.rpc.function_docs import describe_functions  # noqa: PLC0415 - few nodes are asked

        if not isinstance(module, Atom):
            raise ErlangError(Atom("badarg"), [(Atom("erlmesh"), Atom("functions"), [module], [])])
        return describe_functions(self._functions, module.name)

    def _pg_get_members(self, scope_or_group: Term, group: Term = None) -> Term:
        """``pg:get_members(Group)`` of the default scope, and ``(Scope, Group)``; ``badarg`` if that does not run.

        No term arrives as None, so None means that there is one argument.
        """
        if group is None:
            return self.pg.get_members(scope_or_group) if self.pg.alive else []
        scope = self.pg.find_scope(scope_or_group) if isinstance(scope_or_group, Atom) else None
        if scope is None:
            raise ErlangError(Atom("badarg"), [(PG, Atom("get_members"), [scope_or_group, group], [])])
        return scope.get_members(group)

    def _pg2_get_members(self, name: Term) -> Term:
        """The members, or OTP's ``{error, {no_such_group, Name}}``."""
        try:
            return self.pg2.get_members(name)
        except GroupError as error:
            return (Atom("error"), error.reason)


def _echo(term: Term) -> Term:
    """``erlmesh:echo(Term)`` returns the term, for ``erlmesh bench``."""
    return term
