"""Monitors, as origin and as target. No I/O: the methods return the signals to send.

*Origin*: a local process, or a call that waits for its reply, monitors a pid or a registered name on any node.
*Target*: a local process is monitored, from this node or from another. The origin may have named it by its pid or by a
registered name, and the DOWN signal names it in the same way. (OTP: ``erl_monitor_link.h``.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from erlmesh.proto.control import Demonitor, Down, Monitor
from erlmesh.records import record
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["MonitorEntry", "Monitors"]

_K = TypeVar("_K")
_V = TypeVar("_V")


@record  # not frozen: each call creates one, and a frozen record takes longer to create
class MonitorEntry:
    """``origin`` monitors ``target``: a pid, or a name that is registered on ``node``."""

    origin: Pid
    target: Pid | Atom
    node: Atom

    def down_object(self) -> Pid | tuple[Atom, Atom]:
        """Return the target as a DOWN message names it: the pid, or ``{Name, Node}``."""
        return self.target if isinstance(self.target, Pid) else (self.target, self.node)


class Monitors:
    """The monitor table of the node ``node``."""

    def __init__(self, node: Atom) -> None:
        self._node = node
        self._origins: dict[Ref, MonitorEntry] = {}
        """The monitors of local processes. The next two are indexes of it."""
        self._origins_by_pid: dict[Pid, dict[Ref, None]] = {}
        self._origins_by_target_node: dict[Atom, dict[Ref, None]] = {}
        """Without targets on this node: these do not end with a connection."""
        self._targets_by_pid: dict[Pid, dict[Ref, tuple[Pid, Pid | Atom]]] = {}
        """The monitors of each local target: the origin, and the pid or name by which it named the target."""
        self._targets_by_origin_node: dict[Atom, dict[Ref, Pid]] = {}
        self._target_by_ref: dict[Ref, Pid] = {}

    # Local origins

    def monitor(self, origin: Pid, target: Pid | Atom, node: Atom, ref: Ref) -> Monitor:
        """``origin`` starts to monitor ``target``. Return the signal to deliver to ``node``."""
        self._origins[ref] = MonitorEntry(origin, target, node)
        self._origins_by_pid.setdefault(origin, {})[ref] = None
        if node is not self._node:
            self._origins_by_target_node.setdefault(node, {})[ref] = None
        return Monitor(origin, target, ref)

    def demonitor(self, origin: Pid, ref: Ref) -> tuple[MonitorEntry, Demonitor] | None:
        """``origin`` removes its monitor. Return the entry and the signal to send to its node.

        Return None if the monitor has ended already, or belongs to another process.
        """
        entry = self._origins.get(ref)
        if entry is None or (entry.origin is not origin and entry.origin != origin):
            return None
        self._remove(ref)
        return entry, Demonitor(origin, entry.target, ref)

    def down_received(self, ref: Ref, node: Atom) -> MonitorEntry | None:
        """A DOWN signal arrived from ``node``. Return the monitor that it ends.

        Return None if the monitor has ended already, or if its target is not on ``node``.
        """
        entry = self._origins.get(ref)
        return self._remove(ref) if entry is not None and entry.node is node else None

    def _remove(self, ref: Ref) -> MonitorEntry | None:
        entry = self._origins.pop(ref, None)
        if entry is not None:
            _discard(self._origins_by_pid, entry.origin, ref)
            _discard(self._origins_by_target_node, entry.node, ref)
        return entry

    # Local targets

    def monitor_received(self, process: Pid, monitor: Monitor) -> None:
        """The local ``process``, which is alive, is monitored from now on."""
        ref, sender = monitor.ref, monitor.sender
        if ref in self._target_by_ref:  # a reference is unique: a peer that uses one twice is faulty
            return
        self._target_by_ref[ref] = process
        monitors = self._targets_by_pid.get(process)
        if monitors is None:
            self._targets_by_pid[process] = {ref: (sender, monitor.target)}
        else:
            monitors[ref] = (sender, monitor.target)
        node = sender.node
        if node is not self._node:
            self._targets_by_origin_node.setdefault(node, {})[ref] = process

    def demonitor_received(self, ref: Ref, sender: Pid) -> None:
        """The origin ``sender`` removes its monitor. Unknown references, and those of other origins, are ignored."""
        process = self._target_by_ref.get(ref)
        if process is None or self._targets_by_pid[process][ref][0] != sender:
            return
        del self._target_by_ref[ref]
        _discard(self._targets_by_pid, process, ref)
        _discard(self._targets_by_origin_node, sender.node, ref)

    def targets_of(self, origin: Pid) -> Iterator[MonitorEntry]:
        """What the local ``origin`` monitors."""
        return (self._origins[ref] for ref in self._origins_by_pid.get(origin, ()))

    def origins_of(self, process: Pid) -> Iterator[Pid]:
        """Who monitors the local ``process``; an origin with several monitors comes several times."""
        return (origin for origin, _ in self._targets_by_pid.get(process, {}).values())

    def target_tables(self) -> tuple[dict[Ref, Pid], dict[Pid, Any], dict[Atom, Any]]:
        """Return the tables by reference, by target and by origin node.

        The native part changes them in place, as :meth:`monitor_received` and :meth:`demonitor_received` do.
        """
        return self._target_by_ref, self._targets_by_pid, self._targets_by_origin_node

    # Termination and loss

    def process_exited(self, process: Pid, reason: Term) -> tuple[list[Down], list[tuple[MonitorEntry, Demonitor]]]:
        """A local process has terminated. Return the DOWN signals to its origins, and its own monitors, which end."""
        downs: list[Down] = []
        demonitors: list[tuple[MonitorEntry, Demonitor]] = []
        monitors = self._targets_by_pid.pop(process, None)
        if monitors is not None:
            for ref, (origin, target_name) in monitors.items():
                del self._target_by_ref[ref]
                _discard(self._targets_by_origin_node, origin.node, ref)
                downs.append(Down(target_name, origin, ref, reason))
        own = self._origins_by_pid.get(process)
        if own is not None:
            for ref in list(own):
                removed = self.demonitor(process, ref)
                if removed is not None:
                    demonitors.append(removed)
        return downs, demonitors

    def connection_lost(self, node: Atom, reason: Term) -> Iterator[Down]:
        """The connection to ``node`` is lost. Return the DOWN signals for local origins of monitors on that node.

        Pass each signal to :meth:`down_received`, as if the node had sent it. A process that gets one of them may
        remove the monitor of the next. The signals are created one by one: there may be many. Monitors that are made
        after the call are not among them.
        """
        for ref, process in self._targets_by_origin_node.pop(node, {}).items():
            del self._target_by_ref[ref]
            _discard(self._targets_by_pid, process, ref)
        return self._downs(list(self._origins_by_target_node.get(node, ())), reason)

    def _downs(self, refs: list[Ref], reason: Term) -> Iterator[Down]:
        for ref in refs:
            entry = self._origins.get(ref)
            if entry is not None:
                yield Down(entry.target, entry.origin, ref, reason)

    def is_monitored(self, process: Pid) -> bool:
        """True if a process monitors the local ``process``."""
        return process in self._targets_by_pid

    def has_target(self, ref: Ref) -> bool:
        """True if ``ref`` monitors a local process."""
        return ref in self._target_by_ref

    def monitored_by(self, process: Pid) -> list[Pid]:
        """Return the processes that monitor the local ``process``."""
        return [origin for origin, _ in self._targets_by_pid.get(process, {}).values()]

    def __len__(self) -> int:
        return len(self._origins) + len(self._target_by_ref)


def _discard(index: dict[_K, dict[Ref, _V]], key: _K, ref: Ref) -> None:
    refs = index.get(key)
    if refs is not None:
        refs.pop(ref, None)
        if not refs:
            del index[key]
