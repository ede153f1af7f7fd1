"""Pauses between the reads of a stream, on real sockets: nothing is lost, and nothing waits for longer than a pause."""

import asyncio
import contextlib
import os
import select
import socket
from types import SimpleNamespace

import pytest
from test_dist_socket import on_every_loop, run_with_pair, wait_until

from erlmesh import Atom, Node
from erlmesh.core import read_pacing
from erlmesh.net import read_pauses
from erlmesh.net.epmd import Epmd
from erlmesh.net.read_pauses import ReadPauses

needs_pauses = pytest.mark.skipif(not ReadPauses.available, reason="pauses need the native part and Linux")
FIRST = b"first" * read_pacing.MIN_READ
LONG = 600.0
"""Seconds of a pause that does not end by itself in a test."""


class Always:
    """A pause follows each read."""

    def after_read(self, _size, _sent, _now):
        return True


class Reader:
    """The receiving end of a TCP connection, with pauses."""

    def __init__(self, receiver, sender):
        self.receiver, self.sender = receiver, sender
        self.data = b""
        self.ended = False
        self.loop = asyncio.get_running_loop()
        self.pauses = ReadPauses(self.loop, receiver.fileno(), self.read)
        self.pauses._pacing = Always()
        self.loop.add_reader(receiver, self.read)

    def read(self):
        try:
            data = self.receiver.recv(1 << 20)
        except BlockingIOError:
            self.pauses.stop()
            return
        self.data += data
        if data:
            self.pauses.after_read(len(data), 0)
        else:
            self.ended = True
            self.close()

    def close(self):
        self.loop.remove_reader(self.receiver)
        self.pauses.close()

    async def pause(self):
        """Send a first message, so that a pause begins."""
        self.sender.send(FIRST)
        await wait_until(lambda: self.data == FIRST)

    def is_readable(self):
        return bool(select.select([self.receiver], [], [], 0)[0])


def run(factory, test):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server:
            sender = socket.create_connection(server.getsockname())
            receiver, _ = server.accept()
        receiver.setblocking(False)
        with sender, receiver:
            reader = Reader(receiver, sender)
            try:
                await test(reader)
            finally:
                reader.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@needs_pauses
@on_every_loop
def test_a_pause_ends_by_its_time(factory):
    async def test(reader):
        await reader.pause()
        reader.sender.send(b" second")
        await wait_until(lambda: reader.data == FIRST + b" second")
        await wait_until(lambda: not reader.pauses.is_paused)  # Nothing more has arrived.

    run(factory, test)


@needs_pauses
@on_every_loop
def test_a_pause_ends_when_enough_has_arrived(factory, monkeypatch):
    monkeypatch.setattr(read_pauses, "MAX_DELAY", LONG)

    async def test(reader):
        await reader.pause()
        assert reader.pauses.is_paused
        reader.sender.send(b"x" * 100)
        assert not reader.is_readable()
        reader.sender.send(b"x" * read_pacing.LOW_WATER)
        await wait_until(lambda: len(reader.data) == len(FIRST) + 100 + read_pacing.LOW_WATER)

    run(factory, test)


@needs_pauses
@on_every_loop
def test_the_end_of_the_stream_ends_a_pause(factory, monkeypatch):
    monkeypatch.setattr(read_pauses, "MAX_DELAY", LONG)

    async def test(reader):
        await reader.pause()
        reader.sender.send(b" last")
        reader.sender.shutdown(socket.SHUT_WR)
        await wait_until(lambda: reader.ended)
        assert reader.data == FIRST + b" last"

    run(factory, test)


@needs_pauses
@on_every_loop
def test_data_is_read_at_once_after_stop(factory, monkeypatch):
    monkeypatch.setattr(read_pauses, "MAX_DELAY", LONG)

    async def test(reader):
        await reader.pause()
        reader.sender.send(b" second")
        assert not reader.is_readable()
        reader.pauses.stop()
        await wait_until(lambda: reader.data == FIRST + b" second")

    run(factory, test)


@needs_pauses
@on_every_loop
def test_without_a_free_descriptor_there_is_no_pause(factory, monkeypatch):
    class NoTimer:
        def __init__(self):
            raise OSError(24, "Too many open files")

    monkeypatch.setattr(read_pauses, "_ReadTimer", NoTimer)

    async def test(reader):
        reader.sender.send(FIRST)
        await wait_until(lambda: reader.data == FIRST)
        assert not reader.pauses.is_paused
        reader.sender.send(b" second")
        await wait_until(lambda: reader.data == FIRST + b" second")

    run(factory, test)


@on_every_loop
def test_a_write_ends_a_pause(factory):
    async def test(pair):
        stopped = []
        pair.socket._pauses = SimpleNamespace(is_paused=True, stop=lambda: stopped.append(True), close=lambda: None)
        pair.write(b"question")
        assert stopped == [True]

    run_with_pair(factory, test)


@needs_pauses
@on_every_loop
def test_a_pause_ends_with_a_transport_that_is_aborted(factory, monkeypatch):
    monkeypatch.setattr(read_pauses, "MAX_DELAY", LONG)

    async def test(pair):
        pair.socket._stop_reading()
        pair.socket.start_reading(lambda fd: (len(os.read(fd, 1000)), []))
        pauses = pair.socket._pauses
        pauses._pacing = Always()
        pauses.after_read(read_pacing.MIN_READ, 0)
        assert pauses.is_paused

        pair.socket._transport.abort()
        await asyncio.wait_for(asyncio.shield(pair.local_end.lost), 10)

        assert not pauses.is_paused

    run_with_pair(factory, test)


async def count(me, received):
    async for message in me:
        match message:
            case (Atom("number"), number):
                received.append(number)
            case (Atom("call"), sender):
                me.send(sender, len(received))


async def ask(me, counter, results, rounds):
    for _ in range(rounds):
        for number in range(200):
            me.send(counter, (Atom("number"), number))
        await me.drain()
        me.send(counter, (Atom("call"), me.pid))
        results.append(await me.receive())


def test_all_messages_arrive_in_order_with_a_pause_after_each_read(free_port, monkeypatch):
    monkeypatch.setattr(read_pacing.ReadPacing, "after_read", Always.after_read)
    received, results = [], []

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            socrates, plato = [
                await stack.enter_async_context(Node(f"{name}@127.0.0.1", cookie="monster", epmd=Epmd(free_port)))
                for name in ("socrates", "plato")
            ]
            assert await socrates.ping(plato.name)
            counter = plato.spawn(count, received)
            await socrates.run(ask, counter, results, 20)

    asyncio.run(main())

    assert results == [200 * (index + 1) for index in range(20)]
    assert received == list(range(200)) * 20
