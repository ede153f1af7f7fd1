"""The book-keeping of one pg scope: who is in which group, and what the other nodes must be told about it.

A scope has one server process on each node. Two servers that meet say ::

    discover      "here I am": to the registered name on nodeup, and to the pid of a server that was not known
    sync          the sender's complete list of local members: the answer to every discover
    join, leave   what changed since, to every server that is known

Nothing is sent here: each method returns the effects its caller must carry out, in order. The facts are pg.erl's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from erlmesh.core import gen
from erlmesh.services.multiset import EMPTY, Multiset, added, counts, listed, removed, size
from erlmesh.terms import Atom, Pid, Term, exact_key

__all__ = [
    "Demonitor",
    "Effect",
    "GroupEvent",
    "Joined",
    "Left",
    "Monitor",
    "PgStatistics",
    "ScopeState",
    "SendTo",
    "Tag",
]

GroupKey: TypeAlias = Hashable
"""A group's name as ``erlmesh.terms.exact`` makes it: 1, 1.0 and True are three groups."""


class Tag:
    """The atoms of the protocol."""

    DISCOVER: Final = Atom("discover")
    SYNC: Final = Atom("sync")
    JOIN: Final = Atom("join")
    LEAVE: Final = Atom("leave")


@dataclass(frozen=True, slots=True)
class SendTo:
    """Send ``message`` to the server ``to``, if its node is still connected; never connect for it."""

    to: Pid
    message: Term


