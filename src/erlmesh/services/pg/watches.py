"""``async for`` over the changes of one group.

All iterations over one group share a :class:`GroupWatch`. So a change costs one look-up in the table of watched groups,
and each member on another node is monitored once, however many iterations there are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from erlmesh.errors import NodeNotAlive
from erlmesh.services.pg.protocol import GroupEvent, Joined, Left, Tag
from erlmesh.terms import Atom, Pid, Ref, Term, exact_key

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.runtime.wakeups import Wait

__all__ = ["GroupEvents", "GroupWatch"]

_NOCONNECTION: Final = Atom("noconnection")
_NOPROC: Final = Atom("noproc")
_PG: Final = Atom("pg")
_EVENTS_PER_TURN: Final = 1_000
"""Events that an iteration takes before other tasks get a turn."""


class GroupEvents:
    """The changes of one group, one by one, for ``async for``.

    Events wait in memory until they are requested. Iteration ends when the object is dropped (``break``), on
    :meth:`close`, and when the scope stops.
    """

    def __init__(self, node: Runtime, watch: GroupWatch) -> None:
        self._node = node
        # The watch must not reference this object. Only then is it dropped with the loop that uses it.
        self._watch = watch
        self._feed = watch.add_feed()
        self._left_in_turn = _EVENTS_PER_TURN

    def __del__(self) -> None:
        self.close()

    def __aiter__(self) -> GroupEvents:
        return self

    async def __anext__(self) -> GroupEvent:
        feed = self._feed
        if self._left_in_turn <= 0:  # The loop's body may cause the next event itself, so this could go on forever.
            self._left_in_turn = _EVENTS_PER_TURN
            await asyncio.sleep(0)
        while not feed.events:
            if feed.ended:
                raise StopAsyncIteration
            self._left_in_turn = _EVENTS_PER_TURN
            waiter = self._node.create_wait()
            feed.waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                feed.cancelled(waiter)
                raise
        self._left_in_turn -= 1
        return feed.events.popleft()

    def close(self) -> None:
        """End the subscription. A loop that waits for the next event ends. A second call has no effect."""
        self._watch.remove_feed(self._feed)


class _Feed:
    """The events of one :class:`GroupEvents` that wait until they are requested, and the requests that wait for one."""

    __slots__ = ("ended", "events", "waiters")

    def __init__(self) -> None:
        self.events: deque[GroupEvent] = deque()
        self.waiters: deque[Wait] = deque()
        self.ended = False
        """No event follows. The queued events are still delivered."""

    def put(self, events: Sequence[GroupEvent]) -> None:
        self.events.extend(events)
        if self.waiters:
            for _ in events:
                self._wake_next()

    def end(self) -> None:
        self.ended = True
        while self.waiters:
            self._wake_next()

    def cancelled(self, waiter: Wait) -> None:
        """The task that awaited ``waiter`` was cancelled."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)
        elif self.events:  # It was woken and cancelled in the same iteration of the event loop: wake another one.
            self._wake_next()

    def _wake_next(self) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class MailboxFeed:
    """Sends the changes of one group to a local process, as :meth:`Process.monitor_group` says.

    ``watcher`` ends the feed when the process has terminated.
    """

    __slots__ = ("_group", "_process", "watcher")

    def __init__(self, process: LocalProcess, group: Term, watcher: LocalProcess) -> None:
        self._process = process
        self._group = group
        self.watcher = watcher

    def put(self, events: Sequence[GroupEvent]) -> None:
        for event in events:
            self._process._ops.deliver(self._process, (_PG, event))

    def put_end(self, members: tuple[Pid, ...]) -> None:
        """The scope has stopped: nobody is a member any more."""
        if members:
            self.put([Left(members, _NOPROC, self._group)])

    def end(self) -> None:
        self.watcher.stop()


