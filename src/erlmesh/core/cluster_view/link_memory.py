"""The links of one node between its views: bytes per second, and the links that are gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from erlmesh.core.cluster_view.shapes import MAX_LINKS, LinkReport, LinkView

__all__ = ["LOST_FOR", "SLOW_AFTER", "SLOW_BYTES", "LinkMemory"]

RATE_INTERVAL: Final = 1.0
"""Seconds between two looks at a counter, at least. A rate over a shorter time jumps."""
LOST_FOR: Final = 600.0
"""Seconds for which a link that is gone is shown as down."""
SLOW_BYTES: Final = 1 << 20
SLOW_AFTER: Final = 2.0
"""A peer reads slowly if more than so many bytes have waited for it for more than so many seconds.

They must also be more than it takes in a second: in a fast bulk transfer, a queue is always full.
"""


class LinkMemory:
    """What the last views of one node said of its links."""

    def __init__(self) -> None:
        self._counters: dict[str, tuple[float, int, int]] = {}
        """When they were looked at, and the bytes in and out."""
        self._rates: dict[str, tuple[float | None, float | None]] = {}
        self._full_since: dict[str, float] = {}
        """When a link was first seen with more than ``SLOW_BYTES`` in its queue."""
        self._up: set[str] = set()
        """The visible peers. A hidden one is often a tool, which is not missed."""
        self._lost: dict[str, float] = {}
        """When a link was seen to be gone, of which the view says nothing any more."""

    def reports(self, links: Mapping[str, LinkView], now: float) -> dict[str, LinkReport]:
        """Return the links of a view as a report has them, with those that have gone without a word."""
        found = {peer: self._report(peer, link, now) for peer, link in links.items()}
        for peer in self._up:
            if peer not in links:
                self._lost.setdefault(peer, now)
        self._lost = {peer: at for peer, at in self._lost.items() if peer not in links and now - at < LOST_FOR}
        for peer in list(self._lost)[: max(0, MAX_LINKS - len(found))]:
            found[peer] = _lost_link()
        up = {peer: link["hidden"] for peer, link in links.items() if link["state"] == "up"}
        self._counters = {peer: each for peer, each in self._counters.items() if peer in up}
        self._rates = {peer: each for peer, each in self._rates.items() if peer in up}
        self._full_since = {peer: at for peer, at in self._full_since.items() if peer in up}
        self._up = {peer for peer, is_hidden in up.items() if not is_hidden}
        return found

    def _report(self, peer: str, link: LinkView, now: float) -> LinkReport:
        rate_in, rate_out = self._rate(peer, link, now) if link["state"] == "up" else (None, None)
        return {
            "state": link["state"],
            "silent": link["silent"],
            "in": rate_in,
            "out": rate_out,
            "queued": link["queued"],
            "slow": link["state"] == "up" and self._is_slow(peer, link["queued"] or 0, rate_out or 0.0, now),
            "suspended": link["suspended"],
            "hidden": link["hidden"],
            "reason": link["reason"],
            "attempt": link["attempt"],
            "next": link["next"],
        }

    def _is_slow(self, peer: str, queued: int, rate: float, now: float) -> bool:
        if queued <= SLOW_BYTES or queued <= rate:
            self._full_since.pop(peer, None)
            return False
        return now - self._full_since.setdefault(peer, now) > SLOW_AFTER

    def _rate(self, peer: str, link: LinkView, now: float) -> tuple[float | None, float | None]:
        bytes_in, bytes_out = link["bytes_in"], link["bytes_out"]
        if bytes_in is None or bytes_out is None:
            return None, None
        at, old_in, old_out = self._counters.get(peer, (None, 0, 0))
        if at is None or bytes_in < old_in or bytes_out < old_out or now < at:  # a new connection counts from 0
            self._counters[peer], self._rates[peer] = (now, bytes_in, bytes_out), (None, None)
        elif now - at >= RATE_INTERVAL:
            self._counters[peer] = (now, bytes_in, bytes_out)
            self._rates[peer] = round((bytes_in - old_in) / (now - at), 1), round((bytes_out - old_out) / (now - at), 1)
        return self._rates[peer]


def _lost_link() -> LinkReport:
    return {
        "state": "down", "silent": None, "in": None, "out": None, "queued": None, "slow": False, "suspended": False,
        "hidden": False, "reason": None, "attempt": None, "next": None,
    }  # fmt: skip
