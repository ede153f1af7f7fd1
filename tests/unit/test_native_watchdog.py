"""The native watchdog thread keeps connections alive while code blocks the event loop and holds the GIL."""

import asyncio
import contextlib
import gc
import json
import logging
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from holding_gil import read_holding_gil
from test_dist_socket import on_every_loop, socket_fd, wait_until
from test_watchdog_thread import FakeNode, watchdog_threads

from erlmesh import native
from erlmesh.core import loop_watchdog
from erlmesh.net import native_watchdog
from erlmesh.net.dist_socket import DistSocket
from erlmesh.net.epmd_server import EpmdServer
from erlmesh.net.health import HealthServer
from erlmesh.net.health_socket import short_socket_path
from erlmesh.net.native_watchdog import NativeWatchdog
from erlmesh.proto import epmd
from erlmesh.proto.flags import OFFERED
from erlmesh.proto.receive_buffer import make_receive_budget
from erlmesh.proto.wire import make_wire
from erlmesh.terms import Atom

pytestmark = pytest.mark.skipif(native.module is None, reason="needs the native part")

TICK = bytes(4)
BLOCKED_FRAME = b"\0\0\0\x08held\0\0\0\0"
LIMIT = 1 << 20
NULL_DEVICE = Path(os.devnull).stat().st_rdev


@pytest.fixture
def report_early(monkeypatch):
    """A blocked loop is reported after 0.3 s."""
    monkeypatch.setattr(loop_watchdog, "REPORT_AFTER", 0.3)


class LocalEnd(asyncio.Protocol):
    """A connection with a native wire. It counts the ticks that it receives."""

    def __init__(self):
        self.wire = make_wire(Atom("peer@h"), Atom("own@h"), OFFERED, (1 << 20, 1 << 20, 1 << 20))
        self.budget = make_receive_budget()
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.socket = DistSocket(transport, socket_fd(transport), self, high_water=1 << 20, receive_budget=self.budget)
        self.socket.use_queue(self.wire, "peer@h")

    def connection_lost(self, exception):
        self.socket.detach()
        self.lost.set_result(exception)

    def run_read(self, read):
        read()

    def data_written(self, size): ...

    def events_received(self, events): ...

    def end_of_stream(self): ...

    # As a connection of a node

    def let_thread_keep_alive(self, node, net_ticktime, _signal):
        self.socket.shared.keep_alive(node, net_ticktime, BLOCKED_FRAME)


@contextlib.asynccontextmanager
async def connected(node):
    """Yield the local end of a connection of ``node``, the remote socket and the watchdog."""
    watchdog = NativeWatchdog.attach(node)
    with socket.create_server(("127.0.0.1", 0)) as server:
        _, end = await asyncio.get_running_loop().create_connection(LocalEnd, *server.getsockname())
        remote, _ = server.accept()
    end.socket.start_reading(lambda fd: (end.wire.read(fd, []), []))
    watchdog.connection_ready(node, end)
    with remote:
        try:
            yield end, remote, watchdog
        finally:
            end.socket.abort()
            await end.lost
            watchdog.detach(node)


def run(main, factory=asyncio.SelectorEventLoop):
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert not watchdog_threads()


@on_every_loop
def test_ticks_are_sent_while_the_gil_is_held(factory):
    async def main():
        async with connected(FakeNode()) as (_, remote, _):
            assert read_holding_gil(remote, 8) == TICK * 2

    run(main, factory)


@on_every_loop
def test_peers_get_the_blocked_signal_once_and_then_the_recovery(factory, caplog, report_early):
    async def main():
        node = FakeNode()
        async with connected(node) as (_, remote, _):
            data = b""
            while data.count(b"held") < 1 or len(data.partition(b"held")[2]) < 4 + 2 * len(TICK):
                data += read_holding_gil(remote, 4)
            before, _, after = data.partition(b"held")
            assert before.replace(TICK, b"") == b"\0\0\0\x08".replace(TICK, b"")
            assert 300 <= struct.unpack(">I", after[:4])[0] < 10_000
            assert after[4:] == TICK * 2
            assert not node.recovered.is_set()
            await node.recovered.wait()
            await wait_until(lambda: "C function held the GIL" in caplog.text or "blocked for" in caplog.text)

    run(main, factory)

    assert "in read_holding_gil" in caplog.text


