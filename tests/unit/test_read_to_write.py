"""A read, the steps of the processes that it wakes up, and one write: all in one call of the protocol."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import pytest
from memory_network import MemoryNetwork, started

from erlmesh.runtime import node_state, wakeups
from erlmesh.terms import Atom
from erlmesh.testing import connection as connection_module
from erlmesh.testing.loop import run_coroutine as run
from erlmesh.testing.loop import run_iterations

A, B = Atom("a@h"), Atom("b@h")
KILL = Atom("kill")


class Connected:
    """Two connected nodes. ``log`` has what ``b`` does: the start and end of each read, each write, and notes."""

    def __init__(self, a, b, end):
        self.a, self.b, self.log = a, b, []
        self.protocol = end._protocol
        receive, write = self.protocol.data_received, end.write

        def data_received(data):
            self.log.append("read")
            receive(data)
            self.log.append("end")

        def write_data(data):
            self.log.append("write")
            write(data)

        self.protocol.data_received, end.write = data_received, write_data

    async def from_a(self, send):
        """Let a process on ``a`` call ``send(me)``. Return what ``b`` did until both are idle."""

        async def sender(me):
            send(me)
            async for _ in me:
                pass

        self.a.spawn(sender)
        await run_iterations()
        return self.log


@asynccontextmanager
async def connected():
    network = MemoryNetwork()
    async with started(network, "a@h") as a, started(network, "b@h") as b:
        await a.connect("b@h")
        await run_iterations()
        yield Connected(a, b, network.pipes[-1].ends[1])


@pytest.fixture(autouse=True)
def whole_reads(monkeypatch):
    """Deliver each write as one read."""
    monkeypatch.setattr(connection_module, "SPLIT_PROBABILITY", 0.0)


def with_connected_nodes(test):
    def wrapped():
        async def main():
            async with connected() as nodes:
                await test(nodes)

        run(main())

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped


def echo(nodes, name):
    """Start a process on ``b`` that logs and returns each message to its sender."""

    async def body(me):
        async for sender, message in me:
            nodes.log.append(message.name)
            me.send(sender, message)

    return nodes.b.spawn(body, name=name)


@with_connected_nodes
async def test_replies_of_all_woken_processes_leave_in_one_write_of_the_same_read(nodes):
    for name in "xyz":
        echo(nodes, name)
    await run_iterations()

    log = await nodes.from_a(lambda me: [me.send((name, B), (me.pid, Atom(name))) for name in "xyz"])

    assert log == ["read", "x", "y", "z", "write", "end"]


@with_connected_nodes
async def test_a_reply_that_needs_a_local_call_leaves_in_the_same_read(nodes):
    async def server(me):
        async for _, caller, request in me:
            me.reply(caller, request + 1)

    async def front(me):
        async for sender, number in me:
            me.send(sender, await me.call("server", number))

    nodes.b.spawn(server, name="server")
    nodes.b.spawn(front, name="front")
    await run_iterations()

    assert await nodes.from_a(lambda me: me.send(("front", B), (me.pid, 1))) == ["read", "write", "end"]


@with_connected_nodes
async def test_a_process_without_a_task_replies_in_the_same_read(nodes):
    async def body(me, sender):
        nodes.log.append("runs")
        me.send(sender, Atom("done"))

    nodes.b._instance.spawn_server.bodies["m", "f", 1] = body

    async def parent(me):
        await me.spawn_remote(B, "m", "f", [me.pid])
        await me.receive()

    nodes.a.spawn(parent)
    await run_iterations()

    assert nodes.log == ["read", "runs", "write", "end"]


@with_connected_nodes
async def test_an_exit_signal_later_in_the_read_terminates_the_process_before_its_step(nodes):
    seen = []

    async def body(me):
        try:
            seen.append(await me.receive())
        finally:
            seen.append("ends")

    pid = nodes.b.spawn(body, name="x")
    await run_iterations()

    await nodes.from_a(lambda me: (me.send(pid, 1), me.exit(pid, KILL)))

    assert seen == ["ends"]
    assert nodes.log == ["read", "end"]


@with_connected_nodes
async def test_messages_and_exits_of_one_read_are_received_in_order(nodes):
    seen = []

    async def body(me):
        me.trap_exit = True
        while True:
            message = await me.receive()
            seen.append(message if type(message) is int else message[2])

    pid = nodes.b.spawn(body)
    await run_iterations()

    await nodes.from_a(lambda me: (me.send(pid, 1), me.exit(pid, Atom("why")), me.send(pid, 2)))

    assert seen == [1, Atom("why"), 2]


@with_connected_nodes
async def test_a_woken_process_that_another_step_kills_gets_no_message(nodes):
    seen = []

    async def killer(me):
        me.exit(await me.receive(), KILL)

    async def victim(me):
        seen.append(await me.receive())

    nodes.b.spawn(killer, name="killer")
    pid = nodes.b.spawn(victim)
    await run_iterations()

    await nodes.from_a(lambda me: (me.send(("killer", B), pid), me.send(pid, 1)))

    assert seen == []
    assert nodes.log == ["read", "end"]


@with_connected_nodes
async def test_a_step_can_disconnect_the_peer_of_the_read(nodes):
    async def disconnect(me):
        await me.receive()
        nodes.b.disconnect("a@h")
        nodes.log.append("disconnected")

    nodes.b.spawn(disconnect, name="w")
    echo(nodes, "x")
    await run_iterations()

    log = await nodes.from_a(lambda me: [me.send((name, B), (me.pid, Atom(name))) for name in "wx"])

    # The write tells the peer that the node disconnects on purpose. The reply of "x" makes a new connection.
    assert log == ["read", "write", "disconnected", "x", "end"]
    assert nodes.b.nodes() == ["a@h"]


@with_connected_nodes
async def test_two_processes_that_talk_without_end_do_not_hold_the_reply_of_a_third(nodes):
    running = [True]

    async def talker(me):
        async for other in me:
            if running[0]:
                me.send(other, me.pid)

    one, other = nodes.b.spawn(talker, name="one"), nodes.b.spawn(talker)
    echo(nodes, "x")
    await run_iterations()

    log = await nodes.from_a(lambda me: (me.send(one, other), me.send(("x", B), (me.pid, Atom("x")))))
    running[0] = False
    await run_iterations()

    assert log == ["read", "x", "write", "end"]


def test_what_exceeds_the_bound_of_a_round_leaves_in_the_next_iteration(monkeypatch):
    monkeypatch.setattr(node_state, "Wakeups", partial(wakeups.Wakeups, max_steps=2))

    @with_connected_nodes
    async def three_echoes(nodes):
        for name in "xyz":
            echo(nodes, name)
        await run_iterations()

        log = await nodes.from_a(lambda me: [me.send((name, B), (me.pid, Atom(name))) for name in "xyz"])

        assert log == ["read", "x", "y", "write", "end", "z", "write"]

    three_echoes()


@with_connected_nodes
async def test_a_cancelled_receive_in_a_round_loses_no_message(nodes):
    seen = []

    async def canceller(me):
        await me.receive()
        inner[0].cancel()

    async def receiver(me):
        inner[0] = asyncio.ensure_future(me.receive())
        try:
            seen.append(await inner[0])
        except asyncio.CancelledError:
            seen.append("cancelled")
        seen.append(await me.receive())

    inner = [None]
    nodes.b.spawn(canceller, name="canceller")
    pid = nodes.b.spawn(receiver)
    await run_iterations()

    await nodes.from_a(lambda me: (me.send(("canceller", B), 0), me.send(pid, 1)))

    assert seen == ["cancelled", 1]
