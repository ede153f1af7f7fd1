"""A node that stood still reads what its peers said meanwhile before it judges anyone, however its loop wakes.

Standing still is a clock that jumps: nobody waits. On loops whose clock cannot be moved it is done in earnest.
"""

import asyncio
import secrets
import select
import socket
import time
from typing import ClassVar

import pytest
from test_socket_writer import on_every_loop

from erlmesh.net.dist_protocol import DistProtocol
from erlmesh.proto.channel import Channel
from erlmesh.proto.control import SendName
from erlmesh.proto.flags import OFFERED
from erlmesh.proto.handshake import LocalNode, Status, accept, initiate
from erlmesh.proto.handshake_driver import SETUP_TIMEOUT, HandshakeDriver
from erlmesh.terms import Atom, Pid

OURS, THEIRS = "ours@h", "theirs@h"
TICK = bytes(4)
TICKTIME = 8.0
MESSAGE = SendName(Pid(Atom(THEIRS), 90, 0, 9), Atom("x"), b"." * 1000)


def me(name):
    return LocalNode(name, 1, lambda _: "monster", lambda: secrets.randbits(32), set(), OFFERED)


class Skipping(asyncio.SelectorEventLoop):
    """A loop that can oversleep."""

    skipped = 0.0

    def time(self):
        return super().time() + self.skipped

    def stand_still(self, seconds):
        self.skipped += seconds


class Owner:
    """Of one pump; whatever it is told takes ``costs`` seconds."""

    def __init__(self, ticktime, costs=0.0):
        self.ticktime = ticktime
        self.costs = costs
        self.loop = asyncio.get_running_loop()
        self.heard_of = []
        self.told = asyncio.Queue()
        self.ended = None

    def met(self, pump, met, now):
        return Channel(met.name, OURS, met.flags, now=now, net_ticktime=self.ticktime)

    def up(self, pump):
        self.told.put_nowait("up")

    def heard(self, pump, signals):
        self.heard_of += signals
        if self.costs:
            self.loop.stand_still(self.costs)
        self.told.put_nowait("heard")

    def refused(self, pump, error):
        self.ended = str(error)
        self.told.put_nowait("refused")

    def lost(self, pump, reason, why):
        self.ended = reason
        self.told.put_nowait("lost")


class Peer:
    """The other end of a pump's connection, on a plain socket."""

    all: ClassVar[list["Peer"]] = []

    def __init__(self, connection, pump, owner):
        self.all.append(self)
        self.connection, self.protocol, self.owner = connection, pump, owner
        self.handshake = HandshakeDriver(
            accept(me(THEIRS), lambda _name, _flags: Status.OK), now=0.0, timeout=float("inf")
        )
        self.channel = Channel(OURS, THEIRS, OFFERED, now=0.0)

    async def listen(self):
        """Reads what they said, as far as it has come."""
        loop = asyncio.get_running_loop()
        return self.handshake.receive_data(await loop.sock_recv(self.connection, 1 << 16), 0.0)

    async def say(self, data):
        await asyncio.get_running_loop().sock_sendall(self.connection, data)

    async def meet(self):
        while True:
            events = await self.listen()
            await self.say(self.handshake.data_to_send())
            if events:
                assert await self.owner.told.get() == "up"
                return

    def say_now(self, data):
        """It lies in the socket when this returns, and our loop has not turned."""
        self.connection.setblocking(True)
        self.connection.sendall(data)
        self.connection.setblocking(False)
        arrival = select.poll()
        arrival.register(self.protocol._socket_writer._fd, select.POLLIN)
        assert arrival.poll(10_000)

    def messages(self, count):
        for _ in range(count):
            self.channel.send(MESSAGE)
        return self.channel.data_to_send(0.0)

    def timer(self):
        """When our end looks next whether it has heard anything."""
        return self.protocol._timer.when()


async def connected(ticktime=TICKTIME, **options):
    """A peer whose handshake has not begun."""
    loop = asyncio.get_running_loop()
    owner = Owner(ticktime, **options)
    pump = DistProtocol(HandshakeDriver(initiate(me(OURS), THEIRS, lambda: True), now=loop.time()), owner)
    with socket.create_server(("127.0.0.1", 0)) as server:
        await loop.create_connection(lambda: pump, *server.getsockname())
        connection, _ = server.accept()
    connection.setblocking(False)
    return Peer(connection, pump, owner)


async def met(ticktime=TICKTIME, **options):
    peer = await connected(ticktime, **options)
    await peer.meet()
    return peer


def run(test, factory=Skipping):
    async def main():
        try:
            await test(asyncio.get_running_loop())
        finally:
            while Peer.all:
                peer = Peer.all.pop()
                peer.protocol.close()
                peer.connection.close()
            await turns()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def turns(count=6):
    for _ in range(count):
        await asyncio.sleep(0)


