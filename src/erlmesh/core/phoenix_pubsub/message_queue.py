"""The messages that wait for one subscriber: bounded, and nothing is dropped without a count."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Literal, TypeAlias

__all__ = ["OVERFLOWS", "MessageQueue", "Overflow"]

Overflow: TypeAlias = Literal["drop_oldest", "drop_newest", "fail"]
OVERFLOWS: Final = ("drop_oldest", "drop_newest", "fail")


class MessageQueue:
    """At most ``limit`` messages. ``overflow`` says what happens to one more.

    ``drop_oldest`` drops the message that has waited longest, ``drop_newest`` the new one. ``fail`` takes no message
    any more: those that wait can still be taken, and then :attr:`failed` is the end. Raises ValueError for a limit
    below 1 and for another overflow.
    """

    def __init__(self, limit: int, overflow: Overflow) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(f"the limit of a subscription is a number of messages, 1 or more, not {limit!r}")
        if overflow not in OVERFLOWS:
            raise ValueError(f"overflow is one of {', '.join(OVERFLOWS)}, not {overflow!r}")
        self.limit = limit
        self._overflow = overflow
        self._messages: deque[Any] = deque()
        self.dropped = 0
        """Messages that were dropped."""
        self.failed = False
        """True after an overflow with ``fail``."""

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Any) -> bool:
        """Add a message. False if one was dropped for it."""
        if self.failed:
            self.dropped += 1
            return False
        if len(self._messages) < self.limit:
            self._messages.append(message)
            return True
        self.dropped += 1
        if self._overflow == "drop_oldest":
            self._messages.popleft()
            self._messages.append(message)
        elif self._overflow == "fail":
            self.failed = True
        return False

    def take(self) -> Any:
        """Remove and return the message that has waited longest. Raises IndexError if there is none."""
        return self._messages.popleft()

    def clear(self) -> None:
        """Forget all messages that wait."""
        self._messages.clear()
