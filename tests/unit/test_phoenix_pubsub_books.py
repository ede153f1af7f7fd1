"""The pure parts of Phoenix.PubSub: names, the book of workers, the queue of a subscription, the nodes of a guest."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erlmesh.core.phoenix_pubsub.guest_peers import INITIAL_DELAY, MAX_DELAY, GuestPeers
from erlmesh.core.phoenix_pubsub.message_queue import OVERFLOWS, MessageQueue
from erlmesh.core.phoenix_pubsub.names import adapter_atom, checked_dispatcher, pubsub_atom, worker_number
from erlmesh.core.phoenix_pubsub.worker_book import LANES, MAX_WORKERS, NodeChange, WorkerBook
from erlmesh.terms import Atom, Pid

OWN = Atom("own@h")
NODES = [Atom(f"n{number}@h") for number in range(3)]
GROUPS = [Atom(f"Elixir.P.Adapter{end}") for end in ("", "_2", "_3")]


def pid(node, number=1):
    return Pid(node, number, 0, 1)


@pytest.mark.parametrize(
    ("name", "atom", "adapter"),
    [
        ("MyApp.PubSub", "Elixir.MyApp.PubSub", "Elixir.MyApp.PubSub.Adapter"),
        ("Elixir.MyApp.PubSub", "Elixir.MyApp.PubSub", "Elixir.MyApp.PubSub.Adapter"),
        (Atom("Elixir.MyApp.PubSub"), "Elixir.MyApp.PubSub", "Elixir.MyApp.PubSub.Adapter"),
        (Atom("my_pubsub"), "my_pubsub", "Elixir.my_pubsub.Adapter"),
        ("my_pubsub", "my_pubsub", "Elixir.my_pubsub.Adapter"),
        (":my_pubsub", "my_pubsub", "Elixir.my_pubsub.Adapter"),
        (Atom("MyApp"), "MyApp", "Elixir.MyApp.Adapter"),
    ],
    ids=["module", "full name", "atom of a module", "atom", "plain", "as in Elixir", "atom with a capital"],
)
def test_a_name_is_read_as_elixir_writes_it(name, atom, adapter):
    assert pubsub_atom(name) is Atom(atom)
    assert adapter_atom(pubsub_atom(name)) is Atom(adapter)


def test_a_name_that_is_none_is_refused_in_words():
    for name, error in (("", ValueError), (":", ValueError), (7, TypeError), (b"MyApp", TypeError)):
        with pytest.raises(error, match="the name of a PubSub"):
            pubsub_atom(name)


def test_the_number_of_a_worker_is_found_in_its_group():
    adapter = GROUPS[0]
    assert [worker_number(adapter, Atom(f"{adapter.name}{end}")) for end in ("", "_1", "_2", "_1024")] == [
        1,
        1,
        2,
        1024,
    ]
    for other in ("_0", "_01", "_1025", "_99999", "_", "_x", "2", "_-1", "_1_2", "_²", ".Sub_2"):
        assert worker_number(adapter, Atom(f"{adapter.name}{other}")) is None, other
    for other in (b"Elixir.P.Adapter", 7, Atom("Elixir.P"), None):
        assert worker_number(adapter, other) is None


def test_only_the_dispatchers_of_phoenix_need_no_permission():
    for known in ("Phoenix.PubSub", "Phoenix.Channel.Server", Atom("Elixir.Phoenix.PubSub")):
        assert checked_dispatcher(known).name.startswith("Elixir.Phoenix.")
    with pytest.raises(ValueError, match="does not come with Phoenix"):
        checked_dispatcher("My.Dispatcher")
    assert checked_dispatcher("My.Dispatcher", allowed=True) is Atom("Elixir.My.Dispatcher")


# The book of workers

# Few values, so that a worker joins the same group several times.
members = st.tuples(st.sampled_from([*NODES[:2], OWN]), st.integers(1, 2))
steps = st.lists(
    st.tuples(st.sampled_from(["joined", "left"]), st.sampled_from(GROUPS[:2]), st.lists(members, max_size=3)),
    max_size=40,
)


@given(steps)
def test_the_book_has_the_workers_that_a_simple_count_has(history):
    book, counts, present = WorkerBook(OWN), Counter(), []
    for kind, group, listed in history:
        pids = [pid(node, number) for node, number in listed]
        changes = getattr(book, kind)(group, pids)
        for each in pids:
            if each.node is OWN:
                continue
            if kind == "joined":
                counts[group, each] += 1
            elif counts[group, each]:
                counts[group, each] -= 1
        for change in changes:
            (present.append if change.joined else present.remove)(change.node)
        alive = {each: {g for g in GROUPS if counts[g, each]} for (_, each), count in counts.items() if count}
        nodes = {each.node for each in alive}

        assert set(book.nodes()) == set(present) == nodes
        assert [node in book for node in NODES] == [node in nodes for node in NODES]
        for node in NODES:
            assert set(book.groups_of(node)) == {g for each, gs in alive.items() if each.node is node for g in gs}
            for name in GROUPS:
                workers = {each for each, gs in alive.items() if each.node is node and name in gs}
                assert book.workers_of(node, name) == workers
        recipients = book.recipients(7)
        assert Counter(each.node for each in recipients) == Counter(dict.fromkeys(nodes, 1))
        assert set(recipients) <= set(alive)
        assert recipients == [book.recipient(node, 7) for node in book.nodes()]
    assert not any(key for key in book._counts.values() if key < 1)


def test_a_sender_keeps_its_worker_while_other_workers_come_and_go():
    book, node, senders = WorkerBook(OWN), NODES[0], range(1000)
    book.joined(GROUPS[0], [pid(node, 1)])
    early = [book.recipient(node, sender) for sender in senders[:3]]
    book.joined(GROUPS[1], [pid(node, 2)])
    book.joined(GROUPS[2], [pid(node, 3)])

    before = [book.recipient(node, sender) for sender in senders]
    assert before[:3] == early == [pid(node, 1)] * 3
    assert len(book._nodes[node].lanes) == LANES
    assert {*before} == {pid(node, number) for number in (1, 2, 3)}
    book.left(GROUPS[1], [pid(node, 2)])
    after = [book.recipient(node, sender) for sender in senders]
    assert all(new == old for new, old in zip(after, before, strict=True) if old != pid(node, 2))
    assert pid(node, 2) not in after
    book.left(GROUPS[0], [pid(node, 1)])
    assert {book.recipient(node, sender) for sender in senders} == {pid(node, 3)}
    assert book.left(GROUPS[2], [pid(node, 3)]) == [NodeChange(node, joined=False)]
    assert book.recipient(node, 5) is None
    assert book._nodes == book._groups == book._counts == {}


@pytest.mark.parametrize("step", [1, 2, 3, 4, 64])
def test_processes_that_start_one_after_the_other_use_different_workers(step):
    book, node = WorkerBook(OWN), NODES[0]
    for number, group in enumerate(GROUPS[:2], 1):
        book.joined(group, [pid(node, number)])

    used = Counter(book.recipient(node, sender) for sender in range(100, 100 + 100 * step, step))

    assert min(used[pid(node, 1)], used[pid(node, 2)]) > 25


# The queue of a subscription


@given(st.sampled_from(OVERFLOWS), st.integers(1, 4), st.lists(st.sampled_from(["put", "take"]), max_size=40))
def test_a_queue_never_holds_more_than_its_limit_and_counts_every_loss(overflow, limit, operations):
    queue, put, taken = MessageQueue(limit, overflow), 0, []
    for operation in operations:
        if operation == "put":
            before = queue.dropped
            assert queue.put(put) is (queue.dropped == before)
            put += 1
        elif queue:
            taken.append(queue.take())
        assert len(queue) <= limit
        assert len(taken) + len(queue) + queue.dropped == put
    assert taken == sorted(taken)
    assert queue.failed is (overflow == "fail" and queue.dropped > 0)
    if overflow == "fail":  # Nothing is missing before the failure.
        rest = [queue.take() for _ in range(len(queue))]
        assert taken + rest == [*range(len(taken) + len(rest))]


@given(st.sampled_from(OVERFLOWS), st.lists(st.one_of(st.integers(0, 300), st.none()), max_size=40))
def test_a_queue_never_holds_more_bytes_than_its_limit_unless_it_has_one_message(overflow, operations):
    queue, put, taken = MessageQueue(1000, overflow, byte_limit=400), 0, 0
    for length in operations:
        if length is not None:
            before = queue.dropped
            assert queue.put(bytes(length)) is (queue.dropped == before)
            put += 1
        elif queue:
            queue.take()
            taken += 1
        assert queue.size <= 400 or len(queue) == 1
        assert taken + len(queue) + queue.dropped == put
    queue.clear()
    assert queue.size == 0


def test_a_large_message_takes_the_place_of_several_and_an_empty_queue_takes_any():
    queue = MessageQueue(10, "drop_oldest", byte_limit=1_000)
    for number in range(4):
        queue.put((number, bytes(100)))

    assert not queue.put(bytes(800))
    assert (queue.dropped, len(queue)) == (4, 1)
    queue.take()
    assert queue.put(bytes(10_000))
    for wrong in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match="byte_limit"):
            MessageQueue(10, "drop_oldest", byte_limit=wrong)


# The nodes of a guest


def test_a_guest_tries_each_node_before_it_waits_and_waits_longer_each_time():
    peers, random = GuestPeers(["a@h", "b@h", "a@h"]), Random(1)
    a, b = Atom("a@h"), Atom("b@h")

    assert (peers.all, peers.current) == ((a, b), a)
    assert peers.failed(a, random) == 0.0
    assert peers.current is b
    delays = []
    for _ in range(10):
        delays.append(peers.failed(peers.current, random))
        assert peers.failed(peers.current, random) == 0.0
    assert INITIAL_DELAY * 0.75 <= delays[0] <= INITIAL_DELAY * 1.25
    assert delays[-1] >= MAX_DELAY * 0.75
    assert max(delays) <= MAX_DELAY * 1.25

    peers.succeeded()
    current = peers.current
    other = b if current is a else a
    peers.failed(other, random)  # One that is not in use: the guest stays.
    assert peers.current is current
    assert peers.failed(current, random) <= INITIAL_DELAY * 1.25


def test_a_guest_has_one_node_at_least():
    assert GuestPeers("a@h").all == (Atom("a@h"),)
    assert GuestPeers(Atom("a@h")).all == (Atom("a@h"),)
    with pytest.raises(ValueError, match="a guest needs the name of an Elixir node"):
        GuestPeers([])


def test_the_workers_of_one_node_are_bounded():
    book = WorkerBook(OWN)
    group, (node, other, _) = GROUPS[0], NODES
    book.joined(group, [pid(node, number) for number in range(3 * MAX_WORKERS)])
    book.joined(group, [pid(other)])

    assert (len(book._nodes[node].workers), len(book._counts)) == (MAX_WORKERS, MAX_WORKERS + 1)
    assert book.recipient(other, 1) == pid(other)
    assert book.left(group, [pid(node, number) for number in range(3 * MAX_WORKERS)]) == [
        NodeChange(node, joined=False)
    ]
    book.joined(group, [pid(node, 5), pid(node, 5)])
    assert book.recipients(1) == [pid(other), pid(node, 5)]
