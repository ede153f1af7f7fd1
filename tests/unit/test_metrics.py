"""The metrics of nodes. Most tests run simulated nodes and read them as Prometheus would."""

import asyncio
import contextlib
import os
import time

import pytest

from erlmesh import NO_REPLY, CallError, CallTimeout, Exit, GenServer, Node, NoProcess
from erlmesh.core.node_counters import PeerTotals
from erlmesh.net.resolvers import NoEpmd
from erlmesh.phoenix import PubSub
from erlmesh.services.metrics import reading
from erlmesh.services.metrics.catalogue import METRICS
from erlmesh.terms import Atom
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run
from skips import import_or_skip

CollectorRegistry = import_or_skip("prometheus_client").CollectorRegistry
generate_latest = import_or_skip("prometheus_client").generate_latest
text_string_to_metric_families = import_or_skip("prometheus_client.parser").text_string_to_metric_families


class Scrape:
    """What Prometheus reads: ``scrape("erlmesh_processes", node=…)`` is one value, None if there is no such series."""

    def __init__(self, registry):
        self.text = generate_latest(registry).decode()
        self.samples = [sample for family in text_string_to_metric_families(self.text) for sample in family.samples]

    def __call__(self, name, **labels):
        found = self.all(name, **labels)
        assert len(found) < 2, f"{name} {labels} is not one series: {found}"
        return found[0].value if found else None

    def all(self, name, **labels):
        return [each for each in self.samples if each.name == name and labels.items() <= each.labels.items()]


def cluster_test(size):
    """Run ``test(scrape, cluster, *nodes)``. All nodes are connected and are in one registry."""

    def decorate(test):
        def wrapped():
            async def main():
                async with Cluster(1) as cluster:
                    registry = CollectorRegistry()
                    nodes = await cluster.mesh(size)
                    for node in nodes:
                        node.metrics(registry)
                    await test(lambda: Scrape(registry), cluster, *nodes)

            run(main)

        wrapped.__name__ = test.__name__
        return wrapped

    return decorate


@cluster_test(2)
async def test_a_peer_has_bytes_signals_and_silence(scrape, cluster, a, b):
    await cluster.sleep(1)  # until nothing is on its way
    before = scrape()
    await a.rpc(b.name, "erlmesh", "echo", ["x" * 5000])
    await cluster.sleep(1)
    after = scrape()

    def grown(name, node, peer):
        return after(name, node=node.name, peer=peer.name) - before(name, node=node.name, peer=peer.name)

    assert grown("erlmesh_peer_sent_bytes_total", a, b) > 5000
    assert grown("erlmesh_peer_sent_bytes_total", a, b) == grown("erlmesh_peer_received_bytes_total", b, a)
    assert grown("erlmesh_peer_sent_signals_total", a, b) == grown("erlmesh_peer_received_signals_total", b, a) >= 1
    assert 0 < after("erlmesh_peer_silence_seconds", node=a.name, peer=b.name) <= 1
    assert after("erlmesh_connections", node=a.name, state="up") == 1


@cluster_test(2)
async def test_the_counters_of_a_peer_go_on_after_a_reconnect(scrape, cluster, a, b):
    await a.rpc(b.name, "erlmesh", "echo", ["x" * 5000])
    cluster.reset(a, b)
    await cluster.wait_until(lambda: not a.nodes())
    lost = scrape()
    await cluster.wait_until(lambda: a.nodes() and b.nodes())
    back = scrape()

    assert lost("erlmesh_peer_connections", node=a.name, peer=b.name) == 0
    assert lost("erlmesh_connections", node=a.name, state="reconnecting") == 1
    assert lost("erlmesh_peer_sent_bytes_total", node=a.name, peer=b.name) > 5000
    assert back("erlmesh_peer_sent_bytes_total", node=a.name, peer=b.name) > 5000
    assert back("erlmesh_peer_connections", node=a.name, peer=b.name) == 1
    reconnects = [back("erlmesh_reconnects_total", node=node.name) for node in (a, b)]
    assert reconnects == [1, 1]
    assert sum(back("erlmesh_reconnect_attempts_total", node=node.name) for node in (a, b)) >= 1
    assert back("erlmesh_disconnects_total", node=a.name, reason="connection_closed") == 1


