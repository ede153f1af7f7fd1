"""What a cluster at rest must be able to do, exactly: here the story knows what every node has to answer.

Each story ends with some of these exams, drawn by chance. Every one leaves a cluster at rest behind.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from erlmesh.node import Node, Process
from erlmesh.terms import Atom, Pid, Term, exact_key
from erlmesh.testing.actors import Actor
from erlmesh.testing.inside import connected_since
from erlmesh.testing.stories.errands import hold
from erlmesh.testing.stories.invariants import check
from erlmesh.testing.stories.pair import alone_with_each_other
from erlmesh.testing.stories.rest import help_to_meet, is_at_rest, state, wait_for_rest
from erlmesh.testing.stories.world import KILL, Life, World

__all__ = ["EXAMS", "examine"]

T = TypeVar("T")

MOMENT: Final = 1.0
"""Seconds until all signals of a cluster at rest have arrived."""
PATIENCE: Final = 120.0
"""Seconds for what takes all nodes and a lock."""
KILLED: Final = Atom("killed")
NOPROC: Final = Atom("noproc")


async def examine(world: World, how_many: int) -> None:
    """Raises Broken."""
    for exam in world.random.sample(EXAMS, min(how_many, len(EXAMS))):
        world.note(f"exam: {exam.__name__}")
        await exam(world)
        check(world)
        if not is_at_rest(world):
            await wait_for_rest(world)


async def signals(world: World) -> None:
    """All hear all, in full and in order; who is linked or watches is told of a death, who is no longer is not."""
    people = [world.spawn(life, server=index % 2 == 0) for index, life in enumerate(world.lives.values())]
    for actor in people:
        with world.cluster.machine(actor.node):
            for other in people:
                for _ in range(3):
                    actor.say(other.pid)
                if other is not actor:
                    actor.link(other.pid)
                    actor.watch(other.pid)
    await asyncio.sleep(MOMENT)
    for actor in people:
        if any(actor.heard.get(other.pid) != 3 for other in people):
            world.blame(f"{actor.pid!r} has not heard everybody: {actor.heard}")
    *others, victim = people
    careless = others[1:2]
    for actor in careless:
        with world.cluster.machine(actor.node):
            actor.unlink(victim.pid)
            actor.unwatch_all(victim.pid)
    await asyncio.sleep(MOMENT)
    _must_die(world, others[0], victim)
    await asyncio.sleep(MOMENT)
    for actor in others:
        told = (actor.exits.get(victim.pid), Counter(actor.downs)[victim.pid, KILLED])
        if told != ((None, 0) if actor in careless else (KILLED, 1)):
            world.blame(f"of the death of {victim.pid!r}, {actor.pid!r} was told {told}")


async def registered_names(world: World) -> None:
    """A process can be reached and watched by the name it has on its node."""
    lives = list(world.lives.values())
    one, other = world.spawn(lives[0], server=True), world.spawn(lives[-1], server=False)
    guest, place = Atom("guest"), other.node.atom
    with world.cluster.machine(other.node):
        other.node.register(guest, other.pid)
    with world.cluster.machine(one.node):
        one.watch((guest, place))
        one.me.send((guest, place), (Atom("say"), one.pid, other.pid, 1))
        one.said[other.pid] = 1
    await asyncio.sleep(MOMENT)
    if other.heard.get(one.pid) != 1:
        world.blame(f"{other.pid!r} was not reached by its name")
    _must_die(world, other, other)
    await asyncio.sleep(MOMENT)
    with world.cluster.machine(one.node):
        one.watch((guest, place))
    await asyncio.sleep(MOMENT)
    if one.downs != [((guest, place), KILLED), ((guest, place), NOPROC)]:
        world.blame(f"of the end of {guest} on {place} {one.pid!r} was told {one.downs}")


async def former_life(world: World) -> None:
    """A pid of a former life is nobody, also when the present one has given its number to somebody."""
    first, last = next(iter(world.lives.values())), list(world.lives.values())[-1]
    old = world.spawn(last, server=False).pid
    observer = world.spawn(first, server=True)
    with world.cluster.machine(first.node):
        observer.link(old)
        observer.watch(old)
    await asyncio.sleep(MOMENT)
    world.cluster.crash(last.node)
    world.lost(last.node.name)
    world.dead.remove(last.node.name)
    await asyncio.sleep(MOMENT)
    await world.birth(last.node.name, join=[] if world.reconnect else [first.node.name])
    await wait_for_rest(world, times=1)
    life = world.lives[last.node.name]
    young = world.spawn(life, server=False)
    while young.pid.id < old.id:
        young = world.spawn(life, server=False)
    observer.exits.clear()
    observer.downs.clear()
    with world.cluster.machine(first.node):
        observer.say(old)
        observer.link(old)
        observer.watch(old)
        observer.shoot(old)
        observer.say(young.pid)
    await asyncio.sleep(MOMENT)
    if (observer.exits.get(old), observer.downs) != (NOPROC, [(old, NOPROC)]):
        world.blame(f"of {old!r} of a former life, {observer.pid!r} is told {observer.exits}, {observer.downs}")
    if not young.lives or young.heard != {observer.pid: observer.said[young.pid]}:
        world.blame(f"{young.pid!r} was taken for one of a former life: {young.heard}")


async def pg2_groups(world: World) -> None:
    """Every change is on all nodes when it returns, and a death a moment later."""
    one, other, name = *_two(world), "exam"
    await _do(world, one, "pg2 create", lambda: one.node.pg2.create(name))
    _pg2_is(world, name, [])
    for actor, member in ((one, one), (other, other), (other, one), (one, other)):
        world.pg2_joins[exact_key(b"exam"), member.pid] += 1
        await _do(world, actor, "pg2 join", lambda actor=actor, member=member: actor.node.pg2.join(name, member.pid))  # type: ignore[misc]
    _pg2_is(world, name, [one.pid, one.pid, other.pid, other.pid])
    await _do(world, one, "pg2 leave", lambda: one.node.pg2.leave(name, other.pid))
    _pg2_is(world, name, [one.pid, one.pid, other.pid])
    _must_die(world, one, one)
    await asyncio.sleep(MOMENT)
    _pg2_is(world, name, [other.pid])
    await _do(world, other, "pg2 delete", lambda: other.node.pg2.delete(name))
    _pg2_is(world, name, None)


async def global_names(world: World) -> None:
    """A name has one process, the same on all nodes, and none once that is dead."""
    one, other, name = *_two(world), Atom("exam")
    here, there = one.node.global_, other.node.global_
    _expect(world, True, await _do(world, one, "register", lambda: here.register(name, one.pid)))
    _name_is(world, name, one.pid)
    _expect(world, False, await _do(world, other, "register", lambda: there.register(name, other.pid)))
    await _do(world, other, "re-register", lambda: there.re_register(name, other.pid))
    _name_is(world, name, other.pid)
    await _do(world, one, "unregister", lambda: here.unregister(name))
    _name_is(world, name, None)
    _expect(world, True, await _do(world, other, "register", lambda: there.register(name, one.pid)))
    _must_die(world, other, one)
    await asyncio.sleep(MOMENT)
    _name_is(world, name, None)


async def locks(world: World) -> None:
    """One at a time, all in the end; who dies lets go."""
    lives, resource = list(world.lives.values()), "exam"
    first, last = lives[0], lives[-1]
    mine, yours = (resource, "mine"), (resource, "yours")
    _expect(world, True, await _do(world, first, "lock", lambda: first.node.global_.set_lock(mine)))
    _expect(world, False, await _do(world, last, "lock", lambda: last.node.global_.set_lock(yours, retries=0)))
    await _do(world, first, "unlock", lambda: first.node.global_.del_lock(mine))
    _expect(world, True, await _do(world, last, "lock", lambda: last.node.global_.set_lock(yours, retries=0)))
    await _do(world, last, "unlock", lambda: last.node.global_.del_lock(yours))
    keeper = last.node.spawn(_lock_for_ever, last.node, resource)
    await asyncio.sleep(MOMENT)
    _expect(world, False, await _do(world, first, "lock", lambda: first.node.global_.set_lock(mine, retries=0)))
    last.node.exit(keeper, KILL)
    for life in lives:
        world.errand(life.node, f"lock {resource}", lambda life=life: hold(world, life.node, resource, 0.5))  # type: ignore[misc]
    await asyncio.sleep(PATIENCE)
    if world.errands:
        world.blame(f"these never end: {list(world.errands.values())}")


async def _lock_for_ever(me: Process, node: Node, resource: Term) -> None:
    async with node.global_.trans((resource, me.pid), me=me):
        await me.receive()


async def halves(world: World) -> None:
    """Two halves are two clusters; when they meet again their groups and names become one."""
    lives = list(world.lives.values())
    cut = len(lives) // 2
    sides = lives[:cut], lives[cut:]
    one, other, name = *_two(world), Atom("half")
    await _do(world, one, "pg2 create", lambda: one.node.pg2.create("half"))
    world.cluster.partition(*([life.node for life in side] for side in sides))
    await asyncio.sleep(1.5 * world.net_ticktime + PATIENCE)
    for side in sides:
        names = {life.node.name for life in side}
        for life in side:
            if {life.node.name, *life.node.nodes()} != names:
                world.blame(f"{life.node.name} sees {life.node.nodes()} of its half {names}")
    for actor in (one, other):
        world.pg2_joins[exact_key(b"half"), actor.pid] += 1
        await _do(world, actor, "pg2 join", lambda actor=actor: actor.node.pg2.join("half", actor.pid))  # type: ignore[misc]
        register = lambda actor=actor: actor.node.global_.register(name, actor.pid)  # noqa: E731
        _expect(world, True, await _do(world, actor, "register", register))
    _name_is(world, name, one.pid, sides[0])
    _name_is(world, name, other.pid, sides[1])
    world.cluster.heal()
    help_to_meet(world)
    await wait_for_rest(world, times=1)
    kept, lost = (one, other) if one.node.global_.whereis(name) == one.pid else (other, one)
    _name_is(world, name, kept.pid)
    if len(lives) == 2 and lost.lives:
        world.blame(f"{lost.pid!r} has lost the name {name}, and lives")
    # With more nodes a third may have decided. It kills by an exit signal, as OTP's does, and that is lost if it cannot
    # reach the loser's node at that moment.
    _pg2_is(world, "half", [actor.pid for actor in (one, other) if actor.lives])
    await _do(world, lives[0], "pg2 delete", lambda: lives[0].node.pg2.delete("half"))


async def meeting_at_once(world: World) -> None:
    """Two who have parted and dial each other in the same moment are connected soon; a lost connection comes back."""
    one, other = list(world.lives.values())[:2]
    for pause in (MOMENT, 0.7 * MOMENT, 0.4 * MOMENT):
        # Who closes while something is on its way to it resets the connection; then its word of parting may be lost, as
        # TCP loses it, and it is missed. That does not happen three times.
        await asyncio.sleep(pause)
        with world.cluster.machine(one.node):
            one.node.disconnect_nowait(other.node.name)
        await asyncio.sleep(2 * world.net_ticktime)
        if not (one.node.nodes() or one.node.reconnecting() or other.node.reconnecting()):
            break
    else:
        if len(world.lives) == 2:
            world.blame(f"{one.node.name} and {other.node.name} were to stay apart: {state(world)}")
    for _ in range(3):
        world.connect(one, other)
        world.connect(other, one)
        await asyncio.sleep(0.1)
        if connected_since(one.node, other.node.name) is None or connected_since(other.node, one.node.name) is None:
            world.blame(f"{one.node.name} and {other.node.name} dial each other and do not meet: {state(world)}")
        world.cluster.reset(one.node, other.node)
        await asyncio.sleep(0.01)
    for _ in range(30):
        await asyncio.sleep(world.net_ticktime)
        if is_at_rest(world):
            break
        if not world.reconnect:
            help_to_meet(world)
    check(world)


async def strangers(world: World) -> None:
    """Who does not know the cookie is nobody's peer; who joins one is everybody's, knows what all know, and may go."""
    first = next(iter(world.lives.values()))
    (stranger,) = await world.cluster.start("stranger", cookie="another", reconnect=False)
    _expect(world, False, await world.cluster.on(stranger, lambda: stranger.ping(first.node.name)))
    _expect(world, False, await _do(world, first, "ping", lambda: first.node.ping(stranger.name)))
    if stranger.nodes() or any(stranger.name in life.node.nodes() for life in world.lives.values()):
        world.blame(f"a stranger is connected: {state(world)}")
    await world.cluster.stop(stranger)
    await world.birth("newcomer", join=[first.node.name])
    await wait_for_rest(world, times=1)
    newcomer = list(world.lives.values())[-1]
    told = {exact_key(group) for life in world.lives.values() for group in life.node.pg2.which_groups()}
    if told != {exact_key(group) for group in newcomer.node.pg2.which_groups()}:
        world.blame(f"{newcomer.node.name} has other pg2 groups than all whom it met: {told}")
    await world.cluster.stop(newcomer.node)
    world.lost(newcomer.node.name)
    world.dead.remove(newcomer.node.name)
    await asyncio.sleep(MOMENT)
    for life in world.lives.values():
        with world.cluster.machine(life.node):
            life.node.disconnect_nowait(newcomer.node.name)  # it will not come back
        if newcomer.node.name in [*life.node.nodes(), *life.node.reconnecting()]:
            world.blame(f"{life.node.name} does not let {newcomer.node.name} go")


EXAMS: Final[list[Callable[[World], Awaitable[None]]]] = [
    signals,
    registered_names,
    former_life,
    pg2_groups,
    global_names,
    locks,
    halves,
    meeting_at_once,
    strangers,
    alone_with_each_other,
]


def _two(world: World) -> tuple[Actor, Actor]:
    lives = list(world.lives.values())
    return world.spawn(lives[0], server=True), world.spawn(lives[-1], server=True)


async def _do(world: World, who: Actor | Life, what: str, work: Callable[[], Awaitable[T]]) -> T | None:
    try:
        async with asyncio.timeout(PATIENCE):
            return await world.cluster.on(who.node, work)
    except TimeoutError:
        world.blame(f"{who.node.name}: {what} does not end")
        world.complain()
        return None


def _must_die(world: World, killer: Actor, victim: Actor) -> None:
    with world.cluster.machine(killer.node):
        killer.shoot(victim.pid)


def _expect(world: World, wanted: Any, got: Any) -> None:
    if got is not wanted:
        world.blame(f"{got} instead of {wanted}")
        world.complain()


def _pg2_is(world: World, group: str, pids: Sequence[Pid] | None) -> None:
    for life in world.lives.values():
        exists = group.encode() in life.node.pg2.which_groups()
        members = Counter(life.node.pg2.get_members(group)) if exists else None
        if members != (None if pids is None else Counter(pids)):
            world.blame(f"{life.node.name}: pg2 group {group} is {members} instead of {pids}")


def _name_is(world: World, name: Term, pid: Pid | None, lives: Sequence[Life] | None = None) -> None:
    for life in world.lives.values() if lives is None else lives:
        if life.node.global_.whereis(name) != pid:
            world.blame(f"{life.node.name}: {name} is {life.node.global_.whereis(name)!r} instead of {pid!r}")
