"""Random histories of nodes that hold shards, and faults that random histories seldom contain."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from erlmesh.sharding import Release, Take
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run
from simulation.sharding.invariants import STEP, ShardInvariants
from simulation.sharding.scenario import run_shard_scenario
from simulation.sharding.workers import Worker, holders

SHARDS = 24
TICK_TIME = 4.0


@pytest.mark.parametrize("seed", [*range(1, 7), *range(3_000_000, 3_000_004)])
def test_random_faults_violate_no_invariant(seed):
    run_shard_scenario(seed)


class Mesh:
    """Nodes with workers that are looked at all the time."""

    def __init__(self, cluster, **options):
        self.cluster = cluster
        self.options = {"shards": SHARDS, **options}
        self.workers = []
        self.invariants = ShardInvariants(
            cluster,
            self.workers,
            tick_time=TICK_TIME,
            quorum=options.get("quorum", 1),
            release_time=options.get("release_time", 0.005),
        )
        self.never_two = False
        """True to allow no moment with two holders."""

    async def start(self, *names):
        for name in names:
            others = [each for each in self.cluster.names() if not self.cluster.is_paused(each)]
            (node,) = await self.cluster.start(name, join=others)
            self.workers.append(Worker(self.cluster, node, **self.options))

    def worker(self, name):
        return next(each for each in reversed(self.workers) if each.node.name.startswith(f"{name}@"))

    async def settled(self, *names):
        """Wait until each shard has one holder, and those are on ``names``, each of which has some."""

        def is_settled():
            found = holders(self.workers)
            return (
                len(found) == SHARDS
                and all(len(each) == 1 for each in found.values())
                and {each[0].partition("@")[0] for each in found.values()} == {*names}
            )

        await self.cluster.wait_until(is_settled, description=f"one holder of each shard, on {names}")

    def two(self):
        return {shard: names for shard, names in holders(self.workers).items() if len(names) > 1}

    async def look_on(self):
        while True:
            self.invariants.look()
            if self.never_two:
                assert not self.two(), f"two holders: {self.two()}"
            await asyncio.sleep(STEP)


@asynccontextmanager
async def looking_on(mesh):
    looker = asyncio.create_task(mesh.look_on())
    try:
        yield
        if looker.done():
            looker.result()
    finally:
        looker.cancel()


def simulated(**options):
    """Marks a test that runs in a simulated loop, with a Mesh that is looked at."""

    def wrap(test):
        def running(seed):
            async def main():
                async with Cluster(seed, net_ticktime=TICK_TIME) as cluster:
                    mesh = Mesh(cluster, **options)
                    async with looking_on(mesh):
                        await test(mesh, cluster)

            run(main)

        running.__name__ = test.__name__
        running.__doc__ = test.__doc__
        return pytest.mark.parametrize("seed", [1, 2])(running)

    return wrap


# Without a quorum


@simulated(release_time=0.5)
async def test_through_start_kill_and_return_no_shard_ever_has_two_holders(mesh, cluster):
    await mesh.start("a", "b")
    await mesh.settled("a", "b")
    mesh.never_two = True

    await mesh.start("c")
    await mesh.settled("a", "b", "c")
    cluster.kill("c")
    await mesh.settled("a", "b")
    await mesh.start("c")
    await mesh.settled("a", "b", "c")


@simulated()
async def test_a_node_that_returns_gets_the_same_shards(mesh, cluster):
    await mesh.start("a", "b", "c")
    await mesh.settled("a", "b", "c")
    before = holders(mesh.workers)

    cluster.kill("c")
    await mesh.settled("a", "b")
    await mesh.start("c")
    await mesh.settled("a", "b", "c")

    assert holders(mesh.workers) == before


@simulated(release_time=0.5)
async def test_the_better_node_dies_while_a_holder_releases_for_it(mesh, cluster):
    await mesh.start("a", "b")
    await mesh.settled("a", "b")
    mesh.never_two = True
    await mesh.start("c")
    await cluster.wait_until(lambda: any(type(each) is Release for each in mesh.worker("a").events))

    cluster.kill("c")

    await mesh.settled("a", "b")


@simulated()
async def test_two_holders_die_one_after_the_other_the_second_as_soon_as_it_acts(mesh, cluster):
    await mesh.start("a", "b", "c", "d")
    await mesh.settled("a", "b", "c", "d")
    first = mesh.worker("a")
    gone = set(first.running)
    cluster.kill("a")
    await cluster.wait_until(lambda: any(worker.running & gone for worker in mesh.workers if worker.is_up))
    second = next(worker for worker in mesh.workers if worker.is_up and worker.running & gone)

    cluster.kill(second.node)

    await mesh.settled(*{"b", "c", "d"} - {second.node.name.partition("@")[0]})


@simulated(release_time=0.2)
async def test_a_node_stops_in_order_while_another_one_starts(mesh, cluster):
    await mesh.start("a", "b", "c")
    await mesh.settled("a", "b", "c")
    mesh.never_two = True
    await mesh.start("d")
    await cluster.sleep(0.55)

    await cluster.stop("a")

    await mesh.settled("b", "c", "d")


@simulated()
async def test_a_node_that_is_better_than_both_sides_comes_when_a_split_heals(mesh, cluster):
    await mesh.start("a", "b")
    await mesh.settled("a", "b")
    cluster.partition(["a"], ["b"])
    mesh.invariants.disturbed()
    await cluster.wait_until(lambda: len(mesh.two()) == SHARDS)

    cluster.heal()
    mesh.invariants.disturbed()
    await mesh.start("c")

    await mesh.settled("a", "b", "c")


@simulated()
async def test_a_node_that_starts_during_a_cut_belongs_to_its_side_until_the_heal(mesh, cluster):
    await mesh.start("a", "b", "c")
    await mesh.settled("a", "b", "c")
    cluster.partition(["a"], ["b", "c"])
    mesh.invariants.disturbed()
    await cluster.wait_until(lambda: len(mesh.worker("a").running) == SHARDS)
    cluster.kill("c")
    await mesh.start("c")
    await cluster.sleep(8)
    cluster.cut("c", "a")

    cluster.heal()
    mesh.invariants.disturbed()

    await mesh.settled("a", "b", "c")


@simulated()
async def test_a_holder_that_stands_still_keeps_its_shards_and_those_of_others_do_not_move(mesh, cluster):
    await mesh.start("a", "b", "c")
    await mesh.settled("a", "b", "c")
    before = holders(mesh.workers)
    events = [len(worker.events) for worker in mesh.workers]

    cluster.pause("a")
    mesh.invariants.disturbed()
    await cluster.sleep(TICK_TIME / 2)
    cluster.resume("a")
    mesh.invariants.disturbed()
    await cluster.sleep(3)

    assert holders(mesh.workers) == before
    assert [len(worker.events) for worker in mesh.workers] == events


@simulated()
async def test_a_shard_waits_for_a_holder_that_stands_still(mesh, cluster):
    await mesh.start("a", "b")
    await mesh.settled("a", "b")
    mesh.never_two = True
    await mesh.start("c")
    await cluster.sleep(0.3)
    cluster.pause("a")
    mesh.invariants.disturbed()
    await cluster.sleep(TICK_TIME / 2)

    taken = mesh.worker("c").running
    assert taken
    assert not taken & mesh.worker("a").running
    cluster.resume("a")
    mesh.invariants.disturbed()
    await mesh.settled("a", "b", "c")


# With a quorum: never two that may act


async def beside_a_cut(mesh, cluster, *, both):
    await mesh.start("a", "b", "c")
    await mesh.settled("a", "b", "c")

    for other in ("b", "c"):
        cluster.cut("a", other, both=both)
    mesh.invariants.disturbed()
    await mesh.settled("b", "c")
    cluster.heal()
    mesh.invariants.disturbed()
    await mesh.settled("a", "b", "c")


@simulated(quorum=2)
async def test_of_two_sides_one_holds(mesh, cluster):
    await beside_a_cut(mesh, cluster, both=True)


@simulated(quorum=2)
async def test_a_node_that_only_hears_the_others_is_no_side(mesh, cluster):
    await beside_a_cut(mesh, cluster, both=False)


@simulated(quorum=2)
async def test_a_stale_holder_returns_after_the_tick_time(mesh, cluster):
    await mesh.start("a", "b", "c")
    await mesh.settled("a", "b", "c")

    cluster.pause("a")
    mesh.invariants.disturbed()
    await mesh.settled("b", "c")
    cluster.resume("a")
    mesh.invariants.disturbed()

    assert not mesh.worker("a").allowed
    await mesh.settled("a", "b", "c")


@simulated(quorum=2)
async def test_a_holder_wakes_when_the_others_have_just_given_it_up(mesh, cluster):
    await mesh.start("a", "b", "c")
    await mesh.settled("a", "b", "c")
    cluster.pause("a")
    mesh.invariants.disturbed()
    await cluster.wait_until(lambda: "a@" not in str(list(mesh.worker("b").node.nodes())))

    cluster.resume("a")
    mesh.invariants.disturbed()

    await cluster.sleep(0.3)
    mesh.invariants.look()
    await mesh.settled("a", "b", "c")


@simulated(quorum=2)
async def test_of_three_nodes_in_a_line_the_ends_do_not_hold_the_same_shard(mesh, cluster):
    await mesh.start("a")
    await cluster.sleep(1)
    cluster.network.cut("10.0.0.1", "10.0.0.2")
    cluster.network.cut("10.0.0.2", "10.0.0.1")
    (b,) = await cluster.start("b")
    mesh.workers.append(Worker(cluster, b, **mesh.options))
    await mesh.start("c")
    await cluster.sleep(20)

    cluster.network.heal("10.0.0.1", "10.0.0.2")
    cluster.network.heal("10.0.0.2", "10.0.0.1")
    await mesh.settled("a", "b", "c")


@simulated(quorum=2)
async def test_a_dead_node_is_replaced_after_the_time_to_settle(mesh, cluster):
    await mesh.start("a", "b", "c")
    await mesh.settled("a", "b", "c")
    began = cluster.now()

    cluster.kill("a")
    await mesh.settled("b", "c")

    assert 0.5 <= cluster.now() - began < 0.6


async def beside_a_holder_that_stands_still(mesh, cluster, *, restart):
    """Two nodes leave a holder that stands still. It wakes before its lease ends, and the others have not taken."""
    await mesh.start("a", "b", "c")
    await mesh.settled("a", "b", "c")
    await cluster.sleep(2)
    cluster.pause("a")
    mesh.invariants.disturbed()
    for name in ("b", "c"):
        if restart:
            await mesh.worker(name).stop()
            node = mesh.worker(name).node
            mesh.workers[:] = [each for each in mesh.workers if each.node is not node]
            mesh.workers.append(Worker(cluster, node, **mesh.options))
        node = mesh.worker(name).node
        with cluster.machine(node):
            node.internals.disconnect_and_reconnect("a@10.0.0.1")
    await cluster.sleep(TICK_TIME * 0.4)

    cluster.resume("a")
    mesh.invariants.disturbed()
    assert mesh.worker("a").allowed
    mesh.invariants.look()

    await mesh.settled("a", "b", "c")


@simulated(quorum=2)
async def test_two_nodes_that_leave_a_third_wait_until_it_stops(mesh, cluster):
    await beside_a_holder_that_stands_still(mesh, cluster, restart=False)


@simulated(quorum=2)
async def test_workers_that_start_again_wait_for_a_third_that_stands_still(mesh, cluster):
    await beside_a_holder_that_stands_still(mesh, cluster, restart=True)


@simulated(quorum=3)
async def test_a_minority_holds_nothing(mesh, cluster):
    await mesh.start("a", "b", "c")
    await mesh.settled("a", "b", "c")

    cluster.kill("c")
    await cluster.wait_until(lambda: not holders(mesh.workers))
    await cluster.sleep(20)

    assert not holders(mesh.workers)
    assert any(type(each) is Take for each in mesh.worker("a").events)
