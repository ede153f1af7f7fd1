"""The lock table of one node: which resource is locked by which requester, held by which processes.

A lock is free, or belongs to one *requester* and is held by one or more processes that gave this same requester. A
holder that dies lets go. (``global_locks`` in OTP's global.erl.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from erlmesh.services.global_.protocol import Atoms, Demonitor, Effect, LockId, Monitor
from erlmesh.terms import Pid, Term, exact_key

__all__ = ["LockTable"]

_GLOBAL: Final = exact_key(Atoms.GLOBAL)


@dataclass(slots=True)
class _Lock:
    resource: Term
    requester: Term
    requester_key: Any
    holders: dict[Pid, None] = field(default_factory=dict)


class LockTable:
    """Pure: every change returns the monitors it needs or no longer needs."""

    def __init__(self) -> None:
        self._locks: dict[Any, _Lock] = {}
        self._locks_by_holder: dict[Pid, dict[Any, None]] = {}
        self.global_lock_lost = False
        """The last holder of the resource ``global`` died holding it: names it was about to insert must not stay."""

    def can_set(self, lock: LockId) -> bool:
        resource, requester = lock
        held = self._locks.get(exact_key(resource))
        return held is None or held.requester_key == exact_key(requester)

    def is_set(self, resource: Term) -> bool:
        return exact_key(resource) in self._locks

    def set(self, lock: LockId, pid: Pid) -> tuple[bool, list[Effect]]:
        """Whether ``pid`` now holds ``lock``. Setting it twice is holding it once."""
        resource, requester = lock
        key, requester_key = exact_key(resource), exact_key(requester)
        held = self._locks.get(key)
        if held is None:
            held = self._locks[key] = _Lock(resource, requester, requester_key)
        elif held.requester_key != requester_key:
            return False, []
        if pid in held.holders:
            return True, []
        held.holders[pid] = None
        self._locks_by_holder.setdefault(pid, {})[key] = None
        return True, [Monitor(pid)]

    def delete(self, lock: LockId, pid: Pid) -> list[Effect]:
        """``pid`` lets go; somebody else's lock is left alone."""
        resource, requester = lock
        key = exact_key(resource)
        held = self._locks.get(key)
        if held is None or held.requester_key != exact_key(requester) or pid not in held.holders:
            return []
        return self._release(key, held, pid, holder_died=False)

    def handle_down(self, pid: Pid) -> list[Effect]:
        """``pid`` died: it lets go of everything."""
        effects: list[Effect] = []
        for key in list(self._locks_by_holder.get(pid, ())):
            effects += self._release(key, self._locks[key], pid, holder_died=True)
        return effects

    def global_lock_still_set(self, pid: Pid) -> bool:
        """Whether a name that the process ``pid`` registers may stay (``lock_still_set`` in global.erl)."""
        held = self._locks.get(_GLOBAL)
        return not self.global_lock_lost if held is None else pid in held.holders

    def global_lock_matches(self, lock: Term) -> bool:
        """Whether names that arrive under the global lock ``lock`` may stay."""
        held = self._locks.get(_GLOBAL)
        if held is None:
            return not self.global_lock_lost
        return isinstance(lock, tuple) and len(lock) == 2 and held.requester_key == exact_key(lock[1])

    def snapshot(self) -> list[tuple[Term, Term, list[Pid]]]:
        """``[(resource, requester, holders)]``."""
        return [(lock.resource, lock.requester, list(lock.holders)) for lock in self._locks.values()]

    def _release(self, key: Any, entry: _Lock, pid: Pid, *, holder_died: bool) -> list[Effect]:
        del entry.holders[pid]
        del self._locks_by_holder[pid][key]
        if not self._locks_by_holder[pid]:
            del self._locks_by_holder[pid]
        if not entry.holders:
            del self._locks[key]
            if key == _GLOBAL:
                self.global_lock_lost = holder_died
        return [Demonitor(pid)]
