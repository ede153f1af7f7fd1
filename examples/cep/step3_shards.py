"""Step 3, shards: each symbol has exactly one holder, which is told when to begin and when to let go.

Run it in the folder `examples`::

    python -m cep.step3_shards
"""

import asyncio
from collections import Counter
from typing import ClassVar

from cep.nodes import SYMBOLS, philosophers
from erlmesh import Node
from erlmesh.sharding import Release, Shards, Take

__all__ = ["main"]

SHARDS = 16


class Holder:
    """One candidate. It counts, for all nodes, how many work for a shard at the same time."""

    working: ClassVar[Counter[int]] = Counter()
    most: ClassVar[int] = 0
    events: ClassVar[int] = 0

    def __init__(self, node: Node) -> None:
        self.node = node
        self.shards: Shards = node.shards("averages", shards=SHARDS, settle=0.2)

    async def run(self) -> None:
        async with self.shards:
            async for event in self.shards:
                Holder.events += 1
                match event:
                    case Take(shard):
                        self.working[shard] += 1
                        Holder.most = max(Holder.most, self.working[shard])
                    case Release(shard):
                        await asyncio.sleep(0.01)  # Finish what was begun.
                        self.working[shard] -= 1
                        event.done()


def show(title: str, holders: list[Holder]) -> None:
    print(title)
    for symbol in SYMBOLS:
        found = [holder.shards.holder(symbol) for holder in holders]
        names = {pid.node.name for pid in found if pid is not None}
        print(f"  {symbol.decode()}, shard {holders[0].shards.of(symbol)}: {', '.join(names)}")


async def main() -> None:
    async with philosophers() as nodes, asyncio.TaskGroup() as group:
        holders = [Holder(node) for node in nodes]
        for holder in holders:
            group.create_task(holder.run())
            await quiet(holders)
            show(f"{holder.node.name} has come, and holds {len(holder.shards.held)} of {SHARDS} shards", holders)

        print("aristotle stops")
        await nodes[2].stop()
        await quiet(holders[:2])
        show("socrates and plato hold its shards", holders[:2])
        print(f"at most {Holder.most} worked for a shard at the same time")
        for holder in holders[:2]:
            await holder.shards.stop()


async def quiet(holders: list[Holder]) -> None:
    """Wait until each shard is held, and nothing has moved for a while."""
    before = -1
    while before != Holder.events or sum(len(holder.shards.held) for holder in holders) != SHARDS:
        before = Holder.events
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main())
