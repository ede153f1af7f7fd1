"""The fake runtime: nodes, processes and connections with virtual time and a seed, without asyncio and bytes.

The tests of ``global`` need it beside the simulated cluster: they stop time between two signals, replace single signals
by those of old OTP versions, and start a service on a node without other services. ``test_fake_runtime.py`` runs the
same checks on it and on real nodes.

``FakeRuntime(seed)`` owns the clock. ``world.node("a@h")`` starts a node with the interface of the runtime (``spawn``,
``spawn_handler``, ``connect_nowait`` and others). Its processes have ``send``, ``receive``, ``monitor``, ``call`` and
others. Time passes only in ``world.run(...)``. One ``Random(seed)`` draws each delay, so a seed replays exactly.

It guarantees what the real runtime guarantees. The signals of one connection arrive in order. ``nodeup`` precedes all
signals of that node, and ``nodedown`` follows them. The ``receive`` function of a handler is never reentered. Only a
broken connection loses signals; a random part of those in flight still arrives.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque

from fake_process import FakeNode


class Stuck(AssertionError):
    """The condition that a test waits for can no longer hold, or did not hold in time."""


class FakeRuntime:
    def __init__(self, seed=0, *, delay=(0.0001, 0.002), connect_delay=(0.001, 0.03)):
        self.random = random.Random(seed)
        self.delay, self.connect_delay = delay, connect_delay
        self.time = 0.0
        self.nodes: dict[str, FakeNode] = {}
        self.log: list[tuple] = []
        self.failures: list[BaseException] = []
        self.partitioned: set[frozenset[str]] = set()
        self._queue: list = []
        self._count = itertools.count()
        self._creations = itertools.count(1)
        self._links: dict[frozenset[str], _Link] = {}

    def node(self, name):
        """Start a node. A second start of the same name gives a new creation."""
        assert name not in self.nodes, f"{name} is running"
        node = self.nodes[name] = FakeNode(self, name, next(self._creations))
        return node

    def at(self, seconds, act):
        heapq.heappush(self._queue, (self.time + seconds, next(self._count), act))

    def run(self, seconds=None, *, until=None, limit=300.0):
        """Advance time by ``seconds``, or until the condition holds. Raises Stuck after ``limit`` seconds."""
        end = self.time + (limit if seconds is None else seconds)
        while True:
            if until is not None and until():
                return
            if not self._queue or self._queue[0][0] > end:
                self.time = end
                break
            self.time, _, act = heapq.heappop(self._queue)
            act()
            if self.failures:
                raise self.failures[0]
        if until is not None and not until():
            raise Stuck(f"not within {limit} s")

    def ask(self, node, body, *args, limit=300.0):
        """Run ``body(me, *args)`` in a new process of ``node`` and return its result."""
        return self.wait(self.start(node, body, *args), limit=limit)

    def start(self, node, body, *args):
        outcome: list = []

        async def asked(me):
            try:
                outcome.append((True, await body(me, *args)))
            except Exception as error:
                outcome.append((False, error))

        node.spawn(asked)
        return outcome

    def wait(self, outcome, *, limit=300.0):
        self.run(until=lambda: outcome, limit=limit)
        good, value = outcome[0]
        if not good:
            raise value
        return value

    # Connections

    def link(self, a, b):
        return self._links.get(frozenset((a, b)))

    def connect(self, a, b):
        """Connect a to b. Both sides come up after a delay, or ``done`` of a is called with False."""
        pair = frozenset((a, b))
        if pair not in self._links:
            link = self._links[pair] = _Link(self, a, b)
            link.dial()

    def cut(self, a, b):
        """Break the TCP connection. Each side notices it after a delay of its own."""
        link = self.link(a, b)
        if link is not None:
            link.cut()

    def partition(self, a, b):
        self.partitioned.add(frozenset((a, b)))
        self.cut(a, b)

    def heal(self):
        self.partitioned.clear()

    def kill(self, name):
        """Kill a node."""
        node = self.nodes.pop(name)
        node.alive = False
        for process in list(node.processes.values()):
            process.ended = True
        for other in list(self.nodes):
            self.cut(name, other)


class _Link:
    """One connection. It is pending, up on one side, up on both sides, or broken."""

    def __init__(self, world, a, b):
        self.world, self.ends = world, (a, b)
        self.nodes = {end: world.nodes.get(end) for end in (a, b)}
        self.up: set[str] = set()
        self.broken = False
        self.disconnected: set[str] = set()
        self.last = {a: 0.0, b: 0.0}  # arrival of the newest signal at that end
        self.backlog = {a: deque(), b: deque()}  # sent to that end before it was up

    def other(self, name):
        return self.ends[1] if name == self.ends[0] else self.ends[0]

    def dial(self):
        world = self.world
        possible = all(self.nodes.values()) and frozenset(self.ends) not in world.partitioned
        wait = world.random.uniform(*world.connect_delay)
        if not possible:
            world.at(wait, self.fail)
            return
        first, second = world.random.sample(self.ends, 2)
        world.at(wait, lambda: self.connected(first))
        world.at(wait + world.random.uniform(*world.delay), lambda: self.connected(second))

    def fail(self):
        if self.world._links.get(frozenset(self.ends)) is self:
            del self.world._links[frozenset(self.ends)]
        for end in self.ends:
            node = self.nodes[end]
            if node is not None and node.alive:
                node._connected(self.other(end), up=False)

    def connected(self, end):
        if self.broken or not self.nodes[end].alive or not self.nodes[self.other(end)].alive:
            if not self.up:
                self.broken = True
                self.fail()
            return
        self.up.add(end)
        self.nodes[end]._nodeup(self.other(end), self)
        for signal in self.backlog[end]:
            self.arrive(end, signal)
        self.backlog[end].clear()

    def send(self, sender, signal):
        end = self.other(sender)
        if self.broken or sender in self.disconnected:
            return
        if end in self.up:
            self.arrive(end, signal)
        else:
            self.backlog[end].append(signal)

    def arrive(self, end, signal):
        world = self.world
        when = max(self.last[end], world.time + world.random.uniform(*world.delay))
        self.last[end] = when

        def deliver():
            if end not in self.disconnected:
                self.nodes[end]._receive(self.other(end), signal)

        world.at(when - world.time, deliver)

    def cut(self):
        if self.broken:
            return
        self.broken = True
        if not self.up:
            self.fail()
            return
        for end in self.ends:
            # Some signals in flight still arrive, the others are lost.
            self.world.at(self.world.random.uniform(0, 0.003), lambda end=end: self.connection_lost(end))

    def connection_lost(self, end):
        self.disconnected.add(end)
        if self.disconnected == set(self.ends) and self.world._links.get(frozenset(self.ends)) is self:
            del self.world._links[frozenset(self.ends)]
        node = self.nodes[end]
        if not node.alive:
            return
        if end in self.up:
            node._nodedown(self.other(end), self)
        else:
            node._connected(self.other(end), up=False)
