"""What is written, by whom and when, on real sockets: nothing is lost, doubled or torn, and room is as promised."""

import asyncio
import contextlib
import errno
import importlib.util
import os
import socket
import threading

import pytest

from erlmesh.net.socket_writer import NO_WRITES, SocketWriter, socket_fd

HIGH = 1 << 16
TICK = bytes(4)
BIG = bytes(range(1, 251)) * 40_000
"""10 MB without a zero: a tick in the midst of it would be seen. More than any two sockets take."""


def loop_factories():
    yield pytest.param(asyncio.SelectorEventLoop, id="asyncio")
    if importlib.util.find_spec("uvloop"):
        import uvloop

        uvloop.new_event_loop().close()  # from its first loop on libuv keeps a pipe for signals: no test left it behind
        yield pytest.param(uvloop.new_event_loop, id="uvloop")


on_every_loop = pytest.mark.parametrize("factory", list(loop_factories()))


class Ours(asyncio.Protocol):
    """Our end: an outlet, and what its owner is told."""

    def __init__(self):
        self.told = []
        self.received = b""
        self.writer = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.writer = SocketWriter(transport, socket_fd(transport), self, high_water=HIGH)

    def data_received(self, data):
        self.received += data

    def connection_lost(self, exception):
        self.writer.detach()
        self.lost.set_result(exception)

    def pause_writing(self):
        self.told.append("pause")

    def resume_writing(self):
        self.told.append("resume")


class Lab:
    """``theirs`` is a plain blocking socket."""

    def __init__(self, ours, theirs):
        self.ours, self.theirs = ours, theirs
        self.writer = ours.writer

    def read(self, size):
        """Exactly ``size`` bytes that they have got."""
        data = bytearray()
        while len(data) < size and (piece := self.theirs.recv(min(1 << 16, size - len(data)))):
            data += piece
        return bytes(data)

    async def read_later(self, size):
        return await asyncio.to_thread(self.read, size)

    def is_silent(self):
        self.theirs.setblocking(False)
        try:
            self.theirs.recv(1)
        except BlockingIOError:
            return True
        finally:
            self.theirs.settimeout(10)
        return False


def in_lab(factory, test):
    async def main():
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            _, ours = await loop.create_connection(Ours, *server.getsockname())
            theirs, _ = server.accept()
        theirs.settimeout(10)
        with theirs:
            try:
                await test(Lab(ours, theirs))
            finally:
                ours.writer.close()
                with contextlib.suppress(OSError):
                    theirs.shutdown(socket.SHUT_RDWR)
                await ours.lost

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def from_a_thread(function, *arguments):
    """As a guardian calls it: this thread, which is the loop's, does nothing meanwhile."""
    given = []
    thread = threading.Thread(target=lambda: given.append(function(*arguments)))
    thread.start()
    thread.join()
    return given[0]


@on_every_loop
def test_what_is_written_arrives_at_once_and_in_order(factory):
    async def test(lab):
        for number in range(100):
            lab.writer.write(b"%02d" % number)

        assert lab.read(200) == b"".join(b"%02d" % number for number in range(100))
        assert lab.ours.told == []

    in_lab(factory, test)


@on_every_loop
def test_more_than_the_socket_takes_is_written_as_the_peer_reads(factory):
    async def test(lab):
        lab.writer.write(BIG)
        lab.writer.write(b"behind")
        assert lab.ours.told == ["pause"]

        assert await lab.read_later(len(BIG) + 6) == BIG + b"behind"

        await until(lambda: lab.ours.told == ["pause", "resume"])

    in_lab(factory, test)


@on_every_loop
def test_a_word_is_said_while_the_loop_stands_still(factory):
    async def test(lab):
        assert from_a_thread(lab.writer.say, TICK)

        assert lab.read(4) == TICK
        assert lab.writer.take_external_writes()[:2] == (1, 4)
        assert lab.writer.take_external_writes() is NO_WRITES

    in_lab(factory, test)


@on_every_loop
def test_what_waits_is_pushed_instead_of_a_word_and_never_torn(factory):
    async def test(lab):
        """The peer reads, and a thread pushes, while the loop stands still: all must arrive by that alone."""
        lab.writer.write(BIG)
        got, spoken = bytearray(), []

        def read_and_push():
            while len(got) < len(BIG) + len(TICK):
                spoken.append(lab.writer.say(TICK) if not any(spoken) else False)
                with contextlib.suppress(BlockingIOError):
                    got.extend(lab.theirs.recv(1 << 20, socket.MSG_DONTWAIT))

        from_a_thread(read_and_push)

        assert got == BIG + TICK
        assert any(spoken)
        assert lab.ours.told == ["pause"]
        await until(lambda: lab.ours.told == ["pause", "resume"])

    in_lab(factory, test)


