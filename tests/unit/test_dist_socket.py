"""DistSocket on real sockets: no data is lost, duplicated or split, and flow control works."""

import asyncio
import contextlib
import errno
import importlib.util
import os
import socket
import struct
import threading

import pytest

from erlmesh.net import dist_socket
from erlmesh.net.dist_socket import DistSocket, socket_fd
from erlmesh.net.shared_socket import NO_WRITES, READ_SIZE, WRITE_SIZE
from erlmesh.net.watched_sockets import WatchedSockets
from erlmesh.proto.receive_buffer import ReceiveBudget
from erlmesh.proto.send_queue import SendQueue
from polling import wait_until_async as wait_until

HIGH_WATER = 1 << 16
TICK = bytes(4)
BIG = bytes(range(1, 251)) * 40_000
"""10 MB without a zero byte, so that a tick inside it is detected. It is more than the buffers of two sockets."""


def loop_factories():
    yield pytest.param(asyncio.SelectorEventLoop, id="asyncio")
    if importlib.util.find_spec("uvloop"):
        import uvloop

        uvloop.new_event_loop().close()  # libuv's first loop opens a pipe for signals that is never closed: not a leak
        yield pytest.param(uvloop.new_event_loop, id="uvloop")


on_every_loop = pytest.mark.parametrize("factory", list(loop_factories()))


class LocalEnd(asyncio.Protocol):
    """The local protocol with its DistSocket, and the events of flow control."""

    def __init__(self):
        self.events = []
        self.received = []
        self.written = 0
        self.was_acknowledged = None
        self.queue = SendQueue()
        self.budget = ReceiveBudget()
        self.socket = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.socket = DistSocket(
            transport, socket_fd(transport), self, high_water=HIGH_WATER, receive_budget=self.budget
        )
        self.socket.use_queue(self.queue, "plato@h")

    def run_read(self, read):
        read()

    def data_received(self, data):
        self.stream_received(data)

    def stream_received(self, data):
        self.received.append(data)

    def data_written(self, size):
        self.written += size

    def end_of_stream(self):
        self.was_acknowledged = self.socket.all_acknowledged()

    def eof_received(self):
        self.events.append("eof")

    def connection_lost(self, exception):
        self.socket.detach()
        self.lost.set_result(exception)

    def pause_writing(self):
        self.events.append("pause")

    def resume_writing(self):
        self.events.append("resume")


class SocketPair:
    """A connection: ``local_end`` has the DistSocket, ``remote_socket`` is a plain blocking socket."""

    def __init__(self, local_end, remote_socket):
        self.local_end, self.remote_socket = local_end, remote_socket
        self.socket = local_end.socket

    def write(self, data):
        """Queue one frame and write it."""
        self.local_end.queue.append(data)
        self.local_end.written += self.socket.flush()

    def received(self):
        return b"".join(self.local_end.received)

    def read(self, size):
        """Return exactly ``size`` bytes that the remote end received."""
        data = bytearray()
        while len(data) < size and (piece := self.remote_socket.recv(min(1 << 16, size - len(data)))):
            data += piece
        return bytes(data)

    async def read_later(self, size):
        return await asyncio.to_thread(self.read, size)


async def with_pair(test):
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        _, local_end = await loop.create_connection(LocalEnd, *server.getsockname())
        local_end.socket.start_reading()
        remote_socket, _ = server.accept()
    remote_socket.settimeout(10)
    with remote_socket:
        try:
            await test(SocketPair(local_end, remote_socket))
        finally:
            local_end.socket.close()
            with contextlib.suppress(OSError):
                remote_socket.shutdown(socket.SHUT_RDWR)
            await local_end.lost


def run_with_pair(factory, test):
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(with_pair(test))


