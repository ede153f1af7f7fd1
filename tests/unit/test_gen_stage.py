"""Consumers and producers of GenStage on simulated nodes, and against processes that send the protocol's messages."""

import asyncio
import itertools

import pytest

from erlmesh import Atom, EncodeError, Exit
from erlmesh.gen_stage import Consumer, Producer, SubscriptionLost
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

GEN_PRODUCER, GEN_CONSUMER = Atom("$gen_producer"), Atom("$gen_consumer")
SUBSCRIBE, ASK, CANCEL, NIL, NORMAL = Atom("subscribe"), Atom("ask"), Atom("cancel"), Atom("nil"), Atom("normal")


def simulated(test):
    def wrapper():
        async def main():
            async with Cluster(7) as cluster:
                await cluster.mesh(2)
                await test(cluster, *cluster)

        run(main)

    wrapper.__name__ = test.__name__
    return wrapper


class Script:
    """A process that keeps what it gets, and sends what a test tells it to."""

    def __init__(self, node, name=None):
        self.node = node
        self.messages = []
        self.process = node.spawn_handler(self.messages.append, name=name)
        self.pid = self.process.pid

    def send(self, to, message):
        self.process.send(to, message)

    def take(self):
        taken, self.messages[:] = list(self.messages), []
        return taken

    async def next(self, cluster, count=1):
        await cluster.wait_until(lambda: len(self.messages) >= count)
        return self.take()


async def collect(consumer, count):
    """The first ``count`` events."""
    events = []
    async for batch in consumer:
        events += batch
        if len(events) >= count:
            return events
    return events


async def numbers():
    for number in itertools.count():
        yield number


async def ended(cluster, iteration):
    """Run the iteration of a consumer to its end. Return its events and the reason that it raised."""
    events = []
    try:
        async with asyncio.timeout(60):
            async for batch in iteration:
                events += batch
    except SubscriptionLost as lost:
        return events, lost.reason
    return events, None


# Both sides


@pytest.mark.parametrize("kind", ["async", "plain", "function", "async function"])
@pytest.mark.parametrize("by", ["pid", "name", "global"])
def test_events_flow_from_a_producer_to_a_consumer(kind, by):
    @simulated
    async def test(cluster, a, b):
        async def later(count):
            return [next(counter) for _ in range(count)]

        counter = itertools.count()
        sources = {
            "async": numbers(),
            "plain": itertools.count(),
            "function": lambda count: [next(counter) for _ in range(count)],
            "async function": later,
        }
        async with (
            Producer(a, sources[kind], name="numbers", global_name="numbers") as producer,
            Consumer(b) as consumer,
        ):
            await cluster.wait_until(lambda: b.global_.whereis("numbers") is not None)
            to = {"pid": producer.pid, "name": ("numbers", a.name), "global": ("global", "numbers")}[by]
            consumer.subscribe(to, max_demand=10, min_demand=4)

            assert (await collect(consumer, 100))[:100] == list(range(100))
            await cluster.wait_until(lambda: producer.demand == 0)
            assert producer.buffered == producer.discarded == 0
            assert producer.consumers == [consumer.pid]

    test()


@simulated
async def test_a_finite_source_ends_both_sides(cluster, a, b):
    async with Producer(a, range(25), name="numbers") as producer, Consumer(b) as consumer:
        consumer.subscribe(("numbers", a.name), max_demand=4, cancel="transient")

        assert await ended(cluster, consumer) == (list(range(25)), None)
        await producer.finished()
        with pytest.raises(Exit):
            producer.push([1])


@simulated
async def test_two_consumers_share_the_events(cluster, a, b):
    async with Producer(a, range(1000)) as producer, Consumer(b) as one, Consumer(b) as other:
        for consumer in (one, other):
            consumer.subscribe(producer.pid, max_demand=10, cancel="transient")

        (some, _), (rest, _) = await asyncio.gather(ended(cluster, one), ended(cluster, other))

    assert sorted(some + rest) == list(range(1000))
    assert some
    assert rest


