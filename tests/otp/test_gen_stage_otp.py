"""Consumers and producers of Python beside stages of Elixir that speak the protocol of gen_stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from erlmesh.terms import Atom
from polling import wait_until
from test_gen_server_otp import COMPILE
from test_system_messages_otp import elixir_path

pytestmark = [pytest.mark.timeout(180), pytest.mark.otps(25, 29)]

PRODUCER, CONSUMER = Atom("Elixir.StageProducer"), Atom("Elixir.StageConsumer")
PYTHON = """
import itertools
from erlmesh.gen_stage import Consumer, Producer, SubscriptionLost

async def start_consumer(to, **options):
    global consumer, events, ended
    events, ended = [], asyncio.get_running_loop().create_future()
    started = asyncio.get_running_loop().create_future()

    async def iterate():
        global consumer
        try:
            async with Consumer(node) as consumer:
                consumer.subscription = consumer.subscribe(to, **options)
                started.set_result(None)
                async for batch in consumer:
                    events.extend(batch)
                    if len(events) >= limit:
                        await asyncio.sleep(3600)
            ended.set_result(None)
        except SubscriptionLost as lost:
            ended.set_result(lost.reason)

    globals()["task"] = asyncio.create_task(iterate())
    await started

async def start_producer(**options):
    global producer
    producer = await Producer(node, name="numbers", **options).__aenter__()
"""


@pytest.fixture
def pair(cluster, otp):
    beam = cluster.beam("plato", otp=otp, arguments=elixir_path(otp))
    python = cluster.pynode("socrates")
    python.eval(PYTHON)
    beam.eval(COMPILE, Source=(Path(__file__).parent / "stages.ex").read_bytes())
    beam.eval("Call = fun(S, Request) -> 'Elixir.GenServer':call(S, Request) end")
    assert beam.ping(python.name)
    return beam, python


def consume(python, beam, limit, **options):
    python.eval("limit = LIMIT", LIMIT=limit)
    python.eval("await start_consumer(TO, **OPTIONS)", TO=(PRODUCER, beam.atom), OPTIONS=options)


def log(beam):
    return beam.eval("Call('Elixir.StageProducer', log)")


def test_a_python_consumer_of_an_elixir_producer(pair):
    beam, python = pair
    beam.eval("'Elixir.StageProducer':start(0)")
    consume(python, beam, 20, max_demand=10, min_demand=5)

    wait_until(lambda: len(python.eval("events")) >= 20)
    assert python.eval("events") == list(range(len(python.eval("events"))))
    entries = log(beam)
    assert entries[:2] == [(Atom("subscribe"), [(Atom("max_demand"), 10)]), (Atom("ask"), 10)]
    assert sum(count for kind, count in entries[1:] if kind is Atom("ask")) <= len(python.eval("events")) + 10

    python.eval("task.cancel()")  # the producer monitors the consumer
    wait_until(lambda: log(beam)[-1] == (Atom("down"), Atom("normal")))
    assert beam.eval("Call('Elixir.StageProducer', tags)") == []

    consume(python, beam, 10**9, max_demand=10)
    wait_until(lambda: len(python.eval("events")) >= 50)
    python.eval("consumer.subscription.cancel(Atom('enough'))")
    assert python.eval("await asyncio.wait_for(ended, 60)") is None
    assert log(beam)[-1][0] is not Atom("ask")
    wait_until(lambda: (Atom("cancel"), Atom("enough")) in log(beam))


@pytest.mark.parametrize("cancel", ["permanent", "temporary"])
def test_a_python_consumer_learns_that_its_producer_has_gone(pair, cancel):
    beam, python = pair
    beam.eval("'Elixir.StageProducer':start(0)")
    consume(python, beam, 10**9, max_demand=4, cancel=cancel)
    wait_until(lambda: len(python.eval("events")) >= 4)

    beam.eval("exit(whereis('Elixir.StageProducer'), kill)")

    assert python.eval("await asyncio.wait_for(ended, 60)") == (Atom("killed") if cancel == "permanent" else None)
    if cancel == "temporary":
        consume(python, beam, 10**9, max_demand=4, resubscribe=True)
        beam.eval("'Elixir.StageProducer':start(100)")
        wait_until(lambda: python.eval("events")[:4] == [100, 101, 102, 103])


def seen(beam):
    return beam.eval("Call('Elixir.StageConsumer', seen)")


def test_an_elixir_consumer_of_a_python_producer(pair):
    beam, python = pair
    python.eval("await start_producer(source=itertools.count())")
    start = "'Elixir.StageConsumer':start({numbers, N}, [{max_demand, 5}])"
    ask = "Call('Elixir.StageConsumer', {ask, Count})"

    beam.eval(start, N=python.atom)
    for count in (1, 5, 100):
        beam.eval(ask, Count=count)
    wait_until(lambda: len(seen(beam)[0]) == 106)
    assert seen(beam) == (list(range(106)), 0, [])
    assert beam.eval("Call({numbers, N}, '$estimate_buffered_count')", N=python.atom) == 0
    beam.eval("Call('Elixir.StageConsumer', {cancel, enough})")
    wait_until(lambda: seen(beam)[2] == [(Atom("cancel"), Atom("enough"))])
    beam.eval(ask, Count=1)
    wait_until(lambda: seen(beam)[2][1:] == [(Atom("cancel"), Atom("unknown_subscription"))])
    assert python.eval("producer.consumers") == []

    beam.eval("Call('Elixir.StageConsumer', {stop, normal})")
    beam.eval(start, N=python.atom)
    wait_until(lambda: len(python.eval("producer.consumers")) == 1)
    beam.eval("Call('Elixir.StageConsumer', {stop, normal})")
    wait_until(lambda: python.eval("producer.consumers") == [])  # the producer monitors the consumer

    beam.eval(start, N=python.atom)
    wait_until(lambda: len(python.eval("producer.consumers")) == 1)
    python.eval("producer.stop(Atom('done'))")
    wait_until(lambda: seen(beam)[2] == [(Atom("cancel"), Atom("done")), (Atom("down"), Atom("done"))])
