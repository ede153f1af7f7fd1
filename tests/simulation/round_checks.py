"""Checks of rounds: the steps of the processes that one read wakes up, which run within the read.

One node sends random signals in one loop iteration, so that they arrive in few reads. Some make a process kill another
one, cancel its ``receive`` or disconnect the sender, all of it within the round.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from erlmesh.node import Node, Process
from erlmesh.terms import Atom, Pid, Term
from simulation.model import KILL, ClusterModel

__all__ = ["signals_of_one_read", "talk_in_a_round"]

SETTLE_TIME: Final = 0.1
"""Seconds after which two connected nodes have delivered all signals."""
READS: Final = 8
RECEIVERS: Final = 4
SIGNALS: Final = 24
EXCHANGES: Final = 5_000
"""Messages that two processes exchange: more than the steps of one round."""


class Pair(Protocol):
    """Two connected nodes that no other node knows."""

    model: ClusterModel
    one: Node
    two: Node

    def fail(self, violation: str) -> None: ...


class _Receiver:
    """A process that receives numbers. With ``cancels``, another process may cancel its receive."""

    def __init__(self, node: Node, *, cancels: bool) -> None:
        self.seen: list[Term] = []
        self.sent = 0
        self.limit: int | None = None
        """Number of messages that were sent before its exit signal; None while it was sent none."""
        self.may_end_early = False
        """Another process of the round was told to kill it."""
        self._receive: asyncio.Task[Term] | None = None
        self.pid = node.spawn(self._cancellable_body if cancels else self._body)

    async def _body(self, me: Process) -> None:
        async for number in me:
            self.seen.append(number)

    async def _cancellable_body(self, me: Process) -> None:
        while me.alive:
            self._receive = asyncio.ensure_future(me.receive())
            try:
                self.seen.append(await self._receive)
            except asyncio.CancelledError:
                if not me.alive:
                    raise

    def cancel(self) -> None:
        if self._receive is not None:
            self._receive.cancel()

    def violation(self) -> str | None:
        expected = list(range(self.sent if self.limit is None else self.limit))
        complete = self.limit is None and not self.may_end_early
        if self.seen != (expected if complete else expected[: len(self.seen)]):
            return f"of the messages {expected}, a process received {self.seen}"
        return None


async def signals_of_one_read(pair: Pair) -> None:
    """Each process receives what was sent to it, in order and without a gap, up to its exit signal."""
    for _ in range(READS):
        await _random_read(pair)
    await _random_read(pair, ends_with_disconnect=True)
    if pair.one.nodes() or pair.two.nodes():
        pair.fail(f"a process has disconnected the node, but nodes() are {pair.one.nodes()}, {pair.two.nodes()}")


async def _random_read(pair: Pair, *, ends_with_disconnect: bool = False) -> None:
    rng, two = pair.model.random, pair.two
    with pair.model.cluster.machine(two):
        receivers = [_Receiver(two, cancels=index % 2 == 0) for index in range(RECEIVERS)]
        actor = two.spawn(_act, two, receivers, pair.one.name)
    await asyncio.sleep(SETTLE_TIME)

    def send(me: Process) -> None:
        for _ in range(SIGNALS):
            number = rng.randrange(RECEIVERS)
            receiver = receivers[number]
            kind = rng.choices(["message", "exit", "kill", "cancel"], [12, 1, 1, 4])[0]
            if kind == "message":
                me.send(receiver.pid, receiver.sent)
                receiver.sent += 1
            elif kind == "exit":
                me.exit(receiver.pid, KILL)
                receiver.limit = receiver.sent if receiver.limit is None else receiver.limit
            else:
                me.send(actor, (Atom(kind), number))
                receiver.may_end_early |= kind == "kill"
        if ends_with_disconnect:
            me.send(actor, (Atom("disconnect"), 0))

    with pair.model.cluster.machine(pair.one):
        pair.one.spawn(_once, send)
    await asyncio.sleep(SETTLE_TIME)
    for receiver in receivers:
        if violation := receiver.violation():
            pair.fail(violation)
    with pair.model.cluster.machine(two):
        for pid in [actor, *(receiver.pid for receiver in receivers)]:
            two.exit(pid, KILL)
    await asyncio.sleep(SETTLE_TIME)


async def _once(me: Process, send: Callable[[Process], None]) -> None:
    send(me)


async def _act(me: Process, node: Node, receivers: list[_Receiver], sender: str) -> None:
    async for kind, number in me:
        if kind is Atom("kill"):
            me.exit(receivers[number].pid, KILL)
        elif kind is Atom("cancel"):
            receivers[number].cancel()
        else:
            node.disconnect(sender)


async def talk_in_a_round(pair: Pair) -> None:
    """Two processes that answer each other do not hold the event loop, and none of their messages is lost."""
    others_ran: list[int] = []
    exchanged = [0]

    async def talk(me: Process) -> None:
        async for other in me:
            if not exchanged[0]:
                asyncio.get_running_loop().call_soon(lambda: others_ran.append(exchanged[0]))
            exchanged[0] += 1
            if exchanged[0] < EXCHANGES:
                me.send(other, me.pid)

    with pair.model.cluster.machine(pair.two):
        pids: list[Pid] = [pair.two.spawn(talk), pair.two.spawn(talk)]
    await asyncio.sleep(SETTLE_TIME)
    with pair.model.cluster.machine(pair.one):
        pair.one.spawn(_once, lambda me: me.send(pids[0], pids[1]))
    await asyncio.sleep(SETTLE_TIME)
    if exchanged != [EXCHANGES]:
        pair.fail(f"two processes exchanged {exchanged[0]} messages of {EXCHANGES}")
    if others_ran[0] >= EXCHANGES:
        pair.fail("two processes that answer each other held the event loop")
    with pair.model.cluster.machine(pair.two):
        for pid in pids:
            pair.two.exit(pid, KILL)
    await asyncio.sleep(SETTLE_TIME)
