"""A deterministic event loop with virtual time. When nothing is ready, it advances its clock to the next timer.

Unmodified nodes run on it. An idle hour takes milliseconds, and each run is the same. A hang becomes an error:
:class:`Deadlock` if no callback and no timer is left, :class:`Livelock` if time stops advancing.

*Machines* share the loop. A task, timer or callback that is created inside ``with machine:`` belongs to that machine,
and so does everything that it creates. :meth:`Machine.pause` acts like SIGSTOP: callbacks and timers that become due
are deferred until :meth:`Machine.resume`. :meth:`Machine.kill` acts like SIGKILL: no code of the machine runs again,
not even its ``finally`` blocks.
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
"""Iterations of the loop without any time passing after which :class:`Livelock` is raised."""

_machine: ContextVar[Machine | None] = ContextVar("machine", default=None)


class Deadlock(AssertionError):
    """No callback is ready and no timer is set, so the program waits forever."""


class Livelock(AssertionError):
    """The loop ran 100,000 iterations and the time did not advance."""


class Machine:
    """A simulated machine that can be paused and killed. As a context manager, it owns what is started inside it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        # What became due during the pause. Callbacks run before timers on resume, as in a loop that was blocked.
        self._deferred_callbacks: list[_MachineCallback] = []
        self._deferred_timers: list[_MachineCallback] = []
        self._tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        # Unfinished tasks of a killed machine. Garbage collection of such a task would log an error.
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
        """The machine that the caller runs on, or None."""
        return _machine.get()

    def pause(self) -> None:
        """Run nothing of this machine until :meth:`resume`."""
        self.paused = True

    def resume(self) -> None:
        """Run what became due during the pause: callbacks first, then timers, as a blocked event loop does."""
        self.paused = False
        steps, self._deferred_callbacks, self._deferred_timers = (
            self._deferred_callbacks + self._deferred_timers,
            [],
            [],
        )
        for step in steps:
            step.reschedule()

    def kill(self) -> None:
        """Never run anything of this machine again."""
        self.alive = False
        self._abandoned += [task for task in self._tasks if not task.done()]
        self._deferred_callbacks.clear()
        self._deferred_timers.clear()

    def track(self, task: asyncio.Task[Any]) -> None:
        """Record that ``task`` belongs to this machine."""
        self._tasks.add(task)

    def defer(self, step: _MachineCallback) -> None:
        """Keep the callback ``step`` until the machine resumes."""
        (self._deferred_timers if step.is_timer else self._deferred_callbacks).append(step)

    def discard_tasks(self) -> None:
        """Close the coroutines of a killed machine. Their ``finally`` blocks run now, without any effect on others."""
        for task in self._abandoned:
            _discard_task(task)


class _MachineCallback:
    """A callback that runs only while its machine is alive and not paused."""

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
    """A selector on which no file is ever ready. ``select`` advances the virtual time instead of waiting."""

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
    """The event loop. ``time()`` starts at 0 and advances only when no callback is ready."""

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
        """Advance the clock by ``timeout`` seconds. Raises Deadlock if ``timeout`` is None, or Livelock."""
        if timeout is None:
            raise Deadlock(f"at {self._now:.3f} s all tasks wait forever")
        if timeout > 0:
            self._now += timeout
            self._iterations = 0
            return
        self._iterations += 1
        if self._iterations > MAX_ITERATIONS_PER_INSTANT:
            raise Livelock(f"the time stays at {self._now:.3f} s")

    def machine(self, name: str) -> Machine:
        """Create a machine on this loop."""
        machine = Machine(name)
        self._machines.append(machine)
        return machine

    def may_run(self, context: Context) -> bool:
        """Whether a callback with this context may run now. False while its machine is paused or killed."""
        machine = _machine_of(context)
        return machine is None or (machine.alive and not machine.paused)

    def shutdown(self) -> None:
        """Kill all machines, cancel all other tasks, and close the loop."""
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

    # Overrides of asyncio: each task, callback and timer belongs to the machine of its context

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
    """Run ``main()`` on a :class:`SimulatedLoop` and return its result. Raises its exception, Deadlock or Livelock."""
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


async def run_iterations(count: int = 20) -> None:
    """Let the event loop run ``count`` iterations. No time passes."""
    for _ in range(count):
        await asyncio.sleep(0)


def _machine_of(context: Context | None) -> Machine | None:
    return _machine.get() if context is None else context.get(_machine)


def _discard_task(task: asyncio.Task[Any]) -> None:
    if not task.done():
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            cast("Coroutine[Any, Any, Any]", task.get_coro()).close()
