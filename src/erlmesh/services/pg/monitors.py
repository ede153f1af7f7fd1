"""Observers of a pg scope: ``async for`` in Python, and ``pg:monitor/1,2`` and ``pg:monitor_scope/0,1`` from a BEAM."""

from __future__ import annotations

import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from erlmesh.core import gen
from erlmesh.errors import CallError
from erlmesh.services.pg.protocol import GroupEvent, Joined, Left, Tag
from erlmesh.terms import Atom, Pid, Ref, Term, exact_key

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime

__all__ = ["GroupEvents", "MonitorTable"]

_NEXT: Final = Atom("next")
_KILL: Final = Atom("kill")
_NOCONNECTION: Final = Atom("noconnection")


class GroupEvents:
    """The changes of one group, one by one, for ``async for``.

    Events wait in memory until they are requested. Iteration ends when the object is dropped (``break``), on
    :meth:`close`, and when the scope stops.
    """

    def __init__(
        self,
        node: Runtime,
        scope: Pid,
        group: Term,
        members: Iterable[Pid],
        subscribe: Callable[[Callable[[GroupEvent], None]], Callable[[], None]],
    ) -> None:
        """``scope`` is the pid of its server. ``members`` are the current members of ``group``."""
        feed = _EventFeed(node, scope, exact_key(group))
        feed.process = node.spawn_handler(feed.handle_message)
        feed.process.monitor(scope)
        feed.add_members(members)
        self._node = node
        self._feed_pid = feed.process.pid
        # The subscription must not reference this object. Only then does dropping it run the finalizer.
        self._finalizer = weakref.finalize(self, _close_feed, feed.process, subscribe(feed.on_event))

    def __aiter__(self) -> GroupEvents:
        return self

    async def __anext__(self) -> GroupEvent:
        if not self._finalizer.alive:
            raise StopAsyncIteration
        try:
            event: GroupEvent = await self._node.call(self._feed_pid, _NEXT, timeout=None)
        except CallError:  # close() was called meanwhile, or the scope or the node has stopped.
            raise StopAsyncIteration from None
        return event

    def close(self) -> None:
        """End the subscription. A loop that waits for the next event ends."""
        self._finalizer()


class _EventFeed:
    """The handler process behind one :class:`GroupEvents`. It queues events until they are requested, and requests
    until there is an event.

    pg does not report why a process of another node left: a termination there arrives as a leave. So the feed
    monitors the group's members on other nodes. The DOWN of a member arrives before the leave, because the other
    node's pg sends the leave only after its own DOWN.
    """

    process: LocalProcess

    def __init__(self, node: Runtime, scope: Pid, key: Hashable) -> None:
        self._node = node
        self._scope = scope
        # The scope has stopped. The queued events are still delivered, then this process stops.
        self._closing = False
        self._key = key  # exact_key of the group
        self._events: deque[GroupEvent] = deque()
        self._waiting_calls: deque[tuple[Pid, Term]] = deque()
        # How often each member has joined. Its monitor is needed until the last leave.
        self._join_counts: Counter[Pid] = Counter()
        # Monitors of the members on other nodes.
        self._monitor_refs: dict[Pid, Ref] = {}
        # Exit reasons of terminated members, kept until the leave arrives.
        self._exit_reasons: dict[Pid, Term] = {}

    def add_members(self, pids: Iterable[Pid]) -> None:
        """Count the members and monitor those on other nodes, to know the reason when they leave."""
        for pid in pids:
            self._join_counts[pid] += 1
            if pid.node is not self._node.atom and pid not in self._monitor_refs:
                self._monitor_refs[pid] = self.process.monitor(pid)

    def on_event(self, event: GroupEvent) -> None:
        """Queue ``event`` if it is of this group. One Left is split into one per reason."""
        if exact_key(event.group) != self._key:
            return
        if isinstance(event, Joined):
            self.add_members(event.pids)
            self._events.append(event)
        else:
            by_reason: dict[Hashable, tuple[Term, list[Pid]]] = {}
            for pid in event.pids:
                reason = self._leave_reason(pid, event.reason)
                by_reason.setdefault(exact_key(reason), (reason, []))[1].append(pid)
            self._events.extend(Left(tuple(pids), reason, event.group) for reason, pids in by_reason.values())
            for pid in event.pids:
                self._remove_member(pid)
        self._reply_waiting()

    def _leave_reason(self, pid: Pid, reason: Term) -> Term:
        """The real reason for a leave, if this node knows a better one than pg reports."""
        if reason is Tag.LEAVE:
            return self._exit_reasons.get(pid, reason)
        if reason is _NOCONNECTION and pid.node is not self._node.atom:
            return Atom(self._node.last_disconnect_reason(pid.node) or _NOCONNECTION)
        return reason

    def _remove_member(self, pid: Pid) -> None:
        """Count one membership less. Demonitor the pid after its last one."""
        self._join_counts[pid] -= 1
        if self._join_counts[pid] <= 0:
            del self._join_counts[pid]
            self._exit_reasons.pop(pid, None)
            if (ref := self._monitor_refs.pop(pid, None)) is not None:
                self.process.demonitor(ref, flush=True)

    def handle_message(self, message: Term) -> None:
        match message:
            case (gen.GEN_CALL, (Pid(), _) as caller, Atom("next")):
                self._waiting_calls.append(caller)
                self._reply_waiting()
            case (Atom("DOWN"), Ref(), _, self._scope, _):
                self._closing = True
                self._reply_waiting()
            # noconnection is not an exit reason: the node's own disconnect reason is used then.
            case (Atom("DOWN"), Ref(), _, Pid() as pid, reason) if reason is not _NOCONNECTION:
                if pid in self._join_counts:
                    self._exit_reasons[pid] = reason

    def _reply_waiting(self) -> None:
        """Answer waiting calls with queued events. Stop after the last event if the scope has stopped."""
        while self._events and self._waiting_calls:
            event: Term = self._events.popleft()  # an object: the caller is a process of this node
            self.process.reply(self._waiting_calls.popleft(), event)
        if self._closing and not self._events:
            self.process.stop()


