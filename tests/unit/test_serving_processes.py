"""The worker processes of a serving: workers that end, and inputs that cannot be passed to them."""

import asyncio
import os
import signal
import threading
from multiprocessing import resource_tracker

import pytest

from erlmesh.errors import ErlangError
from erlmesh.servings import process_runner
from erlmesh.servings.process_runner import ProcessRunner, WorkerDied

resource_tracker.ensure_running()  # It stays, so it must be there before the first test.


def work(inputs):
    """The function that runs in the workers."""
    if "die" in inputs:
        os.kill(os.getpid(), signal.SIGKILL)
    if "too few" in inputs:
        return []
    return [os.getpid() if each == "pid" else each for each in inputs]


def with_runner(test):
    """Pass a runner with one worker to the test."""

    def wrapped(**fixtures):
        async def main():
            runner = ProcessRunner(work, "work", 1)
            await runner.start()
            try:
                await test(runner, **fixtures)
            finally:
                runner.close()
                for thread in threading.enumerate():
                    if thread.daemon and "join" in thread.name:  # It waits for the end of a killed worker.
                        await asyncio.to_thread(thread.join)

        asyncio.run(main())

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped


def deep_list():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@with_runner
async def test_an_input_of_many_levels_fails_alone(runner):
    first, deep, last = await runner.run([1, deep_list(), 2])

    assert (first, last) == (1, 2)
    assert isinstance(deep, ErlangError)
    assert "cannot be passed to a worker process: RecursionError" in str(deep)
    (alone,) = await runner.run([deep_list()])
    assert isinstance(alone, ErlangError)
    with pytest.raises(ErlangError, match="returned 0 outputs for 1 inputs"):
        await runner.run([deep_list(), "too few"])


@with_runner
async def test_a_worker_that_ends_between_two_batches_fails_no_batch(runner):
    (pid,) = await runner.run(["pid"])
    os.kill(pid, signal.SIGKILL)
    # It stays a zombie until the runner looks at it.
    await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    (other,) = await runner.run(["pid"])

    assert other != pid
    assert runner.replaced == 1


def test_a_worker_that_cannot_be_started_is_started_for_the_next_batch(monkeypatch):
    start = process_runner._Worker

    def refused(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    @with_runner
    async def test(runner):
        monkeypatch.setattr(process_runner, "_Worker", refused)
        with pytest.raises(WorkerDied):
            await runner.run(["die"])
        with pytest.raises(BlockingIOError):
            await runner.run([1])
        monkeypatch.setattr(process_runner, "_Worker", start)
        assert await runner.run([1]) == [1]

    test()
