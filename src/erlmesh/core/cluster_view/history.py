"""The last events of a cluster, bounded by their number and by their size."""

from __future__ import annotations

from collections import deque
from typing import Final

from erlmesh.core.cluster_view.shapes import Event

__all__ = ["MAX_BYTES", "MAX_EVENTS", "History"]

MAX_EVENTS: Final = 500
MAX_BYTES: Final = 256 * 1024
"""Characters of the texts of all events."""


class History:
    """Numbers events, and keeps the newest ones."""

    def __init__(self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_events, self._max_bytes = max_events, max_bytes
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._last_id = 0

    def add(
        self,
        time: float,
        observer: str,
        kind: str,
        subject: str,
        text: str,
        *,
        peer: str | None = None,
        group: str | None = None,
        reason: str | None = None,
    ) -> Event:
        """Add an event and return it. The oldest ones go if there are too many."""
        self._last_id += 1
        event: Event = {
            "id": self._last_id,
            "time": round(time, 3),
            "observer": observer,
            "kind": kind,
            "subject": subject,
            "peer": peer,
            "group": group,
            "reason": reason,
            "text": text,
        }
        self._events.append(event)
        self._bytes += _size(event)
        while len(self._events) > self._max_events or (self._bytes > self._max_bytes and len(self._events) > 1):
            self._bytes -= _size(self._events.popleft())
        return event

    def events(self) -> list[Event]:
        """Return the events that are kept, oldest first."""
        return list(self._events)


def _size(event: Event) -> int:
    return 100 + sum(len(value) for value in event.values() if isinstance(value, str))
