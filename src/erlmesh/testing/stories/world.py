"""The world of a story: its cluster, whoever lives in it, and what the story knows to be true of them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from erlmesh.errors import ErlmeshError
from erlmesh.node import Node
from erlmesh.services.pg.server import Pg
from erlmesh.terms import Atom, Pid, Term
from erlmesh.testing.actors import Actor, Broken, Groups, Witness
from erlmesh.testing.cluster import Cluster, Crashed
from erlmesh.testing.inside import monitors

__all__ = ["GROUPS", "KILL", "LATE", "NAMES", "PG2", "RESOURCES", "Holding", "Life", "World"]

GROUPS: Final = ("red", "blue", 1, 1.0)
NAMES: Final = (Atom("leader"), Atom("scribe"))
PG2: Final = ("old", "older")
RESOURCES: Final = ("bread", "wine")
LATE: Final = Atom("late")
KILL: Final = Atom("kill")


@dataclass(eq=False)
class Life:
    """One life of a node in a story, and what the story knows to be true of it."""

    node: Node
    witness: Witness
    scopes: dict[str, Pg] = field(default_factory=dict)
    watchers: list[Groups] = field(default_factory=list)
    people: list[Actor] = field(default_factory=list)
    joined: dict[tuple[str, object], Counter[Pid]] = field(default_factory=dict)
    """Who has joined what, and not left it: by scope and ``exact`` group."""
    creations: dict[str, int] = field(default_factory=dict)
    """The last life of each peer that it was connected with."""
    services: set[Pid] = field(default_factory=set)
    """Its processes that are no people."""
    monitors: int = 0
    """How many monitors those have among each other."""

    def living(self) -> list[Actor]:
        return [actor for actor in self.people if actor.lives]


@dataclass(eq=False)
class Holding:
    """Somebody is inside a critical section."""

    resource: Term
    node: Node
    asked: float


class _Ear(logging.Handler):
    """Hears of exceptions."""

    def __init__(self, blame: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._blame = blame

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None:
            self._blame(f"{record.getMessage()}: {record.exc_info[1]!r}")


class World:
    """Everything there is. ``random`` decides what happens, the cluster's own what becomes of it."""

    def __init__(self, seed: int, nodes: int | None) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.size = nodes or self.random.choice((2, 3, 3, 4, 4, 5))
        self.net_ticktime = self.random.choice((8.0, 8.0, 60.0))
        self.reconnect = self.random.random() < 0.8
        self.cluster = Cluster(self.random.getrandbits(64), net_ticktime=self.net_ticktime, reconnect=self.reconnect)
        self.cluster.seed = seed
        self.lives: dict[str, Life] = {}
        self.dead: list[str] = []
        """Nodes that may be started again."""
        self.everybody: dict[Pid, Actor] = {}
        self.most: Counter[tuple[str, object, Pid]] = Counter()
        """How often somebody was ever in a group at once, at most."""
        self.pg2_joins: Counter[tuple[object, Pid]] = Counter()
        """How often somebody was ever let into a pg2 group."""
        self.doubts: dict[tuple[object, ...], float] = {}
        """What is not as it should be, and may be so for a while; and since when."""
        self.holdings: list[Holding] = []
        self.errands: dict[asyncio.Task[None], str] = {}
        self.faults: list[str] = []

    # What is said of it

    def note(self, what: str) -> None:
        self.cluster.note(what)

    def blame(self, fault: str) -> None:
        """A promise is broken; the next :meth:`complain` says so."""
        self.cluster.note(f"BROKEN: {fault}")
        self.faults.append(fault)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Takes blame for exceptions that nodes log and outlive, and for those that reach the loop."""
        asyncio.get_running_loop().set_exception_handler(self._overheard)
        ear, logger = _Ear(self.blame), logging.getLogger("erlmesh")
        logger.addHandler(ear)
        try:
            yield
        finally:
            logger.removeHandler(ear)

    def _overheard(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.blame(f"{context['message']}: {context.get('exception')!r}")

    def complain(self) -> None:
        """Raises Broken if there is blame."""
        if self.faults:
            raise Broken(f"seed {self.seed} at {self.cluster.now():.3f} s: " + "; ".join(self.faults[:3]))

    # Who is there

    def awake(self) -> list[Life]:
        return [life for life in self.lives.values() if not self.cluster.is_paused(life.node)]

    def some_life(self) -> Life | None:
        awake = self.awake()
        return self.random.choice(awake) if awake else None

    def some_pair(self) -> tuple[Life, Life] | None:
        """One that is awake, and another that may not be."""
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

    def is_alive(self, pid: Pid) -> bool:
        life = self.lives.get(pid.node.name)
        return life is not None and life.node.is_alive(pid)

    # Lives begin and end

    async def birth(self, name: str, **options: Any) -> None:
        (node,) = await self.cluster.start(name, **options)
        with self.cluster.machine(node):
            life = self.lives[node.name] = Life(node, Witness(node, self.note), monitors=monitors(node))
            self.open_scope(life, "pg", node.pg)
            if self.random.random() < 0.3:
                self.open_scope(life, "late", Pg(node, LATE))

    def open_scope(self, life: Life, name: str, scope: Pg) -> None:
        life.scopes[name] = scope
        life.services |= {*life.node.processes()} if name == "pg" else {scope.pid}
        life.watchers.append(Groups(scope, self.note, f"{life.node.name} {name}"))

    def spawn(self, life: Life, *, server: bool) -> Actor:
        with self.cluster.machine(life.node):
            actor = Actor(life.node, self.note, self.blame, self.everybody, server=server)
        life.people.append(actor)
        return actor

    def lost(self, name: str) -> None:
        """The node has ended."""
        life = self.lives.pop(name)
        self.dead.append(name)
        self.leave_sections(life)

    def leave_sections(self, life: Life) -> None:
        """Whoever was inside a critical section there is no more."""
        self.holdings = [holding for holding in self.holdings if holding.node is not life.node]

    # What takes time

    def connect(self, one: Life, other: Life) -> None:
        self.note(f"{one.node.name} dials {other.node.name}")
        with self.cluster.machine(one.node):
            one.node.connect_nowait(other.node.name, lambda _: None)

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
