"""Reads a stream of short messages less often: the kernel wakes the event loop when enough of it has arrived.

:mod:`erlmesh.core.read_pacing` decides. During a pause the low-water mark of the socket (SO_RCVLOWAT, ``socket(7)``)
keeps it from being readable with less data. A timer descriptor ends the pause, because the timers of the event loop are
not that short. The native part has both, on Linux. Without them, there are no pauses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from erlmesh import native
from erlmesh.core.read_pacing import LOW_WATER, MAX_DELAY, MIN_READ, ReadPacing

__all__ = ["ReadPauses"]

_ReadTimer: Final[Any] = getattr(native.module, "ReadTimer", None)


class ReadPauses:
    """The pauses of one socket. ``read`` is called when a pause has ended by its time, also if nothing has arrived.

    :meth:`close` must be called before the descriptor of the socket is closed. All methods are for the event loop.
    """

    available: Final = _ReadTimer is not None
    """Whether this build and this system have what is needed."""

    __slots__ = ("_fd", "_loop", "_pacing", "_read", "_timer", "is_paused")

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, read: Callable[[], object]) -> None:
        self.is_paused = False
        """The mark is set and the timer runs."""
        self._loop = loop
        self._fd = fd
        self._read = read
        self._pacing = ReadPacing()
        self._timer: Any = None
        """Made for the first pause: most connections never need it."""

    def after_read(self, size: int, sent: int) -> None:
        """Record a read, and start a pause or not. ``sent`` counts all that was ever sent to the peer."""
        if size < MIN_READ and not self.is_paused:
            return  # the usual read of a connection that answers: the next long one sees what was sent
        if self._pacing.after_read(size, sent, self._loop.time()):
            self._pause()
        else:
            self.stop()

    def stop(self) -> None:
        """Read again as soon as data arrives."""
        if self.is_paused:
            self.is_paused = False
            self._timer.start(0)
            _ReadTimer.set_low_water(self._fd, 1)

    def close(self) -> None:
        """Stop, and release the timer."""
        self.stop()
        if self._timer is not None:
            self._loop.remove_reader(self._timer.fileno())
            self._timer.close()
            self._timer = None

    def _pause(self) -> None:
        if self._timer is None:
            try:
                self._timer = _ReadTimer()
            except OSError:  # The process has no free descriptor.
                return
            self._loop.add_reader(self._timer.fileno(), self._read)
        self._timer.start(MAX_DELAY)
        if not self.is_paused:
            self.is_paused = True
            _ReadTimer.set_low_water(self._fd, LOW_WATER)
