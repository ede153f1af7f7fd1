"""The life of one shard's state: takeover, hand-over, merge. Deterministic books, links that keep order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from erlmesh.core.sharding.replica_book import Phase
from erlmesh.terms import Atom, Pid
from tests.unit.replica_cluster import KEYS, ONE, TWO, KeeperCluster, KeeperNode


def load(cluster: KeeperCluster, count: int = 3) -> None:
    for _ in range(count):
        for key in KEYS:
            cluster.put(key)


def test_a_single_node_acknowledges_at_once() -> None:
    cluster = KeeperCluster([0])

    load(cluster)

    assert cluster.acked == cluster.sent
    cluster.check()


def test_a_backup_has_every_message_that_was_acknowledged() -> None:
    cluster = KeeperCluster([0, 1])

    cluster.put()
    assert not any(cluster.acked.values())

    cluster.run()
    assert cluster.acked == cluster.sent
    cluster.check()


def test_an_heir_takes_at_once_and_sends_results_again() -> None:
    cluster = KeeperCluster([0, 1, 2])
    load(cluster)
    cluster.run()
    out = cluster.results_out

    cluster.kill(0)
    node = cluster.check()

    assert node.rank == 1
    assert cluster.results_out == out + 9


def moved(seed: int) -> KeeperCluster:
    """A better node starts while the others work."""
    cluster = KeeperCluster([1, 2, 3], seed=seed)
    load(cluster)
    cluster.run()
    cluster.start(0)
    return cluster


def taken_over(seed: int) -> KeeperCluster:
    cluster = KeeperCluster([0, 1, 2, 3], seed=seed)
    load(cluster)
    cluster.kill(0, lose=True)
    return cluster


def stopped(seed: int) -> KeeperCluster:
    cluster = KeeperCluster([0, 1, 2, 3], seed=seed)
    load(cluster)
    cluster.run()
    cluster.stop_in_order(0)
    return cluster


def backup_starts(seed: int) -> KeeperCluster:
    cluster = KeeperCluster([0, 2, 3], seed=seed)
    load(cluster)
    cluster.run()
    cluster.start(1)
    return cluster


STEPS = 60
"""More than what follows takes."""


@pytest.mark.parametrize("begin", [moved, taken_over, stopped, backup_starts])
@pytest.mark.parametrize("victim", range(4))
def test_one_node_killed_at_any_step_costs_nothing(begin: Callable[[int], KeeperCluster], victim: int) -> None:
    for seed in range(2):
        for at in range(STEPS):
            cluster = begin(seed)
            if victim not in cluster.nodes:
                continue
            if begin is taken_over:  # The second fault comes when the first one is over.
                cluster.run()
                cluster.send_again()
                cluster.run()
            for step in range(at):
                if step % 4 == 0:
                    cluster.put(KEYS[step % 3])
                cluster.step()
            cluster.kill(victim, lose=True)
            cluster.check()


def healed(seed: int) -> KeeperCluster:
    """Both sides of a partition have worked, and meet again."""
    cluster = KeeperCluster([0, 1, 2, 3], seed=seed)
    load(cluster)
    cluster.run()
    cluster.split([0, 1], [2, 3])
    cluster.reach = {ONE: {0, 1}, TWO: {2, 3}}
    cluster.run()
    for key in KEYS:
        cluster.put(key, ONE)
        cluster.put(key, TWO)
        cluster.put(key, TWO)
    cluster.run()
    assert len(cluster.acting()) == 2
    cluster.heal()
    return cluster


def test_both_sides_of_a_partition_merge_at_the_better_one() -> None:
    cluster = healed(0)

    cluster.run()
    cluster.reach = {}
    node = cluster.check()

    assert node.rank == 0


@pytest.mark.parametrize("victim", range(4))
def test_one_node_killed_at_any_step_of_a_heal_costs_nothing(victim: int) -> None:
    for seed in range(3):
        for at in range(STEPS * 2):
            cluster = healed(seed)
            for step in range(at):
                if step % 4 == 0:
                    cluster.put(KEYS[step % 3], (ONE, TWO)[step % 8 == 0])
                cluster.step()
            cluster.kill(victim, lose=True)
            cluster.run()
            cluster.reach = {}
            cluster.check()


@pytest.mark.parametrize("seed", range(300))
def test_one_fault_after_the_other_costs_nothing(seed: int) -> None:
    cluster = KeeperCluster([1, 2, 4], seed=seed)
    random = cluster.random
    for _ in range(12):
        act = random.choice(["kill", "kill", "start", "start", "stop", "split"])
        rank = random.choice([0, 1, 2, 3, 4, 5])
        if act == "kill" and rank in cluster.nodes and len(cluster.nodes) > 1:
            cluster.kill(rank, lose=random.random() < 0.5)
        elif act == "start" and rank not in cluster.nodes:
            cluster.start(rank)
        elif act == "stop" and rank in cluster.nodes and len(cluster.nodes) > 1:
            cluster.stop_in_order(rank)
            cluster.run()
            cluster.kill(rank)
        elif act == "split" and len(cluster.nodes) > 3:
            ranks = list(cluster.nodes)
            random.shuffle(ranks)
            cluster.split(ranks[:2], ranks[2:], lose=random.random() < 0.5)
            cluster.reach = {ONE: set(ranks[:2]), TWO: set(ranks[2:])}
        for _ in range(random.randrange(60)):
            if random.random() < 0.3:
                cluster.put(random.choice(KEYS), random.choice([ONE, TWO]))
            cluster.step()
        if act == "split":
            cluster.run()
            cluster.heal()
            cluster.run()
            cluster.reach = {}
        cluster.check()


def test_a_taker_without_a_copy_waits_for_all_that_have_one() -> None:
    cluster = KeeperCluster([0, 1, 2])
    load(cluster)
    cluster.run()
    cluster.start(3)
    cluster.run()
    cluster.split([0, 1], [2, 3])  # The side of 2 and 3 has no copy. Node 1 has one.
    cluster.reach = {ONE: {0, 1}, TWO: {2, 3}}
    cluster.run()
    cluster.put(KEYS[0], TWO)
    cluster.run()
    cluster.kill(2)
    cluster.kill(0)
    cluster.run()
    cluster.kill(1)  # Now node 3 has the copy of its own side.
    cluster.run()
    node = cluster.nodes[3]
    assert node.book.is_acting
    assert cluster.acked[TWO, KEYS[0]] == 1
    cluster.excused = 3  # Both copies of the other side are gone.

    cluster.reach = {}
    newcomer = cluster.start(0, meets=[])
    newcomer.book.take()
    newcomer.perform()
    cluster.run()
    cluster.heal()

    assert cluster.check().rank == 0


def test_nobody_acts_before_the_copies_of_others_are_merged() -> None:
    cluster = KeeperCluster([1, 2, 3])
    load(cluster)
    cluster.run()
    cluster.start(0)
    while not cluster.nodes[0].members["holders"] or len(cluster.links) < 12:
        cluster.step()
    cluster.kill(1, lose=True)  # Node 0 has no copy yet. Node 2 has one.
    seen = []
    cluster.on_step = lambda: seen.append(cluster.nodes[0].book.phase)

    for _ in range(1000):
        if cluster.nodes[0].book.is_acting or not cluster.step():
            break

    assert cluster.nodes[0].book.is_acting
    assert Phase.TAKING in seen
    assert cluster.nodes[0].book.store.last(KEYS[0], ONE) == 3
    cluster.check()


@pytest.mark.parametrize("seed", range(20))
def test_a_move_merges_nothing_and_needs_one_snapshot(seed: int) -> None:
    cluster = KeeperCluster([1, 2, 3], seed=seed)
    load(cluster)
    cluster.run()
    cluster.results.clear()
    cluster.start(0)
    phases = []
    cluster.on_step = lambda: phases.extend(node.book.phase for node in cluster.nodes.values())
    slices = [0]
    send = cluster.send

    def count(node: KeeperNode, to: Pid, message: tuple) -> None:
        slices[0] += message[0] == Atom("shard_give") and len(message[5]) > 6
        send(node, to, message)

    cluster.send = count
    for step in range(300):
        if step % 5 == 0:
            cluster.put(KEYS[step % 3])
        cluster.step()
    cluster.check()

    assert Phase.MERGING not in phases
    assert slices[0] <= 4  # To the newcomer. The old holder becomes its backup with the state that it has.
