"""A random life of a cluster, from one seed: people come, join, link, call, lock and die, nodes crash and return, the
network breaks and heals; and after every act the facts are checked that must always hold.

``python -m erlmesh.testing.story --seed 7 --verbose`` tells one story; ``--seeds 1000`` tells a thousand, and ends with
the seeds that failed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from erlmesh.errors import ErlmeshError
from erlmesh.node import Node
from erlmesh.runtime.process import Process
from erlmesh.services.pg import Pg
from erlmesh.terms import Atom, Pid, Term, exact
from erlmesh.testing.actors import STOP, Actor, Broken, Groups, Witness
from erlmesh.testing.clock import run
from erlmesh.testing.cluster import Cluster, Crashed
from erlmesh.testing.inside import connected_since, duplicate_connections, leftovers, linked, lock_holders

__all__ = ["Story", "tell"]

GROUPS: Final = ("red", "blue", 1, 1.0)
NAMES: Final = (Atom("leader"), Atom("scribe"))
PG2: Final = ("old", "older")
RESOURCES: Final = ("bread", "wine")
LATE: Final = Atom("late")
KILL: Final = Atom("kill")
RECOVERY: Final = 600.0
"""Virtual seconds until a healed cluster must be whole and at rest."""


@dataclass(eq=False)
class Life:
    """One life of a node in a story, and what the story knows to be true of it."""

    node: Node
    witness: Witness
    scopes: dict[str, Pg] = field(default_factory=dict)
    watchers: list[Groups] = field(default_factory=list)
    people: list[Actor] = field(default_factory=list)
    joined: dict[tuple[str, object], Counter[Pid]] = field(default_factory=dict)

    def living(self) -> list[Actor]:
        return [actor for actor in self.people if actor.lives]


@dataclass(eq=False)
class Holding:
    """Somebody is inside a critical section."""

    resource: Term
    node: Node
    asked: float


class Story:
    """Tell it with :meth:`tell`, once, on a :class:`~erlmesh.testing.clock.Clock`. ``acts`` is how many there are."""

    def __init__(self, seed: int, *, nodes: int | None = None, acts: int = 40) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.acts = acts
        self.size = nodes or self.random.choice((2, 3, 3, 4, 4, 5))
        self.net_ticktime = self.random.choice((8.0, 8.0, 60.0))
        self.reconnect = self.random.random() < 0.8
        self.cluster = Cluster(
            self.random.getrandbits(64), net_ticktime=self.net_ticktime, reconnect=self.reconnect
        )
        self.cluster.seed = seed
        self.lives: dict[str, Life] = {}
        self.everybody: dict[Pid, Actor] = {}
        self.most: Counter[tuple[str, object, Pid]] = Counter()
        self.holdings: list[Holding] = []
        self.errands: dict[asyncio.Task[None], str] = {}
        self.faults: list[str] = []
        self.lasted = 0.0
        """Virtual seconds."""
        self.dead: list[str] = []

    async def tell(self) -> str:
        """Raises Broken, or gives the fingerprint of the history."""
        try:
            return await self._tell()
        finally:
            self.lasted = self.cluster.now()

    async def _tell(self) -> str:
        async with self.cluster:
            for index in range(self.size):
                await self.birth(chr(ord("a") + index))
            for life in list(self.lives.values())[1:]:
                if self.random.random() < 0.8:
                    self.connect(life, self.random.choice(list(self.lives.values())))
            for _ in range(self.acts):
                await self.act()
                await self.pass_time()
                self.check()
            await self.recover()
            await self.compare()
            await self.farewell()
            return self.cluster.digest()

    def blame(self, fault: str) -> None:
        """An invariant is broken; the next check says so."""
        self.cluster.note(f"BROKEN: {fault}")
        self.faults.append(fault)

    # Acts

    async def act(self) -> None:
        acts: list[tuple[int, Callable[[], Any]]] = [
            (6, self.spawn), (8, self.join), (4, self.leave), (3, self.die), (3, self.stop_somebody),
            (5, self.talk), (4, self.link), (2, self.unlink), (4, self.watch), (2, self.unwatch),
            (4, self.meet), (2, self.meet_both_ways), (1, self.part), (1, self.disconnect_both), (2, self.late_scope), (1, self.forget_watcher),
            (3, self.pg2), (3, self.name), (3, self.lock),
            (2, self.pause), (3, self.resume), (1, self.crash), (1, self.power_failure), (1, self.leave_in_order), (3, self.restart),
            (2, self.cut), (2, self.cut_one_way), (1, self.partition), (4, self.heal), (2, self.reset), (2, self.half_open),
        ]  # fmt: skip
        (chosen,) = self.random.choices([act for _, act in acts], [weight for weight, _ in acts])
        result = chosen()
        if asyncio.iscoroutine(result):
            await result

    async def pass_time(self) -> None:
        kind = self.random.random()
        tick = self.net_ticktime
        if kind < 0.25:
            return
        longest = 0.01 if kind < 0.5 else 0.3 if kind < 0.75 else 3.0 if kind < 0.92 else tick * 1.5
        await asyncio.sleep(self.random.uniform(0.0, longest))

    def awake(self) -> list[Life]:
        return [life for life in self.lives.values() if not self.cluster.is_paused(life.node)]

    def some_life(self) -> Life | None:
        awake = self.awake()
        return self.random.choice(awake) if awake else None

    def some_pair(self) -> tuple[Life, Life] | None:
        awake, everybody = self.awake(), list(self.lives.values())
        if not awake or len(everybody) < 2:
            return None
        one = self.random.choice(awake)
        return one, self.random.choice([life for life in everybody if life is not one])

    def some_actor(self) -> Actor | None:
        people = [actor for life in self.awake() for actor in life.living()]
        return self.random.choice(people) if people else None

    def somebody(self) -> Pid | None:
        """Anybody who ever was, rather the younger."""
        pids = list(self.everybody)[-12:]
        return self.random.choice(pids) if pids else None

    def note(self, what: str) -> None:
        self.cluster.note(what)

    # People

    def spawn(self) -> None:
        life = self.some_life()
        if life is not None:
            with self.cluster.machine(life.node):
                life.people.append(
                    Actor(life.node, self.note, self.blame, self.everybody, server=self.random.random() < 0.5)
                )
            self.note(f"spawn {life.people[-1].pid.node.name} {life.people[-1].pid.id}")

    async def join(self) -> None:
        actor = self.some_actor()
        if actor is None:
            self.spawn()
            return
        if self.random.random() < 0.1:
            actor = self.random.choice(self.lives[actor.node.name].people)  # dead, perhaps
        life = self.lives[actor.node.name]
        scope = self.random.choice(list(life.scopes))
        group = self.random.choice(GROUPS)
        pids = [actor.pid] * self.random.choice((1, 1, 1, 2))
        self.note(f"join {scope} {group!r} {actor.node.name} {actor.pid.id} x{len(pids)}")
        members = life.joined.setdefault((scope, exact(group)), Counter())
        members.update(pids)
        key = scope, exact(group), actor.pid
        self.most[key] = max(self.most[key], members[actor.pid])
        with self.cluster.machine(life.node):
            life.scopes[scope].join(group, pids)
        await asyncio.sleep(0)

    def leave(self) -> None:
        actor = self.some_actor()
        if actor is None:
            return
        life = self.lives[actor.node.name]
        scope = self.random.choice(list(life.scopes))
        group = self.random.choice(GROUPS)
        pids = [actor.pid] * self.random.choice((1, 1, 2))
        self.note(f"leave {scope} {group!r} {actor.node.name} {actor.pid.id} x{len(pids)}")
        members = life.joined.setdefault((scope, exact(group)), Counter())
        was_in = members[actor.pid] > 0
        members[actor.pid] = max(0, members[actor.pid] - len(pids))
        with self.cluster.machine(life.node):
            if life.scopes[scope].leave(group, pids) is not was_in:
                self.blame(f"leave of {group!r} on {actor.node.name} said {not was_in}")

    def die(self) -> None:
        actor = self.some_actor()
        if actor is not None:
            self.note(f"kill {actor.node.name} {actor.pid.id}")
            with self.cluster.machine(actor.node):
                actor.node.exit(actor.pid, KILL)

    def stop_somebody(self) -> None:
        actor = self.some_actor()
        if actor is not None and actor.me.receiver is None:
            self.note(f"stop {actor.node.name} {actor.pid.id}")
            with self.cluster.machine(actor.node):
                actor.node.send(actor.pid, STOP)

    def talk(self) -> None:
        actor, other = self.some_actor(), self.somebody()
        if actor is not None and other is not None:
            with self.cluster.machine(actor.node):
                for _ in range(self.random.choice((1, 3))):
                    actor.say(other)

    def link(self) -> None:
        actor, other = self.some_actor(), self.somebody()
        if actor is not None and other is not None:
            self.note(f"link {actor.node.name} {actor.pid.id} to {other.node.name} {other.id}")
            with self.cluster.machine(actor.node):
                actor.link(other)

    def unlink(self) -> None:
        actor = self.some_actor()
        if actor is not None and actor.links:
            other = self.random.choice(list(actor.links))
            self.note(f"unlink {actor.node.name} {actor.pid.id} from {other.node.name} {other.id}")
            with self.cluster.machine(actor.node):
                actor.unlink(other)

    def watch(self) -> None:
        actor, other = self.some_actor(), self.somebody()
        if actor is not None and other is not None:
            self.note(f"watch {actor.node.name} {actor.pid.id}: {other.node.name} {other.id}")
            with self.cluster.machine(actor.node):
                actor.watch(other)

    def unwatch(self) -> None:
        actor = self.some_actor()
        if actor is not None:
            with self.cluster.machine(actor.node):
                actor.unwatch(self.random)

    # Nodes

    async def birth(self, name: str, **options: Any) -> None:
        (node,) = await self.cluster.start(name, **options)
        with self.cluster.machine(node):
            life = self.lives[node.name] = Life(node, Witness(node, self.note))
            self.open_scope(life, "pg", node.pg)
            if self.random.random() < 0.3:
                self.open_scope(life, "late", Pg(node, LATE))

    def open_scope(self, life: Life, name: str, scope: Pg) -> None:
        life.scopes[name] = scope
        life.watchers.append(Groups(scope, self.note, f"{life.node.name} {name}"))

    def late_scope(self) -> None:
        lives = [life for life in self.awake() if "late" not in life.scopes]
        if lives:
            life = self.random.choice(lives)
            self.note(f"late scope {life.node.name}")
            with self.cluster.machine(life.node):
                self.open_scope(life, "late", Pg(life.node, LATE))

    def forget_watcher(self) -> None:
        life = self.some_life()
        if life is not None:
            watcher = self.random.choice(life.watchers)
            watcher.close()
            with self.cluster.machine(life.node):
                life.watchers.append(Groups(watcher.pg, self.note, f"{life.node.name} again"))

    def connect(self, one: Life, other: Life) -> None:
        self.note(f"{one.node.name} dials {other.node.name}")
        with self.cluster.machine(one.node):
            one.node.connect_nowait(other.node.name, lambda _: None)

    def meet(self) -> None:
        pair = self.some_pair()
        if pair is not None:
            one, other = pair
            self.errand(one.node, "ping", lambda: one.node.ping(other.node.name))

    def meet_both_ways(self) -> None:
        pair = self.some_pair()
        if pair is not None:
            self.connect(*pair)
            if pair[1] in self.awake():
                self.connect(pair[1], pair[0])

    def part(self) -> None:
        pair = self.some_pair()
        if pair is not None:
            self.note(f"{pair[0].node.name} disconnects {pair[1].node.name}")
            with self.cluster.machine(pair[0].node):
                pair[0].node.disconnect_nowait(pair[1].node.name)

    def disconnect_both(self) -> None:
        self.part()
        self.meet_both_ways()

    def pause(self) -> None:
        if len(self.awake()) > 1:
            self.cluster.pause(self.random.choice(self.awake()).node)

    def resume(self) -> None:
        paused = [life for life in self.lives.values() if self.cluster.is_paused(life.node)]
        if paused:
            self.cluster.resume(self.random.choice(paused).node)

    def crash(self, *, silently: bool = False) -> None:
        if len(self.lives) > 1:
            name = self.random.choice(list(self.lives))
            self.cluster.crash(name, silently=silently)
            self.lost(name)

    def power_failure(self) -> None:
        self.crash(silently=True)

    async def leave_in_order(self) -> None:
        life = self.some_life()
        if life is not None and len(self.lives) > 1:
            self.holdings = [holding for holding in self.holdings if holding.node is not life.node]
            await self.cluster.stop(life.node)
            self.lost(life.node.name)

    def lost(self, name: str) -> None:
        life = self.lives.pop(name)
        self.dead.append(name)
        self.holdings = [holding for holding in self.holdings if holding.node is not life.node]

    async def restart(self) -> None:
        if self.dead:
            name = self.dead.pop(self.random.randrange(len(self.dead)))
            others = list(self.lives)
            join = [self.random.choice(others)] if others and self.random.random() < 0.7 else []
            await self.birth(name, join=join)

    # Network

    def cut(self, *, both: bool = True) -> None:
        pair = self.some_pair()
        if pair is not None:
            self.cluster.cut(pair[0].node, pair[1].node, both=both)

    def cut_one_way(self) -> None:
        self.cut(both=False)

    def partition(self) -> None:
        names = list(self.lives)
        self.random.shuffle(names)
        where = self.random.randrange(len(names))
        self.cluster.partition(names[:where], names[where:])

    def heal(self) -> None:
        cuts = self.cluster.cuts()
        if cuts:
            if self.random.random() < 0.5:
                self.cluster.heal()
            else:
                self.cluster.heal(*self.random.choice(cuts))

    def reset(self) -> None:
        pair = self.some_pair()
        if pair is not None:
            self.cluster.reset(pair[0].node, pair[1].node)

    def half_open(self) -> None:
        pair = self.some_pair()
        if pair is not None:
            self.cluster.forget(pair[0].node, pair[1].node)

    # Errands: what waits for other nodes

    def errand(self, node: Node, what: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Does ``work`` on the node in the background; it must end one day."""
        what = f"{node.name}: {what}"

        async def go() -> None:
            try:
                result = await self.cluster.on(node, work)
            except (Crashed, ErlmeshError) as error:
                self.note(f"{what} failed: {type(error).__name__}")
            else:
                self.note(f"{what}: {result}")

        self.note(what)
        task = asyncio.get_running_loop().create_task(go())
        self.errands[task] = what

        def over(task: asyncio.Task[None]) -> None:
            del self.errands[task]
            if not task.cancelled() and task.exception() is not None:
                self.blame(f"{what} ended with {task.exception()!r}")

        task.add_done_callback(over)

    def pg2(self) -> None:
        actor, group = self.some_actor(), self.random.choice(PG2)
        if actor is None:
            return
        node, pg2 = actor.node, actor.node.pg2
        work: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "create": lambda: pg2.create(group),
            "join": lambda: pg2.join(group, actor.pid),
            "leave": lambda: pg2.leave(group, actor.pid),
            "delete": lambda: pg2.delete(group),
        }
        what = self.random.choices(list(work), (3, 4, 2, 1))[0]
        self.errand(node, f"pg2 {what} {group}", work[what])

    def name(self) -> None:
        actor, name = self.some_actor(), self.random.choice(NAMES)
        if actor is None:
            return
        names = actor.node.global_names
        if self.random.random() < 0.7:
            self.errand(actor.node, f"register {name}", lambda: names.register(name, actor.pid))
        else:
            self.errand(actor.node, f"unregister {name}", lambda: names.unregister(name))

    def lock(self) -> None:
        life, resource = self.some_life(), self.random.choice(RESOURCES)
        if life is not None:
            seconds = self.random.choice((0.0, 0.1, 2.0))
            self.errand(life.node, f"lock {resource}", lambda: self.hold(life.node, resource, seconds))

    async def hold(self, node: Node, resource: Term, seconds: float) -> None:
        """The critical section, in a process of its own."""
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        holding = Holding(resource, node, self.cluster.now())

        async def body(me: Process) -> None:
            try:
                async with node.global_names.trans((resource, me.pid), me=me):
                    self.enter(holding)
                    await me.sleep(seconds)
                    self.holdings = [other for other in self.holdings if other is not holding]
            finally:
                self.holdings = [other for other in self.holdings if other is not holding]
                if not over.done():
                    over.set_result(None)

        node.spawn(body)
        await over

    def enter(self, mine: Holding) -> None:
        for other in self.holdings:
            if other.resource == mine.resource and self.exclude(mine, other):
                self.blame(f"{mine.node.name} and {other.node.name} both hold {mine.resource}")
        self.holdings.append(mine)

    def exclude(self, one: Holding, other: Holding) -> bool:
        """Whether the two could see each other all the time since either asked for the lock."""
        if one.node is other.node:
            return True
        here, there = connected_since(one.node, other.node.name), connected_since(other.node, one.node.name)
        if here is None or there is None or abs(here - there) > 1.0:
            return False
        return max(here, there) < min(one.asked, other.asked)

    # What must always hold

    def check(self) -> None:
        """Raises Broken."""
        for life in self.awake():
            life.witness.check()
            for watcher in life.watchers:
                watcher.check()
            self.check_groups(life)
            for name in duplicate_connections(life.node):
                self.blame(f"{life.node.name} has two connections with {name}")
            for resource, pid in lock_holders(life.node):
                if pid.node is not life.node.atom and life.node.creation_of(pid.node) not in (None, pid.creation):
                    self.blame(f"{life.node.name}: {resource!r} is held by {pid!r} of a former life")
        if self.faults:
            raise Broken(f"seed {self.seed} at {self.cluster.now():.3f} s: " + "; ".join(self.faults[:3]))

    def check_groups(self, life: Life) -> None:
        node = life.node
        for name, scope in life.scopes.items():
            groups = {exact(group): group for group in scope.which_groups()}
            for key, group in groups.items():
                members = Counter(scope.get_members(group))
                own = Counter(scope.get_local_members(group))
                if own != Counter({pid: count for pid, count in members.items() if pid.node is node.atom}):
                    self.blame(f"{node.name} {name} {group!r}: local members differ from members")
                for pid, count in members.items():
                    if node.creation_of(pid.node) != pid.creation:
                        self.blame(f"{node.name} {name} {group!r}: {pid!r} is of a node that is down")
                    if count > self.most[name, key, pid]:
                        self.blame(f"{node.name} {name} {group!r}: {pid!r} is in it {count} times")
            for (scope_name, key), wanted in life.joined.items():
                if scope_name == name:
                    want = Counter({pid: count for pid, count in wanted.items() if count and node.is_alive(pid)})
                    have = Counter(scope.get_local_members(groups[key])) if key in groups else Counter()
                    if want != have:
                        self.blame(f"{node.name} {name} {key!r}: {have} instead of {want}")

    # The end

    async def recover(self) -> None:
        """Everything is put right, and the cluster has time to become whole."""
        self.note("recovery")
        self.cluster.heal()
        for life in self.lives.values():
            if self.cluster.is_paused(life.node):
                self.cluster.resume(life.node)
        while self.dead:
            await self.birth(self.dead.pop())
        started = self.cluster.now()
        calm = 0
        self.help_to_meet()
        while calm < 3:  # what is half open shows itself within a tick time and a quarter
            await asyncio.sleep(self.net_ticktime)
            self.check()
            calm = calm + 1 if self.is_at_rest() else 0
            if not self.reconnect:
                self.help_to_meet()
            if self.cluster.now() - started > RECOVERY + 10 * self.net_ticktime:
                self.blame(f"not at rest after {self.cluster.now() - started:g} s: {self.state()}")
                self.check()

    def is_at_rest(self) -> bool:
        return self.cluster.is_complete() and not self.errands and all(self.is_synced(life) for life in self.lives.values())

    def is_synced(self, life: Life) -> bool:
        statistics = life.node.global_names.statistics()
        others = len(self.lives) - 1
        return len(statistics.known) == others and len(statistics.synced) == others and not statistics.in_session

    def state(self) -> str:
        nodes = {life.node.name: (life.node.nodes(), life.node.global_names.statistics()) for life in self.lives.values()}
        return f"{nodes} {list(self.errands.values())}"

    def help_to_meet(self) -> None:
        """As users and discovery do: says once who belongs together, or, without reconnection, dials again and again."""
        if self.reconnect:
            first, *others = self.lives.values()
            for life in others:
                with self.cluster.machine(life.node):
                    life.node.reconnect_with(first.node.name)
            return
        for one in self.lives.values():
            for other in self.lives.values():
                if one.node.name < other.node.name and other.node.name not in one.node.nodes():
                    self.connect(one, other)

    async def compare(self) -> None:
        """All views are equal to what the story knows; an idle time ends nothing."""
        self.compare_views()
        await self.smoke()
        since = self.connections()
        await asyncio.sleep(3600.0 if self.net_ticktime > 30 else 10 * self.net_ticktime)
        self.check()
        if self.connections() != since:
            self.blame("an idle time has ended a connection")
        self.compare_views()
        self.check()

    def connections(self) -> dict[tuple[str, str], float | None]:
        return {
            (life.node.name, peer): connected_since(life.node, peer)
            for life in self.lives.values()
            for peer in life.node.nodes()
        }

    def compare_views(self) -> None:
        lives = list(self.lives.values())
        truth: dict[tuple[str, object], Counter[Pid]] = {}
        for life in lives:
            for key, members in life.joined.items():
                living = Counter({pid: count for pid, count in members.items() if count and life.node.is_alive(pid)})
                truth.setdefault(key, Counter()).update(living)
        for life in lives:
            for name, scope in life.scopes.items():
                view = {exact(group): Counter(scope.get_members(group)) for group in scope.which_groups()}
                wanted = {
                    key: members
                    for (scope_name, key), members in truth.items()
                    if scope_name == name and members
                }
                if view != wanted:
                    self.blame(f"{life.node.name} {name}: {view} instead of {wanted}")
        self.compare_names(lives)
        self.compare_links()

    def compare_names(self, lives: list[Life]) -> None:
        for name in NAMES:
            views = {life.node.name: life.node.global_names.whereis(name) for life in lives}
            if len(set(views.values())) > 1:
                self.blame(f"the global name {name} is {views}")
            for pid in set(views.values()) - {None}:
                if pid is not None and not self.is_alive(pid):
                    self.blame(f"the global name {name} is {pid!r}, who is dead")
        for life in lives:
            for group in life.node.pg2.which_groups():
                for pid in life.node.pg2.get_members(group):
                    if not self.is_alive(pid):
                        self.blame(f"{life.node.name} pg2 {group!r}: {pid!r} is dead")

    def compare_links(self) -> None:
        people = [actor for life in self.lives.values() for actor in life.living()]
        for actor in people:
            for other in linked(actor.node, actor.pid):
                if not self.is_alive(other):
                    self.blame(f"{actor.pid!r} is linked to {other!r}, who is dead")
                elif other in self.everybody and actor.pid not in linked(self.everybody[other].node, other):
                    self.blame(f"{actor.pid!r} is linked to {other!r}, and that not to it")
            for target in actor.watches.values():
                if not self.is_alive(target):
                    self.blame(f"{actor.pid!r} was never told that {target!r} is gone")

    def is_alive(self, pid: Pid) -> bool:
        life = self.lives.get(pid.node.name)
        return life is not None and life.node.is_alive(pid)

    async def smoke(self) -> None:
        """In a cluster at rest everything works."""
        people: list[Actor] = []
        for life in self.lives.values():
            with self.cluster.machine(life.node):
                people.append(Actor(life.node, self.note, self.blame, self.everybody, server=False))
                life.people.append(people[-1])
        for actor in people:
            with self.cluster.machine(actor.node):
                for other in people:
                    for _ in range(3):
                        actor.say(other.pid)
                    if other is not actor:
                        actor.link(other.pid)
                        actor.watch(other.pid)
        first, last = people[0], people[-1]
        self.errand(first.node, "register", lambda: first.node.global_names.register("smoke", first.pid))
        self.errand(last.node, "lock", lambda: self.hold(last.node, "bread", 0.1))
        self.errand(last.node, "pg2 create", lambda: last.node.pg2.create("smoke"))
        await asyncio.sleep(60.0)
        self.errand(last.node, "pg2 join", lambda: last.node.pg2.join("smoke", first.pid))
        await asyncio.sleep(60.0)
        self.check()
        if self.errands:
            self.blame(f"these never end: {list(self.errands.values())}")
        for actor in people:
            if any(actor.heard.get(other.pid) != 3 for other in people):
                self.blame(f"{actor.pid!r} has not heard everybody: {actor.heard}")
            if actor.node.global_names.whereis("smoke") != first.pid:
                self.blame(f"{actor.node.name} does not know who is smoke")
            if b"smoke" not in actor.node.pg2.which_groups() or actor.node.pg2.get_members("smoke") != [first.pid]:
                self.blame(f"{actor.node.name} does not have the pg2 group smoke as it is")
        self.check()

    async def farewell(self) -> None:
        """All people die; nothing of them must be left anywhere."""
        for life in self.lives.values():
            with self.cluster.machine(life.node):
                for actor in life.living():
                    life.node.exit(actor.pid, KILL)
        await asyncio.sleep(20.0)
        self.check()
        for life in self.lives.values():
            for scope in life.scopes.values():
                if scope.which_groups():
                    self.blame(f"{life.node.name}: groups of the dead: {scope.which_groups()}")
            if any(life.node.pg2.get_members(group) for group in life.node.pg2.which_groups()):
                self.blame(f"{life.node.name}: pg2 groups of the dead")
            if life.node.global_names.registered():
                self.blame(f"{life.node.name}: names of the dead: {life.node.global_names.registered()}")
            left = {what: count for what, count in leftovers(life.node).items() if count}
            if left:
                self.blame(f"{life.node.name}: left over: {left}")
        self.check()


