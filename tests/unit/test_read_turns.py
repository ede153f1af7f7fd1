"""A read with many requests does not hold the event loop: it gets a turn between two of them."""

import asyncio
import itertools

import pytest
from memory_network import MemoryNetwork, started
from router_harness import RouterHarness
from test_dist_protocol import established, run
from test_dist_socket import on_every_loop

from erlmesh.proto.control import Send
from erlmesh.runtime.router import MAX_READ_SECONDS
from erlmesh.terms import Atom, Pid
from erlmesh.testing.loop import run_coroutine

A, B = Atom("a@h"), Atom("b@h")
X = Pid(B, 64, 0, 5)
HERE, THERE = Pid(Atom("local@h"), 70, 0, 1), Pid(Atom("remote@h"), 80, 0, 1)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_signals_after_a_slow_one_wait():
    harness, clock, handled = RouterHarness(), Clock(), []
    harness.connect()

    def handle(message):
        handled.append(message)
        clock.now += MAX_READ_SECONDS * 0.6

    server = harness.server(handle)
    signals = [Send(X, server.pid, number) for number in range(1, 6)]

    assert harness.router.handle_signals(signals, B, clock) == signals[2:]
    assert harness.router.handle_signals(signals[2:], B, clock) == signals[4:]
    assert harness.router.handle_signals(signals[4:], B, clock) == []
    assert handled == [1, 2, 3, 4, 5]


@on_every_loop
@pytest.mark.parametrize("end", [b"", b"\xff\xff\xff\xff"])
def test_the_event_loop_runs_between_signals_that_wait(factory, end):
    count = 200

    async def test(loop):
        peer = await established(ticktime=1000.0)
        delegate, handled, turns = peer.delegate, [], 0

        def handle(_protocol, signals):
            handled.extend((signal.message, turns) for signal in signals[:1])
            return signals[1:]

        def other_work():
            nonlocal turns
            turns += 1
            if len(handled) < count + 1:
                loop.call_soon(other_work)

        delegate.signals_received = handle
        other_work()
        for number in range(count):
            peer.channel.send(Send(THERE, HERE, number))
        await peer.write(peer.channel.data_to_send(0.0))
        peer.channel.send(Send(THERE, HERE, count))
        await peer.write(peer.channel.data_to_send(0.0) + end)
        while len(handled) < count + 1:
            await asyncio.sleep(0)
        if end:
            assert await delegate.events.get() == "lost"

        assert [message for message, _ in handled] == [*range(count + 1)]
        assert all(later > earlier for (_, earlier), (_, later) in itertools.pairwise(handled))
        assert delegate.ended == ("emsgsize" if end else None)
        assert peer.protocol._suspender is None

    run(test, factory)


def test_a_node_answers_others_between_the_requests_of_one_read(monkeypatch):
    """Each request is handled in a turn of its own. The one of the third node does not wait for all of them."""
    order = []

    async def ask(me, count, name):
        for number in range(count):
            me.send((Atom("server"), A), (me.pid, number))
        for _ in range(count):
            await me.receive()
            order.append(name)

    async def main():
        network = MemoryNetwork()
        async with started(network, "a@h") as a, started(network, "b@h") as b, started(network, "c@h") as c:
            server = a.spawn_handler(lambda message: server.send(message[0], message[1]), name="server")
            await b.connect("a@h")
            await c.connect("a@h")
            monkeypatch.setattr("erlmesh.runtime.router.MAX_READ_SECONDS", 0.0)
            b.spawn(ask, 500, "many")
            c.spawn(ask, 1, "one")
            while len(order) < 501:
                await asyncio.sleep(0.01)

    run_coroutine(main())

    assert order.count("many") == 500
    assert order.index("one") < 50
