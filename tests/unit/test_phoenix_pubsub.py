"""erlmesh.phoenix.PubSub on simulated clusters: Python nodes as members, and scripted workers of other releases."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from erlmesh import Atom, Exit, Map, Pid, Supervisor, elixir_struct
from erlmesh.core.log_rate import LogRate
from erlmesh.core.phoenix_pubsub.worker_book import NodeChange, WorkerBook
from erlmesh.errors import EncodeError, ProcessStartError
from erlmesh.phoenix import PubSub, PubSubError, PubSubNotReady, SubscriptionOverflow
from erlmesh.phoenix.inbox import peer_log
from erlmesh.phoenix.meeting import wait_until_met

NAME = "MyApp.PubSub"
ADAPTER = "Elixir.MyApp.PubSub.Adapter"
SCOPE = Atom("Elixir.Phoenix.PubSub")
FORWARD, PLAIN, CHANNEL = (
    Atom(word) for word in ("forward_to_local", "Elixir.Phoenix.PubSub", "Elixir.Phoenix.Channel.Server")
)


@pytest.fixture(autouse=True)
def _all_lines_are_logged(monkeypatch):
    """Earlier tests of this process have used up lines of the log."""
    monkeypatch.setattr(peer_log, "_rate", LogRate())


async def members(mesh, **options):
    """A started PubSub on each node, all ready."""
    found = [PubSub(node, NAME, **options) for node in mesh]
    for each in found:
        await each.start()
    for each in found:
        assert await each.ready()
    return found


def worker(node, group, name=True):
    """A worker as an Elixir node has it, which only collects what it gets."""
    got = []
    process = node.spawn_handler(got.append, name=group if name else None)
    scope = node.pg.find_scope(SCOPE) or node.pg.start_scope(SCOPE)
    scope.join(Atom(group), process.pid)
    return process, got


async def taken(subscription, count):
    return [await subscription.get(5) for _ in range(count)]


def counts(pubsub):
    found = pubsub.statistics
    return {name: getattr(found, name) for name in found.__match_args__ if getattr(found, name)}


# Broadcasts


async def test_a_broadcast_reaches_the_subscribers_of_all_nodes(cluster):
    a, b, c = await members(await cluster(3))
    everywhere = [each.subscribe("orders") for each in (a, b, c)]
    other = b.subscribe("other")

    await a.broadcast("orders", {"id": 7})

    assert [await taken(each, 1) for each in everywhere] == [[Map({"id": 7})]] * 3
    assert other.waiting == 0
    assert sorted(a.nodes()) == sorted([b.node.name, c.node.name])


async def test_the_first_broadcast_waits_for_the_other_nodes(cluster):
    one, two = await cluster(2)
    async with PubSub(two, NAME) as b:
        orders = b.subscribe("orders")
        async with PubSub(one, NAME) as a:
            await a.broadcast("orders", b"first")
        assert await orders.get(5) == b"first"


async def test_a_broadcast_without_another_node_says_why_it_is_refused(cluster):
    one, _ = await cluster(2)
    async with PubSub(one, NAME, ready_timeout=2) as a:
        mine = a.subscribe("orders")
        with pytest.raises(PubSubNotReady, match=r"no connected node has the PubSub MyApp\.PubSub.*waited 2 s"):
            await a.broadcast("orders", 1)
        with pytest.raises(PubSubNotReady, match=r"call `await pubsub\.ready\(\)` first"):
            a.broadcast_nowait("orders", 1)
        with pytest.raises(PubSubNotReady, match=r"nobody@h has no PubSub"):
            await a.direct_broadcast("nobody@h", "orders", 1)
        assert mine.waiting == 0
        assert await a.ready(1) is False
        a.local_broadcast("orders", 2)
        assert await mine.get(1) == 2


async def test_a_hidden_node_is_a_member(cluster):
    simulated = await cluster(1)
    (hidden,) = await simulated.start("hidden", hidden=True)
    (visible,) = [node for node in simulated if node is not hidden]
    await hidden.connect(visible.name)
    a, b = await members([hidden, visible])
    subscriptions = [each.subscribe("t") for each in (a, b)]

    await a.broadcast("t", 1)
    await b.broadcast("t", 2)

    assert [sorted(await taken(each, 2)) for each in subscriptions] == [[1, 2]] * 2


async def test_a_node_that_may_be_alone_broadcasts_to_itself(cluster):
    (one,) = await cluster(1)
    async with PubSub(one, NAME, ready_timeout=0.1, require_peers=False) as a:
        mine = a.subscribe("orders")
        await a.broadcast("orders", 1)
        a.broadcast_nowait("orders", 2)
        assert await taken(mine, 2) == [1, 2]


async def test_ready_waits_until_the_other_side_would_send_to_this_node(cluster):
    one, two = await cluster(2)
    async with PubSub(one, NAME) as a, PubSub(two, NAME) as b:
        mine = a.subscribe("t")
        assert await a.ready()
        b.adapter.broadcast(b"t", 1)
        assert await mine.get(5) == 1


async def test_ready_without_a_limit_says_that_it_waits(cluster, caplog):
    one, two = await cluster(2)
    await one.ping(two.name)
    async with PubSub(one, NAME) as a:
        assert await a.ready(5) is False
        assert "still waits" not in caplog.text
        waiting = asyncio.create_task(a.ready(None))
        await asyncio.sleep(7)
        assert f"still waits for another node that has it; connected nodes: {two.name}" in caplog.text
        async with PubSub(two, NAME):
            assert await waiting


@pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
async def test_ready_waits_for_each_node_that_has_the_pubsub(cluster, hidden):
    for seed in range(10):
        mesh = await cluster(2, seed=seed, delay=(0.0002, 0.1))
        (node,) = await mesh.start("new", hidden=hidden)
        others = [each for each in mesh if each is not node]
        for other in others:
            await PubSub(other, NAME).start()
            await node.connect(other.name)
        async with PubSub(node, NAME) as a:
            assert await a.ready()
            assert sorted(a.nodes()) == sorted(other.name for other in others), seed


async def test_messages_of_one_sender_keep_their_order_also_between_a_process_and_its_node(cluster):
    a, b = await members(await cluster(2))
    got = b.subscribe("t")

    async def sender(me):
        for number in range(500):
            await a.broadcast("t", number)

    await a.node.run(sender)
    for number in range(500, 1000):
        a.broadcast_nowait("t", number)

    assert await taken(got, 1000) == [*range(1000)]


@pytest.mark.parametrize("send", ["broadcast", "direct_broadcast"])
async def test_a_broadcast_waits_while_a_connection_is_full(cluster, send):
    mesh = await cluster(2)
    a, b = await members(mesh)
    got, sent = b.subscribe("t"), []
    mesh.pause(b.node)

    async def sender():
        to = () if send == "broadcast" else (b.node.name,)
        for number in range(200):
            await getattr(a, send)(*to, "t", (number, bytes(32_768)))
            sent.append(number)

    task = asyncio.ensure_future(sender())
    await asyncio.sleep(0.5)
    waits_after = len(sent)
    mesh.resume(b.node)
    await asyncio.wait_for(task, 60)

    assert 0 < waits_after < 100
    assert [number for number, _ in await taken(got, 200)] == [*range(200)]


async def test_an_iteration_lets_other_tasks_run_while_messages_wait(cluster):
    _, b = await members(await cluster(2))
    subscription, turns = b.subscribe("t"), []
    for number in range(3_000):
        b.local_broadcast("t", number)

    async def other():
        while True:
            turns.append(subscription.waiting)
            await asyncio.sleep(0)

    task = asyncio.ensure_future(other())
    assert await taken(subscription, 3_000) == [*range(3_000)]
    task.cancel()

    assert len(turns) >= 2


async def test_a_cancelled_reader_leaves_the_message_to_another(cluster):
    _, b = await members(await cluster(2))
    subscription = b.subscribe("t")
    first, second = (asyncio.ensure_future(anext(subscription)) for _ in range(2))
    await asyncio.sleep(0)

    b.local_broadcast("t", 1)
    first.cancel()

    assert await asyncio.wait_for(second, 5) == 1


async def test_broadcast_from_leaves_out_one_subscriber_of_this_node_only(cluster):
    a, b = await members(await cluster(2))
    mine, other, there = a.subscribe("t"), a.subscribe("t"), b.subscribe("t")
    ended = asyncio.Event()
    mailbox = []

    async def body(me):
        a.subscribe("t", me)
        await a.broadcast_from(me, "t", "from the process")
        mailbox.append(await me.receive())
        ended.set()

    a.node.spawn(body)
    await other.get(5)
    await a.broadcast_from(mine, "t", "from the subscription")
    await asyncio.wait_for(ended.wait(), 5)

    assert await taken(mine, 1) == [b"from the process"]
    assert mailbox == [b"from the subscription"]
    assert await taken(there, 2) == [b"from the process", b"from the subscription"]
    assert [mine.waiting, there.waiting] == [0, 0]


async def test_direct_and_local_broadcasts_reach_one_node(cluster):
    a, b, c = await members(await cluster(3))
    here, there, other = (each.subscribe("t") for each in (a, b, c))

    await a.direct_broadcast(b.node.name, "t", 1)
    await a.direct_broadcast(a.node.name, "t", 2)
    a.local_broadcast("t", 3, sender=here)
    a.local_broadcast("t", 4)

    assert await taken(there, 1) == [1]
    assert await taken(here, 2) == [2, 4]
    assert other.waiting == 0


async def test_what_is_no_term_is_refused_and_nothing_is_sent(cluster):
    a, b = await members(await cluster(2))
    here, there = a.subscribe("t"), b.subscribe("t")

    with pytest.raises(EncodeError):
        await a.broadcast("t", object())
    with pytest.raises(TypeError, match="a topic is a str"):
        await a.broadcast(7, 1)
    await a.broadcast("t", "end")

    assert [await here.get(5), await there.get(5)] == [b"end"] * 2


async def test_a_subscriber_may_change_the_list_that_it_gets(cluster):
    a, b = await members(await cluster(2))
    first, second, here = b.subscribe("t"), b.subscribe("t"), a.subscribe("t")
    sent = [1, [2]]

    await a.broadcast("t", sent)
    got = await first.get(5)
    got[1].append(3)
    sent.append(4)

    assert await second.get(5) == [1, [2]]
    assert await here.get(5) == [1, [2]]


async def test_a_dispatcher_that_does_not_come_with_phoenix_is_refused(cluster):
    a, b = await members(await cluster(2))
    there = b.subscribe("t")

    for send in (
        lambda **options: a.broadcast("t", 1, **options),
        lambda **options: a.broadcast_from(None, "t", 1, **options),
        lambda **options: a.direct_broadcast(b.node.name, "t", 1, **options),
    ):
        with pytest.raises(ValueError, match="allow_dispatcher=True"):
            await send(dispatcher="My.Dispatcher")
        await send(dispatcher="My.Dispatcher", allow_dispatcher=True)
        assert await there.get(5) == 1  # One that is not known here is delivered plainly.
    with pytest.raises(ValueError, match="allow_dispatcher=True"):
        a.broadcast_nowait("t", 1, dispatcher="My.Dispatcher")


async def test_an_event_is_the_struct_that_channels_and_live_views_expect(cluster):
    a, b = await members(await cluster(2))
    there = b.subscribe("jobs")

    payload = {"done": 3, "by": [{"name": None}]}
    await a.broadcast_event("jobs", "progress", payload)
    await a.broadcast_event("jobs", "progress", payload, keys="atoms")

    def event(content):
        struct = {"__struct__": Atom("Elixir.Phoenix.Socket.Broadcast"), "topic": b"jobs", "event": b"progress"}
        return Map({**{Atom(key): value for key, value in struct.items()}, Atom("payload"): content})

    nil = Atom("nil")
    assert await taken(there, 2) == [
        event(Map({"done": 3, "by": [Map({"name": nil})]})),
        event(Map({Atom("done"): 3, Atom("by"): [Map({Atom("name"): nil})]})),
    ]
    with pytest.raises(TypeError, match="the payload of an event is a dict"):
        await a.broadcast_event("jobs", "progress", 7)
    with pytest.raises(ValueError, match="keys is 'strings' or 'atoms'"):
        await a.broadcast_event("jobs", "progress", {}, keys="both")


# Pools and releases


@pytest.mark.parametrize(
    "groups",
    [[ADAPTER], [ADAPTER + "_1", ADAPTER + "_2", ADAPTER + "_3"], [ADAPTER, ADAPTER + "_2", ADAPTER + "_3"]],
    ids=["2.0", "2.1.0", "2.1.1"],
)
async def test_every_pool_and_release_gets_one_message_and_reaches_this_node(cluster, groups):
    one, two = await cluster(2)
    workers = [worker(two, group) for group in groups]
    async with PubSub(one, NAME) as a:
        assert await a.ready()
        mine = a.subscribe("t")
        for number in range(20):
            await a.broadcast("t", number)
        scope = two.pg.find_scope(SCOPE)
        for index, group in enumerate(groups):
            (there,) = [pid for pid in scope.get_members(Atom(group)) if pid.node is one.internals.atom]
            two.send(there, (FORWARD, b"t", index, PLAIN))
            two.send((Atom(group), one.name), (FORWARD, b"t", -index, PLAIN))
        assert await taken(mine, 20) == [*range(20)]
        assert sorted(await taken(mine, 2 * len(groups))) == sorted(
            [*range(len(groups)), *[-index for index in range(len(groups))]]
        )
        await asyncio.sleep(1)
        got = [message for _, messages in workers for message in messages]
        assert got == [(FORWARD, b"t", number, PLAIN) for number in range(20)]


async def test_senders_share_the_workers_of_a_pool_and_each_keeps_its_own(cluster):
    one, two = await cluster(2)
    workers = [worker(two, group)[1] for group in (ADAPTER, ADAPTER + "_2")]
    async with PubSub(one, NAME) as a:
        assert await a.ready()

        async def sender(me):
            for number in range(3):
                await a.broadcast("t", (me.pid, number))

        for _ in range(10):
            await one.run(sender)
        await asyncio.sleep(1)

    of_sender = [{message[0] for _, _, message, _ in got} for got in workers]
    assert min(map(len, of_sender)) > 1
    assert not of_sender[0] & of_sender[1]
    for got in workers:
        assert [number for _, _, (_, number), _ in got] == [0, 1, 2] * (len(got) // 3)


async def test_other_groups_of_the_scope_are_left_alone(cluster):
    one, two = await cluster(2)
    strange = [ADAPTER + end for end in ("_0", "_01", "_x", "_1025", "_99999", "_", "_-1", "_2_", "_٢")] + ["Other"]
    for group in strange:
        worker(two, group)
    async with PubSub(one, NAME) as a:
        assert await a.ready(2) is False
        assert a.nodes() == []
        assert one.pg.find_scope(SCOPE).which_local_groups() == [Atom(ADAPTER)]


async def test_a_worker_that_ends_is_replaced_by_another_of_its_node(cluster):
    one, two = await cluster(2)
    first, got_first = worker(two, ADAPTER)
    second, got_second = worker(two, ADAPTER + "_2")
    async with PubSub(one, NAME) as a:
        changes = []
        assert await a.ready()
        a.adapter.watch_nodes(changes.append)
        await a.broadcast("t", 1)
        await asyncio.sleep(1)
        (used, unused) = (got_first, got_second) if got_first else (got_second, got_first)
        (first if used is got_first else second).stop()
        await asyncio.sleep(1)
        await a.broadcast("t", 2)
        await asyncio.sleep(1)
        assert [len(used), len(unused)] == [1, 1]
        assert changes == []


# Nodes that come and go


async def test_nodes_of_the_adapter_are_reported_when_they_come_and_go(cluster):
    mesh = [*await cluster(3)]
    a = PubSub(mesh[0], NAME)
    changes = []
    await a.start()
    end = a.adapter.watch_nodes(changes.append)
    b, c = (PubSub(node, NAME) for node in mesh[1:])
    await b.start()
    assert await a.ready()
    await c.start()
    await asyncio.sleep(1)
    await c.stop()
    await asyncio.sleep(1)
    end()
    await b.stop()
    await asyncio.sleep(1)

    names = [node.internals.atom for node in mesh]
    assert changes == [
        NodeChange(names[1], joined=True), NodeChange(names[2], joined=True), NodeChange(names[2], joined=False)
    ]  # fmt: skip
    assert a.nodes() == []


async def test_a_pubsub_that_stops_reports_that_it_has_no_nodes(cluster):
    a, b = await members(await cluster(2))
    changes = []
    a.adapter.watch_nodes(changes.append)

    await a.stop()

    assert changes == [NodeChange(b.adapter.own, joined=False)]
    assert a.nodes() == []


class ScriptedNode:
    """Answers for two nodes that have the PubSub. pg of the second one is slower here than its functions."""

    def __init__(self, hidden):
        self.internals = SimpleNamespace(hidden=hidden)
        self.worker = Pid(Atom("a@h"), 1, 0, 1)
        self.book = WorkerBook(Atom("a@h"))
        self.asked = Counter()

    def nodes(self, *, hidden=False):
        return ["b@h", "c@h"] if hidden is self.internals.hidden else []

    async def rpc(self, peer, module, function, arguments, timeout):
        self.asked[peer.name] += 1
        group = arguments[1]
        if self.asked["c@h"] == 4:
            self.book.joined(Atom(ADAPTER), [Pid(Atom("c@h"), 1, 0, 1)])
        if peer.name == "b@h" and self.asked["b@h"] == 3:  # The news that its first worker has been replaced.
            self.book.joined(Atom(ADAPTER), [Pid(peer, 1, 0, 1)])
            self.book.left(Atom(ADAPTER), [Pid(peer, 9, 0, 1)])
        return [self.worker, Pid(peer, 1, 0, 1)] if group is Atom(ADAPTER) else []


@pytest.mark.parametrize("hidden", [False, True], ids=["visible", "hidden"])
async def test_a_node_that_is_slow_to_report_its_workers_is_waited_for(cluster, hidden):
    await cluster(1)
    node = ScriptedNode(hidden)
    node.book.joined(Atom(ADAPTER), [Pid(Atom("b@h"), 9, 0, 1)])

    await wait_until_met(node, Atom(ADAPTER), lambda: (node.book, node.worker))

    assert [each.name for each in node.book.nodes()] == ["b@h", "c@h"]
    assert node.asked["b@h"] == 3
    assert node.book.recipients(0) == [Pid(Atom(name), 1, 0, 1) for name in ("b@h", "c@h")]


async def test_after_a_partition_and_a_restart_messages_arrive_again(cluster):
    mesh = [*await cluster(2)]
    one, two = mesh
    a, b = await members(mesh)
    simulated = cluster.clusters[0]

    simulated.partition([one], [two])
    await simulated.wait_until(lambda: not a.nodes() and not b.nodes())
    simulated.heal()
    await simulated.wait_until(lambda: a.nodes() and b.nodes())
    assert await a.ready()
    there = b.subscribe("t")
    await a.broadcast("t", 1)
    assert await there.get(5) == 1

    simulated.kill(two)
    await simulated.wait_until(lambda: not a.nodes())
    (two,) = await simulated.start("b")
    await two.connect(one.name)
    b = PubSub(two, NAME)
    await b.start()
    there = b.subscribe("t")
    assert await a.ready()
    await a.broadcast("t", 2)
    assert await there.get(5) == 2


async def test_the_worker_starts_again_after_an_exit_signal(cluster, caplog):
    a, b = await members(await cluster(2))
    worker(b.node, ADAPTER + "_4")
    await asyncio.sleep(1)
    here = a.subscribe("t")
    old = a.adapter.process.pid

    b.node.exit(old, Atom("boom"))
    await asyncio.sleep(1)
    assert a.adapter.process.pid != old
    assert await a.ready()
    assert await b.ready()
    await b.broadcast("t", 1)
    b.node.send((Atom(ADAPTER + "_4"), a.node.name), (FORWARD, b"t", 2, PLAIN))

    assert await taken(here, 2) == [1, 2]
    assert "starts again" in caplog.text


async def test_iterations_end_when_the_pubsub_stops_and_when_its_node_stops(cluster):
    mesh = [*await cluster(2)]
    a, b = await members(mesh)
    results = []

    async def iterate(subscription):
        results.append([message async for message in subscription])

    tasks = [asyncio.ensure_future(iterate(each.subscribe("t"))) for each in (a, b)]
    await a.broadcast("t", 1)
    await asyncio.sleep(1)
    await a.stop()
    await cluster.clusters[0].run_on(mesh[1], mesh[1].stop)
    await asyncio.wait_for(asyncio.gather(*tasks), 5)

    assert results == [[1], [1]]
    assert not a.adapter.alive
    for ended in (a, b):
        with pytest.raises(PubSubError, match="has ended"):
            ended.subscribe("t")
        with pytest.raises(PubSubError, match="has ended"):
            await ended.broadcast("t", 1)
        with pytest.raises(PubSubError, match="has ended"):
            ended.broadcast_nowait("t", 1)
    with pytest.raises(RuntimeError, match="is not started"):
        PubSub(mesh[0], NAME).subscribe("t")


async def test_a_second_start_is_refused_and_the_first_one_goes_on(cluster):
    mesh = [*await cluster(2)]
    a, b = await members(mesh)
    with pytest.raises(ValueError, match="started already"):
        await a.start()
    with pytest.raises(ProcessStartError):
        await a.start_link(mesh[0].spawn_handler(lambda _: None))
    mesh[1].exit(a.adapter.process.pid, Atom("kill"))
    await cluster.clusters[0].wait_until(lambda: a.adapter.alive)
    assert await b.ready()
    orders = a.subscribe("orders")
    await b.broadcast("orders", 1)
    assert await orders.get(5) == 1


async def test_members_whose_loop_of_broadcasts_meets_the_stop_of_the_node_get_one_kind_of_error(cluster):
    mesh = [*await cluster(3)]
    a, *_ = await members(mesh)

    async def broadcast():
        while True:
            await a.broadcast("t", 1)
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(broadcast()), asyncio.create_task(a.ready(None))]
    await asyncio.sleep(0.2)
    await mesh[0].stop()
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert isinstance(ends[0], PubSubError), ends


@pytest.mark.parametrize(
    "nest", [lambda term: [term], lambda term: (term,), lambda term: Map({1: term})], ids=["list", "tuple", "map"]
)
async def test_messages_of_any_depth_reach_their_subscribers_and_the_next_ones_follow(cluster, caplog, nest):
    """A member cannot end or delay a subscription with a term that Python's recursion limit does not allow."""
    caplog.set_level(logging.ERROR, "erlmesh.phoenix")  # Its lines would count for the next tests.
    mesh = [*await cluster(2)]
    _, b = await members(mesh)
    plain = [b.subscribe("t"), b.subscribe("t")]
    typed = [b.subscribe("t", type=int), b.subscribe("t", type=list[int])]
    term = 0
    for _ in range(20_000):
        term = nest(term)

    for message in (term, 7, [8]):
        mesh[0].send((Atom(ADAPTER), b.node.name), (FORWARD, b"t", message, PLAIN))

    for each in plain:
        assert type(await each.get(5)) is type(term)
        assert [await each.get(5), await each.get(5)] == [7, [8]]
    assert [await each.get(5) for each in typed] == [7, [8]]
    assert (typed[0].unconverted, typed[1].unconverted) == (1, 2)