def test_the_log_says_that_the_gil_was_held(caplog, report_early):
    async def main():
        node = FakeNode()
        async with connected(node) as (_, remote, _):
            read_holding_gil(remote, 60)  # more than a second
            await wait_until(lambda: "no thread could run Python" in caplog.text)
        assert node.notified_for[0] >= 0.3

    run(main)

    assert re.search(r"plato@h: the event loop has been blocked for \d\.\d s, and no thread could run", caplog.text)


@on_every_loop
def test_data_is_read_while_the_gil_is_held_and_handled_in_order_afterwards(factory):
    async def main():
        async with connected(FakeNode()) as (end, remote, _):
            remote.sendall(TICK * 10_000 + b"\0\0")
            while end.socket.shared.buffered < 40_002:
                read_holding_gil(remote, 4)
            assert end.wire.ticks_in == 0
            assert end.budget.used == 40_002
            remote.sendall(b"\0\0" + TICK)

            await wait_until(lambda: end.wire.ticks_in == 10_002)

            assert end.budget.used == 0
            assert end.socket.shared.last_thread_read_at is not None

    run(main, factory)


def test_a_thread_reads_no_more_than_the_limit_and_the_loop_starts_again(caplog):
    async def main():
        async with connected(FakeNode()) as (end, remote, _):
            end.budget.limit = 1000
            remote.sendall(TICK * 1000)
            while end.budget.used < 1000:
                read_holding_gil(remote, 4)
            await wait_until(lambda: end.wire.ticks_in == 1000)
            await wait_until(lambda: "has reached the limit" in caplog.text)
            end.budget.limit = LIMIT
            remote.sendall(TICK * 1000)
            while end.budget.used < 4000:
                read_holding_gil(remote, 4)
            await wait_until(lambda: end.wire.ticks_in == 2000)

    run(main)

    assert caplog.text.count("the data from peer@h has reached the limit") == 1


def test_queued_data_is_written_while_the_gil_is_held():
    async def main():
        async with connected(FakeNode()) as (end, remote, _):
            for _ in range(100):
                end.wire.write_tick()
            assert read_holding_gil(remote, 400) == TICK * 100
            assert end.wire.queued == 0
            frames, size, _ = end.socket.shared.take_external_writes()
            assert size >= 400
            assert frames == (size - 400) // 4

    run(main)


def test_a_broken_connection_is_lost_after_the_block():
    async def main():
        node = FakeNode()
        async with connected(node) as (end, remote, _), connected(node) as (_, other, _):
            remote.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            remote.close()
            read_holding_gil(other, 8)

            await end.lost

            assert isinstance(end.socket.error, ConnectionError)

    run(main)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the system does not tell where a thread waits")
@on_every_loop
def test_an_idle_loop_is_not_woken_up(factory, monkeypatch):
    woken = []
    responded = NativeWatchdog._loop_responded
    monkeypatch.setattr(NativeWatchdog, "_loop_responded", lambda self: woken.append(None) or responded(self))

    async def main():
        async with connected(FakeNode()) as (_, remote, _):
            await asyncio.to_thread(remote.recv, 4)
            before = len(woken)
            await asyncio.to_thread(remote.recv, 20, socket.MSG_WAITALL)  # sent by the thread, which samples the loop
            assert len(woken) - before <= 3  # of 15 samples: the loop starts threads and handles their ends

    run(main, factory)


def test_nothing_is_sent_after_the_node_has_detached():
    async def main():
        node, other = FakeNode(), FakeNode(name="other@h")
        async with connected(other) as (_, remote, _), connected(node) as (_, own, watchdog):
            read_holding_gil(own, 4)
            watchdog.detach(node)
            own.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                own.recv(1000)

            read_holding_gil(remote, 40)

            with pytest.raises(BlockingIOError):
                own.recv(1)

    run(main)


