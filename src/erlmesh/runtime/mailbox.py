"""A queue with selective receive. It is synchronous: :class:`LocalProcess` awaits the :class:`Wait`.

The native part has the same class. It is the one whose messages a connection delivers directly, see
:attr:`ProcessRegistry.direct`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from erlmesh import native
from erlmesh.runtime.wakeups import Wait
from erlmesh.terms import Term

__all__ = ["EMPTY", "Mailbox", "PureMailbox"]


class _Empty:
    def __repr__(self) -> str:
        return "EMPTY"


EMPTY: Final = _Empty()
"""Returned when there is no message. It is not equal to any term."""


class PureMailbox(deque[Term]):
    """Messages in order of arrival. The process itself takes them with ``popleft`` or :meth:`take`.

    A process that waits sets ``waiting``. The next :meth:`put` clears it and ends the wait. The message stays in the
    mailbox until the process takes it. So a wait that was cancelled meanwhile loses no message.
    """

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        super().__init__()
        self.waiting: Wait | None = None

    def put(self, message: Term) -> None:
        """Append a message and wake the process that waits."""
        self.append(message)
        waiting = self.waiting
        if waiting is not None:
            self.waiting = None
            waiting.set_result(None)

    def take(self, match: Callable[[Term], bool] | None = None, skip: int = 0) -> Term:
        """Remove and return the first message that ``match`` accepts, or :data:`EMPTY`. None accepts any message.

        The first ``skip`` messages are known not to match: a process that waits has examined them before.
        """
        if match is None:
            return self.popleft() if self else EMPTY
        for index in range(skip, len(self)):
            message = self[index]
            if match(message):
                del self[index]
                return message
        return EMPTY


Mailbox: TypeAlias = PureMailbox

if not TYPE_CHECKING and native.module is not None:
    # The same class in Rust. Type checkers see the Python class.
    Mailbox = native.module.Mailbox
