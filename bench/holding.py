"""The part of the workload that holds shards, and what it tells of a takeover."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from erlmesh.sharding import Release, Take

if TYPE_CHECKING:
    from erlmesh import Node

__all__ = ["SHARDS", "held", "serve", "taken_at"]

SHARDS = 64
_taken: dict[int, float] = {}
_tasks: set[asyncio.Task[None]] = set()


async def serve(node: Node) -> None:
    """Hold shards, with a release that takes no time."""

    async def hold() -> None:
        async with node.shards("bench", shards=SHARDS) as shards:
            async for event in shards:
                match event:
                    case Take(shard):
                        _taken[shard] = time.time()
                    case Release(shard):
                        del _taken[shard]
                        event.done()

    _tasks.add(asyncio.create_task(hold()))


def held() -> int:
    """The number of shards that this node holds."""
    return len(_taken)


def taken_at() -> float:
    """When this node has taken its last shard, by the clock of the machine."""
    return max(_taken.values(), default=0.0)
