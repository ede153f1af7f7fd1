"""The guardian speaks while the loop stands still, says who holds it, and is silent and gone otherwise."""

import asyncio
import logging
import os
import re
import sys
import threading
import time

import pytest
from test_socket_writer import on_every_loop

from erlmesh.core import loop_watchdog
from erlmesh.net import watchdog_thread as module
from erlmesh.net.thread_stack import innermost_call, stack_of_thread
from erlmesh.net.watchdog_thread import WatchdogThread

TICKTIME = 0.4
"""Looks are 50 ms apart then."""
WORD = object()


class Line:
    """A connection that writes down what is said on it, in which thread."""

    def __init__(self, *, deaf=0):
        self.said = []
        self.threads = set()
        self.written_at = time.monotonic()
        self.changed = threading.Condition()
        self._deaf = deaf

    def last_written_at(self):
        return self.written_at

    def say(self, signal):
        with self.changed:
            self._deaf -= 1
            if self._deaf >= 0:
                return False
            self.said.append("tick" if signal is None else signal)
            self.threads.add(threading.current_thread().name)
            self.written_at = time.monotonic()
            self.changed.notify_all()
            return True

    def hold_until(self, condition):
        """Holds the loop, in the caller's thread, until what was said satisfies the condition."""
        with self.changed:
            deadline = time.monotonic() + 20
            while not condition(self.said):
                self.changed.wait(0.01)
                assert time.monotonic() < deadline, self.said


class Node:
    name = "plato@h"
    net_ticktime = TICKTIME

    def __init__(self, *lines, name="plato@h"):
        self.lines = list(lines)
        self.name = name
        self.freed = asyncio.Event()
        self.held_for = []
        self.tells_itself = False

    def connections(self):
        return list(self.lines)

    def word(self, held):
        return (WORD, held)

    def is_told(self, held):
        self.held_for.append(held)
        return self.tells_itself

    def free(self):
        self.freed.set()


def guardians():
    return [thread for thread in threading.enumerate() if thread.name.startswith("erlmesh watchdog")]


@pytest.fixture
def soon(monkeypatch):
    """It is told after 0.3 s."""
    monkeypatch.setattr(loop_watchdog, "REPORT_AFTER", 0.3)


def run(main, factory=asyncio.SelectorEventLoop, *, debug=False):
    with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
        runner.run(main())
    assert not guardians()


async def logged(caplog, text):
    async with asyncio.timeout(10):
        while text not in caplog.text:
            await asyncio.sleep(0.001)


@on_every_loop
def test_while_the_loop_stands_still_peers_hear_ticks(factory):
    async def main():
        line = Line()
        node = Node(line)
        guardian = WatchdogThread.attach(node)

        line.hold_until(lambda said: said == ["tick"] * 5)

        assert line.threads == {"erlmesh watchdog"}
        guardian.detach(node)

    run(main, factory)


def test_a_loop_that_turns_speaks_for_itself():
    async def main():
        line, looked = Line(), asyncio.Event()
        looks = []

        class Talkative(Node):
            def connections(self):
                line.last_written_at = time.monotonic()
                looks.append(None)
                if len(looks) == 10:
                    loop.call_soon_threadsafe(looked.set)
                return super().connections()

        loop = asyncio.get_running_loop()
        node = Talkative(line)
        guardian = WatchdogThread.attach(node)
        await looked.wait()
        guardian.detach(node)

        assert line.said == []

    run(main)


@on_every_loop
def test_peers_are_told_once_that_it_is_busy_and_then_that_it_is_free(factory, soon):
    async def main():
        line = Line()
        node = Node(line)
        guardian = WatchdogThread.attach(node)

        line.hold_until(lambda said: len(said) > said.index((WORD, held[0])) + 2 if (held := words(said)) else False)
        assert not node.freed.is_set()
        assert len(words(line.said)) == 1
        assert words(line.said)[0] >= 0.3

        await node.freed.wait()
        guardian.detach(node)

    def words(said):
        return [word[1] for word in said if word != "tick"]

    run(main, factory)


def test_who_could_not_be_told_at_first_is_told_as_soon_as_it_takes_words(soon):
    async def main():
        line, deaf = Line(), Line(deaf=3)
        node = Node(line, deaf)
        guardian = WatchdogThread.attach(node)

        deaf.hold_until(lambda said: any(word != "tick" for word in said))

        guardian.detach(node)

    run(main)


def test_the_log_shows_the_code_that_holds_the_loop_and_for_how_long(soon, caplog):
    def computes_and_computes(line):
        line.hold_until(lambda _: "has not turned" in caplog.text)

    async def main():
        line = Line()
        node = Node(line)
        guardian = WatchdogThread.attach(node)
        computes_and_computes(line)
        await node.freed.wait()
        guardian.detach(node)

    run(main)

    held, free = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert re.match(r"plato@h: the event loop has not turned for 0\.\d s", held)
    assert "in computes_and_computes\n    line.hold_until(" in held
    assert "asyncio" not in held
    assert re.match(r"plato@h: the event loop turns again, after \d+\.\d s", free)


def test_a_node_that_tells_it_in_its_own_words_leaves_the_log_alone(soon, caplog):
    async def main():
        line = Line()
        node = Node(line)
        node.tells_itself = True
        guardian = WatchdogThread.attach(node)
        line.hold_until(lambda _: node.held_for)
        await node.freed.wait()
        guardian.detach(node)
        assert node.held_for[0] >= 0.3

    run(main)

    assert caplog.text == ""