@dataclass(frozen=True, slots=True)
class Monitor:
    """Monitor ``pid``, and report its end to :meth:`Scope.down`."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class Demonitor:
    """Stop monitoring ``pid``."""

    pid: Pid


Effect: TypeAlias = SendTo | Monitor | Demonitor


@dataclass(frozen=True, slots=True)
class Joined:
    """``pids`` have joined ``group``; a pid stands there as often as it joined."""

    pids: tuple[Pid, ...]
    group: Term


@dataclass(frozen=True, slots=True)
class Left:
    """``pids`` are no longer in ``group``; a pid stands there as often as it left, or (in OTP and so here) as it asked
    to, in one call for several.

    ``reason`` is ``leave`` for who left by itself; the exit reason of a process that died; OTP's word for the loss of
    its node (``connection_closed``, ``net_tick_timeout``, ``disconnect`` …); the exit reason of its node's scope when
    that alone ended. ``subscribe`` knows less of other nodes than ``watch``: pg tells a death there as a ``leave``, and
    a lost node as ``noconnection``.
    """

    pids: tuple[Pid, ...]
    reason: Term
    group: Term


GroupEvent: TypeAlias = Joined | Left


@dataclass(frozen=True, slots=True)
class PgStatistics:
    """A snapshot. Memberships are counted with multiplicity."""

    groups: int
    memberships: int
    local_memberships: int
    peers: int


@dataclass(slots=True)
class _Group:
    name: Term
    members: Multiset[Pid]


@dataclass(slots=True)
class _Peer:
    groups: dict[GroupKey, Multiset[Pid]] = field(default_factory=dict)
    synced: bool = False
    """Whether it has had a sync from us. Before that it must not hear of single joins and leaves: a leave of what a
    BEAM does not hold for us ends its scope."""


class ScopeState:
    """The members of one scope, as one node sees them. ``server`` is the pid of this node's server."""

    def __init__(self, server: Pid) -> None:
        self._server = server
        self._groups: dict[GroupKey, _Group] = {}
        self._local_members: dict[GroupKey, Multiset[Pid]] = {}
        self._groups_by_pid: dict[Pid, Multiset[GroupKey]] = {}
        self._peers: dict[Pid, _Peer] = {}
        self._events: list[GroupEvent] = []
        self.recording = False
        """Whether changes are kept for :meth:`take_changes`."""

    # What is known

    def members(self, group: Term) -> list[Pid]:
        entry = self._groups.get(exact_key(group))
        return listed(entry.members) if entry else []

    def local_members(self, group: Term) -> list[Pid]:
        return listed(self._local_members.get(exact_key(group), EMPTY))

    def groups(self) -> list[Term]:
        return [group.name for group in self._groups.values()]

    def local_groups(self) -> list[Term]:
        return [self._groups[key].name for key in self._local_members]

    def statistics(self) -> PgStatistics:
        return PgStatistics(
            groups=len(self._groups),
            memberships=sum(size(group.members) for group in self._groups.values()),
            local_memberships=sum(size(bag) for bag in self._local_members.values()),
            peers=len(self._peers),
        )

    def dump(self) -> tuple[list[tuple[Pid, list[Term]]], list[tuple[Pid, list[tuple[Term, list[Pid]]]]]]:
        """Each member here with its groups; each other server with the groups and members it told of."""
        here = [(pid, [self._groups[key].name for key in listed(keys)]) for pid, keys in self._groups_by_pid.items()]
        there = [
            (server, [(self._groups[key].name, listed(bag)) for key, bag in peer.groups.items()])
            for server, peer in self._peers.items()
        ]
        return here, there

    def take_events(self) -> list[GroupEvent]:
        """What changed since the last call, while ``observed``."""
        changes, self._events = self._events, []
        return changes

    # What happens here

    def join(self, group: Term, pids: Sequence[Pid]) -> list[Effect]:
        """Local ``pids`` join ``group``, once for each time they are listed."""
        if not pids:
            return []  # a BEAM would make an empty group of this, here and on every node
        key = exact_key(group)
        effects: list[Effect] = []
        for pid in pids:
            if pid not in self._groups_by_pid:
                effects.append(Monitor(pid))
            self._groups_by_pid[pid] = added(self._groups_by_pid.get(pid, EMPTY), (key,))
        self._local_members[key] = added(self._local_members.get(key, EMPTY), pids)
        self._add_members(key, group, pids)
        return effects + self._broadcast((Tag.JOIN, self._server, group, _pid_or_list(pids)))

    def leave(self, group: Term, pids: Sequence[Pid]) -> tuple[bool, list[Effect]]:
        """Local ``pids`` leave ``group``, once for each time they are listed; False when none of them was in it."""
        key = exact_key(group)
        effects: list[Effect] = []
        left = False
        for pid in pids:
            groups = removed(self._groups_by_pid.get(pid, EMPTY), key)
            if groups is None:
                continue
            left = True
            if groups:
                self._groups_by_pid[pid] = groups
            else:
                del self._groups_by_pid[pid]
                effects.append(Demonitor(pid))
        if not left:
            return False, []
        name = self._groups[key].name
        self._remove_local(key, pids, Tag.LEAVE)  # all that were named, as OTP says it here and to the others
        return True, effects + self._broadcast((Tag.LEAVE, self._server, _pid_or_list(pids), [name]))

    def handle_down(self, pid: Pid, reason: Term) -> list[Effect]:
        """A watched process ended: a local member, or another node's server, with all the members it told us of."""
        keys = self._groups_by_pid.pop(pid, None)
        if keys is not None:
            return self._local_down(pid, keys, reason)
        peer = self._peers.pop(pid, None)
        if peer is not None:
            for key, bag in peer.groups.items():
                self._remove_members(key, listed(bag), reason)
        return []

    # What other servers say

    def handle_discover(self, server: Pid) -> list[Effect]:
        """``server`` says that it is there."""
        if server.node is self._server.node:
            return []
        effects: list[Effect] = [SendTo(server, self._sync_message())]
        peer = self._peers.get(server)
        if peer is None:
            peer = self._peers[server] = _Peer()
            # Only an unknown server is asked back: two that always did would never stop.
            effects += [Monitor(server), SendTo(server, (Tag.DISCOVER, self._server))]
        peer.synced = True
        return effects

    def handle_sync(self, server: Pid, groups: Iterable[tuple[Term, Sequence[Pid]]]) -> list[Effect]:
        """``server`` lists all its local members; whatever was known of them before is replaced."""
        if server.node is self._server.node:
            return []
        peer = self._peers.get(server)
        effects: list[Effect] = []
        if peer is None:
            peer = self._peers[server] = _Peer()
            effects = [Monitor(server)]
        before, peer.groups = peer.groups, {}
        for name, pids in groups:
            if pids:
                key = exact_key(name)
                self._replace_members(peer, key, name, before.pop(key, EMPTY), pids)
        for key, bag in before.items():
            self._remove_members(key, listed(bag), Tag.LEAVE)
        return effects

    def handle_join(self, server: Pid, group: Term, pids: Sequence[Pid]) -> None:
        """``pids`` joined on the node of ``server``. Ignored from a server that is not known: its node went down and is
        back, and a sync will follow.
        """
        peer = self._peers.get(server)
        if peer is None or not pids:
            return
        key = exact_key(group)
        peer.groups[key] = added(peer.groups.get(key, EMPTY), pids)
        self._add_members(key, group, pids)

    def handle_leave(self, server: Pid, pids: Sequence[Pid], groups: Iterable[Term]) -> None:
        """``pids`` left each of ``groups`` once on the node of ``server``. What it never told us of is ignored."""
        peer = self._peers.get(server)
        if peer is None:
            return
        for group in groups:
            key = exact_key(group)
            gone, rest = _remove_each(peer.groups.get(key, EMPTY), pids)
            if not gone:
                continue
            if rest:
                peer.groups[key] = rest
            else:
                del peer.groups[key]
            self._remove_members(key, gone, Tag.LEAVE)

    # Inside

    def _replace_members(
        self, peer: _Peer, key: GroupKey, name: Term, before: Multiset[Pid], pids: Sequence[Pid]
    ) -> None:
        bag = added(peer.groups.get(key, EMPTY), pids)
        peer.groups[key] = bag
        if not before:
            self._add_members(key, name, pids, bag)
            return
        if listed(before) == pids:
            return
        old, new = Counter(dict(counts(before))), Counter(pids)
        if came := list((new - old).elements()):
            self._add_members(key, name, came)  # first, so that the group does not vanish in between
        if gone := list((old - new).elements()):
            self._remove_members(key, gone, Tag.LEAVE)

    def _local_down(self, pid: Pid, keys: Multiset[GroupKey], reason: Term) -> list[Effect]:
        names: list[Term] = []
        for key in listed(keys):  # one by one, the newest first, as OTP does and says it
            names.append(self._groups[key].name)
            self._remove_local(key, [pid], reason)
        return self._broadcast((Tag.LEAVE, self._server, pid, names))

    def _remove_local(self, key: GroupKey, pids: Sequence[Pid], reason: Term) -> None:
        _, rest = _remove_each(self._local_members[key], pids)
        if rest:
            self._local_members[key] = rest
        else:
            del self._local_members[key]
        self._remove_members(key, pids, reason)

    def _add_members(self, key: GroupKey, name: Term, pids: Sequence[Pid], shared: Multiset[Pid] = EMPTY) -> None:
        """``same`` may be a multiset of just these pids: a new group then shares it when it is a tuple."""
        group = self._groups.get(key)
        if group is None:
            bag = shared if shared and isinstance(shared, tuple) else added(EMPTY, pids)
            self._groups[key] = group = _Group(name, bag)
        else:
            group.members = added(group.members, pids)
        if self.recording:
            self._events.append(Joined(tuple(pids), group.name))

    def _remove_members(self, key: GroupKey, pids: Sequence[Pid], reason: Term) -> None:
        group = self._groups[key]
        _, group.members = _remove_each(group.members, pids)
        if not group.members:
            del self._groups[key]
        if self.recording:
            self._events.append(Left(tuple(pids), reason, group.name))

    def _sync_message(self) -> Term:
        return gen.cast(
            (
                Tag.SYNC,
                self._server,
                [(self._groups[key].name, listed(bag)) for key, bag in self._local_members.items()],
            )
        )

    def _broadcast(self, message: Term) -> list[Effect]:
        return [SendTo(server, self._message_or_sync(peer, message)) for server, peer in self._peers.items()]

    def _message_or_sync(self, peer: _Peer, message: Term) -> Term:
        # A server known by its sync alone: its discover is on the way, and then it gets a sync once more.
        if peer.synced:
            return message
        peer.synced = True
        return self._sync_message()


def _pid_or_list(pids: Sequence[Pid]) -> Pid | list[Pid]:
    return pids[0] if len(pids) == 1 else list(pids)


def _remove_each(bag: Multiset[Pid], pids: Sequence[Pid]) -> tuple[list[Pid], Multiset[Pid]]:
    """Those of ``pids`` that ``bag`` held, and what remains of it."""
    gone: list[Pid] = []
    for pid in pids:
        rest = removed(bag, pid)
        if rest is not None:
            bag = rest
            gone.append(pid)
    return gone, bag
