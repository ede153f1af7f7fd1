"""Who wants to hear of changes in a scope: Python's ``async for``, and the ``monitor`` of a process on a BEAM."""

from __future__ import annotations

import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from erlmesh.core import gen
from erlmesh.errors import CallError
from erlmesh.services.pg.state import GroupEvent, Joined, Left, Tag
from erlmesh.terms import Atom, Pid, Ref, Term, exact_key

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from erlmesh.runtime.process import Process
    from erlmesh.runtime.runtime import Runtime

__all__ = ["GroupEvents", "MonitorTable"]

_NEXT: Final = Atom("next")
_KILL: Final = Atom("kill")
_NOCONNECTION: Final = Atom("noconnection")


class GroupEvents:
    """The changes of one group from the moment this was made, one by one, for as long as somebody asks: ``async for``.

    They wait in memory until they are asked for. Leaving the loop, :meth:`close`, and the end of the scope end it.
    """

    def __init__(
        self,
        node: Runtime,
        scope: Pid,
        group: Term,
        members: Iterable[Pid],
        subscribe: Callable[[Callable[[GroupEvent], None]], Callable[[], None]],
    ) -> None:
        """``scope`` is its server; ``members`` are those of ``group`` now."""
        feed = _EventFeed(node, scope, exact_key(group))
        feed.process = node.spawn_handler(feed.handle_message)
        feed.process.monitor(scope)
        feed.add_members(members)
        self._node = node
        self._feed_pid = feed.process.pid
        # The subscription must not hold this object, so that dropping it (``break``) ends the subscription.
        self._finalizer = weakref.finalize(self, _close_feed, feed.process, subscribe(feed.on_event))

    def __aiter__(self) -> GroupEvents:
        return self

    async def __anext__(self) -> GroupEvent:
        if not self._finalizer.alive:
            raise StopAsyncIteration
        try:
            change: GroupEvent = await self._node.call(self._feed_pid, _NEXT, timeout=None)
        except CallError:  # closed by somebody else, or the scope or the node has stopped
            raise StopAsyncIteration from None
        return change

    def close(self) -> None:
        """Stop listening. A loop that waits for the next change ends."""
        self._finalizer()


class _EventFeed:
    """The server behind one :class:`Changes`: changes wait for askers, or askers for changes.

    pg does not tell why a process of another node left. So the members there are monitored, for as long as somebody
    watches: the DOWN of a death is on its way before the leave that its node's pg makes of it.
    """

    process: Process

    def __init__(self, node: Runtime, scope: Pid, key: Hashable) -> None:
        self._node = node
        self._scope = scope
        self._closing = False
        self._key = key
        self._events: deque[GroupEvent] = deque()
        self._waiting_calls: deque[tuple[Pid, Term]] = deque()
        self._join_counts: Counter[Pid] = Counter()
        self._monitor_refs: dict[Pid, Ref] = {}
        self._exit_reasons: dict[Pid, Term] = {}

    def add_members(self, pids: Iterable[Pid]) -> None:
        """``pids`` of the group are to be explained when they leave."""
        for pid in pids:
            self._join_counts[pid] += 1
            if pid.node is not self._node.atom and pid not in self._monitor_refs:
                self._monitor_refs[pid] = self.process.monitor(pid)

    def on_event(self, event: GroupEvent) -> None:
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
        if reason is Tag.LEAVE:
            return self._exit_reasons.get(pid, reason)
        if reason is _NOCONNECTION and pid.node is not self._node.atom:
            return Atom(self._node.last_disconnect_reason(pid.node) or _NOCONNECTION)
        return reason

    def _remove_member(self, pid: Pid) -> None:
        self._join_counts[pid] -= 1
        if self._join_counts[pid] <= 0:
            del self._join_counts[pid]
            self._exit_reasons.pop(pid, None)
            if (ref := self._monitor_refs.pop(pid, None)) is not None:
                self.process.demonitor(ref, flush=True)

    def handle_message(self, message: Term) -> None:
        match message:
            case (gen.GEN_CALL, (Pid(), _) as asker, Atom("next")):
                self._waiting_calls.append(asker)
                self._reply_waiting()
            case (Atom("DOWN"), Ref(), _, self._scope, _):
                self._closing = True
                self._reply_waiting()
            case (Atom("DOWN"), Ref(), _, Pid() as pid, reason) if reason is not _NOCONNECTION:
                if pid in self._join_counts:
                    self._exit_reasons[pid] = reason

    def _reply_waiting(self) -> None:
        while self._events and self._waiting_calls:
            self.process.reply(self._waiting_calls.popleft(), self._events.popleft())
        if self._closing and not self._events:
            self.process.stop()


def _close_feed(feed: Process, unsubscribe: Callable[[], None]) -> None:
    unsubscribe()
    feed.exit(feed.pid, _KILL)


class MonitorTable:
    """pg:monitor/1 and pg:monitor_scope/0 asked of us by messages: ``{Ref, join|leave, Group, Pids}`` follow."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._by_ref: dict[Ref, tuple[Pid, Hashable | None, Term]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_ref)

    def add_scope(self, pid: Pid) -> Ref:
        """``pid`` wants the changes of all groups. Returns the reference they carry."""
        return self._add(pid, None, None)

    def add(self, pid: Pid, group: Term) -> Ref:
        """The same for one group."""
        return self._add(pid, exact_key(group), group)

    def _add(self, pid: Pid, key: Hashable | None, group: Term) -> Ref:
        ref = self._process.monitor(pid)
        self._by_ref[ref] = (pid, key, group)
        return ref

    def dump(self) -> tuple[list[tuple[Ref, Pid]], list[tuple[Ref, tuple[Pid, Term]]], list[tuple[Term, list[Term]]]]:
        """Who watches the scope, who watches which group, and which group is watched by whom."""
        of_groups = [(ref, pid, group) for ref, (pid, key, group) in self._by_ref.items() if key is not None]
        by_group: dict[Hashable, tuple[Term, list[Term]]] = {}
        for ref, pid, group in of_groups:
            by_group.setdefault(exact_key(group), (group, []))[1].insert(0, (pid, ref))
        of_scope = [(ref, pid) for ref, (pid, key, _) in self._by_ref.items() if key is None]
        return of_scope, [(ref, (pid, group)) for ref, pid, group in of_groups], list(by_group.values())

    def remove(self, ref: Ref) -> bool:
        """Whether there was such a monitor. To be called on its DOWN, too."""
        if self._by_ref.pop(ref, None) is None:
            return False
        self._process.demonitor(ref)
        return True

    def notify(self, group_event: GroupEvent) -> None:
        key = exact_key(group_event.group)
        event = Tag.JOIN if isinstance(group_event, Joined) else Tag.LEAVE
        for watched in (None, key):  # as OTP: whoever watches the scope hears first
            for ref, (pid, wanted, _) in self._by_ref.items():
                if wanted == watched:
                    self._process.send(pid, (ref, event, group_event.group, list(group_event.pids)), connect=False)
