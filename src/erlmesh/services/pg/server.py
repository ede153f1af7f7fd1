"""pg: the process groups of OTP 23 and later, on all connected nodes.

A group exists while it has members; it is not created or deleted. No call waits for another node. :class:`Pg` is the
server process of one scope and its public API. :class:`ScopeState` holds the members and implements the protocol (see
``state.py``). :class:`Pg` carries out the effects that it returns.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeGuard, assert_never

from erlmesh.collector import without_collector
from erlmesh.core import gen
from erlmesh.errors import NoProcess
from erlmesh.net.event_log import event_log
from erlmesh.runtime.multicast import RepeatSender, send_to_each
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.services.gen_server import BADARG, ERROR, OK, handle_system_msg
from erlmesh.services.group_names import normalize_group_name
from erlmesh.services.pg.dispatch import Membership, MultiCallResult, Picker, multi_call_members
from erlmesh.services.pg.monitors import MonitorTable
from erlmesh.services.pg.protocol import (
    Demonitor,
    Effect,
    GroupEvent,
    Joined,
    LeavingLater,
    Left,
    Monitor,
    PgStatistics,
    SendTo,
    Tag,
)
from erlmesh.services.pg.state import ScopeState
from erlmesh.services.pg.watches import GroupEvents, GroupWatch
from erlmesh.terms import Atom, Map, Pid, Ref, Term, exact_key
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.pg.hidden_exchange import HiddenExchange

__all__ = ["GroupEvent", "GroupEvents", "Joined", "Left", "Pg"]

log = event_log("erlmesh.pg")
_peer_log = PeerLog(log)

NORMAL: Final = Atom("normal")
NOT_JOINED: Final = Atom("not_joined")
NOLOCAL: Final = Atom("nolocal")
_node_of = attrgetter("node")
_PID: Final = frozenset({Pid})


class Pg:
    """One scope of process groups on ``node``. ``node.pg`` is the default scope, named ``pg``.

    A group is any term. Its members are processes of any connected node. A process that joins twice is a member
    twice. A process that terminates leaves all its groups. If the connection to a node is lost, its members leave.
    """

    def __init__(
        self,
        node: Runtime,
        scope: Atom = Atom("pg"),  # noqa: B008 - an atom is a constant
        scopes: dict[Atom, Pg] | None = None,
        *,
        restart: bool = True,
        hidden: bool = False,
    ) -> None:
        """``hidden`` says that this node is hidden: the scope starts the exchange with each node."""
        self._node = node
        self._hidden = hidden
        # All scopes of the node by name, running or stopped. They share the table.
        self._scopes = {} if scopes is None else scopes
        self.scope = scope
        self._restart = restart
        self._start_process()
        self._state = ScopeState(self._process.pid)
        # The watched groups by exact_key.
        self._watches: dict[Hashable, GroupWatch] = {}
        self._subscribers: list[Callable[[GroupEvent], None]] = []
        # True while observers are called. A nested change only adds events to the queue.
        self._notifying = False
        self._is_leaving = False
        """True while the node stops: no process joins any more."""
        self._leaving_later: dict[LeavingLater, None] = {}
        self._picker = Picker(node.random)
        for name in node.nodes():
            self._send_discover(Atom(name))
        if self._exchange is not None:
            self._exchange.start()

    def _start_process(self) -> None:
        self._process = self._node.spawn_handler(self._handle_message, name=self.scope, on_end=self._on_exit)
        self._process.trap_exit = False  # As in pg.erl: an exit signal ends the server.
        self._process.handles_system_messages = True
        # The monitors of local members and of other servers, as the effects of the state ask for them.
        self._monitor_refs: dict[Pid, Ref] = {}
        # The processes that called pg:monitor/1,2 or pg:monitor_scope/0,1. They have monitors of their own.
        self._monitors = MonitorTable(self._process)
        self._node.monitor_nodes(self._process.pid)
        self._exchange: HiddenExchange | None = None
        if self._hidden:
            from erlmesh.services.pg.hidden_exchange import HiddenExchange  # noqa: PLC0415 - most nodes are visible

            known = lambda: self._state.peer_nodes()  # noqa: E731, PLW0108 - there is no state yet
            self._exchange = HiddenExchange(self._node, self._process, known, self._send_discover)

    # The API

    def start_scope(self, name: Atom | str, *, restart: bool = True) -> Pg:
        """Start another scope of this node (``pg:start/1``), or start it again after it has stopped.

        With ``restart``, only :meth:`stop` ends it: after an exit signal its server starts again, as under a supervisor
        in OTP, and the members stay. Raises ``ValueError`` if the name is registered.
        """
        scope = Pg(self._node, Atom(name), self._scopes, restart=restart, hidden=self._hidden)
        self._scopes[scope.scope] = scope
        return scope

    def find_scope(self, name: Atom | str) -> Pg | None:
        """The running scope of this node with that name."""
        scope = self._scopes.get(Atom(name))
        return scope if scope is not None and scope.alive else None

    @property
    def pid(self) -> Pid:
        """The server's pid. It is registered under the name of the scope."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False after :meth:`stop` and after the node has stopped."""
        return self._process.alive

    def stop(self, reason: Term = NORMAL) -> None:
        """Stop the scope.

        It has no groups on this node any more, our members leave on the other nodes, and its name is free.
        :meth:`start_scope` starts the scope again.
        """
        self._restart = False
        self._process.stop(reason)

    def _on_exit(self) -> None:
        """Start the server again, or forget all members. The other nodes have seen the DOWN of the server.

        Any process can send the exit signal: a pid is no secret. So it must not cost the node its groups.
        """
        if self._restart:
            log.warning(
                "pg_restarted",
                "the server of the pg scope %s terminated and starts again",
                self.scope,
                scope=self.scope,
            )
            self._start_process()
            self._update_recording()
            self._apply_effects(self._state.restarted(self._process.pid))
            # A hidden node is no node of `nodes()`, but its scope may be known.
            for node in dict.fromkeys((*map(Atom, self._node.nodes()), *self._state.peer_nodes())):
                self._send_discover(node)
            if self._exchange is not None:
                self._exchange.start()
            return
        self._state = ScopeState(self._process.pid)
        for watch in tuple(self._watches.values()):
            watch.end()

    def join(self, group: Term, pids: Pid | Iterable[Pid]) -> None:
        """Add one or several processes of this node to ``group``. A process that is a member already is added once
        more.

        Raises ``ValueError`` for a process of another node, which must join there. Raises ``TypeError`` for a value
        that is not a pid, ``EncodeError`` for a group that is not a term, and ``NoProcess`` if the scope has stopped.
        While the node stops this does nothing.
        """
        members = self._require_local(pids)
        if not self._is_leaving:
            self._apply_effects(self._state.join(normalize_group_name(group), members))

    def leave(self, group: Term, pids: Pid | Iterable[Pid]) -> bool:
        """Remove one or several processes of this node from ``group``, once each. Return False if none was a member.

        Raises the same exceptions as :meth:`join`, except ``EncodeError``.
        """
        left, effects = self._state.leave(group, self._require_local(pids))
        self._apply_effects(effects)
        return left

    def leave_all(self) -> None:
        """Let all local processes leave all their groups, because the node stops. From now on nobody joins."""
        self._is_leaving = True
        if self.alive:
            later = list(self._leaving_later)
            self._apply_effects(self._state.leave_all(lambda pid, group: any(each.stays(pid, group) for each in later)))
            for each in later:
                each.on_stop()

    def leave_later(self, pid: Pid, tag: bytes | None, on_stop: Callable[[], None]) -> Callable[[], None]:
        """Let a local process stay in the groups ``(tag, …)`` while the node stops, until it leaves them or ends.

        Without a tag it stays in all of its groups.
        ``on_stop()`` is called when all others have left. Return a function that ends this.
        """
        entry = LeavingLater(pid, tag, on_stop)
        self._leaving_later[entry] = None
        return lambda: self._leaving_later.pop(entry, None)

    def get_members(self, group: Term) -> list[Pid]:
        """The members on all nodes, newest first, repeated as often as they joined. ``[]`` if there are none.

        The list is a copy, which the caller may change. :meth:`snapshot` does not copy.
        """
        return list(self._state.members(group))

    def get_local_members(self, group: Term) -> list[Pid]:
        """The members on this node, newest first. The list is a copy."""
        return list(self._state.local_members(group))

    def which_groups(self) -> list[Term]:
        """All groups that have members."""
        return self._state.groups()

    def which_local_groups(self) -> list[Term]:
        """The groups that have members on this node."""
        return self._state.local_groups()

    def discover(self, node: Atom | str) -> None:
        """Exchange members with the scope of the same name on ``node``.

        Scopes do this by themselves when two visible nodes connect, and on a hidden erlmesh node with each connection.
        A hidden BEAM does not: call this once for each connection with it.
        """
        self._send_discover(Atom(node))

    def knows_groups_of(self, node: Atom | str) -> bool:
        """Whether the scope of the same name on ``node`` has sent its groups since it is connected."""
        return self._state.has_sync_of(Atom(node))

    def watch(self, group: Term) -> GroupEvents:
        """Return the changes of ``group``, :class:`Joined` and :class:`Left`, for ``async for``.

        The subscription starts with this call. Call :meth:`get_members` before the next ``await`` to get the matching
        initial state.
        """
        return GroupEvents(self._node, self._watch(group))

    def watch_in_mailbox(self, process: LocalProcess, group: Term) -> Callable[[], None]:
        """Send the members of ``group`` and its changes to a local process. See :meth:`Process.monitor_group`."""
        if not self.alive:
            raise NoProcess(f"the pg scope {self.scope} has stopped")
        return self._watch(group).add_mailbox(process, normalize_group_name(group), self._state.members(group))

    def _watch(self, group: Term) -> GroupWatch:
        key = exact_key(group)
        watch = self._watches.get(key)
        if watch is None:
            watch = GroupWatch(self._node, self._state.members(group), lambda: self._end_watch(key))
            self._watches[key] = watch
            if not self.alive:
                watch.end()
            self._update_recording()
        return watch

    def subscribe(self, callback: Callable[[GroupEvent], None]) -> Callable[[], None]:
        """Call ``callback`` with each change of any group. Return a function that ends the subscription.

        The members already include the change when ``callback`` runs. An exception in ``callback`` is logged.
        """

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)
                self._update_recording()

        self._subscribers.append(callback)
        self._update_recording()
        return unsubscribe

    def snapshot(self, group: Term) -> Membership:
        """The current members of the group as an immutable value.

        It is built once, and again after a change of the group.
        """
        return Membership(group, self._state.members(group), self._state.local_members(group))

    # Beyond OTP's API: address a group instead of a process

    def publish(self, group: Term, message: Term) -> int:
        """Send ``message`` to every process in the group, once each however often it joined. Return the number of
        processes.

        Raises ``EncodeError`` if ``message`` is not a term and a member is on another node. Then no process gets it.
        """
        return send_to_each(self._process, self._state.recipients(group), message)

    def pick(self, group: Term, strategy: str = "local") -> Pid | None:
        """Return one member, or None if there is none. Raises ``ValueError`` for an unknown strategy.

        - ``local``: a random member of this node, or of any node if this one has none.
        - ``random``: a random member of any node.
        - ``round_robin``: each member in turn.

        The time does not depend on the size of the group, also if the group changes between two picks.
        """
        state = self._state
        return self._picker.pick(group, strategy, state.candidates(group), state.local_candidates(group))

    def owner(self, group: Term, key: str | bytes) -> Pid | None:
        """Return the member that is responsible for ``key``, or None if there is none.

        Nodes that see the same members give the same answer, also in Elixir. A member whose node leaves gives away its
        own keys only; one on a new node takes an equal share from each of the others. This is no exclusion: while a
        node starts, stops or is cut off, two nodes can see different members. ``node.shards`` is for work that only one
        process may do.

        A ``str`` is the same key as its UTF-8 bytes. Raises ``TypeError`` for a key of another type.
        """
        from erlmesh.core.sharding.rendezvous import key_bytes  # noqa: PLC0415 - it loads hashlib

        found = self._state.rendezvous(group)
        wanted = key_bytes(key)
        return None if found is None else found.owner(wanted)

    def owners(self, group: Term, key: str | bytes, count: int) -> list[Pid]:
        """Return ``count`` members on different nodes, the :meth:`owner` of ``key`` first. Fewer if there are fewer
        nodes.

        The second one becomes the owner when the node of the first one leaves. Raises ``TypeError`` as :meth:`owner`,
        and ``ValueError`` for a negative count.
        """
        from erlmesh.core.sharding.rendezvous import key_bytes  # noqa: PLC0415 - it loads hashlib

        if count < 0:
            raise ValueError(f"a count is 0 or more, not {count}")
        found = self._state.rendezvous(group)
        wanted = key_bytes(key)
        return [] if found is None else found.owners(wanted, count)

    async def multi_call(self, group: Term, request: Term, *, timeout: float | None = 5.0) -> MultiCallResult:
        """Make the ``gen_server`` call ``request`` to every process in the group at the same time, once each.

        Return the replies by pid, and the reasons of the members that did not reply, by pid. A reason is ``timeout``
        after ``timeout`` seconds, ``noproc``, ``noconnection`` or an exit reason. A late reply is dropped. Raises
        ``EncodeError`` if ``request`` is not a term.
        """
        return await multi_call_members(self._node, dict.fromkeys(self._state.members(group)), request, timeout)

    def statistics(self) -> PgStatistics:
        """Counts of groups, memberships and known servers. They are counters: the time does not grow with them."""
        return self._state.statistics()

    # The server

    def _handle_message(self, message: Term) -> None:
        """Handle one message. A message of an unknown form is ignored; a BEAM's pg would crash."""
        match message:
            # A server speaks for its own node only. Its callers are on the node that the message comes from.
            case (
                (Tag.JOIN | Tag.LEAVE, Pid() as sender, _, _)
                | (Tag.DISCOVER, Pid() as sender)
                | (Tag.DISCOVER, Pid() as sender, _)
                | (gen.GEN_CAST, (Tag.SYNC, Pid() as sender, _))
                | (gen.GEN_CALL, (Pid() as sender, _), _)
            ) if not self._node.is_message_from(sender.node):
                pass
            case (Atom("DOWN") | Atom("nodeup") | Atom("nodedown"), *_) if not self._node.is_message_local():
                pass
            case (Tag.JOIN, Pid() as server, group, members) if (pids := _parse_pids(members)) and _are_on(
                server.node, pids
            ):
                self._state.handle_join(server, group, pids)
                self._notify_observers()
            case (Tag.LEAVE, Pid() as server, members, list() as groups) if pids := _parse_pids(members):
                self._state.handle_leave(server, pids, groups)
                self._notify_observers()
            # The form with a protocol version is sent by later releases than OTP 25.
            case (Tag.DISCOVER, Pid() as server) | (Tag.DISCOVER, Pid() as server, _):
                self._apply_effects(self._state.handle_discover(server))
            case (gen.GEN_CAST, (Tag.SYNC, Pid() as server, groups)) if _is_sync_payload(groups) and _are_on(
                server.node, chain.from_iterable(pids for _, pids in groups)
            ):
                self._apply_effects(without_collector(self._state.handle_sync, server, groups))
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                self._process.reply(caller, self._handle_call(caller[0], request))
            case (Atom("system"), (Pid(), _) as caller, request):
                handle_system_msg(self._process, caller, request, get_state=self._sys_state)
            case (Atom("DOWN"), Ref() as ref, _, Pid() as pid, reason):
                self._handle_down(ref, pid, reason)
            case (Atom("nodeup"), Atom() as name):
                self._send_discover(name)
                if self._exchange is not None:
                    self._exchange.node_up(name)
            case (Atom("nodedown"), Atom() as name):
                if self._exchange is not None:  # Otherwise the monitor of the node's server reports all of the loss.
                    self._exchange.node_down(name)
            case Tag.DISCOVER if self._exchange is not None and self._node.is_message_local():
                self._exchange.timer_fired()
            case (Tag.JOIN, Pid(), _, []) | (Tag.LEAVE, Pid(), [], _):
                pass  # Empty member lists change nothing.
            case _:
                _peer_log.debug("message_ignored", "%s: ignored %s", self.scope, ForeignText(message), scope=self.scope)

    def _handle_call(self, caller: Pid, request: Term) -> Term:
        """Answer the calls of pg.erl's own API functions.

        On a BEAM only the local pg module makes these calls. Here they arrive from any process that knows our pid.
        """
        match request:
            case (Atom("join_local"), group, members) if (pids := _parse_pids(members)) is not None:
                if remote := self._first_remote(pids):
                    return (ERROR, (NOLOCAL, remote))
                self._apply_effects(self._state.join(group, pids))
                return OK
            case (Atom("leave_local"), group, members) if (pids := _parse_pids(members)) is not None:
                left, effects = self._state.leave(group, pids)
                self._apply_effects(effects)
                return OK if left else NOT_JOINED
            case Atom("monitor") | (Atom("monitor"), _) if self._monitors.is_full(caller.node):
                return BADARG
            case Atom("monitor"):
                members_by_group = Map((group, self.get_members(group)) for group in self._state.groups())
                return (self._monitor_added(self._monitors.add_scope(caller)), members_by_group)
            case (Atom("monitor"), group):
                return (self._monitor_added(self._monitors.add(caller, group)), self.get_members(group))
            case (Atom("demonitor"), Ref() as ref):
                return OK if self._remove_monitor(ref) else False
        _peer_log.debug("request_ignored", "%s: unknown call %s", self.scope, ForeignText(request), scope=self.scope)
        return BADARG

    def _sys_state(self) -> Term:
        """Return what ``sys:get_state`` shows of OTP's pg: ``#state{}`` of pg.erl.

        The fields are scope, local members, other servers with their members, scope monitors, and group monitors
        twice.
        """
        local, remote = self._state.dump()
        scope, by_ref, by_group = self._monitors.dump()
        members = Map((pid, (self._monitor_refs[pid], groups)) for pid, groups in local)
        servers = Map((pid, (self._monitor_refs[pid], Map(groups))) for pid, groups in remote)
        return (Atom("state"), self.scope, members, servers, Map(scope), Map(by_ref), Map(by_group))

    def _send_discover(self, node: Atom) -> None:
        """Send a discover to the scope on ``node``, whether or not one runs there."""
        # Two elements are understood by all releases. Later ones also accept {discover, Pid, Version}, but OTP 25
        # has no clause for it, and its scope would crash.
        self._process.send((self.scope, node), (Tag.DISCOVER, self._process.pid))

    def _handle_down(self, ref: Ref, pid: Pid, reason: Term) -> None:
        """Handle the DOWN of a member or server. Any other ref belongs to a process that monitors groups."""
        if self._monitor_refs.get(pid) == ref:
            del self._monitor_refs[pid]
            self._apply_effects(self._state.handle_down(pid, reason))
            if self._exchange is not None and pid.node is not self._process.pid.node:
                self._exchange.server_lost(pid)
        else:
            self._remove_monitor(ref)

    def _apply_effects(self, effects: Sequence[Effect]) -> None:
        """Carry out the effects in order, then notify observers."""
        sender = RepeatSender(self._process)
        for effect in effects:
            match effect:
                case SendTo(server, message):
                    sender.send(server, message)
                case Monitor(pid):
                    self._monitor_refs[pid] = self._process.monitor(pid)
                case Demonitor(pid):
                    self._process.demonitor(self._monitor_refs.pop(pid), flush=True)
                case _:
                    assert_never(effect)
        self._notify_observers()

    # Observers

    def _notify_observers(self) -> None:
        """Pass recorded events to monitors, watches and subscribers.

        A callback that joins or leaves appends events to the queue. The running loop takes them, so all observers see
        the same order.
        """
        if self._notifying or not self._state.recording:
            return
        self._notifying = True
        try:
            while events := self._state.take_events():
                for event in events:
                    key = exact_key(event.group)
                    if self._monitors:
                        self._monitors.notify(key, event)
                    if (watch := self._watches.get(key)) is not None:
                        watch.on_event(event)
                    for callback in tuple(self._subscribers):
                        self._call_subscriber(callback, event)
        finally:
            self._notifying = False

    def _call_subscriber(self, callback: Callable[[GroupEvent], None], event: GroupEvent) -> None:
        try:
            callback(event)
        except Exception:
            log.exception(
                "pg_subscriber_failed",
                "%s: a subscriber raised an exception on %s",
                self.scope,
                ForeignText(event),
                scope=self.scope,
            )

    def _update_recording(self) -> None:
        """Record events only while there is an observer."""
        self._state.recording = bool(self._subscribers or self._watches or self._monitors)

    def _end_watch(self, key: Hashable) -> None:
        """The watch of this group has ended: its last iteration has, or the scope."""
        self._watches.pop(key, None)
        self._update_recording()

    def _monitor_added(self, ref: Ref) -> Ref:
        self._update_recording()
        return ref

    def _remove_monitor(self, ref: Ref) -> bool:
        """Remove a group or scope monitor. Return False if there is no such monitor."""
        found = self._monitors.remove(ref)
        self._update_recording()
        return found

    # Arguments

    def _require_local(self, pids: Pid | Iterable[Pid]) -> list[Pid]:
        """Return ``pids`` as a list. Raises as :meth:`join` describes."""
        if not self._process.alive:
            raise NoProcess(f"the pg scope {self.scope} has stopped")
        if isinstance(pids, str | bytes | Atom):  # Without this check, a str is read as an iterable of characters.
            raise TypeError(f"members are pids, not {pids!r}: the group comes first, as in join('greeters', me.pid)")
        listed = list(pids) if isinstance(pids, Iterable) else [pids]
        for pid in listed:
            if not isinstance(pid, Pid):
                raise TypeError(f"members are pids, not {type(pid).__name__}: {pid!r}")
        if remote := self._first_remote(listed):
            raise ValueError(f"{remote!r} is a process of {remote.node.name}: it can only join and leave there")
        return listed

    def _first_remote(self, pids: Sequence[Pid]) -> Pid | None:
        """Return the first pid that is not of this node's current incarnation, or None."""
        server = self._process.pid
        return next((pid for pid in pids if pid.node is not server.node or pid.creation != server.creation), None)


def _parse_pids(value: Term) -> list[Pid] | None:
    """A pid or a list of pids as a list; None for another term."""
    if type(value) is Pid:
        return [value]
    if type(value) is list and _are_pids(value):
        return value
    return None


def _is_sync_payload(value: Term) -> TypeGuard[list[tuple[Term, list[Pid]]]]:
    """True for ``[{Group, [Pid]}]``. The list can be long, so no Python code runs for each pid."""
    if type(value) is not list or not {*map(type, value)} <= {tuple} or not {*map(len, value)} <= {2}:
        return False
    members = [pids for _, pids in value]
    return {*map(type, members)} <= {list} and _are_pids(chain.from_iterable(members))


def _are_pids(values: Iterable[Term]) -> bool:
    return {*map(type, values)} <= _PID


def _are_on(node: Atom, pids: Iterable[Pid]) -> bool:
    """True if all are processes of ``node``. A BEAM's pg lets only its own processes join."""
    return {*map(_node_of, pids)} <= {node}
