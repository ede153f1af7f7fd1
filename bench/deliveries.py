"""The part of the workload that is acknowledged delivery: an inbox that does nothing, and an outbox that measures."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from erlmesh import Node

__all__ = ["acknowledged_rate", "bytes_kept", "round_trips", "serve"]

GROUP = "deliveries"
_tasks: set[asyncio.Task[None]] = set()


async def serve(node: Node) -> None:
    """Receive, and acknowledge at once. Raises AttributeError in a version of erlmesh without inboxes."""
    inbox = node.inbox("bench", group=GROUP)
    inbox.start()

    async def receive() -> None:
        async for delivery in inbox:
            delivery.done()

    task = asyncio.create_task(receive())
    _tasks.add(task)


async def acknowledged_rate(node: Node, count: int) -> float:
    """Messages per second, from the first ``put`` until all are acknowledged."""
    async with node.outbox("bench", group=GROUP) as outbox:
        await outbox.put("key", 0)
        await outbox.flushed(30)
        started = time.perf_counter()
        for number in range(count):
            await outbox.put("key", (number, 1234))
        await outbox.flushed(60)
        return count / (time.perf_counter() - started)


async def round_trips(node: Node, count: int) -> tuple[float, float]:
    """The median and the 99th percentile of the time from ``put`` to the acknowledgement, in microseconds."""
    times = []
    async with node.outbox("bench", group=GROUP) as outbox:
        for number in range(count):
            started = time.perf_counter()
            await outbox.put("key", (number, 1234))
            await outbox.flushed(30)
            times.append((time.perf_counter() - started) * 1e6)
    times.sort()
    return times[count // 2], times[count * 99 // 100]


async def bytes_kept(node: Node, count: int) -> float:
    """The memory that a message of 12 bytes takes while it is kept."""
    async with node.outbox("bench", group="nobody", credit=count + 1) as outbox:
        await outbox.put("key", 0)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            for number in range(count):
                await outbox.put("key", (number + 1000, 1234))
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    return (after - before) / count
