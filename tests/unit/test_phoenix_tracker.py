"""erlmesh.phoenix.Tracker on simulated clusters: what users call, and what other nodes see."""

import asyncio

import pytest

from erlmesh import Atom, Map, Supervisor
from erlmesh.core.phash2 import phash2
from erlmesh.phoenix import (
    Presence,
    PresenceDiff,
    PubSub,
    SubscriptionOverflow,
    Tracker,
    TrackerError,
    TrackerSettings,
)

PUBSUB, NAME = "MyApp.PubSub", "MyAppWeb.Presence"
PHX_REF, PHX_REF_PREV = Atom("phx_ref"), Atom("phx_ref_prev")


async def trackers(mesh, *nodes, **options):
    """A started Tracker on each node."""
    found = []
    for node in nodes or mesh:

        async def start(node=node):
            pubsub = PubSub(node, PUBSUB)
            await pubsub.start()
            tracker = Tracker(pubsub, NAME, **options)
            await tracker.start()
            return tracker

        found.append(await mesh.run_on(node, start))
    return found


def keys(tracker, topic="gpus"):
    return sorted(each.key_text for each in tracker.list(topic))


def nth(mesh, index):
    return [*mesh][index]


def worker(node):
    return node.spawn_handler(lambda _: None)


async def test_tracked_process_is_listed_on_all_nodes_until_it_ends(cluster):
    mesh = await cluster(3)
    one, two, three = await trackers(mesh)
    process = worker(nth(mesh, 0))

    ref = one.track(process, "gpus", "gpu-1", {"model": "A100", Atom("busy"): False})

    await mesh.wait_until(lambda: keys(two) == keys(three) == ["gpu-1"])
    (seen,) = two.list("gpus")
    assert seen == one.list("gpus")[0]
    assert (seen.topic, seen.key, seen.pid, seen.ref) == ("gpus", b"gpu-1", process.pid, ref)
    assert seen.meta == Map({b"model": b"A100", Atom("busy"): False, PHX_REF: ref})
    assert two.get_by_key("gpus", "gpu-1") == [seen]
    assert two.get_by_key("gpus", "gpu-2") == two.list("other") == []
    assert two.grouped("gpus") == {"gpu-1": {"metas": [seen.meta]}}
    assert two.topics() == ["gpus"]

    process.stop()

    assert keys(one) == []
    await mesh.wait_until(lambda: keys(two) == keys(three) == [])
    assert two.topics() == []


async def test_update_replaces_the_meta_and_names_the_earlier_one(cluster):
    mesh = await cluster(2)
    one, two = await trackers(mesh)
    process = worker(nth(mesh, 0))
    first = one.track(process, "gpus", 1, {"jobs": 0})
    await mesh.wait_until(lambda: two.list("gpus"))

    second = one.update(process, "gpus", 1, lambda meta: {**meta, b"jobs": 1})
    third = one.update(process, "gpus", 1, {"jobs": 2})

    await mesh.wait_until(lambda: two.list("gpus")[0].meta[b"jobs"] == 2)
    assert len({first, second, third}) == 3
    (seen,) = two.list("gpus")
    assert (seen.meta[PHX_REF], seen.meta[PHX_REF_PREV]) == (third, second)


async def test_untrack_removes_one_key_or_all(cluster):
    mesh = await cluster(2)
    one, two = await trackers(mesh)
    process = worker(nth(mesh, 0))
    for topic, key in (("gpus", "a"), ("gpus", "b"), ("rooms", "c")):
        one.track(process, topic, key, {})
    await mesh.wait_until(lambda: keys(two) == ["a", "b"] and keys(two, "rooms") == ["c"])

    one.untrack(process, "gpus", "a")
    one.untrack(process, "gpus", "unknown")
    await mesh.wait_until(lambda: keys(two) == ["b"])
    one.untrack(process)

    await mesh.wait_until(lambda: keys(two) == keys(two, "rooms") == [])
    assert process.alive


async def test_wrong_arguments_raise(cluster):
    mesh = await cluster(1)
    (one,) = await trackers(mesh)
    process = worker(nth(mesh, 0))
    one.track(process, "gpus", "a", {})

    with pytest.raises(ValueError, match="use update"):
        one.track(process, "gpus", "a", {})
    with pytest.raises(KeyError, match="use track"):
        one.update(process, "gpus", "b", {})
    for key in ((1, 2), [], b"\xff", Map()):
        with pytest.raises(ValueError, match="any_key"):
            one.track(process, "gpus", key, {})
    for meta in ([], "x", 1):
        with pytest.raises(TypeError, match="map"):
            one.track(process, "gpus", "b", meta)
    with pytest.raises(TypeError):
        one.track("gpus", "gpus", "b", {})
    with pytest.raises(TypeError):
        one.untrack(process, "gpus")
    with pytest.raises(ValueError, match="object"):
        one.track(process, "gpus", "b", {"x": object()})
    assert keys(one) == ["a"]
    with pytest.raises(ValueError, match="pool_size"):
        Tracker(None, NAME, pool_size=0)
    with pytest.raises(ValueError, match="mode"):
        Tracker(None, NAME, mode="write")


