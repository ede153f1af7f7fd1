"""Spans of calls, and the contexts that go with them between nodes. Simulated nodes, and OpenTelemetry's SDK."""

import asyncio

import pytest

from erlmesh import Atom, CallTimeout, ErlangError, GenServer, NoProcess, Pid, RemoteError
from erlmesh.core.trace_tokens import MAX_BYTES, MAX_PAIRS, call_ref, context_of, make_token, sequence_of
from erlmesh.proto.control import Send, SendName, SpawnRequest
from erlmesh.services.tracing import node_traces
from erlmesh.terms import ImproperList, Ref
from erlmesh.testing.cluster import Cluster
from erlmesh.testing.loop import run
from skips import import_or_skip

baggage = import_or_skip("opentelemetry.baggage")
context = import_or_skip("opentelemetry.context")
trace = import_or_skip("opentelemetry.trace")
TracerProvider = import_or_skip("opentelemetry.sdk.trace").TracerProvider
sampling = import_or_skip("opentelemetry.sdk.trace.sampling")
Decision, Sampler, SamplingResult = sampling.Decision, sampling.Sampler, sampling.SamplingResult
SimpleSpanProcessor = import_or_skip("opentelemetry.sdk.trace.export").SimpleSpanProcessor
InMemorySpanExporter = import_or_skip("opentelemetry.sdk.trace.export.in_memory_span_exporter").InMemorySpanExporter

PID = Pid(Atom("a@h"), 5, 0, 1)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Recorded:
    """The finished spans of all nodes, by name."""

    def __init__(self):
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def all(self):
        return self._exporter.get_finished_spans()

    def one(self, name, kind=None):
        found = [span for span in self.all() if span.name == name and kind in (None, span.kind.name.lower())]
        assert len(found) == 1, (name, kind, [span.name for span in self.all()])
        return found[0]

    def clear(self):
        self._exporter.clear()


def traced_test(*, traced=("a", "b")):
    """Run ``test(spans, cluster, a, b)``. The nodes in ``traced`` make spans."""

    def decorate(test):
        def wrapped():
            async def main():
                async with Cluster(1) as cluster:
                    a, b = await cluster.mesh(2)
                    spans = Recorded()
                    on = [node.traces(spans.provider) for node in (a, b) if node.name[0] in traced]
                    await cluster.sleep(1)  # until each has told the other
                    spans.clear()
                    await test(spans, cluster, a, b)
                    for each in on:
                        each.close()

            run(main)

        wrapped.__name__ = test.__name__
        return wrapped

    return decorate


def is_child(span, parent):
    return span.context.trace_id == parent.context.trace_id and span.parent.span_id == parent.context.span_id


class Shop(GenServer):
    async def handle_call(self, request, caller):
        match request:
            case (Atom("order"), other):
                return await self.me.call(other, Atom("stock"))
            case Atom("wait"):
                await asyncio.sleep(60)
            case Atom("fail"):
                raise ErlangError(Atom("badarg"))
        return trace.get_current_span().get_span_context().trace_id


@traced_test()
async def test_a_call_has_a_span_on_both_nodes_and_one_trace(spans, cluster, a, b):
    shop = await Shop.start(b, name="shop")

    trace_id = await a.call((Atom("shop"), Atom(b.name)), Atom("stock"))

    client, server = spans.one("call shop"), spans.one("Shop.handle_call")
    assert is_child(server, client)
    assert (client.kind.name, server.kind.name) == ("CLIENT", "SERVER")
    assert trace_id == client.context.trace_id
    assert (client.attributes["erlmesh.node"], client.attributes["erlmesh.peer"]) == (a.name, b.name)
    assert (server.attributes["erlmesh.node"], server.attributes["erlmesh.peer"]) == (b.name, a.name)
    assert server.attributes["rpc.method"] == "stock"
    assert isinstance(shop, Pid)


@traced_test()
async def test_a_call_within_a_call_is_a_child_also_on_the_same_node(spans, cluster, a, b):
    inner = await Shop.start(b, name="inner")
    outer = await Shop.start(b, name="outer")

    trace_id = await a.call(outer, (Atom("order"), inner))

    ids = {span.context.trace_id for span in spans.all()}
    assert ids == {trace_id}
    servers = [span for span in spans.all() if span.name == "Shop.handle_call"]
    assert len(servers) == 2
    assert len(spans.all()) == 4


