"""A process of a synchronous node: a pid and a mailbox that threads read."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from erlmesh.core import gen
from erlmesh.core.exit_reasons import NORMAL
from erlmesh.errors import Exit, NodeNotAlive
from erlmesh.proto.control import ExitSend
from erlmesh.sync.calls import Destination, address_of, call, deadline_after, send
from erlmesh.sync.mailbox import EMPTY, Mailbox
from erlmesh.sync.session import Session
from erlmesh.sync.waiting import Waiter
from erlmesh.terms import Atom, Pid, Ref, SendableTerm, Term

__all__ = ["SyncProcess"]


class SyncProcess:
    """A process that other nodes can send to. Any thread may use it; a message goes to one of those that wait.

    It traps exits: an exit signal is the message ``(Atom("EXIT"), pid, reason)``. After ``kill``, and after the stop of
    a supervisor or of ``sys``, its methods raise :class:`Exit` with the reason. In a forked child they raise
    :class:`NodeNotAlive`: the process belongs to the parent.
    """

    def __init__(self, session: Session, mailbox: Mailbox) -> None:
        self._session = session
        self._mailbox = mailbox
        self.pid: Pid = mailbox.pid

    def send(self, to: Destination, message: SendableTerm, *, timeout: float | None = 5.0) -> None:
        """Send a message as :meth:`SyncNode.send` does, with this process as the sender."""
        self._require_alive()
        send(self._session, to, message, timeout, self.pid)

    def receive(self, match: Callable[[Term], bool] | None = None, *, timeout: float | None = None) -> Term:
        """Remove and return the oldest message that ``match`` accepts (any message without ``match``); wait for one.

        Raises ``TimeoutError`` after ``timeout`` seconds. Messages that were skipped stay in their order. ``match``
        must use neither this process nor its node.
        """
        deadline, mailbox, session = deadline_after(timeout), self._mailbox, self._session
        while True:
            with session.lock:
                self._require_alive()
                message = mailbox.take(match)
                if message is not EMPTY:
                    return message
                waiter = Waiter()
                mailbox.add_waiter(waiter)
            try:
                session.wait(waiter, deadline)
            finally:
                with session.lock:
                    mailbox.remove_waiter(waiter)
            if waiter.remaining and deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"no message within {timeout:g} s")

    def call(self, to: Destination, request: SendableTerm, *, timeout: float | None = 5.0) -> Term:
        """Call as :meth:`SyncNode.call` does, with this process as the caller."""
        self._require_alive()
        return call(self._session, to, request, timeout, self.pid)

    def reply(self, caller: tuple[Pid, Term], answer: SendableTerm) -> None:
        """Reply to ``(Atom("$gen_call"), caller, request)``, a call of this process."""
        self.send(gen.reply_to(caller), (caller[1], answer))

    def monitor(self, target: Destination) -> Ref:
        """Get ``(Atom("DOWN"), ref, Atom("process"), pid | (name, node), reason)`` once, when ``target`` terminates.

        The reason is ``noproc`` if it does not exist, and ``noconnection`` if its node is lost. Raises NoConnection.
        """
        session = self._session
        self._require_alive()
        peer, pid_or_name = address_of(session, target)
        if isinstance(pid_or_name, Ref):
            raise TypeError(f"cannot monitor {target!r}: an alias is no process")
        link = session.writable_link(peer, deadline_after(5.0))
        with session.lock:
            if link.lost is not None:
                raise session.no_connection_error(peer)
            router = session.router
            ref = router.identifiers.ref()
            session.transmit(link, router.monitors.monitor(self.pid, pid_or_name, peer, ref))
        return ref

    def demonitor(self, ref: Ref, *, flush: bool = False) -> bool:
        """Remove a monitor. False if there was none. With ``flush``, also remove a DOWN that was not received yet."""
        session = self._session
        with session.lock:
            removed = session.router.monitors.demonitor(self.pid, ref)
            if removed is not None:
                session.send_if_connected(removed[0].node, removed[1])
            elif flush:
                self._mailbox.take(lambda message: _is_down(message, ref))
        return removed is not None

    def link(self, other: Pid) -> None:
        """Link with ``other``, which gets an exit signal when this process ends. Raises NoConnection."""
        session = self._session
        self._require_alive()
        peer = session.writable_link(other.node, deadline_after(5.0))
        with session.lock:
            if peer.lost is not None:
                raise session.no_connection_error(other.node)
            session.transmit(peer, *session.router.links.link(self.pid, other))

    def unlink(self, other: Pid) -> None:
        """Remove the link. After this no exit signal of it arrives."""
        session = self._session
        with session.lock:
            for signal in session.router.links.unlink(self.pid, other):
                session.send_if_connected(other.node, signal)

    def exit(self, to: Pid, reason: SendableTerm) -> None:
        """Send an exit signal (``exit/2``). ``Atom("kill")`` cannot be trapped. Raises NoConnection."""
        session = self._session
        self._require_alive()
        link = session.writable_link(to.node, deadline_after(5.0))
        with session.lock:
            if link.lost is not None:
                raise session.no_connection_error(to.node)
            session.transmit(link, ExitSend(self.pid, to, reason))

    def close(self, reason: SendableTerm = NORMAL) -> None:
        """End the process with ``reason``. Its links and monitors get it. May be called again."""
        session = self._session
        if not session.is_foreign():
            with session.lock:
                if not session.closed:
                    session.router.end_process(self._mailbox, reason)

    def close_later(self) -> None:
        """End the process at the next read. For ``__del__``, which may run while this thread holds the lock."""
        self._session.abandoned.append(self._mailbox)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the process can still receive."""
        return self._mailbox.exit_reason is None and not self._session.is_foreign()

    def _require_alive(self) -> None:
        if self._session.is_foreign():
            raise NodeNotAlive(f"the process {self.pid} belongs to the parent of this forked program")
        self._session.require_open()
        if self._mailbox.exit_reason is not None:
            raise Exit(self._mailbox.exit_reason)

    def __repr__(self) -> str:
        return f"<SyncProcess {self.pid}>"


def _is_down(message: Term, ref: Ref) -> bool:
    return type(message) is tuple and len(message) == 5 and message[0] is Atom("DOWN") and message[1] == ref
