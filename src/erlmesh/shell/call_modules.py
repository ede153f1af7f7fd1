"""The modules ``erpc``, ``rpc``, ``GenServer``, ``net_adm`` and ``erlang``. Timeouts are milliseconds, as in iex."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from erlmesh.errors import (
    CalleeExited,
    CallError,
    CallTimeout,
    NoConnection,
    NoProcess,
    RemoteError,
    RemoteExit,
    RemoteThrow,
)
from erlmesh.formatting import format_elixir
from erlmesh.shell.builtins import NIL, OK, Builtins, as_name, destination, full_node_name
from erlmesh.shell.commands import Module, command
from erlmesh.shell.exits import erpc_error, gen_server_error, milliseconds
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.node import Node
    from erlmesh.shell.modules import NodeModule, ProcessModule

__all__ = ["ErlangModule", "ErpcModule", "GenServerModule", "NetAdmModule", "RpcModule"]

Target: TypeAlias = tuple[str, Atom, Atom, list[Term]]
"""A node, and the function to call there with its arguments."""
ERROR: Final = Atom("error")
INFINITY: Final = Atom("infinity")


class ErpcModule(Module):
    """OTP's erpc: call a function on another node. An error there is an error here."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @command()
    async def call(
        self, node: Atom | str, module: Any, function: Any = None, arguments: Any = None, timeout: Any = INFINITY
    ) -> Term:
        """erpc.call(:"plato@127.0.0.1", :erlang, :node, []): the returned value. A timeout is in milliseconds."""
        name, module, function, arguments = _target(self._node, node, module, function, arguments)
        seconds = milliseconds(timeout)
        try:
            return await self._node.rpc(name, module, function, arguments, timeout=seconds)
        except CallError as error:
            text = f"{format_elixir(module)}.{function.name}/{len(arguments)}"
            raise erpc_error(error, name, text) from None

    @command()
    async def multicall(
        self, nodes: Any, module: Any, function: Any = None, arguments: Any = None, timeout: Any = INFINITY
    ) -> list[Term]:
        """erpc.multicall(nodes, :erlang, :node, []): {:ok, value} or an error like {:error, reason} for each node."""
        found = await _multicall(self._node, nodes, (module, function, arguments), timeout)
        return [_outcome(each) for _, each in found]

    @command()
    def cast(self, node: Atom | str, module: Any, function: Any = None, arguments: Any = None) -> Atom:
        """Call a function on another node without waiting. Returns :ok in any case."""
        self._node.rpc.cast(*_target(self._node, node, module, function, arguments))
        return OK


class RpcModule(Module):
    """OTP's rpc: call a function on another node. An error there is {:badrpc, reason} here."""

    def __init__(self, node: Node, builtins: Builtins) -> None:
        self._node = node
        self._builtins = builtins

    @command()
    async def call(
        self, node: Atom | str, module: Any, function: Any = None, arguments: Any = None, timeout: Any = INFINITY
    ) -> Term:
        """rpc.call(:"plato@127.0.0.1", :erlang, :node, []): the returned value, or {:badrpc, reason}."""
        return await self._ask("call", _target(self._node, node, module, function, arguments), timeout)

    @command()
    async def block_call(
        self, node: Atom | str, module: Any, function: Any = None, arguments: Any = None, timeout: Any = INFINITY
    ) -> Term:
        """The same, in the server rex itself: it does nothing else meanwhile."""
        return await self._ask("block_call", _target(self._node, node, module, function, arguments), timeout)

    @command()
    async def multicall(
        self, nodes: Any, module: Any, function: Any = None, arguments: Any = None, timeout: Any = INFINITY
    ) -> Term:
        """rpc.multicall(nodes, :erlang, :node, []): {[value], [node without an answer]}."""
        found = await _multicall(self._node, nodes, (module, function, arguments), timeout)
        lost = [Atom(name) for name, each in found if isinstance(each, (NoConnection, CallTimeout))]
        values = [each for _, each in found if not isinstance(each, (NoConnection, CallTimeout))]
        return ([_badrpc(each) if isinstance(each, CallError) else each for each in values], lost)

    @command()
    def cast(self, node: Atom | str, module: Any, function: Any = None, arguments: Any = None) -> bool:
        """Call a function on another node without waiting. Returns True in any case."""
        self._node.rpc.cast(*_target(self._node, node, module, function, arguments))
        return True

    async def _ask(self, kind: str, target: Target, timeout: Any) -> Term:
        name, module, function, arguments = target
        request: Term = (Atom(kind), module, function, arguments, self._node.internals.group_leader)
        try:
            return await self._builtins.me.call((Atom("rex"), Atom(name)), request, timeout=milliseconds(timeout))
        except CallTimeout:
            return (Atom("badrpc"), Atom("timeout"))
        except CallError:
            return (Atom("badrpc"), Atom("nodedown"))


