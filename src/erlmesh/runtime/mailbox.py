"""A queue with selective receive. It is synchronous: :class:`LocalProcess` awaits the :class:`Wait`.

The native part has the same class. It is the one whose messages a connection delivers directly, see
:attr:`NodeState.direct`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh import native
from erlmesh.core.gen import FILE_REQUEST, GEN_CALL, IO_REQUEST, SYSTEM, is_library_request, is_system_message
from erlmesh.runtime.wakeups import Wait
from erlmesh.terms import Pid, Term

__all__ = ["EMPTY", "NOTICE_FROM", "Mailbox", "PureMailbox", "is_special", "may_be_special"]

NOTICE_FROM: Final = 10_000
"""Messages that a mailbox has when its owner is told for the first time. The next times are each power of ten."""


class _Empty:
    def __repr__(self) -> str:
        return "EMPTY"


EMPTY: Final = _Empty()
"""Returned when there is no message. It is not equal to any term."""


class PureMailbox(deque[Term]):
    """Messages in order of arrival. The process itself takes them with :meth:`take`.

    A process that waits sets ``waiting``. The next :meth:`put` clears it and ends the wait. The message stays in the
    mailbox until the process takes it. So a wait that was cancelled meanwhile loses no message.

    System messages and library requests are in the same queue, so their order with other messages is kept. They are
    *special*: they need attention, and so does a mailbox that is ``held``. Then :meth:`take` returns nothing, and the
    slow branch of the process uses :meth:`scan` and :meth:`take_system`. So other messages cost no more than a look at
    one field.

    ``grown(mailbox, count)`` is called when so many messages wait: at each power of ten from NOTICE_FROM on, and when
    :attr:`limit` is exceeded. It runs within :meth:`put`, so it must not run code of a process. After the process has
    emptied the mailbox and waits, the notices start again.
    """

    __slots__ = (
        "_first_notice",
        "_grown",
        "_held",
        "_limit",
        "_notice_at",
        "_special_count",
        "call_limit",
        "needs_attention",
        "waiting",
    )

    def __init__(self, grown: Callable[[Mailbox, int], object] | None = None) -> None:
        super().__init__()
        self._grown = grown
        self._limit: int | None = None
        self._first_notice = self._notice_at = NOTICE_FROM
        self.waiting: Wait | None = None
        self.needs_attention = False
        """True if :meth:`take` returns EMPTY because of a special message, or because the mailbox is held."""
        self.call_limit: int | None = None
        """The number of messages above which :meth:`put` returns True. It bounds nothing by itself."""
        self._held = False
        self._special_count = 0

    @property
    def held(self) -> bool:
        """True if each message goes through the slow branch of the process."""
        return self._held

    @held.setter
    def held(self, held: bool) -> None:
        self._held = held
        self.needs_attention = held or self._special_count > 0

    @property
    def limit(self) -> int | None:
        """How many messages may wait; None for any number."""
        return self._limit

    @limit.setter
    def limit(self, limit: int | None) -> None:
        self._limit = limit
        self._first_notice = self._notice_at = NOTICE_FROM if limit is None else min(limit + 1, NOTICE_FROM)

    def put(self, message: Term) -> bool:
        """Append a message and wake the process that waits.

        Return True for a special message, and for each message above :attr:`call_limit`.
        """
        self.append(message)
        special = False
        if type(message) is tuple and may_be_special(message) and is_special(message):
            self._special_count += 1
            special = self.needs_attention = True
        count = len(self)
        if count >= self._notice_at:
            self._pass_notice(count)
        waiting = self.waiting
        if waiting is not None:
            self.waiting = None
            if count == 1:
                self._notice_at = self._first_notice
            waiting.set_result(None)
        return special or (self.call_limit is not None and count > self.call_limit)

    def _pass_notice(self, count: int) -> None:
        following = NOTICE_FROM
        while following <= count:
            following *= 10
        limit = self._limit
        self._notice_at = following if limit is None or limit < count else min(following, limit + 1)
        if self._grown is not None:
            self._grown(self, count)

    def take(self, match: Callable[[Term], bool] | None = None, skip: int = 0) -> Term:
        """Remove and return the first message that ``match`` accepts, or :data:`EMPTY`. None accepts any message.

        The first ``skip`` messages are known not to match: a process that waits has examined them before. Always EMPTY
        while the mailbox needs attention.
        """
        if self.needs_attention:
            return EMPTY
        if match is None:
            return self.popleft() if self else EMPTY
        for index in range(skip, len(self)):
            message = self[index]
            if match(message):
                del self[index]
                return message
        return EMPTY

    def scan(self, match: Callable[[Term], bool] | None = None, past_system: bool = False) -> Term:
        """As :meth:`take`, but also while the mailbox is held. Unless ``past_system``, stop at a system message."""
        for index, message in enumerate(self):
            if not past_system and is_system_message(message):
                break
            if match is None or match(message):
                del self[index]
                return self._removed(message)
        return EMPTY

    def take_system(self) -> Term:
        """Remove and return the first system message, or :data:`EMPTY`."""
        return self.scan(is_system_message, True)

    def take_newest(self, match: Callable[[Term], bool]) -> Term:
        """Remove and return the newest message if ``match`` accepts it, else return :data:`EMPTY`."""
        return self._removed(self.pop()) if self and match(self[-1]) else EMPTY

    def _removed(self, message: Term) -> Term:
        """Return a message that is not in the queue any more. A special message needs no attention then."""
        if self._special_count and is_special(message):
            self._special_count -= 1
            self.held = self._held
        return message


def is_special(message: Term) -> bool:
    """True for a system message and for a library request: the node may have to answer it for the process."""
    return is_system_message(message) or is_library_request(message)


def may_be_special(message: Term) -> bool:
    """False for most messages that are not special. This runs for each tuple, so it looks at the first element only."""
    if type(message) is not tuple or not 3 <= len(message) <= 4:
        return False
    kind = message[0]
    return kind is GEN_CALL or kind is SYSTEM or kind is IO_REQUEST or kind is FILE_REQUEST or type(kind) is Pid


Mailbox: TypeAlias = PureMailbox

if not TYPE_CHECKING and native.module is not None:
    # The same class in Rust. Type checkers see the Python class.
    Mailbox = native.module.Mailbox
