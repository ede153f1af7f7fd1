"""The modules ``net_kernel`` and ``sys``, and monitors of nodes. Timeouts are milliseconds, as in iex."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from erlmesh.errors import CalleeExited, CallTimeout, NoProcess
from erlmesh.formatting import format_elixir
from erlmesh.shell.builtins import OK, Builtins, full_node_name
from erlmesh.shell.commands import Module, command
from erlmesh.shell.exits import ShellError, gen_server_error, milliseconds
from erlmesh.terms import Atom, Term

if TYPE_CHECKING:
    from erlmesh.node import Node, Process

__all__ = ["NetKernelModule", "NodeMonitors", "SysModule", "flag_of"]

NODEUP: Final = Atom("nodeup")
NODEDOWN: Final = Atom("nodedown")


class NodeMonitors:
    """Gives the events of nodes to the shell's process. A message goes to the process that the shell has then."""

    def __init__(self, node: Node, builtins: Builtins) -> None:
        self._node = node
        self._builtins = builtins
        self._all: list[Process] = []
        self._single: dict[Atom, list[Process]] = {}

    async def monitor(self, name: Atom) -> None:
        """Send ``{:nodedown, name}`` once, when the node is down; now if it cannot be connected to."""
        if name is not self._node.internals.atom and not await self._node.connect(name):
            self._send((NODEDOWN, name))
            return
        self._single.setdefault(name, []).append(self._listen(lambda event: self._node_down(name, event)))

    def demonitor(self, name: Atom) -> None:
        """Take one ``monitor`` back, if there is one."""
        processes = self._single.get(name)
        if processes:
            processes.pop().stop()

    def monitor_all(self, *, hidden: bool) -> None:
        """Send ``{:nodeup, node}`` and ``{:nodedown, node}`` of all nodes."""
        self._all.append(self._listen(self._send, hidden=hidden))

    def demonitor_all(self) -> None:
        """Take one ``monitor_all`` back, if there is one."""
        if self._all:
            self._all.pop().stop()

    def _listen(self, receive: Callable[[Term], None], *, hidden: bool = True) -> Process:
        process = self._node.spawn_handler(receive)
        self._node.monitor_nodes(process.pid, hidden=hidden)
        return process

    def _node_down(self, name: Atom, event: Term) -> None:
        if event == (NODEDOWN, name):
            self._send((NODEDOWN, name))
            for process in self._single.pop(name, ())[1:]:
                self._send((NODEDOWN, name))
                process.stop()

    def _send(self, message: Term) -> None:
        me = self._builtins.me
        if me.alive:
            me.send(me.pid, message)


class NetKernelModule(Module):
    """OTP's net_kernel: the events and connections of nodes."""

    def __init__(self, node: Node, connect: Callable[..., Any], monitors: NodeMonitors) -> None:
        """``connect`` is the command ``Node.connect``."""
        self._node = node
        self._monitors = monitors
        self.connect_node = connect

    @command()
    def monitor_nodes(self, flag: Any, options: Any = ()) -> Atom:
        """net_kernel.monitor_nodes(true): messages {:nodeup, node} and {:nodedown, node} arrive. false ends it."""
        given = flag_of(flag, "net_kernel.monitor_nodes")
        if given:
            self._monitors.monitor_all(hidden=_wants_hidden(options))
        else:
            self._monitors.demonitor_all()
        return OK

    @command()
    def allow(self, nodes: list[Any]) -> Atom:
        """Connect only with these nodes and those allowed before. Connections that are up stay."""
        self._node.allow([full_node_name(each, self._node.name) for each in nodes])
        return OK

    @command(implicit_call=True)
    def get_net_ticktime(self) -> int:
        """Seconds without data after which a peer is lost."""
        return round(self._node.internals.net_ticktime)


