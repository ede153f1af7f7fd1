"""Which processes of a node that stops are told to end, and when.

::

    all others                        a descendant of a supervisor
    ──────────                        ────────────────────────────
    told at once                      waiting ── its last supervisor has ended ──▶ told

A process is told with the exit reason ``shutdown``. A supervisor stops its children itself, in order. So its
descendants are told only if they outlive it. A process that is started while the node stops belongs to what its parent
still does: it is told when the parent has ended.
"""

from __future__ import annotations

from collections.abc import Iterable

from erlmesh.records import record
from erlmesh.terms import Pid

__all__ = ["Candidate", "StopOrder"]


@record(frozen=True)
class Candidate:
    """A process that has to end. ``parent`` is the process that has started it, if that is known."""

    pid: Pid
    parent: Pid | None = None
    supervises: bool = False
    """It stops its own children."""


class StopOrder:
    """The processes that have not ended yet. Each method returns the pids that are to be told now."""

    def __init__(self) -> None:
        self._candidates: dict[Pid, Candidate] = {}
        self._waiting: dict[Pid, list[Pid]] = {}
        """The processes that wait for the end of another one, by the pid of that one."""

    def begin(self, candidates: Iterable[Candidate]) -> list[Pid]:
        """Take the processes that run when the node starts to stop."""
        self._candidates = {each.pid: each for each in candidates}
        return [pid for pid in self._candidates if not self._wait(pid, self._supervisor_of(pid))]

    def started(self, candidate: Candidate) -> list[Pid]:
        """Take a process that was started later."""
        self._candidates[candidate.pid] = candidate
        parent = candidate.parent if candidate.parent in self._candidates else None
        return [] if self._wait(candidate.pid, parent) else [candidate.pid]

    def ended(self, pid: Pid) -> list[Pid]:
        """Remove a process. Those that have waited for it wait for the next supervisor above, or are told."""
        candidate = self._candidates.pop(pid, None)
        waiting = [each for each in self._waiting.pop(pid, ()) if each in self._candidates]
        above = None if candidate is None else self._supervisor_of(pid, candidate.parent)
        return [each for each in waiting if not self._wait(each, above)]

    def remaining(self) -> list[Pid]:
        """The pids of the processes that have not ended."""
        return list(self._candidates)

    def __len__(self) -> int:
        return len(self._candidates)

    def _wait(self, pid: Pid, other: Pid | None) -> bool:
        if other is None:
            return False
        self._waiting.setdefault(other, []).append(pid)
        return True

    def _supervisor_of(self, pid: Pid, parent: Pid | None = None) -> Pid | None:
        """Return the nearest living ancestor that supervises. The search starts at ``parent`` if ``pid`` has ended."""
        candidate = self._candidates.get(pid)
        above = parent if candidate is None else candidate.parent
        while above is not None:
            ancestor = self._candidates.get(above)
            if ancestor is None or ancestor.supervises:
                return None if ancestor is None else above
            above = ancestor.parent
        return None
