"""The lock table of one node: which resource is locked by which requester, and which processes hold it. No I/O.

A lock is free, or belongs to one *requester* (any term). One or more processes hold it: all those that gave the same
requester. A process that terminates releases its locks.

Source: the ETS table ``global_locks`` in global.erl.
"""

from __future__ import annotations

from typing import Any, Final

from erlmesh.records import field, record
from erlmesh.services.global_.protocol import Atoms, Demonitor, Effect, LockId, Monitor
from erlmesh.terms import Pid, Term, exact_key

__all__ = ["LockTable"]

_GLOBAL: Final = exact_key(Atoms.GLOBAL)


@record
class _Lock:
    """A lock that is set."""

    resource: Term
    requester: Term
    requester_key: Any
    """``exact_key`` of the requester, for comparison."""
    holders: dict[Pid, None] = field(default_factory=dict)
    """Processes that hold the lock. An ordered set, never empty while the lock is in the table."""


class LockTable:
    """Each change returns the monitors that it needs or no longer needs."""

    def __init__(self) -> None:
        # By exact_key of the resource.
        self._locks: dict[Any, _Lock] = {}
        # The locks of each holder, to release them when it terminates.
        self._locks_by_holder: dict[Pid, dict[Any, None]] = {}
        self.global_lock_lost = False
        """True if the last holder of ``global`` terminated while it held the lock.

        Names that it was inserting must not stay, because not all nodes have them."""

    def can_set(self, lock: LockId) -> bool:
        """True if ``set`` would succeed now."""
        resource, requester = lock
        entry = self._locks.get(exact_key(resource))
        return entry is None or entry.requester_key == exact_key(requester)

    def is_set(self, resource: Term) -> bool:
        """True if any requester has locked ``resource``."""
        return exact_key(resource) in self._locks

    def set(self, lock: LockId, pid: Pid) -> tuple[bool, list[Effect]]:
        """Lock for ``pid``. The boolean is True if it holds the lock now. A second call by a holder changes nothing."""
        resource, requester = lock
        key, requester_key = exact_key(resource), exact_key(requester)
        entry = self._locks.get(key)
        if entry is None:
            entry = self._locks[key] = _Lock(resource, requester, requester_key)
        elif entry.requester_key != requester_key:
            return False, []
        if pid in entry.holders:
            return True, []
        entry.holders[pid] = None
        self._locks_by_holder.setdefault(pid, {})[key] = None
        return True, [Monitor(pid)]

    def delete(self, lock: LockId, pid: Pid) -> list[Effect]:
        """Release the lock of ``pid``. No effect if ``pid`` does not hold it."""
        resource, requester = lock
        key = exact_key(resource)
        entry = self._locks.get(key)
        if entry is None or entry.requester_key != exact_key(requester) or pid not in entry.holders:
            return []
        return self._release(key, entry, pid, holder_died=False)

    def handle_down(self, pid: Pid) -> list[Effect]:
        """``pid`` has terminated, or its node is lost: release all its locks."""
        effects: list[Effect] = []
        for key in list(self._locks_by_holder.get(pid, ())):
            effects += self._release(key, self._locks[key], pid, holder_died=True)
        return effects

    def global_lock_still_set(self, pid: Pid) -> bool:
        """True if a name that the process ``pid`` registers may stay (``lock_still_set`` in global.erl).

        ``pid`` must hold ``global``. If the lock is free, its last holder must have released it on purpose.
        """
        entry = self._locks.get(_GLOBAL)
        return not self.global_lock_lost if entry is None else pid in entry.holders

    def global_lock_matches(self, lock: Term) -> bool:
        """True if names that were decided under ``lock`` may stay.

        ``global`` must belong to the same requester. If it is free, its last holder must have released it on purpose.
        """
        entry = self._locks.get(_GLOBAL)
        if entry is None:
            return not self.global_lock_lost
        return isinstance(lock, tuple) and len(lock) == 2 and entry.requester_key == exact_key(lock[1])

    def snapshot(self) -> list[tuple[Term, Term, list[Pid]]]:
        """``[(resource, requester, holders)]``."""
        return [(lock.resource, lock.requester, list(lock.holders)) for lock in self._locks.values()]

    def _release(self, key: Any, entry: _Lock, pid: Pid, *, holder_died: bool) -> list[Effect]:
        """Remove one holder. The last one frees the lock. ``holder_died`` tells how it was released."""
        del entry.holders[pid]
        del self._locks_by_holder[pid][key]
        if not self._locks_by_holder[pid]:
            del self._locks_by_holder[pid]
        if not entry.holders:
            del self._locks[key]
            if key == _GLOBAL:
                self.global_lock_lost = holder_died
        return [Demonitor(pid)]