def tell(seed: int, **options: Any) -> str:
    """Tells one story; the fingerprint of its history. Raises Broken."""
    return run(Story(seed, **options).tell)


def main(arguments: list[str] | None = None) -> int:
    """The command line; the number of seeds that failed, at most 1."""
    parser = argparse.ArgumentParser(prog="python -m erlmesh.testing.story", description=__doc__)
    parser.add_argument("--seed", type=int, help="tell this story only, and show its history")
    parser.add_argument("--seeds", type=int, default=100, help="how many stories to tell (100)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--acts", type=int, default=40, help="how much happens in a story (40)")
    parser.add_argument("--log", action="store_true", help="show what the nodes log, too")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.log else logging.CRITICAL, format="    %(levelname)s %(message)s")
    if options.seed is not None:
        return _show(options.seed, options.acts, log=options.log)
    return _tell_many(range(options.first, options.first + options.seeds), options.acts)


def _show(seed: int, acts: int, *, log: bool) -> int:
    story = Story(seed, acts=acts)
    if log:
        story.cluster.history = _Aloud()
    try:
        digest = run(story.tell)
    except Exception:
        print("" if log else "\n".join(story.cluster.history))
        traceback.print_exc()
        return 1
    print("" if log else "\n".join(story.cluster.history))
    print(f"seed {seed}: fine, fingerprint {digest}")
    return 0


def _tell_many(seeds: range, acts: int) -> int:
    failed: list[int] = []
    started = time.monotonic()
    virtual = 0.0
    for count, seed in enumerate(seeds, 1):
        story = Story(seed, acts=acts)
        try:
            run(story.tell)
        except Exception as fault:
            failed.append(seed)
            print(f"\rseed {seed}: {type(fault).__name__}: {str(fault)[:400]}", flush=True)
        virtual += story.lasted
        passed = time.monotonic() - started
        if sys.stdout.isatty() or count % 100 == 0 or count == len(seeds):
            end = "\n" if count == len(seeds) or not sys.stdout.isatty() else ""
            progress = f"{count} of {len(seeds)} stories, {virtual / 3600:.1f} virtual hours, {count / passed:.1f} a second"
            print(f"\r{progress}, {len(failed)} failed", end=end, flush=True)
    if failed:
        print(f"failed: {' '.join(map(str, failed))}")
        print(f"to replay one: python -m erlmesh.testing.story --seed {failed[0]}")
    return int(bool(failed))


class _Aloud(list[str]):
    def append(self, line: str) -> None:
        print(line, flush=True)
        super().append(line)


if __name__ == "__main__":
    sys.exit(main())