def test_the_threads_end_with_a_loop_that_never_detached():
    async def main():
        NativeWatchdog.attach(FakeNode())

    asyncio.run(main())

    for thread in watchdog_threads():
        thread.join(10)
    assert not watchdog_threads()
    assert not native_watchdog._running
    gc.collect()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_its_own_watchdog_only_if_it_has_a_node():
    async def in_child():
        async with connected(FakeNode()) as (_, remote, _):
            assert read_holding_gil(remote, 8) == TICK * 2

    async def main():
        node = FakeNode()
        async with connected(node) as (end, remote, watchdog):
            read_holding_gil(remote, 4)
            child = os.fork()
            if not child:
                code = 1
                try:
                    assert os.fstat(end.socket.shared.fd).st_rdev == NULL_DEVICE
                    end.wire.write_tick()
                    watchdog.detach(node)  # there is no thread to wait for
                    thread = threading.Thread(target=lambda: asyncio.run(in_child()))
                    thread.start()
                    thread.join()
                    code = 0
                finally:
                    os._exit(code)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
            assert read_holding_gil(remote, 4) == TICK
            remote.sendall(TICK)
            while not end.socket.shared.buffered:
                read_holding_gil(remote, 4)
            await wait_until(lambda: end.wire.ticks_in == 1)  # the thread can wake up the loop

    run(main)


def test_a_blocked_log_does_not_block_the_watchdog(report_early):
    stuck = threading.Event()

    class Pipe(logging.Handler):
        def emit(self, record):
            stuck.wait(20)

    pipe = Pipe()

    async def main():
        async with connected(FakeNode()) as (_, remote, _):
            remote.recv(60, socket.MSG_WAITALL)  # releases the GIL
            stuck.set()

    logging.getLogger("erlmesh").addHandler(pipe)
    try:
        with asyncio.Runner() as runner:
            runner.run(main())
    finally:
        stuck.set()
        logging.getLogger("erlmesh").removeHandler(pipe)


def test_the_embedded_epmd_answers_while_the_gil_is_held():
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = EpmdServer(port)
        await server.start(["127.0.0.1"])
        node = FakeNode()
        watchdog = NativeWatchdog.attach(node)
        registered = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port))
        registered.sendall(epmd.encode_register("plato", 9100))
        await asyncio.to_thread(registered.recv, 100)

        answers = []
        for request in (epmd.encode_names(), epmd.encode_lookup("plato"), epmd.encode_lookup("nobody")):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(request[:2])
            client.sendall(request[2:])
            answers.append(read_holding_gil(client, 1000))
            client.close()

        assert epmd.decode_names_response(answers[0]) == {"plato": 9100}
        assert epmd.decode_lookup_response(answers[1]).port == 9100
        assert answers[1] == server.registry.handle_port_please2(b"plato")
        assert epmd.decode_lookup_response(answers[2]) is None
        registered.close()
        await wait_until(lambda: not server.registry.names())
        server.close()
        watchdog.detach(node)

    run(main)


def test_health_is_answered_while_the_gil_is_held(tmp_path):
    async def main():
        server = HealthServer("plato@h", dict, [tmp_path])
        with socket.socket(socket.AF_UNIX) as client, short_socket_path(server.path) as short:
            client.connect(short)
            answer = json.loads(read_holding_gil(client, 1000))
        assert answer["alive"] is False
        assert answer["loop_ms"] >= 1000
        assert answer["blocked_by"] == "code that holds the GIL"
        server.close()

    run(main)


EXIT_WITH_A_NODE = """
import asyncio, sys
from erlmesh.net.native_watchdog import NativeWatchdog
from test_watchdog_thread import FakeNode

async def main():
    NativeWatchdog.attach(FakeNode())
    {end}

loop = asyncio.new_event_loop()
loop.run_until_complete(main())
"""


@pytest.mark.parametrize("end", ["pass", "sys.exit(0)", "asyncio.get_running_loop().stop(); sys.exit(0)"])
def test_a_program_ends_although_its_node_was_not_stopped(end):
    program = [sys.executable, "-W", "ignore::ResourceWarning", "-c", EXIT_WITH_A_NODE.format(end=end)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    ended = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)

    assert (ended.returncode, ended.stderr) == (0, "")
