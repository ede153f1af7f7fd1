"""Servings on a simulated cluster: batches, callers that leave, overload, errors, streams, and the end."""

import asyncio
from functools import partial

import pytest

from erlmesh import (
    Atom,
    CallError,
    EncodeError,
    Exit,
    NoProcess,
    Ref,
    RemoteError,
    ServingClient,
    ServingError,
    Supervisor,
    serving,
)
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

RUN, STREAM, OK, ERROR, EVENT, DONE, STATISTICS, SHUTDOWN, KILL = map(
    Atom, ("run", "stream", "ok", "error", "event", "done", "statistics", "shutdown", "kill")
)
OVERLOADED, TIMEOUT = map(Atom, ("overloaded", "timeout"))


def with_nodes(test):
    """Pass a simulated cluster with two nodes to the test."""

    def wrapped():
        async def main():
            async with Cluster() as cluster:
                server, client = await cluster.mesh(2)
                await test(cluster, server, client)

        run(main)

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped


def make(**options):
    """A serving that doubles numbers, with the batches that it has got. It takes 0.1 s for a batch."""
    batches = []

    @serving(**{"batch_size": 4, "wait": 0.05, "name": "double", **options})
    async def double(numbers):
        batches.append(numbers)
        await asyncio.sleep(0.1)
        if "fail" in numbers or b"fail" in numbers:
            raise ValueError("broken")
        return [2 * number for number in numbers]

    return double, batches


def calls(client, *values):
    """Tasks that call the serving ``double``."""
    return [asyncio.ensure_future(ServingClient(client, "double").run(value)) for value in values]


@with_nodes
async def test_callers_share_batches_and_each_gets_its_own_output(cluster, server, client):
    double, batches = make()
    await double.start(server)
    await cluster.sleep(1)

    assert await asyncio.gather(*calls(client, *range(6))) == [0, 2, 4, 6, 8, 10]
    assert sorted(map(len, batches)) == [2, 4]


@with_nodes
async def test_elixirs_genserver_call_and_erpc_get_the_same(cluster, server, client):
    double, _ = make()
    pid = await double.start(server)

    assert await client.call(pid, (RUN, 4)) == (OK, 8)
    assert await client.call((Atom("double"), Atom(server.name)), (RUN, 5)) == (OK, 10)
    assert await client.rpc(server.name, "test_serving", "double", [6]) == 12
    assert await client.call(pid, Atom("what")) == (ERROR, (Atom("unknown_call"), Atom("what")))


@with_nodes
async def test_an_error_answers_the_callers_of_its_batch_only(cluster, server, client):
    double, batches = make(threads=2, batch_size=2, wait=0.5)
    pid = await double.start(server)
    await cluster.sleep(1)

    answers = await asyncio.gather(*calls(client, b"fail", 1, 2, 3), return_exceptions=True)

    assert sorted(map(len, batches)) == [2, 2]
    failed = {id(answer) for answer in answers if isinstance(answer, ServingError)}
    assert len(failed) == 2
    assert {answer.reason for answer in answers if id(answer) in failed} == {(Atom("ValueError"), b"broken")}
    with pytest.raises(RemoteError, match="broken"):
        await client.rpc(server.name, "test_serving", "double", [b"fail"])
    assert (await client.call(pid, STATISTICS))[Atom("failed_batches")] == 2


@with_nodes
async def test_an_exception_in_the_outputs_answers_one_caller(cluster, server, client):
    @serving(name="double", wait=0.1)
    def double(numbers):
        return [KeyError(number) if number == 1 else 2 * number for number in numbers]

    await double.start(server)
    await cluster.sleep(1)

    ok, failed = await asyncio.gather(*calls(client, 0, 1), return_exceptions=True)

    assert ok == 0
    assert failed.reason == (Atom("KeyError"), b"1")


