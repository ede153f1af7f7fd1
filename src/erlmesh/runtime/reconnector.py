"""Dials lost peers again, as :mod:`erlmesh.core.reconnect_policy` decides."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial

from erlmesh.core.reconnect_policy import DisconnectCause, ReconnectPolicy

__all__ = ["Reconnector"]


class Reconnector:
    """Reports events to the policy, and runs the one timer for its next deadline. Call :meth:`close` in the end.

    ``dial(name, done)`` starts an attempt, or joins the one under way, and calls ``done(up)`` once. ``count(what)``
    counts ``attempts`` and ``reconnects``.
    """

    def __init__(
        self,
        policy: ReconnectPolicy,
        dial: Callable[[str, Callable[[bool], None]], None],
        count: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._policy = policy
        self._dial = dial
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        """The end of a connection is still reported while the node stops, but nothing is dialled any more."""

    def request(self, name: str, *, attempts: int | None = None) -> None:
        """``name`` could not be reached: dial it until it can be, or a number of times."""
        self._policy.request(name, self._loop.time(), attempts=attempts)
        self._arm_timer()

    def suppress(self, name: str) -> None:
        """Dial ``name`` no more, until it is connected once more."""
        self._policy.suppress(name)
        self._arm_timer()

    def connected(self, name: str, *, hidden: bool) -> None:
        """A connection to ``name`` is up."""
        if self._policy.is_lost(name):
            self._count("reconnects")
        self._policy.connected(name, self._loop.time(), hidden=hidden)
        self._arm_timer()

    def disconnected(self, name: str, creation: int, cause: DisconnectCause) -> None:
        """The connection to the incarnation ``creation`` of ``name`` has ended."""
        self._policy.disconnected(name, creation, self._loop.time(), cause)
        self._arm_timer()

    def lost(self) -> dict[str, tuple[int, float]]:
        """See :meth:`~erlmesh.core.reconnect_policy.ReconnectPolicy.lost`."""
        return self._policy.lost()

    def close(self) -> None:
        """Start no further attempt."""
        self._closed = True
        self._arm_timer()

    def _arm_timer(self) -> None:
        deadline = math.inf if self._closed else self._policy.next_deadline()
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
        self._timer = None if deadline == math.inf else self._loop.call_at(deadline, self._dial_due)

    def _dial_due(self) -> None:
        self._timer = None
        for name in self._policy.begin_attempts(self._loop.time()):
            self._count("attempts")
            self._dial(name, partial(self._attempt_finished, name))
        self._arm_timer()

    def _attempt_finished(self, name: str, up: bool) -> None:
        if not up:  # a success is reported by connected()
            self._policy.attempt_failed(name, self._loop.time())
            self._arm_timer()
