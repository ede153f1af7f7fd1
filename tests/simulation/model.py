"""The model of a scenario: the simulated cluster, its processes, and the state that the cluster must have."""

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
from erlmesh.testing.cluster import Cluster, NodeKilled
from simulation.introspection import monitor_count
from simulation.processes import GroupModel, InvariantViolation, NodeEventsChecker, TestProcess

__all__ = ["GROUPS", "KILL", "LATE", "NAMES", "PG2_GROUPS", "RESOURCES", "ClusterModel", "CriticalSection", "NodeRun"]

GROUPS: Final = ("red", "blue", 1, 1.0)
NAMES: Final = (Atom("leader"), Atom("scribe"))
PG2_GROUPS: Final = ("old", "older")
RESOURCES: Final = ("bread", "wine")
LATE: Final = Atom("late")
KILL: Final = Atom("kill")


@dataclass(eq=False)
class NodeRun:
    """One run of a node, from its start to its end, and the state that it must have."""

    node: Node
    events_checker: NodeEventsChecker
    scopes: dict[str, Pg] = field(default_factory=dict)
    group_models: list[GroupModel] = field(default_factory=list)
    processes: list[TestProcess] = field(default_factory=list)
    memberships: dict[tuple[str, object], Counter[Pid]] = field(default_factory=dict)
    """Members that joined and did not leave, by scope name and ``exact_key`` of the group."""
    peer_creations: dict[str, int] = field(default_factory=dict)
    """The latest creation of each peer that it was connected with."""
    service_pids: set[Pid] = field(default_factory=set)
    """Pids of its services, as opposed to test processes."""
    service_monitors: int = 0
    """Number of monitors between these services."""

    def alive_processes(self) -> list[TestProcess]:
        return [process for process in self.processes if process.alive]


@dataclass(eq=False)
class CriticalSection:
    """A critical section that a process is in."""

    resource: Term
    node: Node
    requested_at: float


