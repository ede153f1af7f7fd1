"""The processes that observe a pg scope with ``pg:monitor/1,2`` and ``pg:monitor_scope/0,1``."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from erlmesh.services.pg.protocol import GroupEvent, Joined, Tag
from erlmesh.terms import Atom, Pid, Ref, Term, exact_key

if TYPE_CHECKING:
    from collections.abc import Hashable

    from erlmesh.runtime.process import LocalProcess

__all__ = ["MonitorTable"]

MAX_REMOTE: Final = 1_000
"""Monitors of the processes of one other node."""


class MonitorTable:
    """The processes that monitor a scope or a group (``pg:monitor/1,2``, ``pg:monitor_scope/0,1``).

    They get ``{Ref, join, Group, Pids}`` and ``{Ref, leave, Group, Pids}``. ``Ref`` is our own monitor of the
    process, as in pg.erl, so its DOWN carries the same reference.
    """

    def __init__(self, process: LocalProcess) -> None:
        self._process = process
        # Ref → (monitoring process, exact_key of the group or None for the whole scope, group).
        self._by_ref: dict[Ref, tuple[Pid, Hashable | None, Term]] = {}
        # exact_key of the group, or None for the whole scope → monitoring processes by Ref. So a change costs only the
        # monitors that get it.
        self._by_key: dict[Hashable | None, dict[Ref, Pid]] = {}
        # How many the processes of each node have.
        self._of_node: Counter[Atom] = Counter()

    def __bool__(self) -> bool:
        return bool(self._by_ref)

    def is_full(self, node: Atom) -> bool:
        """Return whether the processes of another ``node`` have so many monitors that a further one is refused.

        Only a node that makes the calls of OTP's pg module by itself has any.
        """
        return node is not self._process.pid.node and self._of_node[node] >= MAX_REMOTE

    def add_scope(self, pid: Pid) -> Ref:
        """Let ``pid`` monitor all groups. Return the reference that its messages carry."""
        return self._add(pid, None, None)

    def add(self, pid: Pid, group: Term) -> Ref:
        """Let ``pid`` monitor one group. Return the reference that its messages carry."""
        return self._add(pid, exact_key(group), group)

    def _add(self, pid: Pid, key: Hashable | None, group: Term) -> Ref:
        ref = self._process.monitor(pid)
        self._of_node[pid.node] += 1
        self._by_ref[ref] = (pid, key, group)
        self._by_key.setdefault(key, {})[ref] = pid
        return ref

    def dump(self) -> tuple[list[tuple[Ref, Pid]], list[tuple[Ref, tuple[Pid, Term]]], list[tuple[Term, list[Term]]]]:
        """Return the scope monitors, the group monitors by reference, and the group monitors by group.

        These are the last three fields of ``#state{}`` in pg.erl.
        """
        of_groups = [(ref, pid, group) for ref, (pid, key, group) in self._by_ref.items() if key is not None]
        by_group: dict[Hashable, tuple[Term, list[Term]]] = {}
        for ref, pid, group in of_groups:
            by_group.setdefault(exact_key(group), (group, []))[1].append((pid, ref))
        for _, newest_first in by_group.values():
            newest_first.reverse()
        of_scope = [(ref, pid) for ref, (pid, key, _) in self._by_ref.items() if key is None]
        return of_scope, [(ref, (pid, group)) for ref, pid, group in of_groups], list(by_group.values())

    def remove(self, ref: Ref) -> bool:
        """Remove a monitor, also on its DOWN. Return False if there is no such monitor."""
        monitor = self._by_ref.pop(ref, None)
        if monitor is None:
            return False
        pid, key, _ = monitor
        self._of_node[pid.node] -= 1
        if not self._of_node[pid.node]:
            del self._of_node[pid.node]
        del self._by_key[key][ref]
        if not self._by_key[key]:
            del self._by_key[key]
        self._process.demonitor(ref)
        return True

    def notify(self, key: Hashable, group_event: GroupEvent) -> None:
        """Send ``group_event`` to the processes that monitor the scope or its group.

        ``key`` is the exact_key of the group.
        """
        event = Tag.JOIN if isinstance(group_event, Joined) else Tag.LEAVE
        group, pids = group_event.group, list(group_event.pids)
        for monitored in (None, key):  # As in OTP: scope monitors are notified before group monitors.
            for ref, pid in tuple(self._by_key.get(monitored, {}).items()):
                self._process.send(pid, (ref, event, group, pids), connect=False)