async def _multicall(node: Node, nodes: Any, mfa: tuple[Any, Any, Any], timeout: Any) -> list[tuple[str, Any]]:
    """Call a function on several nodes. Return the values and errors in the order of the nodes."""
    if not isinstance(nodes, list):
        raise TypeError("multicall takes a list of nodes first: multicall([node() | nodes()], :erlang, :node, [])")
    if not nodes:
        return []
    _, module, function, arguments = _target(node, nodes[0], *mfa)
    names = [full_node_name(each, node.name) for each in nodes]
    replies = await node.rpc.multicall(names, module, function, arguments, timeout=milliseconds(timeout))
    found = {**replies.replies, **replies.missing}
    return [(name, found[name]) for name in names]


def _outcome(result: Any) -> Term:
    """What ``erpc:multicall`` returns for one node."""
    match result:
        case RemoteError():
            return (ERROR, (Atom("exception"), result.reason, result.stack))
        case RemoteThrow():
            return (Atom("throw"), result.value)
        case RemoteExit():
            return (Atom("exit"), (Atom("exception"), result.reason))
        case CalleeExited():
            return (Atom("exit"), (Atom("signal"), result.reason))
        case CallTimeout():
            return (ERROR, (Atom("erpc"), Atom("timeout")))
        case NoConnection():
            return (ERROR, (Atom("erpc"), Atom("noconnection")))
    return (OK, result)


def _badrpc(error: CallError) -> Term:
    """What ``rpc:multicall`` returns for a function that failed. A thrown value is a value."""
    match error:
        case RemoteThrow():
            return error.value
        case RemoteError():
            return (Atom("badrpc"), (Atom("EXIT"), (error.reason, error.stack)))
    return (Atom("badrpc"), (Atom("EXIT"), getattr(error, "reason", Atom("undefined"))))


def _target(node: Node, name: Any, module: Any, function: Any, arguments: Any) -> Target:
    if callable(module):
        raise TypeError(
            "a function of Python cannot be sent to another node: name it, as in (node, :lists, :sum, [[1]])"
        )
    if not isinstance(arguments, list):
        raise TypeError("a call names a module, a function and a list of arguments: (node, :erlang, :node, [])")
    return full_node_name(name, node.name), as_name(module), as_name(function), arguments


class GenServerModule(Module):
    """Elixir's GenServer: ask servers on any node."""

    def __init__(self, node: Node, builtins: Builtins) -> None:
        self._node = node
        self._builtins = builtins

    @command()
    async def call(self, server: Any, request: Term, timeout: Any = 5000) -> Term:
        """GenServer.call(:name, :request): the reply. server is a pid, a name, {:name, :node} or {:global, name}."""
        seconds, to = milliseconds(timeout), self.destination_of(server)
        try:
            return await self._builtins.me.call(to, request, timeout=seconds)
        except CallError as error:

            def typed() -> str:
                return f"GenServer.call({', '.join(map(format_elixir, (server, request, timeout)))})"

            raise gen_server_error(error, typed) from None

    @command()
    def cast(self, server: Any, request: Term) -> Atom:
        """Send a request without waiting. Returns :ok in any case."""
        self._builtins.me.cast(self.destination_of(server), request)
        return OK

    @command()
    def reply(self, caller: Any, answer: Term) -> Atom:
        """Reply to a call that receive() has returned: {:"$gen_call", caller, request}."""
        if not (isinstance(caller, tuple) and len(caller) == 2 and isinstance(caller[0], Pid)):
            raise TypeError(f"GenServer.reply takes the second element of a call, not {format_elixir(caller)}")
        self._builtins.me.reply(caller, answer)
        return OK

    @command()
    async def multi_call(self, nodes: Any, name: Any = None, request: Any = None, timeout: Any = INFINITY) -> Term:
        """GenServer.multi_call(:name, :request): {[{node, reply}], [node without a reply]}. Also with nodes first."""
        if request is None:
            nodes, name, request = [self._node.name, *self._node.nodes()], nodes, name
        names = [full_node_name(each, self._node.name) for each in nodes]
        seconds, me, server = milliseconds(timeout), self._builtins.me, as_name(name)
        calls = [me.call((server, Atom(each)), request, timeout=seconds) for each in names]
        found = await asyncio.gather(*calls, return_exceptions=True)
        for each in found:
            if isinstance(each, BaseException) and not isinstance(each, CallError):
                raise each
        pairs = [*zip(map(Atom, names), found, strict=True)]
        replies = [pair for pair in pairs if not isinstance(pair[1], CallError)]
        return (replies, [node for node, each in pairs if isinstance(each, CallError)])

    @command()
    async def stop(self, server: Any, reason: Term = Atom("normal"), timeout: Any = INFINITY) -> Atom:  # noqa: B008
        """Stop a server with a reason, and wait for its end."""
        to = self.destination_of(server)
        me, ref = self._builtins.me, self._node.internals.make_ref()
        monitor, seconds = me.monitor(to), milliseconds(timeout)

        def is_end(message: Term) -> bool:
            return isinstance(message, tuple) and len(message) == 5 and message[1] == monitor

        def typed() -> str:
            return f"GenServer.stop({format_elixir(server)})"

        try:
            if not (isinstance(to, Atom) and self._node.whereis(to) is None):  # else the DOWN says that there is none
                me.send(to, (Atom("system"), (me.pid, ref), (Atom("terminate"), reason)))
            down = await me.receive(is_end, timeout=seconds)
        except TimeoutError:
            raise gen_server_error(CallTimeout(""), typed) from None
        finally:
            me.demonitor(monitor, flush=True)
            me.receive_nowait(lambda message: isinstance(message, tuple) and message[:1] == (ref,))
        ended = down[4] if isinstance(down, tuple) else None
        if ended == reason:
            return OK
        error = NoProcess("") if ended is Atom("noproc") else CalleeExited("", ended)
        raise gen_server_error(error, typed)

    @command()
    def whereis(self, server: Any) -> Term:
        """The pid of a server: nil if there is none. {:name, :node} is returned as it is."""
        if isinstance(server, tuple) and server[:1] == (Atom("global"),) and len(server) == 2:
            return self._node.global_.whereis(server[1]) or NIL
        if isinstance(server, (Atom, str)):
            return self._node.whereis(as_name(server)) or NIL
        return destination(server)

    def destination_of(self, server: Any) -> Any:
        """Return where messages to a server go. Raises ValueError for a global name that no process has."""
        if isinstance(server, tuple) and server[:1] == (Atom("global"),) and len(server) == 2:
            pid = self._node.global_.whereis(server[1])
            if pid is None:
                raise ValueError(f"no process has the global name {format_elixir(server[1])}")
            return pid
        if isinstance(server, tuple) and len(server) == 2 and isinstance(server[1], (Atom, str)):
            return (as_name(server[0]), Atom(full_node_name(server[1], self._node.name)))
        return destination(server)