@pytest.mark.parametrize(
    ("outputs", "text"),
    [([1], "returned 1 outputs for 2 inputs"), (None, "returned NoneType for 2 inputs"), ("ab", "returned 2 outputs")],
    ids=["too few", "nothing", "a text"],
)
def test_a_wrong_number_of_outputs_is_an_error_in_words(outputs, text):
    @with_nodes
    async def check(cluster, server, client):
        await serving(name="double", wait=0.1)(lambda numbers: outputs).start(server)
        await cluster.sleep(1)

        for answer in await asyncio.gather(*calls(client, 0, 1), return_exceptions=True):
            assert answer.reason[0] is Atom("bad_output")
            assert text in answer.reason[1].decode()

    check()


@with_nodes
async def test_an_output_that_is_no_term_fails_for_its_caller_alone(cluster, server, client):
    @serving(wait=0.1)
    def double(numbers):
        return [object() if number == 0 else "fine" for number in numbers]

    await double.start(server)
    await cluster.sleep(1)

    bad, fine = await asyncio.gather(*calls(client, 0, 1), return_exceptions=True)

    assert bad.reason[0] is Atom("EncodeError")
    assert fine == b"fine"
    with pytest.raises(RemoteError, match="EncodeError"):
        await client.rpc(server.name, "test_serving", "double", [0])


@with_nodes
async def test_a_reason_that_is_no_term_is_told_as_text_to_all(cluster, server, client):
    @serving(name="double", wait=0.1)
    def double(numbers):
        raise Exit({1, 2})

    await double.start(server)
    await cluster.sleep(1)

    answers = await asyncio.gather(*calls(client, 0, 1), return_exceptions=True)

    assert [answer.reason for answer in answers] == [b"{1, 2}"] * 2


@with_nodes
async def test_a_caller_that_is_gone_is_dropped_before_the_batch(cluster, server, client):
    double, batches = make(wait=1.0)
    pid = await double.start(server)
    await cluster.sleep(1)
    gone, stays = calls(client, 1, 2)
    asks = asyncio.ensure_future(client.rpc(server.name, "test_serving", "double", [3]))
    await cluster.sleep(0.2)

    gone.cancel()
    asks.cancel()

    assert await stays == 4
    assert batches == [[2]]
    assert (await client.call(pid, STATISTICS))[Atom("dropped")] == 2


@with_nodes
async def test_a_lost_node_is_dropped_before_the_batch(cluster, server, client):
    double, batches = make(wait=60.0, time_limit=None)
    pid = await double.start(server)
    await cluster.sleep(1)
    calls(client, 1)
    await cluster.sleep(0.2)

    cluster.kill(client)
    await cluster.sleep(30)

    assert (await server.call(pid, (RUN, 7), timeout=100)) == (OK, 14)
    assert batches == [[7]]


@with_nodes
async def test_inputs_with_too_many_bytes_are_refused_at_once(cluster, server, client):
    double, _ = make(batch_size=1, byte_limit=2_500)
    await double.start(server)
    await cluster.sleep(1)

    first = calls(client, bytes(1_000))
    await cluster.sleep(0.02)
    waiting = calls(client, bytes(1_000), bytes(1_000))
    await cluster.sleep(0.02)
    (refused,) = await asyncio.gather(*calls(client, bytes(1_000)), return_exceptions=True)

    assert refused.reason is OVERLOADED
    assert await asyncio.gather(*first, *waiting) == [bytes(2_000)] * 3


@with_nodes
async def test_an_overloaded_serving_refuses_at_once(cluster, server, client):
    double, _ = make(limit=2, batch_size=1)
    pid = await double.start(server)
    await cluster.sleep(1)
    began = asyncio.get_running_loop().time()

    first = calls(client, 0)
    await cluster.sleep(0.02)
    waiting = calls(client, 1, 2)
    await cluster.sleep(0.02)
    (refused,) = await asyncio.gather(*calls(client, 3), return_exceptions=True)

    assert refused.reason is OVERLOADED
    assert asyncio.get_running_loop().time() - began < 0.1  # of virtual time
    with pytest.raises(RemoteError, match="overloaded"):
        await client.rpc(server.name, "test_serving", "double", [4])
    assert await asyncio.gather(*first, *waiting) == [0, 2, 4]
    assert (await client.call(pid, STATISTICS))[Atom("overloaded")] == 2


