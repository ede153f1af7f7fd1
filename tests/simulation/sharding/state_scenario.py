"""Histories of states under faults: random ones with one fault at a time, and directed ones."""

from __future__ import annotations

import asyncio

from simulation.sharding.state_world import World, make_world

__all__ = ["ACTS", "random_history"]

NAMES = "abcdef"
LEAST = 3
"""Members that run at least."""


async def kill(world: World) -> None:
    if len(world.up) > LEAST:
        world.mesh.kill(world.mesh.random.choice(world.up).node, silently=world.mesh.random.random() < 0.3)


async def start(world: World) -> None:
    down = [name for name in NAMES if not any(member.node.name.startswith(name + "@") for member in world.up)]
    if down:
        await world.start(world.mesh.random.choice(down))


async def restart(world: World) -> None:
    if len(world.up) >= LEAST:
        member = world.mesh.random.choice(world.up)
        world.mesh.kill(member.node)
        await world.run_for(world.mesh.random.choice([0.0, 0.05, 3.0]))
        await world.start(member.node.name.partition("@")[0])


async def stop(world: World) -> None:
    if len(world.up) > LEAST:
        member = world.mesh.random.choice(world.up)
        stopping = asyncio.create_task(world.mesh.stop(member.node))
        await world.run_for(0.3)
        await stopping


async def pause(world: World) -> None:
    member = world.mesh.random.choice(world.up)
    world.mesh.pause(member.node)
    await world.run_for(world.mesh.random.choice([0.5, 3.0, 25.0]))
    world.mesh.resume(member.node)


async def partition(world: World) -> None:
    members = list(world.up)
    if len(members) < 4:
        return
    world.mesh.random.shuffle(members)
    sides = members[:2], members[2:]
    world.mesh.partition([member.node for member in sides[0]], [world.sink_node, *(member.node for member in sides[1])])
    await world.run_for(world.mesh.random.choice([0.5, 5.0, 25.0]))
    world.mesh.heal()


async def cut_one_way(world: World) -> None:
    one, other = world.mesh.random.sample(world.up, 2)
    world.mesh.cut(one.node, other.node, both=False)
    await world.run_for(world.mesh.random.choice([0.5, 5.0, 25.0]))
    world.mesh.heal()


async def reset(world: World) -> None:
    one, other = world.mesh.random.sample(world.up, 2)
    world.mesh.reset(one.node, other.node)


ACTS = [kill, kill, start, start, restart, stop, pause, partition, cut_one_way, reset]


async def random_history(seed: int, acts: int = 6) -> list[str]:
    """One fault after the other under load. Between two faults the cluster comes to rest, and everything is checked."""
    world = await make_world(seed)
    for _ in range(acts):
        act = world.mesh.random.choice(ACTS)
        world.mesh.note(f"act {act.__name__}")
        await world.run_for(0.2)
        await act(world)
        await world.run_for(0.2)
        await world.rest_and_check()
    for name in world.mesh.names():
        world.mesh.kill(name)
    return world.mesh.history
