"""What many nodes cost if they are not one mesh: hidden workers at a few visible nodes, and several small meshes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench.growth_mesh import NO_TICKS, ROOM, Counter, Row, counting, peers, wait_for
from erlmesh.testing.cluster import Cluster

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["measure_hidden", "measure_separate"]


async def connect(cluster: Cluster, node: Node, to: Node) -> None:
    await cluster.run_on(node, partial(node.connect, to.name))


async def measure_hidden(hubs: int, workers: int) -> Row:
    """``workers`` hidden nodes, each connected with one of ``hubs`` visible nodes. The costs are those of one node."""
    counter, size = Counter(), hubs + workers
    row: Row = {"shape": f"{hubs} visible, {workers} hidden nodes"}
    with counting(counter):
        async with Cluster(seed=1, net_ticktime=NO_TICKS) as cluster:
            visible = await cluster.start(*[f"hub{number}" for number in range(hubs)])
            hidden = await cluster.start(*[f"worker{number}" for number in range(workers)], hidden=True)
            counter.reset()
            for hub in visible[1:]:
                await connect(cluster, hub, visible[0])
            for number, worker in enumerate(hidden):
                hub = visible[number % hubs]
                await connect(cluster, worker, hub)
                worker.pg.discover(hub.name)
            await wait_for(cluster, lambda: sum(map(peers, visible)) == hubs * (hubs - 1) + workers)
            _add(row, "meeting", counter, size, (hubs * (hubs - 1) // 2) + workers)

            counter.reset()
            hidden[0].pg.join(ROOM, hidden[0].spawn(lambda me: me.receive()))
            await wait_for(cluster, lambda: visible[0].pg.get_members(ROOM))
            _add(row, "join", counter, size)

            counter.reset()
            cluster.kill(hidden[0])
            await wait_for(cluster, lambda: not visible[0].pg.get_members(ROOM))
            _add(row, "death", counter, size)
    return row


async def measure_separate(meshes: int, each: int) -> Row:
    """``meshes`` meshes of ``each`` nodes, and one hidden node that is connected with one node of each mesh."""
    counter, size = Counter(), meshes * each + 1
    row: Row = {"shape": f"{meshes} meshes of {each} nodes, and a hidden node"}
    with counting(counter):
        async with Cluster(seed=1, net_ticktime=NO_TICKS) as cluster:
            groups = [await cluster.start(*[f"m{mesh}n{number}" for number in range(each)]) for mesh in range(meshes)]
            [gateway] = await cluster.start("gateway", hidden=True)
            counter.reset()
            for nodes in groups:
                for node in nodes[1:]:
                    await connect(cluster, node, nodes[0])
                await connect(cluster, gateway, nodes[0])
                gateway.pg.discover(nodes[0].name)
            links = meshes * each * (each - 1) // 2 + meshes
            await wait_for(cluster, lambda: sum(map(peers, cluster)) == 2 * links)
            _add(row, "meeting", counter, size, links)

            counter.reset()
            groups[0][0].pg.join(ROOM, groups[0][0].spawn(lambda me: me.receive()))
            await wait_for(cluster, lambda: all(node.pg.get_members(ROOM) for node in [*groups[0], gateway]))
            _add(row, "join", counter, size)

            counter.reset()
            cluster.kill(groups[0][0])
            await wait_for(cluster, lambda: sum(map(peers, cluster)) == 2 * (links - each))
            _add(row, "death", counter, size)
    return row


def _add(row: Row, what: str, counter: Counter, size: int, connections: int | None = None) -> None:
    """Add the cost of one node, on average over all."""
    if connections is not None:
        row["connections"] = connections
    row[what] = {"signals": counter.signals / size, "microseconds": counter.cpu_seconds() / size * 1e6}