async def test_a_node_that_stops_leaves_the_groups_first(cluster):
    mesh = [*await cluster(2)]
    a, b = await members(mesh)
    changes = []
    b.adapter.watch_nodes(lambda change: changes.append((change.joined, [*mesh[1].nodes()])))

    await cluster.clusters[0].run_on(mesh[0], mesh[0].stop)
    await asyncio.sleep(1)

    assert changes == [(False, [a.node.name])]  # It was still connected.


async def test_a_second_pubsub_of_the_same_name_is_refused(cluster):
    (one,) = await cluster(1)
    async with PubSub(one, NAME):
        with pytest.raises(ValueError, match="taken"):
            await PubSub(one, Atom("Elixir.MyApp.PubSub")).start()
        async with PubSub(one, Atom("my_pubsub")) as other:
            assert other.adapter.adapter is Atom("Elixir.my_pubsub.Adapter")
    async with PubSub(one, "Elixir.MyApp.PubSub"):
        pass


async def test_it_is_a_child_of_a_supervisor(cluster):
    mesh = [*await cluster(2)]
    a = PubSub(mesh[0], NAME)
    (b,) = [PubSub(mesh[1], NAME)]
    await b.start()
    there = b.subscribe("t")
    async with Supervisor.running(mesh[0], [a.child_spec()]) as supervisor:
        lost = a.subscribe("t")
        await a.broadcast("t", 1)
        assert (await there.get(5), await lost.get(5)) == (1, 1)
        with pytest.raises(ProcessStartError):
            await Supervisor.start(mesh[0], [a.child_spec()])

        mesh[0].exit(a.adapter.process.pid, Atom("boom"))
        with pytest.raises(PubSubError, match="has ended: boom"):
            await lost.get(5)
        await asyncio.sleep(1)
        children = await Supervisor.which_children(mesh[0], supervisor)
        assert children == {Atom("Elixir.MyApp.PubSub"): a.adapter.process.pid}
        again = a.subscribe("t")
        await a.broadcast("t", 2)
        assert (await there.get(5), await again.get(5)) == (2, 2)
    with pytest.raises(PubSubError, match="has ended"):
        await again.get(5)
    assert [each async for each in again] == []
    assert mesh[0].whereis(ADAPTER) is None