@simulated
async def test_a_broadcast_reaches_every_consumer_from_the_start(cluster, a, b):
    async with (
        Producer(a, range(100), dispatcher="broadcast", paused=True) as producer,
        Consumer(a) as here,
        Consumer(b) as there,
    ):
        for consumer, demand in ((here, 7), (there, 20)):
            consumer.subscribe(producer.pid, max_demand=demand, cancel="transient")
        await cluster.wait_until(lambda: len(producer.consumers) == 2)
        producer.resume()

        results = await asyncio.gather(ended(cluster, here), ended(cluster, there))

    assert results == [(list(range(100)), None)] * 2


@simulated
async def test_partitions_go_to_their_consumers(cluster, a, b):
    async with (
        Producer(a, range(100), dispatcher="partition", partitions=[0, 1], partition_of=lambda n: n % 2) as producer,
        Consumer(a) as even,
        Consumer(b) as odd,
    ):
        for partition, consumer in enumerate((even, odd)):
            consumer.subscribe(producer.pid, max_demand=5, cancel="transient", options={"partition": partition})

        results = await asyncio.gather(ended(cluster, even), ended(cluster, odd))

    assert [events for events, _ in results] == [list(range(0, 100, 2)), list(range(1, 100, 2))]


@simulated
async def test_a_stage_in_between_takes_and_gives_with_back_pressure(cluster, a, b):
    async def doubled(consumer, output):
        async for batch in consumer:
            await output.put_all([2 * number for number in batch])

    pulled = []

    def source(count):
        pulled.extend(range(len(pulled), len(pulled) + count))
        return pulled[-count:]

    async with (
        Producer(a, source) as first,
        Consumer(a) as middle,
        Producer(a, name="doubled") as second,
        Consumer(b) as last,
    ):
        middle.subscribe(first.pid, max_demand=8, min_demand=4)
        stage = asyncio.create_task(doubled(middle, second))
        await cluster.sleep(5)
        assert len(pulled) == 8  # nobody has asked the second stage

        last.subscribe(("doubled", a.name), max_demand=10)
        assert (await collect(last, 50))[:50] == list(range(0, 100, 2))
        await cluster.sleep(5)
        assert len(pulled) <= 50 + 2 * 10 + 2 * 8
        stage.cancel()


@simulated
async def test_put_waits_for_demand_and_push_drops(cluster, a, b):
    async with Producer(a, buffer_size=3, name="events") as producer, Consumer(b) as consumer:
        assert producer.push(range(5)) == 2
        assert producer.discarded == 2
        waiting = asyncio.create_task(producer.put(5))
        await cluster.sleep(1)
        assert not waiting.done()

        consumer.subscribe(("events", a.name), max_demand=4, min_demand=3)

        assert await collect(consumer, 4) == [2, 3, 4, 5]
        await waiting


@simulated
async def test_what_is_not_a_term_is_refused_where_it_is_passed(cluster, a, b):
    async with Producer(a) as producer:
        with pytest.raises(EncodeError):
            producer.push([1, object()])
        assert producer.buffered == 0


@simulated
async def test_the_error_of_a_source_reaches_the_consumer_and_the_owner(cluster, a, b):
    def source(count):
        raise ValueError("no more")

    async with Producer(a, source) as producer, Consumer(b) as consumer:
        consumer.subscribe(producer.pid)

        _, reason = await ended(cluster, consumer)
        assert reason[0] == (Atom("ValueError"), b"no more")
        with pytest.raises(ValueError, match="no more"):
            await producer.finished()


@simulated
async def test_the_error_of_a_push_in_an_async_source_reaches_the_owner(cluster, a, b):
    async def source():
        yield object()
        await asyncio.sleep(0.1)
        yield 1

    async with Producer(a, source()) as producer, Consumer(b) as consumer:
        consumer.subscribe(producer.pid)
        with pytest.raises(EncodeError):
            await producer.finished()


@simulated
async def test_no_event_is_taken_from_a_source_for_a_consumer_that_has_gone(cluster, a, b):
    taken = []

    async def source():
        for number in itertools.count():
            await asyncio.sleep(0.1)
            taken.append(number)
            yield number

    async with Producer(a, source()) as producer:
        async with Consumer(b) as consumer:
            consumer.subscribe(producer.pid)
            await collect(consumer, 3)
        await cluster.wait_until(lambda: not producer.consumers)
        before = len(taken)
        await cluster.sleep(10)

        assert len(taken) <= before + 1
        assert producer.buffered <= 1


# The end of a subscription