class SysModule(Module):
    """OTP's sys: look at servers of any node, and suspend them."""

    def __init__(self, node: Node, builtins: Builtins, destination_of: Callable[[Any], Any]) -> None:
        """``destination_of`` returns where messages to a server go."""
        self._node = node
        self._builtins = builtins
        self._destination_of = destination_of

    @command()
    async def get_state(self, server: Any, timeout: Any = 5000) -> Term:
        """The state of a server."""
        match await self._ask("get_state", server, Atom("get_state"), timeout):
            case (Atom("ok"), state):
                return state
            case (Atom("error"), reason):
                text = format_elixir(reason)
                if isinstance(reason, tuple) and reason[:1] == (Atom("callback_failed"),):
                    text += ": the process does not show its state. i(pid) shows what is known of it"
                raise ShellError("ErlangError", text)
            case state:
                return state

    @command()
    async def get_status(self, server: Any, timeout: Any = 5000) -> Term:
        """The status of a server, with its state."""
        return await self._ask("get_status", server, Atom("get_status"), timeout)

    @command()
    async def suspend(self, server: Any, timeout: Any = 5000) -> Term:
        """Let a server handle no messages until sys.resume."""
        return await self._ask("suspend", server, Atom("suspend"), timeout)

    @command()
    async def resume(self, server: Any, timeout: Any = 5000) -> Term:
        """Let a suspended server go on."""
        return await self._ask("resume", server, Atom("resume"), timeout)

    @command()
    async def terminate(self, server: Any, reason: Term, timeout: Any = 5000) -> Term:
        """Let a server end with a reason."""
        return await self._ask("terminate", server, (Atom("terminate"), reason), timeout)

    @command()
    async def trace(self, server: Any, flag: Any, timeout: Any = 5000) -> Term:
        """sys.trace(server, true): the node of the server prints what it receives and sends."""
        request = (Atom("debug"), (Atom("trace"), flag_of(flag, "sys.trace")))
        return await self._ask("trace", server, request, timeout)

    @command()
    async def statistics(self, server: Any, flag: Any, timeout: Any = 5000) -> Term:
        """sys.statistics(server, true): count messages. :get returns the numbers, false ends it."""
        wanted: Any = flag if flag is Atom("get") else flag_of(flag, "sys.statistics")
        return await self._ask("statistics", server, (Atom("debug"), (Atom("statistics"), wanted)), timeout)

    async def _ask(self, function: str, server: Any, request: Term, timeout: Any) -> Term:
        """Send a system message, and return its answer."""
        seconds, to = milliseconds(timeout), self._destination_of(server)
        me, ref = self._builtins.me, self._node.internals.make_ref()

        def typed() -> str:
            return f":sys.{function}({format_elixir(server)})"

        def is_answer(message: Term) -> bool:
            return isinstance(message, tuple) and (message[:1] == (ref,) or (len(message) == 5 and message[1] == seen))

        seen = me.monitor(to)
        try:
            if not (isinstance(to, Atom) and self._node.whereis(to) is None):  # else the DOWN says that there is none
                me.send(to, (Atom("system"), (me.pid, ref), request))
            answer = await me.receive(is_answer, timeout=seconds)
        except TimeoutError:
            raise gen_server_error(CallTimeout(""), typed) from None
        finally:
            me.demonitor(seen, flush=True)
        assert isinstance(answer, tuple)
        if len(answer) == 2:
            return answer[1]
        reason = answer[4]
        raise gen_server_error(NoProcess("") if reason is Atom("noproc") else CalleeExited("", reason), typed)


def flag_of(flag: object, function: str) -> bool:
    """Return ``flag`` if it is a bool. Raises TypeError, which names the function."""
    if not isinstance(flag, bool):
        raise TypeError(f"{function} takes true or false, not {format_elixir(flag)}")
    return flag


def _wants_hidden(options: Any) -> bool:
    """Whether the option ``node_type`` asks for hidden nodes too. Raises ValueError for other options."""
    if options in ((), []):
        return False
    if isinstance(options, list):
        found = dict(each for each in options if isinstance(each, tuple) and len(each) == 2)
        kind = found.get(Atom("node_type"))
        if len(found) == len(options) == 1 and kind in (Atom("all"), Atom("visible")):
            return kind is Atom("all")
    raise ValueError("the only option is {:node_type, :visible} or {:node_type, :all}")
