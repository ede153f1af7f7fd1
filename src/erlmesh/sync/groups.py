"""``pg`` groups as another node knows them. A hidden node has no part in ``pg``, so it asks its main peer.

The server of a scope reports changes to any process that asks, also on another node (pg.erl, data_publisher.erl)::

    {monitor, Group}                 since OTP 25.1, and a node of erlmesh
    {subscribe, {group, Group}}      since OTP 29
        reply: {Ref, Members}
    {Ref, join | leave, Group, Pids}

A server that does not know the request would crash, with all its groups. So the peer is asked first which one it knows.
If it knows none (OTP 23 and 24), the members are read once a second.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from random import Random
from types import TracebackType
from typing import Final, Self

from erlmesh.core.backoff import Backoff
from erlmesh.errors import CallError, Exit, RemoteError
from erlmesh.net.event_log import event_log
from erlmesh.services.pg.protocol import GroupEvent, Joined, Left
from erlmesh.sync.calls import deadline_after
from erlmesh.sync.process import SyncProcess
from erlmesh.sync.rpc import rpc
from erlmesh.sync.session import Session
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["GroupChanges", "members"]

log = event_log("erlmesh.sync")

PG: Final = Atom("pg")
LEAVE: Final = Atom("leave")
MONITOR: Final = Atom("monitor")
UNDEF: Final = Atom("undef")
POLL_INTERVAL: Final = 1.0
"""Seconds between two readings of the members, if the peer cannot report changes."""
_rng: Final = Random()


def members(session: Session, scope: Atom, group: Term, timeout: float | None) -> list[Pid]:
    """Return the members of ``group``. See :meth:`SyncNode.members`."""
    try:
        found = rpc(session, session.peer, (PG, Atom("get_members"), [scope, group]), timeout)
    except RemoteError as error:
        if error.reason is not UNDEF:
            raise
        # A node of erlmesh that does not expose the function.
        with _open_process(session) as process:
            _, found = process.call((scope, session.peer), (MONITOR, group), timeout=timeout)
    return [pid for pid in found if isinstance(pid, Pid)]


def _open_process(session: Session) -> SyncProcess:
    with session.lock:
        return SyncProcess(session, session.router.open_mailbox())


class GroupChanges:
    """The changes of one group. See :meth:`SyncNode.watch`. One thread iterates; another may close it."""

    def __init__(self, session: Session, scope: Atom, group: Term, timeout: float | None) -> None:
        self._session = session
        self._server = (scope, session.peer)
        self._group = group
        self._timeout = timeout
        self._events: deque[GroupEvent] = deque()
        self._members: Counter[Pid] = Counter()
        self._ref: Ref | None = None
        """The reference in the messages of the scope. None if the scope does not report changes to us."""
        self._monitor: Ref | None = None
        """Our monitor of the scope's server. None while it cannot be reached."""
        self._backoff = Backoff(0.1, 5.0, (0.5, 1.0))
        self._process = _open_process(session)
        self._subscribe()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> GroupEvent:
        deadline = deadline_after(self._timeout)
        while not self._events:
            if not self._process.alive or not self._wait(deadline):
                self.close()
                raise StopIteration
        return self._events.popleft()

    def close(self) -> None:
        """End the iteration. May be called again, and by any thread."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        process: SyncProcess | None = getattr(self, "_process", None)
        if process is not None:
            process.close_later()

    def _subscribe(self) -> None:
        """Ask the scope for the members and for all changes from now on."""
        self._monitor = self._process.monitor(self._server)
        try:
            request = _subscription(self._session, self._group)
            if request is not None:
                self._ref, current = self._process.call(self._server, request)
            else:
                current = members(self._session, self._server[0], self._group, 5.0)
        except CallError:
            self._process.demonitor(self._monitor, flush=True)
            self._monitor = None
            raise
        self._backoff.reset()
        self._compare(current, LEAVE)

    def _compare(self, current: list[Term], reason: Term) -> None:
        """Make events of the difference to the last known members."""
        counts = Counter(pid for pid in current if isinstance(pid, Pid))
        left, joined = self._members - counts, counts - self._members
        self._members = counts
        if left:
            self._events.append(Left(tuple(left.elements()), reason, self._group))
        if joined:
            self._events.append(Joined(tuple(joined.elements()), self._group))

    def _wait(self, deadline: float | None) -> bool:
        """Wait for a message, or for the next attempt. False at ``deadline``, or after the end."""
        limit = deadline
        if self._monitor is None:
            limit = _earlier(deadline, self._backoff.next_delay(_rng))
        elif self._ref is None:
            limit = _earlier(deadline, POLL_INTERVAL)
        try:
            self._handle(self._process.receive(timeout=None if limit is None else max(0.0, limit - time.monotonic())))
        except TimeoutError:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self._refresh()
        except Exit:
            return False
        return True

    def _refresh(self) -> None:
        """Subscribe again after a loss, or read the members of a scope that does not report changes."""
        try:
            if self._monitor is None:
                self._subscribe()
            else:
                self._compare(members(self._session, self._server[0], self._group, 5.0), LEAVE)
        except CallError as error:
            log.debug(
                "group_read_failed",
                "the group %s cannot be read: %s",
                self._group,
                error,
                group=self._group,
                reason=error,
            )

    def _handle(self, message: Term) -> None:
        match message:
            case (Ref() as ref, Atom("join"), group, list() as pids) if ref == self._ref:
                self._members.update(pids)
                self._events.append(Joined(tuple(pids), group))
            case (Ref() as ref, Atom("leave"), group, list() as pids) if ref == self._ref:
                self._members.subtract(pids)
                self._members = +self._members
                self._events.append(Left(tuple(pids), LEAVE, group))
            case (Atom("DOWN"), Ref() as ref, _, _, reason) if ref == self._monitor:
                self._ref = self._monitor = None
                self._compare([], reason)


def _subscription(session: Session, group: Term) -> Term:
    """Return the request that makes the scope's server of the peer report changes; None if it cannot."""
    try:
        if _has_function(session, "new_subscription", 2):
            return (Atom("subscribe"), (Atom("group"), group))
        # Its own gen_server, and not another one behind the same functions.
        if _has_function(session, "monitor", 2) and _has_function(session, "handle_call", 3):
            return (MONITOR, group)
    except RemoteError as error:
        if error.reason is UNDEF:  # a BEAM has the function, so this is a node of erlmesh
            return (MONITOR, group)
        raise
    return None


def _has_function(session: Session, name: str, arity: int) -> bool:
    """Whether the module ``pg`` of the peer exports the function."""
    return rpc(session, session.peer, (Atom("erlang"), Atom("function_exported"), [PG, Atom(name), arity]), 5.0) is True


def _earlier(deadline: float | None, seconds: float) -> float:
    soon = time.monotonic() + seconds
    return soon if deadline is None else min(deadline, soon)
