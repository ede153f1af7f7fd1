"""Step 4, an outbox: each tick is kept until its owner has acknowledged it. If the owner is lost, the next one gets it.

Run it in the folder `examples`::

    python -m cep.step4_outbox
"""

import asyncio
from collections import Counter

from cep.nodes import SYMBOLS, philosophers, random_ticks, until
from erlmesh import Node

__all__ = ["main"]

GROUP = "averages"


class Average:
    """A member of the group. It counts what it has got, and acknowledges it."""

    def __init__(self, node: Node) -> None:
        self.name = node.name.partition("@")[0]
        self.counts: Counter[bytes] = Counter()
        self.inbox = node.inbox("ticks", group=GROUP)

    async def run(self) -> None:
        async with self.inbox:
            async for delivery in self.inbox:
                self.counts[delivery.key] += 1
                delivery.done()


async def main() -> None:
    ticks = random_ticks(3_000)
    async with philosophers() as nodes, asyncio.TaskGroup() as group:
        averages = [Average(node) for node in nodes]
        for average in averages:
            group.create_task(average.run())
        source, _, aristotle = nodes
        await until(lambda: len(source.pg.get_members(GROUP)) == len(nodes))

        outbox = source.outbox("ticks", group=GROUP, credit=100)
        for number, (symbol, price) in enumerate(ticks):
            await outbox.put(symbol, price)  # It waits while 100 ticks for the owner are not acknowledged.
            if number == len(ticks) // 2:
                group.create_task(aristotle.stop(grace=0))
        await outbox.flushed()

        total: Counter[bytes] = Counter()
        for average in averages:
            total += average.counts
            print(f"{average.name} has {sum(average.counts.values())} ticks")
        acknowledged = sum(total[symbol] >= sum(symbol == each for each, _ in ticks) for symbol in SYMBOLS)
        print(f"all ticks of {acknowledged} of {len(SYMBOLS)} symbols have arrived")
        outbox.close()
        for average in averages:
            average.inbox.close()


if __name__ == "__main__":
    asyncio.run(main())
