"""Who wants to hear of changes in a scope: Python's ``async for``, and the ``monitor`` of a process on a BEAM."""

from __future__ import annotations

import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from erlmesh.core import gen
from erlmesh.errors import CallError
from erlmesh.services.pg_members import Change, Joined, Left, Word
from erlmesh.terms import Atom, Pid, Ref, Term, exact_key

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from erlmesh.runtime.process import Process
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Changes", "Monitors"]

_NEXT: Final = Atom("next")
_KILL: Final = Atom("kill")
_NOCONNECTION: Final = Atom("noconnection")


class Changes:
    """The changes of one group from the moment this was made, one by one, for as long as somebody asks: ``async for``.

    They wait in memory until they are asked for. Leaving the loop, :meth:`close`, and the end of the scope end it.
    """

    def __init__(
        self,
        node: Runtime,
        scope: Pid,
        group: Term,
        members: Iterable[Pid],
        subscribe: Callable[[Callable[[Change], None]], Callable[[], None]],
    ) -> None:
        """``scope`` is its server; ``members`` are those of ``group`` now."""
        feed = _Feed(node, scope, exact_key(group))
        feed.me = node.spawn_handler(feed.receive)
        feed.me.monitor(scope)
        feed.observe(members)
        self._node = node
        self._pid = feed.me.pid
        # The subscription must not hold this object, so that dropping it (``break``) ends the subscription.
        self._end = weakref.finalize(self, _end, feed.me, subscribe(feed.change))

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Change:
        if not self._end.alive:
            raise StopAsyncIteration
        try:
            change: Change = await self._node.call(self._pid, _NEXT, timeout=None)
        except CallError:  # closed by somebody else, or the scope or the node has stopped
            raise StopAsyncIteration from None
        return change

    def close(self) -> None:
        """Stop listening. A loop that waits for the next change ends."""
        self._end()


class _Feed:
    """The server behind one :class:`Changes`: changes wait for askers, or askers for changes.

    pg does not tell why a process of another node left. So the members there are monitored, for as long as somebody
    watches: the DOWN of a death is on its way before the leave that its node's pg makes of it.
    """

    me: Process

    def __init__(self, node: Runtime, scope: Pid, key: Hashable) -> None:
        self._node = node
        self._scope = scope
        self._over = False
        self._key = key
        self._changes: deque[Change] = deque()
        self._askers: deque[tuple[Pid, Term]] = deque()
        self._memberships: Counter[Pid] = Counter()
        self._monitored: dict[Pid, Ref] = {}
        self._deaths: dict[Pid, Term] = {}

    def observe(self, pids: Iterable[Pid]) -> None:
        """``pids`` of the group are to be explained when they leave."""
        for pid in pids:
            self._memberships[pid] += 1
            if pid.node is not self._node.atom and pid not in self._monitored:
                self._monitored[pid] = self.me.monitor(pid)

    def change(self, change: Change) -> None:
        if exact_key(change.group) != self._key:
            return
        if isinstance(change, Joined):
            self.observe(change.pids)
            self._changes.append(change)
        else:
            by_reason: dict[Hashable, tuple[Term, list[Pid]]] = {}
            for pid in change.pids:
                reason = self._explained(pid, change.reason)
                by_reason.setdefault(exact_key(reason), (reason, []))[1].append(pid)
            self._changes.extend(Left(tuple(pids), reason, change.group) for reason, pids in by_reason.values())
            for pid in change.pids:
                self._forget(pid)
        self._serve()

    def _explained(self, pid: Pid, reason: Term) -> Term:
        if reason is Word.LEAVE:
            return self._deaths.get(pid, reason)
        if reason is _NOCONNECTION and pid.node is not self._node.atom:
            return Atom(self._node.last_disconnect_reason(pid.node) or _NOCONNECTION)
        return reason

    def _forget(self, pid: Pid) -> None:
        self._memberships[pid] -= 1
        if self._memberships[pid] <= 0:
            del self._memberships[pid]
            self._deaths.pop(pid, None)
            if (ref := self._monitored.pop(pid, None)) is not None:
                self.me.demonitor(ref, flush=True)

    def receive(self, message: Term) -> None:
        match message:
            case (gen.GEN_CALL, (Pid(), _) as asker, Atom("next")):
                self._askers.append(asker)
                self._serve()
            case (Atom("DOWN"), Ref(), _, self._scope, _):
                self._over = True
                self._serve()
            case (Atom("DOWN"), Ref(), _, Pid() as pid, reason) if reason is not _NOCONNECTION:
                if pid in self._memberships:
                    self._deaths[pid] = reason

    def _serve(self) -> None:
        while self._changes and self._askers:
            self.me.reply(self._askers.popleft(), self._changes.popleft())
        if self._over and not self._changes:
            self.me.stop()


def _end(feed: Process, unsubscribe: Callable[[], None]) -> None:
    unsubscribe()
    feed.exit(feed.pid, _KILL)


class Monitors:
    """pg:monitor/1 and pg:monitor_scope/0 asked of us by messages: ``{Ref, join|leave, Group, Pids}`` follow."""

    def __init__(self, me: Process) -> None:
        self._me = me
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
        ref = self._me.monitor(pid)
        self._by_ref[ref] = (pid, key, group)
        return ref

    def books(self) -> tuple[list[tuple[Ref, Pid]], list[tuple[Ref, tuple[Pid, Term]]], list[tuple[Term, list[Term]]]]:
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
        self._me.demonitor(ref)
        return True

    def change(self, change: Change) -> None:
        key = exact_key(change.group)
        event = Word.JOIN if isinstance(change, Joined) else Word.LEAVE
        for watched in (None, key):  # as OTP: whoever watches the scope hears first
            for ref, (pid, wanted, _) in self._by_ref.items():
                if wanted == watched:
                    self._me.send(pid, (ref, event, change.group, list(change.pids)), connect=False)
