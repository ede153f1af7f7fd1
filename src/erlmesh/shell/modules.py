"""The modules ``Node``, ``pg``, ``pg2``, ``global_``, ``Process`` and ``rpc``: OTP's functions and return values."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh.errors import CallError, GroupError
from erlmesh.shell.builtins import OK, Builtins, as_name, full_node_name
from erlmesh.shell.commands import Module, command
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["GlobalModule", "NodeModule", "Pg2Module", "PgModule", "ProcessModule", "RpcModule"]

Pids: TypeAlias = list[Pid]
Atoms: TypeAlias = list[Atom]
ERROR: Final = Atom("error")
UNDEFINED: Final = Atom("undefined")


class NodeModule(Module):
    """Elixir's Node: this node and the nodes it is connected to."""

    def __init__(self, node: Node, print_hint: Callable[[str], None]) -> None:
        self._node = node
        self._print_hint = print_hint

    @command(implicit_call=True)
    def self(self) -> Atom:
        """The name of this node."""
        return self._node.internals.atom

    @command(implicit_call=True)
    def list(self, which: Atom | str = "visible") -> Atoms:
        """The connected nodes in order of connection. Node.list(:hidden) returns the hidden ones."""
        name = as_name(which).name
        if name not in ("visible", "hidden", "connected", "this"):
            raise ValueError(f"Node.list takes :visible, :hidden, :connected or :this, not :{name}")
        found = [self._node.name] if name == "this" else []
        found += self._node.nodes() if name in ("visible", "connected") else []
        found += self._node.nodes(hidden=True) if name in ("hidden", "connected") else []
        return [Atom(each) for each in found]

    @command()
    async def ping(self, name: Atom | str) -> Atom:
        """Connect to a node: :pong if it is connected, else :pang and the reason. Its peers follow soon."""
        full = full_node_name(name, self._node.name)
        if await self._node.ping(full):
            return Atom("pong")
        self._explain_failure(full)
        return Atom("pang")

    @command()
    async def connect(self, name: Atom | str) -> bool:
        """Connect to a node. Returns True if it is connected now."""
        full = full_node_name(name, self._node.name)
        connected = await self._node.connect(full)
        if not connected:
            self._explain_failure(full)
        return connected

    @command()
    def disconnect(self, name: Atom | str) -> bool:
        """Close the connection to a node. Other nodes may disconnect too (OTP 25+: prevent_overlapping_partitions)."""
        return self._node.disconnect(full_node_name(name, self._node.name))

    @command()
    def alive(self) -> bool:
        """Whether this node is distributed. Always True."""
        return True

    def _explain_failure(self, name: str) -> None:
        if reason := self._node.last_connect_error(name):
            self._print_hint(reason)


class PgModule(Module):
    """OTP's pg, the current process groups. A group exists while it has members; there is no create."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @command()
    def join(self, group: Term, pids: Pid | list[Pid]) -> Atom:
        """Add a process of this node, or a list of them, to the group."""
        self._node.pg.join(group, pids)
        return OK

    @command()
    def leave(self, group: Term, pids: Pid | list[Pid]) -> Atom:
        """Remove a process of this node, or a list of them, once. :not_joined if it was not a member."""
        return OK if self._node.pg.leave(group, pids) else Atom("not_joined")

    @command()
    def get_members(self, group: Term) -> list[Pid]:
        """The members on all nodes."""
        return self._node.pg.get_members(group)

    @command()
    def get_local_members(self, group: Term) -> list[Pid]:
        """The members on this node."""
        return self._node.pg.get_local_members(group)

    @command(implicit_call=True)
    def which_groups(self) -> list[Term]:
        """All groups that have members."""
        return self._node.pg.which_groups()


class Pg2Module(Module):
    """OTP's pg2, the older process groups. A group must be created first; then every node knows it."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @command(implicit_call=True)
    def start(self) -> tuple[Atom, Pid]:
        """{:ok, pid} of the pg2 server, which is already running."""
        return (OK, self._node.pg2.start()[1])

    start_link = start

    @command()
    async def create(self, name: Term) -> Atom:
        """Create an empty group on all nodes. Does nothing if it exists."""
        await self._node.pg2.create(name)
        return OK

    @command()
    async def delete(self, name: Term) -> Atom:
        """Delete a group on all nodes. Does nothing if it does not exist."""
        await self._node.pg2.delete(name)
        return OK

    @command()
    async def join(self, name: Term, pid: Pid) -> Term:
        """Add a process of any node to the group."""
        try:
            await self._node.pg2.join(name, pid)
        except GroupError as error:
            return (ERROR, error.reason)
        return OK

    @command()
    async def leave(self, name: Term, pid: Pid) -> Term:
        """Remove a process once. Does nothing if it was not a member."""
        try:
            await self._node.pg2.leave(name, pid)
        except GroupError as error:
            return (ERROR, error.reason)
        return OK

    @command()
    def get_members(self, name: Term) -> Term:
        """The members on all nodes."""
        return _result_or_error(self._node.pg2.get_members, name)

    @command()
    def get_local_members(self, name: Term) -> Term:
        """The members on this node."""
        return _result_or_error(self._node.pg2.get_local_members, name)

    @command()
    def get_closest_pid(self, name: Term) -> Term:
        """A member on this node, or a member on another node if this one has none."""
        return _result_or_error(self._node.pg2.get_closest_pid, name)

    @command(implicit_call=True)
    def which_groups(self) -> list[Term]:
        """All groups, including empty ones."""
        return self._node.pg2.which_groups()


