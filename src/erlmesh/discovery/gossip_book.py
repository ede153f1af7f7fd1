"""Which names were heard by gossip, when to send, and what to say if nothing is heard. No I/O."""

from __future__ import annotations

import math
from collections import OrderedDict
from random import Random
from typing import Final

__all__ = ["GossipBook"]

INTERVAL: Final = 5.0
"""A heartbeat is sent after a random part of these seconds, as in libcluster."""
RETENTION: Final = 60.0
"""Seconds after the last heartbeat of a name until it is forgotten."""
MAX_NAMES: Final = 1_000
"""Names that are kept. Anybody on the network can send names."""
QUIET: Final = 30.0
"""Seconds without a heartbeat of another node after which the log says so."""


class GossipBook:
    """What the node ``own_name`` has heard."""

    def __init__(self, own_name: str, rng: Random, now: float) -> None:
        self._own_name = own_name
        self._random = rng
        self._heard: OrderedDict[str, float] = OrderedDict()
        self._next_heartbeat = now
        self._next_report = now + QUIET
        self._own_returned = False
        self._last_fault: str | None = None

    def heard(self, name: str, now: float) -> bool:
        """A heartbeat has arrived. True if it is of another node that was not known."""
        if name == self._own_name:
            self._own_returned = True
            return False
        self._next_report = math.inf
        is_new = name not in self._heard
        self._heard[name] = now
        self._heard.move_to_end(name)
        if len(self._heard) > MAX_NAMES:
            self._heard.popitem(last=False)
        return is_new

    def malformed(self, reason: str) -> None:
        """A datagram was not understood."""
        self._last_fault = reason

    def names(self, now: float) -> list[str]:
        """The nodes that were heard lately."""
        while self._heard and next(iter(self._heard.values())) < now - RETENTION:
            self._heard.popitem(last=False)
        return list(self._heard)

    def heartbeat_due(self, now: float) -> bool:
        """Whether to send a heartbeat now. Then the next one is due after a random time."""
        if now < self._next_heartbeat:
            return False
        self._next_heartbeat = now + self._random.uniform(0.001, INTERVAL)
        return True

    def report_due(self, now: float) -> str | None:
        """Why nothing was heard so far; None if it is not time to say so. It is said once."""
        if now < self._next_report:
            return None
        self._next_report = math.inf
        if self._last_fault is not None:
            return f"a datagram that came is not used: {self._last_fault}"
        if self._own_returned:
            return (
                "only the own heartbeats come back: no other node sends to this address and port, "
                "or the network between them drops multicast and broadcast"
            )
        return (
            "not even the own heartbeats come back: this network does not pass multicast or broadcast; "
            "find the nodes with dns: instead"
        )

    def next_deadline(self) -> float:
        """When a heartbeat or a report is due."""
        return min(self._next_heartbeat, self._next_report)