@traced_test()
async def test_a_function_has_a_span_as_child_of_the_call(spans, cluster, a, b):
    async def price(number):
        await asyncio.sleep(1)
        return trace.get_current_span().get_span_context().span_id

    b.expose(price, as_="shop")

    span_id = await a.rpc(b.name, "shop", "price", [1])

    client, server = spans.one("shop:price/1", "client"), spans.one("shop:price/1", "server")
    assert is_child(server, client)
    assert span_id == server.context.span_id


@traced_test()
async def test_two_functions_at_the_same_time_keep_their_traces_apart(spans, cluster, a, b):
    async def current(number):
        await asyncio.sleep(2 - number)
        return trace.get_current_span().get_span_context().trace_id

    b.expose(current, as_="shop")

    ids = await asyncio.gather(*(a.rpc(b.name, "shop", "current", [number]) for number in (0, 1)))
    assert not trace.get_current_span().get_span_context().is_valid

    clients = [span.context.trace_id for span in spans.all() if span.kind.name == "CLIENT"]
    assert len({*ids}) == 2
    assert {*ids} == {*clients}


@traced_test()
async def test_a_failure_is_an_error_of_both_spans_without_the_stack(spans, cluster, a, b):
    def fails():
        raise ErlangError(Atom("badarg"))

    b.expose(fails, as_="shop")
    with pytest.raises(RemoteError):
        await a.rpc(b.name, "shop", "fails")
    with pytest.raises(NoProcess):
        await a.call((Atom("nobody"), Atom(b.name)), 1)
    shop = await Shop.start(b)
    with pytest.raises(CallTimeout):
        await a.call(shop, Atom("wait"), timeout=1)

    outcomes = {
        (span.name, span.kind.name): span.attributes.get("error.type") for span in spans.all() if not span.status.is_ok
    }
    assert outcomes == {
        ("shop:fails/0", "CLIENT"): "error",
        ("shop:fails/0", "SERVER"): "error",
        ("call nobody", "CLIENT"): "no_process",
        ("call", "CLIENT"): "timeout",
    }
    assert all(span.events == () for span in spans.all())


@traced_test()
async def test_a_process_that_another_node_starts_has_the_context(spans, cluster, a, b):
    seen = asyncio.get_running_loop().create_future()

    async def body(me, *arguments):
        seen.set_result(trace.get_current_span().get_span_context().trace_id)

    b.internals.serve_spawn_request("shop", "work", 0, body)
    with spans.provider.get_tracer("test").start_as_current_span("ours") as ours:
        await a.spawn_remote(b.name, "shop", "work")

    assert await seen == ours.get_span_context().trace_id
    assert spans.one("spawn shop:work/0").parent.span_id == ours.get_span_context().span_id


@traced_test(traced=("b",))
async def test_what_comes_without_a_context_is_no_child_of_the_span_that_made_the_connection(spans, cluster, a, b):
    b.disconnect(a.name)
    await cluster.wait_until(lambda: not a.nodes())
    with spans.provider.get_tracer("test").start_as_current_span("connecting"):
        assert await b.connect(a.name)
        shop = await Shop.start(b)

    await a.rpc(b.name, "erlmesh", "echo", [1])
    await a.call(shop, Atom("stock"))
    await a.call((Atom("rex"), Atom(b.name)), (Atom("call"), Atom("erlmesh"), Atom("echo"), [1], a.internals.pid))

    servers = [span for span in spans.all() if span.kind.name == "SERVER"]
    assert [span.parent for span in servers] == [None] * len(servers)
    assert len(servers) >= 2


@traced_test()
async def test_a_call_through_rex_has_a_span_too(spans, cluster, a, b):
    call = (Atom("call"), Atom("erlmesh"), Atom("echo"), [1], a.internals.pid)

    assert await a.call((Atom("rex"), Atom(b.name)), call) == 1

    assert is_child(spans.one("erlmesh:echo/1", "server"), spans.one("call rex"))


@traced_test()
async def test_metrics_and_traces_do_not_disturb_each_other(spans, cluster, a, b):
    prometheus_client = import_or_skip("prometheus_client")
    registry = prometheus_client.CollectorRegistry()
    a.metrics(registry)
    shop = await Shop.start(b)

    await a.call(shop, Atom("stock"))

    labels = {"node": a.name, "kind": "call", "outcome": "ok"}
    assert registry.get_sample_value("erlmesh_call_duration_seconds_count", labels) == 1
    assert is_child(spans.one("Shop.handle_call"), spans.one("call"))