def test_what_was_said_meanwhile_counts_when_the_timer_is_due_in_the_turn_that_stood_still():
    async def test(loop):
        peer = await met()

        def hold():
            peer.say_now(TICK)
            loop.stand_still(3 * TICKTIME)

        loop.call_at(peer.timer() - 0.001, hold)
        loop.stand_still(TICKTIME / 4 + 1)  # both are due now, and hold is the first
        await turns()

        assert peer.owner.ended is None

    run(test)


def test_what_was_said_meanwhile_counts_when_the_timer_is_due_in_the_turn_after():
    async def test(loop):
        peer = await met()

        peer.say_now(TICK)
        loop.stand_still(3 * TICKTIME)
        await turns()

        assert peer.owner.ended is None

    run(test)


def test_what_was_said_meanwhile_counts_when_the_timer_comes_a_little_late_only():
    """So little that nobody could say that the node stood still."""

    async def test(loop):
        peer = await met()
        await asyncio.sleep(0)
        loop.stand_still(TICKTIME - 0.5)
        await turns()
        assert peer.owner.ended is None

        def hold():
            peer.say_now(TICK)
            loop.stand_still(0.5)

        loop.call_at(peer.timer() - 0.001, hold)
        loop.stand_still(0.6)
        await turns()

        assert peer.owner.ended is None

    run(test)


def test_many_peers_with_much_to_read_are_all_kept_however_long_the_reading_takes():
    async def test(loop):
        peers = [await met(costs=1.0) for _ in range(30)]
        for peer in peers:
            peer.say_now(peer.messages(1500))  # more than is read at once

        loop.stand_still(3 * TICKTIME)
        for peer in peers:
            while len(peer.owner.heard_of) < 1500:
                assert await peer.owner.told.get() == "heard"

    run(test)


def test_who_said_nothing_while_we_stood_still_has_the_time_for_one_tick():
    async def test(loop):
        peer = await met()

        loop.stand_still(3 * TICKTIME)
        await turns()
        assert peer.owner.ended is None

        loop.stand_still(TICKTIME / 4)
        await turns()
        assert peer.owner.ended == "net_tick_timeout"

    run(test)


def test_who_is_silent_while_we_turn_is_given_up_in_time():
    async def test(loop):
        peer = await met()
        for _ in range(4):
            assert peer.owner.ended is None
            loop.stand_still(TICKTIME / 4)
            await turns()

        assert peer.owner.ended == "net_tick_timeout"

    run(test)


def test_we_speak_at_once_when_we_wake():
    async def test(loop):
        peer = await met()
        peer.say_now(TICK)
        loop.stand_still(3 * TICKTIME)

        assert (await loop.sock_recv(peer.connection, 100)).startswith(TICK)

    run(test)


@pytest.mark.parametrize("late", [0.0, 0.3, 3.0, 60.0])
def test_a_handshake_whose_answers_lie_in_the_socket_is_not_given_up(late):
    async def test(loop):
        peer = await connected()
        await peer.listen()

        peer.say_now(peer.handshake.data_to_send())  # all that a peer says before it hears us again
        loop.stand_still(SETUP_TIMEOUT + late)
        await peer.meet()

        assert peer.owner.ended is None

    run(test)


@pytest.mark.parametrize("late", [0.0, 0.3, 3.0, 60.0])
def test_a_handshake_whose_last_word_lies_in_the_socket_is_complete(late):
    async def test(loop):
        peer = await connected()
        await peer.listen()
        await peer.say(peer.handshake.data_to_send())
        await peer.listen()

        peer.say_now(peer.handshake.data_to_send())
        loop.stand_still(SETUP_TIMEOUT + late)

        assert await peer.owner.told.get() == "up"

    run(test)


def test_a_handshake_that_nobody_answers_ends_also_after_we_stood_still():
    async def test(loop):
        peer = await connected()
        loop.stand_still(SETUP_TIMEOUT + 60)
        await turns()
        assert peer.owner.ended is None

        loop.stand_still(SETUP_TIMEOUT)
        assert await peer.owner.told.get() == "refused"

    run(test)


@on_every_loop
def test_in_earnest_on_real_loops(factory):
    ticktime = 1.0

    async def test(loop):
        peers = [await met(ticktime) for _ in range(10)]
        for peer in peers:
            peer.say_now(peer.messages(1000))

        time.sleep(1.1 * ticktime)  # noqa: ASYNC251 - that is the fault
        for peer in peers:
            while len(peer.owner.heard_of) < 1000:
                assert await peer.owner.told.get() == "heard"

    run(test, factory)
