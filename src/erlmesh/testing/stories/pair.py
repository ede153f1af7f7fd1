"""Two nodes that nobody else knows, and nothing but what a story does to them: what two who dial each other, lose each
other, and speak meanwhile must do, to the message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from erlmesh.node import Node
from erlmesh.terms import Term
from erlmesh.testing.actors import Actor, Witness
from erlmesh.testing.inside import connected_since, linked, watchers
from erlmesh.testing.stories.world import KILL, World

__all__ = ["alone_with_each_other"]

MOMENT: Final = 0.1
"""Seconds in which two who can reach each other have met, or have told each other everything."""
ROUNDS: Final = 6


async def alone_with_each_other(world: World) -> None:
    """Two who dial at once meet once; a half-open connection gives way; what is said meanwhile waits in order; what is
    taken back is; who was disconnected is heard no more.
    """
    one, two = await world.cluster.start("x", "y", cookie="private", reconnect=False)
    pair = _Pair(world, one, two)
    for _ in range(ROUNDS):
        await pair.meet()
        await world.random.choice(ENDS)(pair)
    for act in MEANWHILE:
        await pair.meet()
        await act(pair)
    for node in (one, two):
        await world.cluster.stop(node)


class _Pair:
    def __init__(self, world: World, one: Node, two: Node) -> None:
        self.world = world
        self.one, self.two = one, two
        with world.cluster.machine(one):
            self.seen_by_one = Witness(one, world.note)
        with world.cluster.machine(two):
            self.seen_by_two = Witness(two, world.note)

    def blame(self, fault: str) -> None:
        self.world.blame(f"alone with each other: {fault}")
        self.world.complain()

    def actor(self, node: Node, *, server: bool = True) -> Actor:
        with self.world.cluster.machine(node):
            return Actor(node, self.world.note, self.world.blame, self.world.everybody, server=server)

    def dial(self, node: Node, other: Node, answers: list[bool]) -> None:
        with self.world.cluster.machine(node):
            node.connect_nowait(other.name, answers.append)

    async def meet(self) -> None:
        """Both dial, one a little later."""
        self.seen_by_one.ups.clear()
        self.seen_by_two.ups.clear()
        answers: list[bool] = []
        first, second = self.world.random.sample([(self.one, self.two), (self.two, self.one)], 2)
        self.dial(*first, answers)
        await asyncio.sleep(self.world.random.choice((0.0, 0.0, 0.002, 0.005, 0.01)))
        self.dial(*second, answers)
        await asyncio.sleep(MOMENT)
        if answers != [True, True]:
            self.blame(f"both dial, and are told {answers}")
        if [*self.seen_by_one.ups.values(), *self.seen_by_two.ups.values()] != [1, 1]:
            self.blame(f"both dial, and hear nodeup {self.seen_by_one.ups}, {self.seen_by_two.ups} times")

    async def are_apart(self) -> None:
        await asyncio.sleep(MOMENT)
        if self.one.nodes() or self.two.nodes():
            self.blame(f"they are parted and have {self.one.nodes()}, {self.two.nodes()}")


# How they lose each other


async def _reset(pair: _Pair) -> None:
    pair.world.cluster.reset(pair.one, pair.two)
    await pair.are_apart()


async def _disconnect(pair: _Pair) -> None:
    with pair.world.cluster.machine(pair.one):
        pair.one.disconnect_nowait(pair.two.name)
    await pair.are_apart()


async def _half_open(pair: _Pair) -> None:
    """One loses the connection, the other believes in it still: a new call replaces it at once."""
    await asyncio.sleep(1.0)  # until all that the services had to say is said
    pair.world.cluster.forget(pair.one, pair.two)
    await asyncio.sleep(0.001)
    if pair.one.nodes():
        pair.blame(f"half open: {pair.one.nodes()}, {pair.two.nodes()}")
    answers: list[bool] = []
    pair.dial(pair.one, pair.two, answers)
    await asyncio.sleep(MOMENT)
    since = connected_since(pair.one, pair.two.name), connected_since(pair.two, pair.one.name)
    if answers != [True] or None in since or abs((since[0] or 0.0) - (since[1] or 0.0)) > MOMENT:
        pair.blame(f"a half-open connection does not give way: {answers}, {since}")
    await _disconnect(pair)


ENDS: Final[list[Callable[[_Pair], Awaitable[None]]]] = [_reset, _disconnect, _half_open]


# What is said meanwhile


async def _while_dialling(pair: _Pair) -> None:
    await _disconnect(pair)
    one, two = pair.actor(pair.one), pair.actor(pair.two)
    with pair.world.cluster.machine(pair.one):
        one.say(two.pid)
        one.link(two.pid)
        one.unlink(two.pid)
        one.watch(two.pid)
        one.unwatch_all(two.pid)
        one.say(two.pid)
        one.watch(two.pid)
        one.say(two.pid)
    await asyncio.sleep(MOMENT)
    found = two.heard.get(one.pid), linked(one.node, one.pid), linked(two.node, two.pid), watchers(two.node, two.pid)
    if found != (4, [], [], [one.pid]):  # the last is what an actor says when it hears of a nodeup
        pair.blame(f"what was said while dialling ends as {found}")
    await _disconnect(pair)


async def _links_anew(pair: _Pair) -> None:
    """A link that was taken back can be made again by either, and an exit on its way over it means nothing."""
    one, two = pair.actor(pair.one), pair.actor(pair.two)
    reader, neighbour = pair.actor(pair.one, server=False), pair.actor(pair.one)
    for linker, unlinker, other in ((one, one, two), (two, one, one), (one, two, two)):
        with pair.world.cluster.machine(linker.node):
            linker.link(other.pid)
        await asyncio.sleep(MOMENT)
        if (linked(one.node, one.pid), linked(two.node, two.pid)) != ([two.pid], [one.pid]):
            pair.blame(f"linked: {linked(one.node, one.pid)}, {linked(two.node, two.pid)}")
        with pair.world.cluster.machine(unlinker.node):
            unlinker.unlink(two.pid if unlinker is one else one.pid)
        await asyncio.sleep(MOMENT)
        if linked(one.node, one.pid) or linked(two.node, two.pid):
            pair.blame(f"unlinked: {linked(one.node, one.pid)}, {linked(two.node, two.pid)}")
    with pair.world.cluster.machine(pair.one):
        one.link(two.pid)
        reader.watch(two.pid)
    await asyncio.sleep(MOMENT)
    with pair.world.cluster.machine(pair.two):
        pair.two.exit(two.pid, KILL)
    with pair.world.cluster.machine(pair.one):
        one.unlink(two.pid)
        reader.unwatch_all(two.pid)
        reader.watch(neighbour.pid)
        pair.one.exit(neighbour.pid, KILL)
        reader.unwatch_all(neighbour.pid)  # the DOWN is in its mailbox
    await asyncio.sleep(MOMENT)
    if one.exits or reader.downs:
        pair.blame(f"after the end of a link and a watch came {one.exits}, {reader.downs}")
    await _disconnect(pair)


async def _cut_short(pair: _Pair) -> None:
    """Who hears a message and disconnects its node hears no other of that node, also if it was here already."""
    heard: list[Term] = []

    def receive(message: Term) -> None:
        heard.append(message)
        pair.one.disconnect_nowait(pair.two.name)

    with pair.world.cluster.machine(pair.one):
        listener = pair.one.spawn_handler(receive)
    speaker = pair.actor(pair.two)
    with pair.world.cluster.machine(pair.two):
        for number in range(3):
            speaker.me.send(listener.pid, number)
    await asyncio.sleep(MOMENT)
    if heard != [0]:
        pair.blame(f"from a node that was disconnected at the first message came {heard}")
    await pair.are_apart()


MEANWHILE: Final[list[Callable[[_Pair], Awaitable[None]]]] = [_while_dialling, _links_anew, _cut_short, _cut_short]