def test_nodes_of_one_loop_share_a_guardian_and_its_log(soon, caplog):
    async def main():
        lines = Line(), Line()
        nodes = Node(lines[0], name="a@h"), Node(lines[1], name="b@h")
        guardian, _ = (WatchdogThread.attach(node) for node in nodes)
        assert len(guardians()) == 1

        for line in lines:
            line.hold_until(lambda said: "tick" in said)
        lines[0].hold_until(lambda said: any(word != "tick" for word in said))
        await nodes[0].freed.wait()
        assert nodes[1].freed.is_set()

        guardian.detach(nodes[0])
        lines[0].said.clear()
        lines[1].said.clear()
        lines[1].hold_until(lambda said: "tick" in said)
        assert lines[0].said == []
        guardian.detach(nodes[1])

    run(main)

    assert caplog.text.count("a@h, b@h: the event loop has not turned") == 1


def test_two_loops_in_two_threads_have_a_guardian_each():
    held, seen = threading.Event(), []

    async def other():
        line = Line()
        node = Node(line, name="other@h")
        guardian = WatchdogThread.attach(node)
        held.wait(20)
        guardian.detach(node)
        seen.extend(line.said)

    async def main():
        line = Line()
        node = Node(line)
        guardian = WatchdogThread.attach(node)
        thread = threading.Thread(target=lambda: asyncio.run(other()))
        thread.start()
        line.hold_until(lambda said: len(said) > 3)
        held.set()
        thread.join()
        guardian.detach(node)

    run(main)

    assert "tick" in seen


def test_a_loop_that_ends_without_a_word_takes_its_guardian_along():
    async def main():
        WatchdogThread.attach(Node(Line()))

    asyncio.run(main())

    for thread in guardians():
        thread.join(10)
    assert not guardians()
    assert module._watchdogs == {}


def test_a_log_that_blocks_does_not_hold_the_guardian(soon):
    """What holds the loop may be the log itself: a pipe that nobody reads."""
    stuck = threading.Event()

    class Pipe(logging.Handler):
        def emit(self, record):
            stuck.wait(20)

    pipe = Pipe()

    async def main():
        line = Line()
        node = Node(line)
        guardian = WatchdogThread.attach(node)
        line.hold_until(lambda said: any(word != "tick" for word in said))
        line.said.clear()
        line.hold_until(lambda said: len(said) > 2)
        guardian.detach(node)
        stuck.set()

    logging.getLogger("erlmesh").addHandler(pipe)
    try:
        with asyncio.Runner() as runner:
            runner.run(main())
    finally:
        stuck.set()
        logging.getLogger("erlmesh").removeHandler(pipe)


def test_a_fault_of_one_connection_is_logged_and_the_next_look_comes(caplog):
    class Broken(Line):
        def last_written_at(self):
            if not self.said:
                self.said.append("fault")
                raise ZeroDivisionError
            return super().last_written_at()

    async def main():
        line = Broken()
        node = Node(line)
        guardian = WatchdogThread.attach(node)
        line.hold_until(lambda said: "tick" in said)
        guardian.detach(node)

    run(main)

    assert "stumbled" in caplog.text


def test_debug_mode_of_asyncio_has_nothing_against_it(soon):
    async def main():
        line = Line()
        node = Node(line)
        guardian = WatchdogThread.attach(node)
        line.hold_until(lambda said: any(word != "tick" for word in said))
        await node.freed.wait()
        guardian.detach(node)

    run(main, debug=True)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_is_not_guarded_and_has_a_guardian_of_its_own_if_it_has_a_node():
    async def in_child():
        line = Line()
        node = Node(line)
        guardian = WatchdogThread.attach(node)
        line.hold_until(lambda said: "tick" in said)
        guardian.detach(node)

    async def main():
        line = Line()
        node = Node(line)
        guardian = WatchdogThread.attach(node)
        child = os.fork()
        if not child:
            code = 1
            try:
                thread = threading.Thread(target=lambda: asyncio.run(in_child()))
                thread.start()
                thread.join()
                code = 0 if not guardians() else 2
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        guardian.detach(node)

    run(main)


def test_what_is_shown_is_what_the_loop_runs_without_the_loop_itself():
    seen = []

    def outer():
        inner()

    def inner():
        looking = threading.Thread(target=lambda: seen.append(stack_of_thread(me)))
        looking.start()
        looking.join()

    async def main():
        outer()

    me = threading.get_ident()
    asyncio.run(main())
    outer()

    in_loop, outside = seen
    assert [call.name for call in in_loop][:3] == ["main", "outer", "inner"]
    assert "outer" in [call.name for call in outside]
    assert len(outside) <= 12
    assert innermost_call(stack_of_thread(-1)) == ""
    assert re.fullmatch(r"\w+ \(.*\.py:\d+\)", innermost_call(in_loop))


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="no thread can keep others out")
def test_a_function_that_keeps_the_interpreter_is_named_afterwards(monkeypatch, caplog):
    monkeypatch.setattr(loop_watchdog, "SAMPLE_INTERVAL", 0.1)
    monkeypatch.setattr(loop_watchdog, "REPORT_AFTER", 0.3)
    monkeypatch.setattr(time, "process_time", time.monotonic)  # as on a machine that has nothing else to do

    def hoards():
        sum(range(30_000_000))  # one call of C

    async def main():
        node = Node()
        guardian = WatchdogThread.attach(node)
        while "kept the interpreter" not in caplog.text:
            hoards()
            await asyncio.sleep(0.06)
        guardian.detach(node)

    run(main)

    assert re.search(r"for \d+\.\d s no thread could run", caplog.text)
    assert "in main\n" in caplog.text
