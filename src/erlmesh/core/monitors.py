"""Who watches whom, from both ends. The table returns what must be said and says nothing.

*Watching*: a local process (or a call that waits for its answer) watches a pid or a registered name, anywhere.
*Watched*: a local process is watched, from here or from another node; the one who asked may have named it by pid or by
registered name, and is told in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from erlmesh.proto.control import Demonitor, Down, Monitor
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["MonitorEntry", "Monitors"]

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class MonitorEntry:
    """``owner`` watches ``target`` (a pid, or a name registered on ``node``)."""

    origin: Pid
    target: Pid | Atom
    node: Atom

    def down_object(self) -> Pid | tuple[Atom, Atom]:
        """The process as a DOWN message names it: the pid, or ``{Name, Node}``."""
        return self.target if isinstance(self.target, Pid) else (self.target, self.node)


class Monitors:
    """The monitor table of one node."""

    def __init__(self, node: Atom) -> None:
        self._node = node
        self._origins: dict[Ref, MonitorEntry] = {}
        self._origins_by_pid: dict[Pid, dict[Ref, None]] = {}
        self._origins_by_target_node: dict[Atom, dict[Ref, None]] = {}
        self._targets_by_pid: dict[Pid, dict[Ref, tuple[Pid, Pid | Atom]]] = {}
        self._targets_by_origin_node: dict[Atom, dict[Ref, Pid]] = {}
        self._target_by_ref: dict[Ref, Pid] = {}

    # Watching

    def monitor(self, origin: Pid, target: Pid | Atom, node: Atom, ref: Ref) -> Monitor:
        """``owner`` starts to watch; the answer is the signal to deliver to ``node``."""
        self._origins[ref] = MonitorEntry(origin, target, node)
        self._origins_by_pid.setdefault(origin, {})[ref] = None
        if node is not self._node:
            self._origins_by_target_node.setdefault(node, {})[ref] = None
        return Monitor(origin, target, ref)

    def demonitor(self, origin: Pid, ref: Ref) -> tuple[MonitorEntry, Demonitor] | None:
        """``owner`` stops watching. None if that watch is over already, or is somebody else's."""
        watch = self._origins.get(ref)
        if watch is None or watch.origin != origin:
            return None
        self._remove(ref)
        return watch, Demonitor(origin, watch.target, ref)

    def down_received(self, ref: Ref, node: Atom) -> MonitorEntry | None:
        """A DOWN came in from ``node``: the watch it ends, or None if that is over already, or is none of theirs."""
        watch = self._origins.get(ref)
        return self._remove(ref) if watch is not None and watch.node is node else None

    def _remove(self, ref: Ref) -> MonitorEntry | None:
        watch = self._origins.pop(ref, None)
        if watch is not None:
            _discard(self._origins_by_pid, watch.origin, ref)
            _discard(self._origins_by_target_node, watch.node, ref)
        return watch

    # Watched

    def monitor_received(self, process: Pid, monitor: Monitor) -> None:
        """The living local ``process`` is watched from now on. A reference in use already is ignored."""
        if monitor.ref in self._target_by_ref:
            return
        self._targets_by_pid.setdefault(process, {})[monitor.ref] = (monitor.sender, monitor.target)
        self._target_by_ref[monitor.ref] = process
        if monitor.sender.node is not self._node:
            self._targets_by_origin_node.setdefault(monitor.sender.node, {})[monitor.ref] = process

    def demonitor_received(self, ref: Ref, sender: Pid) -> None:
        """The watcher ``sender`` has lost interest; unknown references, and those of others, are ignored."""
        process = self._target_by_ref.get(ref)
        if process is None or self._targets_by_pid[process][ref][0] != sender:
            return
        del self._target_by_ref[ref]
        _discard(self._targets_by_pid, process, ref)
        _discard(self._targets_by_origin_node, sender.node, ref)

    # Ends

    def process_exited(self, process: Pid, reason: Term) -> tuple[list[Down], list[tuple[MonitorEntry, Demonitor]]]:
        """A local process is dead: what its watchers are told, and what its own watches are taken back with."""
        told = []
        for ref, (watcher, named) in self._targets_by_pid.pop(process, {}).items():
            del self._target_by_ref[ref]
            _discard(self._targets_by_origin_node, watcher.node, ref)
            told.append(Down(named, watcher, ref, reason))
        taken_back = []
        for ref in list(self._origins_by_pid.get(process, ())):
            ended = self.demonitor(process, ref)
            if ended is not None:
                taken_back.append(ended)
        return told, taken_back

    def connection_lost(self, node: Atom, reason: Term) -> list[Down]:
        """The connection to ``node`` is gone: what local watchers hear of their watches there. Each DOWN must be given
        to :meth:`down`, as if the node had sent it.
        """
        for ref, process in self._targets_by_origin_node.pop(node, {}).items():
            del self._target_by_ref[ref]
            _discard(self._targets_by_pid, process, ref)
        return [
            Down(watch.target, watch.origin, ref, reason)
            for ref in self._origins_by_target_node.get(node, ())
            for watch in (self._origins[ref],)
        ]

    def monitored_by(self, process: Pid) -> list[Pid]:
        """Who watches the local ``process``."""
        return [watcher for watcher, _ in self._targets_by_pid.get(process, {}).values()]

    def __len__(self) -> int:
        return len(self._origins) + len(self._target_by_ref)


def _discard(index: dict[_K, dict[Ref, _V]], key: _K, ref: Ref) -> None:
    refs = index.get(key)
    if refs is not None:
        refs.pop(ref, None)
        if not refs:
            del index[key]
