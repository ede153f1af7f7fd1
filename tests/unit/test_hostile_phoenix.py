"""A hostile member sends forged and changed messages of PubSub, Tracker, GenStage and pg. A node goes on as before."""

import asyncio
import itertools
import logging
from random import Random

import pytest

from erlmesh import Atom, ImproperList, Map
from erlmesh.core.phash2 import phash2
from erlmesh.core.phoenix_tracker.entries import Delta, Entry, FullState
from erlmesh.core.phoenix_tracker.messages import (
    GracefulPermdown,
    Heartbeat,
    TransferAnswer,
    TransferRequest,
    to_term,
)
from erlmesh.gen_stage import Consumer, Producer
from erlmesh.phoenix import PubSub, PubSubGuest, Tracker

NAME, ADAPTER = "MyApp.PubSub", "Elixir.MyApp.PubSub.Adapter"
SCOPE, PLAIN, FORWARD = map(Atom, ("Elixir.Phoenix.PubSub", "Elixir.Phoenix.PubSub", "forward_to_local"))
TO_PRODUCER, TO_CONSUMER, CANCEL = map(Atom, ("$gen_producer", "$gen_consumer", "cancel"))
JOIN, LEAVE, SYNC, CAST, DOWN, PROCESS = map(Atom, ("join", "leave", "sync", "$gen_cast", "DOWN", "process"))


def worker(node):
    return node.spawn_handler(lambda _: None)


class Mutator:
    """Changes some parts of a term. ``strange`` are the terms that it puts in."""

    def __init__(self, random, strange):
        self.random = random
        self.strange = strange

    def __call__(self, term):
        random = self.random
        if random.random() < 0.08:
            return random.choice(self.strange)
        match term:
            case tuple():
                items = [self(each) for each in term]
                if items and random.random() < 0.05:
                    del items[random.randrange(len(items))]
                if random.random() < 0.05:
                    items.append(random.choice(self.strange))
                return tuple(items)
            case list():
                return [self(each) for each in term]
            case Map():
                return Map([(self(key) if random.random() < 0.3 else key, self(term[key])) for key in term])
            case int() if not isinstance(term, bool):
                return term + random.choice([0, 0, 0, 1, -1, 1 << 63, -(1 << 70)])
        return term


def deep(depth):
    term = ()
    for _ in range(depth):
        term = (term,)
    return term


class Member:
    """A node with a PubSub and a Tracker."""

    def __init__(self, node):
        self.node = node
        self.pubsub = PubSub(node, NAME)
        self.tracker = Tracker(self.pubsub, "T", pool_size=2)

    async def start(self):
        await self.pubsub.start()
        await self.tracker.start()

    def track(self, key):
        self.tracker.track(worker(self.node), "lobby", key, {})

    def listed(self):
        return sorted(each.key_text for each in self.tracker.list("lobby"))

    @property
    def shard(self):
        return self.tracker._shards[phash2(b"lobby", 2)]


