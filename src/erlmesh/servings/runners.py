"""Where the function of a serving runs: in threads, in the event loop, or in worker processes."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, Final, Protocol

from erlmesh.runtime.thread_pool import ThreadPool

__all__ = ["Function", "LoopRunner", "Runner", "ThreadRunner", "is_streaming", "make_runner"]

Function = Callable[[list[Any]], Any]
"""Takes a list of inputs. Returns a list of outputs, or yields lists of events; it may be a coroutine function."""

_END: Final = object()


class Runner(Protocol):
    """Runs the function for a batch."""

    is_streaming: bool
    """True for a generator function: :meth:`stream` is used, otherwise :meth:`run`."""

    can_cancel: bool
    """True if the cancellation of a batch ends it. A thread cannot be ended."""

    async def start(self) -> None:
        """Prepare for the first batch. What this raises ends the start of the serving."""

    async def run(self, inputs: list[Any]) -> Any:
        """Return what the function returns, or raise what it raises."""

    def stream(self, inputs: list[Any]) -> AsyncGenerator[Any, None]:
        """Yield what the function yields. The caller closes the generator if it needs no more."""

    def close(self) -> None:
        """Run nothing from now on. A function that runs may run on; its result is dropped."""


def is_streaming(function: Function) -> bool:
    """True for a generator function and for an ``async`` one."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


class LoopRunner:
    """Runs a coroutine function or an ``async`` generator function in the event loop."""

    can_cancel = True

    def __init__(self, function: Function) -> None:
        self.is_streaming = is_streaming(function)
        self._function = function

    async def start(self) -> None:
        """Nothing is needed."""

    async def run(self, inputs: list[Any]) -> Any:
        """See :class:`Runner`."""
        return await self._function(inputs)

    async def stream(self, inputs: list[Any]) -> AsyncGenerator[Any, None]:
        """See :class:`Runner`."""
        steps = self._function(inputs)
        try:
            async for step in steps:
                yield step
        finally:
            await steps.aclose()

    def close(self) -> None:
        """Nothing is held."""


class ThreadRunner:
    """Runs a plain function, or each step of a generator, in one of ``size`` threads.

    With ``size`` None it runs in the event loop, as in a simulation.
    """

    can_cancel = False

    def __init__(self, function: Function, name: str, size: int | None) -> None:
        self.is_streaming = is_streaming(function)
        self._function = function
        self._pool = None if size is None else ThreadPool(name, size, size)

    async def start(self) -> None:
        """Nothing is needed."""

    async def run(self, inputs: list[Any]) -> Any:
        """See :class:`Runner`."""
        return await self._in_thread(self._function, inputs)

    async def stream(self, inputs: list[Any]) -> AsyncGenerator[Any, None]:
        """See :class:`Runner`."""
        steps: Iterator[Any] = await self._in_thread(self._function, inputs)
        try:
            while (step := await self._in_thread(next, steps, _END)) is not _END:
                yield step
        finally:
            await self._in_thread(steps.close)  # type: ignore[attr-defined] # a generator

    def close(self) -> None:
        """See :class:`Runner`."""
        if self._pool is not None:
            self._pool.close()

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._pool is None:
            return function(*arguments)
        return await self._pool.run(function, *arguments)


def make_runner(function: Function, name: str, *, threads: int, processes: int, simulated: bool) -> Runner:
    """Return the runner for a function. In a simulation everything runs in the event loop."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return LoopRunner(function)
    if processes and not simulated:
        from erlmesh.servings.process_runner import ProcessRunner  # noqa: PLC0415 - multiprocessing is large

        return ProcessRunner(function, name, processes)
    return ThreadRunner(function, name, None if simulated else threads)
