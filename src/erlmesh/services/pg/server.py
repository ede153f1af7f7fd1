"""pg: process groups as OTP 23 and later keep them, live on every node that is connected.

Groups need no creation: one exists while it has members. Nothing here waits for another node. :class:`Scope` keeps the
books; :class:`Pg` is its server process, which says to the other nodes' servers what the books return.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, TypeGuard

from erlmesh.core import gen
from erlmesh.errors import NoProcess
from erlmesh.services.gen_server import BADARG, ERROR, OK, handle_system_msg
from erlmesh.services.group_names import normalize_group_name
from erlmesh.services.pg.dispatch import Membership, MultiCallResult, Picker, multi_call_members
from erlmesh.services.pg.monitors import GroupEvents, MonitorTable
from erlmesh.services.pg.state import (
    Effect,
    GroupEvent,
    Joined,
    Left,
    Monitor,
    PgStatistics,
    ScopeState,
    SendTo,
    Tag,
)
from erlmesh.terms import Atom, Map, Pid, Ref, Term

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from erlmesh.runtime.runtime import Runtime

__all__ = ["GroupEvent", "GroupEvents", "Joined", "Left", "Pg"]

log = logging.getLogger("erlmesh.pg")

NORMAL: Final = Atom("normal")
NOT_JOINED: Final = Atom("not_joined")
NOLOCAL: Final = Atom("nolocal")


class Pg:
    """One scope of process groups on ``node``; ``node.pg`` is the default scope, ``pg``.

    A group is any term. Its members are processes of any connected node, and a process that joined twice is in it
    twice. A process that ends leaves all its groups; a node that is lost takes its members along.
    """

    def __init__(self, node: Runtime, scope: Atom = Atom("pg")) -> None:  # noqa: B008 - an atom is a constant
        self._node = node
        self._process = node.spawn_handler(self._handle_message, name=scope, on_end=self._on_exit)
        self._process.trap_exit = False  # as OTP's: an exit signal ends the scope
        self._state = ScopeState(self._process.pid)
        self._monitor_refs: dict[Pid, Ref] = {}
        self._monitors = MonitorTable(self._process)
        self._subscribers: list[Callable[[GroupEvent], None]] = []
        self._notifying = False
        self._picker = Picker(node.random)
        self.scope = scope
        node.monitor_nodes(self._process.pid)
        for name in node.nodes():
            self._send_discover(Atom(name))

    # The API

    @property
    def pid(self) -> Pid:
        """The server, registered under the scope's name."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the server lives: not after :meth:`stop`, an exit signal to it, or the end of the node."""
        return self._process.alive

    def stop(self, reason: Term = NORMAL) -> None:
        """Ends the scope: here it has no groups any more, elsewhere they lose our members, and its name is free. So
        does an exit signal, of anybody; :meth:`erlmesh.Node.start_scope` starts it anew.
        """
        self._process.stop(reason)

    def _on_exit(self) -> None:
        self._state = ScopeState(self._process.pid)

    def join(self, group: Term, pids: Pid | Iterable[Pid]) -> None:
        """Let a process of this node, or several, join ``group``; each once more if it is in already.

        Raises ``ValueError`` for a process of another node (it has to join there), ``TypeError`` for what is no pid,
        ``EncodeError`` for a group that is no term, and NoProcess when the scope was stopped.
        """
        self._apply_effects(self._state.join(normalize_group_name(group), self._require_local(pids)))

    def leave(self, group: Term, pids: Pid | Iterable[Pid]) -> bool:
        """Let a process of this node, or several, leave ``group`` once. False when none of them was in it."""
        left, effects = self._state.leave(group, self._require_local(pids))
        self._apply_effects(effects)
        return left

    def get_members(self, group: Term) -> list[Pid]:
        """The members on all nodes, newest first, repeated as often as they joined; ``[]`` for no such group."""
        return self._state.members(group)

    def get_local_members(self, group: Term) -> list[Pid]:
        """The members on this node, newest first."""
        return self._state.local_members(group)

    def which_groups(self) -> list[Term]:
        """All groups that have members."""
        return self._state.groups()

    def which_local_groups(self) -> list[Term]:
        """The groups that have members on this node."""
        return self._state.local_groups()

    def discover(self, node: Atom | str) -> None:
        """Exchange members with that node's scope. Visible nodes do this by themselves when they meet; a hidden one is
        met by nobody's ``pg``, so one of the two has to say this once for each connection.
        """
        self._send_discover(Atom(node))

    def watch(self, group: Term) -> GroupEvents:
        """The changes of ``group`` from now on, :class:`Joined` and :class:`Left`, as an ``async for`` takes them.

        It listens from this call on: ``get_members`` in the same breath gives the state they start from.
        """
        return GroupEvents(self._node, self._process.pid, group, self.get_members(group), self.subscribe)

    def subscribe(self, callback: Callable[[GroupEvent], None]) -> Callable[[], None]:
        """Have ``callback`` called with each change of any group, once the books show it. Returns what ends this."""

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)
                self._update_recording()

        self._subscribers.append(callback)
        self._update_recording()
        return unsubscribe

    def snapshot(self, group: Term) -> Membership:
        """The group as it is now, as a value that does not change."""
        return Membership(group, tuple(self.get_members(group)), tuple(self.get_local_members(group)))

    # Beyond OTP's API: to a group instead of a process

    def publish(self, group: Term, message: Term) -> int:
        """Sends ``message`` to every process in the group, once each however often it joined; how many that were.

        Raises ``EncodeError`` for what is no term, if a member is on another node.
        """
        pids = dict.fromkeys(self._state.members(group))
        for pid in pids:
            self._process.send(pid, message)
        return len(pids)

    def pick(self, group: Term, strategy: str = "local") -> Pid | None:
        """One member, None if there is none: ``local``, at random from this node or else from any; ``random``, from
        any; ``round_robin``, each in turn. Raises ``ValueError`` for another strategy.
        """
        return self._picker.pick(group, strategy, self._state.members(group), self._state.local_members(group))

    async def multi_call(self, group: Term, request: Term, *, timeout: float | None = 5.0) -> MultiCallResult:
        """Makes the ``gen_server`` call ``request`` to every process in the group at once, once each.

        Returns the replies by pid, and by pid what became of those who did not reply: ``timeout`` after that many
        seconds, ``noproc``, ``noconnection``, or their exit reason. A late reply vanishes. Raises ``EncodeError``.
        """
        return await multi_call_members(self._node, dict.fromkeys(self._state.members(group)), request, timeout)

    def statistics(self) -> PgStatistics:
        return self._state.statistics()

    # The server

    def _handle_message(self, message: Term) -> None:
        match message:
            case (Tag.JOIN, Pid() as server, group, members) if pids := _parse_pids(members):
                self._state.handle_join(server, group, pids)
                self._notify_observers()
            case (Tag.LEAVE, Pid() as server, members, list() as groups) if pids := _parse_pids(members):
                self._state.handle_leave(server, pids, groups)
                self._notify_observers()
            case (Tag.DISCOVER, Pid() as server) | (Tag.DISCOVER, Pid() as server, _):
                self._apply_effects(self._state.handle_discover(server))
            case (gen.GEN_CAST, (Tag.SYNC, Pid() as server, groups)) if _is_sync_payload(groups):
                self._apply_effects(self._state.handle_sync(server, groups))
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                self._process.reply(caller, self._handle_call(caller[0], request))
            case (Atom("system"), (Pid(), _) as caller, request):
                handle_system_msg(self._process, caller, request, get_state=self._sys_state)
            case (Atom("DOWN"), Ref() as ref, _, Pid() as pid, reason):
                self._handle_down(ref, pid, reason)
            case (Atom("nodeup"), Atom() as name):
                self._send_discover(name)
            case (Atom("nodedown"), _) | (Tag.JOIN, Pid(), _, []) | (Tag.LEAVE, Pid(), [], _):
                pass  # a lost node's server is reported by its monitor
            case _:
                log.debug("%s: ignored %r", self.scope, message)

    def _handle_call(self, caller: Pid, request: Term) -> Term:
        """pg.erl's calls, which only pg itself makes: that is, somebody with a pid of ours in hand."""
        match request:
            case (Atom("join_local"), group, members) if (pids := _parse_pids(members)) is not None:
                if foreign := self._first_remote(pids):
                    return (ERROR, (NOLOCAL, foreign))
                self._apply_effects(self._state.join(group, pids))
                return OK
            case (Atom("leave_local"), group, members) if (pids := _parse_pids(members)) is not None:
                left, effects = self._state.leave(group, pids)
                self._apply_effects(effects)
                return OK if left else NOT_JOINED
            case Atom("monitor"):
                everything = Map((group, self._state.members(group)) for group in self._state.groups())
                return (self._monitor_added(self._monitors.add_scope(caller)), everything)
            case (Atom("monitor"), group):
                return (self._monitor_added(self._monitors.add(caller, group)), self._state.members(group))
            case (Atom("demonitor"), Ref() as ref):
                return OK if self._remove_monitor(ref) else False
        log.debug("%s: not understood: call %r", self.scope, request)
        return BADARG

    def _sys_state(self) -> Term:
        """What ``sys:get_state`` shows of OTP's pg: members here, the other servers with theirs, and who monitors."""
        local, remote = self._state.dump()
        scope, by_ref, by_group = self._monitors.dump()
        members = Map((pid, (self._monitor_refs[pid], groups)) for pid, groups in local)
        servers = Map((pid, (self._monitor_refs[pid], Map(groups))) for pid, groups in remote)
        return (Atom("state"), self.scope, members, servers, Map(scope), Map(by_ref), Map(by_group))

    def _send_discover(self, node: Atom) -> None:
        # Two elements: OTP 25 ends its scope at the three that later releases would also take.
        self._process.send((self.scope, node), (Tag.DISCOVER, self._process.pid))

    def _handle_down(self, ref: Ref, pid: Pid, reason: Term) -> None:
        if self._monitor_refs.get(pid) == ref:
            del self._monitor_refs[pid]
            self._apply_effects(self._state.handle_down(pid, reason))
        else:
            self._remove_monitor(ref)

    def _apply_effects(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendTo(server, message):
                    self._process.send(server, message, connect=False)
                case Monitor(pid):
                    self._monitor_refs[pid] = self._process.monitor(pid)
                case _:
                    self._process.demonitor(self._monitor_refs.pop(effect.pid), flush=True)
        self._notify_observers()

    # Observers

    def _notify_observers(self) -> None:
        """Pass on what changed. A callback that joins or leaves adds to the end of the queue, so all see one order."""
        if self._notifying or not self._state.recording:
            return
        self._notifying = True
        try:
            while changes := self._state.take_events():
                for change in changes:
                    self._monitors.notify(change)
                    for callback in tuple(self._subscribers):
                        self._call_subscriber(callback, change)
        finally:
            self._notifying = False

    def _call_subscriber(self, callback: Callable[[GroupEvent], None], change: GroupEvent) -> None:
        try:
            callback(change)
        except Exception:
            log.exception("%s: a subscriber failed on %r", self.scope, change)

    def _update_recording(self) -> None:
        self._state.recording = bool(self._subscribers or self._monitors)

    def _monitor_added(self, ref: Ref) -> Ref:
        self._update_recording()
        return ref

    def _remove_monitor(self, ref: Ref) -> bool:
        known = self._monitors.remove(ref)
        self._update_recording()
        return known

    # Arguments

    def _require_local(self, pids: Pid | Iterable[Pid]) -> list[Pid]:
        if not self._process.alive:
            raise NoProcess(f"the pg scope {self.scope} has stopped")
        several = list(pids) if isinstance(pids, Iterable) else [pids]
        for pid in several:
            if not isinstance(pid, Pid):
                raise TypeError(f"members are pids, not {type(pid).__name__}: {pid!r}")
        if foreign := self._first_remote(several):
            raise ValueError(f"{foreign!r} is a process of {foreign.node.name}: it can only join and leave there")
        return several

    def _first_remote(self, pids: Sequence[Pid]) -> Pid | None:
        me = self._process.pid
        return next((pid for pid in pids if pid.node is not me.node or pid.creation != me.creation), None)


def _parse_pids(value: Term) -> list[Pid] | None:
    if type(value) is Pid:
        return [value]
    if type(value) is list and all(type(pid) is Pid for pid in value):
        return value
    return None


def _is_sync_payload(value: Term) -> TypeGuard[list[tuple[Term, list[Pid]]]]:
    if type(value) is not list:
        return False
    return all(
        type(entry) is tuple
        and len(entry) == 2
        and type(entry[1]) is list
        and all(type(pid) is Pid for pid in entry[1])
        for entry in value
    )
