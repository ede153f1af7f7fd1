"""After a stall, a node reads the data that has arrived before it lets a peer time out.

A stall is a jump of the loop's clock, so the tests do not wait. On loops with a clock that cannot be moved, the stall
is real.
"""

import asyncio
import secrets
import select
import socket
import threading
import time
from typing import ClassVar

import pytest
from test_dist_socket import on_every_loop

from erlmesh.net.dist_protocol import DistProtocol
from erlmesh.proto.channel import Channel
from erlmesh.proto.control import SendName
from erlmesh.proto.flags import OFFERED
from erlmesh.proto.handshake import LocalNode, Status, accept, initiate
from erlmesh.proto.handshake_driver import SETUP_TIMEOUT, HandshakeDriver
from erlmesh.runtime.wakeups import Wakeups
from erlmesh.terms import Atom, Pid

LOCAL, REMOTE = "local@h", "remote@h"
TICK = bytes(4)
TICKTIME = 8.0
MESSAGE = SendName(Pid(Atom(REMOTE), 90, 0, 9), Atom("x"), b"." * 1000)


def local_node(name):
    return LocalNode(name, 1, lambda _: "monster", lambda: secrets.randbits(32), set(), OFFERED)


class StallingLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock that can jump."""

    stalled_for = 0.0

    def time(self):
        return super().time() + self.stalled_for

    def stall(self, seconds):
        self.stalled_for += seconds


class Delegate:
    """Records the events of one connection. Handling received signals takes ``cost`` seconds."""

    def __init__(self, ticktime, cost=0.0):
        self.ticktime = ticktime
        self.cost = cost
        self.loop = asyncio.get_running_loop()
        self.received = []
        self.events = asyncio.Queue()
        self.ended = None

    def transport_connected(self, protocol):
        pass

    def handshake_completed(self, protocol, event, now):
        return Channel(event.name, LOCAL, event.flags, now=now, net_ticktime=self.ticktime)

    def connection_ready(self, protocol):
        protocol.run_round = Wakeups().run_round
        self.events.put_nowait("ready")

    def signals_received(self, protocol, signals):
        self.received += signals
        if self.cost:
            self.loop.stall(self.cost)
        self.events.put_nowait("signals")

    def handshake_failed(self, protocol, error):
        self.ended = str(error)
        self.events.put_nowait("failed")

    def connection_lost(self, protocol, reason, detail):
        self.ended = reason
        self.events.put_nowait("lost")


class Peer:
    """The remote end of a connection, on a plain socket."""

    all: ClassVar[list["Peer"]] = []

    def __init__(self, connection, protocol, delegate):
        self.all.append(self)
        self.connection, self.protocol, self.delegate = connection, protocol, delegate
        self.handshake = HandshakeDriver(
            accept(local_node(REMOTE), lambda _name, _flags: Status.OK), now=0.0, timeout=float("inf")
        )
        self.channel = Channel(LOCAL, REMOTE, OFFERED, now=0.0)

    async def read(self):
        """Read the handshake data that has arrived. Return the events."""
        loop = asyncio.get_running_loop()
        return self.handshake.receive_data(await loop.sock_recv(self.connection, 1 << 16), 0.0)

    async def write(self, data):
        await asyncio.get_running_loop().sock_sendall(self.connection, data)

    async def complete_handshake(self):
        while True:
            events = await self.read()
            await self.write(self.handshake.data_to_send())
            if events:
                assert await self.delegate.events.get() == "ready"
                return

    def write_now(self, data):
        """Write without running the loop. The data is in the local socket when this returns."""
        self.connection.setblocking(True)
        self.connection.sendall(data)
        self.connection.setblocking(False)
        arrival = select.poll()
        arrival.register(self.protocol._socket.fd, select.POLLIN)
        assert arrival.poll(10_000)

    def messages(self, count):
        for _ in range(count):
            self.channel.send(MESSAGE)
        return self.channel.data_to_send(0.0)

    def timer(self):
        """Return when the local end checks for a timeout next."""
        return self.protocol._timer.when()


async def connected(ticktime=TICKTIME, *, cost=0.0, **options):
    """Return a peer before the handshake. ``options`` are those of the protocol."""
    loop = asyncio.get_running_loop()
    delegate = Delegate(ticktime, cost)
    handshake = HandshakeDriver(initiate(local_node(LOCAL), REMOTE, lambda: True), now=loop.time())
    protocol = DistProtocol(handshake, delegate, **options)
    with socket.create_server(("127.0.0.1", 0)) as server:
        await loop.create_connection(lambda: protocol, *server.getsockname())
        connection, _ = server.accept()
    connection.setblocking(False)
    return Peer(connection, protocol, delegate)


async def established(ticktime=TICKTIME, **options):
    """Return a peer after the handshake."""
    peer = await connected(ticktime, **options)
    await peer.complete_handshake()
    return peer


def run(test, factory=StallingLoop):
    async def main():
        try:
            await test(asyncio.get_running_loop())
        finally:
            while Peer.all:
                peer = Peer.all.pop()
                peer.protocol.close()
                peer.connection.close()
            await iterations()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def iterations(count=6):
    for _ in range(count):
        await asyncio.sleep(0)


def test_data_that_arrived_in_a_stall_counts_if_the_timer_is_due_in_the_same_iteration():
    async def test(loop):
        peer = await established()

        def stall():
            peer.write_now(TICK)
            loop.stall(3 * TICKTIME)

        loop.call_at(peer.timer() - 0.001, stall)
        loop.stall(TICKTIME / 4 + 1)  # both are due now, and `stall` runs first
        await iterations()

        assert peer.delegate.ended is None

    run(test)


def test_data_that_arrived_in_a_stall_counts_if_the_timer_is_due_in_the_next_iteration():
    async def test(loop):
        peer = await established()

        peer.write_now(TICK)
        loop.stall(3 * TICKTIME)
        await iterations()

        assert peer.delegate.ended is None

    run(test)


def test_data_that_arrived_in_a_short_stall_counts():
    """The stall is too short to be detected."""

    async def test(loop):
        peer = await established()
        await asyncio.sleep(0)
        loop.stall(TICKTIME - 0.5)
        await iterations()
        assert peer.delegate.ended is None

        def stall():
            peer.write_now(TICK)
            loop.stall(0.5)

        loop.call_at(peer.timer() - 0.001, stall)
        loop.stall(0.6)
        await iterations()

        assert peer.delegate.ended is None

    run(test)


def test_peers_stay_connected_while_much_data_is_read():
    async def test(loop):
        peers = [await established(cost=1.0) for _ in range(30)]
        for peer in peers:
            peer.write_now(peer.messages(1500))  # more than one read returns

        loop.stall(3 * TICKTIME)
        for peer in peers:
            while len(peer.delegate.received) < 1500:
                assert await peer.delegate.events.get() == "signals"

    run(test)


def test_a_peer_idle_during_a_stall_gets_the_time_of_one_tick():
    async def test(loop):
        peer = await established()

        loop.stall(3 * TICKTIME)
        await iterations()
        assert peer.delegate.ended is None

        loop.stall(TICKTIME / 4)
        await iterations()
        assert peer.delegate.ended == "net_tick_timeout"

    run(test)


def serve_from_a_thread(peer):
    thread = threading.Thread(target=peer.protocol._socket.shared.serve_from_thread)
    thread.start()
    thread.join()


@pytest.mark.parametrize("late", [0.0, 0.3, 3.0, 60.0])
def test_data_that_a_thread_has_read_prevents_a_timeout_and_is_handled(late):
    async def test(loop):
        peer = await established()
        peer.write_now(peer.messages(3))
        serve_from_a_thread(peer)
        assert peer.protocol._socket.shared.buffered > 3000

        loop.stall(TICKTIME + late)
        await iterations()

        assert peer.delegate.received == [MESSAGE] * 3
        assert peer.delegate.ended is None
        assert peer.protocol.channel.statistics().bytes_in > 3000

    run(test)


class ReadByThread:
    """A shared socket from which a thread has read at this time."""

    def __init__(self, shared, now):
        self._shared, self.last_thread_read_at = shared, now

    def __getattr__(self, name):
        return getattr(self._shared, name)


def test_the_time_of_the_last_read_of_a_thread_counts():
    async def test(loop):
        peer = await established()
        loop.stall(TICKTIME * 0.9)
        peer.protocol._socket.shared = ReadByThread(peer.protocol._socket.shared, loop.time())
        loop.stall(TICKTIME / 4 - 0.1)
        await iterations()
        assert peer.delegate.ended is None

    run(test)


def test_an_idle_peer_times_out():
    async def test(loop):
        peer = await established()
        for _ in range(4):
            assert peer.delegate.ended is None
            loop.stall(TICKTIME / 4)
            await iterations()

        assert peer.delegate.ended == "net_tick_timeout"

    run(test)


def test_a_tick_is_sent_immediately_after_a_stall():
    async def test(loop):
        peer = await established()
        peer.write_now(TICK)
        loop.stall(3 * TICKTIME)

        assert (await loop.sock_recv(peer.connection, 100)).startswith(TICK)

    run(test)


@pytest.mark.parametrize("late", [0.0, 0.3, 3.0, 60.0])
def test_a_handshake_continues_with_packets_that_waited_in_the_socket(late):
    async def test(loop):
        peer = await connected()
        await peer.read()

        peer.write_now(peer.handshake.data_to_send())  # everything that the peer sends before its next read
        loop.stall(SETUP_TIMEOUT + late)
        await peer.complete_handshake()

        assert peer.delegate.ended is None

    run(test)


@pytest.mark.parametrize("late", [0.0, 0.3, 3.0, 60.0])
def test_a_handshake_completes_with_a_last_packet_that_waited_in_the_socket(late):
    async def test(loop):
        peer = await connected()
        await peer.read()
        await peer.write(peer.handshake.data_to_send())
        await peer.read()

        peer.write_now(peer.handshake.data_to_send())
        loop.stall(SETUP_TIMEOUT + late)

        assert await peer.delegate.events.get() == "ready"

    run(test)


def test_an_unanswered_handshake_times_out_after_a_stall():
    async def test(loop):
        peer = await connected()
        loop.stall(SETUP_TIMEOUT + 60)
        await iterations()
        assert peer.delegate.ended is None

        loop.stall(SETUP_TIMEOUT)
        assert await peer.delegate.events.get() == "failed"

    run(test)


@on_every_loop
def test_a_real_stall_on_every_loop(factory):
    ticktime = 1.0

    async def test(loop):
        peers = [await established(ticktime) for _ in range(10)]
        for peer in peers:
            peer.write_now(peer.messages(1000))

        time.sleep(1.1 * ticktime)  # noqa: ASYNC251 - the stall under test
        for peer in peers:
            while len(peer.delegate.received) < 1000:
                assert await peer.delegate.events.get() == "signals"

    run(test, factory)
