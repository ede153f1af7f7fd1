"""How a story ends: everything is put right, all views become one, an idle time ends nothing, and of the dead nothing
is left.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from erlmesh.terms import Pid, exact
from erlmesh.testing.actors import Actor
from erlmesh.testing.inside import connected_since, leftovers, linked
from erlmesh.testing.stories.errands import hold
from erlmesh.testing.stories.invariants import check
from erlmesh.testing.stories.world import KILL, NAMES, Life, World

__all__ = ["compare", "farewell", "recover"]

RECOVERY: Final = 600.0
"""Virtual seconds until a healed cluster must be whole and at rest."""


async def recover(world: World) -> None:
    """Everything is put right, and the cluster has time to become whole."""
    world.note("recovery")
    world.cluster.heal()
    for life in world.lives.values():
        if world.cluster.is_paused(life.node):
            world.cluster.resume(life.node)
    while world.dead:
        await world.birth(world.dead.pop())
    started = world.cluster.now()
    calm = 0
    await asyncio.sleep(2 * world.net_ticktime)  # what was said in anger has arrived by then
    _help_to_meet(world)
    while calm < 3:  # what is half open shows itself within a tick time and a quarter
        await asyncio.sleep(world.net_ticktime)
        check(world)
        calm = calm + 1 if _is_at_rest(world) else 0
        if not world.reconnect:
            _help_to_meet(world)
        if world.cluster.now() - started > RECOVERY + 10 * world.net_ticktime:
            world.blame(f"not at rest after {world.cluster.now() - started:g} s: {_state(world)}")
            check(world)


def _is_at_rest(world: World) -> bool:
    return (
        world.cluster.is_complete()
        and not world.errands
        and all(_is_synced(world, life) for life in world.lives.values())
    )


def _is_synced(world: World, life: Life) -> bool:
    statistics = life.node.global_names.statistics()
    others = len(world.lives) - 1
    return len(statistics.known) == others and len(statistics.synced) == others and not statistics.in_session


def _state(world: World) -> str:
    nodes = {life.node.name: (life.node.nodes(), life.node.global_names.statistics()) for life in world.lives.values()}
    return f"{nodes} {list(world.errands.values())}"


def _help_to_meet(world: World) -> None:
    """As users and discovery do: says once who belongs together, or, without reconnection, dials again and again."""
    if world.reconnect:
        first, *others = world.lives.values()
        for life in others:
            with world.cluster.machine(life.node):
                life.node.reconnect_with(first.node.name)
        return
    for one in world.lives.values():
        for other in world.lives.values():
            if one.node.name < other.node.name and other.node.name not in one.node.nodes():
                world.connect(one, other)


async def compare(world: World) -> None:
    """All views are equal to what the story knows; an idle time ends nothing."""
    _compare_views(world)
    await _meet_at_once(world)
    await _smoke(world)
    since = _connections(world)
    await asyncio.sleep(3600.0 if world.net_ticktime > 30 else 10 * world.net_ticktime)
    check(world)
    if _connections(world) != since:
        world.blame("an idle time has ended a connection")
    _compare_views(world)
    check(world)


async def _meet_at_once(world: World) -> None:
    """Two who have parted and dial each other in the same moment are connected soon."""
    one, other = list(world.lives.values())[:2]
    with world.cluster.machine(one.node):
        one.node.disconnect_nowait(other.node.name)
    await asyncio.sleep(2 * world.net_ticktime)
    for _ in range(3):
        world.connect(one, other)
        world.connect(other, one)
        await asyncio.sleep(0.1)
        if connected_since(one.node, other.node.name) is None or connected_since(other.node, one.node.name) is None:
            world.blame(f"{one.node.name} and {other.node.name} dial each other and do not meet: {_state(world)}")
        world.cluster.reset(one.node, other.node)
        await asyncio.sleep(0.01)
    for _ in range(30):
        await asyncio.sleep(world.net_ticktime)
        if _is_at_rest(world):
            break
        if not world.reconnect:
            _help_to_meet(world)
    check(world)


def _connections(world: World) -> dict[tuple[str, str], float | None]:
    return {
        (life.node.name, peer): connected_since(life.node, peer)
        for life in world.lives.values()
        for peer in life.node.nodes()
    }


def _compare_views(world: World) -> None:
    lives = list(world.lives.values())
    truth: dict[tuple[str, object], Counter[Pid]] = {}
    for life in lives:
        for key, members in life.joined.items():
            living = Counter({pid: count for pid, count in members.items() if count and life.node.is_alive(pid)})
            truth.setdefault(key, Counter()).update(living)
    for life in lives:
        for name, scope in life.scopes.items():
            view = {exact(group): Counter(scope.get_members(group)) for group in scope.which_groups()}
            wanted = {key: members for (scope_name, key), members in truth.items() if scope_name == name and members}
            if view != wanted:
                world.blame(f"{life.node.name} {name}: {view} instead of {wanted}")
    _compare_names(world, lives)
    _compare_links(world)
    groups = {life.node.name: life.node.pg2.which_groups() for life in lives}
    if len({str(names) for names in groups.values()}) > 1:
        world.blame(f"pg2 groups differ: {groups}")


def _compare_names(world: World, lives: list[Life]) -> None:
    for name in NAMES:
        views = {life.node.name: life.node.global_names.whereis(name) for life in lives}
        if len(set(views.values())) > 1:
            world.blame(f"the global name {name} is {views}")
        for pid in set(views.values()) - {None}:
            if pid is not None and not world.is_alive(pid):
                world.blame(f"the global name {name} is {pid!r}, who is dead")
    for life in lives:
        for group in life.node.pg2.which_groups():
            for pid in life.node.pg2.get_members(group):
                if not world.is_alive(pid):
                    world.blame(f"{life.node.name} pg2 {group!r}: {pid!r} is dead")


def _compare_links(world: World) -> None:
    people = [actor for life in world.lives.values() for actor in life.living()]
    for actor in people:
        for other in linked(actor.node, actor.pid):
            if not world.is_alive(other):
                world.blame(f"{actor.pid!r} is linked to {other!r}, who is dead")
            elif other in world.everybody and actor.pid not in linked(world.everybody[other].node, other):
                world.blame(f"{actor.pid!r} is linked to {other!r}, and that not to it")
        for target in actor.watches.values():
            if not world.is_alive(target):
                world.blame(f"{actor.pid!r} was never told that {target!r} is gone")


async def _smoke(world: World) -> None:
    """In a cluster at rest everything works."""
    people: list[Actor] = [world.spawn(life, server=False) for life in world.lives.values()]
    for actor in people:
        with world.cluster.machine(actor.node):
            for other in people:
                for _ in range(3):
                    actor.say(other.pid)
                if other is not actor:
                    actor.link(other.pid)
                    actor.watch(other.pid)
    first, last = people[0], people[-1]
    world.errand(first.node, "register", lambda: first.node.global_names.register("smoke", first.pid))
    world.errand(last.node, "lock", lambda: hold(world, last.node, "bread", 0.1))
    world.errand(last.node, "pg2 create", lambda: last.node.pg2.create("smoke"))
    await asyncio.sleep(60.0)
    world.errand(last.node, "pg2 join", lambda: last.node.pg2.join("smoke", first.pid))
    await asyncio.sleep(60.0)
    check(world)
    if world.errands:
        world.blame(f"these never end: {list(world.errands.values())}")
    for actor in people:
        if any(actor.heard.get(other.pid) != 3 for other in people):
            world.blame(f"{actor.pid!r} has not heard everybody: {actor.heard}")
        if actor.node.global_names.whereis("smoke") != first.pid:
            world.blame(f"{actor.node.name} does not know who is smoke")
        if b"smoke" not in actor.node.pg2.which_groups() or actor.node.pg2.get_members("smoke") != [first.pid]:
            world.blame(f"{actor.node.name} does not have the pg2 group smoke as it is")
    check(world)


async def farewell(world: World) -> None:
    """All people die; nothing of them must be left anywhere."""
    for life in world.lives.values():
        with world.cluster.machine(life.node):
            for actor in life.living():
                life.node.exit(actor.pid, KILL)
    await asyncio.sleep(20.0)
    check(world)
    for life in world.lives.values():
        for scope in life.scopes.values():
            if scope.which_groups():
                world.blame(f"{life.node.name}: groups of the dead: {scope.which_groups()}")
        if any(life.node.pg2.get_members(group) for group in life.node.pg2.which_groups()):
            world.blame(f"{life.node.name}: pg2 groups of the dead")
        if life.node.global_names.registered():
            world.blame(f"{life.node.name}: names of the dead: {life.node.global_names.registered()}")
        left = {what: count for what, count in leftovers(life.node).items() if count}
        if left:
            world.blame(f"{life.node.name}: left over: {left}")
    check(world)
