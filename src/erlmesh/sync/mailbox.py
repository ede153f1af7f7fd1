"""The messages that a process of a session has not received yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from erlmesh.sync.waiting import Waiter
from erlmesh.terms import Pid, Term

__all__ = ["EMPTY", "Mailbox"]

EMPTY: Final = object()
"""What :meth:`Mailbox.take` returns without a message. (None is not a term, but a caller may forget that.)"""


class Mailbox:
    """The mailbox of the process ``pid``. All methods are called under the lock of the session."""

    __slots__ = ("_messages", "_waiters", "exit_reason", "pid")

    def __init__(self, pid: Pid) -> None:
        self.pid = pid
        self.exit_reason: Term = None
        """Why the process has ended. None while it is alive."""
        self._messages: deque[Term] = deque()
        self._waiters: list[Waiter] = []

    def deliver(self, message: Term) -> None:
        """Add a message. All threads that wait look at it."""
        self._messages.append(message)
        self._wake_all()

    def take(self, match: Callable[[Term], bool] | None) -> Term:
        """Remove and return the oldest message that ``match`` accepts, or any without it. EMPTY if there is none."""
        if match is None:
            return self._messages.popleft() if self._messages else EMPTY
        for index, message in enumerate(self._messages):
            if match(message):
                del self._messages[index]
                return message
        return EMPTY

    def add_waiter(self, waiter: Waiter) -> None:
        """End ``waiter`` with the next message."""
        self._waiters.append(waiter)

    def remove_waiter(self, waiter: Waiter) -> None:
        """The thread does not wait any more."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def end(self, reason: Term) -> None:
        """The process has ended. What waits in the mailbox is dropped."""
        self.exit_reason = reason
        self._messages.clear()
        self._wake_all()

    def _wake_all(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.finish_one()

    def __len__(self) -> int:
        return len(self._messages)
