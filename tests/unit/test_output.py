"""Output that nobody reads does not hold the event loop."""

import io
import os
import threading
import time

from erlmesh.services import output as module
from erlmesh.services.output import OutputQueue


def wait_for_thread():
    for thread in threading.enumerate():
        if thread.name == "erlmesh output":
            thread.join(10)
            assert not thread.is_alive()


def test_text_is_written_at_once_where_it_fits():
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        OutputQueue().write(stream, "hello\n")

        assert os.read(read, 100) == b"hello\n"
    os.close(read)


def test_text_that_nobody_reads_waits_in_order_and_a_part_is_dropped(monkeypatch):
    monkeypatch.setattr(module, "QUEUE_LIMIT", 200_000)
    read, write = os.pipe()
    queue = OutputQueue()
    with os.fdopen(write, "w") as stream:
        spent = time.thread_time()
        for number in range(1000):
            queue.write(stream, f"{number:04d}" + "x" * 995 + "\n")
        assert time.thread_time() - spent < 2
        data = b""
        while b"more texts" not in data:
            data += os.read(read, 1 << 16)
        wait_for_thread()

    lines = data.decode().splitlines()
    os.close(read)
    assert lines[-1].startswith("… and")
    numbers = [int(line[:4]) for line in lines[:-1]]
    assert numbers == sorted(set(numbers))
    assert 150 < len(numbers) < 1000
    assert lines[-1].split()[2] == str(1000 - len(numbers))


def test_a_stream_in_memory_is_written_directly():
    stream = io.StringIO()

    OutputQueue().write(stream, "hello")

    assert stream.getvalue() == "hello"
