"""What waits for a peer is bounded: senders wait, others get turns, and a queue that is full ends the connection."""

import asyncio
import logging
import socket

import pytest
from memory_network import MemoryNetwork, started
from test_dist_protocol import LOCAL, REMOTE, established, iterations, run
from test_dist_socket import on_every_loop

from erlmesh.core import gen
from erlmesh.net.dist_protocol import HIGH_WATER, SEND_QUEUE_FULL, TURN_SIZE
from erlmesh.proto.control import Send
from erlmesh.services.pg.server import Pg
from erlmesh.terms import Atom, Pid
from erlmesh.testing.loop import run_coroutine, run_iterations

HERE, THERE = Pid(Atom(LOCAL), 90, 0, 1), Pid(Atom(REMOTE), 91, 0, 1)
A, B = Atom("a@h"), Atom("b@h")
DATA = bytes(1 << 16)
LIMIT = 4 << 20


def available(connection):
    """Return how many bytes have arrived at the other end, up to 100,000."""
    return len(connection.recv(100_000, socket.MSG_PEEK))


class Sizes(list):
    """Bytes that were new in the queue at each write, and the bytes that the last write has left there."""

    left = 0


async def read_all(connection, received):
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(connection, 1 << 20):
        received.append(len(data))


# One connection on a socket


@on_every_loop
def test_data_is_written_before_the_end_of_the_iteration(factory):
    async def test(_loop):
        peer = await established()
        peer.protocol.send(Send(HERE, THERE, DATA))

        assert available(peer.connection) > 1000
        assert peer.protocol.channel.pending == 0

    run(test, factory)