async def test_any_key_allows_other_terms(cluster):
    mesh = await cluster(1)
    (one,) = await trackers(mesh, any_key=True)

    one.track(worker(nth(mesh, 0)), "gpus", ("rack", 1), {})

    assert one.get_by_key("gpus", ("rack", 1))[0].key == (b"rack", 1)


async def test_read_replica_sees_all_and_nobody_knows_it(cluster):
    mesh = await cluster(3)
    one, two = await trackers(mesh, *list(mesh)[:2])
    (reader,) = await trackers(mesh, nth(mesh, 2), mode="read")
    one.track(worker(nth(mesh, 0)), "gpus", "a", {})
    two.track(worker(nth(mesh, 1)), "gpus", "b", {})

    await mesh.wait_until(lambda: keys(reader) == ["a", "b"])

    await mesh.sleep(60)
    assert reader.replicas() == sorted(node.name for node in list(mesh)[:2])
    assert one.replicas() == [nth(mesh, 1).name]
    with pytest.raises(TrackerError, match="mode='full'"):
        reader.track(worker(nth(mesh, 2)), "gpus", "c", {})


@pytest.mark.parametrize("mode", ["full", "read"])
async def test_newcomer_is_ready_with_all_entries_long_before_the_silent_periods_end(cluster, mode):
    mesh = await cluster(3)
    one, two = await trackers(mesh, *list(mesh)[:2])
    for number in range(50):
        one.track(worker(nth(mesh, 0)), "gpus", number, {})
    await mesh.wait_until(lambda: len(two.list("gpus")) == 50)
    await mesh.sleep(60)
    before = mesh.now()

    (three,) = await trackers(mesh, nth(mesh, 2), mode=mode)
    assert await mesh.run_on(nth(mesh, 2), three.ready)

    assert mesh.now() - before < 1.0
    assert len(three.list("gpus")) == 50
    assert three.replicas() == sorted(node.name for node in list(mesh)[:2])


async def test_ready_is_false_while_nobody_else_has_the_tracker(cluster):
    mesh = await cluster(2)
    (one,) = await trackers(mesh, nth(mesh, 0))
    await mesh.run_on(nth(mesh, 1), PubSub(nth(mesh, 1), PUBSUB).start)

    assert await mesh.run_on(nth(mesh, 0), lambda: one.ready(1.0)) is False


async def test_node_that_stops_is_forgotten_at_once_and_one_that_is_killed_after_the_down_period(cluster):
    mesh = await cluster(3)
    one, two, three = await trackers(mesh)
    _a, b, c = mesh
    two.track(worker(b), "gpus", "b", {})
    three.track(worker(c), "gpus", "c", {})
    await mesh.wait_until(lambda: keys(one) == ["b", "c"])

    await mesh.stop(b)
    assert await mesh.wait_until(lambda: keys(one) == ["c"]) < 0.5

    mesh.kill(c)
    await mesh.sleep(25)
    assert keys(one) == ["c"]
    await mesh.wait_until(lambda: keys(one) == [])


async def test_watch_yields_the_changes_of_a_topic(cluster):
    mesh = await cluster(2)
    one, two = await trackers(mesh)
    topic, everything = two.watch("gpus"), two.watch()
    process = worker(nth(mesh, 0))

    one.track(process, "gpus", "a", {"n": 1})
    one.track(process, "rooms", "r", {})
    joined = await topic.get(5)
    one.update(process, "gpus", "a", {"n": 2})
    updated = await topic.get(5)
    one.untrack(process)
    left = await topic.get(5)

    assert isinstance(joined, PresenceDiff)
    assert ([each.key for each in joined.joins], joined.leaves) == ([b"a"], ())
    assert [each.meta[b"n"] for each in (*updated.leaves, *updated.joins)] == [1, 2]
    assert (left.joins, left.leaves) == ((), updated.joins)
    assert isinstance(left.leaves[0], Presence)
    assert updated.grouped() == {
        "joins": {"a": {"metas": [updated.joins[0].meta]}},
        "leaves": {"a": {"metas": [joined.joins[0].meta]}},
    }
    seen = [await everything.get(5) for _ in range(5)]
    assert sorted(diff.topic for diff in seen) == ["gpus", "gpus", "gpus", "rooms", "rooms"]
    topic.close()
    everything.close()
    assert two._inboxes == {}


