"""What a thread waits for. A waiter becomes done under the lock of its session."""

from __future__ import annotations

import threading

from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["PendingCall", "Waiter"]


class Waiter:
    """One thread that waits until ``remaining`` is 0. The role of the reader is passed between waiters."""

    __slots__ = ("gate", "remaining")

    def __init__(self, remaining: int = 1) -> None:
        self.remaining = remaining
        self.gate: threading.Lock | None = None
        """A lock that the thread blocks on while another one reads. None while the thread itself reads, or runs."""

    def finish_one(self) -> None:
        """One of the things that the thread waits for has come."""
        self.remaining -= 1
        if self.remaining <= 0:
            self.wake()

    def wake(self) -> None:
        """Let the thread continue, because it is done, or because it has to read from now on."""
        gate, self.gate = self.gate, None
        if gate is not None:
            gate.release()


class PendingCall(Waiter):
    """A request to ``target`` on ``node``. Its answer has the reference ``ref``.

    At the end either ``reply`` is a message, or ``down_reason`` is the reason for which none will come, or ``error`` is
    an exception to raise.
    """

    __slots__ = ("down_reason", "error", "group", "node", "ref", "reply", "target")

    ref: Ref
    """The router sets it."""

    def __init__(self, node: Atom, target: Pid | Atom | None, group: Waiter | None = None) -> None:
        self.remaining = 1
        self.gate = None
        self.node = node
        self.target = target
        """What is monitored. None before the node of a spawn request has answered, and after the end."""
        self.group = group
        """The waiter of a thread that waits for several calls."""
        self.reply: Term = None
        self.down_reason: Term = None
        self.error: Exception | None = None

    def finish(self) -> None:
        """The answer has come."""
        self.finish_one()
        if self.group is not None:
            self.group.finish_one()
