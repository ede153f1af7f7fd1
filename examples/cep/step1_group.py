"""Step 1, a process group: each tick goes to any member. So no member has all ticks of a symbol.

Run it in the folder `examples`::

    python -m cep.step1_group
"""

import asyncio
from collections import defaultdict
from typing import Any

from cep.nodes import SYMBOLS, philosophers, random_ticks, until
from erlmesh import Atom, Node, Process

__all__ = ["GROUP", "average", "main"]

GROUP = "averages"


async def average(me: Process) -> None:
    """Keep the prices of each symbol, and tell the sum and the number to who asks."""
    prices: dict[bytes, list[int]] = defaultdict(list)
    me.node.pg.join(GROUP, me.pid)
    async for message in me:
        match message:
            case (Atom("tick"), bytes(symbol), int(price)):
                prices[symbol].append(price)
            case (Atom("$gen_call"), caller, bytes(symbol)):
                me.reply(caller, (sum(prices[symbol]), len(prices[symbol])))


async def ask_all(node: Node, symbol: bytes) -> list[Any]:
    """What each member knows of a symbol: the sum and the number of its prices."""
    return [await node.call(pid, symbol) for pid in node.pg.get_members(GROUP)]


async def main() -> None:
    ticks = random_ticks(600)
    async with philosophers() as nodes:
        for node in nodes:
            node.spawn(average)
        source = nodes[0]
        await until(lambda: len(source.pg.get_members(GROUP)) == len(nodes))

        for symbol, price in ticks:
            member = source.pg.pick(GROUP, "random")
            assert member is not None
            source.send(member, (Atom("tick"), symbol, price))

        for symbol in SYMBOLS:
            known = await ask_all(source, symbol)
            means = ", ".join(f"{total / count / 100:.2f} of {count} ticks" for total, count in known)
            print(f"{symbol.decode()}: {means}; there are {sum(symbol == each for each, _ in ticks)}")


if __name__ == "__main__":
    asyncio.run(main())
