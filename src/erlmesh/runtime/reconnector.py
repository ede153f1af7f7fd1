"""Dials lost peers again: carries out what :mod:`erlmesh.core.reconnect_policy` decides."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from random import Random

from erlmesh.core.disconnect_history import DisconnectHistory
from erlmesh.core.node_names import NodeNames
from erlmesh.core.reconnect_policy import ReconnectPolicy

__all__ = ["Reconnector"]


class Reconnector:
    """``dial(name, done)`` starts or joins an attempt and calls ``done(up)`` once; whom it does not meet is written in
    ``hung_up``. :meth:`close` before the loop ends.

    When it dials is the policy's business; here is only the one timer.
    """

    def __init__(
        self,
        local_name: str,
        rng: Random,
        dial: Callable[[str, Callable[[bool], None]], None],
        disconnect_history: DisconnectHistory,
    ) -> None:
        self._dial = dial
        self._disconnect_history = disconnect_history
        self._policy = ReconnectPolicy(local_name, rng)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def request(self, name: str) -> None:
        """``name`` could not be reached, and is to be dialled until it can."""
        self._policy.request(name, self._loop.time())
        self._arm_timer()

    def connected(self, name: str, *, hidden: bool) -> None:
        """``name`` is connected. Who is hidden may be a passing tool: it is minded only if it was missed."""
        if not hidden or self._policy.is_tracked(name):
            self._policy.connected(name, self._loop.time())
            self._arm_timer()

    def disconnected(self, name: str, *, overlap_disconnect: bool) -> None:
        """The connection to ``name`` ended, and neither side wanted it so; with ``for_others`` others did."""
        self._policy.disconnected(name, self._loop.time(), overlap_disconnect=overlap_disconnect)
        self._arm_timer()

    def suppress(self, name: str) -> None:
        """``name`` is to be left alone."""
        self._policy.suppress(name)
        self._arm_timer()

    def is_suppressed(self, name: str) -> bool:
        """Whether ``name`` is being left alone on purpose: its own, or somebody's here."""
        return self._policy.is_suppressed(name)

    def reconnecting(self) -> NodeNames:
        """The peers that are being dialled again and again."""
        return NodeNames(self._policy.reconnecting())

    def close(self) -> None:
        """Dials nobody any more."""
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
        now = self._loop.time()
        for name in self._policy.due(now):
            if not self._policy.is_deferred(name, now):
                self._disconnect_history.clear_deferral(name)
            self._dial(name, partial(self._attempt_finished, name))
        self._arm_timer()

    def _attempt_finished(self, name: str, up: bool) -> None:
        if up:
            return
        if self._disconnect_history.is_suppressed(name):
            self._policy.suppress(name)
        elif self._disconnect_history.pop_found(name):
            self._policy.found_same_incarnation(name, self._loop.time())
        else:
            self._policy.attempt_failed(name, self._loop.time())
        self._arm_timer()
