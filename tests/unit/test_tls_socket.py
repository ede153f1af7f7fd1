"""The socket of a TLS connection: what the event loop and the watchdog thread do to it."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading

import pytest

from certificates import Authority
from erlmesh.net.tls_contexts import TlsContexts
from erlmesh.net.tls_session import NotTls, TlsSession
from erlmesh.net.tls_socket import TlsSharedSocket
from erlmesh.proto.frame_writer import TICK
from erlmesh.proto.receive_buffer import make_receive_budget
from erlmesh.proto.send_queue import SendQueue
from erlmesh.proto.wire import READ_AHEAD


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    return TlsContexts(Authority(tmp_path_factory.mktemp("ca")).tls("both", "plato.example")).load()


class Pair:
    """A TLS socket and its peer, which is only a session. The handshake is complete."""

    def __init__(self, contexts):
        self.local, self.remote = socket.socketpair()
        for end in (self.local, self.remote):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        self.attended = asyncio.Event()
        self.session = TlsSession(contexts.initiating, "plato.example")
        self.peer = TlsSession(contexts.accepting, None)
        self.shared = TlsSharedSocket(self.local.fileno(), self.attended.set, make_receive_budget(), self.session)
        self.queue = SendQueue()
        self.received = b""
        while not (self.session.is_ready and self.peer.is_ready):
            self.shared.flush()
            self.pump()
            with contextlib.suppress(BlockingIOError):
                self.shared.receive(os.read(self.local.fileno(), 1 << 20))
        self.pump()
        self.shared.use_queue(self.queue)

    def pump(self):
        """Let the peer read all that has arrived."""
        try:
            while data := self.remote.recv(1 << 20):
                self.received += self.peer.receive(data)
        except BlockingIOError:
            pass
        if outgoing := self.peer.take_outgoing():
            self.remote.sendall(outgoing)

    def send_from_peer(self, *pieces):
        for piece in pieces:
            self.peer.encrypt(piece)
        self.remote.sendall(self.peer.take_outgoing())

    def close(self):
        self.shared.stop_reading()
        self.shared.close()
        self.local.close()
        self.remote.close()


def with_pair(test):
    def run(contexts):
        async def main():
            pair = Pair(contexts)
            try:
                await test(pair)
            finally:
                pair.close()

        asyncio.run(main())

    run.__name__ = test.__name__
    return run


@with_pair
async def test_the_queue_is_written_after_the_packets_of_the_handshake(pair):
    pair.queue.append(b"third")
    pair.shared.write_first(b"first")
    pair.shared.write_first(b"second")

    assert pair.shared.flush() == len(b"third")
    pair.pump()

    assert pair.received == b"firstsecondthird"
    assert pair.shared.queued == 0


@with_pair
async def test_a_full_socket_takes_the_rest_later(pair):
    sent = os.urandom(3 << 20)
    pair.queue.append(sent)

    total = pair.shared.flush()

    assert 0 < total < len(sent)
    assert pair.shared.queued > len(sent) - total  # the rest, and records that are written in part
    assert pair.queue.queued >= len(sent) - total  # it is not encrypted in advance
    while pair.shared.queued:
        pair.pump()
        pair.shared.flush()
    pair.pump()
    assert pair.received == sent


@with_pair
async def test_a_tick_of_the_thread_is_a_record_of_its_own(pair):
    assert pair.shared.write_from_thread(TICK)
    pair.pump()

    assert pair.received == TICK
    assert pair.shared.take_external_writes()[:2] == (1, len(TICK))


@with_pair
async def test_the_thread_writes_the_rest_of_a_record_instead_of_a_tick(pair):
    sent = os.urandom(1 << 20)
    pair.queue.append(sent)
    pair.shared.flush()
    while pair.shared.queued:
        pair.pump()
        assert not pair.shared.write_from_thread(TICK)
    pair.pump()

    assert pair.received == sent
    frames, size, _ = pair.shared.take_external_writes()
    assert frames == 0
    assert 0 < size <= len(sent)


@with_pair
async def test_nothing_of_a_tick_is_kept_if_the_socket_is_full(pair):
    size = 0
    while not pair.shared.queued:  # fill the socket
        pair.queue.append(bytes(1000))
        pair.shared.flush()
        size += 1000
    pair.shared._ciphertext, rest = b"", pair.shared._ciphertext

    assert not pair.shared.write_from_thread(TICK)

    assert pair.shared.queued == 0
    pair.shared._ciphertext = rest
    while pair.shared.queued:
        pair.pump()
        pair.shared.flush()
    pair.pump()
    assert pair.received == bytes(size)


@with_pair
async def test_the_thread_writes_nothing_after_the_close(pair):
    pair.shared.stop_thread_writes()

    assert not pair.shared.write_from_thread(TICK)
    pair.pump()
    assert pair.received == b""


@with_pair
async def test_two_threads_write_whole_frames(pair):
    frame = (1000).to_bytes(4, "big") + bytes(1000)
    done = threading.Event()
    ticks = []

    def tick():
        while not done.is_set():
            ticks.append(pair.shared.write_from_thread(TICK))

    thread = threading.Thread(target=tick)
    thread.start()
    for _ in range(500):
        pair.queue.append(frame)
        pair.shared.flush()
        pair.pump()
    done.set()
    thread.join()
    while pair.shared.queued:
        pair.shared.flush()
        pair.pump()
    pair.pump()

    assert sum(ticks) > 0
    rest, frames, empty = pair.received, 0, 0
    while rest:
        size = int.from_bytes(rest[:4], "big")
        assert size in (0, 1000)
        frames, empty = frames + (size == 1000), empty + (size == 0)
        rest = rest[4 + size :]
    assert (frames, empty) == (500, sum(ticks))


@with_pair
async def test_a_record_that_is_not_complete_is_no_data(pair):
    pair.peer.encrypt(b"data")
    record = pair.peer.take_outgoing()
    pair.remote.sendall(record[:10])

    with pytest.raises(BlockingIOError):
        pair.shared.read(pair.local.fileno())
    pair.remote.sendall(record[10:])

    assert pair.shared.read(pair.local.fileno()) == b"data"


@with_pair
async def test_the_thread_reads_ciphertext_that_the_event_loop_decrypts_first(pair):
    pair.shared.start_reading()
    pair.send_from_peer(b"one", b"two")

    assert pair.shared.serve_from_thread() == ""
    assert pair.shared.buffered > len(b"onetwo")
    pair.send_from_peer(b"three")
    with pytest.raises(BlockingIOError):
        pair.shared.read(pair.local.fileno())

    assert pair.shared.read(READ_AHEAD) == b"onetwo"
    assert pair.shared.read(pair.local.fileno()) == b"three"
    await asyncio.wait_for(pair.attended.wait(), 10)


@with_pair
async def test_close_notify_is_the_end_of_the_stream(pair):
    pair.peer.encrypt(b"last")
    pair.remote.sendall(pair.peer.take_outgoing() + pair.peer.end())

    assert pair.shared.read(pair.local.fileno()) == b"last"
    assert pair.shared.read(pair.local.fileno()) == b""
    assert pair.shared.error is None


@with_pair
async def test_the_end_of_the_stream_without_close_notify_is_the_same(pair):
    pair.remote.close()

    assert pair.shared.read(pair.local.fileno()) == b""
    assert pair.shared.error is None


@with_pair
async def test_the_peer_is_told_the_end(pair):
    pair.shared.end_stream()
    pair.pump()

    assert pair.peer.is_ended


@with_pair
async def test_an_invalid_record_is_an_error_and_nothing_is_sent_after_it(pair):
    pair.queue.append(b"data")
    pair.remote.sendall(bytes.fromhex("1703030010") + bytes(16))

    with pytest.raises(ssl.SSLError):
        pair.shared.read(pair.local.fileno())

    assert pair.shared.flush() == 0
    assert pair.queue.queued == 0
    assert not pair.shared.write_from_thread(TICK)
    pair.pump()
    assert pair.received == b""
    assert pair.peer.error is not None  # it got the alert


@with_pair
async def test_a_reset_drops_what_waits(pair):
    pair.remote.close()
    pair.queue.append(bytes(1 << 20))

    pair.shared.flush()

    assert isinstance(pair.shared.error, OSError)
    assert pair.shared.queued == 0


@pytest.mark.parametrize("first", [b"\0\x15N", b"GET / HTTP/1.1\r\n\r\n", b"\x80"], ids=["node", "http", "unknown"])
def test_a_peer_without_tls_gets_an_alert_in_plain_text(contexts, first):
    session = TlsSession(contexts.accepting, None)

    assert session.receive(first) == b""

    assert isinstance(session.error, NotTls)
    assert session.take_outgoing()[:3] == b"\x15\x03\x03"  # what a plain node recognizes


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "plato", "under_score.example", ".", "", "a" * 70])
def test_any_host_part_of_a_node_name_can_be_called(contexts, host):
    session = TlsSession(contexts.initiating, host)

    assert session.take_outgoing()[:3] == b"\x16\x03\x01"


@with_pair
async def test_a_finalizer_that_sends_during_a_write_does_not_block(pair):
    class QueueWithFinalizer(SendQueue):
        """Sends a frame in the middle of the first write, as an object may do when the collector removes it."""

        __slots__ = ("has_run",)

        def buffers(self):
            found = super().buffers()
            if not getattr(self, "has_run", False):
                self.has_run = True
                self.append(b"second")
                assert pair.shared.flush() == 0
            return found

    queue = QueueWithFinalizer()
    pair.shared.use_queue(queue)
    queue.append(b"first")

    assert pair.shared.flush() == len(b"firstsecond")
    pair.pump()

    assert pair.received == b"firstsecond"
