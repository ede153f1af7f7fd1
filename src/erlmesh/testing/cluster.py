"""A cluster of complete nodes in one event loop, with a simulated network and simulated machines.

Tests can partition the network, and pause or kill the machines.

::

    async def test_a_lost_member_comes_back():
        async with Cluster(seed=7) as cluster:
            a, b, c = await cluster.start("a", "b", "c")
            ...
            cluster.partition([a], [b, c])
            await cluster.sleep(20)            # of virtual time
            cluster.heal()

    run(test_a_lost_member_comes_back)         # erlmesh.testing.loop; or the pytest fixture ``cluster``

One seed determines everything: delays, chunk sizes and the random choices of the nodes. The same seed gives the same
history.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar

from erlmesh.formatting import release_local
from erlmesh.node import Node
from erlmesh.runtime.process import Body, LocalProcess
from erlmesh.runtime.runtime import Runtime
from erlmesh.terms import Atom, Term
from erlmesh.testing.epmd import SimulatedEpmd
from erlmesh.testing.loop import Machine, SimulatedLoop
from erlmesh.testing.network import SimulatedNetwork
from erlmesh.testing.wire import through_wire

__all__ = ["Cluster", "NodeKilled", "SimulatedNode"]

_T = TypeVar("_T")
NodeOrName: TypeAlias = "Node | str"
"""A node, its full name, or the part of it before the ``@``."""

NET_TICKTIME: Final = 8.0
"""Seconds; much shorter than OTP's 60, so that tests detect a silent peer early."""
DEFAULT_TIMEOUT: Final = 120.0
"""Virtual seconds that :meth:`Cluster.wait_until` waits."""


class NodeKilled(Exception):
    """The node was killed or stopped before the operation on it finished."""


class SimulatedRuntime(Runtime):
    """A runtime that starts its processes on its machine, also for code outside that machine."""

    machine: Machine

    def _start_process(self, body: Body, arguments: tuple[Any, ...], name: Atom | str | None) -> LocalProcess:
        with self.machine:
            return super()._start_process(body, arguments, name)

    def spawn_handler(
        self,
        receive: Callable[[Term], None],
        *,
        name: Atom | str | None = None,
        on_end: Callable[[], object] | None = None,
        restart: Callable[[], object] | None = None,
    ) -> LocalProcess:
        with self.machine:
            return super().spawn_handler(receive, name=name, on_end=on_end, restart=restart)


class SimulatedNode(Node):
    """A node whose processes run on its machine."""

    _make_runtime = SimulatedRuntime
    internals: SimulatedRuntime

    @property
    def machine(self) -> Machine:
        """The machine of the node."""
        return self.internals.machine


