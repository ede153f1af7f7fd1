"""A peer that does not read what this node answers is not read from, and stays connected while it is alive."""

import asyncio
import logging
import socket

import pytest
from memory_network import MemoryNetwork, started
from test_backpressure import read_all
from test_dist_protocol import LOCAL, REMOTE, StallingLoop, established, iterations, run
from test_dist_socket import on_every_loop

from erlmesh.core.read_suspension import (
    MARK,
    MARK_STEP,
    MAX_PATIENCE,
    MIN_PATIENCE,
    UNANSWERED_BYTES,
    ReadSuspension,
)
from erlmesh.net.dist_protocol import HIGH_WATER, SEND_QUEUE_FULL
from erlmesh.proto.control import Send
from erlmesh.terms import Atom, Pid
from erlmesh.testing.loop import run_coroutine

HERE, THERE = Pid(Atom(LOCAL), 90, 0, 1), Pid(Atom(REMOTE), 91, 0, 1)
REQUEST = Send(THERE, HERE, bytes(10_000))
ANSWER = bytes(1 << 16)
TICK = bytes(4)

# Decisions


def test_reading_is_suspended_when_much_waits_for_the_peer():
    state = ReadSuspension(60.0)

    assert not state.after_read(MARK, 10, 0, 0.0)
    assert state.after_read(MARK + 1, 20, 0, 0.0)


def test_reading_is_suspended_when_the_peer_sends_much_and_takes_nothing():
    state = ReadSuspension(60.0)

    assert not state.after_read(HIGH_WATER, 10, 5, 0.0)
    assert not state.after_read(HIGH_WATER, 10 + UNANSWERED_BYTES, 5, 0.0)
    assert not state.after_read(HIGH_WATER, 2 * UNANSWERED_BYTES, 6, 0.0)
    assert state.after_read(HIGH_WATER, 3 * UNANSWERED_BYTES + 1, 6, 0.0)


def test_reading_stays_suspended_while_the_peer_takes_something():
    state = ReadSuspension(60.0)
    state.after_read(2 * MARK, 0, 0, 0.0)
    now = 0.0
    for taken in range(1, 100):
        now = state.next_check
        assert state.check(2 * MARK, taken, now)

    assert now <= 15.0


def test_a_suspension_ends_after_a_quarter_of_the_tick_time_and_one_read_follows():
    state = ReadSuspension(60.0)
    state.after_read(2 * MARK, 0, 0, 0.0)

    assert state.check(2 * MARK, 1, 14.9)
    assert not state.check(2 * MARK, 2, 15.0)
    assert state.after_read(2 * MARK, 1, 2, 15.0)


def test_each_suspension_without_progress_raises_the_mark_and_doubles_the_patience():
    state = ReadSuspension(60.0)
    queued, now, ends = MARK + 1, 0.0, []
    for _ in range(8):
        assert state.after_read(queued, 0, 0, now)
        assert state.check(queued, 0, now)
        ends.append(state.next_check - now)
        now = state.next_check
        assert not state.check(queued, 0, now)
        assert not state.after_read(queued + MARK_STEP, 0, 0, now)
        queued += MARK_STEP + 1

    assert ends == pytest.approx([min(MIN_PATIENCE * 2**each, MAX_PATIENCE) for each in range(8)])


def test_progress_makes_the_patience_short_again():
    state = ReadSuspension(60.0)
    state.after_read(2 * MARK, 0, 0, 0.0)
    state.check(2 * MARK, 0, MIN_PATIENCE)
    state.after_read(4 * MARK, 0, 0, 1.0)
    assert state.next_check == 1.0 + 2 * MIN_PATIENCE
    state.check(4 * MARK, 1, 2.0)

    assert state.next_check == 2.0 + MIN_PATIENCE


def test_a_drained_connection_starts_again():
    state = ReadSuspension(60.0)
    state.after_read(2 * MARK, 0, 0, 0.0)
    state.check(2 * MARK, 0, MIN_PATIENCE)
    state.after_read(3 * MARK, 0, 0, MIN_PATIENCE)
    state.drained()

    assert state.after_read(MARK + 1, 0, 0, 1.0)
    assert state.next_check == 1.0 + MIN_PATIENCE


def test_with_a_short_tick_time_the_patience_is_short():
    state = ReadSuspension(0.16)
    state.after_read(2 * MARK, 0, 0, 0.0)

    assert state.next_check == pytest.approx(0.01)


