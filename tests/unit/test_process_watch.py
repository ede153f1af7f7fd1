"""What an observer learns of the processes of a simulated cluster."""

import asyncio

from erlmesh import Atom
from erlmesh.services.viewing.collector import Collector
from erlmesh.services.viewing.process_watch import ProcessWatch
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

A, B, C = "a@10.0.0.1", "b@10.0.0.2", "c@10.0.0.3"


async def idle(me):
    await me.receive(lambda _: False)


def watched(test):
    """Run ``test(cluster, a, b, watch)``. The observer is the node ``c``."""

    def wrapped():
        async def main():
            async with Cluster(1) as cluster:
                a, b, c = await cluster.start("a", "b", "c")
                await a.ping(b.name)
                await c.ping(a.name)
                await cluster.wait_until(lambda: len(c.nodes()) == len(b.nodes()) == 2)
                clock = asyncio.get_running_loop().time
                with c.machine:
                    collector = Collector(c.internals, c.pg, c._services.subscribe_view, clock=clock)
                    collector.start()
                    watch = await ProcessWatch(c.internals, collector, clock=clock).__aenter__()
                before = c.internals.processes()
                await cluster.wait_until(lambda: set(watch.samples) == {A, B, C})
                await test(cluster, a, b, watch)
                await watch.__aexit__(None, None, None)
                collector.close()
                await cluster.sleep(1)
                assert not set(watch._askers.values()) & set(c.internals.processes())
                assert len(c.internals.processes()) <= len(before)

        run(main)

    return wrapped


@watched
async def test_the_longest_mailboxes_of_each_node_are_known(cluster, a, b, watch):
    pid = b.spawn(idle, name="slow")
    for number in range(5):
        a.send(pid, number)
    await cluster.sleep(3)

    (slow,) = [row for row in watch.samples[B].rows if row.name == "slow"]

    assert slow.messages == 5
    assert watch.samples[B].rows[0] == slow


@watched
async def test_a_node_that_stands_still_does_not_delay_the_others(cluster, a, b, watch):
    cluster.pause(b)
    await cluster.sleep(5)

    now = asyncio.get_running_loop().time()
    assert now - watch.samples[A].time < 3
    assert now - watch.samples[B].time > 3
    cluster.resume(b)
    await cluster.wait_until(lambda: asyncio.get_running_loop().time() - watch.samples[B].time < 3)


@watched
async def test_the_processes_of_a_node_that_is_gone_are_gone(cluster, a, b, watch):
    cluster.kill(b)
    await cluster.sleep(2)

    assert set(watch.samples) == {A, C}


@watched
async def test_an_answer_of_another_node_is_not_taken(cluster, a, b, watch):
    row = (Atom("etop_proc_info"), a.internals.pid, 1, 0, Atom("forged"), 0, 0, 1)
    forged = (Atom("etop_info"), 0, 10**6, 0, 0, 0, [], [], [row])
    end = asyncio.get_running_loop().time() + 4
    while asyncio.get_running_loop().time() < end:
        a.send(watch._askers[B], (a.internals.pid, forged))
        await cluster.sleep(0.001)

    assert watch.samples[B].count < 100
    assert all(row.name != "forged" for row in watch.samples[B].rows)
