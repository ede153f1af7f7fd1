"""The simulated cluster: what happens to work on a node that ends."""

import asyncio

import pytest

from erlmesh.testing.cluster import Cluster, NodeKilled
from erlmesh.testing.loop import run


async def forever():
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(("end", "how"), [("kill", "crashed"), ("stop", "stopped")])
def test_work_on_a_node_that_ends_raises(end, how):
    async def main():
        async with Cluster(1) as cluster:
            await cluster.start("a", "b")
            waiting = asyncio.create_task(cluster.run_on("a", forever))
            elsewhere = asyncio.create_task(cluster.run_on("b", lambda: asyncio.sleep(60, "done")))
            await cluster.sleep(1)
            result = getattr(cluster, end)("a")
            if result is not None:
                await result

            with pytest.raises(NodeKilled, match=rf"^a@10\.0\.0\.1 {how}$"):
                await asyncio.wait_for(waiting, 60)
            assert await elsewhere == "done"

    run(main)


def test_a_restarted_node_takes_work_again():
    async def main():
        async with Cluster(1) as cluster:
            await cluster.start("a")
            await cluster.stop("a")
            await cluster.start("a")

            assert await cluster.run_on("a", lambda: asyncio.sleep(1, "done")) == "done"

    run(main)
