"""What an observer learns of a simulated cluster, and when."""

import asyncio
import json

import pytest

from erlmesh import Atom
from erlmesh.core.cluster_view.texts import pid_text
from erlmesh.errors import RemoteError
from erlmesh.services.viewing.collector import Collector
from erlmesh.services.viewing.follower import Follower
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run
from erlmesh.web.control import Control

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
    assert text.endswith("any more: its node is not connected.")
    assert told(collector, "node_down") == [f"{C} has lost its connection with {B}: connection_closed."]
    report = collector.cluster.reports()[B]
    assert (report["alive"], report["source"], report["links"]) == (False, "none", {})
    assert collector.cluster.reports()[A]["links"][B]["state"] == "reconnecting"


@three_nodes
async def test_a_lost_link_tells_its_attempts(cluster, a, b, collector):
    cluster.kill(b)
    await cluster.sleep(20)

    link = collector.cluster.reports()[A]["links"][B]
    assert link["state"] == "reconnecting"
    assert link["attempt"] >= 2
    assert link["next"] is None or link["next"] > 0
    assert link["reason"] == "there is no node b on 10.0.0.2"

    await cluster.start("b")
    await cluster.wait_until(lambda: collector.cluster.reports()[A]["links"][B]["state"] == "up")
    assert collector.cluster.reports()[A]["links"][B]["attempt"] is None
    assert a.internals._instance.reconnector.lost() == {}


def test_a_node_that_was_disconnected_on_purpose_is_down_with_the_reason(monkeypatch):
    asked = []
    monkeypatch.setattr(Follower, "ask_soon", lambda self, *, with_groups: asked.append((self._name, with_groups)))

    async def main():
        async with Cluster(1) as cluster:
            a, b, hidden = (*await cluster.start("a", "b"), *await cluster.start("h", hidden=True))
            await a.ping(b.name)
            collector = observe(hidden)
            await hidden.ping(a.name)
            await cluster.wait_until(lambda: known(collector) == {A, B})
            await cluster.sleep(1)
            asked.clear()
            await cluster.run_on(a, lambda: asyncio.sleep(0, a.disconnect(B)))
            await cluster.sleep(1)

            for node, peer in ((A, B), (B, A)):
                assert collector.cluster.reports()[node]["links"][peer]["state"] == "down"
            assert collector.cluster.reports()[A]["links"][B]["reason"] == "disconnect"
            assert {(A, False), (B, False)} <= set(asked)  # each end, because the other end has told a change
            collector.close()

    run(main)


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
    assert not a.pg._server.state.recording


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


def test_a_node_with_a_shorter_net_tick_time_is_not_lost_and_logs_nothing(caplog):
    async def main():
        async with Cluster(1) as cluster:
            await cluster.start("a", net_ticktime=12)
            (hidden,) = await cluster.start("h", hidden=True, net_ticktime=60)
            collector = observe(hidden)
            await hidden.ping(A)
            await cluster.wait_until(lambda: known(collector) == {A})
            await cluster.sleep(60)

            assert told(collector, "node_down") == []
            assert "ignored" not in caplog.text
            collector.close()

    run(main)


# What a node tells, and to whom


@three_nodes
async def test_the_observers_of_a_node_are_limited(cluster, a, b, collector):
    pids = [b.spawn(idle) for _ in range(5)]
    answers = []
    for pid in pids:
        try:
            answers.append(await b.rpc(A, "erlmesh", "subscribe_view", [pid]))
        except RemoteError as error:
            answers.append(error.reason[0])

    assert len({*answers[:4]}) == 1
    assert answers[4] is Atom("overloaded")


@three_nodes
async def test_what_is_no_pid_cannot_observe(cluster, a, b, collector):
    with pytest.raises(RemoteError):
        await b.rpc(A, "erlmesh", "subscribe_view", [Atom("me")])


@three_nodes
async def test_a_killed_server_of_views_starts_again(cluster, a, b, collector):
    first = a._services._view_server._process.pid
    b.exit(first, Atom("kill"))
    await cluster.wait_until(lambda: a._services._view_server not in (None, first))
    a.pg.join("greeters", a.spawn(idle))

    await cluster.wait_until(lambda: told(collector, "joined"))


@three_nodes
async def test_a_burst_of_changes_is_few_views(cluster, a, b, collector):
    arrived = []
    collector.add_listener(lambda updates: arrived.append(A) if updates.reports.get(A) else None)
    pid = a.spawn(idle)
    for number in range(300):
        a.pg.join(number, pid)
        await cluster.sleep(0.01)
    await cluster.sleep(1)

    assert len(collector.cluster.reports()[A]["groups"]) == 300
    assert len(arrived) <= 32


