"""Gives a message to a local process: to the call that waits for it, to the mailbox, or to a server in its turn."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from erlmesh.runtime.mailbox import EMPTY
from erlmesh.runtime.process import Process
from erlmesh.terms import ImproperList, Ref, Term

__all__ = ["Delivery"]

log = logging.getLogger("erlmesh")


class Delivery:
    """The mailboxes of one node, and the turns of its servers: one message at a time, never nested, in order."""

    def __init__(self) -> None:
        self._turns: deque[tuple[Process, Term]] = deque()
        self._turning = False

    def deliver(self, process: Process, message: Term) -> None:
        """A server takes the message now, or after the one it is at."""
        if process.receiver is None:
            if process.answers and _answered(process, message):
                return
            process.mailbox.put(message)
        elif self._turning:
            self._turns.append((process, message))
        else:
            self._turns.append((process, message))
            self._take_waiting_turns()

    def deliver_later(self, act: Callable[..., None], *arguments: Any) -> None:
        """Does ``act(*arguments)``; what servers are sent by it they take when the caller has gone on."""
        if self._turning:
            act(*arguments)
            return
        self._turning = True
        try:
            act(*arguments)
        finally:
            self._turning = False
            if self._turns:
                asyncio.get_running_loop().call_soon(self._take_waiting_turns)

    def take_back(self, process: Process, is_it: Callable[[Term], bool]) -> None:
        """Removes the message, if ``process`` has been sent it and has not seen it."""
        if process.mailbox.take(is_it) is EMPTY and process.receiver is not None:
            for turn in [turn for turn in self._turns if turn[0] is process and is_it(turn[1])]:
                self._turns.remove(turn)

    def _take_waiting_turns(self) -> None:
        self._turning = True
        try:
            self._take_turns()
        finally:
            self._turning = False

    def _take_turns(self) -> None:
        turns = self._turns
        while turns:
            process, message = turns.popleft()
            if process.receiver is None or (process.answers and _answered(process, message)):
                continue
            try:
                process.receiver(message)
            except Exception:
                log.exception("%s failed on a message and goes on: %.200r", process.label, message)


def _answered(process: Process, message: Term) -> bool:
    # Peers older than aliases (OTP 23) echo our tag to the pid.
    if type(message) is not tuple or len(message) != 2 or type(message[0]) is not ImproperList:
        return False
    answer = process.answers.get(message[0].tail) if type(message[0].tail) is Ref else None
    if answer is None:
        return False
    if not answer.done():
        answer.set_result(message[1])
    return True
