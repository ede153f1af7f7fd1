"""Traces between operating system processes: two Python nodes, and a BEAM with ``seq_trace``."""

import json

from erlmesh.terms import Atom
from polling import wait_until
from skips import import_or_skip

import_or_skip("opentelemetry.sdk")

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
# Spans end up in `spans`. `shop` is a GenServer, `shop:price/1` an exposed function.
TRACED = """
exec('''
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from erlmesh import GenServer
import asyncio, json
spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
class Shop(GenServer):
    async def handle_call(self, request, caller):
        return "ok"
def price(number):
    return number
def found():
    return json.dumps([{**json.loads(each.to_json()), "ids": [hex(each.context.trace_id), hex(each.context.span_id),
        hex(each.parent.span_id) if each.parent else None]} for each in spans.get_finished_spans()])
node.expose(price, as_="shop")
node.traces(provider)
asyncio.ensure_future(Shop.start(node, name="shop"))
''', globals())
"""


def traced(cluster, name):
    node = cluster.pynode(name)
    node.eval(TRACED)
    wait_until(lambda: node.eval('node.whereis("shop") is not None'))
    return node


def spans_of(node):
    return json.loads(node.eval("found()"))


def test_a_trace_goes_on_in_another_operating_system_process(cluster):
    a, b = traced(cluster, "socrates"), traced(cluster, "plato")
    assert a.ping(b.name)
    wait_until(lambda: a.eval("len(node.internals.state.counters.tracing_peers)") == 1)
    wait_until(lambda: b.eval("len(node.internals.state.counters.tracing_peers)") == 1)

    a.eval("await node.call((Atom('shop'), Atom(PEER)), 1)", PEER=b.name)
    a.eval("await node.rpc(PEER, 'shop', 'price', [3])", PEER=b.name)

    wait_until(lambda: len([each for each in spans_of(b) if each["kind"] == "SpanKind.SERVER"]) == 2)
    clients = {each["ids"][1]: each for each in spans_of(a) if each["kind"] == "SpanKind.CLIENT"}
    for server in spans_of(b):
        if server["kind"] == "SpanKind.SERVER":
            assert server["ids"][0] == clients[server["ids"][2]]["ids"][0]


def test_seq_trace_of_a_beam_is_an_attribute_and_a_label_with_a_context_is_the_parent(cluster):
    python, beam = traced(cluster, "socrates"), cluster.beam("plato")
    assert python.ping(beam.name)

    beam.eval("seq_trace:set_token(label, 17), gen_server:call({shop, Peer}, one)", Peer=python.atom)
    beam.eval(
        'seq_trace:set_token([]), seq_trace:set_token(label, [{<<"traceparent">>, Parent}]), '
        "gen_server:call({shop, Peer}, two), "
        'seq_trace:set_token(label, [{<<"traceparent">>, Parent}]), '  # the answer, which has none, removes the token
        "erpc:call(Peer, shop, price, [3])",
        Peer=python.atom,
        Parent=PARENT.encode(),
    )
    beam.eval("seq_trace:set_token([]), gen_server:call({shop, Peer}, three)", Peer=python.atom)

    wait_until(lambda: len(spans_of(python)) >= 4)
    by_method = {each["attributes"]["rpc.method"]: each for each in spans_of(python) if "SERVER" in each["kind"]}
    assert by_method["one"]["attributes"]["erlang.seq_trace.label"] == "17"
    assert by_method["one"]["ids"][2] is None
    for name in ("two", "shop:price/1"):
        assert by_method[name]["ids"][0] == "0x" + PARENT.split("-")[1].lstrip("0")
        assert by_method[name]["ids"][2] == "0x" + PARENT.split("-")[2]
    assert by_method["three"]["ids"][2] is None
    assert "erlang.seq_trace.label" not in by_method["three"]["attributes"]


def test_what_a_beam_gets_of_a_traced_node_looks_as_always(cluster):
    python, beam = traced(cluster, "socrates"), cluster.beam("plato")
    assert python.ping(beam.name)
    beam.eval(
        "register(asked, spawn(fun F() -> receive {'$gen_call', {From, [alias | Ref]} = Tag, What} -> "
        "Ref ! {[alias | Ref], {What, seq_trace:get_token(), is_pid(From), tuple_size(Tag)}}, F() end end)), "
        "ok"
    )

    answer = python.eval("await node.call((Atom('asked'), Atom(PEER)), Atom('what'))", PEER=beam.name)

    assert answer == (Atom("what"), [], True, 2)
    token = python.eval("await node.rpc(PEER, 'seq_trace', 'get_token', [])", PEER=beam.name)
    assert token == []
    assert python.eval("len(node.internals.state.counters.tracing_peers)") == 0