@cluster_test(2)
async def test_a_silent_peer_is_seen_before_it_is_lost_and_the_loss_has_its_reason(scrape, cluster, a, b):
    cluster.cut(a, b)
    await cluster.sleep(0.6 * a.internals.net_ticktime)
    cut = scrape()
    await cluster.wait_until(lambda: not a.nodes())

    assert cut("erlmesh_peer_silence_seconds", node=a.name, peer=b.name) > 0.5 * a.internals.net_ticktime
    assert scrape()("erlmesh_disconnects_total", node=a.name, reason="net_tick_timeout") == 1


@cluster_test(2)
async def test_failed_attempts_and_dropped_messages_are_counted(scrape, cluster, a, b):
    a.send((Atom("nobody"), Atom("missing@10.0.0.99")), Atom("hello"))
    await cluster.sleep(10)

    assert scrape()("erlmesh_dropped_messages_total", node=a.name, reason="no_connection") == 1
    failures = scrape().all("erlmesh_connect_failures_total", node=a.name)
    assert sum(each.value for each in failures) == 1


@cluster_test(2)
async def test_messages_to_processes_that_do_not_exist_are_counted_on_their_node(scrape, cluster, a, b):
    async def nothing(me):
        pass

    ended = b.spawn(nothing)
    await cluster.sleep(1)
    a.send(ended, Atom("hello"))
    a.send((Atom("nobody"), Atom(b.name)), Atom("hello"))
    b.send(ended, Atom("hello"))
    await cluster.sleep(1)

    found = [scrape()("erlmesh_dropped_messages_total", node=node.name, reason="no_process") for node in (a, b)]
    assert found == [0, 3]


class Answering(GenServer):
    call_timeout = 1

    async def handle_call(self, request, caller):
        match request:
            case b"slow":
                await asyncio.sleep(5)
            case b"later":
                self.reply(caller, 1)
                return NO_REPLY
            case b"exit":
                raise Exit(Atom("shutdown"))
            case b"fail":
                raise ValueError
        return 42 if request == b"ok" else None


@cluster_test(2)
async def test_answered_calls_have_durations_by_outcome(scrape, cluster, a, b):
    await Answering.start(b, name="server")
    for request in ("ok", "ok", "slow", "later", "unknown", "exit"):
        with contextlib.suppress(CallError):
            await a.call((Atom("server"), Atom(b.name)), request.encode(), timeout=10)
    await Answering.start(b, name="server")
    with contextlib.suppress(CallError):
        await a.call((Atom("server"), Atom(b.name)), b"fail")
    await a.rpc(b.name, "erlmesh", "echo", [1])
    with contextlib.suppress(CallError):
        await a.rpc(b.name, "erlmesh", "echo", [1, 2, 3])
    rex = (Atom("rex"), Atom(b.name))
    await a.call(rex, (Atom("call"), Atom("erlmesh"), Atom("echo"), [1], a.internals.pid))

    name = "erlmesh_served_call_duration_seconds"
    found = {
        (each.labels["kind"], each.labels["outcome"]): each.value
        for each in scrape().all(f"{name}_count", node=b.name)
        if each.value
    }
    assert found == {
        ("call", "ok"): 2,
        ("call", "timeout"): 1,
        ("call", "later"): 1,
        ("call", "unknown_call"): 1,
        ("call", "exit"): 1,
        ("call", "error"): 1,
        ("rpc", "ok"): 2,
        ("rpc", "error"): 1,
    }
    assert scrape()(f"{name}_count", node=a.name, kind="call", outcome="ok") == 0


@cluster_test(1)
async def test_durations_that_wait_to_be_counted_are_few(scrape, cluster, a):
    server = await Answering.start(a)
    for _ in range(20):
        await a.call(server, b"ok")
    timer = a.internals.state.counters.durations
    await cluster.sleep(1)
    assert timer.calls == timer.served_calls == []

    for kind in ("", "served_"):
        assert scrape()(f"erlmesh_{kind}call_duration_seconds_count", kind="call", outcome="ok") == 20


@cluster_test(2)
async def test_what_a_slow_subscriber_loses_is_counted(scrape, cluster, a, b):
    async with PubSub(a, "App.PubSub") as sender, PubSub(b, "App.PubSub") as receiver:
        assert await sender.ready()
        slow = receiver.subscribe("news", limit=2)
        for number in range(5):
            await sender.broadcast("news", number)
        await cluster.sleep(1)

    assert slow.dropped == 3
    assert scrape()("erlmesh_dropped_messages_total", node=b.name, reason="subscription_full") == 3