class NetAdmModule(Module):
    """OTP's net_adm: nodes and the port mapper."""

    def __init__(self, node: Node, nodes: NodeModule) -> None:
        self._node = node
        self.ping = nodes.ping

    @command()
    async def names(self, host: Any = None) -> Term:
        """{:ok, [{name, port}]}: the nodes that the port mapper of this host, or another one, knows."""
        from erlmesh.errors import ErlmeshError  # noqa: PLC0415 - rarely called
        from erlmesh.net.epmd import default_port, registered_names  # noqa: PLC0415

        where = self._node.name.partition("@")[2] if host is None else as_name(host).name
        try:
            found = await registered_names(where, default_port())
        except (OSError, ErlmeshError):
            return (Atom("error"), Atom("address"))
        return (OK, [([*map(ord, name)], port) for name, port in found.items()])

    @command(implicit_call=True)
    def localhost(self) -> Term:
        """The host of this node."""
        return [*map(ord, self._node.name.partition("@")[2])]


class ErlangModule(Module):
    """Some functions of OTP's erlang. The commands of this shell do the same."""

    def __init__(self, node: Node, builtins: Builtins, nodes: NodeModule, process: ProcessModule) -> None:
        self._node = node
        self._builtins = builtins
        self._nodes = nodes
        self.self, self.send, self.exit = builtins.self, builtins.send, builtins.exit
        self.link, self.unlink = builtins.link, builtins.unlink
        self.is_process_alive, self.registered, self.processes = process.alive, process.registered, process.list
        self._process = process

    @command(implicit_call=True)
    def node(self, of: Pid | Ref | None = None) -> Atom:
        """The name of this node, or the node of a pid or reference."""
        return self._builtins.node(of)

    @command(implicit_call=True)
    def nodes(self, which: Atom | str = "visible") -> list[Atom]:
        """The connected nodes: erlang.nodes(:hidden) are the hidden ones."""
        return self._nodes.list(which)

    @command()
    def whereis(self, name: Any) -> Pid | Atom:
        """The process registered under a name on this node, or :undefined."""
        return self._node.whereis(as_name(name)) or Atom("undefined")

    @command()
    def process_info(self, pid: Pid, item: Any = None) -> Term:
        """The items of a process of this node, or one of them, or :undefined."""
        found = self._process.info(pid, item)
        return Atom("undefined") if found is NIL else found

    @command()
    def monitor(self, kind: Any, target: Any) -> Ref:
        """erlang.monitor(:process, pid): a DOWN message arrives when it exits."""
        if kind is not Atom("process"):
            raise ValueError("only processes can be monitored: erlang.monitor(:process, pid)")
        return self._builtins.monitor(target)

    @command()
    def demonitor(self, ref: Ref, _options: Any = None) -> bool:
        """Remove a monitor, and its DOWN message from the mailbox."""
        self._builtins.demonitor(ref)
        return True

    @command()
    def register(self, name: Any, pid: Pid) -> bool:
        """Register a name for a process of this node."""
        return self._builtins.register(name, pid)

    @command()
    def unregister(self, name: Any) -> bool:
        """Remove a name on this node."""
        return self._process.unregister(name)
