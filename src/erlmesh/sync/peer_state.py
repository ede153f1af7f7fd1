"""What a session knows about one peer: its connection, and when the next attempt may start. No I/O. ::

                   start_or_wait           attempt_ended(link)
    disconnected ────────────────▶ dialling ─────────────────▶ connected
         ▲  ▲                         │                            │
         │  └── attempt_ended(None) ──┘                            │
         └──────────────────── connection_lost ────────────────────┘

After a failed attempt a caller gets its error at once, until the pause is over. The pauses grow. The first attempt
after a loss needs no pause.
"""

from __future__ import annotations

import threading
from random import Random
from typing import Final

from erlmesh.core.backoff import Backoff
from erlmesh.sync.peer_link import PeerLink
from erlmesh.sync.waiting import Waiter

__all__ = ["PeerState"]

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to connect."""
STABLE_AFTER: Final = 1.0
"""Seconds after which a connection was a good one, so that the pauses start from the shortest again."""


class PeerState:
    """All methods are called under the lock of the session."""

    def __init__(self, rng: Random) -> None:
        self.link: PeerLink | None = None
        """The connection, while there is one."""
        self.error: Exception | None = None
        """Why there is none. None before the first attempt, and while it is up."""
        self.was_connected = False
        """The peer may still take our earlier connection for alive."""
        self._failed = False
        """An attempt has failed since the connection was up."""
        self._dialling = False
        self._retry_at = self._connected_at = 0.0
        self._rng = rng
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, (0.5, 1.0))
        self._waiters: list[Waiter] = []

    def must_wait(self, now: float) -> bool:
        """Whether a caller gets the error of the last attempt, instead of a new attempt."""
        return self._failed and (self._dialling or now < self._retry_at)

    def start_or_wait(self) -> Waiter | None:
        """Return None if the caller has to connect, and then to call :meth:`attempt_ended`.

        Otherwise another thread connects. The result has a gate that opens when that attempt has ended.
        """
        if not self._dialling:
            self._dialling = True
            return None
        waiter = Waiter()
        waiter.gate = threading.Lock()
        waiter.gate.acquire()
        self._waiters.append(waiter)
        return waiter

    def attempt_ended(self, link: PeerLink | None, error: Exception, now: float) -> None:
        """An attempt has led to ``link``, or to ``error``."""
        self._dialling = False
        self.link = link
        if link is None:
            self.error, self._failed = error, True
            self._retry_at = now + self._backoff.next_delay(self._rng)
        else:
            self.error, self._failed, self.was_connected = None, False, True
            self._connected_at = now
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.finish_one()

    def connection_lost(self, reason: str, now: float) -> None:
        """The connection has ended."""
        self.link = None
        self.error = ConnectionResetError(f"the connection was lost ({reason})")
        if now - self._connected_at >= STABLE_AFTER:
            self._backoff.reset()
            self._retry_at = now
        else:  # a peer that accepts and closes at once must not be dialled without a pause
            self._retry_at = now + self._backoff.next_delay(self._rng)

    def delay(self, now: float) -> float:
        """Seconds until the next attempt may start."""
        return max(0.0, self._retry_at - now)
