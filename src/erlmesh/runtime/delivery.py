"""Delivers a message to a local process: to a pending call, to the mailbox, or to the handler."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from erlmesh.runtime.mailbox import EMPTY
from erlmesh.runtime.process import LocalProcess
from erlmesh.terms import ImproperList, Ref, Term

__all__ = ["Delivery"]

log = logging.getLogger("erlmesh")


class Delivery:
    """One for all processes of a node. Handlers get one message at a time, in order, never recursively."""

    def __init__(self) -> None:
        self._queue: deque[tuple[LocalProcess, Term]] = deque()
        self._draining = False

    def deliver(self, process: LocalProcess, message: Term) -> None:
        """Deliver a message. A handler is called now, or after the message that is being handled."""
        if process._handler is None:
            if process._pending_calls and _resolve_call(process, message):
                return
            process._mailbox.put(message)
        elif self._draining:
            self._queue.append((process, message))
        else:
            self._queue.append((process, message))
            self._drain_queue()

    def run_then_deliver(self, action: Callable[..., None], *arguments: Any) -> None:
        """Does ``act(*arguments)``; what servers are sent by it they take when the caller has gone on."""
        if self._draining:
            action(*arguments)
            return
        self._draining = True
        try:
            action(*arguments)
        finally:
            self._draining = False
            if self._queue:
                asyncio.get_running_loop().call_soon(self._drain_queue)

    def remove_pending(self, process: LocalProcess, matches: Callable[[Term], bool]) -> None:
        """Remove the first matching message that was sent to ``process`` and that it has not received yet."""
        if process._mailbox.take(matches) is EMPTY and process._handler is not None:
            for turn in [turn for turn in self._queue if turn[0] is process and matches(turn[1])]:
                self._queue.remove(turn)

    def _drain_queue(self) -> None:
        self._draining = True
        try:
            self._handle_queued()
        finally:
            self._draining = False

    def _handle_queued(self) -> None:
        turns = self._queue
        while turns:
            process, message = turns.popleft()
            if process._handler is None or (process._pending_calls and _resolve_call(process, message)):
                continue
            try:
                process._handler(message)
            except Exception:
                log.exception("%s failed on a message and goes on: %.200r", process.label, message)


def _resolve_call(process: LocalProcess, message: Term) -> bool:
    # Peers older than aliases (OTP 23) echo our tag to the pid.
    if type(message) is not tuple or len(message) != 2 or type(message[0]) is not ImproperList:
        return False
    answer = process._pending_calls.get(message[0].tail) if type(message[0].tail) is Ref else None
    if answer is None:
        return False
    if not answer.done():
        answer.set_result(message[1])
    return True
