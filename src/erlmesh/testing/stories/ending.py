"""How a story ends: everything is put right, all views become one, an idle time ends nothing, and of the dead nothing
is left.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from erlmesh.terms import Pid, exact_key
from erlmesh.testing.inside import connected_since, leftovers, linked, monitors, watchers
from erlmesh.testing.stories.exams import examine
from erlmesh.testing.stories.invariants import check
from erlmesh.testing.stories.rest import help_to_meet, wait_for_rest
from erlmesh.testing.stories.world import KILL, NAMES, Life, World

__all__ = ["compare", "farewell", "recover"]


async def recover(world: World) -> None:
    """Everything is put right, and the cluster has time to become whole."""
    world.note("recovery")
    world.cluster.heal()
    for life in world.lives.values():
        if world.cluster.is_paused(life.node):
            world.cluster.resume(life.node)
    while world.dead:
        await world.birth(world.dead.pop())
    await asyncio.sleep(2 * world.net_ticktime)  # what was said in anger has arrived by then
    help_to_meet(world)
    await wait_for_rest(world)


async def compare(world: World, *, exams: int) -> None:
    """All views are equal to what the story knows; an idle time ends nothing."""
    _compare_views(world)
    await examine(world, exams)
    since = _connections(world)
    await asyncio.sleep(3600.0 if world.net_ticktime > 30 else 10 * world.net_ticktime)
    check(world)
    if _connections(world) != since:
        world.blame("an idle time has ended a connection")
    _compare_views(world)
    check(world)


def _connections(world: World) -> dict[tuple[str, str], float | None]:
    return {
        (life.node.name, peer): connected_since(life.node, peer)
        for life in world.lives.values()
        for peer in life.node.nodes()
    }


def _compare_views(world: World) -> None:
    """Names and pg are the same everywhere. pg2 need not be, in OTP neither: two nodes tell each other what they have
    when they meet, and not what they hear of others afterwards. So who met a node before that heard of a group, and its
    maker never, does not know the group. What is exact in pg2 the exams ask for.
    """
    lives = list(world.lives.values())
    truth: dict[tuple[str, object], Counter[Pid]] = {}
    for life in lives:
        for key, members in life.joined.items():
            living = Counter({pid: count for pid, count in members.items() if count and life.node.is_alive(pid)})
            truth.setdefault(key, Counter()).update(living)
    for life in lives:
        for name, scope in life.scopes.items():
            view = {exact_key(group): Counter(scope.get_members(group)) for group in scope.which_groups()}
            wanted = {key: members for (scope_name, key), members in truth.items() if scope_name == name and members}
            if view != wanted:
                world.blame(f"{life.node.name} {name}: {view} instead of {wanted}")
    _compare_names(world, lives)
    _compare_links(world)


def _compare_names(world: World, lives: list[Life]) -> None:
    for name in NAMES:
        views = {life.node.name: life.node.global_.whereis(name) for life in lives}
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
        present = linked(actor.node, actor.pid)
        for other in present:
            if not world.is_alive(other):
                world.blame(f"{actor.pid!r} is linked to {other!r}, who is dead")
            elif other in world.everybody and actor.pid not in linked(world.everybody[other].node, other):
                world.blame(f"{actor.pid!r} is linked to {other!r}, and that not to it")
        for other in actor.links:
            partner = world.everybody.get(other)
            parted = other in actor.has_unlinked or (partner is not None and actor.pid in partner.has_unlinked)
            if other not in present and not parted:
                world.blame(f"{actor.pid!r} was never told that its link to {other!r} is gone")
        there = Counter(pid for pid in watchers(actor.node, actor.pid) if pid in world.everybody)
        known = Counter({who.pid: [*who.watches.values()].count(actor.pid) for who in people})
        if there != +known:
            world.blame(f"{actor.pid!r} is watched by {there} and not by {+known}")
        for target in actor.watches.values():
            if isinstance(target, Pid) and not world.is_alive(target):
                world.blame(f"{actor.pid!r} was never told that {target!r} is gone")


async def farewell(world: World) -> None:
    """Half of the people die, and the others hear of it; then those die; nothing of them must be left anywhere."""
    people = [actor for life in world.lives.values() for actor in life.living()]
    world.random.shuffle(people)
    for part in (people[: len(people) // 2], people):
        for actor in part:
            with world.cluster.machine(actor.node):
                actor.node.exit(actor.pid, KILL)
        await asyncio.sleep(20.0)
        _compare_views(world)
        check(world)
    for life in world.lives.values():
        for scope in life.scopes.values():
            if scope.which_groups():
                world.blame(f"{life.node.name}: groups of the dead: {scope.which_groups()}")
        if any(life.node.pg2.get_members(group) for group in life.node.pg2.which_groups()):
            world.blame(f"{life.node.name}: pg2 groups of the dead")
        if life.node.global_.registered():
            world.blame(f"{life.node.name}: names of the dead: {life.node.global_.registered()}")
        others = [other for other in world.lives.values() if other is not life]
        left = {what: count for what, count in leftovers(life.node).items() if count}
        needed = life.monitors + 2 * sum(name in other.scopes for other in others for name in life.scopes)
        if monitors(life.node) != needed:
            left["monitors"] = monitors(life.node) - needed
        if strays := [pid for pid in life.node.processes() if pid not in life.services]:
            left["processes"] = len(strays)
        if left:
            world.blame(f"{life.node.name}: left over: {left}")
    check(world)
