"""Interrupt the running line at Ctrl-C or SIGTERM, and warn when a line blocks the event loop.

A line that waits (``receive()``) is a task, so an interrupt cancels it. A line that computes (``while True: pass``)
blocks the event loop. Only the signal handler can stop it, by raising an exception inside it. Therefore
:meth:`Interrupts.run_interruptible` records at every step whether code of the line is running.
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
    """The interrupts of one session. ``warn`` prints a hint for the user.

    Signal handlers are installed only in the main thread, because Python allows them only there. With
    ``signals=False`` none is installed: the Ctrl-C of a remote session arrives as a message.
    """

    def __init__(self, warn: Callable[[str], None], *, signals: bool = True) -> None:
        self._signals = signals
        self._warn = warn
        self._line_executing = False
        self._line: asyncio.Task[Any] | None = None

    @types.coroutine
    def run_interruptible(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Await ``coroutine`` and record when its code runs. May raise ``KeyboardInterrupt`` at an interrupt."""
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
        """Stop the running line, if there is one. Signal handlers may call this."""
        if self._line_executing:
            raise KeyboardInterrupt
        if self._line is not None:
            self._line.get_loop().call_soon_threadsafe(self._line.cancel)

    @contextmanager
    def cancel_on_sigint(self, line: asyncio.Task[Any]) -> Iterator[None]:
        """While in this context, Ctrl-C interrupts ``line``."""
        self._line = line
        try:
            with signal_handler(signal.SIGINT, self.interrupt) if self._signals else nullcontext():
                yield
        finally:
            self._line = None

    def on_loop_blocked(self, seconds: float) -> bool:
        """Handle a blocked event loop: warn and return true if the line blocks it. Any thread may call this."""
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
    """Call ``callback`` at each signal ``number`` while in this context. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: callback())
    try:
        yield
    finally:
        signal.signal(number, before)
