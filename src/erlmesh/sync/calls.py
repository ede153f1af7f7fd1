"""Messages and ``gen_server`` calls of a session, in the calling thread."""

from __future__ import annotations

import time
from typing import TypeAlias

from erlmesh.core import gen
from erlmesh.errors import CallTimeout
from erlmesh.proto.control import Demonitor, Monitor, Send, SendAlias, SendName, Signal
from erlmesh.sync.session import Session
from erlmesh.sync.waiting import PendingCall, Waiter
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.copying import copy_term

__all__ = ["Destination", "address_of", "call", "deadline_after", "end_calls", "send"]

Destination: TypeAlias = "Pid | Ref | Atom | str | tuple[Atom | str, Atom | str]"
"""A pid, an alias, a name that is registered on the main peer, or ``(name, node)``."""


def address_of(session: Session, to: Destination) -> tuple[Atom, Pid | Ref | Atom]:
    """Return the node of a destination, and the pid, alias or name there. Raises TypeError."""
    if isinstance(to, (Pid, Ref)):
        return to.node, to
    if isinstance(to, (Atom, str)):
        return session.peer, Atom(to)
    if isinstance(to, tuple) and len(to) == 2:
        return Atom(to[1]), Atom(to[0])
    raise TypeError(f"cannot send to {to!r}: a destination is a pid, an alias, a name, or (name, node)")


def deadline_after(timeout: float | None) -> float | None:
    """Return the time at which a call with this time limit ends."""
    return None if timeout is None else time.monotonic() + timeout


def message_signal(sender: Pid, target: Pid | Ref | Atom, message: Term) -> Signal:
    """Return the signal for a message."""
    if type(target) is Pid:
        return Send(sender, target, message)
    if type(target) is Ref:
        return SendAlias(sender, target, message)
    assert isinstance(target, Atom)
    return SendName(sender, target, message)


def send(session: Session, to: Destination, message: Term, timeout: float | None, sender: Pid) -> None:
    """Send a message. See :meth:`SyncNode.send`."""
    peer, target = address_of(session, to)
    signal = message_signal(sender, target, message)
    if peer is sender.node:
        with session.lock:
            session.router.apply(message_signal(sender, target, copy_term(message)), peer)
        return
    link = session.writable_link(peer, deadline_after(timeout))
    with session.lock:
        if link.lost is not None:
            raise session.no_connection_error(peer)
        session.transmit(link, signal)


def call(session: Session, to: Destination, request: Term, timeout: float | None, sender: Pid | None = None) -> Term:
    """Call a server and return its reply. See :meth:`SyncNode.call`."""
    peer, target = address_of(session, to)
    if isinstance(target, Ref):
        raise TypeError(f"cannot call {to!r}: an alias is no process")
    deadline = None if timeout is None else time.monotonic() + timeout
    link = session.writable_link(peer, deadline)
    router, reader, pid = session.router, session.reader, sender or session.caller
    pending = PendingCall(peer, target)
    try:
        with session.lock:
            if link.lost is not None:
                raise session.no_connection_error(peer)
            ref = router.add_call(pending)
            message = gen.call(pid, ref, request)
            session.transmit(link, Monitor(pid, target, ref), message_signal(pid, target, message))
            reader.enter(pending)
        reader.wait(pending, deadline)
    finally:
        end_calls(session, pid, pending, [pending])
    if pending.down_reason is not None:
        session.require_open()
        raise gen.down_error(target, peer, pending.down_reason, session.no_connection_error)
    if pending.remaining:
        raise CallTimeout(f"no answer from {to} within {timeout:g} s")
    return pending.reply


def end_calls(session: Session, pid: Pid, waiter: Waiter, calls: list[PendingCall]) -> None:
    """The thread of ``waiter`` does not wait any more for ``calls`` of the process ``pid``. Late replies are dropped.

    The monitors are removed with the next write, so that they need none of their own. Another Ctrl-C may come
    meanwhile. It must not leave the role of the reader with a thread that is gone.
    """
    interruption: BaseException | None = None
    for _ in range(3):
        try:
            with session.lock:
                for each in calls:
                    session.router.pending.pop(each.ref, None)
                    if each.down_reason is None and each.target is not None:
                        session.enqueue(each.node, Demonitor(pid, each.target, each.ref))
                    each.target = None
                session.reader.leave(waiter)
            break
        except BaseException as error:
            interruption = error
    if interruption is not None:
        raise interruption