def _result_or_error(function: Callable[[Term], Term], name: Term) -> Term:
    try:
        return function(name)
    except GroupError as error:
        return (ERROR, error.reason)


class GlobalModule(Module):
    """OTP's global: names registered on all nodes. (``global`` itself is a keyword of Python.)"""

    def __init__(self, node: Node) -> None:
        self._node = node

    @command()
    async def register_name(self, name: Term, pid: Pid) -> Atom:
        """Register a name for a process on all nodes: :yes, or :no if the name is taken."""
        return Atom("yes") if await self._node.global_.register(name, pid) else Atom("no")

    @command()
    async def re_register_name(self, name: Term, pid: Pid) -> Atom:
        """Register a name for a process on all nodes, replacing the process that had it."""
        await self._node.global_.re_register(name, pid)
        return Atom("yes")

    @command()
    async def unregister_name(self, name: Term) -> Atom:
        """Remove a name on all nodes."""
        await self._node.global_.unregister(name)
        return OK

    @command()
    def whereis_name(self, name: Term) -> Pid | Atom:
        """The process registered under a name, or :undefined."""
        return self._node.global_.whereis(name) or UNDEFINED

    @command(implicit_call=True)
    def registered_names(self) -> list[Term]:
        """All registered names."""
        return self._node.global_.registered()

    @command()
    async def sync(self) -> Atom:
        """Wait until this node and the connected nodes agree on all names."""
        await self._node.global_.sync()
        return OK


class ProcessModule(Module):
    """A part of Elixir's Process."""

    def __init__(self, node: Node, builtins: Builtins) -> None:
        self._node = node
        self._builtins = builtins
        self.monitor, self.demonitor = builtins.monitor, builtins.demonitor
        self.link, self.unlink, self.whereis = builtins.link, builtins.unlink, builtins.whereis

    @command()
    def exit(self, pid: Pid, reason: Term) -> bool:
        """Send an exit signal to a local or remote process. :kill cannot be trapped."""
        return self._builtins.exit(pid, reason)

    @command(implicit_call=True)
    def list(self) -> Pids:
        """The processes of this node."""
        return self._node.internals.processes()

    @command(implicit_call=True)
    def registered(self) -> Atoms:
        """The names registered on this node."""
        return [Atom(name) for name in self._node.internals.registered()]

    @command()
    def alive(self, pid: Pid) -> bool:
        """Whether a process of this node is alive. Process.alive?(pid) works too."""
        return self._node.internals.is_alive(pid)

    @command()
    def register(self, pid: Pid, name: Atom) -> bool:
        """Register a name for a process of this node."""
        return self._builtins.register(name, pid)

    @command()
    def unregister(self, name: Atom) -> bool:
        """Remove a name on this node."""
        return self._node.unregister(as_name(name))

    @command()
    def flag(self, name: Atom, value: bool) -> bool:
        """Process.flag(:trap_exit, true): exit signals of linked processes become messages. Returns the old value."""
        if as_name(name).name != "trap_exit":
            raise ValueError("the only supported flag is :trap_exit")
        me = self._builtins.me
        former, me.trap_exit = me.trap_exit, bool(value)
        return former


class RpcModule(Module):
    """OTP's rpc: call a function on another node."""

    def __init__(self, node: Node, builtins: Builtins) -> None:
        self._node = node
        self._builtins = builtins

    @command()
    async def call(self, node: Atom | str, module: Atom, function: Atom, arguments: list[Term]) -> Term:
        """rpc.call(:"plato@127.0.0.1", :erlang, :node, []): the returned value, or {:badrpc, reason}."""
        target = Atom(full_node_name(node, self._node.name))
        request = (Atom("call"), as_name(module), as_name(function), list(arguments), self._node.internals.group_leader)
        try:
            return await self._builtins.call((Atom("rex"), target), request, timeout=None)
        except CallError:
            return (Atom("badrpc"), Atom("nodedown"))