async def test_watch_that_is_not_read_ends_with_an_error(cluster):
    mesh = await cluster(1)
    (one,) = await trackers(mesh)
    watch = one.watch("gpus", limit=2)
    for number in range(3):
        one.track(worker(nth(mesh, 0)), "gpus", number, {})

    with pytest.raises(SubscriptionOverflow):
        async for _ in watch:
            pass


async def test_watches_and_lists_end_with_the_tracker(cluster):
    mesh = await cluster(2)
    one, two = await trackers(mesh)
    watch = one.watch()
    one.track(worker(nth(mesh, 0)), "gpus", "a", {})
    await mesh.wait_until(lambda: keys(two) == ["a"])

    await one.stop()
    await one.stop()

    assert len([diff async for diff in watch]) == 1
    with pytest.raises(TrackerError, match="not started"):
        one.list("gpus")
    await mesh.wait_until(lambda: keys(two) == [])
    await mesh.run_on(nth(mesh, 0), one.start)
    await mesh.wait_until(lambda: one.replicas() and two.replicas())


async def test_second_tracker_of_a_name_is_refused_and_leaves_the_first_alone(cluster):
    mesh = await cluster(2)
    one, two = await trackers(mesh)
    again = Tracker(PubSub(nth(mesh, 0), PUBSUB), NAME)
    again._adapter = one._adapter

    with pytest.raises(ValueError, match="shard0"):
        await mesh.run_on(nth(mesh, 0), again.start)

    one.track(worker(nth(mesh, 0)), "gpus", "a", {})
    await mesh.wait_until(lambda: keys(two) == ["a"])


async def test_tracker_without_a_started_pubsub_says_so(cluster):
    mesh = await cluster(1)
    with pytest.raises(RuntimeError, match="PubSub"):
        await Tracker(PubSub(nth(mesh, 0), PUBSUB), NAME).start()


async def test_tracker_is_a_child_of_a_supervisor(cluster):
    mesh = await cluster(2)
    (two,) = await trackers(mesh, nth(mesh, 1))
    node = nth(mesh, 0)
    pubsub = PubSub(node, PUBSUB)
    tracker = Tracker(pubsub, NAME)

    async def scene():
        async with Supervisor.running(node, [pubsub.child_spec(), tracker.child_spec()], strategy="rest_for_one"):
            tracker.track(worker(node), "gpus", "a", {})
            await mesh.wait_until(lambda: keys(two) == ["a"])
            node.exit(tracker._guard, Atom("kill"))
            await mesh.wait_until(lambda: keys(two) == [])
            await mesh.wait_until(lambda: tracker.replicas() and two.replicas())
            tracker.track(worker(node), "gpus", "b", {})
            await mesh.wait_until(lambda: keys(two) == ["b"])

    await mesh.run_on(node, scene)
    await mesh.wait_until(lambda: keys(two) == [])


async def test_entries_are_in_the_shard_of_their_topic(cluster):
    mesh = await cluster(2)
    one, two = await trackers(mesh, pool_size=4)
    topics = [f"topic {number}" for number in range(20)]
    for topic in topics:
        one.track(worker(nth(mesh, 0)), topic, "a", {})

    await mesh.wait_until(lambda: all(keys(two, topic) == ["a"] for topic in topics))

    assert sorted(two.topics()) == sorted(topics)
    assert {phash2(topic, 4) for topic in topics} == {0, 1, 2, 3}
    assert two.pool_mismatch is None


@pytest.mark.parametrize(("ours", "theirs"), [(1, 4), (4, 1), (2, 3)])
async def test_wrong_pool_size_is_noticed_and_said(cluster, ours, theirs, caplog):
    mesh = await cluster(2)
    (one,) = await trackers(mesh, nth(mesh, 0), pool_size=theirs)
    for number in range(20):
        one.track(worker(nth(mesh, 0)), f"topic {number}", "a", {})
    await mesh.sleep(5)
    (two,) = await trackers(mesh, nth(mesh, 1), pool_size=ours)

    await mesh.wait_until(lambda: two.pool_mismatch)

    assert f"the pool_size {ours} of the Tracker MyAppWeb.Presence is wrong" in two.pool_mismatch
    assert two.pool_mismatch in caplog.text
    with pytest.raises(TrackerError, match="pool_size"):
        await mesh.run_on(nth(mesh, 1), two.ready)