def from_a_thread(function, *arguments):
    """Call a function in another thread, as the watchdog does. The event loop is blocked meanwhile."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)))
    thread.start()
    thread.join()
    return results[0]


@on_every_loop
def test_data_is_written_at_once_and_in_order(factory):
    async def test(pair):
        for number in range(100):
            pair.write(b"%02d" % number)

        assert pair.read(200) == b"".join(b"%02d" % number for number in range(100))
        assert pair.local_end.events == []

    run_with_pair(factory, test)


@on_every_loop
def test_data_beyond_the_socket_buffer_is_written_when_the_peer_reads(factory):
    async def test(pair):
        pair.write(BIG)
        pair.write(b"behind")
        assert pair.local_end.events == ["pause"]

        assert await pair.read_later(len(BIG) + 6) == BIG + b"behind"

        await wait_until(lambda: pair.local_end.events == ["pause", "resume"])

    run_with_pair(factory, test)


@on_every_loop
def test_one_iteration_writes_a_bounded_part_even_if_the_socket_takes_all(factory, monkeypatch):
    async def test(pair):
        frame, written = bytes(8192), []

        def take_all(_fd, buffers):
            written.append(sum(map(len, buffers)))
            return written[-1]

        monkeypatch.setattr(os, "writev", take_all)
        for _ in range(10 * WRITE_SIZE // len(frame)):
            pair.local_end.queue.append(frame)
        first = pair.socket.flush()
        turns = []
        asyncio.get_running_loop().call_soon(lambda: turns.append(sum(written)))
        await wait_until(lambda: not pair.local_end.queue.queued)

        assert WRITE_SIZE <= first < 2 * WRITE_SIZE
        assert turns[0] < 5 * WRITE_SIZE  # so another callback had its turn in between
        assert sum(written) == 10 * WRITE_SIZE

    run_with_pair(factory, test)


@on_every_loop
def test_a_thread_writes_a_frame_while_the_loop_is_blocked(factory):
    async def test(pair):
        assert from_a_thread(pair.socket.shared.write_from_thread, TICK)

        assert pair.read(4) == TICK
        assert pair.socket.shared.take_external_writes()[:2] == (1, 4)
        assert pair.socket.shared.take_external_writes() is NO_WRITES

    run_with_pair(factory, test)


@on_every_loop
def test_a_thread_writes_buffered_data_first_and_never_splits_a_frame(factory):
    async def test(pair):
        """The peer reads and a thread writes while the loop is blocked. This alone must deliver all data."""
        pair.write(BIG)
        received, results = bytearray(), []

        def read_and_write():
            while len(received) < len(BIG) + len(TICK):
                results.append(pair.socket.shared.write_from_thread(TICK) if not any(results) else False)
                with contextlib.suppress(BlockingIOError):
                    received.extend(pair.remote_socket.recv(1 << 20, socket.MSG_DONTWAIT))

        from_a_thread(read_and_write)

        assert received == BIG + TICK
        assert any(results)
        assert pair.local_end.events == ["pause"]
        await wait_until(lambda: pair.local_end.events == ["pause", "resume"])

    run_with_pair(factory, test)


@on_every_loop
def test_a_thread_buffers_no_frame_for_a_full_socket(factory):
    async def test(pair):
        while from_a_thread(pair.socket.shared.write_from_thread, b"x" * 100_000):
            pass
        pair.write(b"behind")

        writes = pair.socket.shared.take_external_writes()
        assert await pair.read_later(writes.size + 6) == b"x" * writes.size + b"behind"

    run_with_pair(factory, test)


@on_every_loop
def test_concurrent_writes_of_loop_and_thread_keep_all_frames_whole(factory):
    async def test(pair):
        frames = [bytes([length % 250 + 1]) * (length * 37 % 5000 + 5) for length in range(4000)]
        done = threading.Event()

        def write_ticks():
            while not done.is_set():
                pair.socket.shared.write_from_thread(TICK)

        writing = threading.Thread(target=write_ticks)
        reading = asyncio.ensure_future(
            asyncio.to_thread(lambda: b"".join(iter(lambda: pair.remote_socket.recv(3000), b"")))
        )
        writing.start()
        for number, frame in enumerate(frames):
            pair.write(frame)
            if number % 50 == 0:
                await asyncio.sleep(0)
        done.set()
        writing.join()
        pair.socket.close()

        received, offset = await reading, 0
        for frame in frames:
            while received.startswith(TICK, offset):
                offset += len(TICK)
            assert received.startswith(frame, offset)
            offset += len(frame)
        assert received[offset:].replace(TICK, b"") == b""

    run_with_pair(factory, test)


@on_every_loop
def test_close_writes_all_buffered_data_before_the_end_of_the_stream(factory):
    async def test(pair):
        pair.write(BIG)
        pair.socket.close()
        assert not from_a_thread(pair.socket.shared.write_from_thread, TICK)
        assert pair.socket.is_closing()
        assert not pair.local_end.lost.done()

        assert await pair.read_later(len(BIG) + 100) == BIG

        await pair.local_end.lost

    run_with_pair(factory, test)


@on_every_loop
def test_the_peer_sees_the_end_even_if_a_child_has_the_socket_open(factory):
    async def test(pair):
        duplicate = os.dup(socket_fd(pair.socket._transport))  # a forked child would have it open, too
        pair.socket.close()

        assert pair.read(1) == b""

        os.close(duplicate)

    run_with_pair(factory, test)


@on_every_loop
def test_a_broken_connection_is_lost_with_its_error(factory):
    async def test(pair):
        pair.write(BIG)
        pair.remote_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        pair.remote_socket.close()  # a reset
        while pair.socket.error is None and not pair.local_end.lost.done():
            from_a_thread(pair.socket.shared.write_from_thread, TICK)

        pair.write(b"after the reset")

        await pair.local_end.lost
        assert pair.socket.error is None or isinstance(pair.socket.error, ConnectionError)

    run_with_pair(factory, test)


@on_every_loop
def test_a_failed_write_ends_the_stream(factory, monkeypatch):
    """A write that fails for another reason than a broken connection must not leave the peer with half a frame."""

    async def test(pair):
        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOBUFS, "no buffer space")))
            pair.write(b"lost")
        pair.write(b"and what follows")

        assert pair.read(100) == b""
        await pair.local_end.lost
        assert pair.socket.error.errno == errno.ENOBUFS

    run_with_pair(factory, test)


@on_every_loop
def test_data_is_written_without_a_free_descriptor(factory, monkeypatch):
    async def test(pair):
        with monkeypatch.context() as patch:
            patch.setattr(os, "dup", lambda _: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many open files")))
            pair.write(BIG)
            assert await pair.read_later(len(BIG)) == BIG
            await wait_until(lambda: pair.local_end.events == ["pause", "resume"])

    run_with_pair(factory, test)


@on_every_loop
def test_nothing_is_written_after_the_descriptor_is_released(factory):
    async def test(pair):
        pair.socket.close()
        await pair.local_end.lost
        read, write = os.pipe()  # probably with the number of the socket's descriptor
        try:
            assert not from_a_thread(pair.socket.shared.write_from_thread, TICK)
            pair.write(b"x")
            os.set_blocking(read, False)
            with pytest.raises(BlockingIOError):
                os.read(read, 1)
        finally:
            os.close(read)
            os.close(write)

    run_with_pair(factory, test)


def test_memory_and_tls_transports_have_no_socket_fd():
    class Transport(asyncio.BaseTransport):
        pass

    with socket.socket() as real:
        assert socket_fd(Transport()) is None
        assert socket_fd(Transport({"socket": real})) == real.fileno()
        assert socket_fd(Transport({"socket": real, "sslcontext": object()})) is None
    assert socket_fd(Transport({"socket": real})) is None


# Reading


async def assert_reads_all(pair):
    """Send much data to the local end, and check that it receives all of it in order."""
    await asyncio.to_thread(pair.remote_socket.sendall, BIG)

    await wait_until(lambda: sum(map(len, pair.local_end.received)) == len(BIG))

    assert pair.received() == BIG


@on_every_loop
def test_data_is_read_in_order(factory):
    async def test(pair):
        pair.write(b"x")
        await assert_reads_all(pair)

    run_with_pair(factory, test)


@on_every_loop
def test_what_was_queued_and_not_flushed_before_close_is_written(factory):
    async def test(pair):
        pair.local_end.queue.append(b"queued")
        pair.socket.close()
        await asyncio.wait_for(pair.local_end.lost, 10)

        assert await pair.read_later(7) == b"queued"  # and then the end of the stream

    run_with_pair(factory, test)


@on_every_loop
def test_a_closed_connection_whose_peer_does_not_read_ends_after_a_time(factory, monkeypatch):
    monkeypatch.setattr(dist_socket, "CLOSE_TIMEOUT", 0.05)

    async def test(pair):
        pair.write(BIG)
        pair.socket.close()
        await asyncio.wait_for(pair.local_end.lost, 10)

    run_with_pair(factory, test)


def reset(remote_socket):
    """Close the socket so that the other side gets an RST."""
    remote_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    remote_socket.close()


SOME = BIG[:30_000]
"""Less than the first window of a TCP connection. A reset drops what has not left the other side."""


async def send_and_reset(pair, data):
    """Let the local end find both at once: data and the end of the connection by an RST."""
    await asyncio.to_thread(pair.remote_socket.sendall, data)
    reset(pair.remote_socket)


@on_every_loop
@pytest.mark.parametrize("size", [0, 100, len(SOME)])
def test_a_reset_connection_ends_after_the_data_that_had_arrived(factory, size):
    async def test(pair):
        pair.socket.pause_reading()
        await send_and_reset(pair, SOME[:size])
        pair.socket.resume_reading()
        await asyncio.wait_for(pair.local_end.lost, 10)

        assert pair.received() == SOME[:size]
        assert pair.socket.error.errno == errno.ECONNRESET

    run_with_pair(factory, test)


@on_every_loop
def test_a_connection_that_is_reset_while_it_is_read_ends(factory):
    async def test(pair):
        remote_socket, send = pair.remote_socket, threading.Event()

        def peer():
            send.wait()
            remote_socket.sendall(SOME)
            reset(remote_socket)

        thread = threading.Thread(target=peer)
        thread.start()
        send.set()
        thread.join()  # the event loop is blocked, so it finds the data and the reset at once
        await asyncio.wait_for(pair.local_end.lost, 10)

        assert pair.received() == SOME

    run_with_pair(factory, test)


@on_every_loop
def test_a_connection_that_is_reset_while_data_waits_ends_and_its_number_can_be_used_again(factory):
    async def test(pair):
        number = pair.socket._duplicate
        pair.write(BIG)
        assert pair.socket.queued
        remote_socket = pair.remote_socket
        remote_socket.sendall(SOME[:100])
        reset(remote_socket)
        await asyncio.wait_for(pair.local_end.lost, 10)

        called, (one, other) = asyncio.Event(), socket.socketpair()
        with one, other:
            again = os.dup2(one.fileno(), number)
            try:
                asyncio.get_running_loop().add_reader(again, called.set)
                other.send(b"x")
                await asyncio.wait_for(called.wait(), 10)
                asyncio.get_running_loop().remove_reader(again)
            finally:
                os.close(again)

    run_with_pair(factory, test)


@on_every_loop
def test_one_iteration_reads_a_bounded_part_of_what_has_arrived(factory):
    async def test(pair):
        pair.remote_socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                pair.remote_socket.send(BIG[:READ_SIZE])
        pair.remote_socket.settimeout(10)
        sizes = []
        while not sizes or sum(sizes) < 2 * READ_SIZE:
            await asyncio.sleep(0)
            sizes.append(sum(map(len, pair.local_end.received)) - sum(sizes))

        assert max(sizes) <= READ_SIZE

    run_with_pair(factory, test)


@on_every_loop
def test_the_transport_reports_the_end_of_the_stream_after_all_data(factory):
    async def test(pair):
        pair.remote_socket.sendall(b"last")
        pair.remote_socket.shutdown(socket.SHUT_WR)

        assert await pair.local_end.lost is None
        assert pair.received() == b"last"
        assert pair.local_end.events == ["eof"]
        assert pair.socket.error is None

    run_with_pair(factory, test)


@on_every_loop
def test_data_queued_at_the_end_of_the_stream_does_not_hide_that_all_was_acknowledged(factory):
    async def test(pair):
        pair.write(b"frame")
        assert pair.read(5) == b"frame"
        await wait_until(pair.socket.all_acknowledged)
        pair.local_end.queue.append(b"not written yet")
        pair.remote_socket.shutdown(socket.SHUT_WR)

        await pair.local_end.lost

        assert pair.local_end.was_acknowledged

    run_with_pair(factory, test)


@on_every_loop
def test_a_reset_is_the_reason_of_the_loss(factory):
    async def test(pair):
        pair.remote_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        pair.remote_socket.close()

        await pair.local_end.lost

        assert isinstance(pair.socket.error, ConnectionResetError)
        assert not pair.socket.all_acknowledged()

    run_with_pair(factory, test)


@on_every_loop
def test_without_a_free_descriptor_the_transport_reads(factory, monkeypatch):
    monkeypatch.setattr(os, "dup", lambda _: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many open files")))

    async def test(pair):
        await assert_reads_all(pair)

    run_with_pair(factory, test)


@on_every_loop
def test_nothing_is_read_after_close(factory):
    async def test(pair):
        pair.write(BIG)
        pair.socket.close()
        pair.remote_socket.sendall(b"too late")

        with contextlib.suppress(ConnectionResetError):  # TCP says so that data was not read
            await pair.read_later(len(BIG) + 1)

        await pair.local_end.lost
        assert pair.local_end.received == []

    run_with_pair(factory, test)


@on_every_loop
def test_an_error_in_the_protocol_ends_the_connection(factory):
    async def test(pair):
        errors = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        error = RuntimeError("a fault in the node")
        pair.local_end.stream_received = lambda _: (_ for _ in ()).throw(error)
        pair.remote_socket.sendall(b"data")

        await pair.local_end.lost

        assert errors == [error]
        assert await pair.read_later(1) == b""

    run_with_pair(factory, test)


@on_every_loop
def test_abort_drops_what_waits_and_ends_the_stream_at_once(factory):
    async def test(pair):
        pair.write(BIG)
        duplicate = os.dup(socket_fd(pair.socket._transport))  # a forked child would have it open, too
        pair.socket.abort()

        await pair.local_end.lost

        assert len(await pair.read_later(len(BIG))) < len(BIG)
        assert pair.socket.queued == 0
        os.close(duplicate)

    run_with_pair(factory, test)


@on_every_loop
def test_all_written_bytes_are_counted_once(factory):
    async def test(pair):
        pair.write(BIG)
        assert 0 < pair.local_end.written < len(BIG)

        await pair.read_later(len(BIG))

        await wait_until(lambda: pair.local_end.written == len(BIG))

    run_with_pair(factory, test)


@on_every_loop
def test_bytes_before_the_queue_are_written_first(factory):
    async def test(pair):
        pair.socket.write(BIG)
        pair.write(b"frame")
        pair.socket.write(b"more")

        assert await pair.read_later(len(BIG) + 9) == BIG + b"moreframe"

    run_with_pair(factory, test)


# Reading from another thread


def is_watched(pair):
    return pair.socket.shared in WatchedSockets.of_loop(asyncio.get_running_loop())._descriptors


def send_and_serve(pair, data):
    """The peer sends ``data`` and a thread reads it while the event loop is blocked. This alone must take all data."""

    def run():
        sending = threading.Thread(target=pair.remote_socket.sendall, args=(data,))
        sending.start()
        size = pair.local_end.budget.used + len(data)
        while pair.local_end.budget.used < size:
            assert pair.socket.shared.serve_from_thread() == ""
        sending.join()

    from_a_thread(run)


@on_every_loop
def test_data_that_a_thread_has_read_comes_before_data_that_the_loop_reads(factory):
    async def test(pair):
        pair.remote_socket.sendall(b"first")
        await wait_until(lambda: pair.received() == b"first")
        send_and_serve(pair, BIG)
        pair.remote_socket.sendall(b"last")

        await wait_until(lambda: pair.received().endswith(b"last"))

        assert pair.received() == b"first" + BIG + b"last"
        assert pair.local_end.budget.used == 0

    run_with_pair(factory, test)


@on_every_loop
def test_the_loop_takes_a_bounded_part_of_what_a_thread_has_read_in_one_iteration(factory):
    async def test(pair):
        send_and_serve(pair, BIG)
        assert pair.local_end.received == []
        sizes = []
        while sum(sizes) < len(BIG):
            await asyncio.sleep(0)
            sizes.append(sum(map(len, pair.local_end.received)) - sum(sizes))

        assert max(sizes) <= READ_SIZE

    run_with_pair(factory, test)


@on_every_loop
def test_concurrent_reads_of_loop_and_thread_keep_the_order(factory):
    async def test(pair):
        done = threading.Event()

        def serve():
            while not done.is_set():
                pair.socket.shared.serve_from_thread()

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            await asyncio.to_thread(pair.remote_socket.sendall, BIG)
            await wait_until(lambda: sum(map(len, pair.local_end.received)) == len(BIG))
        finally:
            done.set()
            serving.join()

        assert pair.received() == BIG
        assert pair.local_end.budget.used == 0

    run_with_pair(factory, test)


@on_every_loop
def test_a_thread_reads_no_more_than_the_limit_and_the_loop_starts_again(factory):
    async def test(pair):
        pair.local_end.budget.limit = 100_000
        sending = threading.Thread(target=pair.remote_socket.sendall, args=(BIG,))
        sending.start()
        while (peer := from_a_thread(pair.socket.shared.serve_from_thread)) == "":
            pass  # without await: the loop is blocked
        assert peer == "plato@h"
        assert pair.local_end.budget.used == 100_000
        assert not is_watched(pair)

        await wait_until(lambda: sum(map(len, pair.local_end.received)) == len(BIG))

        sending.join()
        assert pair.received() == BIG
        assert is_watched(pair)

    run_with_pair(factory, test)


@on_every_loop
def test_a_thread_that_may_read_nothing_because_of_other_connections_leaves_the_socket_to_the_loop(factory):
    async def test(pair):
        pair.local_end.budget.total_limit = 0
        pair.remote_socket.sendall(b"data")
        assert from_a_thread(pair.socket.shared.serve_from_thread) == "plato@h"
        assert not is_watched(pair)

        await wait_until(lambda: pair.received() == b"data")
        assert is_watched(pair)

    run_with_pair(factory, test)


@on_every_loop
def test_with_the_limit_0_a_thread_reads_nothing(factory):
    async def main():
        loop = asyncio.get_running_loop()
        local_end = LocalEnd()
        local_end.budget.limit = 0
        with socket.create_server(("127.0.0.1", 0)) as server:
            await loop.create_connection(lambda: local_end, *server.getsockname())
            local_end.socket.start_reading()
            remote_socket, _ = server.accept()
        with remote_socket:
            assert not is_watched(SocketPair(local_end, remote_socket))
            local_end.socket.close()
            await local_end.lost

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@on_every_loop
def test_the_end_that_a_thread_sees_is_reported_after_the_data(factory):
    async def test(pair):
        send_and_serve(pair, BIG)
        pair.remote_socket.shutdown(socket.SHUT_WR)

        def serve_until_the_end():
            while is_watched_by(loop, pair):
                pair.socket.shared.serve_from_thread()

        loop = asyncio.get_running_loop()
        from_a_thread(serve_until_the_end)

        assert await pair.local_end.lost is None
        assert pair.received() == BIG
        assert pair.local_end.events == ["eof"]

    def is_watched_by(loop, pair):
        return pair.socket.shared in WatchedSockets.of_loop(loop)._descriptors

    run_with_pair(factory, test)


@on_every_loop
def test_a_reset_that_a_thread_sees_is_the_reason_of_the_loss(factory):
    async def test(pair):
        pair.remote_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        pair.remote_socket.close()
        while pair.socket.error is None:
            from_a_thread(pair.socket.shared.serve_from_thread)

        await pair.local_end.lost

        assert isinstance(pair.socket.error, ConnectionResetError)

    run_with_pair(factory, test)


@on_every_loop
def test_what_a_thread_has_read_is_dropped_and_freed_when_the_connection_closes(factory):
    async def test(pair):
        send_and_serve(pair, BIG)
        assert pair.local_end.budget.used == len(BIG)

        pair.socket.close()

        assert pair.local_end.budget.used == 0
        assert not is_watched(pair)
        assert from_a_thread(pair.socket.shared.serve_from_thread) == ""
        await pair.local_end.lost
        assert pair.local_end.received == []

    run_with_pair(factory, test)


@on_every_loop
def test_an_error_while_the_loop_takes_what_a_thread_has_read_ends_the_connection(factory):
    async def test(pair):
        errors = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        error = RuntimeError("a fault in the node")
        send_and_serve(pair, BIG)
        pair.local_end.stream_received = lambda _: (_ for _ in ()).throw(error)

        await pair.local_end.lost

        assert errors == [error]
        assert pair.local_end.budget.used == 0

    run_with_pair(factory, test)


def test_each_read_of_the_loop_counts_as_progress_and_none_of_a_thread():
    async def test(pair):
        before = pair.socket.shared.progress
        send_and_serve(pair, BIG)
        assert pair.socket.shared.progress == before

        await wait_until(lambda: len(pair.received()) == len(BIG))
        taken = pair.socket.shared.progress
        assert taken - before >= len(pair.local_end.received)

        pair.remote_socket.sendall(b"x")
        await wait_until(lambda: pair.received().endswith(b"x"))
        assert pair.socket.shared.progress > taken

    run_with_pair(asyncio.SelectorEventLoop, test)


class QueueWithFinalizer(SendQueue):
    """Sends a frame in the middle of its first write, as an object may do when the collector removes it."""

    flush = None

    def buffers(self):
        found = super().buffers()
        if self.flush is not None:
            flush, self.flush = self.flush, None
            self.append(b"second")
            flush()
        return found


def test_a_finalizer_that_sends_during_a_write_does_not_block():
    async def test(pair):
        queue = QueueWithFinalizer()
        pair.socket.use_queue(queue, "plato@h")
        queue.append(b"first")
        queue.flush = pair.socket.flush

        pair.socket.flush()

        assert pair.remote_socket.recv(100) == b"firstsecond"

    run_with_pair(asyncio.SelectorEventLoop, test)
