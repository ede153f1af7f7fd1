"""Dials lost peers again: carries out what :mod:`erlmesh.core.reconnect_policy` decides."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from random import Random

from erlmesh.core.disconnect_history import DisconnectHistory
from erlmesh.core.reconnect_policy import ReconnectPolicy

__all__ = ["Reconnect"]


class Reconnect:
    """``dial(name, done)`` starts or joins an attempt and calls ``done(up)`` once; whom it does not meet is written in
    ``hung_up``. :meth:`close` before the loop ends.

    When it dials is the policy's business; here is only the one timer.
    """

    def __init__(
        self,
        ours: str,
        chance: Random,
        dial: Callable[[str, Callable[[bool], None]], None],
        hung_up: DisconnectHistory,
    ) -> None:
        self._dial = dial
        self._hung_up = hung_up
        self._redial = ReconnectPolicy(ours, chance)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def wanted(self, name: str) -> None:
        """``name`` could not be reached, and is to be dialled until it can."""
        self._redial.request(name, self._loop.time())
        self._arm()

    def up(self, name: str, *, hidden: bool) -> None:
        """``name`` is connected. Who is hidden may be a passing tool: it is minded only if it was missed."""
        if not hidden or self._redial.is_tracked(name):
            self._redial.connected(name, self._loop.time())
            self._arm()

    def lost(self, name: str, *, for_others: bool) -> None:
        """The connection to ``name`` ended, and neither side wanted it so; with ``for_others`` others did."""
        self._redial.disconnected(name, self._loop.time(), overlap_disconnect=for_others)
        self._arm()

    def forget(self, name: str) -> None:
        """``name`` is to be left alone."""
        self._redial.suppress(name)
        self._arm()

    def leaves_alone(self, name: str) -> bool:
        """Whether ``name`` is being left alone on purpose: its own, or somebody's here."""
        return self._redial.is_suppressed(name)

    def missed(self) -> list[str]:
        """The peers that are being dialled again and again."""
        return self._redial.reconnecting()

    def close(self) -> None:
        """Dials nobody any more."""
        self._closed = True
        self._arm()

    def _arm(self) -> None:
        deadline = math.inf if self._closed else self._redial.next_deadline()
        if self._timer is not None:
            if self._timer.when() == deadline:
                return
            self._timer.cancel()
        self._timer = None if deadline == math.inf else self._loop.call_at(deadline, self._dial_again)

    def _dial_again(self) -> None:
        self._timer = None
        now = self._loop.time()
        for name in self._redial.due(now):
            if not self._redial.is_deferred(name, now):
                self._hung_up.clear_deferral(name)
            self._dial(name, partial(self._dialled, name))
        self._arm()

    def _dialled(self, name: str, up: bool) -> None:
        if up:
            return
        if self._hung_up.is_suppressed(name):
            self._redial.suppress(name)
        elif self._hung_up.pop_found(name):
            self._redial.found_same_incarnation(name, self._loop.time())
        else:
            self._redial.attempt_failed(name, self._loop.time())
        self._arm()
