"""Who gets the changes of the groups of one scope: processes with monitors, watches and subscribers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlmesh.net.event_log import event_log
from erlmesh.services.pg.monitors import MonitorTable
from erlmesh.services.pg.watches import GroupWatch
from erlmesh.terms import Atom, Pid, Ref, Term, exact_key
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.pg.protocol import GroupEvent
    from erlmesh.services.pg.state import ScopeState

__all__ = ["Observers"]

log = event_log("erlmesh.pg")


class Observers:
    """The observers of the groups in ``state``. ``process`` is the server of the scope.

    The state records its changes only while there is an observer. After each change of the state, the server calls
    :meth:`notify`.
    """

    def __init__(self, node: Runtime, scope: Atom, process: LocalProcess, state: ScopeState) -> None:
        self._node = node
        self._scope = scope
        self._process = process
        self._state = state
        self.monitors = MonitorTable(process)
        """The processes that called pg:monitor/1,2 or pg:monitor_scope/0,1. :meth:`monitor` and the like change it."""
        # The watched groups by exact_key.
        self._watches: dict[Hashable, GroupWatch] = {}
        self._subscribers: list[Callable[[GroupEvent], None]] = []
        # True while observers are called. A nested change only adds events to the queue.
        self._notifying = False

    # The life of the server

    def server_restarted(self, process: LocalProcess) -> None:
        """The server has started again. Its monitors have ended with it; watches and subscribers stay."""
        self._process = process
        self.monitors = MonitorTable(process)
        self._update_recording()

    def scope_ended(self, state: ScopeState) -> None:
        """The scope has stopped: end all watches. ``state`` is its new state, without members."""
        self._state = state
        for watch in tuple(self._watches.values()):
            watch.end()

    # Observers come and go

    def watch(self, group: Term) -> GroupWatch:
        """Return the watch of ``group``. It has ended if the scope has stopped."""
        key = exact_key(group)
        watch = self._watches.get(key)
        if watch is None:
            watch = GroupWatch(self._node, self._state.members(group), lambda: self._end_watch(key))
            self._watches[key] = watch
            if not self._process.alive:
                watch.end()
            self._update_recording()
        return watch

    def _end_watch(self, key: Hashable) -> None:
        """The watch of this group has ended: its last iteration has, or the scope."""
        self._watches.pop(key, None)
        self._update_recording()

    def subscribe(self, callback: Callable[[GroupEvent], None]) -> Callable[[], None]:
        """Call ``callback`` with each change of any group. Return a function that ends the subscription."""

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)
                self._update_recording()

        self._subscribers.append(callback)
        self._update_recording()
        return unsubscribe

    def monitor_scope(self, pid: Pid) -> Ref:
        """Let the process ``pid`` monitor all groups. Return the reference that its messages carry."""
        ref = self.monitors.add_scope(pid)
        self._update_recording()
        return ref

    def monitor(self, pid: Pid, group: Term) -> Ref:
        """Let the process ``pid`` monitor one group. Return the reference that its messages carry."""
        ref = self.monitors.add(pid, group)
        self._update_recording()
        return ref

    def demonitor(self, ref: Ref) -> bool:
        """Remove a group or scope monitor, also on its DOWN. Return False if there is no such monitor."""
        found = self.monitors.remove(ref)
        self._update_recording()
        return found

    def _update_recording(self) -> None:
        """Record events only while there is an observer."""
        self._state.recording = bool(self._subscribers or self._watches or self.monitors)

    # Changes

    def notify(self) -> None:
        """Pass recorded events to monitors, watches and subscribers.

        A callback that joins or leaves appends events to the queue. The running loop takes them, so all observers see
        the same order.
        """
        if self._notifying or not (events := self._state.take_events()):
            return
        self._notifying = True
        try:
            while events:
                for event in events:
                    key = exact_key(event.group)
                    if self.monitors:
                        self.monitors.notify(key, event)
                    if (watch := self._watches.get(key)) is not None:
                        watch.on_event(event)
                    for callback in tuple(self._subscribers):
                        self._call_subscriber(callback, event)
                events = self._state.take_events()
        finally:
            self._notifying = False

    def _call_subscriber(self, callback: Callable[[GroupEvent], None], event: GroupEvent) -> None:
        try:
            callback(event)
        except Exception:
            log.exception(
                "pg_subscriber_failed",
                "%s: a subscriber raised an exception on %s",
                self._scope,
                ForeignText(event),
                scope=self._scope,
            )
