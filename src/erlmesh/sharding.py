"""Each shard is held by one process of a group of nodes: ``node.shards``. This module exports the names for it."""

from __future__ import annotations

from erlmesh.services.sharding.events import Release, ShardEvent, Take
from erlmesh.services.sharding.shards import Shards

__all__ = ["Release", "ShardEvent", "Shards", "Take"]