@pytest.mark.parametrize("how", ["cancel", "exit", "kill", "stop of the node", "lost connection"])
@pytest.mark.parametrize("cancel", ["permanent", "transient", "temporary"])
def test_a_lost_producer_ends_the_subscription(how, cancel):
    reasons = {
        "cancel": NORMAL,
        "exit": Atom("boom"),
        "kill": Atom("killed"),
        "stop of the node": Atom("shutdown"),
        "lost connection": Atom("noconnection"),
    }

    @simulated
    async def test(cluster, a, b):
        async with Producer(a, name="events") as producer, Consumer(b) as consumer:
            consumer.subscribe(("events", a.name), cancel=cancel)
            await cluster.wait_until(lambda: producer.consumers == [consumer.pid])
            producer.push([1, 2])
            await cluster.sleep(1)
            if how == "cancel":
                producer.stop()
            elif how == "stop of the node":
                await cluster.run_on(a, a.stop)
            elif how == "lost connection":
                cluster.partition([a], [b])
            else:
                a.exit(producer.pid, Atom("boom") if how == "exit" else Atom("kill"))

            events, reason = await ended(cluster, consumer)

        regular = how in {"cancel", "stop of the node"}
        raised = cancel == "permanent" or (cancel == "transient" and not regular)
        assert events == [1, 2]
        assert reason == (reasons[how] if raised else None)

    test()


@pytest.mark.parametrize("to", ["local name", "remote name", "global name", "pid", "absent node"])
def test_a_producer_that_does_not_exist_is_noproc(to):
    @simulated
    async def test(cluster, a, b):
        dead = a.spawn_handler(lambda _: None)
        dead.stop()
        address = {
            "local name": "nothing",
            "remote name": ("nothing", a.name),
            "global name": ("global", "nothing"),
            "pid": dead.pid,
            "absent node": ("nothing", "absent@10.0.0.77"),
        }[to]
        async with Consumer(b) as consumer:
            subscription = consumer.subscribe(address)

            assert await ended(cluster, consumer) == ([], Atom("noconnection" if to == "absent node" else "noproc"))
            assert not subscription.active

    test()


@simulated
async def test_a_lost_consumer_frees_its_events_for_the_others(cluster, a, b):
    async with Producer(a, dispatcher="broadcast") as producer, Consumer(a) as kept:
        async with Consumer(b) as lost:
            kept.subscribe(producer.pid)
            lost.subscribe(producer.pid, max_demand=None)
            await cluster.wait_until(lambda: len(producer.consumers) == 2)
            producer.push([1])
            assert producer.buffered == 1

        assert await collect(kept, 1) == [1]
        assert producer.consumers == [kept.pid]


@simulated
async def test_a_cancelled_subscription_gives_what_is_on_the_way_and_ends(cluster, a, b):
    async with Producer(a, numbers()) as producer, Consumer(b) as consumer:
        subscription = consumer.subscribe(producer.pid, max_demand=10)
        events = await collect(consumer, 20)
        subscription.cancel()

        rest, reason = await ended(cluster, consumer)

        assert events + rest == list(range(len(events + rest)))
        assert reason is None
        assert producer.consumers == []
        await cluster.sleep(1)
        assert not a.internals.is_monitored(producer.pid)
        assert not b.internals.is_monitored(consumer.pid)


@pytest.mark.parametrize("how", ["restart", "partition"])
def test_resubscribe_finds_the_producer_again(how):
    @simulated
    async def test(cluster, a, b):
        async with Consumer(b) as consumer:
            subscription = consumer.subscribe(("events", a.name), resubscribe=True)
            await cluster.sleep(3)
            assert not subscription.active
            async with Producer(a, name="events") as producer:
                await cluster.wait_until(lambda: producer.consumers)
                producer.push([1])
                assert await collect(consumer, 1) == [1]
                if how == "partition":
                    cluster.partition([a], [b])
                    await cluster.wait_until(lambda: not subscription.active)
                    cluster.heal()
                    await cluster.wait_until(lambda: producer.consumers)
                    producer.push([2])
            if how == "restart":
                await cluster.sleep(50)
                async with Producer(a, [2], name="events") as producer:
                    assert await collect(consumer, 1) == [2]
            else:
                assert await collect(consumer, 1) == [2]

            subscription.cancel()
            assert await ended(cluster, consumer) == ([], None)

    test()


