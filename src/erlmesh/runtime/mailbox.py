"""A queue with selective receive. It is synchronous: :class:`LocalProcess` awaits the :class:`Wait`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from erlmesh.runtime.wakeups import Wait
from erlmesh.terms import Term

__all__ = ["EMPTY", "Mailbox"]


class _Empty:
    def __repr__(self) -> str:
        return "EMPTY"


EMPTY: Final = _Empty()
"""Returned when there is no message. It is not equal to any term."""


class Mailbox:
    """Messages in order of arrival.

    A process that waits sets ``waiting``. The next :meth:`put` clears it and ends the wait. The message stays in the
    mailbox until the process takes it. So a wait that was cancelled meanwhile loses no message.
    """

    __slots__ = ("messages", "waiting")

    def __init__(self) -> None:
        self.messages: deque[Term] = deque()
        self.waiting: Wait | None = None

    def put(self, message: Term) -> None:
        """Append a message and wake the process that waits."""
        self.messages.append(message)
        waiting = self.waiting
        if waiting is not None:
            self.waiting = None
            waiting.set_result(None)

    def take(self, match: Callable[[Term], bool] | None = None, skip: int = 0) -> Term:
        """Remove and return the first message that ``match`` accepts, or :data:`EMPTY`. None accepts any message.

        The first ``skip`` messages are known not to match: a process that waits has examined them before.
        """
        messages = self.messages
        if match is None:
            return messages.popleft() if messages else EMPTY
        for index in range(skip, len(messages)):
            message = messages[index]
            if match(message):
                del messages[index]
                return message
        return EMPTY

    def __len__(self) -> int:
        return len(self.messages)
