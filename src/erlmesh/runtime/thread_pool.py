"""A bounded pool of threads for functions of the user that are not coroutine functions.

All decisions are made in the event loop: it keeps the queue, hands a call to a thread only when one is free, and starts
and ends threads. A thread only calls functions. So a call that nobody wants any more is never started.

The default executor of asyncio is not used. It is shared with the rest of the program, its queue has no bound, and
Python waits for its threads at exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final

from erlmesh.net.event_log import event_log

if TYPE_CHECKING:
    from queue import SimpleQueue

__all__ = ["Job", "NotWanted", "PoolFull", "ThreadPool"]

log = event_log("erlmesh")

IDLE_INTERVAL: Final = 10.0
"""Seconds after which threads end that were not needed, and after which refused calls are reported again."""


class PoolFull(Exception):
    """The queue is full, or no thread can be started."""


class NotWanted(Exception):
    """Nobody wanted the result any more when a thread was free. The function was not called."""


class Job:
    """One call: what a thread needs, what it returns, and what is called then."""

    __slots__ = ("arguments", "context", "dropped", "error", "function", "is_wanted", "on_done", "queue", "value")

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        on_done: Callable[[Job], object],
        is_wanted: Callable[[], bool] | None,
        queue: OrderedDict[Job, None],
    ) -> None:
        self.function = function
        self.arguments = arguments
        self.context: Context = copy_context()
        self.on_done = on_done
        self.is_wanted = is_wanted
        self.queue = queue
        self.dropped = False
        """True if the caller waits no longer. A thread that has not called the function yet does not call it."""
        self.value: Any = None
        self.error: BaseException | None = None

    def cancel(self) -> None:
        """The caller waits no longer. If no thread has the call yet, it is not made. Else its result is dropped."""
        self.dropped = True
        self.queue.pop(self, None)
        self._close_value()

    def result(self) -> Any:
        """Return the value of a finished call, or raise what it raised, NotWanted, or PoolFull."""
        if self.error is not None:
            raise self.error
        return self.value

    def run(self) -> None:
        """Call the function. A thread does this."""
        try:
            self.value = self.context.run(self.function, *self.arguments)
        except BaseException as error:
            self.error = error

    def finish(self) -> None:
        """Tell the caller, or drop the value. The event loop does this."""
        if self.dropped:
            self._close_value()
            return
        try:
            self.on_done(self)
        except Exception:  # The results of other calls must still reach their callers.
            log.exception("callback_failed", "an exception at the end of a call in a thread")

    def _close_value(self) -> None:
        if iscoroutine(self.value):
            self.value.close()  # without this, Python warns that it was never awaited


class ThreadPool:
    """At most ``size`` threads, and at most ``queue_limit`` calls that wait for one.

    ``name`` is part of the names of the threads. A thread starts when a call needs it. After some seconds without need
    it ends. One event loop uses the pool, and must call :meth:`close`.
    """

    def __init__(self, name: str, size: int, queue_limit: int) -> None:
        self.size = size
        self.queue_limit = queue_limit
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: OrderedDict[Job, None] = OrderedDict()
        """The calls that wait for a thread, oldest first."""
        self._handed: SimpleQueue[Job | None]
        """The calls that threads take: never more than there are free threads. None ends a thread. The first call of
        :meth:`submit` makes it."""
        self._finished: deque[Job] = deque()
        """The calls whose functions have returned. Threads append to it."""
        self._wakeup_sent = False
        """True if the event loop will look into ``_finished`` soon. Threads set it."""
        self._thread_count = 0
        self._busy = 0
        """The calls that were handed to threads and are not finished."""
        self._most_busy = 0
        """The largest value of ``_busy`` since the last look for idle threads."""
        self._idle_timer: asyncio.TimerHandle | None = None
        self._reported_full = False
        self._unreported = 0
        """The calls that were refused since the last line in the log."""
        self.refused = 0
        """The calls that were refused since the start."""
        self._closed = False

    @property
    def load(self) -> tuple[int, int]:
        """How many calls run in threads, and how many wait for one."""
        return self._busy, len(self._queue)

    async def run(
        self, function: Callable[..., Any], *arguments: Any, is_wanted: Callable[[], bool] | None = None
    ) -> Any:
        """Return ``function(*arguments)``, called in a thread with a copy of the current context.

        Raises what it raises, and PoolFull. ``is_wanted()`` is asked in the event loop when a thread is free for the
        call; if it is false, this raises NotWanted. If the caller is cancelled before that, the function is not called.
        If it is cancelled later, the result is dropped.
        """
        done = asyncio.get_running_loop().create_future()

        def wake_up(_: Job) -> None:
            if not done.done():
                done.set_result(None)

        job = self.submit(function, arguments, wake_up, is_wanted)
        try:
            await done
        except asyncio.CancelledError:
            job.cancel()
            raise
        return job.result()

    def submit(
        self,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        on_done: Callable[[Job], object],
        is_wanted: Callable[[], bool] | None = None,
    ) -> Job:
        """Do the same as :meth:`run`, and call ``on_done(job)`` in the event loop when the call is finished.

        Raises PoolFull. ``on_done`` may be called before this returns, if the call is not wanted. It is not called
        after :meth:`Job.cancel`.
        """
        if self._closed:
            raise PoolFull("the node stops")
        if len(self._queue) >= self.queue_limit and self._busy >= self.size:
            self._count_refusal()
            raise PoolFull(f"all {self.size} threads are busy, and {len(self._queue)} calls wait for one")
        if self._loop is None:
            from queue import SimpleQueue  # noqa: PLC0415 - most nodes need it never

            self._loop, self._handed = asyncio.get_running_loop(), SimpleQueue()
        job = Job(function, arguments, on_done, is_wanted, self._queue)
        self._queue[job] = None
        self._hand_out()
        return job

    def close(self) -> None:
        """Cancel the waiting calls and end the threads. This does not wait for a function that still runs.

        Such a function runs on until it returns, or until the program exits. Its result is dropped.
        """
        self._closed = True
        self._report_refused()
        waiting = list(self._queue)
        self._queue.clear()
        for job in waiting:
            job.error = asyncio.CancelledError()
            job.finish()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        self._end_threads(self._thread_count)

    def _count_refusal(self) -> None:
        """Count the call, and log the first refusal. The next first one comes after the queue was empty."""
        self.refused += 1
        if self._reported_full:
            self._unreported += 1
            return
        self._reported_full = True
        log.warning(
            "functions_overloaded",
            "%s: all %d threads are busy and %d calls wait; further calls are refused with `overloaded`, and casts are "
            "dropped",
            self._name,
            self.size,
            len(self._queue),
            count=len(self._queue),
        )

    def _report_refused(self) -> None:
        """Log the number of the calls that were refused since the last line. A cast has no other trace."""
        if self._unreported:
            log.warning(
                "functions_refused",
                "%s: %d more calls and casts were refused, %d in all",
                self._name,
                self._unreported,
                self.refused,
                count=self._unreported,
            )
            self._unreported = 0

    def _hand_out(self) -> None:
        """Give waiting calls to free threads."""
        while self._queue and self._busy < self.size:
            job, _ = self._queue.popitem(last=False)
            if job.is_wanted is not None and not job.is_wanted():
                job.error = NotWanted()
                job.finish()
                continue
            if self._busy == self._thread_count and not self._start_thread():
                if self._busy:  # a busy thread will take it
                    self._queue[job] = None
                    self._queue.move_to_end(job, last=False)
                    return
                self.refused += 1
                job.error = PoolFull("the system refuses to start a thread")
                job.finish()
                continue
            self._busy += 1
            self._most_busy = max(self._most_busy, self._busy)
            self._handed.put(job)
        if not self._queue:
            self._reported_full = False

    # Threads

    def _start_thread(self) -> bool:
        """Start a thread. False if the system refuses it."""
        name = f"{self._name} {self._thread_count + 1}"
        # A daemon thread does not keep the program from ending.
        thread = threading.Thread(target=self._work, args=(self._loop,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread_count += 1
        if self._idle_timer is None:
            self._watch_idle_threads()
        return True

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run in each thread."""
        while (job := self._handed.get()) is not None:
            if not job.dropped:
                job.run()
            self._finished.append(job)
            del job  # an idle thread must not keep the value of its last call alive
            # The event loop clears the flag before it reads the deque. So a job that finds it set is read.
            if not self._wakeup_sent:
                self._wakeup_sent = True
                with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits
                    loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        """Wake up the callers of all finished calls, and hand out more."""
        self._wakeup_sent = False
        while self._finished:
            self._busy -= 1
            self._finished.popleft().finish()
        self._hand_out()

    def _watch_idle_threads(self) -> None:
        assert self._loop is not None
        self._idle_timer = self._loop.call_later(IDLE_INTERVAL, self._end_idle_threads)

    def _end_idle_threads(self) -> None:
        """End the threads that were not needed since the last time, and report what was refused."""
        self._report_refused()
        self._end_threads(self._thread_count - self._most_busy)
        self._most_busy, self._idle_timer = self._busy, None
        if self._thread_count:
            self._watch_idle_threads()

    def _end_threads(self, count: int) -> None:
        for _ in range(count):
            self._handed.put(None)
        self._thread_count -= count
