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

__all__ = ["Change", "Effect", "Joined", "Left", "Scope", "Statistics", "Tell", "Unwatch", "Watch", "Word"]

Key: TypeAlias = Hashable
"""A group's name as ``erlmesh.terms.exact`` makes it: 1, 1.0 and True are three groups."""


class Word:
    """The atoms of the protocol."""

    DISCOVER: Final = Atom("discover")
    SYNC: Final = Atom("sync")
    JOIN: Final = Atom("join")
    LEAVE: Final = Atom("leave")


@dataclass(frozen=True, slots=True)
class Tell:
    """Send ``message`` to the server ``to``, if its node is still connected; never connect for it."""

    to: Pid
    message: Term


@dataclass(frozen=True, slots=True)
class Watch:
    """Monitor ``pid``, and report its end to :meth:`Scope.down`."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class Unwatch:
    """Stop monitoring ``pid``."""

    pid: Pid


Effect: TypeAlias = Tell | Watch | Unwatch


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


Change: TypeAlias = Joined | Left


@dataclass(frozen=True, slots=True)
class Statistics:
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
    groups: dict[Key, Multiset[Pid]] = field(default_factory=dict)
    told: bool = False
    """Whether it has had a sync from us. Before that it must not hear of single joins and leaves: a leave of what a
    BEAM does not hold for us ends its scope."""


class Scope:
    """The members of one scope, as one node sees them. ``server`` is the pid of this node's server."""

    def __init__(self, server: Pid) -> None:
        self._server = server
        self._groups: dict[Key, _Group] = {}
        self._own: dict[Key, Multiset[Pid]] = {}
        self._locals: dict[Pid, Multiset[Key]] = {}
        self._peers: dict[Pid, _Peer] = {}
        self._changes: list[Change] = []
        self.observed = False
        """Whether changes are kept for :meth:`take_changes`."""

    # What is known

    def members(self, group: Term) -> list[Pid]:
        entry = self._groups.get(exact_key(group))
        return listed(entry.members) if entry else []

    def local_members(self, group: Term) -> list[Pid]:
        return listed(self._own.get(exact_key(group), EMPTY))

    def groups(self) -> list[Term]:
        return [group.name for group in self._groups.values()]

    def local_groups(self) -> list[Term]:
        return [self._groups[key].name for key in self._own]

    def statistics(self) -> Statistics:
        return Statistics(
            groups=len(self._groups),
            memberships=sum(size(group.members) for group in self._groups.values()),
            local_memberships=sum(size(bag) for bag in self._own.values()),
            peers=len(self._peers),
        )

    def books(self) -> tuple[list[tuple[Pid, list[Term]]], list[tuple[Pid, list[tuple[Term, list[Pid]]]]]]:
        """Each member here with its groups; each other server with the groups and members it told of."""
        here = [(pid, [self._groups[key].name for key in listed(keys)]) for pid, keys in self._locals.items()]
        there = [
            (server, [(self._groups[key].name, listed(bag)) for key, bag in peer.groups.items()])
            for server, peer in self._peers.items()
        ]
        return here, there

    def take_changes(self) -> list[Change]:
        """What changed since the last call, while ``observed``."""
        changes, self._changes = self._changes, []
        return changes

    # What happens here

    def join(self, group: Term, pids: Sequence[Pid]) -> list[Effect]:
        """Local ``pids`` join ``group``, once for each time they are listed."""
        if not pids:
            return []  # a BEAM would make an empty group of this, here and on every node
        key = exact_key(group)
        effects: list[Effect] = []
        for pid in pids:
            if pid not in self._locals:
                effects.append(Watch(pid))
            self._locals[pid] = added(self._locals.get(pid, EMPTY), (key,))
        self._own[key] = added(self._own.get(key, EMPTY), pids)
        self._enter(key, group, pids)
        return effects + self._broadcast((Word.JOIN, self._server, group, _one_or_list(pids)))

    def leave(self, group: Term, pids: Sequence[Pid]) -> tuple[bool, list[Effect]]:
        """Local ``pids`` leave ``group``, once for each time they are listed; False when none of them was in it."""
        key = exact_key(group)
        effects: list[Effect] = []
        left = False
        for pid in pids:
            groups = removed(self._locals.get(pid, EMPTY), key)
            if groups is None:
                continue
            left = True
            if groups:
                self._locals[pid] = groups
            else:
                del self._locals[pid]
                effects.append(Unwatch(pid))
        if not left:
            return False, []
        name = self._groups[key].name
        self._take_own(key, pids, Word.LEAVE)  # all that were named, as OTP says it here and to the others
        return True, effects + self._broadcast((Word.LEAVE, self._server, _one_or_list(pids), [name]))

    def down(self, pid: Pid, reason: Term) -> list[Effect]:
        """A watched process ended: a local member, or another node's server, with all the members it told us of."""
        keys = self._locals.pop(pid, None)
        if keys is not None:
            return self._local_died(pid, keys, reason)
        peer = self._peers.pop(pid, None)
        if peer is not None:
            for key, bag in peer.groups.items():
                self._exit(key, listed(bag), reason)
        return []

    # What other servers say

    def discovered(self, server: Pid) -> list[Effect]:
        """``server`` says that it is there."""
        if server.node is self._server.node:
            return []
        effects: list[Effect] = [Tell(server, self._sync())]
        peer = self._peers.get(server)
        if peer is None:
            peer = self._peers[server] = _Peer()
            # Only an unknown server is asked back: two that always did would never stop.
            effects += [Watch(server), Tell(server, (Word.DISCOVER, self._server))]
        peer.told = True
        return effects

    def synced(self, server: Pid, groups: Iterable[tuple[Term, Sequence[Pid]]]) -> list[Effect]:
        """``server`` lists all its local members; whatever was known of them before is replaced."""
        if server.node is self._server.node:
            return []
        peer = self._peers.get(server)
        effects: list[Effect] = []
        if peer is None:
            peer = self._peers[server] = _Peer()
            effects = [Watch(server)]
        before, peer.groups = peer.groups, {}
        for name, pids in groups:
            if pids:
                key = exact_key(name)
                self._replace(peer, key, name, before.pop(key, EMPTY), pids)
        for key, bag in before.items():
            self._exit(key, listed(bag), Word.LEAVE)
        return effects

    def joined(self, server: Pid, group: Term, pids: Sequence[Pid]) -> None:
        """``pids`` joined on the node of ``server``. Ignored from a server that is not known: its node went down and is
        back, and a sync will follow.
        """
        peer = self._peers.get(server)
        if peer is None or not pids:
            return
        key = exact_key(group)
        peer.groups[key] = added(peer.groups.get(key, EMPTY), pids)
        self._enter(key, group, pids)

    def left(self, server: Pid, pids: Sequence[Pid], groups: Iterable[Term]) -> None:
        """``pids`` left each of ``groups`` once on the node of ``server``. What it never told us of is ignored."""
        peer = self._peers.get(server)
        if peer is None:
            return
        for group in groups:
            key = exact_key(group)
            gone, rest = _subtract(peer.groups.get(key, EMPTY), pids)
            if not gone:
                continue
            if rest:
                peer.groups[key] = rest
            else:
                del peer.groups[key]
            self._exit(key, gone, Word.LEAVE)

    # Inside

    def _replace(self, peer: _Peer, key: Key, name: Term, before: Multiset[Pid], pids: Sequence[Pid]) -> None:
        bag = added(peer.groups.get(key, EMPTY), pids)
        peer.groups[key] = bag
        if not before:
            self._enter(key, name, pids, bag)
            return
        if listed(before) == pids:
            return
        old, new = Counter(dict(counts(before))), Counter(pids)
        if came := list((new - old).elements()):
            self._enter(key, name, came)  # first, so that the group does not vanish in between
        if gone := list((old - new).elements()):
            self._exit(key, gone, Word.LEAVE)

    def _local_died(self, pid: Pid, keys: Multiset[Key], reason: Term) -> list[Effect]:
        names: list[Term] = []
        for key in listed(keys):  # one by one, the newest first, as OTP does and says it
            names.append(self._groups[key].name)
            self._take_own(key, [pid], reason)
        return self._broadcast((Word.LEAVE, self._server, pid, names))

    def _take_own(self, key: Key, pids: Sequence[Pid], reason: Term) -> None:
        _, rest = _subtract(self._own[key], pids)
        if rest:
            self._own[key] = rest
        else:
            del self._own[key]
        self._exit(key, pids, reason)

    def _enter(self, key: Key, name: Term, pids: Sequence[Pid], same: Multiset[Pid] = EMPTY) -> None:
        """``same`` may be a multiset of just these pids: a new group then shares it when it is a tuple."""
        group = self._groups.get(key)
        if group is None:
            bag = same if same and isinstance(same, tuple) else added(EMPTY, pids)
            self._groups[key] = group = _Group(name, bag)
        else:
            group.members = added(group.members, pids)
        if self.observed:
            self._changes.append(Joined(tuple(pids), group.name))

    def _exit(self, key: Key, pids: Sequence[Pid], reason: Term) -> None:
        group = self._groups[key]
        _, group.members = _subtract(group.members, pids)
        if not group.members:
            del self._groups[key]
        if self.observed:
            self._changes.append(Left(tuple(pids), reason, group.name))

    def _sync(self) -> Term:
        return gen.cast(
            (Word.SYNC, self._server, [(self._groups[key].name, listed(bag)) for key, bag in self._own.items()])
        )

    def _broadcast(self, message: Term) -> list[Effect]:
        return [Tell(server, self._first_word(peer, message)) for server, peer in self._peers.items()]

    def _first_word(self, peer: _Peer, message: Term) -> Term:
        # A server known by its sync alone: its discover is on the way, and then it gets a sync once more.
        if peer.told:
            return message
        peer.told = True
        return self._sync()


def _one_or_list(pids: Sequence[Pid]) -> Pid | list[Pid]:
    return pids[0] if len(pids) == 1 else list(pids)


def _subtract(bag: Multiset[Pid], pids: Sequence[Pid]) -> tuple[list[Pid], Multiset[Pid]]:
    """Those of ``pids`` that ``bag`` held, and what remains of it."""
    gone: list[Pid] = []
    for pid in pids:
        rest = removed(bag, pid)
        if rest is not None:
            bag = rest
            gone.append(pid)
    return gone, bag
