"""The part of the workload that is state in shards: acknowledged messages with a backup, and a state that moves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erlmesh import Node
    from erlmesh.sharding import Shards

__all__ = ["acknowledged_rate", "held", "hold", "join", "name_for", "watch"]

TICKS = 100_000
FULL = b"full"
"""The key whose state has so many ticks from the start."""
LOAD_INTERVAL = 0.002
"""Seconds between two messages while the state moves."""

_shards: dict[str, Shards] = {}
_watches: dict[str, asyncio.Task[float]] = {}


class Ticks:
    """The state of a key is a list of ticks. ``apply`` does nothing."""

    all_or_nothing = True

    def new(self, key: bytes) -> list[Any]:
        return [(b"AAPL", number, 1_000_000 + number, 42) for number in range(TICKS)] if key == FULL else []

    def apply(self, state: list[Any], message: Any, at: Any) -> None:
        """Nothing: the rate is that of the shards."""

    def merge(self, ours: list[Any], theirs: list[Any]) -> list[Any]:
        return max(ours, theirs, key=len)

    def dump(self, state: list[Any]) -> Iterable[Any]:
        return state

    def load(self, pieces: Iterable[Any]) -> list[Any]:
        return list(pieces)


def name_for(best: str, other: str) -> str:
    """A name for shards of which the node ``best`` is to hold the only one."""
    from erlmesh.core.sharding.names import shard_key  # noqa: PLC0415 - older versions do not have it
    from erlmesh.core.sharding.rendezvous import node_prefix, rank  # noqa: PLC0415
    from erlmesh.terms import Atom  # noqa: PLC0415

    def rank_of(node: str, name: str) -> bytes:
        return rank(node_prefix(Atom(node)), shard_key(name.encode(), 0))

    return next(name for name in (f"bench{n}" for n in range(1000)) if rank_of(best, name) > rank_of(other, name))


async def join(node: Node, name: str, settle: float = 0.2) -> None:
    """Take part in holding the shard."""
    _shards[name] = node.shards(name, shards=1, keeper=Ticks(), settle=settle)
    _shards[name].start()


async def hold(node: Node, name: str) -> None:
    """Make a long state here, on the only node that takes part."""
    await join(node, name)
    while _shards[name].holder(FULL) is None:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)
    async with node.outbox("first", shards=_shards[name]) as outbox:
        await outbox.put(FULL, 0)
        await outbox.flushed(30)


async def acknowledged_rate(node: Node, name: str, count: int) -> float:
    """Messages per second, from the first ``put`` until all are acknowledged. The holder is another node.

    It has one backup, which is this node.
    """
    async with node.outbox("bench", shards=_shards[name]) as outbox:
        await outbox.put("key", 0)
        await outbox.flushed(30)
        started = time.perf_counter()
        for number in range(count):
            await outbox.put("key", (number, 1234))
        await outbox.flushed(60)
        return count / (time.perf_counter() - started)


def watch(node: Node, name: str, *, load: bool) -> None:
    """Watch the event loop until the shard has moved. With ``load``, put messages meanwhile."""
    _watches[name] = asyncio.create_task(_watch(node, name, load=load))


async def held(name: str) -> float:
    """Milliseconds that the event loop was held at most since :func:`watch`."""
    return await _watches.pop(name)


async def _watch(node: Node, name: str, *, load: bool) -> float:
    shards = _shards[name]
    holder = shards.holder(FULL)
    worst, at, last_put = 0.0, time.thread_time(), 0.0
    async with node.outbox("load", shards=shards) as outbox:
        while shards.holder(FULL) in (holder, None):
            await asyncio.sleep(0)
            now = time.thread_time()  # Other programs on the machine do not count.
            worst, at = max(worst, now - at), now
            if load and now - last_put > LOAD_INTERVAL and outbox.kept < 100:
                last_put = now
                await outbox.put(FULL, (b"AAPL", 1, 2, 3))
        await outbox.flushed(30)
    return worst * 1000
