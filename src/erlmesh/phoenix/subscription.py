"""A subscription: the messages of one topic, for ``async for``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from erlmesh.errors import CodecError, PubSubError, SubscriptionOverflow
from erlmesh.phoenix.inbox import Inbox, peer_log
from erlmesh.records import record
from erlmesh.terms import Atom
from erlmesh.terms.foreign_text import ForeignText, foreign_text
from erlmesh.typed import from_term

__all__ = ["Gap", "Subscription"]

T = TypeVar("T")
_MESSAGES_PER_TURN: Final = 1_000
"""Messages that an iteration takes before other tasks get a turn."""
_NOTHING: Final = object()


@record(frozen=True)
class Gap:
    """Messages may be missing here: the subscription was on the node ``lost``, and is on ``node`` now.

    The subscription of a guest yields it when the new subscription has begun. So what the subscriber reads now, from a
    database for example, is complete together with the messages that follow.
    """

    lost: str
    node: str


def _require_type(type_: Any) -> None:
    """Raise at once what ``from_term`` raises for a type that it does not know, and without msgspec."""
    with contextlib.suppress(CodecError):
        from_term(Atom("nil"), type_)


class Subscription(Generic[T]):
    """The messages of one topic, one by one, for ``async for``. It begins with the call of ``subscribe``.

    At most ``limit`` messages wait, see ``subscribe``. Iteration ends when the subscription is closed, and when the
    PubSub stops. It raises SubscriptionOverflow after an overflow with ``fail``, and PubSubError if the PubSub has
    failed. A subscription that is dropped (``break``) is closed. ``async with`` closes it, too.

    With a type, each message is converted by ``from_term``. A message that does not fit is counted, logged and skipped.
    Raises TypeError for a type that cannot be converted to, and ImportError without msgspec.
    """

    def __init__(self, inbox: Inbox, type_: Any = None) -> None:
        self._inbox = inbox
        self._type = type_
        if type_ is not None:
            _require_type(type_)
        self._left_in_turn = _MESSAGES_PER_TURN
        self.unconverted = 0
        """Messages that did not fit the type."""

    @property
    def topic(self) -> str:
        """The topic."""
        return self._inbox.topic.decode("utf-8", "backslashreplace")

    @property
    def dropped(self) -> int:
        """Messages that were dropped because the subscription was full."""
        return self._inbox.queue.dropped

    @property
    def waiting(self) -> int:
        """Messages that wait."""
        return len(self._inbox.queue)

    def __del__(self) -> None:
        if hasattr(self, "_inbox"):
            self._inbox.close_from_anywhere()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if self._left_in_turn <= 0:
            self._left_in_turn = _MESSAGES_PER_TURN
            await asyncio.sleep(0)
        inbox = self._inbox
        while True:
            while not inbox.queue:
                self._raise_at_end()
                self._left_in_turn = _MESSAGES_PER_TURN
                await inbox.wait()
            self._left_in_turn -= 1
            message = self._convert(inbox.queue.take())
            if message is not _NOTHING:
                return message  # type: ignore[no-any-return]

    async def get(self, timeout: float | None = None) -> T:
        """Return the next message. Raises TimeoutError after ``timeout`` seconds, and PubSubError after the end."""
        try:
            if timeout is None:
                return await anext(self)
            async with asyncio.timeout(timeout):
                return await anext(self)
        except StopAsyncIteration:
            raise PubSubError(f"the subscription to {foreign_text(self._inbox.topic)} has ended") from None

    def close(self) -> None:
        """End the subscription and forget the messages that wait. A second call has no effect."""
        self._inbox.close()

    def _raise_at_end(self) -> None:
        inbox = self._inbox
        if inbox.queue.failed:
            raise SubscriptionOverflow(
                f"the subscription to {foreign_text(inbox.topic)} was full and got one more message "
                f"(limit={inbox.queue.limit}, byte_limit={inbox.queue.byte_limit}): "
                "read faster, give a greater limit, or choose overflow='drop_oldest'"
            )
        if inbox.ended:
            raise StopAsyncIteration if inbox.error is None else inbox.error

    def _convert(self, message: Any) -> Any:
        if self._type is None or type(message) is Gap:
            return message
        try:
            return from_term(message, self._type)
        except CodecError as error:
            self.unconverted += 1
            self._inbox.statistics.unconverted += 1
            # As text: a log handler may keep the error, which would keep this subscription by its traceback.
            peer_log.write(
                logging.WARNING,
                "message_invalid",
                "",
                "skipped a message of the topic %s that does not fit its type: %s",
                ForeignText(self._inbox.topic),
                ForeignText(str(error)),
                topic=self._inbox.topic,
                reason=error,
            )
            return _NOTHING