@simulated
async def test_a_batch_of_an_earlier_subscription_asks_for_nothing(cluster, a, b):
    producer = Script(a, "events")
    async with Consumer(b) as consumer:
        consumer.subscribe(("events", a.name), max_demand=4, min_demand=1, resubscribe=True)
        subscribed, _ = await producer.next(cluster, 2)
        producer.send(subscribed[1][0], (GEN_CONSUMER, (producer.pid, subscribed[1][1]), [1, 2, 3]))
        batch = await anext(consumer)
        producer.send(subscribed[1][0], (GEN_CONSUMER, (producer.pid, subscribed[1][1]), (CANCEL, NORMAL)))
        again = await producer.next(cluster, 2)
        iteration = asyncio.create_task(anext(consumer))
        await cluster.sleep(1)

        assert (batch, again[1][2], producer.take()) == ([1, 2, 3], (ASK, 4), [])
        iteration.cancel()


@simulated
async def test_the_iteration_ends_with_the_node_and_gives_what_has_arrived(cluster, a, b):
    async with Producer(a, name="events") as producer:
        consumer = Consumer(b)
        await consumer.__aenter__()
        consumer.subscribe(("events", a.name))
        await cluster.wait_until(lambda: producer.consumers)
        producer.push([1])
        await cluster.sleep(1)
        await cluster.run_on(b, b.stop)

        assert await ended(cluster, consumer) == ([1], None)


@simulated
async def test_a_waiting_put_and_iteration_end_with_the_node(cluster, a, b):
    consumer, producer = Consumer(b), Producer(b)
    await consumer.__aenter__()
    await producer.__aenter__()
    consumer.subscribe(producer.pid)
    await cluster.wait_until(lambda: producer.consumers)
    putting = asyncio.create_task(Producer.put_all(producer, range(5000)))
    waiting = asyncio.create_task(producer.finished())
    await cluster.sleep(1)
    await cluster.run_on(b, b.stop)

    await cluster.wait_until(lambda: putting.done() and waiting.done())
    assert isinstance(putting.exception(), Exit)


@simulated
async def test_a_process_that_iterates_exits_with_the_reason_of_the_producer(cluster, a, b):
    async def body(me):
        async with Consumer(me.node) as consumer:
            consumer.subscribe(("events", a.name))
            async for _ in consumer:
                pass

    async with Producer(a, name="events") as producer:
        watcher = Script(b)
        watcher.process.monitor(b.spawn(body))
        await cluster.wait_until(lambda: producer.consumers)
        producer.stop(Atom("boom"))
        down = (await watcher.next(cluster))[0]

    assert (down[0], down[4]) == (Atom("DOWN"), Atom("boom"))


# The messages of a consumer


@simulated
async def test_what_a_consumer_sends(cluster, a, b):
    producer = Script(a, "events")
    async with Consumer(b) as consumer:
        subscription = consumer.subscribe(("events", a.name), max_demand=4, min_demand=2, options={"partition": 0})
        (kind, sender, request), asked = await producer.next(cluster, 2)

        assert (kind, sender[0], request[:2]) == (GEN_PRODUCER, consumer.pid, (SUBSCRIBE, NIL))
        assert dict(request[2]) == {
            Atom("partition"): 0, Atom("max_demand"): 4, Atom("min_demand"): 2, Atom("cancel"): Atom("permanent"),
        }  # fmt: skip
        assert asked == (GEN_PRODUCER, sender, (ASK, 4))

        producer.send(consumer.pid, (GEN_CONSUMER, (producer.pid, sender[1]), [1, 2]))
        assert await anext(consumer) == [1, 2]
        await cluster.sleep(1)
        assert producer.take() == []  # the batch is not handled yet
        subscription.cancel(Atom("enough"))
        assert await producer.next(cluster) == [(GEN_PRODUCER, sender, (CANCEL, Atom("enough")))]


@simulated
async def test_more_events_than_asked_for_end_the_subscription(cluster, a, b):
    producer = Script(a, "events")
    async with Consumer(b) as consumer:
        consumer.subscribe(("events", a.name), max_demand=2)
        (_, sender, _), _ = await producer.next(cluster, 2)
        producer.send(consumer.pid, (GEN_CONSUMER, (producer.pid, sender[1]), [1, 2]))
        producer.send(consumer.pid, (GEN_CONSUMER, (producer.pid, sender[1]), [3]))

        assert await ended(cluster, consumer) == ([1, 2], Atom("excess_events"))
        await cluster.sleep(1)
        assert producer.take()[-1] == (GEN_PRODUCER, sender, (CANCEL, Atom("excess_events")))


