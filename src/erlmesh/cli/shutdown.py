"""Stop a command at a signal: in order if that is possible in time, else by force.

SIGTERM and Ctrl-C stop a node in order, within its grace and :data:`SHUTDOWN_TIMEOUT`. User code may prevent that: it
computes, it ignores its cancellation, or it has a thread that runs on. Then the process is ended by force, before the
sender of the signal (a container engine, an init system) does that. A second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import FrameType
from typing import Any, Final

__all__ = ["EXIT_SIGINT", "SHUTDOWN_TIMEOUT", "STOP_SIGNALS", "run_until_signal"]

SHUTDOWN_TIMEOUT: Final = 0.8
"""Seconds from the end of the grace to the forced exit. With the exit of the interpreter it is less than one second."""
EXIT_SIGINT: Final = 130
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run_until_signal(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, int]],
    *,
    signals: Iterable[signal.Signals] = STOP_SIGNALS,
    grace: float = 0.0,
    watch: Callable[[Callable[[], object]], object] | None = None,
) -> int:
    """Runs ``main(stop_requested)`` and returns its exit code.

    A signal sets the event. Then ``main`` must return within ``grace`` seconds, and a little more. ``watch`` gets a
    function that does the same as the first signal, from any thread.
    """
    with asyncio.Runner() as runner:
        loop, stop_requested = runner.get_loop(), asyncio.Event()
        deadline = _Deadline(lambda: loop.call_soon_threadsafe(stop_requested.set), grace + SHUTDOWN_TIMEOUT)
        for number in signals:
            signal.signal(number, deadline.on_signal)
        if watch is not None:
            watch(deadline.request_stop)
        deadline.code = runner.run(main(stop_requested))
        deadline.hurry()  # The interpreter may also hang after the loop: it waits for threads.
    return deadline.code


class _Deadline:
    """Handles signals, and forces the exit some time after the first one."""

    def __init__(self, request_stop: Callable[[], object], seconds: float) -> None:
        self.code = 0
        self._seconds = seconds
        self._request_loop_stop = request_stop
        self._timer: threading.Timer | None = None

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """Handles a signal. This also runs while Python code blocks the event loop."""
        if self._timer is not None:
            _exit_now(EXIT_SIGINT if number == signal.SIGINT else self.code)
        self.request_stop()

    def request_stop(self) -> None:
        """Starts to stop, unless that has begun. Any thread may call this."""
        if self._timer is None:
            self.arm()
            with contextlib.suppress(RuntimeError):  # The loop is closed: it has stopped already.
                self._request_loop_stop()

    def arm(self) -> None:
        """Starts the timer, unless it runs already."""
        if self._timer is None:
            self._timer = threading.Timer(self._seconds, self._force_exit)
            self._timer.daemon = True
            self._timer.start()

    def hurry(self) -> None:
        """Starts the timer once more without the grace: the command has returned."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._seconds = None, SHUTDOWN_TIMEOUT
        self.arm()

    def _force_exit(self) -> None:
        print("erlmesh: shutdown timed out (a task or a thread did not stop): forced exit", file=sys.stderr)
        _exit_now(self.code)


def _exit_now(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # The reader of the stream is gone.
    os._exit(code)
