"""Suspends reading from a peer that does not read: :mod:`erlmesh.core.read_suspension` decides, here is the timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from erlmesh.core.read_suspension import ReadSuspension

__all__ = ["ReadSuspender", "Reads"]


class Reads(Protocol):
    """What reads the connection: its socket, or a transport."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class ReadSuspender:
    """Suspends the ``reads`` of one connection with the tick time ``net_ticktime``. All methods are for the event loop.

    ``counts()`` returns what waits for the peer, what was read from it, and what its socket has taken, in bytes.
    """

    def __init__(self, reads: Reads, counts: Callable[[], tuple[int, int, int]], net_ticktime: float) -> None:
        self._reads = reads
        self._counts = counts
        self._state = ReadSuspension(net_ticktime)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        """None while reading is not suspended."""

    @property
    def mark(self) -> int:
        """See :attr:`ReadSuspension.mark`."""
        return self._state.mark

    @property
    def is_suspended(self) -> bool:
        """Whether nothing is read now."""
        return self._timer is not None

    def after_read(self) -> None:
        """Record a read while the connection is full."""
        queued, read, taken = self._counts()
        if self._timer is None and self._state.after_read(queued, read, taken, self._loop.time()):
            self._reads.pause_reading()
            self._schedule()

    def drained(self) -> None:
        """Little waits for the peer: read again."""
        self._state.drained()
        self._resume()

    def close(self) -> None:
        """The connection ends: nothing is to be resumed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        self._timer = self._loop.call_at(self._state.next_check, self._check)

    def _check(self) -> None:
        queued, _, taken = self._counts()
        if self._state.check(queued, taken, self._loop.time()):
            self._schedule()
        else:
            self._resume()

    def _resume(self) -> None:
        if self._timer is not None:
            self.close()
            self._reads.resume_reading()
