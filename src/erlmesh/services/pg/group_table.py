"""The members of all groups of a scope, on all nodes, with the lists that queries build and the events of changes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from erlmesh.services.multiset import (
    EMPTY,
    MAX_TUPLE_SIZE,
    Multiset,
    added,
    as_tuple,
    listed,
    removed_each,
    shareable,
    size,
)
from erlmesh.services.pg.listings import Listing
from erlmesh.services.pg.pick_list import PickList
from erlmesh.services.pg.protocol import GroupEvent, Joined, Left
from erlmesh.terms import Pid, Term

if TYPE_CHECKING:
    from erlmesh.core.sharding.rendezvous import Rendezvous

__all__ = ["GroupKey", "GroupTable"]

GroupKey: TypeAlias = Hashable
"""``exact_key`` of a group's name. Erlang compares keys with ``=:=``, so 1, 1.0 and true are three groups."""


class GroupTable:
    """Which groups have which members. A group without members does not exist.

    Each change records its event, and drops the lists that queries have built. The tables of single nodes belong to
    the caller. ``before`` and ``after`` are what the node of the changed pids had in the group before and after the
    change. If it had all members of the group, the group shares ``after``.
    """

    def __init__(self) -> None:
        # While one node has all members and the multiset is a tuple, it is the same object as in the table of that
        # node.
        self._members: dict[GroupKey, Multiset[Pid]] = {}
        # The names of the groups whose key is not the name itself. There can be hundreds of thousands of groups, and
        # most names are their keys.
        self._names: dict[GroupKey, Term] = {}
        # The lists that queries have built of large groups. A change of a group drops or changes them.
        self._listings: dict[GroupKey, Listing] = {}
        # Events since the last take_events().
        self._events: list[GroupEvent] = []
        self.recording = False
        """True to keep events for :meth:`take_events`. False costs nothing while there is no observer."""
        self.memberships = 0
        """The number of members of all groups, with multiplicity."""

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, key: GroupKey) -> bool:
        return key in self._members

    def name(self, key: GroupKey) -> Term:
        """The name of a group as a term that can be sent."""
        return self._names.get(key, key)

    def names(self) -> list[Term]:
        """The names of all groups."""
        return [self._names.get(key, key) for key in self._members]

    def sizes(self, most: int) -> list[tuple[Term, int]]:
        """The names of groups and the numbers of their members, for ``most`` groups at most."""
        return [(self._names.get(key, key), size(bag)) for key, bag in islice(self._members.items(), most)]

    # Queries

    def members(self, key: GroupKey) -> tuple[Pid, ...]:
        """The members, newest first, with multiplicity. Built once, and kept until the next change."""
        bag = self._members.get(key, EMPTY)
        if isinstance(bag, tuple):
            return bag
        listing = self._listing(key)
        if listing.members is None:
            listing.members = as_tuple(bag)
        return listing.members

    def local_members(self, key: GroupKey, bag: Multiset[Pid]) -> tuple[Pid, ...]:
        """``bag``, which this node has in the group, as a tuple. It is kept until the next change."""
        if isinstance(bag, tuple):
            return bag
        listing = self._listing(key)
        if listing.local is None:
            listing.local = as_tuple(bag)
        return listing.local

    def recipients(self, key: GroupKey) -> tuple[Pid, ...]:
        """The members, newest first, each once."""
        bag = self._members.get(key, EMPTY)
        if not isinstance(bag, tuple):
            return tuple(reversed(bag))  # As fast as a copy, so it is not kept.
        if len(bag) <= MAX_TUPLE_SIZE:
            return _distinct(bag)
        listing = self._listing(key)
        if listing.recipients is None:
            listing.recipients = _distinct(bag)
        return listing.recipients

    def rendezvous(self, key: GroupKey) -> Rendezvous | None:
        """The nodes of the members, for owners. None for a group without members. It is kept until the next change."""
        bag = self._members.get(key)
        if bag is None:  # A listing of a group that does not exist would never be dropped.
            return None
        listing = self._listing(key)
        if listing.rendezvous is None:
            # Few programs ask for owners, and this loads hashlib.
            from erlmesh.core.sharding.rendezvous import Rendezvous  # noqa: PLC0415

            listing.rendezvous = Rendezvous(bag)
        return listing.rendezvous

    def candidates(self, key: GroupKey) -> tuple[Pid, ...] | PickList:
        """The members, for a pick. The time does not depend on the size of the group."""
        bag = self._members.get(key, EMPTY)
        if isinstance(bag, tuple):
            return bag
        listing = self._listing(key)
        if listing.picks is None or listing.picks.bag is not bag:
            listing.picks = PickList(bag)
        return listing.picks

    def local_candidates(self, key: GroupKey, bag: Multiset[Pid]) -> tuple[Pid, ...] | PickList:
        """``bag``, which this node has in the group, for a pick."""
        if isinstance(bag, tuple):
            return bag
        listing = self._listing(key)
        if listing.local_picks is None or listing.local_picks.bag is not bag:
            listing.local_picks = PickList(bag)
        return listing.local_picks

    def _listing(self, key: GroupKey) -> Listing:
        listing = self._listings.get(key)
        if listing is None:
            listing = self._listings[key] = Listing()
        return listing

    def take_events(self) -> list[GroupEvent]:
        """Return and clear the events since the last call. Events are kept only while ``recording``."""
        events, self._events = self._events, []
        return events

    # Changes

    def add(self, key: GroupKey, name: Term, bag: Multiset[Pid]) -> None:
        """Add a group whose members are all on one node, which has them in ``bag``."""
        if isinstance(bag, tuple):  # nearly all new groups
            members = bag
            self._members[key] = bag
        else:
            members = as_tuple(bag)
            self._members[key] = shareable(bag)
        if key is not name and key != name:
            self._names[key] = name
        self.memberships += len(members)
        if self.recording:
            self._events.append(Joined(members, name))

    def add_all(self, groups: dict[GroupKey, tuple[Pid, ...]], names: Sequence[Term]) -> bool:
        """Add groups whose members are all on one node. False, without a change, if one of them has members already.

        ``names`` are in the order of ``groups``. There can be hundreds of thousands, so this runs little Python code
        for each of them.
        """
        # Of two views, Python goes through the smaller one.
        if not self._members.keys().isdisjoint(groups.keys()):
            return False
        self._members |= groups
        pairs = zip(groups, names, strict=True)
        self._names |= {key: name for key, name in pairs if key is not name and key != name}
        self.memberships += sum(map(len, groups.values()))
        if self.recording:
            self._events += map(Joined, groups.values(), names)
        return True

    def add_members(
        self,
        key: GroupKey,
        name: Term,
        pids: Sequence[Pid],
        before: Multiset[Pid] | None = None,
        after: Multiset[Pid] = EMPTY,
    ) -> None:
        """Add ``pids`` to a group, which is made if there is none."""
        bag = self._members.get(key)
        if bag is None:
            self.add(key, name, after or tuple(pids))
            return
        listing = self._changed_listing(key)
        if listing is not None and listing.picks is not None:
            listing.picks.joined(pids)
        self._members[key] = shareable(after) if bag is before else added(bag, pids)
        self.memberships += len(pids)
        if self.recording:
            self._events.append(Joined(tuple(pids), self.name(key)))

    def remove_members(
        self,
        key: GroupKey,
        pids: Sequence[Pid],
        reason: Term,
        before: Multiset[Pid] | None = None,
        after: Multiset[Pid] = EMPTY,
    ) -> None:
        """Remove ``pids`` from a group. A group without members is deleted."""
        bag, name = self._members[key], self.name(key)
        listing = self._changed_listing(key)
        if bag is before:
            self.memberships -= size(before) - size(after)
            rest = shareable(after)
        else:
            left, rest = removed_each(bag, pids)
            self.memberships -= len(left)
            if listing is not None and listing.picks is not None and not listing.picks.left(left):
                listing.picks = None
        if rest:
            self._members[key] = rest
        else:
            self._delete(key)
        if self.recording:
            self._events.append(Left(tuple(pids), reason, name))

    def remove_bag(self, key: GroupKey, bag: Multiset[Pid], reason: Term) -> None:
        """Remove all that one other node had in a group. If no other node has members, the group goes as a whole."""
        members = self._members[key]
        # The members are the sum of what all nodes have. So they are equal to the bag if the sizes are.
        if members is not bag and size(members) != size(bag):
            self.remove_members(key, listed(bag), reason)
            return
        if self.recording:
            self._events.append(Left(as_tuple(bag), reason, self.name(key)))
        self._delete(key)
        self.memberships -= size(bag)

    def local_joined(self, key: GroupKey, pids: Sequence[Pid]) -> None:
        """Note that ``pids``, which were added, are of this node."""
        listing = self._listings.get(key)
        if listing is not None and listing.local_picks is not None:
            listing.local_picks.joined(pids)

    def local_left(self, key: GroupKey, pids: Sequence[Pid]) -> None:
        """Note that ``pids``, which are removed, were members on this node."""
        listing = self._listings.get(key)
        if listing is not None and listing.local_picks is not None and not listing.local_picks.left(pids):
            listing.local_picks = None

    def _delete(self, key: GroupKey) -> None:
        del self._members[key]
        self._names.pop(key, None)
        self._listings.pop(key, None)

    def _changed_listing(self, key: GroupKey) -> Listing | None:
        """Drop the lists of a group that has changed. Return the rest, which the caller must change; None if nothing is
        kept.
        """
        listing = self._listings.get(key)
        if listing is None or listing.drop_tuples():
            return listing
        del self._listings[key]
        return None


def _distinct(pids: tuple[Pid, ...]) -> tuple[Pid, ...]:
    """Each pid once, in the order of the first occurrences. It is the same object if no pid is repeated."""
    distinct = dict.fromkeys(pids)
    return pids if len(distinct) == len(pids) else tuple(distinct)