@cluster_test(1)
async def test_a_forked_child_has_no_series_of_the_node(scrape, cluster, a):
    pid = os.getpid()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: pid + 1)
        assert scrape().samples == []

    assert scrape()("erlmesh_node_up") == 1


@cluster_test(1)
async def test_names_of_others_cannot_break_the_format_and_have_few_series(scrape, cluster, a):
    async def member(me):
        await me.receive()

    pid = a.spawn(member)
    hostile = ['"} 1\nevil 1', "\\", "\x1b[31m", "\u202e", "long" * 2000, b"\xff", Atom('x"y'), ("t", 1)]
    for group in [*hostile, *range(300)]:
        a.pg.join(group, pid)
    scope = a.pg.start_scope(Atom('scope"\n{}'))
    scope.join("g", pid)
    found = scrape().all("erlmesh_group_members")

    assert len(found) == reading.MAX_GROUPS + 2
    assert all(len(text) <= 201 and text.isprintable() for each in found for text in each.labels.values())
    assert sum(each.value for each in found) == len(hostile) + 300 + 1


@cluster_test(1)
async def test_a_refused_connection_has_its_reason(scrape, cluster, a):
    (stranger,) = await cluster.start("stranger", cookie="another")
    assert not await stranger.connect(a.name)

    assert scrape()("erlmesh_refused_connections_total", node=a.name, reason="wrong_cookie") == 1


@cluster_test(1)
async def test_mailboxes_are_counted_and_a_killed_one_is_dropped(scrape, cluster, a):
    async def idle(me):
        me.mailbox_limit = 5
        await me.receive(lambda _: False)

    pid = a.spawn(idle)
    await cluster.sleep(0.1)
    for number in range(4):
        a.send(pid, number)
    await cluster.sleep(0.1)
    full = scrape()
    for number in range(2):
        a.send(pid, number)
    await cluster.sleep(0.1)

    assert full("erlmesh_mailbox_messages") == full("erlmesh_largest_mailbox_messages") == 4
    assert scrape()("erlmesh_dropped_messages_total", reason="mailbox_limit") == 6
    assert scrape()("erlmesh_processes") == full("erlmesh_processes") - 1


@cluster_test(1)
async def test_large_groups_have_series_and_the_rest_is_other(scrape, cluster, a):
    async def member(me):
        await me.receive()

    pids = [a.spawn(member) for _ in range(3)]
    for number in range(reading.MAX_GROUPS + 20):
        a.pg.join(("group", number), pids[0])
    a.pg.join("large", pids)

    found = scrape()

    assert len(found.all("erlmesh_group_members")) == reading.MAX_GROUPS + 1
    assert found("erlmesh_group_members", scope="pg", group="large") == 3
    assert found("erlmesh_group_members", scope="pg", group="other") == 21
    assert found("erlmesh_groups", scope="pg") == reading.MAX_GROUPS + 21
    assert found("erlmesh_group_memberships", scope="pg") == reading.MAX_GROUPS + 23


@cluster_test(1)
async def test_hostile_group_names_are_printable_and_two_with_one_text_are_one_series(scrape, cluster, a):
    async def member(me):
        await me.receive()

    pid = a.spawn(member)
    a.pg.join('x"} 1\nerlmesh_node_up{node="evil"} 7 \x1b[31m\u202e', pid)
    for end in ("a", "b"):
        a.pg.join("y" * 500 + end, pid)

    found = scrape()

    assert found("erlmesh_node_up", node="evil") is None
    assert "\x1b" not in found.text
    assert "\u202e" not in found.text
    assert [each.value for each in found.all("erlmesh_group_members") if "yyy" in each.labels["group"]] == [2]


class Echo(GenServer):
    async def handle_call(self, request, caller):
        if request is Atom("wait"):
            await asyncio.sleep(60)
        return request