class GroupWatch:
    """Finds the reasons of the changes of one group, and passes the changes to its feeds.

    pg does not report why a process of another node left: a termination there arrives as a leave. So a handler process
    monitors the group's members on other nodes. The DOWN of a member arrives before the leave, because the other
    node's pg sends the leave only after its own DOWN.

    ``members`` are the current members of the group. ``on_unwatched()`` is called when the last feed is removed.
    """

    def __init__(self, node: Runtime, members: Iterable[Pid], on_unwatched: Callable[[], None]) -> None:
        self._node = node
        self._on_unwatched = on_unwatched
        self._feeds: dict[_Feed | MailboxFeed, None] = {}
        self._ended = False
        # How often each member has joined. Its monitor is needed until the last leave.
        self._join_counts: dict[Pid, int] = {}
        # Monitors of the members on other nodes.
        self._monitor_refs: dict[Pid, Ref] = {}
        # New members on other nodes. They are monitored after the tasks that wait for the event have continued, so that
        # an event does not wait for a monitor of each of its pids.
        self._unmonitored: dict[Pid, None] = {}
        # Exit reasons of terminated members, kept until the leave arrives.
        self._exit_reasons: dict[Pid, Term] = {}
        # It starts with the first monitor. Many watches end before they need one.
        self._process: LocalProcess | None = None
        self._add_members(members)

    def add_feed(self) -> _Feed:
        """Add a feed. It gets the events from now on."""
        feed = _Feed()
        if self._ended:
            feed.end()
        else:
            self._feeds[feed] = None
        return feed

    def add_mailbox(self, process: LocalProcess, group: Term, members: tuple[Pid, ...]) -> Callable[[], None]:
        """Send ``members``, and then all changes, to ``process``. Return a function that ends this."""
        watcher = self._node.spawn_handler(lambda _: self.remove_feed(feed))
        feed = MailboxFeed(process, group, watcher)
        watcher.monitor(process.pid)
        if members:
            feed.put([Joined(members, group)])
        self._feeds[feed] = None
        return lambda: self.remove_feed(feed)

    def remove_feed(self, feed: _Feed | MailboxFeed) -> None:
        """End the feed and drop its events. The watch ends with its last feed."""
        if isinstance(feed, _Feed):
            feed.events.clear()
        feed.end()
        self._feeds.pop(feed, None)
        if not self._feeds:
            self.end()

    def end(self) -> None:
        """End all feeds and remove all monitors. Feeds still deliver what is queued."""
        if self._ended:
            return
        self._ended = True
        self._on_unwatched()
        members = tuple(pid for pid, times in self._join_counts.items() for _ in range(times))
        for feed in self._feeds:
            if isinstance(feed, MailboxFeed):
                feed.put_end(members)
            feed.end()
        self._feeds.clear()
        if self._process is not None:
            self._process.stop()

    def on_event(self, event: GroupEvent) -> None:
        """Pass a change of the group to the feeds. One Left is split into one per reason."""
        if isinstance(event, Joined):
            self._put((event,))
            self._add_members(event.pids)
        else:
            self._put(self._split_by_reason(event))
            for pid in event.pids:
                self._remove_member(pid)

    def _put(self, events: Sequence[GroupEvent]) -> None:
        # The garbage collector may drop a GroupEvents, and so remove a feed, meanwhile.
        for feed in tuple(self._feeds):
            feed.put(events)

    def _split_by_reason(self, event: Left) -> list[Left]:
        by_reason: dict[Hashable, tuple[Term, list[Pid]]] = {}
        for pid in event.pids:
            reason = self._leave_reason(pid, event.reason)
            by_reason.setdefault(exact_key(reason), (reason, []))[1].append(pid)
        return [Left(tuple(pids), reason, event.group) for reason, pids in by_reason.values()]

    def _leave_reason(self, pid: Pid, reason: Term) -> Term:
        """The real reason for a leave, if this node knows a better one than pg reports."""
        if reason is Tag.LEAVE:
            return self._exit_reasons.get(pid, reason)
        if reason is _NOCONNECTION and pid.node is not self._node.atom:
            return Atom(self._node.last_disconnect_reason(pid.node) or _NOCONNECTION)
        return reason

    # Members and their monitors

    def _add_members(self, pids: Iterable[Pid]) -> None:
        """Count the members. Monitor those on other nodes soon, to know the reason when they leave."""
        counts, here, was_empty = self._join_counts, self._node.atom, not self._unmonitored
        for pid in pids:
            counts[pid] = counts.get(pid, 0) + 1
            if pid.node is not here and pid not in self._monitor_refs:
                self._unmonitored[pid] = None
        if self._unmonitored and was_empty:
            self._node.call_after_read(self._monitor_new_members)

    def _monitor_new_members(self) -> None:
        pids, self._unmonitored = self._unmonitored, {}
        if self._ended or not pids:  # A monitor that is made after the end would never be removed.
            return
        if self._process is None:
            try:
                self._process = self._node.spawn_handler(self._handle_message, on_end=self.end)
            except NodeNotAlive:  # The node stops: its scope ends soon, and this watch with it.
                return
        for pid in pids:
            self._monitor_refs[pid] = self._process.monitor(pid)

    def _remove_member(self, pid: Pid) -> None:
        """Count one membership less. Demonitor the pid after its last one."""
        count = self._join_counts.get(pid, 0) - 1
        if count > 0:
            self._join_counts[pid] = count
            return
        self._join_counts.pop(pid, None)
        self._unmonitored.pop(pid, None)
        self._exit_reasons.pop(pid, None)
        ref = self._monitor_refs.pop(pid, None)
        if ref is not None and self._process is not None:
            self._process.demonitor(ref, flush=True)

    def _handle_message(self, message: Term) -> None:
        match message:
            # noconnection is not an exit reason: the node's own disconnect reason is used then.
            case (Atom("DOWN"), Ref(), _, Pid() as pid, reason) if reason is not _NOCONNECTION:
                if pid in self._join_counts:
                    self._exit_reasons[pid] = reason