@with_nodes
async def test_the_time_limit_answers_waiting_and_running_inputs(cluster, server, client):
    @serving(name="double", time_limit=2.0, batch_size=1, wait=0.0)
    async def double(numbers):
        await asyncio.sleep(numbers[0])
        return numbers

    await double.start(server)
    await cluster.sleep(1)

    long, waits = calls(client, 3, 0)
    answers = await asyncio.gather(long, waits, return_exceptions=True)

    assert [answer.reason for answer in answers] == [TIMEOUT, TIMEOUT]
    assert await asyncio.gather(*calls(client, 1)) == [1]


@with_nodes
async def test_a_batch_that_nobody_waits_for_any_more_frees_its_slot(cluster, server, client):
    seen = []

    @serving(name="double", time_limit=2.0, batch_size=1, wait=0.0)
    async def double(numbers):
        try:
            await asyncio.sleep(numbers[0])
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return numbers

    await double.start(server)
    await cluster.sleep(1)

    (answer,) = await asyncio.gather(*calls(client, 10_000), return_exceptions=True)
    await cluster.sleep(0)

    assert answer.reason is TIMEOUT
    assert await asyncio.gather(*calls(client, 1)) == [1]
    assert seen == ["cancelled"]


@with_nodes
async def test_without_a_serving_the_client_says_what_to_do(cluster, server, client):
    with pytest.raises(NoProcess, match="no node runs the serving double: start it"):
        await ServingClient(client, "double").run(1)


# Streams


def make_stream(steps=3):
    seen = []

    @serving(name="double", wait=0.0)
    async def count(numbers):
        try:
            for step in range(steps):
                yield [step * number if number >= 0 else None for number in numbers]
                await asyncio.sleep(0.1)
            if -1 in numbers:
                raise ValueError("broken")
        finally:
            seen.append("closed")

    return count, seen


@with_nodes
async def test_a_stream_reaches_callers_of_python(cluster, server, client):
    count, _ = make_stream()
    await count.start(server)
    await cluster.sleep(1)

    assert [event async for event in ServingClient(client, "double").stream(5)] == [0, 5, 10]
    assert [event async for event in count.stream(server, -2)] == []
    assert await ServingClient(client, "double").run(5) == [0, 5, 10]


@with_nodes
async def test_a_stream_reaches_a_process_by_messages(cluster, server, client):
    count, _ = make_stream(2)
    pid = await count.start(server)

    async def body(me):
        ok, ref = await me.call(pid, (STREAM, 3))
        return ok, isinstance(ref, Ref), [await me.receive() for _ in range(3)] == [
            (ref, EVENT, 0), (ref, EVENT, 3), (ref, DONE)
        ]  # fmt: skip

    assert await cluster.run_on(client, partial(client.run, body)) == (OK, True, True)


@with_nodes
async def test_a_function_that_fails_ends_the_stream_with_the_reason(cluster, server, client):
    count, _ = make_stream()
    await count.start(server)
    await cluster.sleep(1)

    with pytest.raises(ServingError, match="broken"):
        async for _ in ServingClient(client, "double").stream(-1):
            pass


@with_nodes
async def test_a_stream_that_nobody_reads_any_more_ends_the_generator(cluster, server, client):
    count, seen = make_stream(1000)
    pid = await count.start(server)
    await cluster.sleep(1)

    stream = ServingClient(client, "double").stream(1)
    assert await anext(stream) == 0
    await stream.aclose()
    await cluster.sleep(1)

    assert seen == ["closed"]
    assert (await client.call(pid, STATISTICS))[Atom("running")] == 0


@with_nodes
async def test_a_stream_whose_reader_is_slow_ends_when_its_buffer_is_full(cluster, server, client):
    count, seen = make_stream(1000)
    await count.start(server)
    await cluster.sleep(1)

    stream = ServingClient(client, "double").stream(1, buffer=5)
    assert await anext(stream) == 0
    await cluster.sleep(2)  # The body of the loop takes so long.

    assert seen == ["closed"]
    with pytest.raises(ServingError, match="overrun"):
        await anext(stream)


