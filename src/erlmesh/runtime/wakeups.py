"""Wakes up the tasks of a node: in the loop iteration in which the bytes came, and after all of the read is applied.

A task that waits for a message or for an answer awaits a :class:`Wait`. What wakes it up decides when it continues::

    a read of a connection                         anything else: a local send, a timer
    ──────────────────────                         ────────────────────────────────────
    Wakeups.run_round(read and apply it)           call_soon
      1. All signals of the read are applied.      The task continues in the next iteration, as with a future.
         Tasks that they wake up are collected.
      2. Each collected task takes one step.
         It may wake up more tasks of the node.
    The connection writes what all of them sent.

So a request and its reply need one loop iteration, one read and one write. Nothing runs between two signals of a read.

The native part has the same two classes, :class:`Wakeups` and :class:`Wait`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from erlmesh import native
from erlmesh.terms import Term

__all__ = [
    "CLOCK_INTERVAL",
    "MAX_ROUND_SECONDS",
    "MAX_ROUND_STEPS",
    "ExitWait",
    "PureWait",
    "PureWakeups",
    "Wait",
    "Wakeups",
]

_T = TypeVar("_T")

MAX_ROUND_STEPS: Final = 2_000
MAX_ROUND_SECONDS: Final = 0.001
"""Bounds of a round. Steps above them run in the next loop iteration: two processes that exchange messages without end
must not hold the loop.
"""
CLOCK_INTERVAL: Final = 8
"""Steps between two looks at the clock."""

_Step: TypeAlias = "tuple[Context, Callable[..., object], tuple[Any, ...]]"


class PureWakeups:
    """Schedules the steps of tasks. Each node has one; it belongs to the event loop on which the node runs.

    The arguments are the bounds of a round, in steps and in seconds, and the steps between two looks at the clock.
    """

    __slots__ = ("_clock_interval", "_max_seconds", "_max_steps", "_steps")

    def __init__(
        self,
        max_steps: int = MAX_ROUND_STEPS,
        max_seconds: float = MAX_ROUND_SECONDS,
        clock_interval: int = CLOCK_INTERVAL,
    ) -> None:
        self._max_steps = max_steps
        self._max_seconds = max_seconds
        self._clock_interval = clock_interval
        self._steps: deque[_Step] | None = None
        """The steps that the round has not run yet; None outside a round."""

    def schedule(
        self, loop: asyncio.AbstractEventLoop, context: Context, callback: Callable[..., object], *arguments: Any
    ) -> None:
        """Call ``callback(*arguments)`` later: in this round, or outside a round in the next loop iteration."""
        steps = self._steps
        if steps is None:
            loop.call_soon(callback, *arguments, context=context)
        else:
            steps.append((context, callback, arguments))

    def run_round(self, apply: Callable[..., _T], *arguments: Any) -> _T:
        """Call ``apply(*arguments)``, and then run the steps that it has scheduled and those that they schedule.

        Return the result of ``apply``. Call this from a callback of the event loop. Within a task or a round, this only
        calls ``apply``: a task cannot be entered from another one. If ``apply`` or a step raises, the other steps run
        in the next loop iteration.
        """
        loop = asyncio.get_running_loop()
        if self._steps is not None or asyncio.current_task(loop) is not None:
            return apply(*arguments)
        steps = self._steps = deque()
        try:
            result = apply(*arguments)
            if steps:
                self._run_steps(loop, steps)
            return result
        finally:
            self._steps = None
            for context, callback, step_arguments in steps:
                loop.call_soon(callback, *step_arguments, context=context)

    def _run_steps(self, loop: asyncio.AbstractEventLoop, steps: deque[_Step]) -> None:
        # Only the simulated loop has this method. It defers the steps of a simulated machine that is paused or killed.
        may_run: Callable[[Context], bool] | None = getattr(loop, "may_run", None)
        end = loop.time() + self._max_seconds
        for count in range(1, self._max_steps + 1):
            context, callback, arguments = steps.popleft()
            if may_run is not None and not may_run(context):
                loop.call_soon(callback, *arguments, context=context)
            else:
                try:
                    context.run(callback, *arguments)
                except (SystemExit, KeyboardInterrupt):
                    raise  # They end the event loop, as from every callback of asyncio.
                except BaseException as error:
                    message = f"Exception in callback {callback!r}"
                    loop.call_exception_handler({"message": message, "exception": error})
            if not steps or (count % self._clock_interval == 0 and loop.time() >= end):
                return


class PureWait:
    """What a task awaits until another part of the node sets its result or its exception. One task can await it.

    It is a future for asyncio's tasks, with less work: one callback, no context of its own, and no error in the log if
    nobody reads an exception.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_context",
        "_done",
        "_exception",
        "_loop",
        "_result",
        "_wakeups",
        "timed_out",
    )

    def __init__(self, wakeups: PureWakeups) -> None:
        self._wakeups = wakeups
        self._loop = asyncio.get_running_loop()
        self._callback: Callable[[PureWait], object] | None = None
        self._done = False
        self._result: Term = None
        self._exception: BaseException | None = None
        self.timed_out = False
        """Its time limit was reached (:meth:`expire`), perhaps after something else had ended the wait."""
        # asyncio's protocol for futures: a task that is given this object checks the mark and removes it.
        self._asyncio_future_blocking = False

    def __await__(self) -> Generator[PureWait, None, Term]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    # Called by what wakes up the task. Only the first of these calls has an effect.

    def done(self) -> bool:
        """True when it has a result or an exception, or is cancelled."""
        return self._done

    def set_result(self, result: Term) -> None:
        """Let the task continue with this result."""
        if not self._done:
            self._result = result
            self._finish()

    def set_exception(self, exception: BaseException) -> None:
        """Raise ``exception`` in the task."""
        if not self._done:
            self._exception = exception
            self._finish()

    def expire(self) -> None:
        """Raise TimeoutError in the task, unless something else has ended the wait."""
        self.timed_out = True
        self.set_exception(TimeoutError())

    def renew(self) -> None:
        """Wait once more. Only the task itself may call this, after it was woken up."""
        self._done = False

    def _finish(self) -> None:
        self._done = True
        callback = self._callback
        if callback is not None:
            self._callback = None
            self._wakeups.schedule(self._loop, self._context, callback, self)

    # Called by asyncio's tasks

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callable[[PureWait], object], *, context: Context | None = None) -> None:
        if self._callback is not None:
            raise RuntimeError("only one task can await this object")
        self._context = copy_context() if context is None else context
        if self._done:
            self._wakeups.schedule(self._loop, self._context, callback, self)
        else:
            self._callback = callback

    def cancel(self, msg: Any = None) -> bool:
        """Raise CancelledError in the task. False if it was woken up already: then asyncio cancels its next step."""
        if self._done:
            return False
        self.set_exception(asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg))
        return True

    def result(self) -> Term:
        if not self._done:
            raise asyncio.InvalidStateError("the task continued before it was woken up")
        if self._exception is None:
            return self._result
        exception, self._exception = self._exception, None
        try:
            raise exception
        finally:
            del exception  # It refers to this frame, which must not refer to it.


Wait: TypeAlias = PureWait
Wakeups: TypeAlias = PureWakeups

if not TYPE_CHECKING and native.module is not None:
    # The same classes in Rust. Type checkers see the Python classes.
    Wait, Wakeups = native.module.Wait, native.module.Wakeups


class ExitWait(Wait):
    """Waits for a monitored process to terminate for any reason. The result is the exit reason."""

    __slots__ = ()
