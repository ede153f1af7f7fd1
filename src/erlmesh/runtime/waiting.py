"""Signals, and people, that wait for a connection which is not there yet.

A BEAM suspends who sends to a node that is being dialled once ``dist_buf_busy_limit`` bytes wait for it. Processes
here are held likewise, but only where they wait anyway; servers, and code that never waits, cannot be. For them there
is a second limit, at which all that waits is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from erlmesh.net.dist_protocol import HIGH_WATER
from erlmesh.proto.control import Send, SendAlias, SendName, Signal

__all__ = ["Waiting"]

log = logging.getLogger("erlmesh")

FULL: Final = 64 * HIGH_WATER
"""Bytes of messages for one node at which they are dropped, as they would be if it could not be reached."""
SIGNAL: Final = 128
"""Bytes that a signal is taken to need beside its message."""
MESSAGES: Final = (Send, SendName, SendAlias)


class Waiting:
    """What waits for one node, until :meth:`over`."""

    def __init__(self) -> None:
        self.signals: list[Signal] = []
        self.done: list[Callable[[bool], None]] = []
        self.dial = False
        """Somebody wants the connection; else there are only signals that will go with one that comes by itself."""
        self.busy = False
        """So much waits that a BEAM would suspend the sender."""
        self.given_up = False
        self._size = 0
        self._over: asyncio.Event | None = None

    def keep(self, signal: Signal, size: int) -> list[Signal]:
        """Keeps a signal with a message of ``size`` bytes. Returns those that are given up, at most this one and all
        before it; nobody needs to hear of a message among them, and it is not there.
        """
        if self.given_up:
            return _but_messages([signal])
        self.signals.append(signal)
        self._size += SIGNAL + size
        self.busy = self._size >= HIGH_WATER
        if self._size < FULL:
            return []
        self.given_up = True
        lost, self.signals = self.signals, []
        return _but_messages(lost)

    async def wait_writable(self) -> None:
        """Until it is over, if it is busy."""
        if self.busy:
            self._over = self._over or asyncio.Event()
            await self._over.wait()

    def over(self, up: bool) -> None:
        """The connection is up, or will not come: for those who asked for it, and those who are held."""
        self.busy = False
        if self._over is not None:
            self._over.set()
        for done in self.done:
            try:
                done(up)
            except Exception:
                log.exception("a callback of connect_nowait failed")


def _but_messages(signals: list[Signal]) -> list[Signal]:
    return [signal for signal in signals if not isinstance(signal, MESSAGES)]