def _close_feed(feed: LocalProcess, unsubscribe: Callable[[], None]) -> None:
    unsubscribe()
    feed.exit(feed.pid, _KILL)


class MonitorTable:
    """The processes that monitor a scope or a group (``pg:monitor/1,2``, ``pg:monitor_scope/0,1``).

    They get ``{Ref, join, Group, Pids}`` and ``{Ref, leave, Group, Pids}``. ``Ref`` is our own monitor of the
    process, as in pg.erl, so its DOWN carries the same reference.
    """

    def __init__(self, process: LocalProcess) -> None:
        self._process = process
        # Ref → (monitoring process, exact_key of the group or None for the whole scope, group).
        self._by_ref: dict[Ref, tuple[Pid, Hashable | None, Term]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_ref)

    def add_scope(self, pid: Pid) -> Ref:
        """Let ``pid`` monitor all groups. Return the reference that its messages carry."""
        return self._add(pid, None, None)

    def add(self, pid: Pid, group: Term) -> Ref:
        """Let ``pid`` monitor one group. Return the reference that its messages carry."""
        return self._add(pid, exact_key(group), group)

    def _add(self, pid: Pid, key: Hashable | None, group: Term) -> Ref:
        ref = self._process.monitor(pid)
        self._by_ref[ref] = (pid, key, group)
        return ref

    def dump(self) -> tuple[list[tuple[Ref, Pid]], list[tuple[Ref, tuple[Pid, Term]]], list[tuple[Term, list[Term]]]]:
        """Return the scope monitors, the group monitors by reference, and the group monitors by group.

        These are the last three fields of ``#state{}`` in pg.erl.
        """
        of_groups = [(ref, pid, group) for ref, (pid, key, group) in self._by_ref.items() if key is not None]
        by_group: dict[Hashable, tuple[Term, list[Term]]] = {}
        for ref, pid, group in of_groups:
            by_group.setdefault(exact_key(group), (group, []))[1].insert(0, (pid, ref))
        of_scope = [(ref, pid) for ref, (pid, key, _) in self._by_ref.items() if key is None]
        return of_scope, [(ref, (pid, group)) for ref, pid, group in of_groups], list(by_group.values())

    def remove(self, ref: Ref) -> bool:
        """Remove a monitor, also on its DOWN. Return False if there is no such monitor."""
        if self._by_ref.pop(ref, None) is None:
            return False
        self._process.demonitor(ref)
        return True

    def notify(self, group_event: GroupEvent) -> None:
        """Send ``group_event`` to the processes that monitor the scope or its group."""
        group_key = exact_key(group_event.group)
        event = Tag.JOIN if isinstance(group_event, Joined) else Tag.LEAVE
        for key in (None, group_key):  # As in OTP: scope monitors are notified before group monitors.
            for ref, (pid, monitored, _) in self._by_ref.items():
                if monitored == key:
                    self._process.send(pid, (ref, event, group_event.group, list(group_event.pids)), connect=False)