async def test_it_ends_with_the_process_that_it_is_linked_to(cluster):
    mesh = [*await cluster(1)]
    a = PubSub(mesh[0], NAME)

    async def parent(me):
        await a.start_link(me)
        raise Exit(Atom("boom"))

    with pytest.raises(Exit):
        await mesh[0].run(parent)
    await asyncio.sleep(0.1)
    assert not a.adapter.alive
    assert mesh[0].whereis(ADAPTER) is None


# Subscriptions


@elixir_struct("Shop.Order")
@dataclass
class Order:
    id: int
    note: str | None = None


async def test_messages_are_converted_and_what_does_not_fit_is_counted_and_skipped(cluster, caplog):
    a, b = await members(await cluster(2))
    orders = b.subscribe("orders", type=Order)

    for message in (Order(1), b"no order", Order(2, "a note"), {"id": b"x"}):
        await a.broadcast("orders", message)
    await a.broadcast("orders", Order(4))

    assert await taken(orders, 3) == [Order(1), Order(2, "a note"), Order(4)]
    assert orders.unconverted == 2
    with pytest.raises(TypeError):
        b.subscribe("orders", type=object())
    assert counts(b) == {"received": 5, "unconverted": 2}
    assert caplog.text.count("does not fit its type") == 2


async def test_a_full_subscription_drops_by_its_rule_and_says_so(cluster, caplog):
    a, b = await members(await cluster(2))
    oldest = b.subscribe("t", limit=3)
    newest = b.subscribe("t", limit=3, overflow="drop_newest")
    fails = b.subscribe("t", limit=3, overflow="fail")

    for number in range(10):
        await a.broadcast("t", number)
    await asyncio.sleep(1)

    assert await taken(oldest, 3) == [7, 8, 9]
    assert await taken(newest, 3) == [0, 1, 2]
    assert await taken(fails, 3) == [0, 1, 2]
    for _ in range(2):
        with pytest.raises(SubscriptionOverflow, match=r"was full and got one more message"):
            await anext(fails)
    assert [each.dropped for each in (oldest, newest, fails)] == [7, 7, 7]
    assert counts(b) == {"received": 10, "dropped": 21}
    assert "is full (3 messages, 67108864 bytes)" in caplog.text
    for options in ({"limit": 0}, {"limit": True}, {"overflow": "wait"}):
        with pytest.raises(ValueError, match="is"):
            b.subscribe("t", **options)


