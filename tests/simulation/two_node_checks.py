"""Two nodes that nobody else knows, and nothing but what a story does to them: what two who dial each other, lose each
other, and speak meanwhile must do, to the message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from erlmesh.node import Node
from erlmesh.terms import Term
from simulation.introspection import connected_since, links_of, monitored_by
from simulation.model import KILL, ClusterModel
from simulation.processes import NodeEventsChecker, TestProcess

__all__ = ["isolated_pair"]

SETTLE_TIME: Final = 0.1
"""Seconds in which two who can reach each other have met, or have told each other everything."""
ROUNDS: Final = 6


async def isolated_pair(model: ClusterModel) -> None:
    """Two who dial at once meet once; a half-open connection gives way; what is said meanwhile waits in order; what is
    taken back is; who was disconnected is heard no more.
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
        self.model.record_violation(f"alone with each other: {violation}")
        self.model.raise_violations()

    def spawn(self, node: Node, *, as_handler: bool = True) -> TestProcess:
        with self.model.cluster.machine(node):
            return TestProcess(
                node, self.model.note, self.model.record_violation, self.model.all_processes, as_handler=as_handler
            )

    def connect(self, node: Node, other: Node, answers: list[bool]) -> None:
        with self.model.cluster.machine(node):
            node.connect_nowait(other.name, answers.append)

    async def connect_both(self) -> None:
        """Both dial, one a little later."""
        self.checker_of_one.nodeup_counts.clear()
        self.checker_of_two.nodeup_counts.clear()
        answers: list[bool] = []
        first, second = self.model.random.sample([(self.one, self.two), (self.two, self.one)], 2)
        self.connect(*first, answers)
        await asyncio.sleep(self.model.random.choice((0.0, 0.0, 0.002, 0.005, 0.01)))
        self.connect(*second, answers)
        await asyncio.sleep(SETTLE_TIME)
        if answers != [True, True]:
            self.fail(f"both dial, and are told {answers}")
        if [*self.checker_of_one.nodeup_counts.values(), *self.checker_of_two.nodeup_counts.values()] != [1, 1]:
            counts = f"{self.checker_of_one.nodeup_counts}, {self.checker_of_two.nodeup_counts}"
            self.fail(f"both dial, and hear nodeup {counts} times")

    async def expect_disconnected(self) -> None:
        await asyncio.sleep(SETTLE_TIME)
        if self.one.nodes() or self.two.nodes():
            self.fail(f"they are parted and have {self.one.nodes()}, {self.two.nodes()}")


# How they lose each other


async def _reset(pair: _Pair) -> None:
    pair.model.cluster.reset(pair.one, pair.two)
    await pair.expect_disconnected()


async def _disconnect(pair: _Pair) -> None:
    with pair.model.cluster.machine(pair.one):
        pair.one.disconnect_nowait(pair.two.name)
    await pair.expect_disconnected()


async def _half_open(pair: _Pair) -> None:
    """One loses the connection, the other believes in it still: a new call replaces it at once."""
    await asyncio.sleep(1.0)  # until all that the services had to say is said
    pair.model.cluster.half_open(pair.one, pair.two)
    await asyncio.sleep(0.001)
    if pair.one.nodes():
        pair.fail(f"half open: {pair.one.nodes()}, {pair.two.nodes()}")
    answers: list[bool] = []
    pair.connect(pair.one, pair.two, answers)
    await asyncio.sleep(SETTLE_TIME)
    since = connected_since(pair.one, pair.two.name), connected_since(pair.two, pair.one.name)
    if answers != [True] or None in since or abs((since[0] or 0.0) - (since[1] or 0.0)) > SETTLE_TIME:
        pair.fail(f"a half-open connection does not give way: {answers}, {since}")
    await _disconnect(pair)


DISCONNECTIONS: Final[list[Callable[[_Pair], Awaitable[None]]]] = [_reset, _disconnect, _half_open]


# What is said meanwhile


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
    if found != (4, [], [], [one.pid]):  # the last is what an actor says when it hears of a nodeup
        pair.fail(f"what was said while dialling ends as {found}")
    await _disconnect(pair)


async def _relinking(pair: _Pair) -> None:
    """A link that was taken back can be made again by either, and an exit on its way over it means nothing."""
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
        reader.demonitor_all(neighbour.pid)  # the DOWN is in its mailbox
    await asyncio.sleep(SETTLE_TIME)
    if one.exits or reader.downs:
        pair.fail(f"after the end of a link and a watch came {one.exits}, {reader.downs}")
    await _disconnect(pair)


async def _disconnect_while_receiving(pair: _Pair) -> None:
    """Who hears a message and disconnects its node hears no other of that node, also if it was here already."""
    received: list[Term] = []

    def receive(message: Term) -> None:
        received.append(message)
        pair.one.disconnect_nowait(pair.two.name)

    with pair.model.cluster.machine(pair.one):
        listener = pair.one.spawn_handler(receive)
    speaker = pair.spawn(pair.two)
    with pair.model.cluster.machine(pair.two):
        for number in range(3):
            speaker.me.send(listener.pid, number)
    await asyncio.sleep(SETTLE_TIME)
    if received != [0]:
        pair.fail(f"from a node that was disconnected at the first message came {received}")
    await pair.expect_disconnected()


CONCURRENT_CHECKS: Final[list[Callable[[_Pair], Awaitable[None]]]] = [
    _signals_while_connecting,
    _relinking,
    _disconnect_while_receiving,
    _disconnect_while_receiving,
]
