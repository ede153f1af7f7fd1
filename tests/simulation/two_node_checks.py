"""Exact checks with two isolated nodes: simultaneous connects, lost connections, and signals sent meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from erlmesh.node import Node
from erlmesh.terms import Term
from simulation.introspection import connected_since, links_of, monitored_by
from simulation.model import KILL, ClusterModel
from simulation.processes import NodeEventsChecker, TestProcess
from simulation.round_checks import signals_of_one_read, talk_in_a_round

__all__ = ["isolated_pair"]

SETTLE_TIME: Final = 0.1
"""Seconds after which two nodes have connected and delivered all signals."""
ROUNDS: Final = 6


async def isolated_pair(model: ClusterModel) -> None:
    """Check two nodes that no other node knows.

    Simultaneous connects give one connection. A new connection replaces a half-open one. Signals that wait for a
    connection keep their order. No signal of a disconnected node arrives.
    """
    one, two = await model.cluster.start("x", "y", cookie="private", reconnect=False)
    pair = _Pair(model, one, two)
    for _ in range(ROUNDS):
        await pair.connect_both()
        await model.random.choice(DISCONNECTIONS)(pair)
    for concurrent_check in CONCURRENT_CHECKS:
        await pair.connect_both()
        await concurrent_check(pair)
    for node in (one, two):
        await model.cluster.stop(node)


class _Pair:
    def __init__(self, model: ClusterModel, one: Node, two: Node) -> None:
        self.model = model
        self.one, self.two = one, two
        with model.cluster.machine(one):
            self.checker_of_one = NodeEventsChecker(one, model.note)
        with model.cluster.machine(two):
            self.checker_of_two = NodeEventsChecker(two, model.note)

    def fail(self, violation: str) -> None:
        self.model.record_violation(f"isolated pair: {violation}")
        self.model.raise_violations()

    def spawn(self, node: Node, *, as_handler: bool = True) -> TestProcess:
        with self.model.cluster.machine(node):
            return TestProcess(
                node, self.model.note, self.model.record_violation, self.model.all_processes, as_handler=as_handler
            )

    def connect(self, node: Node, other: Node, answers: list[bool]) -> None:
        with self.model.cluster.machine(node):
            node.internals.connect_nowait(other.name, answers.append)

    async def connect_both(self) -> None:
        """Let both nodes connect, one a little later. They must get one connection and one nodeup each."""
        self.checker_of_one.nodeup_counts.clear()
        self.checker_of_two.nodeup_counts.clear()
        answers: list[bool] = []
        first, second = self.model.random.sample([(self.one, self.two), (self.two, self.one)], 2)
        self.connect(*first, answers)
        await asyncio.sleep(self.model.random.choice((0.0, 0.0, 0.002, 0.005, 0.01)))
        self.connect(*second, answers)
        await asyncio.sleep(SETTLE_TIME)
        if answers != [True, True]:
            self.fail(f"both connect, and the results are {answers}")
        if [*self.checker_of_one.nodeup_counts.values(), *self.checker_of_two.nodeup_counts.values()] != [1, 1]:
            counts = f"{self.checker_of_one.nodeup_counts}, {self.checker_of_two.nodeup_counts}"
            self.fail(f"both connect, and the nodeup counts are {counts}")

    async def expect_disconnected(self) -> None:
        await asyncio.sleep(SETTLE_TIME)
        if self.one.nodes() or self.two.nodes():
            self.fail(f"disconnected, but nodes() are {self.one.nodes()}, {self.two.nodes()}")


# Disconnections


async def _reset(pair: _Pair) -> None:
    pair.model.cluster.reset(pair.one, pair.two)
    await pair.expect_disconnected()


async def _disconnect(pair: _Pair) -> None:
    with pair.model.cluster.machine(pair.one):
        pair.one.disconnect(pair.two.name)
    await pair.expect_disconnected()


async def _half_open(pair: _Pair) -> None:
    """Make a half-open connection. A new connection must replace it at once."""
    await asyncio.sleep(1.0)  # until the services have sent all their messages
    pair.model.cluster.half_open(pair.one, pair.two)
    await asyncio.sleep(0.001)
    if pair.one.nodes():
        pair.fail(f"half-open: {pair.one.nodes()}, {pair.two.nodes()}")
    answers: list[bool] = []
    pair.connect(pair.one, pair.two, answers)
    await asyncio.sleep(SETTLE_TIME)
    since = connected_since(pair.one, pair.two.name), connected_since(pair.two, pair.one.name)
    if answers != [True] or None in since or abs((since[0] or 0.0) - (since[1] or 0.0)) > SETTLE_TIME:
        pair.fail(f"a half-open connection is not replaced: {answers}, {since}")
    await _disconnect(pair)


DISCONNECTIONS: Final[list[Callable[[_Pair], Awaitable[None]]]] = [_reset, _disconnect, _half_open]


# Concurrent signals


async def _signals_while_connecting(pair: _Pair) -> None:
    await _disconnect(pair)
    one, two = pair.spawn(pair.one), pair.spawn(pair.two)
    with pair.model.cluster.machine(pair.one):
        one.send_next(two.pid)
        one.link(two.pid)
        one.unlink(two.pid)
        one.monitor(two.pid)
        one.demonitor_all(two.pid)
        one.send_next(two.pid)
        one.monitor(two.pid)
        one.send_next(two.pid)
    await asyncio.sleep(SETTLE_TIME)
    found = (
        two.received.get(one.pid),
        links_of(one.node, one.pid),
        links_of(two.node, two.pid),
        monitored_by(two.node, two.pid),
    )
    if found != (4, [], [], [one.pid]):  # a test process sends the fourth message on nodeup
        pair.fail(f"signals sent while connecting give {found}")
    await _disconnect(pair)


async def _relinking(pair: _Pair) -> None:
    """Both sides can link again after an unlink. An exit signal in flight over a removed link has no effect."""
    one, two = pair.spawn(pair.one), pair.spawn(pair.two)
    reader, neighbour = pair.spawn(pair.one, as_handler=False), pair.spawn(pair.one)
    for linker, unlinker, other in ((one, one, two), (two, one, one), (one, two, two)):
        with pair.model.cluster.machine(linker.node):
            linker.link(other.pid)
        await asyncio.sleep(SETTLE_TIME)
        if (links_of(one.node, one.pid), links_of(two.node, two.pid)) != ([two.pid], [one.pid]):
            pair.fail(f"linked: {links_of(one.node, one.pid)}, {links_of(two.node, two.pid)}")
        with pair.model.cluster.machine(unlinker.node):
            unlinker.unlink(two.pid if unlinker is one else one.pid)
        await asyncio.sleep(SETTLE_TIME)
        if links_of(one.node, one.pid) or links_of(two.node, two.pid):
            pair.fail(f"unlinked: {links_of(one.node, one.pid)}, {links_of(two.node, two.pid)}")
    with pair.model.cluster.machine(pair.one):
        one.link(two.pid)
        reader.monitor(two.pid)
    await asyncio.sleep(SETTLE_TIME)
    with pair.model.cluster.machine(pair.two):
        pair.two.exit(two.pid, KILL)
    with pair.model.cluster.machine(pair.one):
        one.unlink(two.pid)
        reader.demonitor_all(two.pid)
        reader.monitor(neighbour.pid)
        pair.one.exit(neighbour.pid, KILL)
        reader.demonitor_all(neighbour.pid)  # the DOWN message is already in its mailbox
    await asyncio.sleep(SETTLE_TIME)
    if one.exits or reader.downs:
        pair.fail(f"after unlink and demonitor came {one.exits}, {reader.downs}")
    await _disconnect(pair)


async def _disconnect_while_receiving(pair: _Pair) -> None:
    """After a handler disconnects a node, it gets no more messages of that node, even if they have arrived already."""
    received: list[Term] = []

    def receive(message: Term) -> None:
        received.append(message)
        pair.one.disconnect(pair.two.name)

    with pair.model.cluster.machine(pair.one):
        listener = pair.one.spawn_handler(receive)
    speaker = pair.spawn(pair.two)
    with pair.model.cluster.machine(pair.two):
        for number in range(3):
            speaker.me.send(listener.pid, number)
    await asyncio.sleep(SETTLE_TIME)
    if received != [0]:
        pair.fail(f"a node that was disconnected at the first message delivered {received}")
    await pair.expect_disconnected()


CONCURRENT_CHECKS: Final[list[Callable[[_Pair], Awaitable[None]]]] = [
    _signals_while_connecting,
    _relinking,
    _disconnect_while_receiving,
    _disconnect_while_receiving,
    signals_of_one_read,
    talk_in_a_round,
]