@with_nodes
async def test_a_stream_of_what_is_no_term_leaves_no_process(cluster, server, client):
    count, _ = make_stream()
    await count.start(server)
    await cluster.sleep(1)
    before = client.internals.process_count

    with pytest.raises(EncodeError):
        await anext(ServingClient(client, "double").stream(object()))

    assert client.internals.process_count == before


@with_nodes
async def test_a_plain_generator_streams_too_and_a_plain_function_is_one_event(cluster, server, client):
    @serving(name="double", wait=0.0)
    def count(numbers):
        for step in range(2):
            yield [step for _ in numbers]

    pid = await count.start(server)
    await cluster.sleep(1)
    assert [event async for event in ServingClient(client, "double").stream(1)] == [0, 1]
    server.exit(pid, KILL)

    double, _ = make()
    await double.start(server)
    await cluster.sleep(1)
    assert [event async for event in ServingClient(client, "double").stream(4)] == [8]


# The end


@with_nodes
async def test_a_node_that_stops_answers_all_that_it_has_accepted(cluster, server, client):
    double, batches = make(wait=3.0, batch_size=8)
    await Supervisor.start(server, [double.child_spec()])
    await cluster.sleep(1)
    waiting = calls(client, 1, 2)
    asked = asyncio.ensure_future(client.rpc(server.name, "test_serving", "double", [3]))
    await cluster.sleep(0.2)

    began = asyncio.get_running_loop().time()
    await cluster.stop(server)

    assert await asyncio.gather(*waiting, asked) == [2, 4, 6]
    assert len(batches) == 1
    assert asyncio.get_running_loop().time() - began < 2  # of virtual time: it does not wait for more inputs


@with_nodes
async def test_a_serving_of_a_node_that_stops_takes_calls_while_it_works(cluster, server, client):
    @serving(wait=0.0, threads=2)
    async def double(numbers):
        await asyncio.sleep(numbers[0])
        return numbers

    pid = await double.start(server)
    asked = asyncio.ensure_future(client.rpc(server.name, "test_serving", "double", [3]))
    await cluster.sleep(0.5)
    stop = asyncio.ensure_future(cluster.stop(server))
    await cluster.sleep(1)
    assert server.internals.is_stopping

    assert await client.call(pid, (RUN, 1)) == (OK, 1)
    assert await asked == 3
    await stop


@with_nodes
async def test_a_supervisor_that_stops_a_serving_lets_it_answer(cluster, server, client):
    double, _ = make(wait=3.0)

    async with double.running(server):
        await cluster.sleep(1)
        waiting = calls(client, 1)
        await cluster.sleep(0.2)

    assert await asyncio.gather(*waiting) == [2]
    await cluster.wait_until(lambda: client.pg.get_members(Atom("double")) == [])


@with_nodes
async def test_a_serving_that_ends_leaves_its_groups_before_it_answers(cluster, server, client):
    double, batches = make()
    pid = await double.start(server)
    await cluster.sleep(1)
    waiting = calls(client, 1)
    await cluster.wait_until(lambda: batches)

    server.exit(pid, SHUTDOWN)
    await cluster.sleep(0.05)

    assert client.pg.get_members(Atom("double")) == []
    assert not waiting[0].done()
    assert await asyncio.gather(*waiting) == [2]


@with_nodes
async def test_a_killed_serving_fails_its_callers_and_starts_again(cluster, server, client):
    double, _ = make(wait=3.0)
    await Supervisor.start(server, [double.child_spec()])
    await cluster.sleep(1)
    called = calls(client, 1)
    asked = asyncio.ensure_future(client.rpc(server.name, "test_serving", "double", [3]))
    await cluster.sleep(0.2)

    server.exit(server.whereis("double"), KILL)
    answers = await asyncio.gather(*called, asked, return_exceptions=True)
    await cluster.sleep(1)

    assert [getattr(answer, "reason", answer) for answer in answers] == [Atom("killed"), Atom("killed")]
    assert await ServingClient(client, "double").run(4) == 8


