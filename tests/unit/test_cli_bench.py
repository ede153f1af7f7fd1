"""``erlmesh bench``: the figures of a run, and what happens if the node stops to answer."""

import asyncio

import pytest

from erlmesh.cli.bench import BenchResult, format_result, measure, summarize
from erlmesh.errors import CallTimeout, RemoteError
from erlmesh.terms import Atom


class FakeNode:
    """A node that is connected to one peer. ``functions`` are those that the peer has."""

    name = "erlmesh@127.0.0.1"

    def __init__(self, functions=(), answers=10**9):
        self.functions = functions
        self.answers = answers
        self.calls = []

    async def call(self, to, request, *, timeout):
        await asyncio.sleep(0)
        self.answers -= 1
        if self.answers < 0:
            raise CallTimeout("no answer")
        self.calls.append((to, request, timeout))
        return Atom("yes")

    async def rpc(self, peer, module, function, arguments, *, timeout):
        await asyncio.sleep(0)
        assert timeout is not None
        if (module, function) not in self.functions:
            raise RemoteError("there is no function", Atom("undef"), [])
        return arguments[0]


def measured(node):
    return asyncio.run(measure(node, "plato@127.0.0.1", 0.001))


def test_the_figures_are_microseconds_of_the_sorted_times():
    times = [number / 1e6 for number in range(100, 0, -1)]

    result = summarize("plato@127.0.0.1", times, 1234.56, None)

    assert (result.least_us, result.median_us, result.p99_us, result.most_us) == (1.0, 50.0, 99.0, 100.0)
    assert (result.round_trips, result.calls_per_second, result.megabytes_per_second) == (100, 1234.6, None)


def test_one_round_trip_is_enough_for_figures():
    assert summarize("plato@127.0.0.1", [0.5], 1.0, 2.0).p99_us == 500_000


def test_each_request_is_the_ping_of_net_kernel_and_has_a_time_limit():
    node = FakeNode()

    measured(node)

    expected = ((Atom("net_kernel"), Atom("plato@127.0.0.1")), (Atom("is_auth"), Atom(node.name)), 5.0)
    assert all(call == expected for call in node.calls)


@pytest.mark.parametrize("function", [("erlang", "hd"), ("erlmesh", "echo")])
def test_a_transfer_uses_a_function_that_the_node_has(function):
    assert measured(FakeNode([function])).megabytes_per_second > 0


def test_a_node_without_such_a_function_is_not_measured():
    result = measured(FakeNode())

    assert result.megabytes_per_second is None
    assert "not measured: plato@127.0.0.1 has no function" in format_result(result)


@pytest.mark.parametrize("answers", [0, 1])
def test_a_node_that_stops_to_answer_ends_the_measurement(answers):
    node = FakeNode(answers=answers)

    with pytest.raises(CallTimeout):
        measured(node)


def test_the_text_has_all_figures():
    text = format_result(BenchResult("plato@127.0.0.1", 29_412, 63.2, 67.1, 120.0, 950.0, 24_800.0, 310.4))

    assert text.splitlines() == [
        "round trip    67 µs median, 63 µs least, 120 µs p99, 950 µs most; 29,412 calls, one after another",
        "calls         24,800 per second, 100 at a time",
        "transfer      310 MB/s in each direction, 64 KB binaries, 16 at a time",
    ]
