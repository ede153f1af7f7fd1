"""Random histories of acknowledged delivery, and directed ones for faults that random ones meet seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from simulation.sharding.delivery_books import CHOICES, World
from simulation.sharding.delivery_world import GROUP, DeliveryWorld, Worker

__all__ = ["DIRECTED", "random_history"]

TICK_TIME = 4.0
CREDIT = 8


async def random_history(seed: int, acts: int = 10) -> str:
    """Run one random history and return its fingerprint. Raises DeliveryViolation."""
    world = DeliveryWorld(seed, credit=CREDIT, net_ticktime=TICK_TIME, wire=seed % 3 == 0)
    async with world:
        random = world.cluster.random
        await world.start(
            random.randint(1, 2), random.randint(2, 3), seconds=random.choice([0, 0.001, 0.02]), pause=0.02
        )
        choices = _acts(world)
        for _ in range(acts):
            await random.choice(choices)()
            world.look()
            await asyncio.sleep(random.choice([0.0, 0.01, 0.1, 0.5, TICK_TIME * 0.7, TICK_TIME * 1.5]))
        await world.rest()
        return world.cluster.digest()


def _acts(world: DeliveryWorld) -> list[Callable[[], Awaitable[None]]]:
    cluster, random = world.cluster, world.cluster.random

    def workers() -> list[Worker]:
        return [worker for worker in world.workers if world.is_up(worker.node) and not worker.task.done()]

    def running() -> list[str]:
        return [name for name in cluster.names() if not cluster.is_paused(name)]

    async def kill() -> None:
        found = workers()
        if len({worker.node for worker in found}) > 1:
            cluster.kill(random.choice(found).node, silently=random.random() < 0.3)

    async def kill_source() -> None:
        if len(living := [source for source in world.sources if world.is_up(source.node)]) > 1:
            cluster.kill(random.choice(living).node)

    async def start() -> None:
        for worker in world.workers:
            if not cluster.is_up(worker.node.name):
                (node,) = await cluster.start(worker.node.name.partition("@")[0], join=cluster.names())
                world.workers.append(Worker(world, node, worker.seconds))
                return

    async def close() -> None:
        found = [worker for worker in workers() if worker.node.name in running()]
        if found:
            worker = random.choice(found)
            if random.random() < 0.5:
                with cluster.machine(worker.node):
                    worker.inbox.close()
            else:
                stopping = asyncio.ensure_future(cluster.run_on(worker.node, worker.inbox.stop))
                stopping.add_done_callback(lambda done: done.exception())  # The node may be killed meanwhile.
            await asyncio.sleep(random.choice([0, 0.01]))
            if world.is_up(worker.node):
                world.workers.append(Worker(world, worker.node, worker.seconds))

    async def stop() -> None:
        found = [worker for worker in workers() if worker.node.name in running()]
        if len({worker.node for worker in found}) > 1:
            await cluster.stop(random.choice(found).node)

    async def pause_for(seconds: float) -> None:
        if names := running():
            name = random.choice(names)
            cluster.pause(name)
            asyncio.get_running_loop().call_later(seconds, _resume, name)

    def _resume(name: str) -> None:
        if cluster.is_up(name) and cluster.is_paused(name):
            cluster.resume(name)

    async def cut(*, both: bool) -> None:
        if len(cluster) < 2:
            return
        one, two = random.sample(cluster.names(), 2)
        cluster.cut(one, two, both=both)
        asyncio.get_running_loop().call_later(random.uniform(0.1, 2.5) * TICK_TIME, cluster.heal, one, two)

    async def reset() -> None:
        if len(cluster) > 1:
            cluster.reset(*random.sample(cluster.names(), 2))

    return [
        kill, kill, start, start, start, close, stop, kill_source,
        lambda: pause_for(random.uniform(0.05, 0.7) * TICK_TIME),
        lambda: pause_for(random.uniform(1.5, 2.5) * TICK_TIME),
        lambda: cut(both=True), lambda: cut(both=False), reset, reset,
    ]  # fmt: skip


# Directed histories


async def steady_state() -> None:
    """Without faults nothing is sent twice."""
    world = DeliveryWorld(1, net_ticktime=TICK_TIME)
    async with world:
        await world.start(2, 3, pause=0.01)
        await world.cluster.wait_until(lambda: all(source.changes == 3 for source in world.sources))
        before = [source.outbox.replays for source in world.sources]
        await world.cluster.sleep(5)

        await world.rest()

        assert [source.outbox.replays for source in world.sources] == before
        assert all(source.puts > 300 and source.refusals > 0 for source in world.sources)


async def holder_is_killed() -> None:
    """What the lost holder had goes to others, once, and nothing else does."""
    world = DeliveryWorld(2, net_ticktime=TICK_TIME)
    async with world:
        await world.start(1, 3, seconds=0.05, pause=0)
        await world.cluster.sleep(1)
        (source,) = world.sources
        replays, held = source.outbox.replays, source.outbox._book.sent_to()
        pid = world.workers[0].inbox.pid

        world.cluster.kill(world.workers[0].node)
        await world.cluster.sleep(1)

        assert source.outbox.replays - replays == held.get(pid, 0) > 0
        await world.rest()


async def _pause(seconds: float, tick_time: float) -> tuple[int, int, int]:
    """Let a holder stand still. Return the changes of the group, the replays without probes, and the duplicates."""
    world = DeliveryWorld(3, net_ticktime=tick_time)
    async with world:
        await world.start(1, 2, pause=0.02)
        await world.cluster.sleep(1)
        (source,) = world.sources
        changes, replays = source.changes, source.outbox.replays
        duplicates = [worker.inbox.duplicates for worker in world.workers]
        pid = world.workers[0].inbox.pid
        world.cluster.pause(world.workers[0].node)
        await world.cluster.sleep(seconds)
        world.cluster.resume(world.workers[0].node)
        await world.cluster.sleep(3)
        await world.rest()
        probes = source.outbox._book.probes
        new = sum(worker.inbox.duplicates for worker in world.workers) - sum(duplicates)
        assert probes <= 2 * sum(source.node.pg.owner(GROUP, key) == pid for key in source.keys)
        return source.changes - changes, source.outbox.replays - replays - probes, new - probes


async def pause_below_the_tick_time() -> None:
    """A holder that stands still for 20 s gets a probe for each key, and its messages are not sent to others."""
    changes, replays, duplicates = await _pause(20.0, 60.0)

    assert (changes, replays) == (0, 0)
    assert duplicates <= 0


async def pause_beyond_the_tick_time() -> None:
    """Others do its work. When it wakes, it may do once more what it has, and no more than its credit."""
    changes, replays, duplicates = await _pause(20.0, TICK_TIME)

    assert changes > 0
    assert 0 < replays <= 3 * CREDIT  # What it had, what it gets when it is back, and again after its `wait`.
    assert duplicates <= CREDIT


async def answers_are_cut_off_then_the_holder_dies() -> None:
    """The holder works, its acknowledgements do not arrive, and it dies: all of that is done again by another one."""
    world = DeliveryWorld(4, net_ticktime=60.0)
    async with world:
        await world.start(1, 2, pause=0)
        await world.cluster.sleep(1)
        worker, (source,) = world.workers[0], world.sources
        world.cluster.cut(worker.node, source.node, both=False)
        await world.cluster.sleep(1)
        kept = source.outbox.waiting()[worker.inbox.pid]
        world.cluster.kill(worker.node)
        await world.cluster.wait_until(lambda: worker.inbox.pid not in source.outbox.waiting(), timeout=200)

        assert kept == world.credit
        await world.rest()


async def a_holder_returns_and_misses_numbers() -> None:
    """While it was away, another one has done some. It says `wait` once per key, and goes on with what is kept."""
    world = DeliveryWorld(5, net_ticktime=TICK_TIME)
    async with world:
        await world.start(1, 2, keys=2, pause=0)
        await world.cluster.sleep(1)
        worker, (source,) = world.workers[0], world.sources
        waits = _count_waits(worker.inbox._book)
        for _ in range(5):
            worker.node.pg.leave(GROUP, worker.inbox.pid)
            await world.cluster.sleep(0.1)
            waits.clear()
            worker.node.pg.join(GROUP, worker.inbox.pid)
            await world.cluster.sleep(0.1)
            world.look()

            assert 0 < len(waits) <= len(source.keys)
        await world.rest()


async def a_holder_returns_at_once() -> None:
    """It gets again what it has already, and nobody else has done anything meanwhile."""
    world = DeliveryWorld(8, net_ticktime=TICK_TIME)
    async with world:
        await world.start(1, 1, seconds=0.05, pause=0)
        await world.cluster.sleep(1)
        (worker,), (source,) = world.workers, world.sources
        duplicates = worker.inbox.duplicates

        worker.node.pg.leave(GROUP, worker.inbox.pid)
        worker.node.pg.join(GROUP, worker.inbox.pid)
        await world.cluster.sleep(1)

        assert 0 < worker.inbox.duplicates - duplicates <= world.credit
        assert source.outbox._book.probes == 0
        await world.rest()


async def _holder_stops(stop: Callable[[DeliveryWorld, Worker], Awaitable[object]]) -> None:
    world = DeliveryWorld(9, net_ticktime=TICK_TIME)
    async with world:
        await world.start(2, 3, seconds=0.02, pause=0)
        await world.cluster.sleep(1)
        await world.cluster.wait_until(lambda: world.workers[0].inbox._book.open > 3)
        repeated = world.repeated  # When the second and third worker came.

        await stop(world, world.workers[0])
        await world.cluster.sleep(1)

        assert world.repeated == repeated
        await world.rest()


async def a_holder_stops_in_order() -> None:
    """It finishes what it has. Nobody does that again."""
    await _holder_stops(lambda world, worker: world.cluster.run_on(worker.node, worker.inbox.stop))


async def the_node_of_a_holder_stops_in_order() -> None:
    """The inbox finishes what it has before its node leaves. Nobody does that again."""
    await _holder_stops(lambda world, worker: world.cluster.stop(worker.node))


async def the_only_holder_closes_and_another_starts() -> None:
    """Messages wait for a holder. The order in which they were put is the order in which they arrive."""
    world = DeliveryWorld(6, net_ticktime=TICK_TIME)
    async with world:
        await world.start(1, 1, seconds=0.1, pause=0)
        await world.cluster.sleep(1)
        for _ in range(5):
            with world.cluster.machine(world.workers[-1].node):
                world.workers[-1].inbox.close()
            await world.cluster.sleep(0.5)
            world.workers.append(Worker(world, world.workers[0].node, 0.001))
            await world.cluster.sleep(0.2)
        await world.rest()


async def many_refusals() -> None:
    """Each refusal returns its credit, so a source goes on."""
    world = DeliveryWorld(7, credit=2, net_ticktime=TICK_TIME)
    async with world:
        await world.start(1, 1, keys=1)
        (source,) = world.sources
        await world.cluster.sleep(5)

        assert source.refusals > 20
        await world.rest()


async def state_moves() -> None:
    """The numbers move with the state of a shard, and connections break: each message is taken once."""
    scripts = [
        [48, 6, 48, 16, 49, 58, 48, 72, 60, 20],
        [51, 3, 15, 50, 47, 50, 51, 59, 75, 61, 15],
    ]  # They failed once.
    scripts += [Random(seed).choices(range(CHOICES), k=200) for seed in range(50)]
    for script in scripts:
        world = World(stateful=True)
        for choice in script:
            world.step(choice)
        world.finish()


def _count_waits(book: Any) -> list[None]:
    """Count how often an inbox tells a source to wait."""
    calls: list[None] = []

    class Counting(type(book)):  # type: ignore[misc]
        def _wait(self, *arguments: Any) -> None:
            calls.append(None)
            super()._wait(*arguments)

    book.__class__ = Counting
    return calls


DIRECTED = [
    steady_state,
    holder_is_killed,
    pause_below_the_tick_time,
    pause_beyond_the_tick_time,
    answers_are_cut_off_then_the_holder_dies,
    a_holder_returns_and_misses_numbers,
    a_holder_returns_at_once,
    a_holder_stops_in_order,
    the_node_of_a_holder_stops_in_order,
    the_only_holder_closes_and_another_starts,
    many_refusals,
    state_moves,
]