async def test_smaller_pool_without_entries_is_noticed_by_ready(cluster):
    mesh = await cluster(2)
    await trackers(mesh, nth(mesh, 0), pool_size=1)
    (two,) = await trackers(mesh, nth(mesh, 1), pool_size=4)

    with pytest.raises(TrackerError, match="fewer shards"):
        await mesh.run_on(nth(mesh, 1), two.ready)


async def test_messages_in_the_name_of_another_node_and_malformed_ones_change_nothing(cluster, caplog):
    mesh = await cluster(3)
    one, two, three = await trackers(mesh)
    _a, b, _c = mesh
    two.track(worker(b), "gpus", "b", {})
    await mesh.wait_until(lambda: keys(one) == ["b"])
    shard = two._shards[0]
    forged = (Atom("pub"), Atom("graceful_permdown"), shard.book.ref)
    broken = (Atom("pub"), Atom("heartbeat"), three._shards[0].book.ref, Atom("x"), 1)

    for message in (forged, broken):
        three._adapter.broadcast(b"phx_presence:Elixir.MyAppWeb.Presence_shard0", message)
    await mesh.sleep(1)

    assert keys(one) == ["b"]
    (counts,) = one.statistics
    assert (counts.forged, counts.malformed) == (1, 1)
    assert f"a message in the name of {b.name}" in caplog.text
    assert "malformed message" in caplog.text


async def test_partition_shorter_than_the_down_period_is_not_seen(cluster):
    mesh = await cluster(2)
    one, two = await trackers(mesh)
    a, b = mesh
    one.track(worker(a), "gpus", "a", {})
    await mesh.wait_until(lambda: keys(two) == ["a"])
    watch = two.watch()
    mesh.partition([a], [b])
    await mesh.sleep(10)
    one.track(worker(a), "gpus", "later", {})
    mesh.heal()

    diff = await watch.get(60)

    assert [each.key for each in diff.joins] == [b"later"]
    assert watch.waiting == 0


async def test_paused_node_keeps_its_view_of_the_others(cluster):
    """A node that did not run has not read the heartbeats of that time."""
    settings = TrackerSettings(broadcast_period=0.5, max_silent_periods=2, down_period=3.0, permdown_period=60.0)
    mesh = await cluster(2, net_ticktime=60)
    one, two = await trackers(mesh, settings=settings)
    a, b = mesh
    one.track(worker(a), "gpus", "a", {})
    await mesh.wait_until(lambda: keys(two) == ["a"])
    watch = two.watch()

    mesh.pause(b)
    await mesh.sleep(10)
    mesh.resume(b)
    await mesh.sleep(10)

    assert watch.waiting == 0
    assert keys(two) == ["a"]


async def test_shard_of_a_tracker_answers_calls_it_does_not_know(cluster):
    mesh = await cluster(2)
    one, _two = await trackers(mesh)
    a, b = mesh

    answer = await mesh.run_on(b, lambda: b.call((Atom("Elixir.MyAppWeb.Presence_shard0"), a.name), Atom("list")))

    assert answer[0] is Atom("error")
    await asyncio.sleep(0)
    assert one.list("gpus") == []


async def test_exit_signals_cost_no_entries(cluster):
    mesh = await cluster(2)
    one, two = await trackers(mesh)
    node = nth(mesh, 0)
    process = worker(node)
    one.track(process, "gpus", "a", {})
    await mesh.wait_until(lambda: keys(two) == ["a"])
    watch = two.watch()

    for pid in (one._guard, one._shards[0].pid):
        for reason in ("normal", "other", "kill"):
            node.exit(pid, Atom(reason))
    await mesh.sleep(60)

    assert keys(one) == keys(two) == ["a"]
    assert watch.waiting == 0
    assert node.whereis("Elixir.MyAppWeb.Presence_shard0") == one._shards[0].pid
    process.stop()
    await mesh.wait_until(lambda: keys(two) == [])
    await mesh.stop(node)


async def test_restarted_pubsub_is_used_again(cluster):
    mesh = await cluster(2)
    one, two = await trackers(mesh)
    process = worker(nth(mesh, 0))
    one.track(process, "gpus", "a", {})
    await mesh.wait_until(lambda: keys(two) == ["a"])

    one._adapter.stop()
    one.track(process, "gpus", "b", {})
    await mesh.sleep(5)
    await mesh.run_on(nth(mesh, 0), lambda: asyncio.sleep(0, one._adapter.start()))

    await mesh.wait_until(lambda: keys(two) == ["a", "b"])
