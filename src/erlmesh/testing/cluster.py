"""A cluster of whole nodes in one event loop, on a network that can be cut, and on machines that can be paused or
killed.

::

    async def test_a_lost_member_comes_back():
        async with Cluster(seed=7) as cluster:
            a, b, c = await cluster.start("a", "b", "c")
            ...
            cluster.partition([a], [b, c])
            await cluster.sleep(20)            # of virtual time
            cluster.heal()

    run(test_a_lost_member_comes_back)         # erlmesh.testing.loop; or the pytest fixture ``cluster``

One seed decides all: delays, pieces, the nodes' own chance. The same seed gives the same history.
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
from erlmesh.node import Node, Process
from erlmesh.runtime.process import Body
from erlmesh.terms import Atom, Pid, Term
from erlmesh.testing.loop import Machine, SimulatedLoop
from erlmesh.testing.network import SimulatedEpmd, SimulatedNetwork

__all__ = ["Cluster", "NodeKilled", "SimulatedNode"]

_T = TypeVar("_T")
NodeOrName: TypeAlias = "Node | str"
"""A node, its full name, or the part of it before the ``@``."""

NET_TICKTIME: Final = 8.0
DEFAULT_TIMEOUT: Final = 120.0
"""Virtual seconds that :meth:`Cluster.wait_until` waits."""


class NodeKilled(Exception):
    """The node that this was asked of crashed before it was done."""


class SimulatedNode(Node):
    """A node whose processes run on its machine, whoever starts them."""

    machine: Machine

    def spawn(self, body: Body, *arguments: Any, name: Atom | str | None = None) -> Pid:
        with self.machine:
            return super().spawn(body, *arguments, name=name)

    def spawn_handler(
        self,
        receive: Callable[[Term], None],
        *,
        name: Atom | str | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> Process:
        with self.machine:
            return super().spawn_handler(receive, name=name, on_end=on_end)


class Cluster:
    """``options`` are those of :class:`erlmesh.Node`, for every node; ``net_ticktime`` is 8 s if they do not say."""

    def __init__(self, seed: int = 0, *, delay: tuple[float, float] = (0.0002, 0.003), **options: Any) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.network = SimulatedNetwork(self.random.getrandbits(64), delay=delay)
        self.history: list[str] = []
        self._options = {"cookie": "simulated", "net_ticktime": NET_TICKTIME, **options}
        self._nodes: dict[str, SimulatedNode] = {}
        self._names: dict[str, str] = {}
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
        """Starts nodes, or new lives of them. ``plato`` becomes ``plato@10.0.0.n``; nobody dials anybody yet, but if
        ``join`` is among the ``options``.
        """
        return [await self._start(self._full_name(name), options) for name in names]

    async def _start(self, name: str, options: dict[str, Any]) -> Node:
        if name in self._nodes:
            raise ValueError(f"{name} runs already")
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
        node.machine = machine
        self._nodes[name] = node
        try:
            await self.run_on(node, node.start)
        except BaseException:
            self._nodes.pop(name, None)
            machine.kill()
            release_local(Atom(name))
            raise
        self.note(f"{name} starts, creation {node.creation}")
        return node

    async def mesh(self, size: int, **options: Any) -> list[Node]:
        """``size`` nodes, ``a@10.0.0.1``, ``b@10.0.0.2`` …, that are all connected."""
        names = [chr(ord("a") + index) for index in range(size)]
        nodes = await self.start(*names, **options)
        for node in nodes[1:]:
            await self.run_on(node, partial(node.connect, nodes[0].name))
        await self.wait_until(self.is_complete)
        return nodes

    def node(self, which: NodeOrName) -> Node:
        """The running node. Raises ``KeyError``."""
        return self._nodes[self.name(which)]

    def name(self, which: NodeOrName) -> str:
        """Its full name. Raises ``KeyError`` for who has never run."""
        if isinstance(which, Node):
            return which.name
        return which if "@" in which else self._names[which]

    def names(self) -> list[str]:
        """The full names of the running nodes, in the order in which they started."""
        return list(self._nodes)

    def is_up(self, which: NodeOrName) -> bool:
        return self.name(which) in self._nodes

    def machine(self, which: NodeOrName) -> Machine:
        """Whatever is started ``with cluster.machine(node):`` is paused and killed with the node."""
        return self._nodes[self.name(which)].machine

    async def run_on(self, which: NodeOrName, work: Callable[[], Awaitable[_T]]) -> _T:
        """What ``await work()`` gives, done on the node's machine. Raises Crashed if that is killed meanwhile."""
        name = self.name(which)
        node = self._nodes.get(name)
        if node is None or (isinstance(which, Node) and which is not node):
            raise NodeKilled(f"{name} runs no longer")
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

    # What may happen to a node

    def pause(self, which: NodeOrName) -> None:
        """SIGSTOP."""
        self.note(f"pause {self.name(which)}")
        self.machine(which).pause()

    def resume(self, which: NodeOrName) -> None:
        """SIGCONT."""
        self.note(f"resume {self.name(which)}")
        self.machine(which).resume()

    def is_paused(self, which: NodeOrName) -> bool:
        return self.machine(which).paused

    def kill(self, which: NodeOrName, *, silently: bool = False) -> None:
        """SIGKILL; or ``silently``: the power of its machine fails."""
        name = self.name(which)
        self.note(f"crash {name}{' silently' if silently else ''}")
        node = self._nodes.pop(name)
        node.machine.kill()
        release_local(node.atom)  # what a dead machine cannot do itself
        self.network.host(name.partition("@")[2]).crash(silently=silently)
        for future in self._pending.pop(name, {}):
            if not future.done():
                future.set_exception(NodeKilled(f"{name} crashed"))

    async def stop(self, which: NodeOrName) -> None:
        """Leaves in order: :meth:`Node.stop`."""
        name = self.name(which)
        self.note(f"stop {name}")
        node = self._nodes[name]
        await self.run_on(name, node.stop)
        self._nodes.pop(name, None)
        node.machine.kill()

    # What may happen to the network

    def cut(self, sender: NodeOrName, receiver: NodeOrName, *, both: bool = True) -> None:
        """Nothing passes between the two; without ``both``, from the first to the second."""
        pairs = [(sender, receiver), (receiver, sender)] if both else [(sender, receiver)]
        for pair in [(self.name(one), self.name(other)) for one, other in pairs]:
            if pair not in self._cuts:
                self.note(f"cut {pair[0]} -> {pair[1]}")
                self._cuts[pair] = None
                self.network.cut(*map(_address, pair))

    def partition(self, *groups: Iterable[NodeOrName]) -> None:
        """Nothing passes between nodes of different groups; those in no group are not concerned."""
        named = [[self.name(which) for which in group] for group in groups]
        for index, group in enumerate(named):
            for other in named[index + 1 :]:
                for one in group:
                    for two in other:
                        self.cut(one, two)

    def heal(self, one: NodeOrName | None = None, other: NodeOrName | None = None) -> None:
        """Ends all cuts, or all that concern ``one``, or those between ``one`` and ``other``."""
        wanted = {self.name(which) for which in (one, other) if which is not None}
        for pair in [pair for pair in self._cuts if wanted <= set(pair)]:
            self.note(f"heal {pair[0]} -> {pair[1]}")
            del self._cuts[pair]
            self.network.heal(*map(_address, pair))

    def reset(self, one: NodeOrName, other: NodeOrName) -> bool:
        """Breaks their connections; both hear of it. False if there was none."""
        self.note(f"reset {self.name(one)} {self.name(other)}")
        return self.network.reset(_address(self.name(one)), _address(self.name(other)))

    def half_open(self, one: NodeOrName, other: NodeOrName) -> bool:
        """``one`` loses its connections with ``other``, which does not hear of it: they are half open. False if there
        was none.
        """
        self.note(f"forget {self.name(one)} {self.name(other)}")
        return self.network.half_open(_address(self.name(one)), _address(self.name(other)))

    def delivered(self, sender: NodeOrName, receiver: NodeOrName) -> int:
        """How many pieces have come from the machine of ``sender`` to that of ``receiver``."""
        return self.network.delivered[_address(self.name(sender)), _address(self.name(receiver))]

    def cuts(self) -> list[tuple[str, str]]:
        """What does not pass: senders and receivers."""
        return list(self._cuts)

    # Time, and what has happened

    def now(self) -> float:
        """Virtual seconds since the loop began."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def wait_until(
        self, condition: Callable[[], object], *, timeout: float = DEFAULT_TIMEOUT, description: str = ""
    ) -> float:
        """Waits until ``condition()`` is true; how long that took. ``AssertionError`` after ``timeout`` seconds."""
        start = self.now()
        while not condition():
            if self.now() - start > timeout:
                wanted = description or getattr(condition, "__name__", "that")
                raise AssertionError(f"seed {self.seed}: after {timeout:g} s still not: {wanted}")
            await asyncio.sleep(0.01)
        return self.now() - start

    def is_complete(self) -> bool:
        """Whether all running nodes are connected with each other, and with nobody else."""
        everybody = set(self._nodes)
        return all({node.name, *node.nodes()} == everybody for node in self._nodes.values())

    def note(self, what: str) -> None:
        """Adds a line to the history."""
        self.history.append(f"{self.now():.6f} {what}")

    def digest(self) -> str:
        """A fingerprint of the history: the same for the same seed."""
        return hashlib.sha256("\n".join(self.history).encode()).hexdigest()[:16]

    def _full_name(self, name: str) -> str:
        if "@" in name:
            return name
        if name not in self._names:
            self._names[name] = f"{name}@10.0.0.{len(self._names) + 1}"
        return self._names[name]


def _address(name: str) -> str:
    return name.partition("@")[2]
