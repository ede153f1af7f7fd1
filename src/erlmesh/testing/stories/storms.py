"""What happens to nodes and to the network of a story: they meet and part, stand still, crash and come back."""

from __future__ import annotations

from erlmesh.services.pg.server import Pg
from erlmesh.testing.actors import Groups
from erlmesh.testing.stories.world import LATE, World

__all__ = [
    "crash",
    "cut",
    "cut_one_way",
    "disconnect_both",
    "forget_watcher",
    "half_open",
    "heal",
    "late_scope",
    "leave_in_order",
    "meet",
    "meet_both_ways",
    "part",
    "partition",
    "pause",
    "power_failure",
    "reset",
    "restart",
    "resume",
]


def late_scope(world: World) -> None:
    lives = [life for life in world.awake() if "late" not in life.scopes]
    if lives:
        life = world.random.choice(lives)
        world.note(f"late scope {life.node.name}")
        with world.cluster.machine(life.node):
            world.open_scope(life, "late", Pg(life.node, LATE))


def forget_watcher(world: World) -> None:
    life = world.some_life()
    if life is not None:
        watcher = world.random.choice(life.watchers)
        watcher.close()
        with world.cluster.machine(life.node):
            life.watchers.append(Groups(watcher.pg, world.note, f"{life.node.name} again"))


# Connections


def meet(world: World) -> None:
    pair = world.some_pair()
    if pair is not None:
        one, other = pair
        world.errand(one.node, "ping", lambda: one.node.ping(other.node.name))


def meet_both_ways(world: World) -> None:
    pair = world.some_pair()
    if pair is not None:
        world.connect(*pair)
        if pair[1] in world.awake():
            world.connect(pair[1], pair[0])


def part(world: World) -> None:
    pair = world.some_pair()
    if pair is not None:
        world.note(f"{pair[0].node.name} disconnects {pair[1].node.name}")
        with world.cluster.machine(pair[0].node):
            pair[0].node.disconnect_nowait(pair[1].node.name)


def disconnect_both(world: World) -> None:
    part(world)
    meet_both_ways(world)


# Machines


def pause(world: World) -> None:
    if len(world.awake()) > 1:
        world.cluster.pause(world.random.choice(world.awake()).node)


def resume(world: World) -> None:
    paused = [life for life in world.lives.values() if world.cluster.is_paused(life.node)]
    if paused:
        world.cluster.resume(world.random.choice(paused).node)


def crash(world: World, *, silently: bool = False) -> None:
    if len(world.lives) > 1:
        name = world.random.choice(list(world.lives))
        world.cluster.crash(name, silently=silently)
        world.lost(name)


def power_failure(world: World) -> None:
    crash(world, silently=True)


async def leave_in_order(world: World) -> None:
    life = world.some_life()
    if life is not None and len(world.lives) > 1:
        world.leave_sections(life)
        await world.cluster.stop(life.node)
        world.lost(life.node.name)


async def restart(world: World) -> None:
    if world.dead:
        name = world.dead.pop(world.random.randrange(len(world.dead)))
        others = list(world.lives)
        join = [world.random.choice(others)] if others and world.random.random() < 0.7 else []
        await world.birth(name, join=join)


# Network


def cut(world: World, *, both: bool = True) -> None:
    pair = world.some_pair()
    if pair is not None:
        world.cluster.cut(pair[0].node, pair[1].node, both=both)


def cut_one_way(world: World) -> None:
    cut(world, both=False)


def partition(world: World) -> None:
    names = list(world.lives)
    world.random.shuffle(names)
    where = world.random.randrange(len(names))
    world.cluster.partition(names[:where], names[where:])


def heal(world: World) -> None:
    cuts = world.cluster.cuts()
    if cuts:
        if world.random.random() < 0.5:
            world.cluster.heal()
        else:
            world.cluster.heal(*world.random.choice(cuts))


def reset(world: World) -> None:
    pair = world.some_pair()
    if pair is not None:
        world.cluster.reset(pair[0].node, pair[1].node)


def half_open(world: World) -> None:
    pair = world.some_pair()
    if pair is not None:
        world.cluster.forget(pair[0].node, pair[1].node)
