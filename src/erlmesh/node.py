"""A node: the runtime with the services that every BEAM expects of a member of its cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import partial
from types import ModuleType, TracebackType
from typing import Any, Self

from erlmesh.errors import ErlangError, GroupError, Undef
from erlmesh.runtime.config import NodeConfig, accept_fields_of
from erlmesh.runtime.process import Body, LocalProcess, ProcessOps
from erlmesh.runtime.runtime import Runtime
from erlmesh.services.global_.client import trans
from erlmesh.services.global_.names import GlobalNames
from erlmesh.services.group_leader import GroupLeader, to_stdout
from erlmesh.services.net_kernel import NetKernel
from erlmesh.services.pg.server import Pg
from erlmesh.services.pg2.server import Pg2
from erlmesh.services.rpc import client as rpc
from erlmesh.services.rpc import erpc
from erlmesh.services.rpc.client import Replies
from erlmesh.services.rpc.function_table import PROCESS_WIDE, FunctionTable
from erlmesh.services.rpc.rex import Rex
from erlmesh.terms import Atom, Export, Fun, Pid, Term

__all__ = ["Node", "Process"]

_PG = Atom("pg")


class Process(LocalProcess):
    __doc__ = LocalProcess.__doc__
    __slots__ = ("node",)

    node: Node
    """The node that the process runs on."""


class Node(Runtime):
    """A named member of an Erlang cluster. ::

        async with Node("socrates@127.0.0.1", cookie="monster") as node:
            await node.ping("plato@127.0.0.1")

    The keywords are the fields of :class:`NodeConfig`, which says what each means. ``Node.from_config`` takes them as
    one object.

    Raises ``ValueError`` for malformed arguments, and :class:`NodeStartError` on start when the name or port is taken
    or the host cannot be found.
    """

    pg2: Pg2
    """Process groups as OTP 23 and before have them."""
    global_: GlobalNames
    """Names and locks of the whole cluster (OTP's ``global``)."""
    functions: FunctionTable
    """What other nodes may call here."""

    @accept_fields_of(NodeConfig)
    def __init__(self, config: NodeConfig) -> None:
        super().__init__(config)
        self._join = tuple(config.join)
        self._prevent_overlapping_partitions = config.prevent_overlapping_partitions
        self._output = config.output or to_stdout
        self._scopes: dict[Atom, Pg] = {}
        self._builtin_functions = FunctionTable()
        self.functions = FunctionTable(PROCESS_WIDE, self._builtin_functions)

    @classmethod
    def from_config(cls, config: NodeConfig) -> Self:
        """A node with this configuration."""
        return cls(**{each.name: getattr(config, each.name) for each in fields(config)})

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _new_process(self, ops: ProcessOps, pid: Pid, description: str | Callable[[], str]) -> Process:
        process = Process(ops, pid, description)
        process.node = self
        return process

    def _start_services(self) -> None:
        NetKernel(self)
        self._group_leader_server = GroupLeader(self, self._output)
        Rex(self, self.functions.apply)
        erpc.serve(self, self.functions.apply)
        self.global_ = GlobalNames(self, prevent_overlapping_partitions=self._prevent_overlapping_partitions)
        self.start_scope("pg")
        self.pg2 = Pg2(self, trans)
        self._builtin_functions.add(self.global_.resolve_it, "global")
        self._builtin_functions.add(self._pg_get_members, "pg", "get_members")
        self._builtin_functions.add(self._pg2_get_members, "pg2", "get_members")
        self._builtin_functions.add(lambda: self.atom, "erlang", "node")
        self._builtin_functions.add(self._busy, "erlmesh", "blocked_peers")
        self._builtin_functions.add(self._erlang_apply, "erlang", "apply")
        for peer in self._join:
            self.connect_nowait(peer, partial(self._on_join_attempt, peer))

    def _on_join_attempt(self, peer: Atom | str, up: bool) -> None:
        if not up:
            self.keep_connecting(peer)

    def _is_overlap_disconnect(self, name: str) -> bool:
        return self.global_.is_overlap_disconnect(name)

    def spawn_handler(
        self,
        receive: Callable[[Term], None],
        *,
        name: Atom | str | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> Process:
        """Starts a process without a task: ``receive(message)`` is called for each message, one at a time, as it comes.

        What it raises is logged and it goes on. It traps exits. ``on_end()`` is called when it has ended and everybody
        was told, unless the node stops: for a server that the node is nothing without, to start it again.
        """
        process = super().spawn_handler(receive, name=name, on_end=on_end)
        assert isinstance(process, Process)
        return process

    async def stop(self) -> None:
        if hasattr(self, "global_"):
            self.global_.node_stopping()
        await super().stop()

    # Groups

    @property
    def pg(self) -> Pg:
        """Process groups as OTP 23 and later have them: the default scope."""
        return self._scopes[_PG]

    def start_scope(self, name: Atom | str) -> Pg:
        """Starts another scope of groups, or one that was stopped. Raises ``ValueError`` if the name is taken."""
        scope = self._scopes[Atom(name)] = Pg(self, Atom(name))
        return scope

    def scope(self, name: Atom | str) -> Pg | None:
        """The scope of that name, if it runs."""
        scope = self._scopes.get(Atom(name))
        return scope if scope is not None and scope.alive else None

    # Functions: ours for others, and others' for us

    def expose(self, what: Callable[..., Any] | ModuleType, *, as_: str | None = None, name: str | None = None) -> None:
        """Lets other nodes call a function, or a module's, on this node alone. See :func:`erlmesh.expose`."""
        if isinstance(what, ModuleType):
            self.functions.add_module(what, as_)
        else:
            self.functions.add(what, as_ or what.__module__.rpartition(".")[2], name)

    async def rpc(
        self,
        peer: Atom | str,
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[Term] = (),
        *,
        timeout: float | None = 5.0,
    ) -> Term:
        """Calls a function of another node, in a process of its own there; its value. ::

            await node.rpc("plato@127.0.0.1", "lists", "sum", [[1, 2, 3]])

        Raises RemoteThrow, RemoteExit or RemoteError for what the function did instead of returning, CalleeExited when
        its process was ended, NoConnection, CallTimeout after ``timeout`` seconds (the function goes on there, as with
        OTP), and EncodeError for arguments that are no terms. What the function prints is written here.
        """
        return await rpc.call(self, peer, module, function, arguments, timeout=timeout)

    async def multicall(
        self,
        nodes: Iterable[Atom | str],
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[Term] = (),
        *,
        timeout: float | None = 5.0,
    ) -> Replies:
        """The same on several nodes at once: ``(replies, missing)``, the values by node, and for the others why not."""
        return await rpc.multicall(self, nodes, module, function, arguments, timeout=timeout)

    def rpc_cast(
        self, peer: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
    ) -> None:
        """Has a function called on another node and hears nothing of it, not even whether there is such a node."""
        rpc.cast(self, peer, module, function, arguments)

    @property
    def group_leader(self) -> Pid:
        """The server that writes what our processes on other nodes print. It is registered as ``user``."""
        return self._group_leader_server.pid

    def _fallback_body(self, _module: Atom, _function: Atom, _arguments: list[Term]) -> Body:
        """A process started from another node runs what may be called, or ends with ``undef``."""
        return self.functions.apply

    async def _erlang_apply(self, me: Process, function: Term, arguments: list[Term]) -> Term:
        """``erlang:apply/2``: a fun of an exposed function may be called; the code of any other is not here."""
        if isinstance(function, Export) and isinstance(arguments, list) and len(arguments) == function.arity:
            return await self.functions.apply(me, function.module, function.function, arguments)
        if isinstance(function, Fun):
            raise Undef(Atom("undef"), [(function, arguments, [])], str(function))
        raise ErlangError(Atom("badarg"), [(Atom("erlang"), Atom("apply"), [function, arguments], [])])

    def _busy(self) -> Term:
        """For those who look in: ``[{Node, Milliseconds}]``."""
        return [(Atom(peer), round(seconds * 1000)) for peer, seconds in self.blocked_peers().items()]

    def _pg_get_members(self, scope_or_group: Term, group: Term = None) -> Term:
        """``pg:get_members(Group)`` of the default scope, and ``(Scope, Group)``; ``badarg`` if that does not run.

        No term arrives as None, so None means that there is one argument.
        """
        if group is None:
            scope = self.scope(_PG)
            return scope.get_members(scope_or_group) if scope else []
        scope = self.scope(scope_or_group) if isinstance(scope_or_group, Atom) else None
        if scope is None:
            raise ErlangError(Atom("badarg"), [(_PG, Atom("get_members"), [scope_or_group, group], [])])
        return scope.get_members(group)

    def _pg2_get_members(self, name: Term) -> Term:
        """With OTP's error."""
        try:
            return self.pg2.get_members(name)
        except GroupError as error:
            return (Atom("error"), error.reason)
