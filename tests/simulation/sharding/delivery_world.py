"""Sources with outboxes and workers with inboxes on a simulated cluster, and what must hold at every moment.

I5  a message is forgotten by its source only after a worker has done or refused it
I7  no inbox hands out a message twice
I8  an inbox hands out the messages of a source and key in the order of their numbers
I9  a holder has at most ``credit`` messages that it has not acknowledged, and a source keeps no more for it
I10 without a change of the group nothing is sent twice; each change costs at most two times the credit: what the lost
    holder had, and what a holder that comes back gets before its `wait` is heard
"""

from __future__ import annotations

import asyncio
from typing import Any, Self

from erlmesh import Node
from erlmesh.sharding import Delivery, Inbox, Outbox
from erlmesh.testing.cluster import Cluster

__all__ = ["GROUP", "DeliveryViolation", "DeliveryWorld", "Source", "Worker"]

GROUP = "workers"
STEP = 0.002


class DeliveryViolation(AssertionError):
    """An invariant does not hold."""


class Worker:
    """An inbox, and one task for each message that works for ``seconds``."""

    def __init__(self, world: DeliveryWorld, node: Node, seconds: float = 0.001) -> None:
        self.world = world
        self.node = node
        self.seconds = seconds
        self.taken: dict[tuple[Any, bytes], int] = {}
        """The last number that was handed out, by source and key."""
        self.inbox: Inbox = node.inbox("ticks", group=GROUP)
        with world.cluster.machine(node):
            self.task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        async with self.inbox:
            async for delivery in self.inbox:
                self._check_order(delivery)
                if self.seconds:
                    asyncio.get_running_loop().call_later(self.seconds, self._finish, delivery)
                else:
                    self._finish(delivery)

    def _check_order(self, delivery: Delivery) -> None:
        at = (delivery.source, delivery.key)
        last = self.taken.get(at, 0)
        if delivery.number <= last:
            raise self.world.violation(f"I7, I8: {at} has {delivery.number} after {last}")
        if delivery.message != delivery.number:
            raise self.world.violation(f"{at}: number {delivery.number} has the message {delivery.message}")
        self.taken[at] = delivery.number

    def _finish(self, delivery: Delivery) -> None:
        at = (delivery.source, delivery.key, delivery.number)
        self.world.repeated += at in self.world.done
        self.world.done[at] = None
        if delivery.number % 10 == 7:
            delivery.refuse("seven")
        else:
            delivery.done()


class Source:
    """An outbox, and a task that puts a message every few milliseconds."""

    def __init__(self, world: DeliveryWorld, node: Node, *, keys: int, pause: float) -> None:
        self.world = world
        self.node = node
        self.keys = [f"key {number}" for number in range(keys)]
        self.pause = pause
        self.puts = 0
        self.refusals = 0
        self.changes = 0
        self.checked: dict[bytes, int] = {}
        """The numbers that were found done, by key."""
        self.stopped = False
        self.outbox: Outbox
        with world.cluster.machine(node):
            self.outbox = node.outbox("ticks", group=GROUP, credit=world.credit, on_refused=self._refused)
            node.pg.subscribe(self._changed)
            self.task = asyncio.get_running_loop().create_task(self._run())

    def _refused(self, _: object) -> None:
        self.refusals += 1

    def _changed(self, event: Any) -> None:
        if event.group == GROUP.encode():
            self.changes += 1

    async def _run(self) -> None:
        random, counts = self.world.cluster.random, dict.fromkeys(self.keys, 0)
        while not self.stopped:
            key = random.choice(self.keys)
            counts[key] += 1
            number = await self.outbox.put(key, counts[key])
            if number != counts[key]:
                raise self.world.violation(f"{key}: put gives {number} and not {counts[key]}")
            self.puts += 1
            if self.pause:
                await asyncio.sleep(random.uniform(0, 2 * self.pause))

    def check(self) -> None:
        book, violation = self.outbox._book, self.world.violation
        for pid, sent in book.sent_to().items():
            if sent > book.credit or sent < 0:
                raise violation(f"I9: {pid} has {sent} messages")
        for key, stream in book._streams.items():
            for number in range(self.checked.get(key, 0) + 1, stream.base):
                if (self.outbox.source, key, number) not in self.world.done:
                    raise violation(f"I5: {key!r} forgets {number}, and nobody has done it")
            self.checked[key] = stream.base - 1
        if self.outbox.replays - book.probes > 2 * book.credit * self.changes:
            raise violation(f"I10: {self.outbox.replays} replays after {self.changes} changes")

    def check_all_done(self) -> None:
        for key, stream in self.outbox._book._streams.items():
            if stream.messages:
                raise self.world.violation(f"{key!r} keeps {len(stream.messages)} messages")
        self.check()