# One connection on a socket


@pytest.fixture
def patient(monkeypatch):
    """A suspension does not end before the peer reads, however long the test takes."""
    monkeypatch.setattr("erlmesh.core.read_suspension.MIN_PATIENCE", 1000.0)
    monkeypatch.setattr("erlmesh.core.read_suspension.MAX_PATIENCE", 1000.0)


async def asking(count, request=REQUEST, **options):
    """Return a peer that has asked ``count`` times, and whose requests are answered as long as they are read."""
    peer = await established(**options)
    # Without it, the kernel may hold a tick back until the acknowledgement of the data before it.
    peer.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    delegate, record = peer.delegate, peer.delegate.signals_received

    def answer(protocol, signals):
        for handled, signal in enumerate(signals, 1):
            record(protocol, [signal])
            protocol.send_message(HERE, THERE, ANSWER)
            if protocol.overfull:
                return signals[handled:]
        return []

    delegate.signals_received = answer
    for _ in range(count):
        peer.channel.send(request)
    peer.sending = asyncio.ensure_future(peer.write(peer.channel.data_to_send(0.0)))
    async with asyncio.timeout(60):
        while peer.protocol._suspender is None or not peer.protocol._suspender.is_suspended:
            await asyncio.sleep(0.001)
    return peer


async def read_answers(peer, count):
    """Read until the peer has got ``count`` answers."""
    loop, answers = asyncio.get_running_loop(), 0
    while answers < count:
        answers += len(peer.channel.receive_data(await loop.sock_recv(peer.connection, 1 << 20), 0.0))
    return answers


@on_every_loop
@pytest.mark.usefixtures("patient")
def test_a_peer_that_does_not_read_is_not_read_from_until_it_reads(factory):
    async def test(_loop):
        peer = await asking(800, ticktime=1000.0)
        handled = len(peer.delegate.received)
        await iterations(50)

        assert len(peer.delegate.received) == handled < 600
        assert peer.protocol.channel.pending < 64 << 20
        assert await read_answers(peer, 800) == 800
        await peer.sending
        assert len(peer.delegate.received) == 800
        assert peer.delegate.ended is None

    run(test, factory)


@on_every_loop
@pytest.mark.usefixtures("patient")
def test_what_a_thread_has_read_waits_too(factory):
    async def test(_loop):
        peer = await asking(800, ticktime=1000.0)
        handled = len(peer.delegate.received)
        peer.protocol._socket.shared.serve_from_thread()
        await iterations(50)

        assert len(peer.delegate.received) == handled
        assert peer.protocol._socket.shared.buffered
        assert await read_answers(peer, 800) == 800
        await peer.sending

    run(test, factory)


def test_a_peer_that_never_reads_ends_at_the_limit_of_the_queue():
    async def test(loop):
        peer = await asking(800, send_queue_limit=24 << 20)
        suspensions = 0
        while peer.delegate.ended is None:
            suspensions += peer.protocol._suspender.is_suspended
            loop.stall(1.0)
            await iterations()

        assert suspensions >= 2
        assert peer.delegate.ended == SEND_QUEUE_FULL
        await asyncio.wait([peer.sending])
        peer.sending.exception()

    run(test, StallingLoop)


def test_a_peer_that_reads_nothing_but_sends_ticks_is_not_lost():
    async def test(loop):
        peer = await asking(200, ticktime=8.0, send_queue_limit=1 << 30)
        await peer.sending
        for _ in range(100):
            await peer.write(TICK)
            loop.stall(1.0)
            await iterations()

        assert peer.delegate.ended is None
        assert peer.protocol.channel.statistics().ticks_in > 50

    run(test, StallingLoop)


def test_a_slow_reader_that_sends_ticks_is_not_lost():
    async def test(loop):
        peer = await asking(200, ticktime=8.0)
        await peer.sending
        for _ in range(40):
            await peer.write(TICK)
            await loop.sock_recv(peer.connection, 1 << 12)
            loop.stall(1.0)
            await iterations()

        assert peer.delegate.ended is None

    run(test, StallingLoop)