@on_every_loop
def test_a_sender_waits_after_a_turn_and_others_get_theirs(factory):
    async def test(_loop):
        peer = await established()
        received = []
        reading = asyncio.ensure_future(read_all(peer.connection, received))
        for _ in range(TURN_SIZE // len(DATA)):  # or fewer, if they take long
            peer.protocol.send_message(HERE, THERE, DATA)
        assert peer.protocol.busy

        await peer.protocol.wait_writable()

        assert not peer.protocol.busy
        await iterations()
        assert received
        reading.cancel()

    run(test, factory)


@on_every_loop
def test_each_write_of_an_iteration_waits_for_twice_as_much_up_to_a_limit(factory, monkeypatch):
    monkeypatch.setattr("erlmesh.net.dist_protocol.TURN_TIME", 100)  # only the size ends a turn

    async def test(_loop):
        peer = await established()
        reading = asyncio.ensure_future(read_all(peer.connection, []))
        connected_socket, appended = peer.protocol._socket, []

        def flush(flush=connected_socket.flush, wire=peer.protocol.channel.wire):
            sizes.append(wire.queued - sizes.left)
            sent = flush()
            sizes.left = wire.queued
            return sent

        for _ in range(2):
            sizes = Sizes()
            connected_socket.flush = flush
            while not peer.protocol.busy:
                peer.protocol.send_message(HERE, THERE, DATA[: 1 << 13])
            appended.append([size >> 16 for size in sizes])
            await peer.protocol.wait_writable()
            await iterations()

        assert appended == [[1, 2, 4, 4, 4, 1], [1, 2, 4, 4, 4, 1]]
        reading.cancel()

    run(test, factory)


@on_every_loop
def test_a_sender_that_waits_queues_little_behind_a_slow_reader(factory):
    async def test(_loop):
        peer = await established()
        sizes, received = [], []
        reading = asyncio.ensure_future(read_all(peer.connection, received))
        for _ in range(600):
            peer.protocol.send_message(HERE, THERE, DATA)
            sizes.append(peer.protocol.channel.pending)
            if peer.protocol.busy:
                await peer.protocol.wait_writable()
        peer.protocol.close()
        await reading

        assert max(sizes) <= HIGH_WATER + TURN_SIZE
        assert sum(received) >= 600 * len(DATA)

    run(test, factory)


@on_every_loop
def test_nobody_reads_so_the_connection_ends_at_the_limit(factory):
    async def test(_loop):
        peer = await established(send_queue_limit=LIMIT)
        sent = 0
        while peer.protocol._open_channel is not None:  # a loop without `await`
            peer.protocol.send_message(HERE, THERE, DATA)
            sent += len(DATA)
        assert sent >= LIMIT
        waiting = asyncio.ensure_future(peer.protocol.wait_writable())
        peer.protocol.send_message(HERE, THERE, DATA)
        assert peer.protocol.channel.pending < LIMIT + 2 * len(DATA)

        assert await peer.delegate.events.get() == "lost"

        assert peer.delegate.ended == SEND_QUEUE_FULL
        await waiting
        received = []
        await read_all(peer.connection, received)  # until the end of the stream
        assert sum(received) < sent

    run(test, factory)


@on_every_loop
def test_one_message_may_be_longer_than_the_limit(factory):
    async def test(_loop):
        peer = await established(send_queue_limit=LIMIT)
        received = []
        reading = asyncio.ensure_future(read_all(peer.connection, received))
        for _ in range(3):
            peer.protocol.send_message(HERE, THERE, bytes(3 * LIMIT))
            await peer.protocol.wait_writable()
        peer.protocol.close()
        await reading

        assert sum(received) > 3 * 3 * LIMIT

    run(test, factory)


@on_every_loop
def test_a_stalled_sender_is_resumed_when_the_connection_ends(factory):
    async def test(_loop):
        peer = await established()
        while not peer.protocol._is_paused:
            peer.protocol.send_message(HERE, THERE, DATA)
        waiting = asyncio.ensure_future(peer.protocol.wait_writable())
        await iterations()
        assert not waiting.done()

        peer.connection.close()

        await waiting

    run(test, factory)


# Nodes


def with_silent_peer(test):
    """Call the test with the nodes ``a@h`` and ``b@h``, of which nothing arrives at the other any more."""

    async def main():
        network = MemoryNetwork()
        async with (
            started(network, "a@h", send_queue_limit=LIMIT) as a,
            started(network, "b@h"),
        ):
            await a.connect("b@h")
            (pipe,) = network.open_pipes()
            pipe.silence()
            await test(a)

    run_coroutine(main())


def send_without_end(node):
    """Send in a loop without ``await`` until the connection has ended."""
    sender = node.spawn_handler(lambda _: None)
    for _ in range(2 * LIMIT // len(DATA)):
        sender.send(("server", B), DATA)


def send_from_a_handler(node):
    holder = []
    process = node.spawn_handler(lambda message: holder[0].send(("server", B), message))
    holder.append(process)
    for _ in range(2 * LIMIT // len(DATA)):
        node.send(process.pid, DATA)


@pytest.mark.parametrize("flood", [send_without_end, send_from_a_handler])
def test_a_flood_ends_the_connection_with_one_warning_and_a_nodedown(flood, caplog):
    async def test(a):
        downs = []
        watcher = a.spawn_handler(downs.append)
        watcher.monitor(("server", B))
        with caplog.at_level(logging.INFO, "erlmesh"):
            flood(a)
            await run_iterations()

        assert a.nodes() == []
        assert [message[0] for message in downs] == [Atom("DOWN")]
        assert a._connections.log.last_disconnect_reason("b@h") == SEND_QUEUE_FULL
        assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
            "lost b@h: 4 MiB waited for it, and it did not read them"
        ]

    with_silent_peer(test)


@pytest.mark.parametrize(
    "act",
    [
        lambda me: me.send(Pid(B, 90, 0, 1), 1),
        lambda me: me.cast(("server", B), 1),
        lambda me: me.reply((Pid(B, 90, 0, 1), Atom("tag")), 1),
        lambda me: me.link(Pid(B, 90, 0, 1)),
        lambda me: me.monitor(("server", B)),
        lambda me: me.exit(Pid(B, 90, 0, 1), Atom("boom")),
        lambda me: me.handler.send(("server", B), 1),
    ],
    ids=["send", "cast", "reply", "link", "monitor", "exit", "a handler on its behalf"],
)
def test_every_way_to_send_makes_the_process_wait_for_a_full_connection(act):
    async def test(a):
        trace = []
        handler = a.spawn_handler(lambda _: None)

        class Me:
            """The process ``me`` and a handler that it calls."""

            def __init__(self, me):
                self.me, self.handler = me, handler

            def __getattr__(self, name):
                return getattr(self.me, name)

        async def body(me):
            act(Me(me))
            trace.append("sent")
            await me.drain()
            trace.append("drained")

        protocol = a._connections.connection("b@h").protocol
        protocol.pause_writing()
        a.spawn(body)
        await run_iterations()
        assert trace == ["sent"]
        protocol.resume_writing()
        await run_iterations()

        assert trace == ["sent", "drained"]

    with_silent_peer(test)


def test_publish_to_a_group_makes_the_process_wait_for_a_full_connection():
    async def test(a):
        trace = []
        pg = Pg(a)
        members = [Pid(B, number, 0, 1) for number in range(90, 93)]
        a.send(pg.pid, (Atom("discover"), Pid(B, 80, 0, 1)))
        a.send(pg.pid, gen.cast((Atom("sync"), Pid(B, 80, 0, 1), [("room", members)])))
        await run_iterations()

        async def body(me):
            trace.append(pg.publish("room", DATA))
            await me.drain()
            trace.append("drained")

        protocol = a._connections.connection("b@h").protocol
        protocol.pause_writing()
        a.spawn(body)
        await run_iterations()
        assert trace == [3]
        protocol.resume_writing()
        await run_iterations()

        assert trace == [3, "drained"]

    with_silent_peer(test)


def test_a_process_that_publishes_does_not_queue_more_than_a_full_connection_holds():
    async def test(a):
        pg = Pg(a)
        a.send(pg.pid, (Atom("discover"), Pid(B, 80, 0, 1)))
        a.send(pg.pid, gen.cast((Atom("sync"), Pid(B, 80, 0, 1), [("room", [Pid(B, 90, 0, 1)])])))
        await run_iterations()

        async def body(me):
            while True:
                pg.publish("room", DATA)
                await me.drain()

        a.spawn(body)
        await run_iterations(1000)

        channel = a._connections.connection("b@h").protocol.channel
        assert channel.pending <= HIGH_WATER + 2 * len(DATA)  # the connection is alive: its limit is far away

    with_silent_peer(test)


def test_drain_gives_other_tasks_a_turn():
    async def test(a):
        turns = []

        async def busy(me):
            while not turns:
                await me.drain()

        async def other(_me):
            turns.append(1)

        a.spawn(busy)
        a.spawn(other)
        await run_iterations()

        assert turns

    with_silent_peer(test)
