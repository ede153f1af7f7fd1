"""The watchdog thread writes while the event loop is blocked, logs what blocks it, and otherwise does nothing."""

import asyncio
import logging
import os
import re
import sys
import threading
import time

import pytest
from test_dist_socket import BIG, on_every_loop, run_with_pair, wait_until, with_pair

from erlmesh.core import loop_watchdog
from erlmesh.net import watchdog_thread as module
from erlmesh.net.thread_stack import innermost_call, stack_of_thread
from erlmesh.net.watchdog_thread import WatchdogThread

TICKTIME = 0.4
"""The sample interval is then 50 ms."""
BLOCKED = object()


class FakeConnection:
    """A connection that records what is written to it, and by which threads.

    The first ``refusals`` writes fail, as with a full socket.
    """

    def __init__(self, *, refusals=0):
        self.written = []
        self.threads = set()
        self.written_at = time.monotonic()
        self.changed = threading.Condition()
        self._refusals_left = refusals

    def last_written_at(self):
        return self.written_at

    def write_from_thread(self, signal):
        with self.changed:
            self._refusals_left -= 1
            if self._refusals_left >= 0:
                return False
            self.written.append("tick" if signal is None else signal)
            self.threads.add(threading.current_thread().name)
            self.written_at = time.monotonic()
            self.changed.notify_all()
            return True

    def block_until(self, condition):
        """Block the loop, whose thread calls this, until the frames written satisfy the condition."""
        with self.changed:
            deadline = time.monotonic() + 20
            while not condition(self.written):
                self.changed.wait(0.01)
                assert time.monotonic() < deadline, self.written


class FakeNode:
    name = "plato@h"
    net_ticktime = TICKTIME

    def __init__(self, *connections, name="plato@h"):
        self._connections = list(connections)
        self.name = name
        self.recovered = asyncio.Event()
        self.notified_for = []
        self.lines = []
        self.handles_notification = False

    def connections(self):
        return list(self._connections)

    def blocked_signal(self, seconds):
        return (BLOCKED, seconds)

    def notify_blocked(self, seconds):
        self.notified_for.append(seconds)
        return self.handles_notification

    def notify_line(self, seconds, line, *, gil):
        self.lines.append((line, gil))

    def loop_recovered(self):
        self.recovered.set()


def watchdog_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("erlmesh watchdog")]


@pytest.fixture
def report_early(monkeypatch):
    """A blocked loop is reported after 0.3 s."""
    monkeypatch.setattr(loop_watchdog, "REPORT_AFTER", 0.3)


def run(main, factory=asyncio.SelectorEventLoop, *, debug=False):
    with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
        runner.run(main())
    assert not watchdog_threads()


async def wait_for_log(caplog, text):
    async with asyncio.timeout(10):
        while text not in caplog.text:
            await asyncio.sleep(0.001)


@on_every_loop
def test_ticks_are_sent_while_the_loop_is_blocked(factory):
    async def main():
        connection = FakeConnection()
        node = FakeNode(connection)
        watchdog = WatchdogThread.attach(node)

        connection.block_until(lambda written: written == ["tick"] * 5)

        assert connection.threads == {"erlmesh watchdog"}
        watchdog.detach(node)

    run(main, factory)


def test_the_watchdog_writes_nothing_while_the_loop_runs():
    async def main():
        connection, sampled = FakeConnection(), asyncio.Event()
        samples = []

        class WritingNode(FakeNode):
            def connections(self):
                connection.written_at = time.monotonic()
                samples.append(None)
                if len(samples) == 10:
                    loop.call_soon_threadsafe(sampled.set)
                return super().connections()

        loop = asyncio.get_running_loop()
        node = WritingNode(connection)
        watchdog = WatchdogThread.attach(node)
        await sampled.wait()
        watchdog.detach(node)

        assert connection.written == []

    run(main)