@three_nodes
async def test_a_node_with_very_many_groups_tells_some_and_their_number(cluster, a, b, collector):
    pid = a.spawn(idle)
    for number in range(3000):
        a.pg.join((b"room", number), pid)
    await cluster.sleep(5)

    report = collector.cluster.reports()[A]
    assert (len(report["groups"]), report["more_groups"]) == (500, 2500)
    assert a._services._view_server is not None


@three_nodes
async def test_an_observer_that_does_not_read_gets_everything_later(cluster, a, b, collector):
    server, peer = a._services._view_server, a.internals.state.peers[Atom(C)]
    before = collector.cluster.reports()[A]["time"]
    a.pg.join("greeters", a.spawn(idle))
    peer.busy = True
    with a.machine:
        server._tell()  # at once, so that the connection stays full
    assert all(each.needs_all for each in server._observers.values())
    assert collector.cluster.reports()[A]["time"] == before

    peer.busy = False
    await cluster.wait_until(lambda: told(collector, "joined"))


@three_nodes
async def test_a_tool_that_comes_and_goes_is_forgotten_soon(cluster, a, b, collector):
    before = len(collector.cluster.history.events())
    (tool,) = await cluster.start("tool", hidden=True)
    await cluster.run_on(tool, lambda: tool.ping(A))
    await cluster.wait_until(lambda: tool.name in collector.cluster.reports()[A]["links"])
    assert collector.cluster.reports()[A]["links"][tool.name]["hidden"]
    await cluster.stop(tool)
    await cluster.sleep(10)

    assert tool.name not in collector.cluster.reports()[A]["links"]
    assert tool.name not in collector.cluster.reports()
    assert len(collector.cluster.history.events()) == before


# What other programs get


@three_nodes
async def test_updates_are_iterated(cluster, a, b, collector):
    seen = []

    async def watch():
        async for updates in collector.updates():
            seen.append(updates)
            if updates.events:
                return

    task = asyncio.ensure_future(watch())
    await cluster.sleep(0)
    a.pg.join("greeters", a.spawn(idle))
    await cluster.wait_until(task.done)

    assert [event["kind"] for event in seen[-1].events] == ["joined"]
    assert not collector._listeners


# Buttons


@three_nodes
async def test_a_button_ends_a_process_and_says_so(cluster, a, b, collector):
    control = Control(collector._runtime, collector)
    pid = a.spawn(idle)
    body = {"node": A, "pid": pid_text(pid)}
    done, text = await control.run("end", body, "127.0.0.1")
    await cluster.sleep(0.1)

    assert done
    assert not a.internals.is_alive(pid)
    assert told(collector, "control") == [text]


@three_nodes
async def test_buttons_ping_and_disconnect(cluster, a, b, collector):
    control = Control(collector._runtime, collector)
    assert await control.run("ping", {"node": A}, "") == (True, f"{A} answers.")
    done, text = await control.run("disconnect", {"node": A, "peer": B}, "")
    assert not done
    assert "Python nodes cannot be asked" in text
    done, _ = await control.run("disconnect", {"node": A, "peer": C}, "")
    assert done
    await cluster.sleep(0.5)

    assert collector.cluster.reports()[C]["links"][A]["state"] == "down"


@three_nodes
async def test_a_button_for_nothing_of_the_map_is_refused(cluster, a, b, collector):
    control = Control(collector._runtime, collector)
    for body in ({}, {"node": 7}, {"node": "nobody@h"}, {"node": A, "pid": "<0.x.0>"}, {"node": A}):
        done, text = await control.run("end", body, "")
        assert not done
        assert text.endswith(".")


def test_groups_and_nodes_whose_names_start_equally_are_told_apart():
    async def main():
        async with Cluster(1) as cluster:
            *long, watcher = await cluster.start("n" * 220 + "a", "n" * 220 + "b", "watcher")
            for node in long:
                await watcher.ping(node.name)
            collector = observe(watcher)
            groups = ["g" * 300 + letter for letter in "ab"]
            pids = [long[0].spawn(idle), long[0].spawn(idle)]
            for group, pid in zip(groups, pids, strict=True):
                long[0].pg.join(group, pid)
            await cluster.wait_until(lambda: known(collector) >= {each.name for each in long})
            await cluster.wait_until(lambda: len(collector.cluster.reports()[long[0].name]["groups"]) == 2)

            long[0].exit(pids[1], Atom("boom"))
            await cluster.wait_until(lambda: told(collector, "left"))
            (left,) = told(collector, "left")
            assert "it ended with boom" in left
            assert collector.node_name(long[1].name) == long[1].name
            collector.close()

    run(main)
