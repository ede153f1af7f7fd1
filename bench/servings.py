"""The part of the workload that is a serving. ``mesh_bench.erl`` has the same for a BEAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erlmesh import serving

if TYPE_CHECKING:
    from erlmesh import Node

__all__ = ["serve"]


@serving(name="serving", batch_size=32, wait=0.001, limit=1000)
async def increment(inputs: list[int]) -> list[int]:
    """Add one to each input, in the event loop: the row measures the way to the function and back."""
    return [number + 1 for number in inputs]


async def serve(node: Node) -> None:
    if node.whereis("serving") is None:
        await increment.start(node)