@cluster_test(2)
async def test_calls_have_durations_and_outcomes(scrape, cluster, a, b):
    server = await Echo.start(b)
    await a.call(server, "hello")
    with pytest.raises(CallTimeout):
        await a.call(server, Atom("wait"), timeout=0.5)
    with pytest.raises(NoProcess):
        await a.call((Atom("missing"), Atom(b.name)), 1)
    await a.rpc(b.name, "erlmesh", "echo", [1])

    found = scrape()

    def count(kind, outcome):
        return found("erlmesh_call_duration_seconds_count", node=a.name, kind=kind, outcome=outcome)

    assert (count("call", "ok"), count("call", "timeout"), count("call", "no_process"), count("rpc", "ok")) == (
        1,
        1,
        1,
        1,
    )
    assert found("erlmesh_call_duration_seconds_sum", node=a.name, kind="call", outcome="timeout") >= 0


@cluster_test(1)
async def test_the_lag_of_the_loop_is_sampled(scrape, cluster, a):
    await cluster.sleep(10)

    assert 15 <= scrape()("erlmesh_event_loop_lag_seconds_count") <= 20


def test_peers_without_a_label_are_other_and_hidden_tools_are_hidden():
    async def main():
        async with Cluster(1) as cluster:
            registry, (a,) = CollectorRegistry(), await cluster.start("a")
            a.internals.state.counters.peers = PeerTotals(6, limit=2)
            a.metrics(registry)
            for name in ("b", "c", "d"):
                (node,) = await cluster.start(name)
                await node.ping(a.name)
            (tool,) = await cluster.start("tool", hidden=True)
            await tool.ping(a.name)
            return Scrape(registry)

    found = run(main)

    peers = {each.labels["peer"]: each.value for each in found.all("erlmesh_peer_connections")}
    assert peers == {"b@10.0.0.2": 1, "c@10.0.0.3": 1, "other": 1, "hidden": 1}


def test_a_node_that_has_stopped_is_down_and_has_no_other_series():
    registry = CollectorRegistry()

    async def main():
        async with Cluster(1) as cluster:
            (a,) = await cluster.start("a")
            a.metrics(registry)

    run(main)

    found = Scrape(registry)
    assert found("erlmesh_node_up") == 0
    assert found("erlmesh_processes") is None


@cluster_test(2)
async def test_the_metrics_are_those_of_the_catalogue(scrape, cluster, a, b):
    await a.rpc(b.name, "erlmesh", "echo", [1])

    async def member(me):
        await me.receive()

    a.pg.join("workers", a.spawn(member))
    found = scrape()

    names = {metric.series for metric in METRICS}
    families = {family.name for family in text_string_to_metric_families(found.text)}
    assert {metric.name for metric in METRICS} == families
    assert len(names) == len(METRICS)
    for sample in found.samples:
        assert sample.labels["node"] in (a.name, b.name)


# With a real event loop


def real_node(name, **options):
    return Node(f"{name}@127.0.0.1", cookie="secret", epmd=NoEpmd(), **options)


def test_while_the_loop_is_blocked_the_last_values_are_repeated():
    async def main():
        registry = CollectorRegistry()
        async with real_node("a") as a, real_node("b") as b:
            a.metrics(registry)
            b.metrics(registry)
            responsive = await asyncio.to_thread(Scrape, registry)
            asked = asyncio.ensure_future(asyncio.to_thread(Scrape, registry))
            future = asyncio.get_running_loop().run_in_executor(None, lambda: None)
            await future
            await asked
            started = time.monotonic()
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor() as threads:
                blocked = threads.submit(Scrape, registry).result()  # this blocks the loop until it has its answer
            seconds = time.monotonic() - started
            return responsive, blocked, await asyncio.to_thread(Scrape, registry), seconds

    responsive, blocked, after, seconds = asyncio.run(main())

    assert [each.value for each in responsive.all("erlmesh_metrics_age_seconds")] == [0, 0]
    for name in ("a@127.0.0.1", "b@127.0.0.1"):
        assert blocked("erlmesh_node_up", node=name) == 1
        assert blocked("erlmesh_metrics_age_seconds", node=name) >= 1
        assert blocked("erlmesh_event_loop_blocked_seconds", node=name) >= 1
        assert blocked("erlmesh_processes", node=name) == responsive("erlmesh_processes", node=name)
        assert after("erlmesh_event_loop_blocked_seconds", node=name) == 0
    assert seconds < 1.9, "nodes are asked one after the other"


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    async def main():
        async with real_node("a") as a:
            monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
            with pytest.raises(ImportError, match=r"pip install 'erlmesh\[metrics\]'"):
                a.metrics()

    asyncio.run(main())