@on_every_loop
def test_peers_get_the_blocked_signal_once_and_then_the_recovery(factory, report_early):
    async def main():
        connection = FakeConnection()
        node = FakeNode(connection)
        watchdog = WatchdogThread.attach(node)

        def has_signal_and_two_ticks(written):
            signals = blocked_signals(written)
            return bool(signals) and len(written) > written.index((BLOCKED, signals[0])) + 2

        connection.block_until(has_signal_and_two_ticks)
        assert not node.recovered.is_set()
        assert len(blocked_signals(connection.written)) == 1
        assert blocked_signals(connection.written)[0] >= 0.3

        await node.recovered.wait()
        watchdog.detach(node)

    def blocked_signals(written):
        return [frame[1] for frame in written if frame != "tick"]

    run(main, factory)


def test_a_blocked_signal_that_cannot_be_written_is_tried_again(report_early):
    async def main():
        connection, full_connection = FakeConnection(), FakeConnection(refusals=3)
        node = FakeNode(connection, full_connection)
        watchdog = WatchdogThread.attach(node)

        full_connection.block_until(lambda written: any(frame != "tick" for frame in written))

        watchdog.detach(node)

    run(main)


def test_the_log_shows_the_blocking_code_and_the_duration(report_early, caplog):
    def blocking_code(connection):
        connection.block_until(lambda _: "has been blocked" in caplog.text)

    async def main():
        connection = FakeConnection()
        node = FakeNode(connection)
        watchdog = WatchdogThread.attach(node)
        blocking_code(connection)
        await node.recovered.wait()
        watchdog.detach(node)

    run(main)

    blocked, recovered = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert re.match(r"plato@h: the event loop has been blocked for 0\.\d s", blocked)
    assert "in blocking_code\n    connection.block_until(" in blocked
    assert "asyncio" not in blocked
    assert re.match(r"plato@h: the event loop runs again, after \d+\.\d s", recovered)


def test_the_line_of_the_program_that_blocks_the_loop_is_told(report_early):
    async def main():
        connection = FakeConnection()
        node = FakeNode(connection)
        watchdog = WatchdogThread.attach(node)
        connection.block_until(lambda _: node.lines)  # it waits in a function of the standard library
        await node.recovered.wait()
        watchdog.detach(node)

        line, gil = node.lines[0]
        assert re.fullmatch(r"test_watchdog_thread.py:\d+ in (block_until|<lambda>)", line)
        assert gil is False

    run(main)


def test_a_node_that_cannot_tell_the_line_costs_no_log_entry(report_early, caplog):
    async def main():
        connection = FakeConnection()
        node = FakeNode(connection)
        node.lines = None
        watchdog = WatchdogThread.attach(node)
        connection.block_until(lambda _: "has been blocked" in caplog.text)
        await node.recovered.wait()
        watchdog.detach(node)

    run(main)

    assert "cannot tell observers" in caplog.text


def test_a_handled_notification_is_not_logged(report_early, caplog):
    async def main():
        connection = FakeConnection()
        node = FakeNode(connection)
        node.handles_notification = True
        watchdog = WatchdogThread.attach(node)
        connection.block_until(lambda _: node.notified_for)
        await node.recovered.wait()
        watchdog.detach(node)
        assert node.notified_for[0] >= 0.3

    run(main)

    assert caplog.text == ""


def test_nodes_of_one_loop_share_one_watchdog_and_one_log_line(report_early, caplog):
    async def main():
        connections = FakeConnection(), FakeConnection()
        nodes = FakeNode(connections[0], name="a@h"), FakeNode(connections[1], name="b@h")
        watchdog, _ = (WatchdogThread.attach(node) for node in nodes)
        assert len(watchdog_threads()) == 1

        for connection in connections:
            connection.block_until(lambda written: "tick" in written)
        connections[0].block_until(lambda written: any(frame != "tick" for frame in written))
        await nodes[0].recovered.wait()
        assert nodes[1].recovered.is_set()

        watchdog.detach(nodes[0])
        connections[0].written.clear()
        connections[1].written.clear()
        connections[1].block_until(lambda written: "tick" in written)
        assert connections[0].written == []
        watchdog.detach(nodes[1])

    run(main)

    assert caplog.text.count("a@h, b@h: the event loop has been blocked") == 1