def hostile_messages(evil, us, other, stages, guest):
    """Addresses on ``us``, and for each the messages whose changed forms it gets."""
    mine, (producer, consumer) = worker(evil), stages
    ref, ours, theirs = (Atom(evil.name), 7), us.shard.book.ref, other.shard.book.ref
    own_tag, tag = next(iter(consumer._by_tag)), evil.internals.make_ref()

    def entry(number):
        return Entry(mine.pid, b"lobby", b"evil %d" % number, Map({Atom("phx_ref"): b"%d" % number}))

    tracker = [
        Heartbeat(ref, None, {ref: 0}),
        *(Heartbeat(ref, Delta({(ref, n): entry(n)}, {ref: {n, n + 1}}), {ref: 9, theirs: 2}) for n in range(1, 9)),
        TransferRequest(1, ref, {ref: 0, ours: 0}),
        TransferAnswer(1, ref, FullState({ref: 3, theirs: 1 << 60, ours: 9}, {ref: {5}}, {(ref, 2): entry(2)})),
        TransferAnswer(1, ref, Delta({(theirs, 9): entry(9)}, {theirs: {1, 2, 9}})),
        GracefulPermdown(ref),
        GracefulPermdown(theirs),
    ]
    numbers = (1, 2, 3, 9, 1024, 1025, 99_999)
    groups = [Atom(ADAPTER), *(Atom(f"{ADAPTER}_{number}") for number in numbers), Atom(f"{ADAPTER}_"), Atom("x")]
    server = evil.pg.find_scope(SCOPE).pid
    victim = worker(other.node).pid
    yield (
        (Atom(ADAPTER), us.node.name),
        [
            *(
                (FORWARD, b"phx_presence:Elixir.T_shard%d" % n, to_term(each), PLAIN)
                for each in tracker
                for n in (0, 1)
            ),
            (FORWARD, b"t", Map({b"a": 1}), PLAIN),
        ],
    )
    yield (
        (SCOPE, us.node.name),
        [
            *((JOIN, server, group, [mine.pid]) for group in groups),
            (JOIN, server, groups[0], [victim]),
            (LEAVE, server, [mine.pid], groups),
            (CAST, (SYNC, server, [(group, [mine.pid, mine.pid]) for group in groups])),
            (CAST, (SYNC, server, [(groups[0], [victim])])),
        ],
    )
    yield (
        producer.pid,
        [
            (TO_PRODUCER, (mine.pid, tag), (Atom("subscribe"), Atom("nil"), [(Atom("max_demand"), 3)])),
            (TO_PRODUCER, (mine.pid, tag), (Atom("ask"), 5)),
            (TO_PRODUCER, (consumer.pid, own_tag), (CANCEL, 1)),
        ],
    )
    yield (
        consumer.pid,
        [(TO_CONSUMER, (producer.pid, own_tag), content) for content in ([1, 2], (CANCEL, 1))]
        + [(TO_CONSUMER, (mine.pid, tag), [1])],
    )
    yield (
        guest._subscriptions.owner.pid,
        [(tag, Atom("subscribed"), mine.pid), (tag, Atom("message"), 1), (DOWN, tag, PROCESS, mine.pid, 1)],
    )
    yield us.shard.pid, [(DOWN, tag, PROCESS, mine.pid, 1), (Atom("track"), mine.pid, b"lobby", b"k", Map())]


@pytest.mark.parametrize("seed", range(5))
async def test_nothing_that_a_member_says_harms_a_node(cluster, caplog, seed):
    caplog.set_level(logging.ERROR)
    mesh = await cluster(3)
    (us, other), evil = (Member(each) for each in [*mesh][:2]), [*mesh][2]
    for each in (us, other):
        await mesh.run_on(each.node, each.start)
    evil.pg.start_scope(SCOPE)
    assert await us.tracker.ready(10)
    us.track("ours")
    other.track("theirs")
    kept = [us.pubsub.subscribe("t"), us.pubsub.subscribe("t", type=dict[str, int])]

    async def numbers():
        for number in itertools.count():
            await asyncio.sleep(0.01)
            yield number

    async with (
        Producer(us.node, numbers()) as producer,
        Consumer(us.node) as consumer,
        PubSubGuest(us.node, [evil.name], NAME) as guest,
    ):
        consumer.subscribe(producer.pid, max_demand=4)
        random = Random(seed)
        targets = [*hostile_messages(evil, us, other, (producer, consumer), guest)]
        ref, theirs = (Atom(evil.name), 7), other.shard.book.ref
        strange = [0, -1, 1 << 80, 1.5, True, b"", bytes(1000), Atom("nil"), Atom(""), [], [1, 2], ImproperList([1], 2)]
        strange += [(), Map(), Map({1: 2}), deep(5000), ref, theirs, (theirs, 5), us.shard.pid, us.node.internals.pid]
        mutated = Mutator(random, strange)
        for number in range(1500):
            to, messages = random.choice([targets[0], *targets])
            message = random.choice(messages)
            evil.send(to, message if random.random() < 0.3 else mutated(message))
            if random.random() < 0.005:
                evil.exit(random.choice([us.shard.pid, us.pubsub.adapter.process.pid]), Atom("kill"))
            if number % 50 == 0:
                await asyncio.sleep(random.choice([0.01, 1]))
        await asyncio.sleep(60)

        assert "Traceback" not in caplog.text
        events = await asyncio.wait_for(anext(consumer), 5)
        assert events == [*range(events[0], events[0] + len(events))]
        later = us.pubsub.subscribe("later")
        await other.pubsub.broadcast("later", 1)
        assert await later.get(5) == 1
        other.track("their next")
        us.track("our next")
        await mesh.wait_until(lambda: {"theirs", "their next"} <= {*us.listed()} and "our next" in other.listed())

    await mesh.run_on(evil, evil.stop)
    await asyncio.sleep(100)
    assert us.listed() == other.listed() == ["our next", "ours", "their next", "theirs"]
    assert all(each.waiting <= 10_000 for each in kept)