# What travels, and to whom


def tokens_on_the_wire(node):
    """The tokens of all signals that ``node`` gets from now on."""
    tokens, router = [], node.internals._router
    original = router.handle_signals

    def handle(signals, *rest):
        tokens.extend(each.token for each in signals if isinstance(each, (Send, SendName, SpawnRequest)))
        return original(signals, *rest)

    router.handle_signals = handle
    return tokens


@pytest.mark.parametrize("target", ["pid", "name", "function"])
def test_a_node_that_makes_no_traces_gets_no_tokens(target):
    for traced in (("a",), ("a", "b")):

        @traced_test(traced=traced)
        async def check(spans, cluster, a, b, traced=traced):
            shop = await Shop.start(b, name="shop")
            tokens = tokens_on_the_wire(b)
            if target == "function":
                await a.rpc(b.name, "erlmesh", "echo", [1])
            else:
                await a.call(shop if target == "pid" else (Atom("shop"), Atom(b.name)), Atom("stock"))
            carried = [token for token in tokens if token is not None]
            assert len(carried) == (1 if "b" in traced else 0)
            assert all(token[0] == 0 and context_of(token) for token in carried)

        check()


@traced_test(traced=("a",))
async def test_a_node_that_is_not_traced_answers_as_always(spans, cluster, a, b):
    shop = await Shop.start(b)

    assert await a.call(shop, Atom("stock")) == 0
    assert [span.name for span in spans.all()] == ["call"]


@traced_test()
async def test_after_a_reconnect_the_context_travels_again(spans, cluster, a, b):
    cluster.reset(a, b)
    await cluster.wait_until(lambda: not a.nodes())
    assert not a.internals.state.counters.tracing_peers
    await cluster.wait_until(lambda: a.nodes() and b.nodes())
    await cluster.sleep(1)
    spans.clear()
    shop = await Shop.start(b)

    await a.call(shop, Atom("stock"))

    assert is_child(spans.one("Shop.handle_call"), spans.one("call"))


@traced_test()
async def test_a_closed_trace_makes_no_spans_and_leaves_nothing(spans, cluster, a, b):
    counters = a.internals.state.counters
    shop = await Shop.start(a)
    counters.tracer.close()

    await a.call(shop, Atom("stock"))

    assert spans.all() == ()
    assert (counters.tracer, counters.calls) == (None, None)


@traced_test()
async def test_contexts_of_calls_that_nobody_answers_are_bounded(spans, cluster, a, b):
    tracer = b.internals.state.counters.tracer
    token = make_token(PID, {"traceparent": PARENT})
    for number in range(node_traces.MAX_CALLS + 10):
        ref = Ref(Atom("a@h"), 1, (number, 0, 0))
        tracer.received([Send(PID, PID, (Atom("$gen_call"), (PID, ref), 1), token)])

    assert len(tracer._calls) == node_traces.MAX_CALLS


# What is not sampled


class SeenBySampler(Sampler):
    """Drops all traces, and keeps the attributes that it has been shown."""

    def __init__(self):
        self.attributes = []

    def should_sample(self, *arguments):
        *_, attributes, _ = arguments
        self.attributes.append(dict(attributes))
        return SamplingResult(Decision.DROP)

    def get_description(self):
        return "SeenBySampler"


def dropping_test(**options):
    """Run ``test(sampler, cluster, a, b)``. ``sampler`` drops all traces of both nodes."""

    def decorate(test):
        def wrapped():
            async def main():
                async with Cluster(1) as cluster:
                    a, b = await cluster.mesh(2)
                    sampler = SeenBySampler()
                    for node in (a, b):
                        node.traces(TracerProvider(sampler=sampler), **options)
                    await cluster.sleep(1)
                    await test(sampler, cluster, a, b)

            run(main)

        wrapped.__name__ = test.__name__
        return wrapped

    return decorate


class Seeing(GenServer):
    """Answers a call with the identifiers of the span around it."""

    async def handle_call(self, request, caller):
        found = trace.get_current_span().get_span_context()
        if isinstance(request, Pid):
            return await self.me.call(request, 1)
        return (found.is_valid, int(found.trace_flags & 1), found.trace_id)


