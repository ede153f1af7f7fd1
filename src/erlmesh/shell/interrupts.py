"""Ctrl-C and SIGTERM for a line that runs, whether it waits or computes; and a word when it computes for long.

A line that waits (``receive()``) is a task and is cancelled. A line that computes (``while True: pass``) holds the
event loop, so only the signal handler itself can stop it: by raising inside it. Hence :meth:`Interrupts.stepping`,
which knows at every moment whether the line's own code is being run.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

__all__ = ["Interrupts", "signal_handler"]


class Interrupts:
    """One per session, used in the main thread; elsewhere signals do not exist and nothing is installed, nor with
    ``signals=False``, for a session whose Ctrl-C comes from another program.
    """

    def __init__(self, warn: Callable[[str], None], *, signals: bool = True) -> None:
        self._signals = signals
        self._warn = warn
        self._line_executing = False
        self._line: asyncio.Task[Any] | None = None

    @types.coroutine
    def run_interruptible(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Awaits ``coroutine``, noting when its code runs. An interrupt may come out as ``KeyboardInterrupt``."""
        step = _send(coroutine, None)
        while True:
            try:
                self._line_executing = True
                awaited = step()
            except StopIteration as end:
                return end.value
            finally:
                self._line_executing = False
            try:
                sent = yield awaited
            except BaseException as error:
                step = _throw(coroutine, error)
            else:
                step = _send(coroutine, sent)

    def interrupt(self) -> None:
        """From a signal handler: stops the running line, if there is one."""
        if self._line_executing:
            raise KeyboardInterrupt
        if self._line is not None:
            self._line.get_loop().call_soon_threadsafe(self._line.cancel)

    @contextmanager
    def cancel_on_sigint(self, line: asyncio.Task[Any]) -> Iterator[None]:
        """While ``line`` runs, Ctrl-C means it."""
        self._line = line
        try:
            with signal_handler(signal.SIGINT, self.interrupt) if self._signals else nullcontext():
                yield
        finally:
            self._line = None

    def on_loop_blocked(self, seconds: float) -> bool:
        """The node's loop has been held for so long: says so, if it is by the line. For any thread."""
        if self._line_executing:
            self._warn(
                f"the shell has blocked this node for {seconds:.0f} s: "
                "nothing else runs here until the line ends (Ctrl-C stops it)"
            )
        return self._line_executing


def _send(coroutine: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


def _throw(coroutine: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)


@contextmanager
def signal_handler(number: signal.Signals, callback: Callable[[], None]) -> Iterator[None]:
    """Within it the signal calls ``act``; only in the main thread, elsewhere there are none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: callback())
    try:
        yield
    finally:
        signal.signal(number, before)
