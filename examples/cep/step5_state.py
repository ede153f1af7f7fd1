"""Step 5, state in shards: the window of a symbol has a copy on another node. When its owner dies, nothing is lost.

Run it in the folder `examples`::

    python -m cep.step5_state
"""

import asyncio
import time
from typing import Any

from cep import oracle
from cep.nodes import SYMBOLS, philosophers, random_ticks, until
from cep.processor import Averages, source_name
from cep.symbol import END, FINAL, Settings
from cep.window import Tick, Timed
from erlmesh import Node, Pid
from erlmesh.sharding import Inbox, Shards

__all__ = ["main"]

SETTINGS = Settings(span=Timed(200), lateness=100)
SHARDS = 16


async def own(node: Node) -> None:
    """Keep the state of symbols: own some, and have copies of others."""
    async with node.shards("cep", shards=SHARDS, settle=0.2, keeper=Averages(SETTINGS), results="results") as shards:
        async for _ in shards:
            pass  # With a keeper there are no events. The loop ends with the node.


async def collect(inbox: Inbox, finals: dict[tuple[bytes, int], tuple[int, int]]) -> None:
    """A sink: keep the final means by symbol and number."""
    async with inbox:
        async for delivery in inbox:
            results: Any = delivery.message
            for result in results:
                if result[0] is FINAL:
                    _, _, number, _, *mean = result
                    finals[delivery.key, number] = mean[0], mean[1]
            delivery.done()


def holders(shards: Shards) -> list[Pid | None]:
    return [shards.holder_of(shard) for shard in range(SHARDS)]


async def main() -> None:
    finals: dict[tuple[bytes, int], tuple[int, int]] = {}
    sent: dict[bytes, list[Tick]] = {symbol: [] for symbol in SYMBOLS}
    async with philosophers() as nodes, asyncio.TaskGroup() as group:
        source, lost, _ = nodes
        for node in nodes:
            group.create_task(own(node))
        sink = source.inbox("cep", group="results")
        group.create_task(collect(sink, finals))
        shards = source.shards("cep", shards=SHARDS)
        await until(lambda: len(set(holders(shards))) == len(nodes) and None not in holders(shards))

        outbox = source.outbox("ticks", shards=shards)
        name = source_name(outbox.source)
        start = round(time.time() * 1000)
        for position, (symbol, price) in enumerate(random_ticks(3_000)):
            number = await outbox.put(symbol, (start + position, price))
            sent[symbol].append(Tick(start + position, name, number, price))
            if position == 1_500:
                owners = {each.decode(): shards.holder(each) for each in SYMBOLS}
                owned = [each for each, owner in owners.items() if owner is not None and owner.node.name == lost.name]
                print(f"{lost.name} is lost, the owner of {', '.join(owned)}")
                group.create_task(lost.stop(grace=0))
        for symbol in SYMBOLS:
            await outbox.put(symbol, END)
        await outbox.flushed()
        await until(lambda: len(finals) == sum(map(len, sent.values())))

        for symbol, ticks in sent.items():
            means = oracle.final_means(ticks, SETTINGS.span)
            right = sum(finals[symbol, number] == mean for (_, number), mean in means.items())
            print(f"{symbol.decode()}: {right} of {len(ticks)} means are those of one process")
        outbox.close()
        sink.close()
        for node in nodes:
            await node.stop()


if __name__ == "__main__":
    asyncio.run(main())
