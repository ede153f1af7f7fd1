"""One read, the steps of the processes that it wakes up, and one write: the native turn does what the Python code does.

The tests of ``test_dist_protocol.py``, ``test_backpressure.py`` and ``test_read_suspension.py`` use it, too, in the
native build.
"""

import asyncio
import socket
import struct
import sys

import pytest
from test_dist_protocol import LOCAL, REMOTE, TICKTIME, established, iterations, run
from test_dist_socket import on_every_loop

from erlmesh import native
from erlmesh.net.dist_protocol import WRITE_THRESHOLD
from erlmesh.proto.control import Send, SendName
from erlmesh.terms import Atom, Pid

HERE, THERE = Pid(Atom(LOCAL), 90, 0, 1), Pid(Atom(REMOTE), 91, 0, 1)
MESSAGE = SendName(THERE, Atom("x"), b"." * 100)
ANSWER = Send(HERE, THERE, b"." * 100)


class PythonCalls:
    """The names of the functions of erlmesh that ran meanwhile."""

    def __enter__(self):
        self.names = set()
        sys.setprofile(self.count)
        return self.names

    def __exit__(self, *error):
        sys.setprofile(None)

    def count(self, frame, event, _argument):
        if event == "call" and "/erlmesh/" in frame.f_code.co_filename:
            self.names.add(frame.f_code.co_name)


def answering(protocol, signals):
    """A delegate that answers each signal."""
    for _ in signals:
        protocol.send(ANSWER)
    return []


@pytest.mark.skipif(native.module is None, reason="only the native build has turns")
@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage is measured with the same hook")
def test_only_signals_and_answers_of_a_usual_read_run_python_code():
    async def test(loop):
        peer = await established()
        peer.delegate.signals_received = answering
        for _ in range(2):  # the first one makes atoms
            peer.channel.send(MESSAGE)  # it is short: a long one might be a part of a stream
            peer.write_now(peer.channel.data_to_send(0.0))
            with PythonCalls() as names:
                await iterations(2)
            assert await loop.sock_recv(peer.connection, 1000)

        assert names <= {"_pass_on", "events_received", "send"}
        assert "send" in names

    run(test, asyncio.SelectorEventLoop)


@on_every_loop
def test_all_bytes_and_signals_are_counted(factory):
    async def test(loop):
        peer = await established()
        peer.delegate.signals_received = answering
        data = [peer.messages(1), peer.messages(3)]
        received = b""
        for each in data:
            peer.write_now(each)
            received += await loop.sock_recv(peer.connection, 1 << 16)

        bytes_in, bytes_out, signals_in, signals_out, *_ = peer.protocol.counts()

        assert (bytes_in, bytes_out) == (sum(map(len, data)), len(received))
        assert (signals_in, signals_out) == (4, 4)
        assert peer.protocol.counts()[:2] == (bytes_in, bytes_out)

    run(test, factory)


def test_what_was_counted_stays_when_the_connection_is_lost():
    async def test(_loop):
        peer = await established()
        data = peer.messages(2)
        peer.write_now(data)
        await iterations()
        peer.connection.close()
        while await peer.delegate.events.get() != "lost":
            pass

        assert peer.protocol.counts()[:3] == (len(data), 0, 2)

    run(test)


def test_a_peer_that_has_sent_data_is_not_silent():
    async def test(loop):
        peer = await established()
        loop.stall(TICKTIME / 2)
        assert peer.protocol.silence() >= TICKTIME / 2
        peer.write_now(peer.messages(1))
        await iterations()

        assert peer.protocol.silence() < TICKTIME / 2
        loop.stall(TICKTIME - 0.5)
        await iterations()
        assert peer.delegate.ended is None

    run(test)


def test_an_answer_is_as_good_as_a_tick():
    async def test(loop):
        peer = await established()
        peer.delegate.signals_received = answering
        due = peer.timer()
        loop.stall(TICKTIME / 4 - 0.5)
        peer.write_now(peer.messages(1))
        await iterations()
        await loop.sock_recv(peer.connection, 1 << 16)
        loop.stall(0.6)
        await iterations()

        assert loop.time() > due
        assert peer.protocol.counts()[5] == 0  # no tick

    run(test)


@on_every_loop
def test_messages_before_an_invalid_frame_arrive(factory):
    async def test(_loop):
        peer = await established()
        peer.write_now(peer.messages(2) + b"\0\0\0\x03abc")
        while peer.delegate.ended is None:
            await peer.delegate.events.get()

        assert len(peer.delegate.received) == 2
        assert peer.delegate.ended == "killed"
        assert peer.protocol.counts()[2] == 2

    run(test, factory)


@on_every_loop
def test_after_data_that_had_to_wait_the_usual_limit_for_writes_returns(factory):
    async def test(loop):
        peer = await established()
        while not peer.protocol.channel.pending:
            peer.protocol.send_message(HERE, THERE, bytes(1 << 16))
            await iterations(1)
        while peer.protocol.channel.pending:
            await loop.sock_recv(peer.connection, 1 << 20)
            peer.write_now(peer.messages(1))
            await iterations()

        assert peer.protocol._write_at == WRITE_THRESHOLD

    run(test, factory)


@on_every_loop
def test_an_error_of_the_delegate_ends_the_connection(factory):
    async def test(loop):
        peer = await established()
        errors = []
        loop.set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
        peer.delegate.signals_received = lambda *_: 1 // 0
        peer.write_now(peer.messages(1))
        while await peer.delegate.events.get() != "lost":
            pass

        assert [type(error) for error in errors] == [ZeroDivisionError]

    run(test, factory)


@on_every_loop
def test_an_older_native_part_reads_and_writes_without_turns(factory, monkeypatch):
    monkeypatch.setattr("erlmesh.net.native_turn._ReadTurn", None)

    async def test(loop):
        peer = await established()
        peer.delegate.signals_received = answering
        peer.write_now(peer.messages(2))

        assert await loop.sock_recv(peer.connection, 1000)
        assert peer.protocol._turn is None
        assert peer.protocol.counts()[2:4] == (2, 2)

    run(test, factory)


@on_every_loop
def test_a_turn_that_finds_no_data_changes_nothing(factory):
    async def test(_loop):
        peer = await established()
        peer.protocol._socket._on_ready()
        await iterations()
        assert not peer.protocol._is_eof_seen

        peer.write_now(peer.messages(1))
        assert await peer.delegate.events.get() == "signals"

    run(test, factory)


def test_the_reason_of_a_broken_connection_names_the_error():
    async def test(_loop):
        peer = await established()
        details = []
        peer.delegate.connection_lost = lambda _protocol, _reason, detail: details.append(detail)
        peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends a reset
        peer.connection.close()
        while not details:
            await asyncio.sleep(0)

        assert "Connection reset" in details[0]

    run(test)
