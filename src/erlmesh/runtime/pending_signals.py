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

__all__ = ["PendingSignals"]

log = logging.getLogger("erlmesh")

MAX_PENDING_BYTES: Final = 64 * HIGH_WATER
"""Bytes of messages for one node at which they are dropped, as they would be if it could not be reached."""
SIGNAL_OVERHEAD: Final = 128
"""Bytes that a signal is taken to need beside its message."""
MESSAGE_SIGNALS: Final = (Send, SendName, SendAlias)


class PendingSignals:
    """What waits for one node, until :meth:`over`."""

    def __init__(self) -> None:
        self.signals: list[Signal] = []
        self.callbacks: list[Callable[[bool], None]] = []
        self.dial_wanted = False
        """Somebody wants the connection; else there are only signals that will go with one that comes by itself."""
        self.busy = False
        """So much waits that a BEAM would suspend the sender."""
        self.dropped = False
        self._size = 0
        self._resolved: asyncio.Event | None = None

    def enqueue(self, signal: Signal, size: int) -> list[Signal]:
        """Keeps a signal with a message of ``size`` bytes. Returns those that are given up, at most this one and all
        before it; nobody needs to hear of a message among them, and it is not there.
        """
        if self.dropped:
            return _without_messages([signal])
        self.signals.append(signal)
        self._size += SIGNAL_OVERHEAD + size
        self.busy = self._size >= HIGH_WATER
        if self._size < MAX_PENDING_BYTES:
            return []
        self.dropped = True
        lost, self.signals = self.signals, []
        return _without_messages(lost)

    async def wait_writable(self) -> None:
        """Until it is over, if it is busy."""
        if self.busy:
            self._resolved = self._resolved or asyncio.Event()
            await self._resolved.wait()

    def resolve(self, up: bool) -> None:
        """The connection is up, or will not come: for those who asked for it, and those who are held."""
        self.busy = False
        if self._resolved is not None:
            self._resolved.set()
        for done in self.callbacks:
            try:
                done(up)
            except Exception:
                log.exception("a callback of connect_nowait failed")


def _without_messages(signals: list[Signal]) -> list[Signal]:
    return [signal for signal in signals if not isinstance(signal, MESSAGE_SIGNALS)]
