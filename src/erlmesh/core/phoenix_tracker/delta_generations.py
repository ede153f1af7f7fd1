"""The last changes of all replicas, kept to answer a replica that has missed some.

There is one delta for each of ``max_sizes``. Each new delta is merged into all of them. One that would become too large
starts again with the new delta alone. So the larger ones reach further back.

An answer is the smallest delta that has all changes which the asker lacks. If there is none, the answer is the full
state. Source: phoenix_pubsub, ``tracker/delta_generation.ex``.
"""

from __future__ import annotations

from collections.abc import Sequence

from erlmesh.core.phoenix_tracker.entries import Context, Delta, ReplicaRef

__all__ = ["DeltaGenerations"]


class DeltaGenerations:
    """``max_sizes`` are numbers of entries and tags, in ascending order."""

    def __init__(self, max_sizes: Sequence[int]) -> None:
        self._max_sizes = tuple(max_sizes)
        self._deltas: list[Delta] = [Delta() for _ in self._max_sizes]

    def push(self, delta: Delta) -> None:
        """Add the changes of a heartbeat or an answer."""
        for index, (kept, limit) in enumerate(zip(self._deltas, self._max_sizes, strict=True)):
            if kept.size + delta.size <= limit:
                kept.merge(delta)
            else:
                self._deltas[index] = delta.copy() if delta.size <= limit else Delta()

    def forget(self, ref: ReplicaRef) -> None:
        """Forget all changes of a replica."""
        for delta in self._deltas:
            delta.forget(ref)

    def covering(self, known: Context, wanted: Context) -> Delta | None:
        """Return the smallest delta that brings a replica from the clocks ``known`` to ``wanted``.

        Replicas that are not in ``known`` do not count. An empty delta is enough if nothing is missing.
        """
        missing = {ref: clock for ref, clock in known.items() if wanted.get(ref, 0) > clock}
        if not missing:
            return Delta()
        for delta in self._deltas:
            if all(_covers(delta.clouds.get(ref, set()), clock, wanted[ref]) for ref, clock in missing.items()):
                return delta.restricted(known)
        return None


def _covers(cloud: set[int], start: int, end: int) -> bool:
    """True if all clocks after ``start`` up to ``end`` are in the cloud."""
    return len(cloud) >= end - start and all(clock in cloud for clock in range(start + 1, end + 1))
