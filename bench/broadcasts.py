"""The part of the workload that uses Phoenix.PubSub. ``mesh_bench.erl`` has what its worker does on a BEAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlmesh import Atom
from erlmesh.phoenix import PubSub

if TYPE_CHECKING:
    from erlmesh import Node, Process

__all__ = ["serve"]

PING = Atom("ping")


async def serve(node: Node) -> None:
    if node.whereis("broadcaster") is not None:
        return
    pubsub = PubSub(node, "Bench.PubSub")
    await pubsub.start()
    pubsub.subscribe("in", node.whereis("sink"))
    node.spawn(broadcaster, pubsub, name="broadcaster")


async def broadcaster(me: Process, pubsub: PubSub) -> None:
    async for _, count in me:
        for number in range(count, 0, -1):
            await pubsub.broadcast("out", (PING, number))
