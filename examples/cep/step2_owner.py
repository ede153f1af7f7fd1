"""Step 2, an owner for each symbol: all nodes choose the same member. When its node ends, its ticks are lost.

Run it in the folder `examples`::

    python -m cep.step2_owner
"""

import asyncio
from typing import Any

from cep.nodes import SYMBOLS, philosophers, random_ticks, until
from cep.step1_group import GROUP, average
from erlmesh import Atom, Node

__all__ = ["main"]


async def show(node: Node, ticks: list[tuple[bytes, int]]) -> None:
    for symbol in SYMBOLS:
        owner = node.pg.owner(GROUP, symbol)
        assert owner is not None
        known: Any = await node.call(owner, symbol)
        total, count = known
        mean = f"{total / count / 100:.2f}" if count else "none"
        sent = sum(symbol == each for each, _ in ticks)
        print(f"{symbol.decode()} at {owner.node.name}: {mean}, {count} of {sent} ticks")


async def main() -> None:
    ticks = random_ticks(600)
    async with philosophers() as nodes:
        for node in nodes:
            node.spawn(average)
        source, _, aristotle = nodes
        await until(lambda: all(len(node.pg.get_members(GROUP)) == len(nodes) for node in nodes))
        owners = [[node.pg.owner(GROUP, symbol) for symbol in SYMBOLS] for node in nodes]
        assert owners[0] == owners[1] == owners[2]

        for symbol, price in ticks:
            owner = source.pg.owner(GROUP, symbol)
            assert owner is not None
            source.send(owner, (Atom("tick"), symbol, price))
        await show(source, ticks)

        print("aristotle stops")
        await aristotle.stop()
        await until(lambda: len(source.pg.get_members(GROUP)) == len(nodes) - 1)
        await show(source, ticks)


if __name__ == "__main__":
    asyncio.run(main())