async def test_large_messages_fill_a_subscription_by_their_bytes(cluster, caplog):
    a, b = await members(await cluster(2))
    latest = b.subscribe("t", byte_limit=2_500)

    for number in range(5):
        await a.broadcast("t", (number, bytes(1_000)))
    await asyncio.sleep(1)

    assert [number for number, _ in await taken(latest, 2)] == [3, 4]
    assert latest.dropped == 3
    assert "is full (10000 messages, 2500 bytes)" in caplog.text
    await a.broadcast("t", bytes(10_000))
    assert len(await latest.get(timeout=1)) == 10_000


async def test_a_subscription_ends_when_it_is_closed_or_dropped(cluster):
    a, b = await members(await cluster(2))
    closed = b.subscribe("t")
    waiting = asyncio.ensure_future(anext(closed, "the end"))
    await asyncio.sleep(0)
    closed.close()
    closed.close()
    assert await asyncio.wait_for(waiting, 5) == "the end"
    async with b.subscribe("t") as within:
        await a.broadcast("t", 1)
        assert await within.get(5) == 1
    b.subscribe("t")  # dropped at once

    assert b._subscribers._topics == {}

    async def first():
        async for message in b.subscribe("t"):
            return message
        return None

    found = asyncio.ensure_future(first())
    await asyncio.sleep(0)
    await a.broadcast("t", 2)
    assert await asyncio.wait_for(found, 5) == 2
    assert b._subscribers._topics == {}


