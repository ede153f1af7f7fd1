"""Functions of other nodes, called in the calling thread. See :mod:`erlmesh.services.rpc.client` for the protocol."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from erlmesh.core.node_names import NodeTable
from erlmesh.errors import CallError, CallTimeout
from erlmesh.proto.control import SpawnRequest
from erlmesh.services.rpc.outcomes import ERPC, EXECUTE_CALL, MFA, Replies, format_mfa, value_of_exit
from erlmesh.sync.calls import deadline_after, end_calls
from erlmesh.sync.peer_link import PeerLink
from erlmesh.sync.session import Session
from erlmesh.sync.waiting import PendingCall, Waiter
from erlmesh.terms import Atom, Ref, Term

__all__ = ["cast", "multicall", "rpc"]

MONITOR: Final = Atom("monitor")
EXECUTE_CAST: Final = Atom("execute_cast")
DIALLING_THREADS: Final = 16
"""Nodes that a multicall connects to at the same time."""


def rpc(session: Session, peer: Atom, mfa: MFA, timeout: float | None) -> Term:
    """Call a function on ``peer`` and return its value. See :meth:`SyncNode.rpc`."""
    deadline = deadline_after(timeout)
    job = _Job(mfa, session.writable_link(peer, deadline))
    _run(session, [job], deadline)
    return job.value(session, timeout)


def multicall(session: Session, peers: Iterable[Atom], mfa: MFA, timeout: float | None) -> Replies:
    """Call a function on several nodes at the same time. See :meth:`SyncNode.multicall`."""
    deadline = deadline_after(timeout)
    replies: dict[str, Term] = {}
    missing: dict[str, CallError] = {}
    outcomes = _connect_all(session, list(dict.fromkeys(peers)), deadline)
    jobs = {peer: _Job(mfa, link) for peer, link in outcomes.items() if isinstance(link, PeerLink)}
    _run(session, list(jobs.values()), deadline)
    for peer, outcome in outcomes.items():
        if isinstance(outcome, CallError):
            missing[peer.name] = outcome
            continue
        try:
            replies[peer.name] = jobs[peer].value(session, timeout)
        except CallError as error:
            missing[peer.name] = error
    return Replies(NodeTable(replies), NodeTable(missing))


def cast(session: Session, peer: Atom, mfa: MFA, timeout: float | None) -> None:
    """Call a function on ``peer`` without waiting for it."""
    link = session.writable_link(peer, deadline_after(timeout))
    module, function, arguments = mfa
    with session.lock:
        if link.lost is not None:
            raise session.no_connection_error(peer)
        request = SpawnRequest(
            session.router.identifiers.ref(),
            session.caller,
            session.group_leader,
            ERPC,
            EXECUTE_CAST,
            3,
            [],
            [module, function, arguments],
        )
        session.transmit(link, request)


class _Job:
    """One call of a function over ``link``."""

    __slots__ = ("_link", "_mfa", "_result", "pending")

    def __init__(self, mfa: MFA, link: PeerLink) -> None:
        self._mfa = mfa
        self._link = link
        self._result: Ref
        self.pending = PendingCall(link.peer, None)

    def send(self, session: Session, waiter: Waiter) -> None:
        """Send the request. Under the lock."""
        identifiers = session.router.identifiers
        self._result, self.pending.group = identifiers.ref(), waiter
        if self._link.lost is not None:
            raise session.no_connection_error(self._link.peer)
        ref = session.router.add_call(self.pending)
        waiter.remaining += 1
        arguments = [self._result, *self._mfa]
        session.transmit(
            self._link,
            SpawnRequest(
                ref, session.caller, session.group_leader, ERPC, EXECUTE_CALL, len(arguments), [MONITOR], arguments
            ),
        )

    def value(self, session: Session, timeout: float | None) -> Term:
        """Return the value of the function, or raise its exception."""
        pending, peer = self.pending, self._link.peer
        if pending.error is not None:
            raise pending.error
        if pending.down_reason is not None:
            session.require_open()
            return value_of_exit(peer, self._mfa, self._result, pending.down_reason, session.no_connection_error)
        raise CallTimeout(f"no answer from {format_mfa(self._mfa)} on {peer.name} within {timeout:g} s")


def _run(session: Session, jobs: list[_Job], deadline: float | None) -> None:
    """Send all requests, and wait for their answers."""
    waiter = Waiter(0)
    pending: list[PendingCall] = []
    try:
        with session.lock:
            for job in jobs:
                pending.append(job.pending)
                job.send(session, waiter)
            session.reader.enter(waiter)
        session.reader.wait(waiter, deadline)
    finally:
        end_calls(session, session.caller, waiter, pending)


def _connect_all(session: Session, peers: list[Atom], deadline: float | None) -> dict[Atom, PeerLink | CallError]:
    """Connect to all ``peers`` at the same time. Return the connections, and the errors."""
    outcomes: dict[Atom, PeerLink | CallError] = {}
    todo = peers[::-1]

    def connect_next() -> None:
        while todo:
            try:
                peer = todo.pop()
            except IndexError:
                return
            try:
                outcomes[peer] = session.writable_link(peer, deadline)
            except CallError as error:
                outcomes[peer] = error

    threads = [
        threading.Thread(target=connect_next, name="erlmesh multicall", daemon=True)
        for _ in range(min(DIALLING_THREADS, len(peers)) if len(peers) > 1 else 0)
    ]
    for thread in threads:
        thread.start()
    connect_next()
    for thread in threads:
        thread.join()
    return {peer: outcomes[peer] for peer in peers}