@with_nodes
async def test_a_stopped_serving_is_no_process_for_erpc(cluster, server, client):
    from erlmesh import RemoteExit

    double, _ = make()
    async with double.running(server):
        pass

    with pytest.raises(RemoteExit, match="noproc"):
        await client.rpc(server.name, "test_serving", "double", [1])


# Everything at once


@pytest.mark.parametrize("seed", range(6))
def test_every_caller_gets_an_answer_or_is_gone(seed):
    """Callers of three nodes, some of which give up, while servings fail, are killed, and a node is lost and stops."""

    async def main():
        async with Cluster(seed) as cluster:
            nodes = await cluster.mesh(4)
            random = cluster.random
            served, answers = [], []

            @serving(name="double", batch_size=5, wait=0.02, limit=20, threads=2, time_limit=2.0)
            async def double(numbers):
                served.extend(numbers)
                await asyncio.sleep(random.choice([0.0, 0.05, 0.3, 5.0]))
                if random.random() < 0.1:
                    raise ValueError("broken")
                return [2 * number for number in numbers]

            for node in nodes[:2]:
                await cluster.run_on(node, partial(Supervisor.start, node, [double.child_spec()], max_restarts=100))
            await cluster.sleep(1)

            async def call(number):
                node = random.choice(nodes[1:])
                try:
                    way = random.choice(["call", "call", "rpc"])
                    if way == "call":
                        answer = await ServingClient(node, "double").run(number, timeout=random.choice([0.1, 60.0]))
                    else:
                        answer = await node.rpc(nodes[0].name, "test_serving", "double", [number], timeout=60.0)
                    assert answer == 2 * number
                    answers.append(OK)
                except CallError as error:
                    answers.append(getattr(error, "reason", type(error)))

            tasks = []
            for number in range(300):
                tasks.append(asyncio.ensure_future(call(number)))
                await cluster.sleep(random.random() * 0.02)
                if number % 60 == 59 and (pid := nodes[0].whereis("double")):
                    nodes[0].exit(pid, KILL)
            stop = asyncio.ensure_future(cluster.stop(nodes[0]))
            await asyncio.wait_for(asyncio.gather(*tasks), 50)  # of virtual time: no caller waits for ever
            await stop
            assert len(answers) == 300
            assert answers.count(OK) > 10
            pid = nodes[1].whereis("double")
            await cluster.wait_until(lambda: nodes[1].internals.is_alive(pid))
            await cluster.sleep(5)  # Some batches run for callers that have given up.
            statistics = await nodes[1].call(pid, STATISTICS)
            assert (statistics[Atom("waiting")], statistics[Atom("running")]) == (0, 0)
            assert len(served) == len(set(served))

    run(main)


# Options


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"batch_size": 0}, "1 or more"),
        ({"wait": -1}, "wait is 0 or more"),
        ({"processes": 2}, "top level of a module"),
    ],
    ids=["batch_size", "wait", "processes"],
)
def test_options_that_do_not_fit_are_refused_in_words(options, text):
    with pytest.raises(ValueError, match=text):
        serving(**options)(lambda numbers: numbers)


def test_a_generator_does_not_run_in_processes():
    with pytest.raises(ValueError, match="a generator or a coroutine cannot leave its process"):

        @serving(processes=2)
        def count(numbers):
            yield numbers


def test_the_function_can_be_called_as_it_is():
    @serving
    def double(numbers):
        """Double them."""
        return [2 * number for number in numbers]

    assert double([1, 2]) == [2, 4]
    assert (double.name, double.__doc__, repr(double)) == (Atom("double"), "Double them.", "<Serving double>")


def test_a_name_with_a_capital_letter_is_an_elixir_module():
    def name(given):
        return serving(name=given)(lambda numbers: numbers).name

    assert name("MyApp.Embeddings") is name("Elixir.MyApp.Embeddings") is Atom("Elixir.MyApp.Embeddings")
    assert name(Atom("Capital")) is Atom("Capital")
    assert name("embed") is Atom("embed")
