"""The candidates for the shards of one name, and which of them is the first for each shard.

It gives the same answers as :class:`~erlmesh.core.sharding.rendezvous.Rendezvous` for the keys of the shards. But the
ranks of a node are computed once, when it comes, and a change costs no digest of any other node.
"""

from __future__ import annotations

from collections import Counter

from erlmesh.core.sharding.names import shard_key
from erlmesh.core.sharding.rendezvous import node_prefix, rank
from erlmesh.terms import Atom, Pid
from erlmesh.terms.order import sort_key

__all__ = ["Candidates"]

_SIZE = 16
"""Bytes of a rank."""


class _Node:
    """A node with candidates. ``ranks`` are its ranks for all shards, one behind the other."""

    __slots__ = ("first", "pids", "ranks")

    def __init__(self, ranks: bytes, pid: Pid) -> None:
        self.ranks = ranks
        self.pids = Counter([pid])
        self.first = pid
        """The least pid in Erlang's order. It stands for the node."""

    def rank(self, shard: int) -> bytes:
        return self.ranks[shard * _SIZE : (shard + 1) * _SIZE]


class Candidates:
    """The candidates of ``name``, as one node knows them. A pid may join several times."""

    def __init__(self, name: bytes, shards: int) -> None:
        self._keys = [shard_key(name, shard) for shard in range(shards)]
        self._nodes: dict[Atom, _Node] = {}
        self._best: list[_Node | None] = [None] * shards

    def __len__(self) -> int:
        """The number of nodes that have candidates."""
        return len(self._nodes)

    def first(self, shard: int) -> Pid | None:
        """The candidate that is to hold ``shard``. None if there are none."""
        best = self._best[shard]
        return None if best is None else best.first

    def join(self, pid: Pid) -> bool:
        """Add a candidate. True if the first candidate of some shard may have changed."""
        node = self._nodes.get(pid.node)
        if node is None:
            prefix = node_prefix(pid.node)
            node = self._nodes[pid.node] = _Node(b"".join(rank(prefix, key) for key in self._keys), pid)
            for shard, best in enumerate(self._best):
                if best is None or node.rank(shard) > best.rank(shard):
                    self._best[shard] = node
            return True
        node.pids[pid] += 1
        return self._choose_first(node)

    def leave(self, pid: Pid) -> bool:
        """Remove a candidate once; a pid that is none changes nothing. True if the first of some shard may differ."""
        node = self._nodes.get(pid.node)
        if node is None or pid not in node.pids:
            return False
        node.pids[pid] -= 1
        if node.pids[pid]:
            return False
        del node.pids[pid]
        if node.pids:
            return self._choose_first(node)
        del self._nodes[pid.node]
        for shard, best in enumerate(self._best):
            if best is node:
                self._best[shard] = max(self._nodes.values(), key=lambda each: each.rank(shard), default=None)
        return True

    def _choose_first(self, node: _Node) -> bool:
        before, node.first = node.first, min(node.pids, key=sort_key)
        return node.first != before
