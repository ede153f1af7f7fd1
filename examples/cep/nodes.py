"""Three nodes in one process, for the steps of the README."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

from erlmesh import Node

__all__ = ["PHILOSOPHERS", "SYMBOLS", "philosophers", "random_ticks", "until"]

PHILOSOPHERS = ("socrates", "plato", "aristotle")
SYMBOLS = (b"AAPL", b"AMZN", b"GOOG", b"MSFT", b"NFLX", b"TSLA")
"""As bytes, which is what a receiver on another node gets."""


@asynccontextmanager
async def philosophers() -> AsyncIterator[list[Node]]:
    """Start the nodes and connect them."""
    first = f"{PHILOSOPHERS[0]}@127.0.0.1"
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        for name in PHILOSOPHERS:
            node = Node(f"{name}@127.0.0.1", cookie="monster", join=[first] if nodes else [])
            nodes.append(await stack.enter_async_context(node))
            await node.joined()
        await until(lambda: all(len(node.nodes()) == len(nodes) - 1 for node in nodes))
        yield nodes


def random_ticks(count: int, seed: int = 1) -> list[tuple[bytes, int]]:
    """Symbols and prices in cents. The same seed gives the same ticks."""
    random = Random(seed)
    return [(random.choice(SYMBOLS), random.randrange(9_000, 11_000)) for _ in range(count)]


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until ``condition`` is true. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is about other nodes
            await asyncio.sleep(0.005)
