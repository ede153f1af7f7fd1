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
from erlmesh.services.gen_server import BADARG, ERROR, OK, answer_system
from erlmesh.services.group_names import group_name
from erlmesh.services.pg_choice import Answers, Membership, Picker, ask_all
from erlmesh.services.pg_members import Change, Effect, Joined, Left, Scope, Statistics, Tell, Watch, Word
from erlmesh.services.pg_watch import Changes, Monitors
from erlmesh.terms import Atom, Map, Pid, Ref, Term

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from erlmesh.runtime.runtime import Runtime

__all__ = ["Change", "Changes", "Joined", "Left", "Pg"]

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
        self._me = node.spawn_handler(self._receive, name=scope, on_end=self._ended)
        self._me.trap_exit = False  # as OTP's: an exit signal ends the scope
        self._scope = Scope(self._me.pid)
        self._watched: dict[Pid, Ref] = {}
        self._monitors = Monitors(self._me)
        self._subscribers: list[Callable[[Change], None]] = []
        self._announcing = False
        self._picker = Picker(node.random)
        self.scope = scope
        node.monitor_nodes(self._me.pid)
        for name in node.nodes():
            self._discover(Atom(name))

    # The API

    @property
    def pid(self) -> Pid:
        """The server, registered under the scope's name."""
        return self._me.pid

    @property
    def running(self) -> bool:
        """Whether the server lives: not after :meth:`stop`, an exit signal to it, or the end of the node."""
        return self._me.alive

    def stop(self, reason: Term = NORMAL) -> None:
        """Ends the scope: here it has no groups any more, elsewhere they lose our members, and its name is free. So
        does an exit signal, of anybody; :meth:`erlmesh.Node.start_scope` starts it anew.
        """
        self._me.stop(reason)

    def _ended(self) -> None:
        self._scope = Scope(self._me.pid)

    def join(self, group: Term, pids: Pid | Iterable[Pid]) -> None:
        """Let a process of this node, or several, join ``group``; each once more if it is in already.

        Raises ``ValueError`` for a process of another node (it has to join there), ``TypeError`` for what is no pid,
        ``EncodeError`` for a group that is no term, and NoProcess when the scope was stopped.
        """
        self._perform(self._scope.join(group_name(group), self._local(pids)))

    def leave(self, group: Term, pids: Pid | Iterable[Pid]) -> bool:
        """Let a process of this node, or several, leave ``group`` once. False when none of them was in it."""
        left, effects = self._scope.leave(group, self._local(pids))
        self._perform(effects)
        return left

    def get_members(self, group: Term) -> list[Pid]:
        """The members on all nodes, newest first, repeated as often as they joined; ``[]`` for no such group."""
        return self._scope.members(group)

    def get_local_members(self, group: Term) -> list[Pid]:
        """The members on this node, newest first."""
        return self._scope.local_members(group)

    def which_groups(self) -> list[Term]:
        """All groups that have members."""
        return self._scope.groups()

    def which_local_groups(self) -> list[Term]:
        """The groups that have members on this node."""
        return self._scope.local_groups()

    def discover(self, node: Atom | str) -> None:
        """Exchange members with that node's scope. Visible nodes do this by themselves when they meet; a hidden one is
        met by nobody's ``pg``, so one of the two has to say this once for each connection.
        """
        self._discover(Atom(node))

    def watch(self, group: Term) -> Changes:
        """The changes of ``group`` from now on, :class:`Joined` and :class:`Left`, as an ``async for`` takes them.

        It listens from this call on: ``get_members`` in the same breath gives the state they start from.
        """
        return Changes(self._node, self._me.pid, group, self.get_members(group), self.subscribe)

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Have ``callback`` called with each change of any group, once the books show it. Returns what ends this."""

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)
                self._observe()

        self._subscribers.append(callback)
        self._observe()
        return unsubscribe

    def view(self, group: Term) -> Membership:
        """The group as it is now, as a value that does not change."""
        return Membership(group, tuple(self.get_members(group)), tuple(self.get_local_members(group)))

    # Beyond OTP's API: to a group instead of a process

    def publish(self, group: Term, message: Term) -> int:
        """Sends ``message`` to every process in the group, once each however often it joined; how many that were.

        Raises ``EncodeError`` for what is no term, if a member is on another node.
        """
        pids = dict.fromkeys(self._scope.members(group))
        for pid in pids:
            self._me.send(pid, message)
        return len(pids)

    def pick(self, group: Term, strategy: str = "local") -> Pid | None:
        """One member, None if there is none: ``local``, at random from this node or else from any; ``random``, from
        any; ``round_robin``, each in turn. Raises ``ValueError`` for another strategy.
        """
        return self._picker.pick(group, strategy, self._scope.members(group), self._scope.local_members(group))

    async def ask_all(self, group: Term, request: Term, *, timeout: float | None = 5.0) -> Answers:
        """Makes the ``gen_server`` call ``request`` to every process in the group at once, once each.

        Returns the replies by pid, and by pid what became of those who did not reply: ``timeout`` after that many
        seconds, ``noproc``, ``noconnection``, or their exit reason. A late reply vanishes. Raises ``EncodeError``.
        """
        return await ask_all(self._node, dict.fromkeys(self._scope.members(group)), request, timeout)

    def statistics(self) -> Statistics:
        return self._scope.statistics()

    # The server

    def _receive(self, message: Term) -> None:
        match message:
            case (Word.JOIN, Pid() as server, group, members) if pids := _pids(members):
                self._scope.joined(server, group, pids)
                self._announce()
            case (Word.LEAVE, Pid() as server, members, list() as groups) if pids := _pids(members):
                self._scope.left(server, pids, groups)
                self._announce()
            case (Word.DISCOVER, Pid() as server) | (Word.DISCOVER, Pid() as server, _):
                self._perform(self._scope.discovered(server))
            case (gen.GEN_CAST, (Word.SYNC, Pid() as server, groups)) if _is_membership(groups):
                self._perform(self._scope.synced(server, groups))
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                self._me.reply(caller, self._answer(caller[0], request))
            case (Atom("system"), (Pid(), _) as caller, request):
                answer_system(self._me, caller, request, state=self._state)
            case (Atom("DOWN"), Ref() as ref, _, Pid() as pid, reason):
                self._down(ref, pid, reason)
            case (Atom("nodeup"), Atom() as name):
                self._discover(name)
            case (Atom("nodedown"), _) | (Word.JOIN, Pid(), _, []) | (Word.LEAVE, Pid(), [], _):
                pass  # a lost node's server is reported by its monitor
            case _:
                log.debug("%s: ignored %r", self.scope, message)

    def _answer(self, caller: Pid, request: Term) -> Term:
        """pg.erl's calls, which only pg itself makes: that is, somebody with a pid of ours in hand."""
        match request:
            case (Atom("join_local"), group, members) if (pids := _pids(members)) is not None:
                if foreign := self._foreign(pids):
                    return (ERROR, (NOLOCAL, foreign))
                self._perform(self._scope.join(group, pids))
                return OK
            case (Atom("leave_local"), group, members) if (pids := _pids(members)) is not None:
                left, effects = self._scope.leave(group, pids)
                self._perform(effects)
                return OK if left else NOT_JOINED
            case Atom("monitor"):
                everything = Map((group, self._scope.members(group)) for group in self._scope.groups())
                return (self._monitored(self._monitors.add_scope(caller)), everything)
            case (Atom("monitor"), group):
                return (self._monitored(self._monitors.add(caller, group)), self._scope.members(group))
            case (Atom("demonitor"), Ref() as ref):
                return OK if self._forget_monitor(ref) else False
        log.debug("%s: not understood: call %r", self.scope, request)
        return BADARG

    def _state(self) -> Term:
        """What ``sys:get_state`` shows of OTP's pg: members here, the other servers with theirs, and who monitors."""
        local, remote = self._scope.books()
        scope, by_ref, by_group = self._monitors.books()
        members = Map((pid, (self._watched[pid], groups)) for pid, groups in local)
        servers = Map((pid, (self._watched[pid], Map(groups))) for pid, groups in remote)
        return (Atom("state"), self.scope, members, servers, Map(scope), Map(by_ref), Map(by_group))

    def _discover(self, node: Atom) -> None:
        # Two elements: OTP 25 ends its scope at the three that later releases would also take.
        self._me.send((self.scope, node), (Word.DISCOVER, self._me.pid))

    def _down(self, ref: Ref, pid: Pid, reason: Term) -> None:
        if self._watched.get(pid) == ref:
            del self._watched[pid]
            self._perform(self._scope.down(pid, reason))
        else:
            self._forget_monitor(ref)

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Tell(server, message):
                    self._me.send(server, message, connect=False)
                case Watch(pid):
                    self._watched[pid] = self._me.monitor(pid)
                case _:
                    self._me.demonitor(self._watched.pop(effect.pid), flush=True)
        self._announce()

    # Observers

    def _announce(self) -> None:
        """Pass on what changed. A callback that joins or leaves adds to the end of the queue, so all see one order."""
        if self._announcing or not self._scope.observed:
            return
        self._announcing = True
        try:
            while changes := self._scope.take_changes():
                for change in changes:
                    self._monitors.change(change)
                    for callback in tuple(self._subscribers):
                        self._call_back(callback, change)
        finally:
            self._announcing = False

    def _call_back(self, callback: Callable[[Change], None], change: Change) -> None:
        try:
            callback(change)
        except Exception:
            log.exception("%s: a subscriber failed on %r", self.scope, change)

    def _observe(self) -> None:
        self._scope.observed = bool(self._subscribers or self._monitors)

    def _monitored(self, ref: Ref) -> Ref:
        self._observe()
        return ref

    def _forget_monitor(self, ref: Ref) -> bool:
        known = self._monitors.remove(ref)
        self._observe()
        return known

    # Arguments

    def _local(self, pids: Pid | Iterable[Pid]) -> list[Pid]:
        if not self._me.alive:
            raise NoProcess(f"the pg scope {self.scope} has stopped")
        several = list(pids) if isinstance(pids, Iterable) else [pids]
        for pid in several:
            if not isinstance(pid, Pid):
                raise TypeError(f"members are pids, not {type(pid).__name__}: {pid!r}")
        if foreign := self._foreign(several):
            raise ValueError(f"{foreign!r} is a process of {foreign.node.name}: it can only join and leave there")
        return several

    def _foreign(self, pids: Sequence[Pid]) -> Pid | None:
        me = self._me.pid
        return next((pid for pid in pids if pid.node is not me.node or pid.creation != me.creation), None)


def _pids(value: Term) -> list[Pid] | None:
    if type(value) is Pid:
        return [value]
    if type(value) is list and all(type(pid) is Pid for pid in value):
        return value
    return None


def _is_membership(value: Term) -> TypeGuard[list[tuple[Term, list[Pid]]]]:
    if type(value) is not list:
        return False
    return all(
        type(entry) is tuple
        and len(entry) == 2
        and type(entry[1]) is list
        and all(type(pid) is Pid for pid in entry[1])
        for entry in value
    )
