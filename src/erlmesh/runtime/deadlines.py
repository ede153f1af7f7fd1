"""The time limits of waits. All waits of a node share one timer of the event loop."""

from __future__ import annotations

import asyncio
import math
from contextvars import copy_context
from itertools import takewhile

from erlmesh.runtime.wakeups import Wait

__all__ = ["Deadlines"]


class Deadlines:
    """Ends each wait that takes too long. Adding and removing a wait makes no timer and costs the same for any number.

    Waits with the same time limit end in the order in which they were added. So there is one queue for each limit, and
    only the first wait of each queue can be the next one.
    """

    def __init__(self) -> None:
        self._queues: dict[float, dict[Wait, float]] = {}
        """By time limit: the waits with the time at which each expires, in that order. No queue is empty."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._context = copy_context()
        """The timer runs in the context of the node, not in that of the process that happens to set it."""

    def add(self, wait: Wait, seconds: float) -> None:
        """Call ``wait.expire()`` after ``seconds``. The caller removes the wait when it has ended."""
        if seconds == math.inf:
            return
        loop = wait.get_loop()
        expires_at = loop.time() + seconds
        queue = self._queues.get(seconds)
        if queue is None:
            queue = self._queues[seconds] = {}
        queue[wait] = expires_at
        if expires_at < self._timer_at:
            self._set_timer(loop, expires_at)

    def remove(self, wait: Wait, seconds: float) -> None:
        """Forget a wait that was added with ``seconds``. The timer stays, because a new one costs more than a call."""
        queue = self._queues.get(seconds)
        if queue is not None:
            queue.pop(wait, None)
            if not queue:
                del self._queues[seconds]

    def close(self) -> None:
        """Cancel the timer: the node has stopped."""
        self._queues.clear()
        self._cancel_timer()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    def _set_timer(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self._cancel_timer()
        self._timer, self._timer_at = loop.call_at(when, self._on_timer, loop, context=self._context), when

    def _on_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        # asyncio may run a timer early, by the resolution of its clock.
        now = max(loop.time(), self._timer_at)
        self._timer, self._timer_at = None, math.inf
        for seconds, queue in list(self._queues.items()):
            for wait, _ in list(takewhile(lambda entry: entry[1] <= now, queue.items())):
                self.remove(wait, seconds)
                wait.expire()
        next_at = min((next(iter(queue.values())) for queue in self._queues.values()), default=math.inf)
        if next_at != math.inf:
            self._set_timer(loop, next_at)
