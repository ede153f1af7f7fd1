"""The life of one shard's state: takeover, hand-over, merge. Deterministic books, links that keep order."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from erlmesh.core.sharding import replica_messages as tags
from erlmesh.core.sharding.copy_shelf import MAX_ORPHANS, CopyShelf
from erlmesh.core.sharding.keeper import Origin, newest
from erlmesh.core.sharding.replica_book import Phase, ReplicaBook
from erlmesh.core.sharding.replica_effects import Lost, Send
from erlmesh.core.sharding.snapshot import SnapshotReader, SnapshotWriter
from erlmesh.core.sharding.store import Store
from erlmesh.terms import Atom, Pid, Term
from unit.replica_cluster import KEYS, ONE, TWO, KeeperCluster, KeeperNode, Numbers


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


def kill_at_any_step(begin: Callable[[int], KeeperCluster], victims: Iterable[int] = range(4)) -> None:
    """One node is killed at any step of what ``begin`` has begun. Nothing that was acknowledged is lost."""
    for victim in victims:
        for seed in range(2):
            for at in range(seed, STEPS, 2):
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


def check_a_move() -> None:
    kill_at_any_step(moved)


def check_a_backup_that_starts() -> None:
    kill_at_any_step(backup_starts)


@pytest.mark.parametrize("begin", [moved, taken_over, stopped, backup_starts])
@pytest.mark.parametrize("victim", range(4))
def test_one_node_killed_at_any_step_costs_nothing(begin: Callable[[int], KeeperCluster], victim: int) -> None:
    kill_at_any_step(begin, [victim])


Sides = tuple[tuple[int, ...], tuple[int, ...]]


def healed(seed: int, sides: Sides = ((0, 1), (2, 3))) -> KeeperCluster:
    """Both sides of a partition have worked, and meet again."""
    cluster = KeeperCluster(sorted([*sides[0], *sides[1]]), seed=seed)
    load(cluster)
    cluster.run()
    cluster.split(*sides)
    cluster.reach = {ONE: {*sides[0]}, TWO: {*sides[1]}}
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


def check_a_heal(victims: Iterable[int] = range(4)) -> None:
    """One node is killed at any step of a heal."""
    for victim in victims:
        for seed in range(2):
            for at in range(seed, STEPS * 2, 3):
                cluster = healed(seed)
                for step in range(at):
                    if step % 4 == 0:
                        cluster.put(KEYS[step % 3], (ONE, TWO)[step % 8 == 0])
                    cluster.step()
                cluster.kill(victim, lose=True)
                cluster.run()
                cluster.reach = {}
                cluster.check()


@pytest.mark.parametrize("victim", range(4))
def test_one_node_killed_at_any_step_of_a_heal_costs_nothing(victim: int) -> None:
    check_a_heal([victim])


def kill_during_a_heal(sides: Sides, victim: int, seed: int, at: int) -> None:
    """The sides meet under load. After so many steps one node is killed, with what it had sent last."""
    cluster = healed(seed, sides)
    for step in range(at):
        if step % 4 == 0:
            cluster.put(KEYS[step % 3], (ONE, TWO)[step % 8 == 0])
        cluster.step()
    cluster.kill(victim, lose=True)
    cluster.run()
    cluster.reach = {}
    cluster.check()


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("sides", [((0, 2), (1, 3)), ((0, 3), (1, 2)), ((0, 2, 4), (1, 3))])
def test_a_holder_killed_while_a_better_backup_of_the_other_side_follows_it(sides: Sides, victim: int) -> None:
    """The second one of all nodes is on the other side. It is the new backup, and has a copy of the other holder."""
    for seed in range(2):
        for at in range(100):
            kill_during_a_heal(sides, victim, seed, at)


def test_a_node_that_gets_another_copy_while_it_answers_is_asked_again() -> None:
    me, other = (Pid(Atom(f"{name}@host"), 1, 0, 1) for name in ("one", "two"))
    book: ReplicaBook = ReplicaBook(b"cep", 7, me, Numbers())
    book.candidates([me])
    book.take()
    book.copy_joined(other)
    writer = SnapshotWriter(Numbers(), [])

    def questions() -> int:
        effects = [effect for effect in book.take_effects() if isinstance(effect, Send)]
        return sum(effect.to == other and effect.message[0] == Atom("shard_copies") for effect in effects)

    assert questions() == 1
    book.receive((Atom("shard_more"), b"cep", 7, other))
    assert questions() == 0
    _, more, data = writer.next_slice()
    book.receive((Atom("shard_give"), b"cep", 7, (1, 0), more, data, other))
    assert questions() == 1


def test_a_copy_of_a_lost_holder_is_offered_to_a_holder_that_did_not_meet_it() -> None:
    me, lost, other = (Pid(Atom(f"{name}@host"), 1, 0, 1) for name in ("one", "two", "three"))
    book: ReplicaBook = ReplicaBook(b"cep", 7, me, Numbers())
    stores: list[Store] = [Store(Numbers()), Store(Numbers())]
    for store, pid in zip(stores, (lost, other), strict=True):
        book.holder_joined(pid)
        store.versions[pid, 1] = 1
    book.shelf.follow(lost, stores[0], alone=False)
    offer = Send(other, (Atom("shard_more"), b"cep", 7, me))

    book.holder_left(lost)
    assert offer in book.take_effects()

    _, more, data = SnapshotWriter(Numbers(), [stores[1]]).next_slice()
    book.receive((Atom("shard_give"), b"cep", 7, (1, 0), more, data, other))
    assert offer in book.take_effects(), "it follows the other one now, and still has more"


def test_a_message_that_both_sides_have_applied_has_the_results_of_both() -> None:
    def store_with(*results: Term) -> Store:
        side: Store = Store(Numbers())
        side.apply(b"message", Origin(b"k0", ONE, 1, 1.0))
        side.keys[b"k0"].results[ONE, 1] = [*results]
        return side

    store = store_with(1, Atom("ours"))
    store.merge_key(b"k0", store_with(1, 1.0, Atom("theirs")).keys[b"k0"])
    store.merge_key(b"k0", store_with(1.0).keys[b"k0"])  # Nothing comes twice.

    results = store.keys[b"k0"].results[ONE, 1]
    assert [*map(repr, results)] == [*map(repr, (1, Atom("ours"), 1.0, Atom("theirs")))]


def test_an_old_copy_stays_while_no_backup_is_confirmed() -> None:
    """A better backup starts while the old one, which still has a copy of before a merge, gets a new snapshot."""
    me, better, old = (Pid(Atom(f"{name}@host"), 1, 0, 1) for name in ("one", "two", "three"))
    book: ReplicaBook = ReplicaBook(b"cep", 7, me, Numbers())
    book.candidates([me, old])
    book.take()
    book.copy_joined(old)
    book.take_effects()

    def forgets() -> list[Pid]:
        effects = [effect for effect in book.take_effects() if isinstance(effect, Send)]
        return [effect.to for effect in effects if effect.message[0] == Atom("shard_forget")]

    book.candidates([me, better, old])
    assert forgets() == []

    while book.has_work:
        book.step()
    (give,) = [effect.message for effect in book.take_effects() if isinstance(effect, Send) and effect.to == better]
    book.receive((Atom("shard_took"), b"cep", 7, give[3], better))
    assert forgets() == [old]


@pytest.mark.parametrize("seed", range(100))
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


def test_an_answer_claims_only_what_it_has() -> None:
    keeper = Numbers()
    store: Store = Store(keeper)
    lineage = (Pid(Atom("n@host"), 1, 0, 1), 1)
    store.start_lineage(lineage)
    for number in range(1, 200):
        store.apply(b"message", Origin(b"k0", ONE, number, 1.0))
        store.versions[lineage] = number
    writer = SnapshotWriter(keeper, [store], copies=False)
    reader = SnapshotReader(keeper)
    number, more, data = writer.next_slice()
    reader.feed(number, more, data)
    store.apply(b"message", Origin(b"k0", ONE, 200, 1.0))
    store.versions[lineage] = 200
    while more:
        number, more, data = writer.next_slice()
        reader.feed(number, more, data)

    (copy,) = reader.stores
    assert copy.versions == {lineage: 199}


def test_a_copy_whose_new_snapshot_is_not_complete_is_not_fresh() -> None:
    keeper = Numbers()
    holder = Pid(Atom("n@host"), 1, 0, 1)
    shelf: CopyShelf = CopyShelf(keeper, None, print)
    shelf.follow(holder, Store(keeper), alone=True)
    writer = SnapshotWriter(keeper, [Store(keeper)])
    number, _, data = writer.next_slice()
    assert shelf.read_slice(holder, 1, number, True, data) is None

    store = shelf.holder_left(holder)
    assert store is not None
    shelf.add_orphan(store)

    assert not shelf.is_fresh
    assert shelf


def test_what_a_merge_of_many_copies_loses_is_told() -> None:
    keeper = Numbers()
    book = ReplicaBook(b"cep", 7, Pid(Atom("me@host"), 1, 0, 1), keeper, merge=newest)
    for number in range(MAX_ORPHANS + 2):
        assert book.take_effects() == [Lost(b"k0", 1, None)] * (number == MAX_ORPHANS + 1)
        holder = Pid(Atom(f"n{number}@host"), 1, 0, 1)
        store = Store(keeper, newest)
        store.apply(b"message", Origin(b"k0", (holder.node, 1, b"ticks"), 1, 1.0))
        store.versions[holder, 1] = 1

        assert book.shelf.add_orphan(store)

    assert book.take_effects() == [Lost(b"k0", 1, None)]
    assert len(book.shelf.stores()) == MAX_ORPHANS


def test_the_error_of_a_merge_of_many_copies_is_told() -> None:
    error = ValueError("as asked")

    def refuse(_ours: object, _theirs: object) -> None:
        raise error

    keeper = Numbers()
    book = ReplicaBook(b"cep", 7, Pid(Atom("me@host"), 1, 0, 1), keeper, merge=refuse)
    for number in range(MAX_ORPHANS + 1):
        store = Store(keeper, refuse)
        store.apply(b"message", Origin(b"k0", (Atom(f"n{number}@host"), 1, b"ticks"), 1, 1.0))
        store.versions[Pid(Atom(f"n{number}@host"), 1, 0, 1), 1] = 1
        book.shelf.add_orphan(store)

    assert book.take_effects() == [Lost(b"k0", 1, error)]


def test_a_node_that_does_not_hold_the_shard_gets_no_copy() -> None:
    cluster = KeeperCluster([0, 1])
    load(cluster)
    cluster.run()
    (backup,) = (node for node in cluster.nodes.values() if node.book.phase is Phase.IDLE)
    book = backup.book
    assert book.shelf

    for number in range(100):
        stranger = Pid(Atom("x@host"), number, 0, 1)
        book.receive((tags.COPIES, b"cep", 7, [], stranger))

    assert not book.has_work
    assert book.take_effects() == []
    taker = Pid(Atom("x@host"), 1, 0, 1)
    book.holder_joined(taker)
    book.receive((tags.COPIES, b"cep", 7, [], taker))
    assert book.has_work
    book.step()
    assert [effect.to for effect in book.take_effects() if isinstance(effect, Send)] == [taker]
    book.holder_left(taker)
    assert not book.has_work
