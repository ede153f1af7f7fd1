"""The modules ``Node``, ``pg2``, ``global_`` and ``Process``: OTP's and Elixir's functions and return values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from erlmesh.errors import GroupError
from erlmesh.formatting import format_elixir
from erlmesh.shell.builtins import NIL, OK, Builtins, as_name, destination, full_node_name
from erlmesh.shell.commands import Module, command
from erlmesh.shell.exits import ShellError, milliseconds
from erlmesh.shell.kernel_modules import NodeMonitors, flag_of
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["GlobalModule", "NodeModule", "Pg2Module", "ProcessModule"]

Pids: TypeAlias = list[Pid]
Atoms: TypeAlias = list[Atom]
_Target: TypeAlias = tuple[str, Atom, Atom, list[Term]]
_LIST: Final = list  # classes below have a method of that name
ERROR: Final = Atom("error")
UNDEFINED: Final = Atom("undefined")
INFINITY: Final = Atom("infinity")


class NodeModule(Module):
    """Elixir's Node: this node and the nodes it is connected to."""

    def __init__(
        self, node: Node, builtins: Builtins, monitors: NodeMonitors, print_hint: Callable[[str], None]
    ) -> None:
        self._node = node
        self._builtins = builtins
        self._monitors = monitors
        self._print_hint = print_hint

    @command(implicit_call=True)
    def self(self) -> Atom:
        """The name of this node."""
        return self._node.internals.atom

    @command(implicit_call=True)
    def list(self, which: Atom | str = "visible") -> Atoms:
        """The connected nodes in order of connection. Node.list(:hidden) returns the hidden ones."""
        name = as_name(which).name
        if name not in ("visible", "hidden", "connected", "this", "known"):
            raise ValueError(f"Node.list takes :visible, :hidden, :connected, :this or :known, not :{name}")
        found = [self._node.name] if name in ("this", "known") else []
        found += self._node.nodes() if name in ("visible", "connected", "known") else []
        found += self._node.nodes(hidden=True) if name in ("hidden", "connected", "known") else []
        found += self._node.reconnecting() if name == "known" else []
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

    @command()
    def start(self, _name: Any, _type: Any = None, _tick: Any = None) -> Term:
        """{:error, {:already_started, pid}}: the node runs already, and keeps its name."""
        self._print_hint("the node runs already: its name is the option --name of `erlmesh shell`")
        return (ERROR, (Atom("already_started"), self._node.whereis("net_kernel") or UNDEFINED))

    @command(implicit_call=True)
    def get_cookie(self) -> Atom:
        """The cookie of this node. Who has it can run code on all nodes of the cluster."""
        return Atom(self._node.internals._config.cookies.cookie_for(self._node.name))

    @command()
    def set_cookie(self, name: Atom | str, cookie: Any = None) -> bool:
        """Node.set_cookie(:plato, :secret): the cookie for a node; with one argument, for all other nodes."""
        node, value = (self._node.name, name) if cookie is None else (full_node_name(name, self._node.name), cookie)
        self._node.set_cookie(node, as_name(value))
        return True

    @command()
    async def monitor(self, name: Atom | str, flag: Any, _options: Any = None) -> bool:
        """Node.monitor(:plato, true): a message {:nodedown, node} arrives when the node is down. false ends it."""
        target = Atom(full_node_name(name, self._node.name))
        if flag_of(flag, "Node.monitor"):
            await self._monitors.monitor(target)
        else:
            self._monitors.demonitor(target)
        return True

    @command()
    async def spawn(self, name: Atom | str, module: Any, function: Any = None, arguments: Any = None) -> Pid:
        """Node.spawn(:plato, :erlang, :node, []): start a process on another node, which calls a function there."""
        return await self._node.spawn_remote(*self._target("spawn", name, module, function, arguments))

    @command()
    async def spawn_link(self, name: Atom | str, module: Any, function: Any = None, arguments: Any = None) -> Pid:
        """The same, linked to this shell."""
        target = self._target("spawn_link", name, module, function, arguments)
        return await self._builtins.me.spawn_remote(*target, link=True)

    @command()
    async def spawn_monitor(
        self, name: Atom | str, module: Any, function: Any = None, arguments: Any = None
    ) -> tuple[Pid, Ref]:
        """The same, monitored by this shell: {pid, ref}."""
        target = self._target("spawn_monitor", name, module, function, arguments)
        return await self._builtins.me.spawn_remote(*target, monitor=True)

    def _target(self, command: str, name: Any, module: Any, function: Any, arguments: Any) -> _Target:
        if callable(module) or not isinstance(arguments, _LIST):
            raise TypeError(
                f"Node.{command} names a module, a function and a list: Node.{command}(:plato, :erlang, :node, [])"
            )
        return full_node_name(name, self._node.name), as_name(module), as_name(function), arguments

    def _explain_failure(self, name: str) -> None:
        if reason := self._node.last_connect_error(name):
            self._print_hint(reason)


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

    def __init__(self, node: Node, builtins: Builtins) -> None:
        self._node = node
        self._builtins = builtins

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
    def send(self, name: Term, message: Term) -> Pid:
        """Send a message to the process with a name. Returns its pid."""
        pid = self._node.global_.whereis(name)
        if pid is None:
            raise ShellError("exit", f"{format_elixir((Atom('badarg'), (name, message)))}: no process has that name")
        self._builtins.send(pid, message)
        return pid

    @command()
    async def set_lock(self, lock: tuple[Term, Term], nodes: Atoms | None = None, retries: Any = INFINITY) -> bool:
        """Lock {resource, requester} on all nodes. The lock ends with this shell's process, or by del_lock."""
        count = None if retries is INFINITY else retries
        return await self._node.global_.set_lock(lock, nodes, count, me=self._builtins.me)

    @command()
    async def del_lock(self, lock: tuple[Term, Term], nodes: Atoms | None = None) -> bool:
        """Release a lock."""
        await self._node.global_.del_lock(lock, nodes, me=self._builtins.me)
        return True

    @command(implicit_call=True)
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
        self._timers: dict[Ref, tuple[float, asyncio.Task[None]]] = {}

    @command()
    def exit(self, pid: Pid, reason: Term) -> bool:
        """Send an exit signal to a local or remote process. :kill cannot be trapped."""
        return self._builtins.exit(pid, reason)

    @command(implicit_call=True)
    def list(self) -> Pids:
        """The processes of this node."""
        return self._node.internals.processes()

    @command()
    def info(self, pid: Pid, item: Any = None) -> Term:
        """Process.info(pid), Process.info(pid, :message_queue_len): figures of a process of this node, or nil."""
        from erlmesh.services.observing.process_info import ProcessInfo  # noqa: PLC0415 - for tools only

        process = self._node.internals.local_process(self._own(pid, "Process.info"))
        known = ProcessInfo(self._node.internals.state, lambda: self._node.internals.group_leader)
        items = item if type(item) is _LIST else [] if item is None else [item]
        for each in items:
            if not known.has(each):
                raise ValueError(f"a process has no item {format_elixir(each)}: Process.info(pid) lists the usual ones")
        if process is None:
            return NIL
        if item is None:
            return known.all_items(process)
        found = [known.item(process, each) for each in items]
        return found if type(item) is _LIST else found[0]

    @command(implicit_call=True)
    def registered(self) -> Atoms:
        """The names registered on this node."""
        return [Atom(name) for name in self._node.internals.registered()]

    @command()
    def alive(self, pid: Pid) -> bool:
        """Whether a process of this node is alive. Process.alive?(pid) works too."""
        return self._node.internals.is_alive(self._own(pid, "Process.alive?"))

    def _own(self, pid: Pid, function: str) -> Pid:
        if not isinstance(pid, Pid):
            raise TypeError(
                f"{function} takes a pid, not {format_elixir(pid)}; Process.whereis(:name) is the pid of a name"
            )
        if pid.node is not self._node.internals.atom:
            raise ValueError(f"{function} is for processes of this node; i(pid) asks {pid.node.name}")
        return pid

    @command()
    def send(self, to: Any, message: Term, _options: Any = None) -> Atom:
        """Send a message. Returns :ok."""
        self._builtins.send(to, message)
        return OK

    @command()
    def send_after(self, to: Any, message: Term, time: Any) -> Ref:
        """Send a message after some milliseconds. Returns a reference for Process.cancel_timer."""
        seconds = milliseconds(time)
        target, me, ref = destination(to), self._builtins.me, self._node.internals.make_ref()
        if seconds is None:
            raise ValueError("the time is a number of milliseconds")

        async def wait() -> None:
            await asyncio.sleep(seconds)
            self._timers.pop(ref, None)
            if me.alive:
                me.send(target, message)

        self._timers[ref] = (asyncio.get_running_loop().time() + seconds, asyncio.create_task(wait()))
        return ref

    @command()
    def cancel_timer(self, ref: Ref) -> int | bool:
        """Cancel a message of Process.send_after. Returns the milliseconds that were left, or False."""
        due, task = self._timers.pop(ref, (0.0, None))
        if task is None:
            return False
        task.cancel()
        return max(0, round((due - asyncio.get_running_loop().time()) * 1000))

    @command()
    def read_timer(self, ref: Ref) -> int | bool:
        """The milliseconds until the message of Process.send_after, or False."""
        due, task = self._timers.get(ref, (0.0, None))
        return False if task is None else max(0, round((due - asyncio.get_running_loop().time()) * 1000))

    @command()
    def alias(self, _options: Any = None) -> Ref:
        """A reference to which messages for this shell can be sent until Process.unalias."""
        return self._builtins.me.alias()

    @command()
    def unalias(self, ref: Ref) -> bool:
        """Drop messages to the alias from now on. False if it was not one."""
        return self._builtins.me.unalias(ref)

    @command(implicit_call=True)
    def group_leader(self, _pid: Any = None, _leader: Any = None) -> Pid:
        """The process that writes the output of this shell."""
        if _pid is not None:
            raise ValueError("the group leader of a process of Python is not changed")
        return self._builtins.me.group_leader or self._node.internals.group_leader

    @command()
    async def sleep(self, time: Any) -> Atom:
        """Wait for some milliseconds, or :infinity."""
        seconds = milliseconds(time)
        await (asyncio.Event().wait() if seconds is None else asyncio.sleep(seconds))
        return OK

    @command()
    def register(self, pid: Pid, name: Atom) -> bool:
        """Register a name for a process of this node."""
        return self._builtins.register(name, pid)

    @command()
    def unregister(self, name: Atom) -> bool:
        """Remove a name on this node."""
        if not self._node.unregister(as_name(name)):
            raise ValueError(f"no process is registered here as {format_elixir(as_name(name))}")
        return True

    @command()
    def flag(self, name: Atom, value: bool) -> bool:
        """Process.flag(:trap_exit, true): exit signals of linked processes become messages. Returns the old value."""
        if as_name(name).name != "trap_exit":
            raise ValueError("the only supported flag is :trap_exit")
        me = self._builtins.me
        former, me.trap_exit = me.trap_exit, bool(value)
        return former