@simulated
async def test_events_of_an_unknown_subscription_are_refused_and_those_of_others_too(cluster, a, b):
    producer, other = Script(a, "events"), Script(a)
    async with Consumer(b) as consumer:
        consumer.subscribe(("events", a.name))
        (_, sender, _), _ = await producer.next(cluster, 2)
        producer.send(consumer.pid, (GEN_CONSUMER, (producer.pid, sender[1]), [1]))
        assert await collect(consumer, 1) == [1]

        for tag, pid, process in ((1, producer.pid, producer), (sender[1], other.pid, other)):
            process.send(consumer.pid, (GEN_CONSUMER, (pid, tag), [2]))
            refused = await process.next(cluster)
            assert refused == [(GEN_PRODUCER, (consumer.pid, tag), (CANCEL, Atom("unknown_subscription")))]
        other.send(consumer.pid, (GEN_CONSUMER, (b.spawn_handler(print).pid, sender[1]), (CANCEL, NORMAL)))
        other.send(consumer.pid, (GEN_CONSUMER, (producer.pid, sender[1]), Atom("strange")))
        await cluster.sleep(1)

        assert len(consumer._by_tag) == 1


@simulated
async def test_another_node_cannot_speak_for_a_producer(cluster, a, b):
    forger = Script(a)
    async with Producer(b) as producer, Consumer(b) as consumer:
        subscription = consumer.subscribe(producer.pid)
        for content in ([1], (CANCEL, NORMAL)):
            forger.send(consumer.pid, (GEN_CONSUMER, (producer.pid, subscription._tag), content))
        await cluster.sleep(1)
        producer.push([2])

        assert await anext(consumer) == [2]


# The messages of a producer


@simulated
async def test_a_source_waits_while_a_connection_is_full(cluster, a, b):
    class Full:
        busy = True

        def __init__(self):
            self.writable = asyncio.Event()

        async def wait_writable(self):
            await self.writable.wait()

    pulled = []
    async with (
        Producer(a, lambda count: pulled.append(count) or list(range(count))) as producer,
        Consumer(b) as consumer,
    ):
        full = producer._process._blocked_on = Full()
        consumer.subscribe(producer.pid, max_demand=3)
        await cluster.wait_until(lambda: producer.demand == 3)
        await cluster.sleep(1)
        assert pulled == []

        full.writable.set()

        assert await collect(consumer, 3) == [0, 1, 2]


@simulated
async def test_what_a_producer_sends(cluster, a, b):
    consumer = Script(b)
    async with Producer(a, numbers(), name="numbers") as producer:
        to, me = ("numbers", a.name), (consumer.pid, Atom("tag"))
        from_producer = (producer.pid, Atom("tag"))
        consumer.send(to, (GEN_PRODUCER, me, (ASK, 1)))
        assert await consumer.next(cluster) == [(GEN_CONSUMER, from_producer, (CANCEL, Atom("unknown_subscription")))]
        consumer.send(to, (GEN_PRODUCER, me, (SUBSCRIBE, NIL, [])))
        consumer.send(to, (GEN_PRODUCER, me, (ASK, 2)))
        assert await consumer.next(cluster) == [(GEN_CONSUMER, from_producer, [0, 1])]
        consumer.send(to, (GEN_PRODUCER, me, (SUBSCRIBE, NIL, [])))
        assert await consumer.next(cluster) == [
            (GEN_CONSUMER, from_producer, (CANCEL, Atom("duplicated_subscription")))
        ]
        consumer.send(to, (GEN_PRODUCER, (consumer.pid, 2), (SUBSCRIBE, (Atom("tag"), Atom("replaced")), [])))
        assert await consumer.next(cluster) == [(GEN_CONSUMER, from_producer, (CANCEL, Atom("replaced")))]
        consumer.send(to, (GEN_PRODUCER, (consumer.pid, 2), (CANCEL, Atom("bye"))))
        assert await consumer.next(cluster) == [(GEN_CONSUMER, (producer.pid, 2), (CANCEL, Atom("bye")))]
        assert producer.consumers == []