class Cluster:
    """A simulated cluster. As an async context manager, it kills all nodes at the end.

    ``options`` are passed to each :class:`erlmesh.Node`. ``net_ticktime`` is 8 s unless they set it. ``delay`` is the
    range of packet travel times in seconds. With ``wire``, a message between processes of one node is encoded and
    decoded as one to another node: a ``str`` arrives as ``bytes``, a ``dict`` as a ``Map``, and what is not a term
    raises EncodeError.
    """

    def __init__(
        self, seed: int = 0, *, delay: tuple[float, float] = (0.0002, 0.003), wire: bool = False, **options: Any
    ) -> None:
        self.seed = seed
        self._wire = wire
        self.random = Random(seed)
        self.network = SimulatedNetwork(self.random.getrandbits(64), delay=delay)
        self.history: list[str] = []
        self._options = {"cookie": "simulated", "net_ticktime": NET_TICKTIME, **options}
        self._nodes: dict[str, SimulatedNode] = {}
        self._names: dict[str, str] = {}  # short name to full name; a restarted node keeps its address
        self._cuts: dict[tuple[str, str], None] = {}
        self._pending: dict[str, dict[asyncio.Future[Any], None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._nodes):
            self.kill(name)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    # Nodes

    async def start(self, *names: str, **options: Any) -> list[Node]:
        """Start nodes, or restart them. ``plato`` becomes ``plato@10.0.0.n``.

        The nodes do not connect to each other, unless ``options`` has ``join``. Raises ValueError if one is running.
        """
        return [await self._start(self._full_name(name), options) for name in names]

    async def _start(self, name: str, options: dict[str, Any]) -> Node:
        if name in self._nodes:
            raise ValueError(f"{name} is already running")
        host = self.network.host(name.partition("@")[2])
        host.restart()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop), "a simulated cluster needs erlmesh.testing.loop.run"
        machine = loop.machine(name)
        given = {
            "network": host,
            "epmd": SimulatedEpmd(host),
            "seed": self.random.getrandbits(64),
            **self._options,
            **options,
        }
        node = SimulatedNode(name, **given)
        node.internals.machine = machine
        self._nodes[name] = node
        try:
            await self.run_on(node, node.start)
        except BaseException:
            self._nodes.pop(name, None)
            machine.kill()
            release_local(Atom(name))
            raise
        if self._wire:
            node.internals.local_messages_through(through_wire)
        self.note(f"{name} starts, creation {node.internals.creation}")
        return node

    async def mesh(self, size: int, **options: Any) -> list[Node]:
        """Start ``size`` nodes (``a@10.0.0.1``, ``b@10.0.0.2`` …) and wait until all are connected with each other."""
        names = [chr(ord("a") + index) for index in range(size)]
        nodes = await self.start(*names, **options)
        for node in nodes[1:]:
            await self.run_on(node, partial(node.connect, nodes[0].name))
        await self.wait_until(self.is_complete)
        return nodes

    def node(self, which: NodeOrName) -> Node:
        """The running node. Raises KeyError if it is not running."""
        return self._nodes[self.name(which)]

    def name(self, which: NodeOrName) -> str:
        """The full name of a node. Raises KeyError if no node of that name was ever started."""
        if isinstance(which, Node):
            return which.name
        return which if "@" in which else self._names[which]

    def names(self) -> list[str]:
        """The full names of the running nodes, in the order in which they started."""
        return list(self._nodes)

    def is_up(self, which: NodeOrName) -> bool:
        """True if the node is running."""
        return self.name(which) in self._nodes

    def machine(self, which: NodeOrName) -> Machine:
        """The machine of a node. Code started ``with cluster.machine(node):`` is paused and killed with the node."""
        return self._nodes[self.name(which)].machine

    async def run_on(self, which: NodeOrName, work: Callable[[], Awaitable[_T]]) -> _T:
        """Run ``await work()`` on the machine of the node. Return its result. Raises NodeKilled if the node ends."""
        name = self.name(which)
        node = self._nodes.get(name)
        if node is None or (isinstance(which, Node) and which is not node):
            raise NodeKilled(f"{name} is no longer running")
        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

        async def go() -> None:
            try:
                result = await work()
            except Exception as error:
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        with node.machine:
            task = asyncio.get_running_loop().create_task(go())
        waiting = self._pending.setdefault(name, {})
        waiting[done] = None
        try:
            return await done
        finally:
            waiting.pop(done, None)
            if node.machine.alive:
                task.cancel()

    # Faults of a node

    def pause(self, which: NodeOrName) -> None:
        """Pause the node, as SIGSTOP does."""
        self.note(f"pause {self.name(which)}")
        self.machine(which).pause()

    def resume(self, which: NodeOrName) -> None:
        """Resume the node, as SIGCONT does."""
        self.note(f"resume {self.name(which)}")
        self.machine(which).resume()

    def is_paused(self, which: NodeOrName) -> bool:
        """True if the node is running and paused."""
        return self.machine(which).paused

    def kill(self, which: NodeOrName, *, silently: bool = False) -> None:
        """Kill the node, as SIGKILL does. With ``silently`` its machine loses power: no peer gets a FIN or RST."""
        name = self.name(which)
        self.note(f"crash {name}{' silently' if silently else ''}")
        node = self._nodes.pop(name)
        node.machine.kill()
        release_local(node.internals.atom)  # the node cannot release it any more
        self.network.host(name.partition("@")[2]).crash(silently=silently)
        self._end_pending(name, "crashed")

    async def stop(self, which: NodeOrName) -> None:
        """Shut the node down with :meth:`Node.stop`."""
        name = self.name(which)
        self.note(f"stop {name}")
        node = self._nodes[name]
        await self.run_on(name, node.stop)
        self._nodes.pop(name, None)
        node.machine.kill()
        self._end_pending(name, "stopped")

    def _end_pending(self, name: str, how: str) -> None:
        """End the callers of :meth:`run_on` whose work will never finish, because the machine is gone."""
        for future in self._pending.pop(name, {}):
            if not future.done():
                future.set_exception(NodeKilled(f"{name} {how}"))

    # Faults of the network

    def cut(self, sender: NodeOrName, receiver: NodeOrName, *, both: bool = True) -> None:
        """Drop all packets between the two nodes. Without ``both``, only those from ``sender`` to ``receiver``."""
        pairs = [(sender, receiver), (receiver, sender)] if both else [(sender, receiver)]
        for pair in [(self.name(one), self.name(other)) for one, other in pairs]:
            if pair not in self._cuts:
                self.note(f"cut {pair[0]} -> {pair[1]}")
                self._cuts[pair] = None
                self.network.cut(*map(_address, pair))

    def partition(self, *groups: Iterable[NodeOrName]) -> None:
        """Cut all connections between different groups. Nodes in no group are not affected."""
        named = [[self.name(which) for which in group] for group in groups]
        for index, group in enumerate(named):
            for other in named[index + 1 :]:
                for one in group:
                    for two in other:
                        self.cut(one, two)

    def heal(self, one: NodeOrName | None = None, other: NodeOrName | None = None) -> None:
        """End all cuts; or only those of ``one``; or only those between ``one`` and ``other``."""
        wanted = {self.name(which) for which in (one, other) if which is not None}
        for pair in [pair for pair in self._cuts if wanted <= set(pair)]:
            self.note(f"heal {pair[0]} -> {pair[1]}")
            del self._cuts[pair]
            self.network.heal(*map(_address, pair))

    def reset(self, one: NodeOrName, other: NodeOrName) -> bool:
        """Reset the connections between the two. Both ends notice it. Returns False if there was none."""
        self.note(f"reset {self.name(one)} {self.name(other)}")
        return self.network.reset(_address(self.name(one)), _address(self.name(other)))

    def half_open(self, one: NodeOrName, other: NodeOrName) -> bool:
        """Drop the connections of ``one`` with ``other``. On the side of ``other`` they stay half-open.

        Returns False if there was none.
        """
        self.note(f"forget {self.name(one)} {self.name(other)}")
        return self.network.half_open(_address(self.name(one)), _address(self.name(other)))

    def delivered(self, sender: NodeOrName, receiver: NodeOrName) -> int:
        """Number of chunks delivered from the machine of ``sender`` to the machine of ``receiver``."""
        return self.network.delivered[_address(self.name(sender)), _address(self.name(receiver))]

    def cuts(self) -> list[tuple[str, str]]:
        """The cuts as pairs of sender and receiver."""
        return list(self._cuts)

    # Time and history

    def now(self) -> float:
        """Virtual seconds since the event loop started."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleep in virtual time."""
        await asyncio.sleep(seconds)

    async def wait_until(
        self, condition: Callable[[], object], *, timeout: float = DEFAULT_TIMEOUT, description: str = ""
    ) -> float:
        """Wait until ``condition()`` is true. Returns the virtual seconds that this took.

        Raises AssertionError after ``timeout`` seconds; its message contains ``description``.
        """
        start = self.now()
        while not condition():
            if self.now() - start > timeout:
                wanted = description or getattr(condition, "__name__", "the condition")
                raise AssertionError(f"seed {self.seed}: not within {timeout:g} s: {wanted}")
            await asyncio.sleep(0.01)
        return self.now() - start

    def is_complete(self) -> bool:
        """True if each running node is connected with all other running nodes, and with no other node."""
        names = set(self._nodes)
        return all({node.name, *node.nodes()} == names for node in self._nodes.values())

    def note(self, what: str) -> None:
        """Append a line with the current time to the history."""
        self.history.append(f"{self.now():.6f} {what}")

    def digest(self) -> str:
        """A fingerprint of the history. The same seed gives the same one."""
        return hashlib.sha256("\n".join(self.history).encode()).hexdigest()[:16]

    def _full_name(self, name: str) -> str:
        if "@" in name:
            return name
        if name not in self._names:
            self._names[name] = f"{name}@10.0.0.{len(self._names) + 1}"
        return self._names[name]


def _address(name: str) -> str:
    return name.partition("@")[2]
