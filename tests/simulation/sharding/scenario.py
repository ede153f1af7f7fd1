"""Random histories of nodes that hold shards: acts of a nemesis, and the invariants at every moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from erlmesh import Node
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run
from simulation.sharding.invariants import STEP, ShardInvariants
from simulation.sharding.workers import Worker

__all__ = ["ShardScenario", "run_shard_scenario"]

TICK_TIME = 4.0
SHARDS = 12


class ShardScenario:
    """One random history. Half of the seeds have a quorum of more than half of the nodes."""

    def __init__(self, seed: int, acts: int = 14) -> None:
        self.cluster = Cluster(seed, net_ticktime=TICK_TIME, wire=seed % 3 == 0)
        self.random = self.cluster.random
        self.names = ["a", "b", "c", "d", "e"][: self.random.choice([3, 3, 4, 5])]
        self.quorum = len(self.names) // 2 + 1 if seed % 2 else 1
        self.release_time = self.random.choice([0.0, 0.005, 0.005, 0.1])
        self.acts = acts
        self.virtual_seconds = 0.0
        self.workers: list[Worker] = []
        self.invariants = ShardInvariants(
            self.cluster, self.workers, tick_time=TICK_TIME, quorum=self.quorum, release_time=self.release_time
        )
        self._acts: list[Callable[[], Awaitable[None]]] = [
            self._kill, self._kill, self._kill_silently, self._start, self._start, self._start, self._stop,
            self._restart_worker, self._pause, self._pause_long, self._partition, self._partition,
            self._cut_one_way, self._cut, self._reset,
        ]  # fmt: skip
        if self.quorum == 1:  # A quorum does not cover a connection that one side alone has lost: see fence.py.
            self._acts.append(self._half_open)

    async def run(self) -> str:
        """Run the scenario and return a fingerprint. Raises ShardViolation."""
        async with self.cluster:
            for name in self.names[: self.random.randint(2, len(self.names))]:
                await self._start_node(name)
            looker = asyncio.create_task(self._look_on())
            acting = asyncio.create_task(self._act_and_rest())
            try:
                await asyncio.wait([looker, acting], return_when=asyncio.FIRST_COMPLETED)
                for task in (looker, acting):
                    if task.done():
                        task.result()
            finally:
                looker.cancel()
                acting.cancel()
                self.virtual_seconds = self.cluster.now()
            return self.cluster.digest()

    async def _look_on(self) -> None:
        while True:
            self.invariants.look()
            await asyncio.sleep(STEP)

    async def _act_and_rest(self) -> None:
        await self._rest()
        for _ in range(self.acts):
            await self.random.choice(self._acts)()
            self.invariants.look()
            await asyncio.sleep(self.random.choice([0.0, 0.01, 0.3, 1.0, TICK_TIME * 0.7, TICK_TIME * 1.5]))
            if self.random.random() < 0.25:
                await self._rest()
        await self._rest()

    async def _rest(self) -> None:
        """Heal everything, wait until the mesh is whole, and compare all nodes."""
        self.cluster.heal()
        for name in self.cluster.names():
            self._resume(name)
        self.invariants.disturbed()

        def is_at_rest() -> bool:
            self.invariants.look_closely()
            now, since = self.cluster.now(), self.invariants.whole_since
            living = [worker for worker in self.workers if worker.is_up]
            return (
                since is not None
                and now - since >= 0.1 + self.invariants.takeover
                and all(worker.is_candidate and now - worker.changed_at >= 0.1 for worker in living)
            )

        # A connection that is half open may break the mesh once more.
        await self.cluster.wait_until(is_at_rest, description="a mesh that stays whole")
        self.invariants.at_rest()

    # Acts

    def _running(self) -> list[str]:
        return [name for name in self.cluster.names() if not self.cluster.is_paused(name)]

    async def _start_node(self, name: str) -> None:
        others = [self.cluster.name(each) for each in self.names if each in self._started() and each != name]
        (node,) = await self.cluster.start(name, join=others)
        self._start_worker(node)

    def _started(self) -> list[str]:
        return [name.partition("@")[0] for name in self.cluster.names()]

    def _start_worker(self, node: Node) -> None:
        self.workers[:] = [worker for worker in self.workers if worker.is_up]
        self.workers.append(
            Worker(self.cluster, node, self.release_time, shards=SHARDS, quorum=self.quorum, settle=0.5)
        )

    async def _start(self) -> None:
        missing = [name for name in self.names if name not in self._started()]
        if missing:
            await self._start_node(self.random.choice(missing))

    async def _kill(self) -> None:
        if len(self.cluster) > 1:
            self.cluster.kill(self.random.choice(self.cluster.names()))

    async def _kill_silently(self) -> None:
        if len(self.cluster) > 1:
            self.cluster.kill(self.random.choice(self.cluster.names()), silently=True)

    async def _stop(self) -> None:
        if len(self.cluster) > 1 and self._running():
            await self.cluster.stop(self.random.choice(self._running()))

    async def _restart_worker(self) -> None:
        ready = [worker for worker in self.workers if worker.is_up and worker.node.name in self._running()]
        if ready:
            worker = self.random.choice(ready)
            await worker.stop()
            self._start_worker(worker.node)

    async def _pause(self) -> None:
        await self._pause_for(self.random.uniform(0.05, 0.7) * TICK_TIME)

    async def _pause_long(self) -> None:
        await self._pause_for(self.random.uniform(0.7, 2.5) * TICK_TIME)

    async def _pause_for(self, seconds: float) -> None:
        if self._running():
            name = self.random.choice(self._running())
            self.cluster.pause(name)
            self.invariants.disturbed()
            asyncio.get_running_loop().call_later(seconds, self._resume, name)

    def _resume(self, name: str) -> None:
        if self.cluster.is_up(name) and self.cluster.is_paused(name):
            self.cluster.resume(name)
            self.invariants.disturbed()
            self.invariants.look()

    def _pair(self) -> tuple[str, str] | None:
        names = self.cluster.names()
        if len(names) < 2:
            return None
        one, two = self.random.sample(names, 2)
        return one, two

    async def _partition(self) -> None:
        names = self.cluster.names()
        self.random.shuffle(names)
        size = self.random.randint(1, max(1, len(names) - 1))
        self.cluster.partition(names[:size], names[size:])
        self.invariants.disturbed()

    async def _cut(self) -> None:
        if pair := self._pair():
            self.cluster.cut(*pair)
            self.invariants.disturbed()

    async def _cut_one_way(self) -> None:
        if pair := self._pair():
            self.cluster.cut(*pair, both=False)
            self.invariants.disturbed()

    async def _reset(self) -> None:
        if pair := self._pair():
            self.cluster.reset(*pair)
            self.invariants.disturbed()

    async def _half_open(self) -> None:
        if pair := self._pair():
            self.cluster.half_open(*pair)
            self.invariants.disturbed()


def run_shard_scenario(seed: int) -> str:
    """Run one scenario in a new loop. Raises ShardViolation."""
    return run(ShardScenario(seed).run)
