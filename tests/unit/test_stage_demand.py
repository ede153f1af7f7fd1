"""The demand of a GenStage consumer, and the dispatch of a producer: never more events than were asked for."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmesh.core.stage_demand import ConsumerDemand
from erlmesh.core.stage_dispatch import MAX_DEMAND, DispatchBook, Refused
from erlmesh.terms import Atom, Pid, Ref

NODE = Atom("a@h")


def pid(number):
    return Pid(NODE, number, 0, 1)


def ref(number):
    return Ref(NODE, 1, (number, 0, 0))


# Consumer


@pytest.mark.parametrize(("max_demand", "min_demand"), [(0, None), (-1, None), (5, 5), (5, -1), (None, 1)])
def test_a_wrong_demand_is_refused(max_demand, min_demand):
    with pytest.raises(ValueError, match="demand"):
        ConsumerDemand(max_demand, min_demand)


def test_the_consumer_asks_again_when_the_demand_has_fallen_to_the_minimum():
    demand = ConsumerDemand(10, 5)
    assert demand.first_ask() == 10

    assert demand.arrived(list(range(8))) == [[0, 1, 2, 3, 4], [5, 6, 7]]
    assert demand.handled(5) == 5
    assert demand.handled(3) == 0
    assert demand.arrived([8, 9, 10]) == [[8, 9, 10]]
    assert demand.handled(3) == 6


def test_events_that_were_not_asked_for_are_not_accepted():
    demand = ConsumerDemand(2)
    demand.first_ask()

    assert demand.arrived([1, 2, 3]) is None
    assert demand.arrived([1, 2]) == [[1], [2]]
    assert demand.arrived([3]) is None


def test_a_manual_consumer_asks_only_itself():
    demand = ConsumerDemand(None)
    assert demand.first_ask() == 0

    assert demand.ask(3) == 3
    assert demand.arrived([1, 2]) == [[1, 2]]
    assert demand.handled(2) == 0
    assert demand.arrived([3, 4]) is None
    with pytest.raises(ValueError, match="1 event or more"):
        demand.ask(0)


@given(st.integers(1, 50), st.data())
def test_the_demand_stays_between_its_limits(max_demand, data):
    min_demand = data.draw(st.integers(0, max_demand - 1))
    demand = ConsumerDemand(max_demand, min_demand)
    outstanding, unhandled = demand.first_ask(), []
    for _ in range(60):
        assert min_demand < outstanding + sum(unhandled) <= max_demand or unhandled
        if outstanding and data.draw(st.booleans()):
            count = data.draw(st.integers(1, outstanding))
            batches = demand.arrived([0] * count)
            assert sum(map(len, batches)) == count
            assert max(map(len, batches)) <= max_demand - min_demand
            unhandled += map(len, batches)
            outstanding -= count
        elif unhandled:
            outstanding += demand.handled(unhandled.pop(0))
        assert outstanding == demand.outstanding
        assert outstanding + sum(unhandled) <= max_demand
        assert outstanding or unhandled, "the consumer waits and has asked for nothing"


# Producer


@pytest.mark.parametrize(
    "options",
    [
        {"dispatcher": "random"},
        {"dispatcher": "partition"},
        {"partitions": [1], "partition_of": id},
        {"buffer_size": 0},
        {"keep": "all"},
    ],
    ids=["dispatcher", "no partitions", "partitions without use", "no buffer", "policy"],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match=r"dispatcher|buffer_size|keep"):
        DispatchBook(**options)


def events_of(sent):
    return [(each.tag, events) for each, events in sent]


def test_an_event_goes_to_the_consumer_with_the_highest_demand():
    book = DispatchBook()
    a, b = book.subscribe(pid(1), "a"), book.subscribe(pid(2), "b")
    assert book.ask(a, 2) == book.ask(b, 3) == []
    assert book.wanted() == 5

    sent, dropped = book.push([1, 2, 3, 4])

    assert (events_of(sent), dropped) == ([("b", [1, 2, 3]), ("a", [4])], 0)
    assert book.wanted() == 1


def test_events_without_demand_wait_and_the_oldest_or_newest_are_dropped():
    for keep, kept, dropped_first in (("last", [4, 5, 6], 0), ("first", [1, 2, 3], 0)):
        book = DispatchBook(buffer_size=3, keep=keep)
        assert book.push([1, 2, 3]) == ([], dropped_first)
        assert book.push([4, 5, 6]) == ([], 3)
        assert book.buffered == 3
        a = book.subscribe(pid(1), "a")

        assert events_of(book.ask(a, 2)) == [("a", kept[:2])]
        assert events_of(book.ask(a, 5)) == [("a", kept[2:])]
        assert book.wanted() == 4


def test_a_broadcast_waits_for_the_slowest_and_goes_on_when_it_is_gone():
    book = DispatchBook("broadcast")
    a, b = book.subscribe(pid(1), "a"), book.subscribe(pid(2), "b")
    book.ask(a, 5)
    assert book.wanted() == 0
    book.push([1, 2, 3])

    assert events_of(book.ask(b, 2)) == [("a", [1, 2]), ("b", [1, 2])]
    assert events_of(book.cancel(b)) == [("a", [3])]
    assert book.wanted() == 2


def test_a_broadcast_accepts_each_process_once():
    book = DispatchBook("broadcast")
    book.subscribe(pid(1), "a")

    with pytest.raises(Refused, match="already_subscribed"):
        book.subscribe(pid(1), "b")


def test_each_partition_has_one_consumer():
    book = DispatchBook("partition", partitions=[0, Atom("odd")], partition_of=lambda n: Atom("odd") if n % 2 else 0)
    even = book.subscribe(pid(1), "even", 0)
    for partition, reason in ((0, "partition_taken"), (None, "unknown_partition"), (2, "unknown_partition")):
        with pytest.raises(Refused, match=reason):
            book.subscribe(pid(2), "x", partition)
    book.ask(even, 2)

    assert events_of(book.push([0, 1, 2, 3, 4])[0]) == [("even", [0, 2])]
    odd = book.subscribe(pid(2), "odd", Atom("odd"))
    assert events_of(book.ask(odd, 9)) == [("odd", [1, 3])]
    book.cancel(even)
    assert book.subscribe(pid(3), "again", 0).partition == even.partition


def test_an_event_of_an_unknown_partition_is_refused_with_all_of_its_call():
    book = DispatchBook("partition", partitions=[0, 1], partition_of=lambda n: n)

    with pytest.raises(ValueError, match="partition 2"):
        book.push([0, 1, 2])
    assert book.buffered == 0


def test_a_full_buffer_of_one_partition_stops_the_producer():
    book = DispatchBook("partition", partitions=[0, 1], partition_of=lambda n: n, buffer_size=4)
    a = book.subscribe(pid(1), "a", 1)
    book.ask(a, 100)
    book.push([0, 0, 0])
    assert book.wanted() == 1

    book.push([0])

    assert book.wanted() == 0


def test_the_buffer_of_the_fullest_partition_loses_events():
    book = DispatchBook("partition", partitions=[0, 1], partition_of=lambda n: n % 2, buffer_size=4)
    assert book.push([1, 0, 2, 4, 6, 8]) == ([], 2)

    assert [list(queue) for queue in book._queues.values()] == [[4, 6, 8], [1]]


def test_a_pause_keeps_the_events_and_the_demand():
    book = DispatchBook()
    book.paused = True
    a = book.subscribe(pid(1), "a")
    book.ask(a, 2)
    assert book.push([1, 2, 3]) == ([], 0)
    assert book.wanted() == 0

    assert events_of(book.resume()) == [("a", [1, 2])]


def test_the_demand_of_a_consumer_is_bounded():
    book = DispatchBook()
    a = book.subscribe(pid(1), "a")
    for _ in range(3):
        book.ask(a, 1 << 200)

    assert a.demand == MAX_DEMAND


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["demand", "broadcast", "partition"]), st.sampled_from(["first", "last"]), st.integers(0, 10**9))
def test_no_consumer_ever_gets_more_than_it_asked_for(dispatcher, keep, seed):
    """Random calls. Each event that was pushed was sent, waits, or was dropped; the order holds for each consumer."""
    rng = random.Random(seed)
    options = {"partitions": range(3), "partition_of": lambda n: n % 3} if dispatcher == "partition" else {}
    book = DispatchBook(dispatcher, buffer_size=rng.randint(1, 30), keep=keep, **options)
    asked, got, subscriptions, pushed, dropped, number = Counter(), {}, {}, 0, 0, 0

    def note(sent):
        for each, events in sent:
            assert events
            got.setdefault(each.tag, []).extend(events)

    for _ in range(80):
        action = rng.random()
        if action < 0.2:
            number += 1
            try:
                subscriptions[number] = book.subscribe(pid(number), number, rng.randrange(3))
            except Refused:
                assert dispatcher == "partition"
        elif action < 0.55 and subscriptions:
            key, count = rng.choice(list(subscriptions)), rng.randint(0, 12)
            asked[key] += count
            note(book.ask(subscriptions[key], count))
        elif action < 0.62 and subscriptions:
            key = rng.choice(list(subscriptions))
            note(book.cancel(subscriptions.pop(key)))
        else:
            count, wanted, before = rng.randint(0, 10), book.wanted(), book.buffered
            sent, lost = book.push(range(pushed, pushed + count))
            pushed, dropped = pushed + count, dropped + lost
            note(sent)
            if count <= wanted and not before:
                assert not lost
                assert dispatcher == "partition" or not book.buffered
        assert book.buffered <= book.buffer_size
        for tag, events in got.items():
            assert len(events) <= asked[tag]
            assert events == sorted(events)
            assert len(set(events)) == len(events)
    if dispatcher != "broadcast":
        everything = [event for events in got.values() for event in events]
        assert len(set(everything)) == len(everything) == pushed - dropped - book.buffered
