"""What an observer learns of a simulated cluster, and when."""

import asyncio
import json

from erlmesh import Atom
from erlmesh.services.viewing.collector import Collector
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

A, B, C = "a@10.0.0.1", "b@10.0.0.2", "c@10.0.0.3"


async def idle(me):
    await me.receive(lambda _: False)


def observe(node, **options):
    """A collector on a member of the cluster."""
    loop = asyncio.get_running_loop()
    own = None if node.internals.hidden else node._services.subscribe_view
    collector = Collector(node.internals, node.pg, own, clock=loop.time, **options)
    with node.machine:
        collector.start()
    return collector


def told(collector, kind):
    return [event["text"] for event in collector.cluster.history.events() if event["kind"] == kind]


def three_nodes(test):
    """Run ``test(cluster, a, b, collector)``. The collector is on ``c``."""

    def wrapped():
        async def main():
            async with Cluster(1) as cluster:
                a, b, c = await cluster.start("a", "b", "c")
                await a.ping(b.name)
                await c.ping(a.name)
                await cluster.wait_until(lambda: len(c.nodes()) == len(b.nodes()) == 2)
                collector = observe(c)
                await cluster.wait_until(lambda: known(collector) == {A, B, C})
                try:
                    await test(cluster, a, b, collector)
                finally:
                    collector.close()

        run(main)

    return wrapped


def known(collector):
    return {name for name, report in collector.cluster.reports().items() if report["source"] == "push"}


@three_nodes
async def test_a_report_has_the_links_of_its_node(cluster, a, b, collector):
    links = collector.cluster.reports()[A]["links"]

    assert {peer: link["state"] for peer, link in links.items()} == {B: "up", C: "up"}


@three_nodes
async def test_a_process_that_joins_is_seen_within_200_milliseconds(cluster, a, b, collector):
    start = asyncio.get_running_loop().time()
    pid = a.spawn(idle, name="worker")
    a.pg.join("greeters", pid)

    await cluster.wait_until(lambda: told(collector, "joined"))
    assert asyncio.get_running_loop().time() - start <= 0.2
    (group,) = collector.cluster.reports()[A]["groups"]
    assert group["group"] == '<<"greeters">>'
    (member,) = group["members"]
    assert (member["node"], member["name"], member["count"]) == (A, "worker", 1)


@three_nodes
async def test_a_change_of_a_group_is_one_event_with_its_reason(cluster, a, b, collector):
    pid = a.spawn(idle)
    a.pg.join("greeters", pid)
    await cluster.sleep(1)
    a.exit(pid, Atom("boom"))
    await cluster.sleep(5)

    assert len(told(collector, "joined")) == 1
    (text,) = told(collector, "left")
    assert text.endswith("it ended with boom.")


@three_nodes
async def test_the_members_of_a_lost_node_leave_once(cluster, a, b, collector):
    b.pg.join("greeters", b.spawn(idle))
    await cluster.sleep(1)
    cluster.kill(b)
    await cluster.sleep(5)

    (text,) = told(collector, "left")
    assert text.endswith("its node is not connected.")
    assert told(collector, "node_down") == [f"{B} is down: connection_closed."]
    report = collector.cluster.reports()[B]
    assert (report["alive"], report["source"], report["links"]) == (False, "none", {})
    assert collector.cluster.reports()[A]["links"][B]["state"] == "reconnecting"


@three_nodes
async def test_a_cut_between_two_other_nodes_is_seen_from_both_ends(cluster, a, b, collector):
    cluster.partition([a], [b])
    await cluster.sleep(30)

    links = {(one, other): collector.cluster.reports()[one]["links"].get(other) for one, other in ((A, B), (B, A))}
    assert {link["state"] for link in links.values() if link is not None} <= {"reconnecting", "down", "connecting"}
    assert told(collector, "link_down")


@three_nodes
async def test_a_node_that_stands_still_gets_old_and_says_so(cluster, a, b, collector):
    before = collector.cluster.reports()[B]["time"]
    cluster.pause(b)
    await cluster.sleep(7)

    assert collector.cluster.reports()[B]["time"] <= before + 2.5
    assert asyncio.get_running_loop().time() - collector.cluster.reports()[A]["time"] <= 2.5
    assert len([text for text in told(collector, "silent") if text.startswith(f"{B} has told nothing")]) == 1


@three_nodes
async def test_a_global_name_and_a_shard_are_told(cluster, a, b, collector):
    pid = a.spawn(idle)
    await a.global_.register(Atom("leader"), pid)
    a.pg.join(("erlmesh_shards", "orders", 3), pid)
    await cluster.sleep(1)

    assert told(collector, "named")[0].endswith("has the global name leader.")
    assert told(collector, "shard_taken") == [f"{A} has taken shard 3 of orders."]
    shards = collector.cluster.reports()[A]["shards"]["orders"]
    assert shards == {"count": 4, "holders": {A: [3]}, "taking": []}
    assert collector.cluster.reports()[A]["groups"] == []


@three_nodes
async def test_a_node_tells_nothing_when_nobody_looks(cluster, a, b, collector):
    assert a._services._view_server is not None
    collector.close()
    await cluster.sleep(1)

    assert a._services._view_server is None
    assert not a.pg._state.recording


@three_nodes
async def test_a_view_in_the_name_of_another_node_is_ignored(cluster, a, b, collector):
    lie = json.dumps({"links": {}, "version": "lie"}).encode()
    a.send(collector._process.pid, (Atom("erlmesh_view"), Atom(B), lie))
    await cluster.sleep(0.5)

    assert collector.cluster.reports()[B]["version"] != "lie"


def test_a_hidden_observer_finds_all_nodes_and_is_on_no_report():
    async def main():
        async with Cluster(1) as cluster:
            a, b = await cluster.start("a", "b")
            await a.ping(b.name)
            (hidden,) = await cluster.start("h", hidden=True, hidden_groups=True)
            collector = observe(hidden)
            await hidden.ping(a.name)
            await cluster.wait_until(lambda: known(collector) == {A, B})
            await cluster.sleep(3)

            assert all(hidden.name not in report["links"] for report in collector.cluster.reports().values())
            assert [*a.nodes()] == [B]
            collector.close()

    run(main)
