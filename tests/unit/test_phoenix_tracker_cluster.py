"""Shards of a tracker on several nodes: any order, loss, partitions and restarts end in equal lists."""

import pytest
from tracker_cluster import TrackerCluster

from erlmesh.core.phoenix_tracker.shard_book import TrackerSettings


@pytest.mark.parametrize("seed", range(24))
def test_all_replicas_list_the_same_after_any_history(seed):
    small = TrackerSettings(down_period=30.0, permdown_period=120.0, max_delta_sizes=(4, 10))
    cluster = TrackerCluster(seed, settings=small, loss=0.2 if seed % 2 else 0.0)
    random = cluster.random
    cluster.delay = (0.001, random.choice([0.05, 3.0, 10.0]))
    names = ["a", "b", "c", "d"]
    for name in names:
        cluster.start(name)
    cluster.start("reader", speaks=False)
    for _ in range(120):
        node = random.choice([*cluster.nodes.values()])
        match random.randrange(14):
            case 0 | 1 | 2 | 3 | 4 if node.speaks:
                node.track(random.choice([b"lobby", b"room"]), random.choice([b"k", 1, 1.0, (b"x", [])]))
            case 5 | 6 if node.speaks and node.own():
                node.untrack(random.choice(node.own()))
            case 7 if node.speaks and node.own():
                node.update(random.choice(node.own()))
            case 8 if node.speaks and node.own():
                node.apply(node.book.untrack_pid(random.choice(node.own()).pid))
            case 9:
                cluster.cuts.add(frozenset(random.sample([each.name for each in cluster.nodes.values()], 2)))
            case 10:
                cluster.cuts.clear()
            case 11:
                name, speaks = node.name.name, node.speaks
                (cluster.stop if random.random() < 0.5 else cluster.kill)(node)
                cluster.run(random.choice([0, 1, 40, 200]))
                cluster.start(name, speaks=speaks)
            case _:
                cluster.run(random.choice([0.1, 2.0, 5.0, 35.0]))
    cluster.cuts.clear()
    cluster.loss = 0.0
    cluster.delay = (0.001, 0.1)
    cluster.run(200.0)

    cluster.assert_equal()
    assert all(node.book.is_synced() for node in cluster.nodes.values())
    lives = {node.book.ref for node in cluster.nodes.values()}
    for node in cluster.nodes.values():
        assert set(node.book.state.context) <= lives
        assert set(node.book.state.clouds) <= lives
