"""Periodic calls of a server's methods, which arrive in order with its messages."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from erlmesh.node import Process

__all__ = ["Tick", "Ticks"]


class Tick:
    """One periodic call. It is itself the message that the server gets."""

    def __init__(self, me: Process, seconds: float, method: Callable[[], Any], overlap: str) -> None:
        if not 0 < seconds < math.inf:
            raise ValueError(f"a period is a number of seconds, more than 0, not {seconds}")
        if overlap not in ("skip", "queue"):
            raise ValueError(f"overlap is 'skip' or 'queue', not {overlap!r}")
        self._me = me
        self._seconds = seconds
        self._method = method
        self._skips = overlap == "skip"
        self._waiting = 0
        """The messages of this tick in the mailbox."""
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._cancelled = False
        self._schedule()

    def cancel(self) -> None:
        """Make no further call, also none that waits in the mailbox."""
        self._cancelled = True
        if self._timer is not None:
            self._timer.cancel()

    def take(self) -> Callable[[], Any]:
        """Return the method that the server calls now."""
        self._waiting -= 1
        return _nothing if self._cancelled else self._method

    def _schedule(self) -> None:
        # From one due time to the next, so the period does not drift.
        self._due += self._seconds
        self._timer = self._loop.call_at(self._due, self._fire)

    def _fire(self) -> None:
        if not self._me.alive:
            return
        if self._skips:
            while self._due + self._seconds <= self._loop.time():  # The event loop was blocked.
                self._due += self._seconds
        if not (self._skips and self._waiting):
            self._waiting += 1
            self._me._ops.deliver(self._me, self)
        self._schedule()


class Ticks:
    """The ticks of one server."""

    def __init__(self, me: Process) -> None:
        self._me = me
        self._all: list[Tick] = []

    def start(self, seconds: float, method: Callable[[], Any], overlap: str) -> Tick:
        """Start a tick. Raises ValueError for a period that is not positive or an unknown overlap."""
        tick = Tick(self._me, seconds, method, overlap)
        self._all = [each for each in self._all if not each._cancelled] + [tick]
        return tick

    def close(self) -> None:
        """Cancel all ticks."""
        for tick in self._all:
            tick.cancel()


def _nothing() -> None:
    """The method of a tick that was cancelled while its message waited."""
