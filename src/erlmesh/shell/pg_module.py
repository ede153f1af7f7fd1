"""The module ``pg`` of the shell: OTP's functions for process groups, with and without a scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from erlmesh.formatting import format_elixir
from erlmesh.shell.builtins import OK, Builtins, as_name
from erlmesh.shell.commands import Module, command
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.node import Node
    from erlmesh.services.pg.server import Pg

__all__ = ["PgModule"]

DEFAULT: Final = Atom("pg")


class PgModule(Module):
    """OTP's pg, the current process groups. A group exists while it has members; there is no create.

    A scope is the first argument, if there is one argument more: pg.join(:scope, :group, self).
    """

    def __init__(self, node: Node, builtins: Builtins) -> None:
        self._node = node
        self._builtins = builtins

    @command(implicit_call=True)
    def start_link(self, scope: Any = DEFAULT) -> tuple[Atom, Any]:
        """Start a scope: {:ok, pid}. The default scope :pg runs already."""
        name = as_name(scope)
        found = self._node.pg.find_scope(name)
        if found is not None:
            return (Atom("error"), (Atom("already_started"), found.pid))
        return (OK, self._node.pg.start_scope(name).pid)

    @command()
    def start(self, scope: Any) -> tuple[Atom, Any]:
        """The same as start_link."""
        return self.start_link(scope)

    @command()
    def join(self, group: Term, pids: Any, _more: Any = None) -> Atom:
        """Add a process of this node, or a list of them, to the group."""
        scope, group, pids = self._with_scope(group, pids, _more)
        scope.join(group, pids)
        return OK

    @command()
    def leave(self, group: Term, pids: Any, _more: Any = None) -> Atom:
        """Remove a process of this node, or a list of them, once. :not_joined if it was not a member."""
        scope, group, pids = self._with_scope(group, pids, _more)
        return OK if scope.leave(group, pids) else Atom("not_joined")

    @command()
    def get_members(self, group: Term, _more: Any = None) -> list[Pid]:
        """The members on all nodes."""
        scope, group = self._scope_and_group(group, _more)
        return scope.get_members(group)

    @command()
    def get_local_members(self, group: Term, _more: Any = None) -> list[Pid]:
        """The members on this node."""
        scope, group = self._scope_and_group(group, _more)
        return scope.get_local_members(group)

    @command(implicit_call=True)
    def which_groups(self, scope: Any = DEFAULT) -> list[Term]:
        """All groups that have members."""
        return self._scope(scope).which_groups()

    @command(implicit_call=True)
    def which_local_groups(self, scope: Any = DEFAULT) -> list[Term]:
        """All groups that have members on this node."""
        return self._scope(scope).which_local_groups()

    @command()
    async def monitor(self, group: Term, _more: Any = None) -> Term:
        """{ref, pids}: messages {ref, :join, group, pids} and {ref, :leave, group, pids} follow."""
        scope, group = self._scope_and_group(group, _more)
        return await self._builtins.me.call(scope.pid, (Atom("monitor"), group))

    @command(implicit_call=True)
    async def monitor_scope(self, scope: Any = DEFAULT) -> Term:
        """{ref, %{group => pids}}: the same messages follow for all groups."""
        return await self._builtins.me.call(self._scope(scope).pid, Atom("monitor"))

    @command()
    async def demonitor(self, ref: Any, _more: Any = None) -> Term:
        """End a monitor: :ok, or false if there is none."""
        scope, ref = self._scope_and_group(ref, _more)
        if not isinstance(ref, Ref):
            raise TypeError(f"pg.demonitor takes the reference of pg.monitor, not {format_elixir(ref)}")
        return await self._builtins.me.call(scope.pid, (Atom("demonitor"), ref))

    def _with_scope(self, first: Any, second: Any, third: Any) -> tuple[Pg, Term, Any]:
        if third is None:
            return self._node.pg, first, second
        return self._scope(first), second, third

    def _scope_and_group(self, first: Any, second: Any) -> tuple[Pg, Any]:
        return (self._node.pg, first) if second is None else (self._scope(first), second)

    def _scope(self, name: Any) -> Pg:
        found = self._node.pg.find_scope(as_name(name))
        if found is None:
            shown = format_elixir(as_name(name))
            raise ValueError(f"the scope {shown} does not run on this node: pg.start_link({shown}) starts it")
        return found