@on_every_loop
def test_no_word_is_put_into_a_full_socket(factory):
    async def test(lab):
        while from_a_thread(lab.writer.say, b"x" * 100_000):
            pass
        lab.writer.write(b"behind")

        said = lab.writer.take_external_writes()
        assert await lab.read_later(said.size + 6) == b"x" * said.size + b"behind"

    in_lab(factory, test)


@on_every_loop
def test_loop_and_thread_together_lose_and_tear_nothing(factory):
    async def test(lab):
        frames = [bytes([length % 250 + 1]) * (length * 37 % 5000 + 5) for length in range(4000)]
        over = threading.Event()

        def speak():
            while not over.is_set():
                lab.writer.say(TICK)

        speaking = threading.Thread(target=speak)
        reading = asyncio.ensure_future(asyncio.to_thread(lambda: b"".join(iter(lambda: lab.theirs.recv(3000), b""))))
        speaking.start()
        for number, frame in enumerate(frames):
            lab.writer.write(frame)
            if number % 50 == 0:
                await asyncio.sleep(0)
        over.set()
        speaking.join()
        lab.writer.close()

        got, place = await reading, 0
        for frame in frames:
            while got.startswith(TICK, place):
                place += len(TICK)
            assert got.startswith(frame, place)
            place += len(frame)
        assert got[place:].replace(TICK, b"") == b""

    in_lab(factory, test)


@on_every_loop
def test_closing_waits_until_all_is_written_and_then_the_peer_hears_of_the_end(factory):
    async def test(lab):
        lab.writer.write(BIG)
        lab.writer.close()
        lab.writer.write(b"too late")
        assert not from_a_thread(lab.writer.say, TICK)
        assert lab.writer.is_closing()
        assert not lab.ours.lost.done()

        assert await lab.read_later(len(BIG) + 100) == BIG

        await lab.ours.lost

    in_lab(factory, test)


@on_every_loop
def test_the_peer_hears_of_the_end_also_while_a_child_holds_the_socket(factory):
    async def test(lab):
        held = os.dup(socket_fd(lab.writer._transport))  # as a forked child has it
        lab.writer.close()

        assert lab.read(1) == b""

        os.close(held)

    in_lab(factory, test)


@on_every_loop
def test_a_broken_connection_ends_in_the_loop_with_the_fault_known(factory):
    async def test(lab):
        lab.writer.write(BIG)
        lab.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        lab.theirs.close()  # a reset
        while lab.writer.fault is None and not lab.ours.lost.done():
            from_a_thread(lab.writer.say, TICK)

        lab.writer.write(b"to nobody")

        await lab.ours.lost
        assert lab.writer.fault is None or isinstance(lab.writer.fault, ConnectionError)

    in_lab(factory, test)


@on_every_loop
def test_a_stream_with_a_hole_in_it_ends(factory, monkeypatch):
    """A write that fails for another reason than the connection must not leave the peer with half a frame."""

    async def test(lab):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOBUFS, "no room at all")))
            lab.writer.write(b"lost")
        lab.writer.write(b"and what follows")

        assert lab.read(100) == b""
        await lab.ours.lost
        assert lab.writer.fault.errno == errno.ENOBUFS

    in_lab(factory, test)


@on_every_loop
def test_without_any_descriptor_left_all_is_written_still(factory, monkeypatch):
    async def test(lab):
        with monkeypatch.context() as patch:
            patch.setattr(os, "dup", lambda _: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many open files")))
            lab.writer.write(BIG)
            assert await lab.read_later(len(BIG)) == BIG
            await until(lambda: lab.ours.told == ["pause", "resume"])

    in_lab(factory, test)


@on_every_loop
def test_nothing_is_written_once_the_descriptor_may_be_somebody_elses(factory):
    async def test(lab):
        lab.writer.close()
        await lab.ours.lost
        read, write = os.pipe()  # very likely where the socket was
        try:
            assert not from_a_thread(lab.writer.say, TICK)
            lab.writer.write(b"x")
            os.set_blocking(read, False)
            with pytest.raises(BlockingIOError):
                os.read(read, 1)
        finally:
            os.close(read)
            os.close(write)

    in_lab(factory, test)


def test_a_transport_in_memory_and_one_that_encrypts_have_no_descriptor_to_write_to():
    class Transport(asyncio.BaseTransport):
        pass

    with socket.socket() as real:
        assert socket_fd(Transport()) is None
        assert socket_fd(Transport({"socket": real})) == real.fileno()
        assert socket_fd(Transport({"socket": real, "sslcontext": object()})) is None
    assert socket_fd(Transport({"socket": real})) is None
