"""Ctrl-C and SIGTERM for a line that runs, whether it waits or computes; and a word when it computes too long.

A line that waits (``receive()``) is a task and is cancelled. A line that computes (``while True: pass``) holds the
event loop, so only the signal handler itself can stop it: by raising inside it. Hence :meth:`Interrupts.stepping`,
which knows at every moment whether the line's own code is being run.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

__all__ = ["Interrupts", "handling"]

BLOCKED_AFTER = 5.0
"""Seconds a line may hold the loop before it is told to; peers drop a silent node after 45 (net_ticktime 60)."""


class Interrupts:
    """One per session, used in the main thread; elsewhere signals do not exist and nothing is installed, nor with
    ``signals=False``, for a session whose Ctrl-C comes from another program.
    """

    def __init__(
        self, warn: Callable[[str], None], *, blocked_after: float = BLOCKED_AFTER, signals: bool = True
    ) -> None:
        self._signals = signals
        self._warn = warn
        self._blocked_after = blocked_after
        self._since: float | None = None  # the line's code has been running from then on, without a break
        self._line: asyncio.Task[Any] | None = None

    @types.coroutine
    def stepping(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Awaits ``coroutine``, noting when its code runs. An interrupt may come out as ``KeyboardInterrupt``."""
        step = _send(coroutine, None)
        while True:
            try:
                self._since = time.monotonic()
                awaited = step()
            except StopIteration as end:
                return end.value
            finally:
                self._since = None
            try:
                sent = yield awaited
            except BaseException as error:
                step = _throw(coroutine, error)
            else:
                step = _send(coroutine, sent)

    def interrupt(self) -> None:
        """From a signal handler: stops the running line, if there is one."""
        if self._since is not None:
            raise KeyboardInterrupt
        if self._line is not None:
            self._line.get_loop().call_soon_threadsafe(self._line.cancel)

    @contextmanager
    def watching(self, line: asyncio.Task[Any]) -> Iterator[None]:
        """While ``line`` runs, Ctrl-C means it, and a thread says when it blocks the node."""
        over = threading.Event()
        watchdog = threading.Thread(target=self._watch, args=(over,), name="erlmesh-watchdog", daemon=True)
        self._line = line
        watchdog.start()
        try:
            with handling(signal.SIGINT, self.interrupt) if self._signals else nullcontext():
                yield
        finally:
            self._line = None
            over.set()

    def _watch(self, over: threading.Event) -> None:
        told: float | None = None
        while not over.wait(min(1.0, self._blocked_after / 2)):
            since = self._since
            if since is not None and since != told and time.monotonic() - since >= self._blocked_after:
                told = since
                self._warn(
                    f"the shell has blocked this node for {self._blocked_after:g} s: "
                    "nothing else runs here until the line ends (Ctrl-C stops it)"
                )


def _send(coroutine: Coroutine[Any, Any, Any], value: Any) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


def _throw(coroutine: Coroutine[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(error)


@contextmanager
def handling(number: signal.Signals, act: Callable[[], None]) -> Iterator[None]:
    """Within it the signal calls ``act``; only in the main thread, elsewhere there are none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(number, before)
