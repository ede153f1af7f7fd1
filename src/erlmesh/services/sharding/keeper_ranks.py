"""Which nodes can keep the state of each shard, the best one first."""

from __future__ import annotations

from erlmesh.core.sharding.names import shard_key
from erlmesh.core.sharding.rendezvous import node_prefix, rank
from erlmesh.terms import Atom, Pid
from erlmesh.terms.order import sort_key

__all__ = ["KeeperRanks"]


class KeeperRanks:
    """The candidates that are in the group of the keepers, too. The ranks of a node are computed once."""

    def __init__(self, name: bytes, shards: int) -> None:
        self._keys = [shard_key(name, shard) for shard in range(shards)]
        self._ranks: dict[Atom, list[bytes]] = {}
        self.candidates: dict[Pid, None] = {}
        self.keepers: dict[Pid, None] = {}

    def ranked(self) -> list[list[Pid]]:
        """For each shard one process of each node, the least in Erlang's order, the best node first."""
        first: dict[Atom, Pid] = {}
        for pid in self.candidates:
            other = first.get(pid.node)
            if pid in self.keepers and (other is None or sort_key(pid) < sort_key(other)):
                first[pid.node] = pid
        self._ranks = {node: self._ranks.get(node) or self._ranks_of(node) for node in first}
        by_rank = [(self._ranks[node], pid) for node, pid in first.items()]
        return [
            [pid for _, pid in sorted(by_rank, key=lambda each: each[0][shard], reverse=True)]
            for shard in range(len(self._keys))
        ]

    def _ranks_of(self, node: Atom) -> list[bytes]:
        prefix = node_prefix(node)
        return [rank(prefix, key) for key in self._keys]
