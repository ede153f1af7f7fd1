"""The pool of threads for exposed functions: bounds, order of decisions, cancellation, and the end of its threads."""

import asyncio
import contextvars
import inspect
import logging
import threading

import pytest

from erlmesh.runtime import thread_pool
from erlmesh.runtime.thread_pool import NotWanted, PoolFull, ThreadPool
from polling import wait_until_async as wait_until


def threads():
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("pool "))


class Blocking:
    """A function that blocks until it is released. It counts its calls."""

    def __init__(self):
        self.calls, self.released = [], threading.Event()

    def __call__(self, number):
        self.calls.append(number)
        assert self.released.wait(10)
        return number


def with_pool(size, queue_limit=100):
    """Run ``test(pool, blocking)`` on an event loop, then release all threads and close the pool."""

    def decorate(test):
        def run(**fixtures):
            async def main():
                pool, blocking = ThreadPool("pool", size, queue_limit), Blocking()
                try:
                    await test(pool, blocking, **fixtures)
                finally:
                    blocking.released.set()
                    pool.close()
                await wait_until(lambda: not threads())

            asyncio.run(main())

        run.__name__ = test.__name__
        fixtures = [*inspect.signature(test).parameters.values()][2:]
        run.__signature__ = inspect.Signature([each.replace(kind=each.KEYWORD_ONLY) for each in fixtures])
        return run

    return decorate


def start(pool, *calls, **options):
    return [asyncio.create_task(pool.run(*call, **options)) for call in calls]


@with_pool(2)
async def test_a_call_returns_the_value_or_raises(pool, blocking):
    assert await pool.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await pool.run(divmod, 7, 0)
    with pytest.raises(SystemExit):
        await pool.run(raise_system_exit)
    assert await pool.run(threading.current_thread) is not threading.current_thread()
    assert len(threads()) == 1


def raise_system_exit():
    raise SystemExit(1)


@with_pool(1)
async def test_a_call_gets_a_copy_of_the_context(pool, blocking):
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(5)

    assert await pool.run(lambda: (variable.get(), variable.set(6)) and variable.get()) == 6
    assert variable.get() == 5


@with_pool(3)
async def test_threads_start_when_needed_and_never_more_than_the_size(pool, blocking):
    assert threads() == []
    for number in range(5):
        start(pool, (blocking, number))
        await wait_until(lambda number=number: len(blocking.calls) == min(number + 1, 3))
        assert threads() == [f"pool {n + 1}" for n in range(min(number + 1, 3))]

    blocking.released.set()
    await wait_until(lambda: len(blocking.calls) == 5)

    assert sorted(blocking.calls[3:]) == [3, 4]  # two threads run them at the same time
    assert len(threads()) == 3


@pytest.fixture
def logged():
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    thread_pool.log.logger.addHandler(handler)
    yield lines
    thread_pool.log.logger.removeHandler(handler)


FULL = (
    "pool: all 1 threads are busy and {} calls wait; further calls are refused with `overloaded`, and casts are dropped"
)


@with_pool(1, queue_limit=2)
async def test_calls_beyond_the_queue_limit_are_refused_and_logged_at_once_and_at_the_end(pool, blocking, logged):
    running = start(pool, (blocking, 0), (blocking, 1), (blocking, 2))
    await wait_until(lambda: blocking.calls)

    for _ in range(3):
        with pytest.raises(PoolFull, match="all 1 threads are busy, and 2 calls wait for one"):
            await pool.run(blocking, 3)

    blocking.released.set()
    assert await asyncio.gather(*running) == [0, 1, 2]
    assert await pool.run(blocking, 4) == 4
    assert logged == [FULL.format(2)]
    assert pool.refused == 3

    pool.close()
    assert logged[1:] == ["pool: 2 more calls and casts were refused, 3 in all"]


def test_refused_calls_are_counted_in_the_log_at_intervals(monkeypatch, logged):
    monkeypatch.setattr(thread_pool, "IDLE_INTERVAL", 0)

    @with_pool(1, queue_limit=1)
    async def main(pool, blocking):
        start(pool, (blocking, 0), (blocking, 1))
        await wait_until(lambda: blocking.calls)
        for number in (3, 2):  # in two steps: the count is that since the last line
            for _ in range(number):
                with pytest.raises(PoolFull):
                    await pool.run(blocking, 2)
            await wait_until(lambda: pool._unreported == 0)

    main()

    assert logged == [
        FULL.format(1),
        "pool: 2 more calls and casts were refused, 3 in all",
        "pool: 2 more calls and casts were refused, 5 in all",
    ]


@with_pool(1)
async def test_a_cancelled_call_is_not_started_and_leaves_the_queue(pool, blocking):
    first, second, third = start(pool, (blocking, 0), (blocking, 1), (blocking, 2))
    await wait_until(lambda: blocking.calls)
    second.cancel()
    await asyncio.wait([second])
    assert len(pool._queue) == 1

    blocking.released.set()

    assert await asyncio.gather(first, third) == [0, 2]
    assert blocking.calls == [0, 2]


