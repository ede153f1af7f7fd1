"""The state of pg2 on one node: groups that exist until they are deleted, and their members. No I/O.

Every node holds the whole table and monitors every member. Source: pg2.erl, up to OTP 23.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from erlmesh.records import record
from erlmesh.services.multiset import EMPTY, Multiset, added, count_of, counts, listed, removed, size
from erlmesh.terms import exact_key, sort_key

if TYPE_CHECKING:
    from erlmesh.terms import Pid, Term

__all__ = ["Pg2State", "Pg2Statistics"]

GroupKey: TypeAlias = Hashable
"""``exact_key`` of a group's name."""


@record
class _Group:
    """A group. It exists until it is deleted, also without members."""

    name: Term
    """The name as a term. The dict key is its ``exact_key``, which cannot be sent."""
    members: Multiset[Pid]


@record(frozen=True)
class Pg2Statistics:
    """A snapshot. Memberships are counted with multiplicity."""

    groups: int
    memberships: int


class Pg2State:
    """Names and members. A method that adds members returns the pids that must be monitored from now on."""

    def __init__(self) -> None:
        self._groups: dict[GroupKey, _Group] = {}
        # The groups of each member, to remove it when it terminates.
        self._groups_by_pid: dict[Pid, Multiset[GroupKey]] = {}

    def names(self) -> list[Term]:
        """All groups, also empty ones, in Erlang's term order."""
        return sorted((group.name for group in self._groups.values()), key=sort_key)

    def __contains__(self, name: Term) -> bool:
        return exact_key(name) in self._groups

    def members(self, name: Term) -> list[Pid] | None:
        """The members in Erlang's term order, repeated as often as they joined. None if there is no such group."""
        group = self._groups.get(exact_key(name))
        return None if group is None else sorted(listed(group.members), key=sort_key)

    def statistics(self) -> Pg2Statistics:
        return Pg2Statistics(len(self._groups), sum(size(group.members) for group in self._groups.values()))

    def has_member(self, pid: Pid) -> bool:
        """True if ``pid`` is in any group. Then it must be monitored."""
        return pid in self._groups_by_pid

    def create(self, name: Term) -> None:
        """Create the group unless it exists."""
        key = exact_key(name)
        if key not in self._groups:
            self._groups[key] = _Group(name, EMPTY)

    def delete(self, name: Term) -> list[Pid]:
        """Delete the group and return its members.

        The caller demonitors each of them for which :meth:`has_member` is False now.
        """
        group = self._groups.get(exact_key(name))
        if group is None:
            return []
        members = [pid for pid, times in counts(group.members) for _ in range(times)]
        for pid in members:
            self.leave(name, pid)
        del self._groups[exact_key(name)]
        return list(dict.fromkeys(members))

    def join(self, name: Term, pid: Pid) -> list[Pid]:
        """Add ``pid`` once. Return it if it must be monitored from now on. No effect if there is no such group."""
        key = exact_key(name)
        group = self._groups.get(key)
        if group is None:
            return []
        is_new = pid not in self._groups_by_pid
        group.members = added(group.members, (pid,))
        self._groups_by_pid[pid] = added(self._groups_by_pid.get(pid, EMPTY), (key,))
        return [pid] if is_new else []

    def leave(self, name: Term, pid: Pid) -> None:
        """Remove ``pid`` once. No effect if it is not a member."""
        key = exact_key(name)
        keys = removed(self._groups_by_pid.get(pid, EMPTY), key)
        if keys is None:
            return
        if keys:
            self._groups_by_pid[pid] = keys
        else:
            del self._groups_by_pid[pid]
        self._remove_from_group(key, pid)

    def handle_down(self, pid: Pid) -> None:
        """Remove a terminated process from all groups."""
        for key in listed(self._groups_by_pid.pop(pid, EMPTY)):
            self._remove_from_group(key, pid)

    def merge(self, groups: Iterable[tuple[Term, Sequence[Pid]]]) -> list[Pid]:
        """Add the groups and members that another node has and this one lacks. Return the pids to monitor.

        Nothing is removed. So a group that was deleted during a partition comes back (pg2.erl,
        ``handle_cast({exchange, ...})``).
        """
        to_monitor: list[Pid] = []
        for name, remote in groups:
            self.create(name)
            members = self._groups[exact_key(name)].members
            # The group is not counted as a whole: an exchange may name a large group many times.
            lacking = {pid: times - count_of(members, pid) for pid, times in Counter(remote).items()}
            for pid, times in lacking.items():
                for _ in range(times):
                    to_monitor += self.join(name, pid)
        return to_monitor

    def dump(self) -> list[list[Term]]:
        """``[[Name, [Pid]]]``, the form of an exchange."""
        return [[group.name, listed(group.members)] for group in self._groups.values()]

    def _remove_from_group(self, key: GroupKey, pid: Pid) -> None:
        group = self._groups[key]
        rest = removed(group.members, pid)
        if rest is not None:
            group.members = rest