def test_two_loops_have_two_watchdogs():
    release, seen = threading.Event(), []

    async def other():
        connection = FakeConnection()
        node = FakeNode(connection, name="other@h")
        watchdog = WatchdogThread.attach(node)
        release.wait(20)
        watchdog.detach(node)
        seen.extend(connection.written)

    async def main():
        connection = FakeConnection()
        node = FakeNode(connection)
        watchdog = WatchdogThread.attach(node)
        thread = threading.Thread(target=lambda: asyncio.run(other()))
        thread.start()
        connection.block_until(lambda written: len(written) > 3)
        release.set()
        thread.join()
        watchdog.detach(node)

    run(main)

    assert "tick" in seen


def test_the_watchdog_ends_with_a_loop_that_never_detached():
    async def main():
        WatchdogThread.attach(FakeNode(FakeConnection()))

    asyncio.run(main())

    for thread in watchdog_threads():
        thread.join(10)
    assert not watchdog_threads()
    assert module._watchdogs == {}


def test_a_blocked_log_does_not_block_the_watchdog(report_early):
    """The log itself may block the loop, for example a pipe without a reader."""
    stuck = threading.Event()

    class Pipe(logging.Handler):
        def emit(self, record):
            stuck.wait(20)

    pipe = Pipe()

    async def main():
        connection = FakeConnection()
        node = FakeNode(connection)
        watchdog = WatchdogThread.attach(node)
        connection.block_until(lambda written: any(frame != "tick" for frame in written))
        connection.written.clear()
        connection.block_until(lambda written: len(written) > 2)
        watchdog.detach(node)
        stuck.set()

    logging.getLogger("erlmesh").addHandler(pipe)
    try:
        with asyncio.Runner() as runner:
            runner.run(main())
    finally:
        stuck.set()
        logging.getLogger("erlmesh").removeHandler(pipe)


def test_an_error_of_a_connection_is_logged_and_the_watchdog_continues(caplog):
    class Broken(FakeConnection):
        def last_written_at(self):
            if not self.written:
                self.written.append("error")
                raise ZeroDivisionError
            return super().last_written_at()

    async def main():
        connection = Broken()
        node = FakeNode(connection)
        watchdog = WatchdogThread.attach(node)
        connection.block_until(lambda written: "tick" in written)
        watchdog.detach(node)

    run(main)

    assert "error in the watchdog thread" in caplog.text


def test_the_watchdog_works_in_asyncio_debug_mode(report_early):
    async def main():
        connection = FakeConnection()
        node = FakeNode(connection)
        watchdog = WatchdogThread.attach(node)
        connection.block_until(lambda written: any(frame != "tick" for frame in written))
        await node.recovered.wait()
        watchdog.detach(node)

    run(main, debug=True)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_its_own_watchdog_only_if_it_has_a_node():
    async def in_child():
        connection = FakeConnection()
        node = FakeNode(connection)
        watchdog = WatchdogThread.attach(node)
        connection.block_until(lambda written: "tick" in written)
        watchdog.detach(node)

    async def main():
        connection = FakeConnection()
        node = FakeNode(connection)
        watchdog = WatchdogThread.attach(node)
        child = os.fork()
        if not child:
            code = 1
            try:
                thread = threading.Thread(target=lambda: asyncio.run(in_child()))
                thread.start()
                thread.join()
                code = 0 if not watchdog_threads() else 2
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        watchdog.detach(node)

    run(main)