@with_pool(1)
async def test_a_call_that_a_thread_has_not_begun_is_not_started_after_a_cancellation(pool, blocking):
    job = thread_pool.Job(blocking, (1,), print, None, pool._queue)
    job.cancel()
    await pool.run(int)
    pool._busy = 1
    pool._handed.put(job)

    await wait_until(lambda: pool._busy == 0)

    assert blocking.calls == []


@with_pool(1)
async def test_finished_calls_are_told_in_one_iteration_and_an_error_there_stops_no_other(pool, blocking):
    told = []

    def on_done(job):
        told.append((job.result(), asyncio.current_task()))
        raise ValueError

    first = pool.submit(blocking, (0,), on_done)
    for number in range(1, 4):
        pool.submit(int, (number,), on_done)
    thread_pool.log.logger.addFilter(refuse := lambda _record: False)
    first.function.released.set()
    await wait_until(lambda: len(told) == 4)
    thread_pool.log.logger.removeFilter(refuse)

    assert told == [(0, None), (1, None), (2, None), (3, None)]


@with_pool(1)
async def test_a_cancelled_job_is_not_told_and_not_called_before_a_thread_has_it(pool, blocking):
    told = []
    running = pool.submit(blocking, (0,), told.append)
    waiting = pool.submit(blocking, (1,), told.append)
    last = pool.submit(int, (2,), told.append)
    await wait_until(lambda: blocking.calls)
    running.cancel()
    waiting.cancel()
    blocking.released.set()
    await wait_until(lambda: told)

    assert told == [last]
    assert blocking.calls == [0]


@with_pool(1)
async def test_a_waiting_job_is_told_that_the_pool_is_closed(pool, blocking):
    told = []
    pool.submit(blocking, (0,), told.append)
    waiting = pool.submit(blocking, (1,), told.append)
    pool.close()

    assert told == [waiting]
    with pytest.raises(asyncio.CancelledError):
        waiting.result()


@with_pool(1)
async def test_a_coroutine_that_a_cancelled_call_returns_is_closed(pool, blocking):
    made = []

    async def coroutine():
        pass

    def make():
        blocking(0)
        made.append(coroutine())
        return made[0]

    (call,) = start(pool, (make,))
    await wait_until(lambda: blocking.calls)
    call.cancel()
    await asyncio.wait([call])

    blocking.released.set()
    await wait_until(lambda: made and made[0].cr_frame is None)


@with_pool(1)
async def test_a_call_that_is_not_wanted_when_a_thread_is_free_is_not_started(pool, blocking):
    wanted = [True]
    (first,) = start(pool, (blocking, 0))
    second, third = start(pool, (blocking, 1), (blocking, 2), is_wanted=lambda: bool(wanted))
    await wait_until(lambda: blocking.calls)
    wanted.clear()

    blocking.released.set()
    results = await asyncio.gather(first, second, third, return_exceptions=True)

    assert [type(result) for result in results] == [int, NotWanted, NotWanted]
    assert blocking.calls == [0]


def test_idle_threads_end_and_busy_ones_stay(monkeypatch):
    monkeypatch.setattr(thread_pool, "IDLE_INTERVAL", 0)

    @with_pool(3)
    async def main(pool, blocking):
        start(pool, (blocking, 0))
        for _ in range(3):
            await asyncio.gather(*(pool.run(int) for _ in range(3)))

        await wait_until(lambda: len(threads()) == 1)
        assert blocking.calls == [0]

        assert await pool.run(int, "7") == 7

        blocking.released.set()
        await wait_until(lambda: threads() == [])
        assert pool._idle_timer is None
        assert await pool.run(int, "8") == 8

    main()


def test_closing_waits_for_no_function_and_cancels_the_waiting_calls():
    blocking = Blocking()

    async def main():
        pool = ThreadPool("pool", 1, 5)
        running, waiting = start(pool, (blocking, 0), (blocking, 1))
        await wait_until(lambda: blocking.calls)

        pool.close()
        await asyncio.wait([waiting])

        assert waiting.cancelled()
        with pytest.raises(PoolFull):
            await pool.run(int)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(main())
    assert threads() == ["pool 1"]

    blocking.released.set()
    for thread in threading.enumerate():
        if thread.name == "pool 1":
            thread.join(10)
    assert blocking.calls == [0]


@with_pool(2)
async def test_if_the_system_refuses_a_thread_calls_wait_for_another_or_are_refused(pool, blocking):
    genuine = threading.Thread.start

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    try:
        threading.Thread.start = refuse
        with pytest.raises(PoolFull, match="refuses"):
            await pool.run(blocking, 0)
        threading.Thread.start = genuine
        (first,) = start(pool, (blocking, 1))
        await wait_until(lambda: blocking.calls)
        threading.Thread.start = refuse
        second, third = start(pool, (blocking, 2), (blocking, 3))
        await asyncio.sleep(0)
        blocking.released.set()

        assert await asyncio.gather(first, second, third) == [1, 2, 3]
        assert blocking.calls == [1, 2, 3]
    finally:
        threading.Thread.start = genuine


@with_pool(4)
async def test_many_calls_from_many_tasks_all_return(pool, blocking):
    assert await asyncio.gather(*(pool.run(int, str(n)) for n in range(100))) == list(range(100))
    assert pool._busy == 0
