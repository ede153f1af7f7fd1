"""C nodes (``ei``) and Java nodes (JInterface): they know few signals, and close the connection at any other."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from erlmesh import Atom, CallError, CallTimeout, Map, NoConnection, Node
from foreign_nodes import c_node, compiled_c_node, java_node
from polling import HANG, run, wait_until, wait_until_async

NOCONNECTION, DOWN, EXIT, PROCESS = Atom("noconnection"), Atom("DOWN"), Atom("EXIT"), Atom("process")
ECHO, SELF, RPC, CLOSE = Atom("echo"), Atom("self"), Atom("rpc"), Atom("close")
ECHOED, RESULT, YES = Atom("echoed"), Atom("result"), Atom("yes")


@pytest.fixture(scope="session")
def c_program(tmp_path_factory):
    return compiled_c_node(tmp_path_factory.mktemp("c_node"))


@pytest.fixture
def start(cluster, request):
    """``start("c")`` or ``start("java")``; a C node may get a ``peer`` to connect to."""

    cluster.start_epmd_once()  # before a node of the test starts: it must not become the EPMD

    def start(kind, **options):
        if kind == "c":
            program = request.getfixturevalue("c_program")
            node = c_node(program, "foreign", epmd_port=cluster.epmd_port, **options)
        else:
            node = java_node("foreign", epmd_port=cluster.epmd_port, home=cluster.home)
        cluster.processes.append(node)
        return node

    return start


every_kind = pytest.mark.parametrize("kind", ["c", "java"])


def run_process(body):
    """Run ``body(me)`` as a process of the node socrates."""

    async def main():
        async with Node("socrates@127.0.0.1", cookie="monster") as node:
            await node.run(body)

    run(main())


async def ask(me, peer, command, key, argument=0):
    """Send a command to the foreign node, and return the value of its answer ``{Key, Value}``."""
    me.send(peer.server, (command, me.pid, argument))
    return (await me.receive(lambda message: message[0] is key, timeout=HANG))[1]


async def assert_connected(me, peer):
    """The foreign node has handled all signals so far, and the connection has not ended."""
    assert await ask(me, peer, ECHO, ECHOED, Atom("still_here")) is Atom("still_here")
    assert me.node.nodes(hidden=True) == [peer.name]
    assert not peer.logged("CLOSED")
    assert not peer.logged("DOWN")


@every_kind
def test_a_ping_is_answered(start, kind):
    async def body(me):
        assert await me.node.ping(peer.name)
        await assert_connected(me, peer)

    peer = start(kind)
    run_process(body)


@every_kind
def test_calls_and_messages_are_answered(start, kind):
    async def body(me):
        assert await me.call(peer.server, Atom("question")) is YES
        for term in (1, -5, 1.5, 1 << 70, [1, [b"two"]], Map({Atom("key"): [b"value"]}), (Atom("é"), b"x" * 100_000)):
            assert await ask(me, peer, ECHO, ECHOED, term) == term
        pid = await ask(me, peer, SELF, SELF)
        assert await me.call(pid, Atom("question")) is YES
        await assert_connected(me, peer)

    peer = start(kind)
    run_process(body)


@every_kind
def test_a_monitor_ends_with_the_connection(start, kind):
    async def body(me):
        pid = await ask(me, peer, SELF, SELF)
        by_name, by_pid, removed = me.monitor(peer.server), me.monitor(pid), me.monitor(pid)
        me.demonitor(removed)
        await assert_connected(me, peer)

        peer.kill()

        downs = [await me.receive(timeout=HANG) for _ in range(2)]
        assert (DOWN, by_name, PROCESS, peer.server, NOCONNECTION) in downs
        assert (DOWN, by_pid, PROCESS, pid, NOCONNECTION) in downs

    peer = start(kind)
    run_process(body)


@every_kind
def test_a_call_without_an_answer_leaves_the_connection(start, kind):
    async def body(me):
        await assert_connected(me, peer)
        peer.stop()
        with pytest.raises(CallTimeout):
            await me.call(peer.server, Atom("question"), timeout=0.1)
        peer.cont()
        await assert_connected(me, peer)

    peer = start(kind)
    run_process(body)


@every_kind
def test_a_call_ends_when_the_node_is_lost(start, kind):
    async def body(me):
        await assert_connected(me, peer)
        peer.stop()
        asyncio.get_running_loop().call_soon(os.kill, peer.pid, signal.SIGKILL)
        with pytest.raises(NoConnection):
            await me.call(peer.server, Atom("question"), timeout=None)

    peer = start(kind)
    run_process(body)


@every_kind
def test_starting_a_process_there_is_refused(start, kind):
    async def body(me):
        with pytest.raises(CallError, match="notsup"):  # the request waits for the connection
            await me.spawn_remote(peer.name, "lists", "sum", [[1]])
        with pytest.raises(CallError, match="notsup"):
            await me.spawn_remote(peer.name, "lists", "sum", [[1]], link=True, monitor=True)
        me.node.rpc.cast(peer.name, "lists", "sum", [[1]])
        await assert_connected(me, peer)

    peer = start(kind)
    run_process(body)


@every_kind
def test_links_and_exit_signals_leave_the_connection(start, kind):
    async def body(me):
        me.trap_exit = True
        pid = await ask(me, peer, SELF, SELF)
        me.link(pid)
        me.unlink(pid)
        me.link(pid)
        child = me.spawn(idle)
        me.node.exit(child, Atom("reason"))
        me.send((Atom("unknown"), peer.atom), 1)
        await assert_connected(me, peer)

        peer.kill()

        assert await me.receive(timeout=HANG) == (EXIT, pid, NOCONNECTION)

    async def idle(me):
        async for _ in me:
            pass

    peer = start(kind)
    run_process(body)


@every_kind
def test_the_foreign_node_calls_our_functions(start, kind):
    def add(first, second):
        return first + second

    async def body(me):
        me.node.expose(add, as_="sums")
        assert await ask(me, peer, RPC, RESULT, (Atom("sums"), Atom("add"), [2, 3])) == 5
        assert (await ask(me, peer, RPC, RESULT, (Atom("sums"), Atom("unknown"), [2])))[0] is Atom("badrpc")
        await assert_connected(me, peer)

    peer = start(kind)
    run_process(body)


def test_links_with_a_java_process_work(start):
    async def body(me):
        me.trap_exit = True
        pid = await ask(me, peer, SELF, SELF)
        me.link(pid)
        me.send(peer.server, (CLOSE, me.pid, Atom("finished")))
        assert await me.receive(timeout=HANG) == (EXIT, pid, Atom("finished"))

        child = me.spawn(waiting)
        me.send(peer.server, (Atom("link"), child, 0))
        await assert_connected(me, peer)
        me.node.exit(child, Atom("stopped"))
        await wait_until_async(lambda: peer.logged("EXIT stopped"))

        child = me.spawn(waiting)
        ref = me.monitor(child)
        me.send(peer.server, (Atom("exit"), child, Atom("ordered")))
        assert await me.receive(timeout=HANG) == (DOWN, ref, PROCESS, child, Atom("ordered"))
        await assert_connected(me, peer)

    async def waiting(me):
        await me.receive()

    peer = start("java")
    run_process(body)


def test_a_c_node_that_connects_to_us_is_served(start):
    async def body(me):
        peer = await wait_for_peer()
        await assert_connected(me, peer)
        assert await me.node.ping(peer.name)
        me.monitor(peer.server)
        await assert_connected(me, peer)

    async def wait_for_peer():
        return await asyncio.to_thread(start, "c", peer="socrates@127.0.0.1")

    run_process(body)


@every_kind
def test_a_beam_does_the_same(start, beam, kind):
    """Our tests expect what a BEAM does towards such a node."""
    peer = start(kind)
    plato = beam("plato")
    assert plato.ping(peer.name)
    plato.eval("Self = self(), Ref = monitor(process, Server)", Server=peer.server)
    assert plato.eval("spawn_request(Node, lists, sum, [[1]], []), receive M -> M end", Node=peer.atom)[2:] == (
        Atom("error"),
        Atom("notsup"),
    )
    assert plato.eval("gen_server:call(Server, question)") is YES

    peer.kill()

    wait_until(lambda: plato.nodes() == set())
    assert plato.eval("receive {'DOWN', Ref, process, Server, Reason} -> Reason end") is NOCONNECTION
