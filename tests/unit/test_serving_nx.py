"""The distributed calls of Nx.Serving: spawn requests from a process of a simulated cluster."""

import asyncio
from functools import partial

from erlmesh import Atom, Ref, serving
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run
from skips import import_or_skip

MODULE, SCOPE, STREAMING, NOPROC, NAME = map(
    Atom, ("Elixir.Nx.Serving", "Elixir.Nx.Serving.PG", "streaming", "noproc", "Elixir.MyApp.Doubler")
)


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


def make(function=None, **options):
    given = function or (lambda numbers: [2 * number for number in numbers])
    return serving(**{"name": "MyApp.Doubler", "nx": True, "wait": 0.1, **options})(given)


async def batched_run(cluster, client, server, value, name=NAME):
    """What the caller in Elixir sees: the messages of its reference, and the exit reason without the reference."""

    async def body(me):
        ref = me._ops.make_ref()
        arguments = [me.pid, ref, name, value]
        _, monitor = await me.spawn_remote(server.name, MODULE, "__distributed_batched_run__", arguments, monitor=True)
        messages = []
        while True:
            message = await me.receive()
            if message[0] == monitor or message[1] == monitor:
                reason = message[4]
                is_own = isinstance(reason, tuple) and len(reason) == 2 and reason[0] == ref
                return messages, ("own", reason[1]) if is_own else ("exit", reason)
            assert isinstance(message[0], Ref)
            messages.append(message[1])

    return await cluster.run_on(client, partial(client.run, body))


@with_nodes
async def test_the_answer_is_the_exit_reason(cluster, server, client):
    await make().start(server)

    assert await batched_run(cluster, client, server, 4) == ([], ("own", 8))


@with_nodes
async def test_callers_of_all_versions_find_it_as_often_as_its_weight_says(cluster, server, client):
    pid = await make(weight=3).start(server)
    scope = client.pg.start_scope(SCOPE)

    await cluster.wait_until(lambda: scope.get_members(NAME) == [pid] * 3)
    assert scope.get_members(MODULE) == [pid] * 3

    server.exit(pid, Atom("shutdown"))
    await cluster.wait_until(lambda: scope.get_members(NAME) == scope.get_members(MODULE) == [])


@with_nodes
async def test_callers_share_a_batch(cluster, server, client):
    batches = []
    await make(lambda numbers: batches.append(numbers) or numbers).start(server)

    await asyncio.gather(*(batched_run(cluster, client, server, number) for number in range(3)))

    assert [sorted(batch) for batch in batches] == [[0, 1, 2]]


@with_nodes
async def test_another_name_is_noproc_so_that_the_caller_picks_again(cluster, server, client):
    await make().start(server)
    await serving(name="MyApp.Hidden")(lambda numbers: numbers).start(server)

    for name in ("Elixir.MyApp.Other", "Elixir.MyApp.Hidden"):
        assert await batched_run(cluster, client, server, 1, Atom(name)) == ([], ("exit", NOPROC))
    assert (await batched_run(cluster, client, server, 1, b"MyApp"))[1] == ("exit", Atom("badarg"))


@with_nodes
async def test_errors_and_refusals_are_the_exit_reason(cluster, server, client):
    def fail(numbers):
        raise ValueError("broken")

    await make(fail, name="A").start(server)
    await make(limit=1, wait=10.0, name="B").start(server)
    await make(lambda numbers: [object()], name="C").start(server)
    ask = partial(batched_run, cluster, client, server, 1)

    assert (await ask(Atom("Elixir.A")))[1] == ("exit", (Atom("ValueError"), b"broken"))
    first, second = await asyncio.gather(ask(Atom("Elixir.B")), ask(Atom("Elixir.B")))
    assert {first[1], second[1]} == {("own", 2), ("exit", Atom("overloaded"))}
    assert (await ask(Atom("Elixir.C")))[1][1][0] is Atom("EncodeError")


@with_nodes
async def test_a_stream_is_announced_and_ends_with_the_process(cluster, server, client):
    async def count(numbers):
        yield [(Atom("batch"), number, {}) for number in numbers]
        yield [None for _ in numbers]
        if numbers == [7]:
            raise ValueError("broken")
        yield [1 for _ in numbers]

    await make(count, wait=0.0).start(server)

    messages, end = await batched_run(cluster, client, server, 5)
    assert (messages[0], messages[1][1], messages[2:], end) == (STREAMING, 5, [1], ("own", STREAMING))
    messages, end = await batched_run(cluster, client, server, 7)
    assert (len(messages), end) == (2, ("exit", (Atom("ValueError"), b"broken")))


@with_nodes
async def test_a_caller_that_is_gone_is_dropped(cluster, server, client):
    batches = []
    await make(lambda numbers: batches.append(numbers) or numbers, wait=5.0).start(server)

    async def body(me):
        arguments = [me.pid, me._ops.make_ref(), NAME, 1]
        await me.spawn_remote(server.name, MODULE, "__distributed_batched_run__", arguments, monitor=True)

    await cluster.run_on(client, partial(client.run, body))
    await cluster.sleep(1)

    assert await batched_run(cluster, client, server, 2) == ([], ("own", 2))
    assert batches == [[2]]


@with_nodes
async def test_tensors_come_and_leave_as_arrays(cluster, server, client):
    numpy = import_or_skip("numpy")
    from erlmesh.servings.tensors import Template, from_wire, to_wire

    def double(arrays):
        assert all(isinstance(array, numpy.ndarray) for array in arrays)
        return 2 * numpy.stack(arrays)

    await make(double).start(server)
    given = to_wire(numpy.array([1.5, 2.0], "<f4"), Template())

    _, (kind, answer) = await batched_run(cluster, client, server, given)

    assert kind == "own"
    assert from_wire(answer, Template()).tolist() == [3.0, 4.0]


@with_nodes
async def test_a_tensor_that_cannot_be_read_is_refused_in_words(cluster, server, client):
    await make().start(server)
    batch = {Atom("__struct__"): Atom("Elixir.Nx.Batch")}

    _, (kind, reason) = await batched_run(cluster, client, server, batch)

    assert (kind, reason[0]) == ("exit", Atom("bad_input"))
    assert b"functions of Elixir" in reason[1]


@with_nodes
async def test_a_caller_that_comes_while_the_node_stops_is_served_or_picks_again(cluster, server, client):
    async def slow(numbers):
        await asyncio.sleep(3)
        return numbers

    await make(slow).start(server)
    first = asyncio.ensure_future(batched_run(cluster, client, server, 3))
    await cluster.sleep(0.5)
    stop = asyncio.ensure_future(cluster.stop(server))
    await cluster.sleep(0.6)
    assert server.internals.is_stopping

    late = await batched_run(cluster, client, server, 4)

    assert late[1] in (("own", 4), ("exit", NOPROC))
    assert await first == ([], ("own", 3))
    await stop


@with_nodes
async def test_a_node_that_stops_answers_the_callers_of_nx(cluster, server, client):
    await make(wait=4.0).start(server)
    asked = asyncio.ensure_future(batched_run(cluster, client, server, 3))
    await cluster.sleep(0.5)

    await cluster.stop(server)

    assert await asked == ([], ("own", 6))