class DeliveryWorld:
    """A cluster with sources and workers. Call :meth:`look` often, or run :meth:`watch` as a task."""

    def __init__(self, seed: int = 0, *, credit: int = 8, **options: Any) -> None:
        self.cluster = Cluster(seed, **options)
        self.credit = credit
        self.done: dict[tuple[Any, bytes, int], None] = {}
        self.repeated = 0
        """Messages that were done by two workers."""
        self.workers: list[Worker] = []
        self.sources: list[Source] = []
        self._looker: asyncio.Task[None] | None = None

    def violation(self, what: str) -> DeliveryViolation:
        """Make the error, with the seed."""
        return DeliveryViolation(f"seed {self.cluster.seed}, {self.cluster.now():.3f} s: {what}")

    async def __aenter__(self) -> Self:
        await self.cluster.__aenter__()
        self._looker = asyncio.get_running_loop().create_task(self.watch())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._looker is not None
        self._looker.cancel()
        tasks = [worker.task for worker in self.workers] + [source.task for source in self.sources] + [self._looker]
        await self.cluster.__aexit__(None, None, None)
        failures = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        found = next((failure for failure in failures if failure is not None), None)
        if error[0] is None and found is not None:
            raise found

    async def start(
        self, sources: int, workers: int, *, seconds: float = 0.001, keys: int = 6, pause: float = 0.004
    ) -> None:
        """Start a mesh of nodes: s0, s1 … are sources, w0, w1 … are workers."""
        names = [f"w{number}" for number in range(workers)] + [f"s{number}" for number in range(sources)]
        first, *_ = nodes = await self.cluster.start(*names)
        for node in nodes[1:]:
            await self.cluster.run_on(node, lambda node=node: node.connect(first.name))  # type: ignore[misc]
        await self.cluster.wait_until(self.cluster.is_complete)
        for node in nodes[:workers]:
            self.workers.append(Worker(self, node, seconds))
        for node in nodes[workers:]:
            self.sources.append(Source(self, node, keys=keys, pause=pause))

    async def watch(self) -> None:
        """Look at everything every two milliseconds."""
        while True:
            self.look()
            await asyncio.sleep(STEP)

    def look(self) -> None:
        """Raise DeliveryViolation if an invariant does not hold, or what a task has raised."""
        everything: list[Worker | Source] = [*self.workers, *self.sources]
        for each in everything:
            if each.task.done() and not each.task.cancelled() and self.is_up(each.node):
                each.task.result()
        for source in self.sources:
            if self.is_up(source.node):
                source.check()
        if self._looker is not None and self._looker.done() and not self._looker.cancelled():
            self._looker.result()

    def is_up(self, node: Node) -> bool:
        """Whether this incarnation of the node runs."""
        return self.cluster.is_up(node.name) and self.cluster.node(node.name) is node

    async def rest(self) -> None:
        """End all faults and the sources. All messages of living sources must be done, without help by probes."""
        self.cluster.heal()
        for name in self.cluster.names():
            if self.cluster.is_paused(name):
                self.cluster.resume(name)
        await self.cluster.wait_until(self.cluster.is_complete, description="a whole mesh")
        living = [source for source in self.sources if self.is_up(source.node)]
        for source in living:
            source.stopped = True
        await self.cluster.wait_until(
            lambda: not any(source.outbox.kept for source in living), description="all is acknowledged", timeout=9
        )
        self.look()
        for source in living:
            source.check_all_done()
