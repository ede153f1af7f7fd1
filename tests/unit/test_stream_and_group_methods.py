"""What users of streams and groups call: ``joined``, ``silence``, ``send(wait=False)``, ``monitor_group``, ``wire``."""

import asyncio
import math
from functools import partial

import pytest

from erlmesh import Atom, EncodeError, GenServer, Joined, Left, Map, NoProcess, Supervisor
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run

PG, GO = Atom("pg"), Atom("go")


def simulated(test):
    def wrapper():
        async def main():
            async with Cluster(7) as cluster:
                await test(cluster)

        run(main)

    wrapper.__name__ = test.__name__
    return wrapper


def now():
    return asyncio.get_running_loop().time()


# joined


@simulated
async def test_a_node_without_join_has_joined(cluster):
    (a,) = await cluster.start("a")

    assert await cluster.run_on(a, a.joined) is True


@simulated
async def test_joined_waits_for_all_that_the_cluster_introduces(cluster):
    await cluster.mesh(4)
    (node,) = await cluster.start("n", join=["a@10.0.0.1"])
    assert node.nodes() == []

    assert await cluster.run_on(node, node.joined)

    assert sorted(node.nodes()) == ["a@10.0.0.1", "b@10.0.0.2", "c@10.0.0.3", "d@10.0.0.4"]


@simulated
async def test_joined_is_false_if_no_node_is_met_in_time(cluster):
    (node,) = await cluster.start("n", join=["x@10.0.0.77"])
    before = now()

    assert await cluster.run_on(node, partial(node.joined, timeout=3)) is False

    assert 3 <= now() - before < 3.1


@simulated
async def test_joined_does_not_wait_for_a_seed_that_does_not_run_if_another_does(cluster):
    await cluster.mesh(2)
    (node,) = await cluster.start("n", join=["x@10.0.0.1", "b@10.0.0.2"])
    before = now()

    assert await cluster.run_on(node, node.joined)

    assert sorted(node.nodes()) == ["a@10.0.0.1", "b@10.0.0.2"]
    assert now() - before < 1


@simulated
async def test_joined_waits_for_a_seed_that_starts_later(cluster):
    (node,) = await cluster.start("n", join=["a@10.0.0.2"])
    joining = asyncio.create_task(cluster.run_on(node, partial(node.joined, timeout=60)))
    await cluster.sleep(2)
    await cluster.start("a")

    assert await joining


@simulated
async def test_joined_waits_until_what_discovery_finds_is_known_and_met(cluster):
    (node, _) = await cluster.start("n", "a")
    found = None
    node._joins.append(lambda: found)
    joining = asyncio.create_task(cluster.run_on(node, partial(node.joined, timeout=60)))
    await cluster.sleep(2)
    assert not joining.done()
    found = ["a@10.0.0.2"]
    await cluster.sleep(2)
    assert not joining.done()

    await cluster.run_on(node, partial(node.ping, "a@10.0.0.2"))

    assert await joining
    found = []
    assert await cluster.run_on(node, node.joined)


@simulated
async def test_a_hidden_node_joins_without_global(cluster):
    await cluster.mesh(2)
    (node,) = await cluster.start("n", join=["a@10.0.0.1"], hidden=True)

    assert await cluster.run_on(node, node.joined)

    assert [*node.nodes(), *node.nodes(hidden=True)] == ["a@10.0.0.1"]


# silence


@simulated
async def test_silence_grows_while_a_peer_is_paused_and_ends_with_its_next_bytes(cluster):
    a, b = await cluster.mesh(2, net_ticktime=40)
    await cluster.sleep(100)
    assert max(a.silence(b.name), b.silence(a.name)) <= 10.5

    cluster.pause(b)
    await cluster.sleep(20)

    assert 20 <= a.silence(b.name) <= 30.5
    assert a.nodes() == [b.name]
    cluster.resume(b)
    await cluster.wait_until(lambda: a.silence(b.name) < 1, timeout=11)


@simulated
async def test_silence_of_this_node_is_0_and_of_a_node_that_is_not_connected_infinite(cluster):
    a, b = await cluster.mesh(2)
    name = b.name
    await cluster.stop(b)

    await cluster.wait_until(lambda: a.silence(name) == math.inf, timeout=1)
    assert a.silence(a.name) == 0


# send(wait=False)


@simulated
async def test_send_without_waiting_is_refused_when_the_connection_is_full(cluster):
    a, b, c = await cluster.mesh(3)
    got = []
    sink_b, sink_c = (node.spawn_handler(lambda message: got.append(len(message))).pid for node in (b, c))
    cluster.pause(b)
    sent = []

    async def body(me):
        for _ in range(400):
            sent.append(me.send(sink_b, bytes(10_000), wait=False))
            await me.sleep(0.001)
        assert me.send(sink_c, bytes(3), wait=False)
        await me.sleep(0)
        me.send(me.pid, GO)
        await me.receive(timeout=1)  # It does not wait for the full connection.
        sent.append(GO)

    a.spawn(body)
    await cluster.wait_until(lambda: sent[-1:] == [GO], timeout=3)

    sent.pop()
    taken = sent.count(True)
    assert 50 < taken < 300
    assert sent == [True] * taken + [False] * (len(sent) - taken)
    assert got == [3]
    cluster.resume(b)
    await cluster.wait_until(lambda: got.count(10_000) == taken)
    assert a.send(sink_b, bytes(4), wait=False) is True
    await cluster.wait_until(lambda: 4 in got)


