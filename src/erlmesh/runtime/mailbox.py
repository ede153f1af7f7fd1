"""A queue with selective receive. It is synchronous: the process does the waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from erlmesh.terms import Term

__all__ = ["EMPTY", "Mailbox"]


class _Empty:
    def __repr__(self) -> str:
        return "EMPTY"


EMPTY: Final = _Empty()
"""Returned instead of a message if there is none. It is not equal to any term."""


class Mailbox:
    """Messages in order of arrival.

    ``wake`` is set by a waiting owner and called at most once, by the next :meth:`put`.
    """

    __slots__ = ("messages", "wake")

    def __init__(self) -> None:
        self.messages: deque[Term] = deque()
        self.wake: Callable[[], None] | None = None

    def put(self, message: Term) -> None:
        self.messages.append(message)
        wake = self.wake
        if wake is not None:
            self.wake = None
            wake()

    def take(self, match: Callable[[Term], bool] | None = None, skip: int = 0) -> Term:
        """Removes and returns the first message that ``match`` accepts (any, without one), or :data:`EMPTY`.

        ``skip`` messages at the front are known not to match: a receiver that waits need not look at them twice.
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
