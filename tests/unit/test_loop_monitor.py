"""Reports of blocked event loops between nodes, and which nodes have a watchdog thread."""

import asyncio

import pytest
from memory_network import MemoryNetwork, started
from test_dist_socket import on_every_loop
from test_watchdog_thread import watchdog_threads

from erlmesh.net.native_watchdog import TEMPLATE_SECONDS
from erlmesh.net.resolvers import NoEpmd
from erlmesh.runtime.config import NodeConfig
from erlmesh.runtime.runtime import Runtime
from erlmesh.terms import Atom
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B = Atom("a@h"), Atom("b@h")
BLOCKED, RECOVERED, ERLMESH = Atom("loop_blocked"), Atom("loop_recovered"), Atom("erlmesh")


def with_two_nodes(test):
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


@with_two_nodes
async def test_peer_is_blocked_from_its_report_until_it_recovers(network, a, b):
    a.send((ERLMESH, B), (BLOCKED, A, 2000))
    await run_iterations()
    assert b.blocked_peers() == {"a@h": 2.0}

    await asyncio.sleep(5)
    assert b.blocked_peers() == {"a@h": 7.0}

    a.send((ERLMESH, B), (RECOVERED, A))
    await run_iterations()
    assert b.blocked_peers() == {}


@with_two_nodes
async def test_node_reports_to_its_peers_with_these_messages(network, a, b):
    loop_monitor = a._instance.loop_monitor
    (protocol,) = loop_monitor.connections()
    protocol.channel.send(loop_monitor.blocked_signal(2.5))
    a.send((ERLMESH, B), Atom("flush"))
    await run_iterations()
    assert b.blocked_peers() == {"a@h": 2.5}

    loop_monitor.loop_recovered()
    await run_iterations()
    assert b.blocked_peers() == {}


@with_two_nodes
async def test_report_ends_with_the_number_that_a_native_thread_replaces(network, a, b):
    loop_monitor = a._instance.loop_monitor
    (protocol,) = loop_monitor.connections()

    frame = protocol.channel.encode_standalone(loop_monitor.blocked_signal(TEMPLATE_SECONDS))

    assert frame.endswith(b"b" + (1 << 30).to_bytes(4, "big"))


@with_two_nodes
async def test_lost_peer_is_not_blocked(network, a, b):
    a.send((ERLMESH, B), (BLOCKED, A, 2000))
    await run_iterations()
    b.disconnect("a@h")

    assert b.blocked_peers() == {}


@pytest.mark.parametrize(
    "message",
    [
        (BLOCKED, Atom("unknown@h"), 5),
        (BLOCKED, A, -1),
        (BLOCKED, A, 1 << 2000),
        (BLOCKED, A, 1.5),
        (BLOCKED, b"a@h", 5),
        (BLOCKED, A),
        (RECOVERED, 1),
        (RECOVERED, Atom("unknown@h")),
        b"",
        [],
    ],
)
def test_invalid_reports_are_ignored(message):
    @with_two_nodes
    async def test(network, a, b):
        a.send((ERLMESH, B), message)
        await run_iterations()
        assert b.blocked_peers() == {}

    test()


@with_two_nodes
async def test_network_in_memory_has_no_watchdog(network, a, b):
    assert not watchdog_threads()
    (protocol,) = a._instance.loop_monitor.connections()
    assert protocol.last_written_at() is None
    assert protocol.write_from_thread(None) is False


def real_node(name, resolver):
    options = {"cookie": "monster", "net_ticktime": 1.0, "listen": "127.0.0.1", "reconnect": False}
    return Runtime(NodeConfig(f"{name}@127.0.0.1", **options, epmd=NoEpmd(), resolver=resolver))


class FixedPorts:
    """A resolver that knows the nodes of this test."""

    def __init__(self):
        self.ports = {}

    async def resolve(self, name):
        return "127.0.0.1", self.ports[name]


@on_every_loop
def test_node_on_a_real_network_has_a_watchdog_from_start_to_stop(factory):
    async def main():
        resolver = FixedPorts()
        one, two = nodes = real_node("one", resolver), real_node("two", resolver)
        try:
            for node in nodes:
                await node.start()
                resolver.ports[node.name] = node.port
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