@simulated
async def test_send_without_waiting_is_refused_when_much_waits_for_a_node_that_is_dialled(cluster):
    (a,) = await cluster.start("a")
    answers = []

    async def body(me):
        answers.extend(me.send(("sink", "b@10.0.0.9"), bytes(10_000), wait=False) for _ in range(200))

    a.spawn(body)
    await cluster.sleep(0.001)

    taken = answers.count(True)
    assert 90 < taken < 110
    assert answers == [True] * taken + [False] * (200 - taken)


@simulated
async def test_send_without_waiting_reaches_local_processes_and_names(cluster):
    (a,) = await cluster.start("a")
    got = []
    sink = a.spawn_handler(got.append, name="sink")

    for to in (sink.pid, "sink", ("sink", a.name), sink.alias()):
        assert a.send(to, 1, wait=False) is True

    assert got == [1, 1, 1, 1]


# monitor_group


def collector(group, log, **options):
    async def body(me):
        log.append(me.monitor_group(group, **options))
        async for message in me:
            log.append(message)

    return body


def members(node, count):
    return [node.spawn_handler(lambda _: None) for _ in range(count)]


@simulated
async def test_the_present_members_come_first_and_then_each_change_in_order(cluster):
    a, b = await cluster.mesh(2)
    (here, later), (there,) = members(a, 2), members(b, 1)
    a.pg.join("g", here.pid)
    b.pg.join("g", [there.pid, there.pid])
    await cluster.wait_until(lambda: len(a.pg.get_members("g")) == 3)
    present, log = tuple(a.pg.get_members("g")), []

    a.spawn(collector("g", log))
    await cluster.sleep(1)
    a.pg.join("g", later.pid)
    a.pg.leave("g", here.pid)
    there.stop(Atom("boom"))
    await cluster.sleep(1)

    assert log[1:] == [
        (PG, Joined(present, b"g")),
        (PG, Joined((later.pid,), b"g")),
        (PG, Left((here.pid,), Atom("leave"), b"g")),
        *[(PG, Left((there.pid,), Atom("boom"), b"g"))] * 2,
    ]


@simulated
async def test_no_change_is_lost_or_told_twice_while_members_come_and_go(cluster):
    a, b = await cluster.mesh(2)
    log, seen = [], []

    def count():
        total = {}
        for _, change in log[1:]:
            for pid in change.pids:
                total[pid] = total.get(pid, 0) + (1 if isinstance(change, Joined) else -1)
        return {pid: times for pid, times in total.items() if times}

    for number in range(40):
        if number == 20:
            a.spawn(collector("g", log))
        process = (a if number % 2 else b).spawn_handler(lambda _: None)
        (a if number % 2 else b).pg.join("g", process.pid)
        seen.append(process)
        if number % 3 == 0:
            seen.pop(0).stop()
        await cluster.sleep(0.001)
    await cluster.sleep(1)

    assert count() == {process.pid: 1 for process in seen}


@simulated
async def test_a_monitor_of_a_group_ends_with_its_process_and_with_its_function(cluster):
    (a,) = await cluster.start("a")
    log, processes = [], len(a.internals.processes())

    pid = a.spawn(collector("g", log))
    await cluster.sleep(1)
    a.exit(pid, Atom("boom"))
    await cluster.sleep(1)
    assert len(a.internals.processes()) == processes
    assert not a.pg._server.observers._watches

    a.spawn(collector("g", log))
    await cluster.sleep(1)
    log.pop()()
    a.pg.join("g", members(a, 1)[0].pid)
    await cluster.sleep(1)
    assert len(log) == 1
    assert not a.pg._server.observers._watches


@simulated
async def test_a_group_of_another_scope_and_the_end_of_the_scope(cluster):
    (a,) = await cluster.start("a")
    scope, log = a.pg.start_scope("mine"), []
    (member,) = members(a, 1)
    a.pg.join("g", members(a, 1)[0].pid)
    a.spawn(collector("g", log, scope="mine"))
    await cluster.sleep(1)
    scope.join("g", member.pid)

    scope.stop()
    await cluster.sleep(1)

    assert log[1:] == [(PG, Joined((member.pid,), b"g")), (PG, Left((member.pid,), Atom("noproc"), b"g"))]

    async def body(me):
        with pytest.raises(NoProcess):
            me.monitor_group("g", scope="mine")

    await cluster.run_on(a, lambda: a.run(body))


# What a message looks like


class Echo(GenServer):
    def handle_call(self, request, caller):
        return request


def test_with_wire_a_local_receiver_gets_what_a_remote_one_gets():
    async def main():
        async with Cluster(7, wire=True) as cluster:
            a, b = await cluster.mesh(2)
            messages = ["AAPL", {"a": 1}, ("x", [True, 1.5, "é"]), bytearray(b"z"), Atom("ok"), 1 << 70]
            got = {}

            async def sink(me):
                async for message in me:
                    got.setdefault(me.node.name, []).append(message)

            here, there = a.spawn(sink, name="sink"), b.spawn(sink, name="sink")
            server = await cluster.run_on(a, lambda: Echo.start(a))

            async def body(me):
                for message in messages:
                    me.send(here, message)
                    me.send(("sink", a.name), message)
                    me.send(there, message)
                    me.send(("sink", b.name), message)
                for wrong in (None, object()):
                    for to in (here, "sink", there):
                        with pytest.raises(EncodeError):
                            me.send(to, wrong)
                return await me.call(server, "text")

            assert await cluster.run_on(a, lambda: a.run(body)) == b"text"
            await cluster.wait_until(lambda: len(got.get(b.name, [])) == 2 * len(messages))
            assert got[a.name] == got[b.name]
            assert [type(each) for each in got[a.name][::2]] == [bytes, Map, tuple, bytes, Atom, int]

            # The messages of erlmesh's own parts to each other still arrive.
            async with Supervisor.running(a, []) as supervisor:
                assert await Supervisor.which_children(a, supervisor) == {}

    run(main)
