"""What nodes know of each other's loops; and that a node on a real network is guarded, and one in memory is not."""

import asyncio

import pytest
from memory_network import MemoryNetwork, started
from test_socket_writer import on_every_loop
from test_watchdog_thread import watchdog_threads

from erlmesh.net.resolvers import NoEpmd
from erlmesh.runtime.config import NodeConfig
from erlmesh.runtime.runtime import Runtime
from erlmesh.terms import Atom
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B = Atom("a@h"), Atom("b@h")
BUSY, FREE, OURS = Atom("loop_blocked"), Atom("loop_recovered"), Atom("erlmesh")


def between_two(test):
    def wrapped():
        async def main():
            network = MemoryNetwork()
            async with started(network, "a@h") as a, started(network, "b@h") as b:
                await a.connect("b@h")
                await run_iterations()
                await test(network, a, b)

        run(main())

    wrapped.__name__ = test.__name__
    return wrapped


@between_two
async def test_a_peer_that_says_so_is_busy_until_it_says_that_it_is_free(network, a, b):
    a.send((OURS, B), (BUSY, A, 2000))
    await run_iterations()
    assert b.blocked_peers() == {"a@h": 2.0}

    await asyncio.sleep(5)
    assert b.blocked_peers() == {"a@h": 7.0}

    a.send((OURS, B), (FREE, A))
    await run_iterations()
    assert b.blocked_peers() == {}


@between_two
async def test_a_node_tells_its_peers_in_these_words(network, a, b):
    guarding = a._instance.loop_monitor
    (pump,) = guarding.connections()
    pump.channel.send(guarding.blocked_signal(2.5))
    a.send((OURS, B), Atom("flush"))
    await run_iterations()
    assert b.blocked_peers() == {"a@h": 2.5}

    guarding.loop_recovered()
    await run_iterations()
    assert b.blocked_peers() == {}


@between_two
async def test_who_is_gone_is_busy_no_more(network, a, b):
    a.send((OURS, B), (BUSY, A, 2000))
    await run_iterations()
    b.disconnect("a@h")

    assert b.blocked_peers() == {}


@pytest.mark.parametrize(
    "word",
    [
        (BUSY, Atom("stranger@h"), 5),
        (BUSY, A, -1),
        (BUSY, A, 1 << 2000),
        (BUSY, A, 1.5),
        (BUSY, b"a@h", 5),
        (BUSY, A),
        (FREE, 1),
        (FREE, Atom("stranger@h")),
        b"",
        [],
    ],
)
def test_what_makes_no_sense_is_not_believed(word):
    @between_two
    async def test(network, a, b):
        a.send((OURS, B), word)
        await run_iterations()
        assert b.blocked_peers() == {}

    test()


@between_two
async def test_a_network_in_memory_needs_no_guardian(network, a, b):
    assert not watchdog_threads()
    (pump,) = a._instance.loop_monitor.connections()
    assert pump.last_written_at() is None
    assert pump.write_from_thread(None) is False


def real_node(name, others):
    options = {"cookie": "monster", "net_ticktime": 1.0, "listen": "127.0.0.1", "reconnect": False}
    return Runtime(NodeConfig(f"{name}@127.0.0.1", **options, epmd=NoEpmd(), resolver=others))


class Others:
    """A resolver that knows the nodes of this test."""

    def __init__(self):
        self.ports = {}

    async def resolve(self, name):
        return "127.0.0.1", self.ports[name]


@on_every_loop
def test_a_node_on_a_real_network_is_guarded_from_its_start_to_its_end(factory):
    async def main():
        others = Others()
        one, two = nodes = real_node("one", others), real_node("two", others)
        try:
            for node in nodes:
                await node.start()
                others.ports[node.name] = node.port
            assert await one.connect(two.name)
            assert [thread.name for thread in watchdog_threads()] == ["erlmesh watchdog"]
            await one.stop()
            assert watchdog_threads()
        finally:
            for node in nodes:
                await node.stop()
        assert not watchdog_threads()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
