"""The browsers that look, and what each still has to get.

A viewer has at most one waiting report of each node, and some events. If more events wait than that, all is dropped and
a new snapshot follows. So one that does not read costs a bounded amount of memory, and delays nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from erlmesh.core.cluster_view.cluster import Updates
from erlmesh.core.cluster_view.history import MAX_EVENTS
from erlmesh.core.cluster_view.shapes import Event, Report
from erlmesh.web.encodings import Encodings, encode_event

__all__ = ["MAX_WAITING_EVENTS", "Viewer"]

MAX_WAITING_EVENTS: Final = MAX_EVENTS
"""A snapshot has as many. The loss of one of 60 nodes is 119 events, and needs no snapshot."""


class Viewer:
    """One browser. ``snapshot()`` returns the event with the whole state, and ``report(name)`` the report of a node.

    All viewers of a cluster share ``encodings``.
    """

    def __init__(
        self, snapshot: Callable[[], bytes], report: Callable[[str], Report | None], encodings: Encodings
    ) -> None:
        self._snapshot = snapshot
        self._report = report
        self._encodings = encodings
        self._needs_snapshot = True
        self._reports: dict[str, bool] = {}
        self._gone: dict[str, None] = {}
        self._events: deque[Event] = deque()
        self._changed = asyncio.Event()
        self._changed.set()

    def add(self, updates: Updates) -> None:
        """Note what has changed. It is sent by whoever calls :meth:`take`."""
        self._changed.set()
        if self._needs_snapshot:
            return
        for name, is_slow in updates.reports.items():
            self._reports[name] = self._reports.get(name, False) or is_slow
            self._gone.pop(name, None)
        for name in updates.gone:
            self._gone[name] = None
            self._reports.pop(name, None)
        self._events.extend(updates.events)
        if len(self._events) > MAX_WAITING_EVENTS:
            self._needs_snapshot = True
            self._reports.clear()
            self._gone.clear()
            self._events.clear()

    def wake(self) -> None:
        """End a wait now, because the server ends."""
        self._changed.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until something has changed. False after ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> bytes:
        """Return what has changed as server-sent events, and forget it."""
        self._changed.clear()
        if self._needs_snapshot:
            self._needs_snapshot = False
            return self._snapshot()
        pieces = [encode_event("gone", {"node": name}) for name in self._gone]
        for name, is_slow in self._reports.items():
            report = self._report(name)
            if report is not None:
                pieces.append(self._encodings.report(report, is_slow=is_slow))
        pieces += map(self._encodings.event, self._events)
        self._reports.clear()
        self._gone.clear()
        self._events.clear()
        return b"".join(pieces)