@dropping_test()
async def test_a_dropped_trace_asks_the_sampler_once_and_sends_no_token(sampler, cluster, a, b):
    tokens = tokens_on_the_wire(b)
    outer, inner, local = await Seeing.start(b), await Seeing.start(a), await Seeing.start(a)
    for call in (a.call(outer, inner), a.call(local, inner)):
        asked = len(sampler.attributes)
        assert (await call)[:2] == (True, 0)
        assert len(sampler.attributes) == asked + 1
    await a.rpc(b.name, "erlmesh", "echo", [1])
    assert len(sampler.attributes) == 3

    assert {*tokens} == {None}
    assert sampler.attributes[0]["erlmesh.peer"] == b.name


@dropping_test()
async def test_a_call_below_a_span_that_is_not_sampled_hands_the_context_on_without_a_span(sampler, cluster, a, b):
    servers = await Seeing.start(a), await Seeing.start(b)
    below = trace.NonRecordingSpan(trace.SpanContext(77, 7, is_remote=False))
    with trace.use_span(below):
        found = [await a.call(server, 1) for server in servers]

    assert found == [(True, 0, 77)] * 2
    assert sampler.attributes == []


@dropping_test(start_traces=False)
async def test_a_node_that_starts_no_traces_makes_no_span_outside_of_one(sampler, cluster, a, b):
    servers = await Seeing.start(a), await Seeing.start(b)

    assert [await a.call(server, 1) for server in servers] == [(False, 0, 0)] * 2
    assert await a.rpc(b.name, "erlmesh", "echo", [1]) == 1
    assert sampler.attributes == []


def test_a_node_that_starts_no_traces_goes_on_with_those_of_others():
    async def main():
        async with Cluster(1) as cluster:
            a, b = await cluster.mesh(2)
            spans = Recorded()
            a.traces(spans.provider)
            b.traces(spans.provider, start_traces=False)
            await cluster.sleep(1)
            await a.call(await Shop.start(b), Atom("stock"))
            assert is_child(spans.one("Shop.handle_call"), spans.one("call"))

    run(main)


@traced_test()
async def test_after_close_other_nodes_start_their_own_traces_for_its_calls(spans, cluster, a, b):
    a.internals.state.counters.tracer.close()
    await cluster.sleep(1)

    await a.call(await Shop.start(b), Atom("stock"))

    assert [span.parent for span in spans.all()] == [None]
    assert not b.internals.state.counters.tracing_peers


@traced_test()
async def test_baggage_reaches_the_handler(spans, cluster, a, b):
    class Carried(GenServer):
        async def handle_call(self, request, caller):
            return baggage.get_baggage("tenant")

    servers = await Carried.start(a), await Carried.start(b)
    token = context.attach(baggage.set_baggage("tenant", "blue"))

    found = [await a.call(server, 1) for server in servers]
    context.detach(token)

    assert found == ["blue", b"blue"]  # a text of Python is a binary for other nodes


@traced_test()
async def test_a_cast_of_a_function_is_in_the_trace(spans, cluster, a, b):
    with spans.provider.get_tracer("test").start_as_current_span("ours") as ours:
        a.rpc.cast(b.name, "erlmesh", "echo", [1])
    await cluster.wait_until(lambda: len(spans.all()) == 3)

    client, server = spans.one("erlmesh:echo/1", "client"), spans.one("erlmesh:echo/1", "server")
    assert is_child(server, client)
    assert client.parent.span_id == ours.get_span_context().span_id


# Casts


class Noting(GenServer):
    """Notes the trace in which it handles a cast."""

    async def init(self, notes):
        self.notes = notes

    async def handle_cast(self, request):
        self.notes.append((request, trace.get_current_span().get_span_context().trace_id))


@pytest.mark.parametrize("target", ["pid", "name"])
def test_a_cast_takes_the_context_to_both_nodes(target):
    @traced_test()
    async def check(spans, cluster, a, b):
        notes = []
        for node in (a, b):
            pid = await Noting.start(node, notes, name="noting")
            to = pid if target == "pid" else (Atom("noting"), Atom(node.name))

            async def send(me, to=to, request=Atom(node.name[0])):  # noqa: B008
                with spans.provider.get_tracer("test").start_as_current_span("ours"):
                    me.cast(to, (request, [1, 2]))
                me.cast(to, Atom("outside"))

            await a.run(send)
            await cluster.sleep(1)
            ours, handled = spans.one("ours"), spans.one("Noting.handle_cast")
            assert is_child(handled, ours)
            assert handled.kind.name == "CONSUMER"
            assert handled.attributes["messaging.operation.name"] == node.name[0]
            assert notes == [((Atom(node.name[0]), [1, 2]), ours.context.trace_id), (Atom("outside"), 0)]
            assert not node.internals.state.counters.tracer._casts
            notes.clear()
            spans.clear()

    check()


