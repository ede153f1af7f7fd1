"""An event loop whose clock is a number: asked to wait, it adds to the number and goes on at once.

Whole nodes run on it unchanged, an idle hour in milliseconds, and the same way every time. What cannot go on is an
error instead of a hang: :class:`Deadlock` when everybody waits for ever, :class:`Livelock` when an instant does not
end.

*Machines* share the loop. What is started inside ``with machine:`` belongs to that machine, and so does all that comes
of it: tasks, timers, callbacks. One can be paused, as SIGSTOP does (what it should do, timers included, is kept, and
done when it resumes, late), and killed, as SIGKILL does: then nothing of it ever runs again, not even what tidies up.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import weakref
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, Token, copy_context
from types import TracebackType
from typing import Any, Final, TypeVar, cast

__all__ = ["Deadlock", "Livelock", "Machine", "SimulatedLoop", "run", "run_coroutine", "run_iterations"]

_T = TypeVar("_T")

MAX_ITERATIONS_PER_INSTANT: Final = 100_000

_machine: ContextVar[Machine | None] = ContextVar("machine", default=None)


class Deadlock(AssertionError):
    """Everybody waits, and nothing will ever happen."""


class Livelock(AssertionError):
    """The loop turned 100,000 times without a moment passing."""


class Machine:
    """Something that runs, can be paused, and can be killed. A context manager: what is started inside is its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self._deferred_callbacks: list[_MachineCallback] = []
        self._deferred_timers: list[_MachineCallback] = []
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self._abandoned: list[asyncio.Task[Any]] = []
        self._context_tokens: list[Token[Machine | None]] = []

    def __enter__(self) -> Machine:  # noqa: PYI034 - itself
        self._context_tokens.append(_machine.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _machine.reset(self._context_tokens.pop())

    @staticmethod
    def current() -> Machine | None:
        """The machine that the caller runs on."""
        return _machine.get()

    def pause(self) -> None:
        """It stands still until :meth:`resume`."""
        self.paused = True

    def resume(self) -> None:
        """It goes on with what has become due in the meantime: first what has arrived, then the timers, as a loop does
        that turns again after a long time.
        """
        self.paused = False
        steps, self._deferred_callbacks, self._deferred_timers = (
            self._deferred_callbacks + self._deferred_timers,
            [],
            [],
        )
        for step in steps:
            step.reschedule()

    def kill(self) -> None:
        """Nothing of it runs any more."""
        self.alive = False
        self._abandoned += [task for task in self._tasks if not task.done()]  # collected, they would say how they ended
        self._deferred_callbacks.clear()
        self._deferred_timers.clear()

    def track(self, task: asyncio.Task[Any]) -> None:
        """``task`` runs here."""
        self._tasks.add(task)

    def defer(self, step: _MachineCallback) -> None:
        """Remembers ``step`` for the time when the machine goes on."""
        (self._deferred_timers if step.is_timer else self._deferred_callbacks).append(step)

    def discard_tasks(self) -> None:
        """Lets go of what the dead machine's tasks held. Their ``finally`` blocks run here and reach nobody."""
        for task in self._abandoned:
            _discard_task(task)


class _MachineCallback:
    """A callback of a machine."""

    __slots__ = ("_arguments", "_callback", "_context", "_loop", "_machine", "handle", "is_timer")

    def __init__(
        self,
        loop: SimulatedLoop,
        machine: Machine,
        callback: Callable[..., object],
        context: Context,
        *,
        is_timer: bool,
    ) -> None:
        self._loop = loop
        self._machine = machine
        self._callback = callback
        self._context = context
        self._arguments: tuple[Any, ...] = ()
        self.is_timer = is_timer
        self.handle: asyncio.Handle | None = None

    def __call__(self, *arguments: Any) -> None:
        if not self._machine.alive or (self.handle is not None and self.handle.cancelled()):
            return
        if self._machine.paused:
            self._arguments = arguments
            self._machine.defer(self)
        else:
            self._callback(*arguments)

    def reschedule(self) -> None:
        asyncio.SelectorEventLoop.call_soon(self._loop, self, *self._arguments, context=self._context)


class _AutojumpSelector(selectors.BaseSelector):
    """No file is ever ready; waiting is jumping."""

    def __init__(self) -> None:
        self.loop: SimulatedLoop | None = None
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self._keys[number] = selectors.SelectorKey(fileobj, number, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def get_map(self) -> dict[int, selectors.SelectorKey]:  # type: ignore[override]
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.loop is not None:
            self.loop.advance(timeout)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """The loop. ``time()`` starts at 0 and passes only when nobody has anything to do."""

    def __init__(self) -> None:
        self._now = 0.0
        self._iterations = 0
        self._machines: list[Machine] = []
        selector = _AutojumpSelector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self._now

    def advance(self, timeout: float | None) -> None:
        """Lets ``timeout`` seconds pass. Raises Deadlock, Livelock."""
        if timeout is None:
            raise Deadlock(f"at {self._now:.3f} s everybody waits for ever")
        if timeout > 0:
            self._now += timeout
            self._iterations = 0
            return
        self._iterations += 1
        if self._iterations > MAX_ITERATIONS_PER_INSTANT:
            raise Livelock(f"the instant {self._now:.3f} s does not end")

    def machine(self, name: str) -> Machine:
        """A new machine on this loop."""
        machine = Machine(name)
        self._machines.append(machine)
        return machine

    def shutdown(self) -> None:
        """Kills all machines, cancels everybody else, and closes the loop."""
        for machine in self._machines:
            machine.kill()
            machine.discard_tasks()
        remaining = [task for task in asyncio.all_tasks(self) if not task.done()]
        for task in remaining:
            task.cancel()
        with contextlib.suppress(Deadlock, Livelock):
            self.run_until_complete(asyncio.wait(remaining, timeout=60.0) if remaining else asyncio.sleep(0))
            self.run_until_complete(self.shutdown_asyncgens())
        for task in remaining:
            _discard_task(task)
        self.close()

    # What the loop is asked for, by whom

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **options)
        machine = _machine_of(options.get("context"))
        if machine is not None:
            machine.track(task)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        machine = _machine_of(context)
        if machine is None:
            return super().call_soon(callback, *args, context=context)
        context = context or copy_context()
        step = _MachineCallback(self, machine, callback, context, is_timer=False)
        step.handle = super().call_soon(step, *args, context=context)
        return step.handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        machine = _machine_of(context)
        if machine is None:
            return super().call_at(when, callback, *args, context=context)
        context = context or copy_context()
        step = _MachineCallback(self, machine, callback, context, is_timer=True)
        step.handle = handle = super().call_at(when, step, *args, context=context)
        return handle


def run(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """``asyncio.run(main())`` on a :class:`Clock`. Raises what ``main`` raises, Deadlock, or Livelock."""
    loop = SimulatedLoop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.shutdown()


def run_coroutine(main: Coroutine[Any, Any, _T]) -> _T:
    """Run ``main`` on a :class:`SimulatedLoop` without machines.

    Raises AssertionError if an exception reached the exception handler of the loop, for example from a callback.
    """
    loop = SimulatedLoop()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main)
        assert errors == [], errors
        return result


async def run_iterations(count: int = 10) -> None:
    """Let the event loop run ``count`` times. No time passes unless no callback is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


def _machine_of(context: Context | None) -> Machine | None:
    return _machine.get() if context is None else context.get(_machine)


def _discard_task(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            cast("Coroutine[Any, Any, Any]", task.get_coro()).close()
