"""The messages that wait for one subscriber: bounded, and nothing is dropped without a count."""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Literal, TypeAlias

from erlmesh.terms.sizes import term_size

__all__ = ["BYTE_LIMIT", "OVERFLOWS", "MessageQueue", "Overflow"]

Overflow: TypeAlias = Literal["drop_oldest", "drop_newest", "fail"]
BYTE_LIMIT: Final = 64 * 1024 * 1024
OVERFLOWS: Final = ("drop_oldest", "drop_newest", "fail")


class MessageQueue:
    """At most ``limit`` messages of together ``byte_limit`` bytes. ``overflow`` says what happens to one more.

    ``drop_oldest`` drops the messages that have waited longest, ``drop_newest`` the new one. ``fail`` takes no message
    any more: those that wait can still be taken, and then :attr:`failed` is the end. An empty queue takes a message of
    any size. Raises ValueError for a limit below 1 and for another overflow.
    """

    def __init__(self, limit: int, overflow: Overflow, byte_limit: int = BYTE_LIMIT) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise ValueError(f"the limit of a subscription is a number of messages, 1 or more, not {limit!r}")
        if isinstance(byte_limit, bool) or not isinstance(byte_limit, int) or byte_limit < 1:
            raise ValueError(f"the byte_limit of a subscription is a number of bytes, 1 or more, not {byte_limit!r}")
        if overflow not in OVERFLOWS:
            raise ValueError(f"overflow is one of {', '.join(OVERFLOWS)}, not {overflow!r}")
        self.limit = limit
        self.byte_limit = byte_limit
        self.size = 0
        """About how many bytes the messages have."""
        self._overflow = overflow
        self._messages: deque[tuple[Any, int]] = deque()
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
        size = term_size(message)
        if self._has_place(size):
            self._add(message, size)
            return True
        if self._overflow == "drop_oldest":
            while not self._has_place(size):
                self.take()
                self.dropped += 1
            self._add(message, size)
            return False
        self.dropped += 1
        self.failed = self._overflow == "fail"
        return False

    def _has_place(self, size: int) -> bool:
        waiting = len(self._messages)
        return waiting == 0 or (waiting < self.limit and self.size + size <= self.byte_limit)

    def _add(self, message: Any, size: int) -> None:
        self._messages.append((message, size))
        self.size += size

    def take(self) -> Any:
        """Remove and return the message that has waited longest. Raises IndexError if there is none."""
        message, size = self._messages.popleft()
        self.size -= size
        return message

    def clear(self) -> None:
        """Forget all messages that wait."""
        self._messages.clear()
        self.size = 0
