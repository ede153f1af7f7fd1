"""The JSON of reports and events, which is made once for all viewers.

A report is never changed; a new one replaces it. So its JSON is kept with it, in two parts: the first has the links and
figures, and the second groups, names and shards. Most viewers need the first one only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from erlmesh.core.cluster_view.history import MAX_EVENTS
from erlmesh.core.cluster_view.shapes import Event, Report
from erlmesh.records import record

__all__ = ["MAX_KEPT", "Encodings", "encode_event", "without_slow_parts"]

MAX_KEPT: Final = 16 << 20
"""Bytes of JSON of reports that are kept. What does not fit is encoded for each viewer."""
_SLOW: Final = frozenset({"groups", "more_groups", "names", "shards"})


@record
class _Kept:
    report: Report
    fast: bytes | None = None
    slow: bytes | None = None


class Encodings:
    """Encodes the newest report of each node, and events. Memory is bounded."""

    def __init__(self) -> None:
        self._reports: dict[str, _Kept] = {}
        self._size = 0
        self._events: dict[int, tuple[Event, bytes]] = {}

    def report(self, report: Report, *, is_slow: bool) -> bytes:
        """Return the event ``report``. It has groups, names and shards if ``is_slow``."""
        return _message("report", b'{"report":' + self._json(report, is_slow=is_slow) + b"}")

    def event(self, event: Event) -> bytes:
        """Return the event ``event``."""
        return _message("event", b'{"event":' + self._event_json(event) + b"}")

    def snapshot(self, snapshot: Mapping[str, Any]) -> bytes:
        """Return the event ``snapshot`` of a :meth:`ClusterView.snapshot`, which may have more fields."""
        fields = {key: value for key, value in snapshot.items() if key not in ("reports", "events")}
        reports = [
            encode_json(name) + b":" + self._json(report, is_slow=True) for name, report in snapshot["reports"].items()
        ]
        events = [self._event_json(event) for event in snapshot["events"]]
        rest = b'"reports":{' + b",".join(reports) + b'},"events":[' + b",".join(events) + b"]}"
        return _message("snapshot", _joined(encode_json(fields), b"{" + rest))

    def forget(self, name: str) -> None:
        """Drop the report of a node that is not shown any more."""
        kept = self._reports.pop(name, None)
        if kept is not None:
            self._size -= len(kept.fast or b"") + len(kept.slow or b"")

    def clear(self) -> None:
        """Drop all: nobody looks."""
        self._reports.clear()
        self._events.clear()
        self._size = 0

    def _json(self, report: Report, *, is_slow: bool) -> bytes:
        kept = self._reports.get(report["node"])
        if kept is None or kept.report is not report:
            self.forget(report["node"])
            kept = self._reports[report["node"]] = _Kept(report)
        fast = kept.fast
        if fast is None:
            fast = encode_json(without_slow_parts(report))
            if self._has_room(fast):
                kept.fast = fast
        if not is_slow:
            return fast
        slow = kept.slow
        if slow is None:
            slow = encode_json({key: value for key, value in report.items() if key in _SLOW})
            if self._has_room(slow):
                kept.slow = slow
        return _joined(fast, slow)

    def _has_room(self, data: bytes) -> bool:
        if self._size + len(data) > MAX_KEPT:
            return False
        self._size += len(data)
        return True

    def _event_json(self, event: Event) -> bytes:
        kept = self._events.get(event["id"])
        if kept is not None and kept[0] is event:
            return kept[1]
        data = encode_json(event)
        self._events.pop(event["id"], None)
        self._events[event["id"]] = event, data
        if len(self._events) > MAX_EVENTS:
            del self._events[next(iter(self._events))]
        return data


def without_slow_parts(report: Report) -> dict[str, Any]:
    """Return a report without groups, names and shards, for a reader that has these."""
    return {key: value for key, value in report.items() if key not in _SLOW}


def encode_event(kind: str, data: object) -> bytes:
    """Return one server-sent event."""
    return _message(kind, encode_json(data))


def encode_json(value: object) -> bytes:
    """Return JSON without spaces."""
    return json.dumps(value, separators=(",", ":")).encode()


def _joined(first: bytes, second: bytes) -> bytes:
    """Return one object with the fields of two. Neither is empty."""
    return first[:-1] + b"," + second[1:]


def _message(kind: str, data: bytes) -> bytes:
    # JSON has no line feeds, so one line of data is enough.
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