@simulated
async def test_a_producer_keeps_little_of_what_a_peer_says(cluster, a, b):
    consumer = Script(b)
    async with Producer(a, name="numbers", max_subscriptions=3) as producer:
        to = ("numbers", a.name)
        for tag in range(5):
            consumer.send(to, (GEN_PRODUCER, (consumer.pid, tag), (SUBSCRIBE, NIL, NIL)))
        refused = await consumer.next(cluster, 2)
        assert [each[1:] for each in refused] == [((producer.pid, tag), (CANCEL, Atom("overloaded"))) for tag in (3, 4)]
        consumer.send(to, (GEN_PRODUCER, (consumer.pid, bytes(300)), (SUBSCRIBE, NIL, [])))
        assert (await consumer.next(cluster))[0][2] == (CANCEL, Atom("bad_tag"))
        for request in ((ASK, -1), (ASK, Atom("many")), (ASK, 1, 2), (SUBSCRIBE,), Atom("x")):
            consumer.send(to, (GEN_PRODUCER, (consumer.pid, 0), request))
        consumer.send(to, (GEN_PRODUCER, (a.spawn_handler(print).pid, 9), (SUBSCRIBE, NIL, [])))
        consumer.send(to, (GEN_PRODUCER, 5, 6))
        await cluster.sleep(1)
        assert len(producer.consumers) == 3
        assert producer.demand == 0

        consumer.process.stop()
        await cluster.wait_until(lambda: not producer.consumers)
        assert producer._by_monitor == producer._by_tag == {}


@simulated
async def test_a_consumer_cannot_speak_for_another_one(cluster, a, b):
    one, other = Script(a), Script(b)
    async with Producer(a, itertools.count(), name="numbers") as producer:
        to = ("numbers", a.name)
        one.send(to, (GEN_PRODUCER, (one.pid, 1), (SUBSCRIBE, NIL, [])))
        for request in ((ASK, 5), (CANCEL, Atom("x"))):
            other.send(to, (GEN_PRODUCER, (other.pid, 1), request))
        refusal = (GEN_CONSUMER, (producer.pid, 1), (CANCEL, Atom("unknown_subscription")))
        assert await other.next(cluster, 2) == [refusal, refusal]

        other.send(to, (GEN_PRODUCER, (other.pid, 1), (SUBSCRIBE, (1, Atom("mine")), [])))  # with the same tag
        other.send(to, (GEN_PRODUCER, (other.pid, 1), (ASK, 2)))
        assert await other.next(cluster) == [(GEN_CONSUMER, (producer.pid, 1), [0, 1])]
        assert (one.take(), len(producer.consumers)) == ([], 2)


@simulated
async def test_calls_are_answered(cluster, a, b):
    async with Producer(a, name="numbers") as producer, Consumer(a, name="consumer"):
        producer.push([1, 2])

        assert await b.call(("numbers", a.name), Atom("$estimate_buffered_count")) == 2
        for name in ("numbers", "consumer"):
            assert (await b.call((name, a.name), Atom("what")))[0] is Atom("error")


@simulated
async def test_a_taken_name_is_refused(cluster, a, b):
    async with Producer(a, name="numbers", global_name="numbers"):
        for options in ({"name": "numbers"}, {"global_name": "numbers"}):
            with pytest.raises(ValueError, match="taken"):
                async with Producer(a, **options):
                    pass


@simulated
async def test_wrong_arguments_are_refused(cluster, a, b):
    with pytest.raises(RuntimeError, match="async with"):
        Consumer(a).pid  # noqa: B018
    with pytest.raises(RuntimeError, match="async with"):
        Producer(a).pid  # noqa: B018
    async with Consumer(a) as consumer:
        for options in ({"cancel": "never"}, {"max_demand": 0}):
            with pytest.raises(ValueError, match=r"cancel|demand"):
                consumer.subscribe("events", **options)
        with pytest.raises(TypeError):
            consumer.subscribe(5)
        with pytest.raises(EncodeError):
            consumer.subscribe(("events", b.name), options={"selector": object()})
        assert await ended(cluster, consumer) == ([], None)
        assert consumer._by_tag == {}
        with pytest.raises(ValueError, match="manual"):
            consumer.subscribe("events").ask(1)
        assert await ended(cluster, consumer) == ([], Atom("noproc"))
