"""When a cluster is whole and nothing is under way in it, and what people do to have it so."""

from __future__ import annotations

import asyncio
from typing import Final

from erlmesh.testing.stories.invariants import check
from erlmesh.testing.stories.world import Life, World

__all__ = ["help_to_meet", "is_at_rest", "state", "wait_for_rest"]

RECOVERY: Final = 600.0
"""Virtual seconds until a healed cluster must be whole and at rest."""


async def wait_for_rest(world: World, *, times: int = 3) -> None:
    """Until the cluster is at rest, ``times`` times in a row, a tick time apart. Raises Broken if it never is."""
    started = world.cluster.now()
    calm = 0
    while calm < times:  # what is half open shows itself within a tick time and a quarter
        await asyncio.sleep(world.net_ticktime)
        check(world)
        calm = calm + 1 if is_at_rest(world) else 0
        if not world.reconnect:
            help_to_meet(world)
        if world.cluster.now() - started > RECOVERY + 10 * world.net_ticktime:
            world.blame(f"not at rest after {world.cluster.now() - started:g} s: {state(world)}")
            check(world)


def is_at_rest(world: World) -> bool:
    return (
        world.cluster.is_complete()
        and not world.errands
        and all(_is_synced(world, life) for life in world.lives.values())
    )


def _is_synced(world: World, life: Life) -> bool:
    statistics = life.node.global_.statistics()
    others = len(world.lives) - 1
    return len(statistics.known) == others and len(statistics.synced) == others and not statistics.in_session


def state(world: World) -> str:
    nodes = {life.node.name: (life.node.nodes(), life.node.global_.statistics()) for life in world.lives.values()}
    return f"{nodes} {list(world.errands.values())}"


def help_to_meet(world: World) -> None:
    """As users and discovery do: says once who belongs together, or, without reconnection, dials again and again."""
    if world.reconnect:
        first, *others = world.lives.values()
        for life in others:
            with world.cluster.machine(life.node):
                life.node.keep_connecting(first.node.name)
        return
    for one in world.lives.values():
        for other in world.lives.values():
            if one.node.name < other.node.name and other.node.name not in one.node.nodes():
                world.connect(one, other)
