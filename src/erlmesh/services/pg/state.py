"""The state of one pg scope on one node: group members, and the messages for the other nodes. No I/O.

A scope has one server process on each node, registered under the name of the scope. Each server owns the memberships of
its own node's processes and holds a copy of what every other server owns. Two servers A and B exchange these messages::

    {discover, A}                 A tells B that it exists. A sends it to {Scope, Node} on nodeup and at its own start,
                                  and to the pid of a server that it did not know.
    {sync, A, [{Group, [Pid]}]}   All memberships on A's node. It answers every discover. It is a gen_server cast;
                                  the other messages are plain.
    {join, A, Group, Pids}        Pids joined Group on A's node. Pids is one pid or a list of pids.
    {leave, A, Pids, [Group]}     Pids left each of the groups on A's node, each pid once per occurrence.

Rules:

1. A server answers a discover with a sync. If the sender is new, it also monitors the sender and sends a discover
   back. So both sides get a sync, whichever side came up first.
2. A sync replaces all that was known of its sender.
3. A join or leave from an unknown server is ignored, because a sync follows.
4. A join or leave goes to every known server, over an existing connection only.
5. When a local member terminates, its server sends one leave with all its groups.
6. When the monitor of another server fires, all memberships that this server reported are removed. The server
   may have terminated, or the connection may be lost.

Source: pg.erl (OTP 23 and later), ``handle_call/3``, ``handle_cast/2`` and ``handle_info/2``.

Each method returns effects. The caller must carry them out in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from erlmesh.core import gen
from erlmesh.records import field, record
from erlmesh.services.multiset import EMPTY, Multiset, added, counts, listed, removed, removed_counts, removed_each
from erlmesh.services.pg.group_table import GroupKey, GroupTable
from erlmesh.services.pg.pick_list import PickList
from erlmesh.services.pg.protocol import Demonitor, Effect, GroupEvent, Monitor, PgStatistics, SendTo, Tag
from erlmesh.terms import Atom, Pid, Term, exact_key

if TYPE_CHECKING:
    from erlmesh.core.sharding.rendezvous import Rendezvous

__all__ = ["ScopeState"]

_Remove = Callable[[Multiset[Pid]], tuple[list[Pid], Multiset[Pid]]]
"""Removes members from a multiset. It returns those that it had, and the rest."""


MAX_SERVERS: Final = 16
"""Servers of one node. It has one, and for a moment the one before, whose DOWN is on the way."""


@record
class _Peer:
    """The server of this scope on another node."""

    groups: dict[GroupKey, Multiset[Pid]] = field(default_factory=dict)
    """The memberships that it reported. They are removed when it goes down."""
    synced: bool = False
    """True once we have sent a sync. Until then never send join or leave: a BEAM's pg crashes on a leave for a member
    that it does not know (pg.erl, ``handle_info({leave, ...})``)."""
    reported: bool = False
    """True once its sync has arrived. A discover makes it known before that."""


class ScopeState:
    """The members of one scope, as one node knows them. ``server`` is the pid of this node's server."""

    def __init__(self, server: Pid) -> None:
        self._server = server
        # The members on all nodes.
        self._groups = GroupTable()
        self.take_events: Callable[[], list[GroupEvent]] = self._groups.take_events
        """See :meth:`GroupTable.take_events`. It is called twice for each change."""
        # The members on this node, by group. This is the content of a sync.
        self._local_members: dict[GroupKey, Multiset[Pid]] = {}
        # The groups of each member on this node. A pid that is a key here is monitored.
        self._groups_by_pid: dict[Pid, Multiset[GroupKey]] = {}
        # The other nodes' servers. A pid that is a key here is monitored. A restarted server has a new pid.
        self._peers: dict[Pid, _Peer] = {}
        # How many of them are on each node: more than one only until the DOWN of an earlier one has arrived.
        self._peers_on_node: Counter[Atom] = Counter()
        # For statistics(), with multiplicity.
        self._local_memberships = 0

    @property
    def recording(self) -> bool:
        """True to keep events for :meth:`take_events`. False costs nothing while there is no observer."""
        return self._groups.recording

    @recording.setter
    def recording(self, on: bool) -> None:
        self._groups.recording = on

    # Queries

    def members(self, group: Term) -> tuple[Pid, ...]:
        """The members on all nodes, newest first, with multiplicity. Built once, and kept until the next change."""
        return self._groups.members(exact_key(group))

    def local_members(self, group: Term) -> tuple[Pid, ...]:
        """The members on this node, newest first, with multiplicity. Built once, and kept until the next change."""
        key = exact_key(group)
        return self._groups.local_members(key, self._local_members.get(key, EMPTY))

    def recipients(self, group: Term) -> tuple[Pid, ...]:
        """The members on all nodes, newest first, each once."""
        return self._groups.recipients(exact_key(group))

    def rendezvous(self, group: Term) -> Rendezvous | None:
        """The nodes of the members, for owners. None for a group without members."""
        return self._groups.rendezvous(exact_key(group))

    def candidates(self, group: Term) -> tuple[Pid, ...] | PickList:
        """The members on all nodes, for a pick. The time does not depend on the size of the group."""
        return self._groups.candidates(exact_key(group))

    def local_candidates(self, group: Term) -> tuple[Pid, ...] | PickList:
        """The members on this node, for a pick."""
        key = exact_key(group)
        return self._groups.local_candidates(key, self._local_members.get(key, EMPTY))

    def groups(self) -> list[Term]:
        """The groups that have members on any node."""
        return self._groups.names()

    def group_sizes(self, most: int) -> list[tuple[Term, int]]:
        """The names of groups and the numbers of their members, for ``most`` groups at most."""
        return self._groups.sizes(most)

    def local_groups(self) -> list[Term]:
        """The groups that have members on this node."""
        return [self._groups.name(key) for key in self._local_members]

    def statistics(self) -> PgStatistics:
        """Counts of groups, memberships and servers. The time is constant."""
        return PgStatistics(
            groups=len(self._groups),
            memberships=self._groups.memberships,
            local_memberships=self._local_memberships,
            peers=len(self._peers),
        )

    def dump(self) -> tuple[list[tuple[Pid, list[Term]]], list[tuple[Pid, list[tuple[Term, list[Pid]]]]]]:
        """Return ``(local, remote)`` for ``sys:get_state``.

        ``local`` has each local member with its groups. ``remote`` has each other server with the groups and members
        that it reported.
        """
        local = [(pid, [self._groups.name(key) for key in listed(keys)]) for pid, keys in self._groups_by_pid.items()]
        remote = [
            (server, [(self._groups.name(key), listed(bag)) for key, bag in peer.groups.items()])
            for server, peer in self._peers.items()
        ]
        return local, remote

    # Changes on this node

    def join(self, group: Term, pids: Sequence[Pid]) -> list[Effect]:
        """Local ``pids`` join ``group``, once per occurrence."""
        if not pids:
            return []  # A BEAM would make an empty group of an empty list, on every node.
        key = exact_key(group)
        effects: list[Effect] = []
        for pid in pids:
            if pid not in self._groups_by_pid:
                effects.append(Monitor(pid))
            self._groups_by_pid[pid] = added(self._groups_by_pid.get(pid, EMPTY), (key,))
        before: Multiset[Pid] = self._local_members.get(key, EMPTY)
        after = self._local_members[key] = added(before, pids)
        self._local_memberships += len(pids)
        self._groups.add_members(key, group, pids, before, after)
        self._groups.local_joined(key, pids)
        return effects + self._broadcast((Tag.JOIN, self._server, group, _pid_or_list(pids)))

    def leave(self, group: Term, pids: Sequence[Pid]) -> tuple[bool, list[Effect]]:
        """Local ``pids`` leave ``group``, once per occurrence. The boolean is False if none of them was a member."""
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
        name = self._groups.name(key)
        # OTP reports all the named pids, here and to the other nodes, also the pids that were not members.
        self._remove_local(key, pids, Tag.LEAVE)
        return True, effects + self._broadcast((Tag.LEAVE, self._server, _pid_or_list(pids), [name]))

    def leave_all(self, stays: Callable[[Pid, Term], bool]) -> list[Effect]:
        """All local members leave all their groups, but not those where ``stays(pid, group)`` is true.

        Other nodes get one leave for each process.
        """
        effects: list[Effect] = []
        for pid, keys in list(self._groups_by_pid.items()):
            names = [self._groups.name(key) for key in listed(keys)]
            leaving = [name for name in names if not stays(pid, name)]
            if len(leaving) < len(names):
                for name in leaving:
                    effects += self.leave(name, [pid])[1]
                continue
            del self._groups_by_pid[pid]
            effects += [Demonitor(pid), *self._local_down(pid, keys, Tag.LEAVE)]
        return effects

    def handle_down(self, pid: Pid, reason: Term) -> list[Effect]:
        """Handle the DOWN of a monitored process: a local member, or another node's server.

        The members that the server reported are removed with it.
        """
        keys = self._groups_by_pid.pop(pid, None)
        if keys is not None:
            return self._local_down(pid, keys, reason)
        peer = self._peers.pop(pid, None)
        if peer is not None:
            self._peers_on_node[pid.node] -= 1
            if not self._peers_on_node[pid.node]:
                del self._peers_on_node[pid.node]
            for key, bag in peer.groups.items():
                self._groups.remove_bag(key, bag, reason)
        return []

    def restarted(self, server: Pid) -> list[Effect]:
        """This node's server has terminated, and ``server`` takes its place. All members stay.

        The other servers have removed our members with the old server. So they need a discover of the new one, and a
        sync before anything else. They may restart at the same time: send the discover to their names.
        """
        self._server = server
        for peer in self._peers.values():
            peer.synced = False
        return [Monitor(pid) for pid in (*self._groups_by_pid, *self._peers)]

    def peer_nodes(self) -> list[Atom]:
        """The nodes of the other servers."""
        return [server.node for server in self._peers]

    def has_sync_of(self, node: Atom) -> bool:
        """Whether a server on ``node`` has sent its groups since it is known."""
        return any(peer.reported for server, peer in self._peers.items() if server.node is node)

    # Messages from other servers

    def handle_discover(self, server: Pid) -> list[Effect]:
        """Handle ``{discover, server}``: send a sync, and ask a new server for its own."""
        if self._is_refused(server):
            return []
        effects: list[Effect] = [SendTo(server, self._sync_message())]
        peer = self._peers.get(server)
        if peer is None:
            peer = self._add_peer(server)
            # Ask back only if the server is new. Otherwise two servers would exchange discovers without end.
            effects += [Monitor(server), SendTo(server, (Tag.DISCOVER, self._server))]
        peer.synced = True
        return effects

    def handle_sync(self, server: Pid, groups: Sequence[tuple[Term, Sequence[Pid]]]) -> list[Effect]:
        """Handle ``{sync, server, groups}``: replace all that was known of ``server``."""
        if self._is_refused(server):
            return []
        peer = self._peers.get(server)
        effects: list[Effect] = []
        if peer is None:
            peer = self._add_peer(server)
            # Do not answer here. Its discover is on the way, and that one is answered with a sync.
            effects = [Monitor(server)]
        peer.reported = True
        names = [name for name, _ in groups]
        reported: dict[GroupKey, tuple[Pid, ...]] = dict(
            zip(map(exact_key, names), [tuple(pids) for _, pids in groups], strict=True)
        )
        if len(reported) < len(names) or not all(reported.values()):
            self._replace_groups(peer, groups)  # A group is listed twice or has no members. OTP sends no such sync.
        elif not peer.groups and self._groups.add_all(reported, names):
            peer.groups = dict(reported)  # This first contact can have hundreds of thousands of groups.
        elif peer.groups != reported:  # They are equal after a reconnect, and in the second sync when two nodes meet.
            self._replace_groups(peer, groups)
        return effects

    def handle_join(self, server: Pid, group: Term, pids: Sequence[Pid]) -> None:
        """Handle a join on the node of ``server``.

        A join from an unknown server is ignored. It was sent before its node went down and came back, and a sync
        follows.
        """
        peer = self._peers.get(server)
        if peer is None or not pids:
            return
        key = exact_key(group)
        before = peer.groups.get(key, EMPTY)
        after = peer.groups[key] = added(before, pids)
        self._groups.add_members(key, group, pids, before, after)

    def handle_leave(self, server: Pid, pids: Sequence[Pid], groups: Iterable[Term]) -> None:
        """Handle a leave on the node of ``server``: ``pids`` leave each of ``groups`` once.

        Memberships that the server never reported are ignored. A BEAM's pg would crash.
        """
        peer = self._peers.get(server)
        if peer is None:
            return
        keys = [exact_key(group) for group in groups]
        if len(pids) == 1 or len(keys) == 1:  # all that OTP sends
            for key in keys:
                self._leave_group(peer, key, partial(removed_each, values=pids))
            return
        # Each pair of a pid and a group is one membership, and there may be very many pairs.
        wanted = Counter(pids)
        for key, times in Counter(keys).items():
            self._leave_group(peer, key, partial(removed_counts, wanted=wanted, times=times))

    # Internals

    def _is_refused(self, server: Pid) -> bool:
        """Return whether ``server`` is of this node, or one more of a node that claims to have too many."""
        if server.node is self._server.node:
            return True
        return server not in self._peers and self._peers_on_node[server.node] >= MAX_SERVERS

    def _add_peer(self, server: Pid) -> _Peer:
        self._peers_on_node[server.node] += 1
        peer = self._peers[server] = _Peer()
        return peer

    def _leave_group(self, peer: _Peer, key: GroupKey, remove: _Remove) -> None:
        """Remove members that a node reported from one of its groups."""
        before = peer.groups.get(key)
        if before is None:
            return
        left, after = remove(before)
        if after:
            peer.groups[key] = after
        else:
            del peer.groups[key]
        if left:
            self._groups.remove_members(key, left, Tag.LEAVE, before, after)

    def _replace_groups(self, peer: _Peer, groups: Sequence[tuple[Term, Sequence[Pid]]]) -> None:
        """Replace what a node reported by what its new sync lists."""
        before, peer.groups = peer.groups, {}
        for name, pids in groups:
            if not pids:
                continue
            key = exact_key(name)
            if key in self._groups:
                self._replace_members(peer, key, name, before.pop(key, EMPTY), pids)
            else:
                members = peer.groups[key] = tuple(pids)
                self._groups.add(key, name, members)
        # What is left in `before` is missing in the new list.
        for key, bag in before.items():
            self._groups.remove_bag(key, bag, Tag.LEAVE)

    def _replace_members(
        self, peer: _Peer, key: GroupKey, name: Term, before: Multiset[Pid], pids: Sequence[Pid]
    ) -> None:
        """Set the members of one group as a sync lists them. ``before`` are the members that the same server reported
        earlier.
        """
        listed_before = peer.groups.get(key, EMPTY)  # Not empty if the sync lists the group twice.
        if before and listed(before) == pids:
            peer.groups[key] = before  # The common case after a reconnect. It saves the counting below.
            return
        after = peer.groups[key] = added(listed_before, pids)
        if not before:
            self._groups.add_members(key, name, pids, listed_before, after)
            return
        old, new = Counter(dict(counts(before))), Counter(pids)
        if joined := list((new - old).elements()):
            # Add first: the group must not become empty in between, because then it would be deleted.
            self._groups.add_members(key, name, joined)
        if left := list((old - new).elements()):
            self._groups.remove_members(key, left, Tag.LEAVE)

    def _local_down(self, pid: Pid, keys: Multiset[GroupKey], reason: Term) -> list[Effect]:
        """Remove a terminated local member from all its groups. Other nodes get one leave."""
        names: list[Term] = []
        for key in listed(keys):  # One by one and newest first: OTP sends the groups in this order.
            names.append(self._groups.name(key))
            self._remove_local(key, [pid], reason)
        return self._broadcast((Tag.LEAVE, self._server, pid, names))

    def _remove_local(self, key: GroupKey, pids: Sequence[Pid], reason: Term) -> None:
        """Remove local members. ``pids`` may name pids that are not members: observers see them too."""
        before = self._local_members[key]
        left, after = removed_each(before, pids)
        self._local_memberships -= len(left)
        if after:
            self._local_members[key] = after
        else:
            del self._local_members[key]
        self._groups.local_left(key, left)
        self._groups.remove_members(key, pids, reason, before, after)

    def _sync_message(self) -> Term:
        """Build the sync cast with all local members."""
        return gen.cast(
            (
                Tag.SYNC,
                self._server,
                [(self._groups.name(key), listed(bag)) for key, bag in self._local_members.items()],
            )
        )

    def _broadcast(self, message: Term) -> list[Effect]:
        """Send ``message`` to every known server."""
        return [SendTo(server, self._message_or_sync(peer, message)) for server, peer in self._peers.items()]

    def _message_or_sync(self, peer: _Peer, message: Term) -> Term:
        """Return ``message``, or a sync if this server has not had one."""
        # A server that is known only from its own sync has not had ours. Send the full list instead of the change.
        # Its discover is still on the way and gets one more sync, which is harmless.
        if peer.synced:
            return message
        peer.synced = True
        return self._sync_message()


def _pid_or_list(pids: Sequence[Pid]) -> Pid | list[Pid]:
    """OTP sends a single pid without a list."""
    return pids[0] if len(pids) == 1 else list(pids)