async def test_the_topics_without_a_subscriber_are_counted_and_forgotten(cluster):
    a, b = await members(await cluster(2))
    one, two = b.subscribe("t"), b.subscribe("t")
    await a.broadcast("t", 1)
    assert [await one.get(5), await two.get(5)] == [1, 1]
    one.close()
    await a.broadcast("t", 2)
    assert await two.get(5) == 2
    two.close()
    await a.broadcast("t", 3)
    await a.broadcast("elsewhere", 4)
    await asyncio.sleep(1)

    assert counts(b) == {"received": 4, "unmatched": 2}
    assert b.adapter._handlers == b._subscribers._topics == {}
    assert counts(a) == {"sent": 4}


async def test_a_process_gets_plain_messages_until_it_ends(cluster):
    a, b = await members(await cluster(2))
    got, ended = [], asyncio.Event()

    async def body(me):
        b.subscribe("t", me)
        b.subscribe("t", me.pid)()  # and not twice
        got.extend([await me.receive(), await me.receive()])

    async def wait(me):
        me.monitor(b.node.spawn(body))
        await me.receive()
        ended.set()

    b.node.spawn(wait)
    await asyncio.sleep(0.1)
    for number in range(3):
        await a.broadcast("t", number)
    await asyncio.wait_for(ended.wait(), 5)
    await asyncio.sleep(1)

    assert got == [0, 1]
    assert b._subscribers._topics == {}
    with pytest.raises(ValueError, match="it subscribes there"):
        b.subscribe("t", a.adapter.process.pid)
    with pytest.raises(TypeError, match="a subscriber is a pid"):
        b.subscribe("t", "socrates")


