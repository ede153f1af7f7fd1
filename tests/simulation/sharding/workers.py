"""Programs that act for shards, as users write them, and what a test sees of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from erlmesh import Node
from erlmesh.sharding import Release, ShardEvent, Take
from erlmesh.testing.cluster import Cluster

NAME = "feeds"


class Worker:
    """One program on one node: a loop over the events of ``node.shards``.

    It needs ``release_time`` seconds to release a shard. ``options`` are those of ``node.shards``.
    """

    def __init__(
        self, mesh: Cluster, node: Node, release_time: float = 0.005, name: str = NAME, **options: Any
    ) -> None:
        self.mesh = mesh
        self.node = node
        self.release_time = release_time
        self.running: set[int] = set()
        """The shards that it acts for: from Take to the end of the release."""
        self.events: list[ShardEvent] = []
        self.ended = False
        self.changed_at = mesh.now()
        """When it has taken or released a shard at last."""
        self.version = 0
        """How often it has done so."""
        self.shards = node.shards(name, **options)
        with mesh.machine(node):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        releases: list[asyncio.Task[None]] = []
        async with self.shards:
            async for event in self.shards:
                self.events.append(event)
                self._changed()
                match event:
                    case Take(shard):
                        assert shard not in self.running, f"shard {shard} is taken twice"
                        self.running.add(shard)
                    case Release():
                        releases.append(asyncio.create_task(self._release(event)))
        self.ended = True

    def _changed(self) -> None:
        self.changed_at = self.mesh.now()
        self.version += 1

    async def _release(self, event: Release) -> None:
        if self.release_time:
            await asyncio.sleep(self.release_time)
        self.running.discard(event.shard)
        self._changed()
        event.done()

    @property
    def is_up(self) -> bool:
        """True while the program of this node runs: it was not killed, and the node was not started again."""
        name = self.node.name
        return self.mesh.is_up(name) and self.mesh.node(name) is self.node and not self.ended

    @property
    def is_candidate(self) -> bool:
        """True while its own node sees it in G."""
        return bool(self.node.pg.get_local_members((b"erlmesh_shards", NAME.encode())))

    @property
    def acting(self) -> set[int]:
        """The shards that it acts for now. A node that stands still does nothing."""
        return self.running if self.is_up and not self.mesh.is_paused(self.node) else set()

    @property
    def allowed(self) -> set[int]:
        """The shards that it acts for if it asks ``may_act`` before each act."""
        return {shard for shard in self.acting if self.shards.may_act(shard)}

    async def stop(self) -> None:
        """Leave in order."""
        await self.mesh.run_on(self.node, self.shards.stop)


def holders(workers: Iterable[Worker]) -> dict[int, list[str]]:
    """For each shard that somebody acts for, the names of the nodes."""
    found: dict[int, list[str]] = {}
    for worker in workers:
        for shard in worker.acting:
            found.setdefault(shard, []).append(worker.node.name)
    return found
