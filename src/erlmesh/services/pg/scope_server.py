"""The server process of one scope: it exchanges the members of the groups with the servers of the other nodes.

:class:`ScopeState` holds the members and implements the protocol (see ``state.py``). The server passes it what arrives,
and carries out the effects that it returns. It also answers the calls of OTP's pg module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from erlmesh.collector import without_collector
from erlmesh.core import gen
from erlmesh.net.event_log import event_log
from erlmesh.runtime.multicast import RepeatSender
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.services.gen_server import BADARG, ERROR, OK, handle_system_msg
from erlmesh.services.pg.observers import Observers
from erlmesh.services.pg.payloads import are_on, is_sync_of, parse_pids
from erlmesh.services.pg.protocol import Demonitor, Effect, Monitor, SendTo, Tag
from erlmesh.services.pg.state import ScopeState
from erlmesh.terms import Atom, Map, Pid, Ref, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.pg.hidden_exchange import HiddenExchange

__all__ = ["ScopeServer"]

log = event_log("erlmesh.pg")
_peer_log = PeerLog(log)

NOT_JOINED: Final = Atom("not_joined")
NOLOCAL: Final = Atom("nolocal")


class ScopeServer:
    """The server of ``scope`` on ``node``. It is registered under the name of the scope.

    With ``restart``, only :meth:`stop` ends it. After an exit signal it starts again, and the members stay. ``hidden``
    says that this node is hidden: the server starts the exchange with each node.
    """

    def __init__(self, node: Runtime, scope: Atom, *, restart: bool, hidden: bool) -> None:
        self._node = node
        self._scope = scope
        self._restart = restart
        self._hidden = hidden
        self._start_process()
        self.state = ScopeState(self.process.pid)
        """The members. Who changes them passes the effects to :meth:`apply`. Another one replaces it at the end."""
        self.observers = Observers(node, scope, self.process, self.state)
        for name in node.nodes():
            self.send_discover(Atom(name))
        if self._exchange is not None:
            self._exchange.start()

    def _start_process(self) -> None:
        self.process: LocalProcess = self._node.spawn_handler(
            self._handle_message, name=self._scope, on_end=self._on_exit
        )
        self.process.trap_exit = False  # As in pg.erl: an exit signal ends the server.
        self.process.handles_system_messages = True
        # The monitors of local members and of other servers, as the effects of the state ask for them.
        self._monitor_refs: dict[Pid, Ref] = {}
        self._node.monitor_nodes(self.process.pid)
        self._exchange: HiddenExchange | None = None
        if self._hidden:
            from erlmesh.services.pg.hidden_exchange import HiddenExchange  # noqa: PLC0415 - most nodes are visible

            known = lambda: self.state.peer_nodes()  # noqa: E731, PLW0108 - there is no state yet
            self._exchange = HiddenExchange(self._node, self.process, known, self.send_discover)

    def stop(self, reason: Term) -> None:
        """End the server for good. It has no members then, and its watches end."""
        self._restart = False
        self.process.stop(reason)

    def _on_exit(self) -> None:
        """Start the server again, or forget all members. The other nodes have seen the DOWN of the server.

        Any process can send the exit signal: a pid is no secret. So it must not cost the node its groups.
        """
        if self._restart:
            log.warning(
                "pg_restarted",
                "the server of the pg scope %s terminated and starts again",
                self._scope,
                scope=self._scope,
            )
            self._start_process()
            self.observers.server_restarted(self.process)
            self.apply(self.state.restarted(self.process.pid))
            # A hidden node is no node of `nodes()`, but its scope may be known.
            for node in dict.fromkeys((*map(Atom, self._node.nodes()), *self.state.peer_nodes())):
                self.send_discover(node)
            if self._exchange is not None:
                self._exchange.start()
            return
        self.state = ScopeState(self.process.pid)
        self.observers.scope_ended(self.state)

    def apply(self, effects: Sequence[Effect]) -> None:
        """Carry out the effects of a change in order, then notify observers."""
        sender = RepeatSender(self.process)
        for effect in effects:
            match effect:
                case SendTo(server, message):
                    sender.send(server, message)
                case Monitor(pid):
                    self._monitor_refs[pid] = self.process.monitor(pid)
                case Demonitor(pid):
                    self.process.demonitor(self._monitor_refs.pop(pid), flush=True)
                case _:
                    assert_never(effect)
        self.observers.notify()

    def send_discover(self, node: Atom) -> None:
        """Send a discover to the scope on ``node``, whether or not one runs there."""
        # Two elements are understood by all releases. Later ones also accept {discover, Pid, Version}, but OTP 25
        # has no clause for it, and its scope would crash.
        self.process.send((self._scope, node), (Tag.DISCOVER, self.process.pid))

    def first_remote(self, pids: Sequence[Pid]) -> Pid | None:
        """Return the first pid that is not of this node's current incarnation, or None."""
        server = self.process.pid
        return next((pid for pid in pids if pid.node is not server.node or pid.creation != server.creation), None)

    # Messages

    def _handle_message(self, message: Term) -> None:
        """Handle one message. A message of an unknown form is ignored; a BEAM's pg would crash."""
        # A join is the most frequent message, so it is not compared with all the patterns below.
        if type(message) is tuple and len(message) == 4 and message[0] is Tag.JOIN and type(message[1]) is Pid:
            self._handle_join(*message)
            return
        match message:
            # A server speaks for its own node only. Its callers are on the node that the message comes from.
            case (
                (Tag.LEAVE, Pid() as sender, _, _)
                | (Tag.DISCOVER, Pid() as sender)
                | (Tag.DISCOVER, Pid() as sender, _)
                | (gen.GEN_CAST, (Tag.SYNC, Pid() as sender, _))
                | (gen.GEN_CALL, (Pid() as sender, _), _)
            ) if not self._node.is_message_from(sender.node):
                pass
            case (Atom("DOWN") | Atom("nodeup") | Atom("nodedown"), *_) if not self._node.is_message_local():
                pass
            case (Tag.LEAVE, Pid() as server, members, list() as groups) if pids := parse_pids(members):
                self.state.handle_leave(server, pids, groups)
                self.observers.notify()
            # The form with a protocol version is sent by later releases than OTP 25.
            case (Tag.DISCOVER, Pid() as server) | (Tag.DISCOVER, Pid() as server, _):
                self.apply(self.state.handle_discover(server))
            case (gen.GEN_CAST, (Tag.SYNC, Pid() as server, groups)) if is_sync_of(server.node, groups):
                self.apply(without_collector(self.state.handle_sync, server, groups))
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                self.process.reply(caller, self._handle_call(caller[0], request))
            case (Atom("system"), (Pid(), _) as caller, request):
                handle_system_msg(self.process, caller, request, get_state=self._sys_state)
            case (Atom("DOWN"), Ref() as ref, _, Pid() as pid, reason):
                self._handle_down(ref, pid, reason)
            case (Atom("nodeup"), Atom() as name):
                self.send_discover(name)
                if self._exchange is not None:
                    self._exchange.node_up(name)
            case (Atom("nodedown"), Atom() as name):
                if self._exchange is not None:  # Otherwise the monitor of the node's server reports all of the loss.
                    self._exchange.node_down(name)
            case Tag.DISCOVER if self._exchange is not None and self._node.is_message_local():
                self._exchange.timer_fired()
            case (Tag.LEAVE, Pid(), [], _):
                pass  # An empty list of members changes nothing.
            case _:
                self._ignored(message)

    def _handle_join(self, tag: Atom, server: Pid, group: Term, members: Term) -> None:
        """Handle ``{join, Server, Group, Members}``."""
        if not self._node.is_message_from(server.node):
            return
        pids = parse_pids(members)
        if pids and are_on(server.node, pids):
            self.state.handle_join(server, group, pids)
            self.observers.notify()
        elif pids != []:  # An empty list of members changes nothing.
            self._ignored((tag, server, group, members))

    def _ignored(self, message: Term) -> None:
        _peer_log.debug("message_ignored", "%s: ignored %s", self._scope, ForeignText(message), scope=self._scope)

    def _handle_call(self, caller: Pid, request: Term) -> Term:
        """Answer the calls of pg.erl's own API functions.

        On a BEAM only the local pg module makes these calls. Here they arrive from any process that knows our pid.
        """
        state, observers = self.state, self.observers
        match request:
            case (Atom("join_local"), group, members) if (pids := parse_pids(members)) is not None:
                if remote := self.first_remote(pids):
                    return (ERROR, (NOLOCAL, remote))
                self.apply(state.join(group, pids))
                return OK
            case (Atom("leave_local"), group, members) if (pids := parse_pids(members)) is not None:
                left, effects = state.leave(group, pids)
                self.apply(effects)
                return OK if left else NOT_JOINED
            case Atom("monitor") | (Atom("monitor"), _) if observers.monitors.is_full(caller.node):
                return BADARG
            case Atom("monitor"):
                members_by_group = Map((group, list(state.members(group))) for group in state.groups())
                return (observers.monitor_scope(caller), members_by_group)
            case (Atom("monitor"), group):
                return (observers.monitor(caller, group), list(state.members(group)))
            case (Atom("demonitor"), Ref() as ref):
                return OK if observers.demonitor(ref) else False
        _peer_log.debug("request_ignored", "%s: unknown call %s", self._scope, ForeignText(request), scope=self._scope)
        return BADARG

    def _sys_state(self) -> Term:
        """Return what ``sys:get_state`` shows of OTP's pg: ``#state{}`` of pg.erl.

        The fields are scope, local members, other servers with their members, scope monitors, and group monitors
        twice.
        """
        local, remote = self.state.dump()
        scope, by_ref, by_group = self.observers.monitors.dump()
        members = Map((pid, (self._monitor_refs[pid], groups)) for pid, groups in local)
        servers = Map((pid, (self._monitor_refs[pid], Map(groups))) for pid, groups in remote)
        return (Atom("state"), self._scope, members, servers, Map(scope), Map(by_ref), Map(by_group))

    def _handle_down(self, ref: Ref, pid: Pid, reason: Term) -> None:
        """Handle the DOWN of a member or server. Any other ref belongs to a process that monitors groups."""
        if self._monitor_refs.get(pid) == ref:
            del self._monitor_refs[pid]
            self.apply(self.state.handle_down(pid, reason))
            if self._exchange is not None and pid.node is not self.process.pid.node:
                self._exchange.server_lost(pid)
        else:
            self.observers.demonitor(ref)
