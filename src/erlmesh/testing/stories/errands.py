"""What takes all nodes to do: changes of pg2 groups and global names, and critical sections under a lock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from erlmesh.node import Node, Process
from erlmesh.services.group_names import normalize_group_name
from erlmesh.terms import Term, exact_key
from erlmesh.testing.inside import connected_since
from erlmesh.testing.stories.world import NAMES, PG2, RESOURCES, Holding, World

__all__ = ["hold", "lock", "name", "pg2"]


def pg2(world: World) -> None:
    actor, group = world.some_actor(), world.random.choice(PG2)
    if actor is None:
        return
    node, pg2 = actor.node, actor.node.pg2
    work: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "create": lambda: pg2.create(group),
        "join": lambda: pg2.join(group, actor.pid),
        "leave": lambda: pg2.leave(group, actor.pid),
        "delete": lambda: pg2.delete(group),
    }
    what = world.random.choices(list(work), (3, 4, 2, 1))[0]
    if what == "join":
        world.pg2_joins[exact_key(normalize_group_name(group)), actor.pid] += 1
    world.errand(node, f"pg2 {what} {group}", work[what])


def name(world: World) -> None:
    actor, name = world.some_actor(), world.random.choice(NAMES)
    if actor is None:
        return
    names = actor.node.global_
    if world.random.random() < 0.7:
        world.errand(actor.node, f"register {name}", lambda: names.register(name, actor.pid))
    else:
        world.errand(actor.node, f"unregister {name}", lambda: names.unregister(name))


def lock(world: World) -> None:
    life, resource = world.some_life(), world.random.choice(RESOURCES)
    if life is not None:
        seconds = world.random.choice((0.0, 0.1, 2.0))
        world.errand(life.node, f"lock {resource}", lambda: hold(world, life.node, resource, seconds))


async def hold(world: World, node: Node, resource: Term, seconds: float) -> None:
    """A critical section, in a process of its own."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    holding = Holding(resource, node, world.cluster.now())

    async def body(me: Process) -> None:
        try:
            async with node.global_.trans((resource, me.pid), me=me):
                _enter(world, holding)
                await me.sleep(seconds)
                _leave(world, holding)
        finally:
            _leave(world, holding)
            if not over.done():
                over.set_result(None)

    node.spawn(body)
    await over


def _enter(world: World, mine: Holding) -> None:
    for other in world.holdings:
        if other.resource == mine.resource and _exclude(mine, other):
            world.blame(f"{mine.node.name} and {other.node.name} both hold {mine.resource}")
    world.holdings.append(mine)


def _leave(world: World, mine: Holding) -> None:
    world.holdings = [holding for holding in world.holdings if holding is not mine]


def _exclude(one: Holding, other: Holding) -> bool:
    """Whether the two could see each other all the time since either asked for the lock."""
    if one.node is other.node:
        return True
    here, there = connected_since(one.node, other.node.name), connected_since(other.node, one.node.name)
    if here is None or there is None or abs(here - there) > 1.0:
        return False
    return max(here, there) < min(one.asked, other.asked)
