"""What processes do in a story: they come, join, talk, link, watch, and die."""

from __future__ import annotations

import asyncio
from collections import Counter

from erlmesh.terms import exact_key
from erlmesh.testing.actors import STOP
from erlmesh.testing.stories.world import GROUPS, KILL, World

__all__ = ["die", "join", "leave", "link", "spawn", "stop", "talk", "unlink", "unwatch", "watch"]


def spawn(world: World) -> None:
    life = world.some_life()
    if life is not None:
        actor = world.spawn(life, server=world.random.random() < 0.5)
        world.note(f"spawn {actor.node.name} {actor.pid.id}")


async def join(world: World) -> None:
    actor = world.some_actor()
    if actor is None:
        spawn(world)
        return
    if world.random.random() < 0.1:
        actor = world.random.choice(world.lives[actor.node.name].people)  # dead, perhaps
    life = world.lives[actor.node.name]
    scope = world.random.choice(list(life.scopes))
    group = world.random.choice(GROUPS)
    pids = [actor.pid] * world.random.choice((1, 1, 1, 2))
    world.note(f"join {scope} {group!r} {actor.node.name} {actor.pid.id} x{len(pids)}")
    members = life.joined.setdefault((scope, exact_key(group)), Counter())
    members.update(pids)
    key = scope, exact_key(group), actor.pid
    world.most[key] = max(world.most[key], members[actor.pid])
    with world.cluster.machine(life.node):
        life.scopes[scope].join(group, pids)
    await asyncio.sleep(0)


def leave(world: World) -> None:
    actor = world.some_actor()
    if actor is None:
        return
    life = world.lives[actor.node.name]
    scope = world.random.choice(list(life.scopes))
    group = world.random.choice(GROUPS)
    pids = [actor.pid] * world.random.choice((1, 1, 2))
    world.note(f"leave {scope} {group!r} {actor.node.name} {actor.pid.id} x{len(pids)}")
    members = life.joined.setdefault((scope, exact_key(group)), Counter())
    was_in = members[actor.pid] > 0
    members[actor.pid] = max(0, members[actor.pid] - len(pids))
    with world.cluster.machine(life.node):
        if life.scopes[scope].leave(group, pids) is not was_in:
            world.blame(f"leave of {group!r} on {actor.node.name} said {not was_in}")


def die(world: World) -> None:
    actor = world.some_actor()
    if actor is not None:
        world.note(f"kill {actor.node.name} {actor.pid.id}")
        with world.cluster.machine(actor.node):
            actor.node.exit(actor.pid, KILL)


def stop(world: World) -> None:
    actor = world.some_actor()
    if actor is not None and actor.me._handler is None:
        world.note(f"stop {actor.node.name} {actor.pid.id}")
        with world.cluster.machine(actor.node):
            actor.node.send(actor.pid, STOP)


def talk(world: World) -> None:
    actor, other = world.some_actor(), world.somebody()
    if actor is not None and other is not None:
        with world.cluster.machine(actor.node):
            for _ in range(world.random.choice((1, 3))):
                actor.say(other)


def link(world: World) -> None:
    actor, other = world.some_actor(), world.somebody()
    if actor is not None and other is not None:
        world.note(f"link {actor.node.name} {actor.pid.id} to {other.node.name} {other.id}")
        with world.cluster.machine(actor.node):
            actor.link(other)


def unlink(world: World) -> None:
    actor = world.some_actor()
    if actor is not None and actor.links:
        other = world.random.choice(list(actor.links))
        world.note(f"unlink {actor.node.name} {actor.pid.id} from {other.node.name} {other.id}")
        with world.cluster.machine(actor.node):
            actor.unlink(other)


def watch(world: World) -> None:
    actor, other = world.some_actor(), world.somebody()
    if actor is not None and other is not None:
        world.note(f"watch {actor.node.name} {actor.pid.id}: {other.node.name} {other.id}")
        with world.cluster.machine(actor.node):
            actor.watch(other)


def unwatch(world: World) -> None:
    actor = world.some_actor()
    if actor is not None:
        with world.cluster.machine(actor.node):
            actor.unwatch(world.random)
