"""The plot of a story: how it begins, what may happen and how often, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from erlmesh.testing.clock import run
from erlmesh.testing.stories import ending, errands, people, storms
from erlmesh.testing.stories.invariants import check
from erlmesh.testing.stories.world import World

__all__ = ["Story", "tell"]

ACTS: Final[list[tuple[int, Callable[[World], Any]]]] = [
    (6, people.spawn), (8, people.join), (4, people.leave), (3, people.die), (3, people.stop),
    (5, people.talk), (4, people.link), (2, people.unlink), (4, people.watch), (2, people.unwatch),
    (4, storms.meet), (2, storms.meet_both_ways), (1, storms.part), (1, storms.disconnect_both),
    (2, storms.late_scope), (1, storms.forget_watcher),
    (3, errands.pg2), (3, errands.name), (3, errands.lock),
    (2, storms.pause), (3, storms.resume), (1, storms.crash), (1, storms.power_failure), (1, storms.leave_in_order),
    (3, storms.restart),
    (2, storms.cut), (2, storms.cut_one_way), (1, storms.partition), (4, storms.heal), (2, storms.reset),
    (2, storms.half_open),
]  # fmt: skip
"""What may happen, and how often."""


class Story:
    """Tell it with :meth:`tell`, once, on a :class:`~erlmesh.testing.clock.Clock`. ``acts`` and
    ``exams`` are how many there are.
    """

    def __init__(self, seed: int, *, nodes: int | None = None, acts: int = 40, exams: int = 3) -> None:
        self.world = World(seed, nodes)
        self.acts = acts
        self.exams = exams
        self.lasted = 0.0
        """Virtual seconds."""

    async def tell(self) -> str:
        """Raises Broken, or gives the fingerprint of the history."""
        world = self.world
        try:
            async with world.listening(), world.cluster:
                await self._begin()
                for _ in range(self.acts):
                    await self._act()
                    await self._pass_time()
                    check(world)
                await ending.recover(world)
                await ending.compare(world, exams=self.exams)
                await ending.farewell(world)
                return world.cluster.digest()
        finally:
            self.lasted = world.cluster.now()

    async def _begin(self) -> None:
        world = self.world
        for index in range(world.size):
            await world.birth(chr(ord("a") + index))
        for life in list(world.lives.values())[1:]:
            if world.random.random() < 0.8:
                world.connect(life, world.random.choice(list(world.lives.values())))

    async def _act(self) -> None:
        (chosen,) = self.world.random.choices([act for _, act in ACTS], [weight for weight, _ in ACTS])
        result = chosen(self.world)
        if asyncio.iscoroutine(result):
            await result

    async def _pass_time(self) -> None:
        chance, tick = self.world.random, self.world.net_ticktime
        kind = chance.random()
        if kind < 0.25:
            return
        longest = 0.01 if kind < 0.5 else 0.3 if kind < 0.75 else 3.0 if kind < 0.92 else tick * 1.5
        await asyncio.sleep(chance.uniform(0.0, longest))


def tell(seed: int, **options: Any) -> str:
    """Tells one story; the fingerprint of its history. Raises Broken."""
    return run(Story(seed, **options).tell)