def test_the_stack_starts_after_the_calls_of_the_event_loop():
    seen = []

    def outer():
        inner()

    def inner():
        sampler = threading.Thread(target=lambda: seen.append(stack_of_thread(main_thread)))
        sampler.start()
        sampler.join()

    async def main():
        outer()

    main_thread = threading.get_ident()
    asyncio.run(main())
    outer()

    in_loop, outside = seen
    assert [call.name for call in in_loop][:3] == ["main", "outer", "inner"]
    assert "outer" in [call.name for call in outside]
    assert len(outside) <= 12
    assert innermost_call(stack_of_thread(-1)) == ""
    assert re.fullmatch(r"\w+ \(.*\.py:\d+\)", innermost_call(in_loop))


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="without a GIL no thread can stop the others"
)
def test_a_function_that_held_the_gil_is_logged_afterwards(monkeypatch, caplog):
    monkeypatch.setattr(loop_watchdog, "SAMPLE_INTERVAL", 0.1)
    monkeypatch.setattr(loop_watchdog, "REPORT_AFTER", 0.3)
    monkeypatch.setattr(time, "process_time", time.monotonic)  # as on an otherwise idle machine

    def holds_the_gil(size):
        sum(range(size))  # one call into C code

    async def main():
        node = FakeNode()
        watchdog = WatchdogThread.attach(node)
        size = 30_000_000
        while "held the GIL" not in caplog.text:
            holds_the_gil(size)
            size = min(size * 2, 2_000_000_000)  # A fast machine needs longer work, but not an endless one.
            await asyncio.sleep(0.06)
        watchdog.detach(node)

    run(main)

    assert re.search(r"no thread could run for \d+\.\d s", caplog.text)
    assert "in main\n" in caplog.text


# Reading while the loop is blocked


def blocked_while(condition):
    """Block the loop, whose thread calls this, as long as the condition holds."""
    deadline = time.monotonic() + 20
    changed = threading.Event()
    while condition():
        changed.wait(0.001)
        assert time.monotonic() < deadline


@on_every_loop
def test_a_peer_can_send_while_the_loop_is_blocked(factory):
    async def test(pair):
        node = FakeNode()
        watchdog = WatchdogThread.attach(node)
        sending = threading.Thread(target=pair.remote_socket.sendall, args=(BIG,))
        sending.start()

        blocked_while(sending.is_alive)

        assert pair.local_end.received == []
        await wait_until(lambda: sum(map(len, pair.local_end.received)) == len(BIG))
        assert pair.received() == BIG
        watchdog.detach(node)

    run_with_pair(factory, test)


def test_the_thread_reads_connections_that_are_older_and_younger_than_itself():
    async def with_old(old):
        async def with_young(young):
            for pair in (old, young):
                pair.remote_socket.sendall(b"data")
                blocked_while(lambda pair=pair: pair.local_end.budget.used == 0)

        node = FakeNode()
        watchdog = WatchdogThread.attach(node)
        await with_pair(with_young)
        watchdog.detach(node)

    run_with_pair(asyncio.SelectorEventLoop, with_old)


def test_a_full_buffer_is_logged_once(caplog):
    async def test(pair):
        pair.local_end.budget.limit = 1000
        node = FakeNode()
        watchdog = WatchdogThread.attach(node)
        sending = threading.Thread(target=pair.remote_socket.sendall, args=(BIG,))
        sending.start()
        blocked_while(lambda: "has reached the limit" not in caplog.text)
        await wait_until(lambda: sum(map(len, pair.local_end.received)) == len(BIG))
        sending.join()
        assert pair.received() == BIG
        watchdog.detach(node)

    run_with_pair(asyncio.SelectorEventLoop, test)

    assert caplog.text.count("the event loop is blocked, and the data from plato@h has reached the limit") == 1


def test_an_idle_thread_sleeps_between_samples(monkeypatch):
    async def test(pair):
        waits = []
        node = FakeNode()
        node.net_ticktime = 60
        watchdog = WatchdogThread.attach(node)
        pair.remote_socket.sendall(b"x")
        await wait_until(lambda: pair.received() == b"x")
        await wait_until(lambda: not watchdog._looks.is_looking)
        wait = watchdog._sockets.wait
        monkeypatch.setattr(watchdog._sockets, "wait", lambda timeout: waits.append(timeout) or wait(timeout))
        await wait_until(lambda: any(timeout > 0.5 for timeout in waits))
        watchdog.detach(node)

    run_with_pair(asyncio.SelectorEventLoop, test)
