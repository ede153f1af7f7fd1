"""Whether a node has heard of enough others to act. Others may have given it up, and act in its place. No I/O.

::

    look   look   look          look   look
     │      │      │   quiet     │      │
     ▼      ▼      ▼             ▼      ▼
    open ───────────────────────────▶ closed ──── heard for `settle` seconds ────▶ open
                   └──── limit ────┘

A node gives up another one that is silent for 0.75 tick times. So a node stops acting after a shorter time without a
sign of the quorum. Three cases are not obvious:

* A node that stood still reads, when it wakes up, what came long ago. So what has come since the last look counts as
  heard at the last look. A look after more than the time limit closes the fence, whatever has come meanwhile.
* A connection that one side alone has lost, without a packet to the other, is not covered: the other side finds it out
  by silence only. The side that has lost it waits a short time, as after the end of the other process.
* Closing is at once, opening is late: the first thing that a node hears again may be old, too.
"""

from __future__ import annotations

from collections.abc import Mapping

from erlmesh.terms import Atom

__all__ = ["Fence"]


class Fence:
    """The fence of one candidate.

    ``quorum`` counts this node, too. ``limit`` and ``settle`` are seconds. The caller looks much more often than once
    in ``limit`` seconds.
    """

    def __init__(self, quorum: int, limit: float, settle: float) -> None:
        self._others = quorum - 1
        self._limit = limit
        self._settle = settle
        self._heard: dict[Atom, tuple[float, float]] = {}
        """For each other node: when something came at last, and when it was sent at the earliest."""
        self._looked_at = 0.0
        self._open_until: float | None = None
        """None while there are too few other nodes to hear of. Nothing is held then."""
        self._well_since: float | None = None
        self.closed = False

    def is_open(self, now: float) -> bool:
        """False if this node must not act now, also if no look has found this yet."""
        return not self.closed and (self._open_until is None or now < self._open_until)

    def look(self, now: float, silences: Mapping[Atom, float]) -> None:
        """Update the fence. ``silences`` has, for each other node with candidates, the seconds since it sent something.

        ``math.inf`` stands for a node that is not connected.
        """
        if not self._others:
            return
        self._heard = {node: self._hear(node, now - silence) for node, silence in silences.items()}
        self._looked_at = now
        heard = sorted((sent for _, sent in self._heard.values()), reverse=True)
        self._open_until = heard[self._others - 1] + self._limit if len(heard) >= self._others else None
        if self._open_until is not None and now >= self._open_until:
            self.closed = True
            self._well_since = None
        elif self.closed and self._open_until is not None:
            if self._well_since is None:
                self._well_since = now
            if now - self._well_since >= self._settle:
                self.closed = False
        else:
            self._well_since = None

    def _hear(self, node: Atom, came: float) -> tuple[float, float]:
        before = self._heard.get(node)
        if before is None:  # It has just connected, so this is no old message.
            return came, came
        # A tolerance, because `came` is a difference of two times that is computed anew for each look.
        if came <= before[0] + 1e-6:
            return before
        return came, min(came, self._looked_at)
