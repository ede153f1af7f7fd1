"""The messages that wait for one subscriber, and the tasks that wait for a message."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from erlmesh.core.phoenix_pubsub.message_queue import BYTE_LIMIT, MessageQueue, Overflow
from erlmesh.core.phoenix_pubsub.messages import PubSubStatistics
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.runtime.wait_queue import WaitQueue
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Inbox", "peer_log"]

log = event_log("erlmesh.phoenix")
peer_log: Final = PeerLog(log)


class Inbox:
    """A bounded queue of messages. The subscription reads it, and the PubSub writes it.

    The PubSub keeps the inbox and not the subscription. So a subscription that the user drops ends.
    """

    def __init__(
        self,
        node: Runtime,
        topic: bytes,
        limit: int,
        overflow: Overflow,
        statistics: PubSubStatistics,
        *,
        byte_limit: int = BYTE_LIMIT,
    ) -> None:
        self.topic = topic
        self.queue = MessageQueue(limit, overflow, byte_limit)
        self.statistics = statistics
        self._counters = node.state.counters
        self.ended = False
        """No message follows. Those that wait are still delivered."""
        self.error: Exception | None = None
        """Why it has ended, if that is a failure."""
        self.on_close: Callable[[], None] = lambda: None
        """Called once, when the subscriber has closed the subscription."""
        self._loop = asyncio.get_running_loop()
        self._waiting = WaitQueue(node.create_wait, self.queue)

    def put(self, message: Any) -> None:
        """Add a message, or drop one by the rule of the queue. That is counted and logged."""
        before = self.queue.dropped
        if not self.queue.put(message):
            self._count_dropped(self.queue.dropped - before)
        self._waiting.wake()

    def dropped_by_peer(self, count: int) -> None:
        """Another node has dropped messages for this subscription, because it could not send them."""
        self.queue.dropped += count
        self._count_dropped(count)

    def _count_dropped(self, count: int) -> None:
        self.statistics.dropped += count
        self._counters.add("dropped", "subscription_full", count)
        text = "the subscription to %s is full (%s messages, %s bytes): %s dropped"
        topic = ForeignText(self.topic)
        peer_log.write(
            logging.WARNING,
            "subscription_overflow",
            str(topic),
            text,
            topic,
            self.queue.limit,
            self.queue.byte_limit,
            count,
            topic=topic,
            count=count,
        )

    def end(self, error: Exception | None = None) -> None:
        """End the subscription, with ``error`` if it is a failure. A second call has no effect."""
        if not self.ended:
            self.ended = True
            self.error = error
            self._waiting.wake_all()

    def close(self) -> None:
        """The subscriber wants no message any more."""
        on_close, self.on_close = self.on_close, lambda: None
        self.queue.clear()
        self.end()
        on_close()

    def close_from_anywhere(self) -> None:
        """Do the same, in whichever thread the collector runs, and also when the event loop has ended."""
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self.close()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.close)

    async def wait(self) -> None:
        """Wait until there may be a message, or the end. The caller must look again."""
        await self._waiting.wait()