# What other nodes send


async def test_a_member_cannot_make_a_process_of_another_node_a_worker(cluster):
    a, b, evil = await cluster(3)
    first, second = await members([a, b])
    victim = b.spawn_handler(lambda _: None)
    forger = worker(evil, ADAPTER)[0]
    await cluster.clusters[0].wait_until(lambda: evil.name in first.nodes())
    for message in (
        (Atom("join"), evil.pg.find_scope(SCOPE).pid, Atom(ADAPTER), [victim.pid]),
        (Atom("$gen_cast"), (Atom("sync"), evil.pg.find_scope(SCOPE).pid, [(Atom(ADAPTER), [victim.pid])])),
    ):
        forger.send((SCOPE, a.name), message)
    await asyncio.sleep(1)

    assert victim.pid not in first.adapter._book._groups
    orders = second.subscribe("orders")
    senders = [a.spawn(lambda _, n=n: first.broadcast("orders", n)) for n in range(64)]
    assert sorted(await taken(orders, 64)) == [*range(len(senders))]


async def test_malformed_messages_are_counted_and_change_nothing(cluster):
    a, b = await members(await cluster(2))
    there = b.subscribe("t")
    hostile = [
        7, (), (FORWARD,), (FORWARD, b"t", 1), (FORWARD, "t", 1, 2), (FORWARD, Atom("t"), 1, PLAIN),
        (FORWARD, b"t", 1, b"Elixir.Phoenix.PubSub"), [FORWARD, b"t", 1, PLAIN], (PLAIN, b"t", 1, PLAIN),
    ]  # fmt: skip

    for message in hostile:
        a.node.send((Atom(ADAPTER), b.node.name), message)
    await a.broadcast("t", "end")

    assert await there.get(5) == b"end"
    # A str is a binary on the wire, so the fifth one has a binary as its topic, and an integer as its dispatcher.
    assert counts(b) == {"received": 1, "malformed": len(hostile)}


async def test_a_handler_that_raises_is_logged_and_the_others_are_called(cluster, caplog):
    a, b = await members(await cluster(2))
    got = []

    def fails(topic, message):
        raise ZeroDivisionError

    b.adapter.subscribe(b"t", fails)
    end = b.adapter.subscribe(b"t", lambda *call: got.append(call))
    assert a.adapter.broadcast(b"t", 1) == 1
    assert a.adapter.direct_broadcast(b.node.internals.atom, b"t", 2) is True
    assert a.adapter.direct_broadcast(Atom("nobody@h"), b"t", 2) is False
    assert b.adapter.broadcast(b"t", 3) == 1  # Its own broadcasts are not delivered to it.
    await asyncio.sleep(1)
    end()
    end()
    a.adapter.broadcast(b"t", 4)
    await asyncio.sleep(1)

    assert got == [(b"t", 1), (b"t", 2)]
    assert "a handler raised" in caplog.text
