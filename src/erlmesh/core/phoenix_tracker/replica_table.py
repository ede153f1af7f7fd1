"""Which replicas of a shard are up, as their heartbeats tell.

::

    unknown ── heartbeat ──▶ up ── no heartbeat for down_period ──▶ down ── permdown_period ──▶ forgotten
                             ▲                                       │
                             └───────────── heartbeat ───────────────┘
    up, down ── graceful_permdown, or a heartbeat of the next life ──▶ forgotten

The loss of a connection is not looked at: a replica that returns within ``down_period`` was never away.

A life that was replaced does not return: a late message of it is ignored. A life with a smaller number than the present
one is taken only if the present one is down, because the clock of its machine may have been set back.

Source: phoenix_pubsub, ``tracker/replica.ex`` and ``tracker/shard.ex``.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias

from erlmesh.core.phoenix_tracker.entries import ReplicaRef
from erlmesh.records import record
from erlmesh.terms import Atom

__all__ = ["ReplicaEvent", "ReplicaTable", "Status"]

MAX_REPLICAS: Final = 1_000
"""Names of other nodes."""
MAX_ENDED: Final = 8
"""Ended lives of one node that are remembered."""


class Status(Enum):
    """What a replica has become."""

    UP = "up"
    DOWN = "down"
    FORGOTTEN = "forgotten"


ReplicaEvent: TypeAlias = "tuple[Status, ReplicaRef]"


@record(eq=False)
class _Replica:
    vsn: int
    heard_at: float
    is_up: bool = True


class ReplicaTable:
    """The other replicas, by the name of their node. Times are in seconds, and arguments."""

    def __init__(self, *, down_period: float, permdown_period: float) -> None:
        self._down_period = down_period
        self._permdown_period = permdown_period
        self._replicas: dict[Atom, _Replica] = {}
        self._ended: dict[Atom, list[int]] = {}

    def heartbeat(self, ref: ReplicaRef, now: float) -> list[ReplicaEvent] | None:
        """A replica has sent a sign of life. None if it is to be ignored, with all that came with it."""
        name, vsn = ref
        if vsn in self._ended.get(name, ()):
            return None
        found = self._replicas.get(name)
        if found is None:
            if len(self._replicas) >= MAX_REPLICAS:
                return None
            self._replicas[name] = _Replica(vsn, now)
            return [(Status.UP, ref)]
        if found.vsn != vsn:
            if vsn < found.vsn and found.is_up:
                return None
            return [*self.end((name, found.vsn)), *(self.heartbeat(ref, now) or [])]
        found.heard_at = now
        was_up, found.is_up = found.is_up, True
        return [] if was_up else [(Status.UP, ref)]

    def end(self, ref: ReplicaRef) -> list[ReplicaEvent]:
        """This life of a replica has ended."""
        name, vsn = ref
        found = self._replicas.get(name)
        if found is None or found.vsn != vsn:
            return []
        del self._replicas[name]
        ended = self._ended.pop(name, [])
        self._ended[name] = [*ended, vsn][-MAX_ENDED:]
        if len(self._ended) > MAX_REPLICAS:
            del self._ended[next(iter(self._ended))]
        return [(Status.FORGOTTEN, ref)]

    def expire(self, now: float) -> list[ReplicaEvent]:
        """Return the replicas that were silent for too long."""
        events: list[ReplicaEvent] = []
        for name, replica in [*self._replicas.items()]:
            silence = now - replica.heard_at
            if silence > self._permdown_period:
                # It is not remembered as ended: it may come back with all of its entries after a long partition.
                del self._replicas[name]
                events.append((Status.FORGOTTEN, (name, replica.vsn)))
            elif silence > self._down_period and replica.is_up:
                replica.is_up = False
                events.append((Status.DOWN, (name, replica.vsn)))
        return events

    def postpone(self, seconds: float) -> None:
        """This process did not run for so long. The heartbeats of that time are not read yet."""
        for replica in self._replicas.values():
            replica.heard_at += seconds

    def ref(self, name: Atom) -> ReplicaRef | None:
        """The present life of the replica on a node, up or down."""
        found = self._replicas.get(name)
        return None if found is None else (name, found.vsn)

    def is_up(self, ref: ReplicaRef) -> bool:
        """True if this life of the replica is up."""
        found = self._replicas.get(ref[0])
        return found is not None and found.vsn == ref[1] and found.is_up

    def up(self) -> list[ReplicaRef]:
        """The replicas that are up."""
        return [(name, replica.vsn) for name, replica in self._replicas.items() if replica.is_up]

    def __len__(self) -> int:
        return len(self._replicas)
