"""How the cost of the mesh grows: complete nodes that all meet, and one complete node that joins a mesh of light peers.

The nodes are simulated: they share one event loop and one process, and their network moves bytes in memory.
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bench.light_peers import CompleteMesh, LightMesh
from erlmesh.proto.channel import Channel
from erlmesh.terms import Atom
from erlmesh.testing import loop as loop_module
from erlmesh.testing.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from erlmesh.node import Node
    from erlmesh.testing.loop import Machine

Row = dict[str, Any]

ROOM: Final = (Atom("room"), 1)
SETTLE: Final = 0.1
"""Virtual seconds after the wanted state, in which the last signals arrive."""
POLL: Final = 1.0
"""Virtual seconds between two looks at the nodes. A look costs n for each node, so it must be rare."""
NO_TICKS: Final = 100_000.0
"""A ``net_ticktime`` with which idle connections cost nothing."""
IDLE_SECONDS: Final = 600.0


class Counter:
    """Signals received, and CPU time: of all nodes, or of one machine."""

    def __init__(self, machine: Machine | None = None) -> None:
        self.signals = 0
        self.seconds = 0.0
        self.machine = machine

    def reset(self) -> None:
        """Start to count. From now on, the garbage collector ignores what exists.

        A real node does not have the objects of its peers, so no collection visits them.
        """
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self.signals, self.seconds, self._start = 0, 0.0, time.process_time()

    def cpu_seconds(self) -> float:
        """CPU seconds since :meth:`reset`: in callbacks of the machine, or of the whole process."""
        return self.seconds if self.machine is not None else time.process_time() - self._start


@contextmanager
def counting(counter: Counter) -> Iterator[None]:
    """Count the signals that channels receive, and the CPU time of the callbacks of ``counter.machine``."""
    receive_data, call = Channel.receive_data, loop_module._MachineCallback.__call__

    def counting_receive_data(channel: Channel, data: bytes, now: float) -> list[Any]:
        events = receive_data(channel, data, now)
        if counter.machine is None or counter.machine is loop_module._machine.get():
            counter.signals += len(events)
        return events

    def counting_call(callback: Any, *arguments: Any) -> None:
        if callback._machine is not counter.machine:
            call(callback, *arguments)
            return
        start = time.process_time()
        call(callback, *arguments)
        counter.seconds += time.process_time() - start

    Channel.receive_data = counting_receive_data  # type: ignore[method-assign]
    if counter.machine is not None:
        loop_module._MachineCallback.__call__ = counting_call  # type: ignore[method-assign]
    try:
        yield
    finally:
        gc.unfreeze()
        Channel.receive_data = receive_data  # type: ignore[method-assign]
        loop_module._MachineCallback.__call__ = call  # type: ignore[method-assign]


async def wait_for(cluster: Cluster, condition: Callable[[], object]) -> None:
    while not condition():
        await cluster.sleep(POLL)
    await cluster.sleep(SETTLE)


def peers(node: Node) -> int:
    """The number of connected peers of a node, in constant time."""
    return len(node.internals._instance.router.peers)


def resident_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def measure_mesh(size: int) -> Row:
    """Signals and CPU time for each of ``size`` complete nodes: all meet, one process joins a group, one node dies."""
    counter = Counter()
    row: Row = {"nodes": size}

    async def measure(what: str, action: Callable[[], Awaitable[None]], condition: Callable[[], object]) -> None:
        counter.reset()
        await action()
        await wait_for(cluster, condition)
        row[what] = {"signals": counter.signals / size, "microseconds": counter.cpu_seconds() / size * 1e6}

    with counting(counter):
        async with Cluster(seed=1, net_ticktime=NO_TICKS) as cluster:
            nodes = await cluster.start(*[f"n{number}" for number in range(size)])

            async def meet() -> None:
                for node in nodes[1:]:
                    await cluster.run_on(node, partial(node.connect, nodes[0].name))

            async def join() -> None:
                process = nodes[0].spawn(lambda me: me.receive())
                nodes[0].pg.join(ROOM, process)

            async def die() -> None:
                cluster.kill(nodes.pop())

            before = resident_megabytes()
            await measure("meeting", meet, lambda: all(peers(node) == size - 1 for node in nodes))
            row["kilobytes per connection"] = (resident_megabytes() - before) * 1024 / (size * (size - 1) / 2)
            await measure("join", join, lambda: all(node.pg.get_members(ROOM) for node in nodes))
            await measure("death", die, lambda: all(peers(node) == size - 2 for node in nodes))
    return row


async def measure_joiner(size: int, *, light: bool = True) -> Row:
    """Signals and CPU time of one complete node: it joins a mesh of ``size`` nodes, a member joins, a node dies.

    One node of the mesh is complete: the guide, which the new node connects to. With ``light``, the other nodes are
    light peers, see :mod:`bench.light_peers`, and there are 2 n connections instead of n²/2. The new node gets the same
    signals as in a mesh of complete nodes; ``tests/unit/test_bench_growth.py`` compares them.
    """
    row: Row = {"nodes": size}
    async with Cluster(seed=1, net_ticktime=60.0) as cluster:
        guide, newcomer = await cluster.start("guide", "newcomer")
        others = LightMesh(size - 1, newcomer.name) if light else CompleteMesh(size - 1)
        await others.start(cluster, guide)
        counter = Counter(cluster.machine(newcomer))

        async def measure(what: str, action: Callable[[], Awaitable[object]], condition: Callable[[], object]) -> None:
            counter.reset()
            await action()
            await wait_for(cluster, condition)
            row[what] = {"signals": counter.signals, "microseconds": counter.cpu_seconds() * 1e6}

        async def join() -> None:
            others.join(ROOM)

        async def die() -> None:
            others.kill_one()

        statistics = newcomer.global_.statistics
        with counting(counter):
            await measure(
                "meeting",
                lambda: cluster.run_on(newcomer, partial(newcomer.connect, guide.name)),
                lambda: peers(newcomer) == size and len(statistics().synced) == size,
            )
            await measure("join", join, lambda: newcomer.pg.get_members(ROOM))
            await measure("death", die, lambda: peers(newcomer) == size - 1)
            await measure("idle second", lambda: cluster.sleep(IDLE_SECONDS), lambda: True)
        row["idle second"]["microseconds"] /= IDLE_SECONDS
        complete = peers(newcomer) == peers(guide) == size - 1
        others.close()
        if not complete:
            raise AssertionError("a node lost a connection that it should have kept")
    return row
