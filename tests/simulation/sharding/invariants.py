"""What must be true of the holders of shards at every moment, and for how long it may be otherwise.

The mesh is *whole* if all running nodes are connected, nothing is cut or paused, and every link has carried something
since the last heal: after a heal, TCP is silent until its next attempt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from erlmesh.errors import NodeNotAlive
from erlmesh.sharding import Shards
from erlmesh.testing.cluster import Cluster
from simulation.sharding.workers import Worker

__all__ = ["HEALED", "ShardInvariants", "ShardViolation"]

LONGEST_DELAY: Final = 0.003
STEP: Final = 0.002
"""Virtual seconds between two looks."""
HEALED: Final = 0.05
"""Seconds after which each shard has one holder in a mesh that is whole again."""


class ShardViolation(AssertionError):
    """An invariant does not hold."""


class ShardInvariants:
    """Looks at all workers. Call :meth:`look` every ``STEP`` seconds, and after each act."""

    def __init__(
        self,
        mesh: Cluster,
        workers: Sequence[Worker],
        *,
        tick_time: float,
        quorum: int = 1,
        release_time: float = 0.005,
    ) -> None:
        self.mesh = mesh
        self.workers = workers
        self.quorum = quorum
        self.bound = release_time + 2 * LONGEST_DELAY + 2 * STEP
        self.takeover = 0.0
        """Seconds that a takeover may wait after a loss, because of the quorum."""
        if quorum > 1:  # The wait for a lost node, the one for a node that has joined, and the fence.
            self.takeover = 0.75 * tick_time + 2 * 0.5 + 0.2 * tick_time
        self.whole_since: float | None = None
        self._healed = False
        """True from the end of a fault of the network until each shard had the time to have one holder."""
        self._carried: dict[tuple[str, str], int] = {}
        """Chunks that each link had carried at the last act. Links that have carried more are removed."""
        self._wrong_since: dict[tuple[int, bool], float] = {}
        self._seen = (0, 0, 0)
        self._is_calm = False
        """True if the mesh was whole at the last look, and each shard had one holder."""
        self.longest_two = 0.0
        self.longest_none = 0.0
        self.looks = 0

    def disturbed(self) -> None:
        """Call this after each fault of the network, and after its end: each link has to carry something again."""
        self.whole_since = None
        self._healed = True
        self._is_calm = False
        names = self.mesh.names()
        self._carried = {(one, two): self.mesh.delivered(one, two) for one in names for two in names if one != two}
        self._wrong_since.clear()

    def look(self) -> None:
        """Check all invariants of one moment. Raises ShardViolation."""
        self.looks += 1
        now = self.mesh.now()
        seen = (len(self.mesh.history), sum(worker.version for worker in self.workers), len(self.workers))
        if seen == self._seen and self._is_calm:
            return  # Nothing has changed since the last look, and nothing was wrong.
        self._seen, self._is_calm = seen, False
        living = [worker for worker in self.workers if worker.is_up]
        if self.quorum > 1:
            self._check_exclusion(living)
        if not self._is_whole():
            self.whole_since = None
            self._wrong_since.clear()
            return
        if self.whole_since is None:
            self.whole_since = now
        self._check_counts(living, now)
        self._is_calm = not self._wrong_since

    def _check_exclusion(self, living: list[Worker]) -> None:
        """I11: with a quorum of more than half of the nodes, never two that may act."""
        acting: dict[int, Worker] = {}
        for worker in living:
            for shard in worker.acting:
                other = acting.setdefault(shard, worker)
                if other is not worker and worker.shards.may_act(shard) and other.shards.may_act(shard):
                    self._fail(f"shard {shard}: {other.node.name} and {worker.node.name} may act at the same time")

    def _check_counts(self, living: list[Worker], now: float) -> None:
        """I1 and I2: two holders, or none, only for a short time. I3: one holder soon after the mesh is whole."""
        candidates = [worker for worker in living if worker.is_candidate]
        enough = len({worker.node.name for worker in candidates}) >= self.quorum
        counts: dict[int, int] = {}
        for worker in living:
            for shard in worker.acting:
                counts[shard] = counts.get(shard, 0) + 1
        assert self.whole_since is not None
        settled = self.whole_since + (HEALED if self._healed else 0.0)
        self._healed = self._healed and now < settled
        for shard in range(living[0].shards.shards if living else 0):
            count = counts.get(shard, 0)
            for kind, wrong in ((True, count > 1), (False, count < 1 and enough)):
                if not wrong:
                    self._wrong_since.pop((shard, kind), None)
                    continue
                since = self._wrong_since.setdefault((shard, kind), now)
                late = now - max(since, settled)
                if kind:
                    self.longest_two = max(self.longest_two, late)
                else:
                    late -= self.takeover
                    self.longest_none = max(self.longest_none, late)
                if late > self.bound:
                    self._fail(f"shard {shard} has {count} holders for {now - since:.3f} s in a whole mesh")

    def look_closely(self) -> None:
        """Look, also if nobody has taken or released a shard: a connection may have broken meanwhile."""
        self._is_calm = False
        self.look()

    def at_rest(self) -> None:
        """I4: what each node sees in the groups is who acts. Raises ShardViolation."""
        living = [worker for worker in self.workers if worker.is_up]
        acting = {shard: worker for worker in living for shard in worker.acting}
        for worker in living:
            shards: Shards = worker.shards
            for shard in range(shards.shards):
                holder = shards.holder_of(shard)
                node = None if holder is None else holder.node.name
                expected = acting[shard].node.name if shard in acting else None
                if node != expected:
                    self._fail(f"shard {shard}: {worker.node.name} sees {node}, and {expected} acts")

    def _is_whole(self) -> bool:
        mesh = self.mesh
        try:
            if mesh.cuts() or not mesh.is_complete() or any(mesh.is_paused(name) for name in mesh.names()):
                return False
        except NodeNotAlive:  # A node is being started.
            return False
        self._carried = {
            (one, two): before
            for (one, two), before in self._carried.items()
            if mesh.is_up(one) and mesh.is_up(two) and mesh.delivered(one, two) <= before
        }
        return not self._carried

    def _fail(self, what: str) -> None:
        raise ShardViolation(f"seed {self.mesh.seed}, at {self.mesh.now():.3f} s: {what}")