@traced_test()
async def test_a_cast_to_nobody_and_one_to_a_plain_process_change_nothing(spans, cluster, a, b):
    got = []

    async def plain(me):
        got.append(await me.receive())

    there, here = b.spawn(plain), a.spawn(plain)

    async def send(me):
        with spans.provider.get_tracer("test").start_as_current_span("ours"):
            for to in (there, here, "nobody", (Atom("nobody"), Atom(b.name)), (Atom("x"), Atom("c@10.0.0.99"))):
                me.cast(to, 1)

    await a.run(send)
    await cluster.sleep(1)

    assert got == [(Atom("$gen_cast"), 1)] * 2
    assert [span.name for span in spans.all()] == ["ours"]


@traced_test(traced=("a",))
async def test_a_cast_to_a_node_that_makes_no_traces_has_no_token(spans, cluster, a, b):
    notes = []
    server = await Noting.start(b, notes)
    tokens = tokens_on_the_wire(b)

    async def send(me):
        with spans.provider.get_tracer("test").start_as_current_span("ours"):
            me.cast(server, 1)

    await a.run(send)
    await cluster.sleep(1)

    assert notes == [(1, 0)]
    assert {*tokens} <= {None}


@traced_test()
async def test_casts_that_no_server_handles_are_bounded(spans, cluster, a, b):
    tracer = b.internals.state.counters.tracer
    for number in range(node_traces.MAX_CASTS + 10):
        tracer.received([Send(PID, PID, (Atom("$gen_cast"), number), make_token(PID, {"traceparent": PARENT}))])

    assert len(tracer._casts) == node_traces.MAX_CASTS


# Tokens


def test_a_token_carries_a_context_and_a_sequential_trace_carries_none():
    token = make_token(PID, {"traceparent": PARENT, "baggage": "a=b"})

    assert token == (0, [(b"traceparent", PARENT.encode()), (b"baggage", b"a=b")], 0, PID, 0)
    assert context_of(token) == {"traceparent": PARENT, "baggage": "a=b"}
    assert context_of((1, PARENT.encode(), 3, PID, 2)) == {"traceparent": PARENT}
    assert (context_of((1, 17, 3, PID, 2)), sequence_of((1, 17, 3, PID, 2))) == ({}, (17, 3))


@pytest.mark.parametrize(
    "token",
    [
        None,
        1,
        (),
        (0, [1], 0, PID, 0),
        (0, [(b"a", 1)], 0, PID, 0),
        (0, [(b"a", b"\xff")], 0, PID, 0),
        (0, [(b"a", b"b")] * (MAX_PAIRS + 1), 0, PID, 0),
        (0, [(b"a", b"b" * MAX_BYTES)], 0, PID, 0),
        (0, ImproperList((1,), 2), 0, PID, 0),
        (0, Atom("label"), Atom("x"), PID, 0),
    ],
)
def test_a_malformed_token_has_no_context(token):
    assert context_of(token) == {}


def test_a_context_that_is_too_large_is_not_sent():
    assert make_token(PID, {"a": "b" * MAX_BYTES}) == make_token(PID, {}) == (0, [], 0, PID, 0)


def test_the_reference_of_a_call_is_found_in_both_forms():
    ref = Ref(Atom("a@h"), 1, (1, 2, 3))
    call = Atom("$gen_call")

    assert call_ref((call, (PID, ImproperList((Atom("alias"),), ref)), 1)) == call_ref((call, (PID, ref), 1)) == ref
    assert [call_ref(other) for other in (1, (call, 1, 2), (call, (PID, 1), 2), (Atom("x"), (PID, ref), 1))] == [
        None
    ] * 4


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch):
    async def main():
        async with Cluster(1) as cluster:
            (a,) = await cluster.start("a")
            monkeypatch.setitem(__import__("sys").modules, "opentelemetry", None)
            with pytest.raises(ImportError, match=r"pip install 'erlmesh\[otel\]'"):
                a.traces()

    run(main)