class _ErrorLogHandler(logging.Handler):
    """Records each logged exception as a violation."""

    def __init__(self, record_violation: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._record_violation = record_violation

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None:
            self._record_violation(f"{record.getMessage()}: {record.exc_info[1]!r}")


class ClusterModel:
    """The cluster and the expected state. ``random`` chooses the actions; the cluster has its own random numbers."""

    def __init__(self, seed: int, nodes: int | None) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.node_count = nodes or self.random.choice((2, 3, 3, 4, 4, 5))
        self.net_ticktime = self.random.choice((8.0, 8.0, 60.0))
        self.reconnect = self.random.random() < 0.8
        self.cluster = Cluster(self.random.getrandbits(64), net_ticktime=self.net_ticktime, reconnect=self.reconnect)
        self.cluster.seed = seed
        self.node_runs: dict[str, NodeRun] = {}
        self.stopped_nodes: list[str] = []
        """Names of nodes that can be restarted."""
        self.all_processes: dict[Pid, TestProcess] = {}
        self.max_memberships: Counter[tuple[str, object, Pid]] = Counter()
        """The largest number of memberships that a pid ever had in a group at one time."""
        self.pg2_joins: Counter[tuple[object, Pid]] = Counter()
        """Number of joins of a pid to a pg2 group, without leaves."""
        self.grace: dict[tuple[object, ...], float] = {}
        """Temporary deviations that are allowed for some time, and the time at which each was first seen."""
        self.critical_sections: list[CriticalSection] = []
        self.pending: dict[asyncio.Task[None], str] = {}
        self.violations: list[str] = []

    # History and violations

    def note(self, what: str) -> None:
        self.cluster.note(what)

    def record_violation(self, violation: str) -> None:
        """Record that an invariant does not hold. The next :meth:`raise_violations` raises it."""
        self.cluster.note(f"BROKEN: {violation}")
        self.violations.append(violation)

    @asynccontextmanager
    async def collecting_errors(self) -> AsyncIterator[None]:
        """Record exceptions that nodes log and that reach the event loop as violations."""
        asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
        handler, logger = _ErrorLogHandler(self.record_violation), logging.getLogger("erlmesh")
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.record_violation(f"{context['message']}: {context.get('exception')!r}")

    def raise_violations(self) -> None:
        """Raises InvariantViolation if a violation was recorded."""
        if self.violations:
            raise InvariantViolation(
                f"seed {self.seed} at {self.cluster.now():.3f} s: " + "; ".join(self.violations[:3])
            )

    # Random choices

    def unpaused(self) -> list[NodeRun]:
        return [node_run for node_run in self.node_runs.values() if not self.cluster.is_paused(node_run.node)]

    def random_node_run(self) -> NodeRun | None:
        unpaused = self.unpaused()
        return self.random.choice(unpaused) if unpaused else None

    def random_pair(self) -> tuple[NodeRun, NodeRun] | None:
        """A running node that is not paused, and another one that may be paused. None if there is no such pair."""
        unpaused, node_runs = self.unpaused(), list(self.node_runs.values())
        if not unpaused or len(node_runs) < 2:
            return None
        one = self.random.choice(unpaused)
        return one, self.random.choice([node_run for node_run in node_runs if node_run is not one])

    def random_process(self) -> TestProcess | None:
        processes = [process for node_run in self.unpaused() for process in node_run.alive_processes()]
        return self.random.choice(processes) if processes else None

    def random_pid(self) -> Pid | None:
        """A pid among the last 12 that were ever spawned. Its process may be dead."""
        pids = list(self.all_processes)[-12:]
        return self.random.choice(pids) if pids else None

    def is_alive(self, pid: Pid) -> bool:
        node_run = self.node_runs.get(pid.node.name)
        return node_run is not None and node_run.node.internals.is_alive(pid)

    # Start and end of nodes and processes

    async def start_node(self, name: str, **options: Any) -> None:
        (node,) = await self.cluster.start(name, **options)
        with self.cluster.machine(node):
            node_run = self.node_runs[node.name] = NodeRun(
                node, NodeEventsChecker(node, self.note), service_monitors=monitor_count(node)
            )
            self.open_scope(node_run, "pg", node.pg)
            if self.random.random() < 0.3:
                self.open_scope(node_run, "late", Pg(node.internals, LATE))

    def open_scope(self, node_run: NodeRun, name: str, scope: Pg) -> None:
        node_run.scopes[name] = scope
        node_run.service_pids |= {*node_run.node.internals.processes()} if name == "pg" else {scope.pid}
        node_run.group_models.append(GroupModel(scope, self.note, f"{node_run.node.name} {name}"))

    def spawn(self, node_run: NodeRun, *, as_handler: bool) -> TestProcess:
        with self.cluster.machine(node_run.node):
            process = TestProcess(
                node_run.node, self.note, self.record_violation, self.all_processes, as_handler=as_handler
            )
        node_run.processes.append(process)
        return process

    def node_stopped(self, name: str) -> None:
        """Record that the node has stopped or crashed."""
        node_run = self.node_runs.pop(name)
        self.stopped_nodes.append(name)
        self.discard_critical_sections(node_run)

    def discard_critical_sections(self, node_run: NodeRun) -> None:
        """Forget the critical sections on a node that ends."""
        self.critical_sections = [section for section in self.critical_sections if section.node is not node_run.node]

    # Background operations

    def connect(self, one: NodeRun, other: NodeRun) -> None:
        self.note(f"{one.node.name} connects to {other.node.name}")
        with self.cluster.machine(one.node):
            one.node.internals.connect_nowait(other.node.name, lambda _: None)

    def run_in_background(self, node: Node, description: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Run ``work`` on the node in the background. The scenario fails if it never ends."""
        description = f"{node.name}: {description}"

        async def go() -> None:
            try:
                result = await self.cluster.run_on(node, work)
            except (NodeKilled, ErlmeshError) as error:
                self.note(f"{description} failed: {type(error).__name__}")
            else:
                self.note(f"{description}: {result}")

        self.note(description)
        task = asyncio.get_running_loop().create_task(go())
        self.pending[task] = description

        def on_done(task: asyncio.Task[None]) -> None:
            del self.pending[task]
            if not task.cancelled() and task.exception() is not None:
                self.record_violation(f"{description} ended with {task.exception()!r}")

        task.add_done_callback(on_done)