def test_data_that_waits_in_the_socket_is_read_before_a_timeout():
    async def test(loop):
        peer = await asking(200, ticktime=8.0)
        await peer.sending
        handled = len(peer.delegate.received)
        peer.channel.send(REQUEST)
        await peer.write(peer.channel.data_to_send(0.0))
        loop.stall(9.0)
        await iterations(10)

        assert peer.delegate.ended is None
        assert len(peer.delegate.received) > handled

    run(test, StallingLoop)


def test_a_suspended_connection_closes_without_a_timer():
    async def test(_loop):
        peer = await asking(800)
        peer.protocol.close()

        assert peer.protocol._suspender._timer is None
        peer.sending.cancel()

    run(test)


SHORT = Send(THERE, HERE, b"x")


@on_every_loop
@pytest.mark.usefixtures("patient")
def test_many_short_requests_of_one_read_wait_for_each_other(factory):
    """128 MiB of answers to 100 KB of requests: more than the limit of what may wait."""

    async def test(_loop):
        peer = await asking(2000, SHORT, ticktime=1000.0)
        handled, pending = len(peer.delegate.received), [peer.protocol.channel.pending]
        await iterations(50)
        assert len(peer.delegate.received) == handled < 300
        loop, answers = asyncio.get_running_loop(), 0
        while answers < 2000:
            answers += len(peer.channel.receive_data(await loop.sock_recv(peer.connection, 1 << 20), 0.0))
            pending.append(peer.protocol.channel.pending)

        assert max(pending) < MARK + 2 * HIGH_WATER
        assert len(peer.delegate.received) == 2000
        assert peer.protocol._postponed == []
        assert peer.delegate.ended is None
        await peer.write(peer.channel.data_to_send(0.0) + TICK)

    run(test, factory)


def test_signals_that_wait_keep_their_order_and_the_end_of_the_connection():
    async def test(_loop):
        peer = await established(ticktime=1000.0)
        delegate, order = peer.delegate, []

        def answer(protocol, signals):
            for handled, signal in enumerate(signals, 1):
                order.append(signal.message)
                protocol.send_message(HERE, THERE, ANSWER)
                if protocol.overfull:
                    return signals[handled:]
            return []

        delegate.signals_received = answer
        for number in range(300):
            peer.channel.send(Send(THERE, HERE, number))
        await peer.write(peer.channel.data_to_send(0.0) + b"\xff\xff\xff\xff")
        reading = asyncio.ensure_future(read_all(peer.connection, []))
        assert await delegate.events.get() == "lost"
        await reading

        assert order == list(range(300))
        assert delegate.ended == "emsgsize"

    run(test)


def test_a_peer_whose_signals_wait_is_not_lost():
    async def test(loop):
        peer = await asking(2000, SHORT, ticktime=8.0, send_queue_limit=1 << 30)
        for _ in range(20):
            loop.stall(1.0)
            await iterations()

        assert peer.protocol._postponed
        assert peer.delegate.ended is None

    run(test, StallingLoop)


# Nodes


def test_two_nodes_that_do_not_read_from_each_other_answer_everything(caplog):
    """Each answers requests of the other, and both answers fill the connection at once."""
    count, names, ended, suspended = 300, ("a@h", "b@h"), [], []

    async def client(me, peer):
        for number in range(count):
            me.send((Atom("server"), Atom(peer)), (me.pid, number))
        for _ in range(count):
            await me.receive(timeout=30)
        ended.append(asyncio.get_running_loop().time())

    async def main():
        network = MemoryNetwork()
        async with started(network, names[0], net_ticktime=8.0) as a, started(network, names[1], net_ticktime=8.0) as b:
            for node in (a, b):
                servers[node] = node.spawn_handler(
                    lambda message, node=node: servers[node].send(message[0], bytes(100_000)), name="server"
                )
            await a.connect(names[1])
            began = asyncio.get_running_loop().time()
            a.spawn(client, names[1])
            b.spawn(client, names[0])
            while len(ended) < 2:
                await asyncio.sleep(0.01)
                for node, peer in ((a, names[1]), (b, names[0])):
                    suspender = node._connections.connection(peer).protocol._suspender
                    suspended.append(suspender is not None and suspender.is_suspended)

            assert max(ended) - began < 4.0  # 30 MB in each direction
            assert a.nodes() == [names[1]]
            assert b.nodes() == [names[0]]

    servers = {}
    with caplog.at_level(logging.INFO, "erlmesh"):
        run_coroutine(main())
    assert any(suspended)
    assert not [record for record in caplog.records if record.message.startswith("lost")]
