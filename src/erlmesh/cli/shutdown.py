"""How a command ends that is told to: in order if that is quick, by force if it is not.

SIGTERM and Ctrl-C ask a node to leave; it does within ``LEAVING`` seconds, or something keeps it: code of the user's
that computes, that ignores being cancelled, or a thread of it. Nobody waits for that longer, since whoever sent the
signal (an engine, an init system) would only kill it later, and peers would be told later. The second signal does not
wait at all.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable
from types import FrameType
from typing import Any, Final

__all__ = ["SHUTDOWN_TIMEOUT", "STOP_SIGNALS", "run_until_signal"]

SHUTDOWN_TIMEOUT: Final = 0.8
"""Seconds from the signal on: less than one, with the end of the interpreter."""
EXIT_SIGINT: Final = 130
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def run_until_signal(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, int]], *, signals: Iterable[signal.Signals] = STOP_SIGNALS
) -> int:
    """Runs ``main(over)``, which is to come to its end when ``over`` is set, and gives its exit code."""
    with asyncio.Runner() as runner:
        loop, over = runner.get_loop(), asyncio.Event()
        end = _Deadline(lambda: loop.call_soon_threadsafe(over.set))
        for number in signals:
            signal.signal(number, end.on_signal)
        end.code = runner.run(main(over))
        end.arm()
    return end.code


class _Deadline:
    """Signals and the time since the first."""

    def __init__(self, request_stop: Callable[[], object]) -> None:
        self.code = 0
        self._request_stop = request_stop
        self._timer: threading.Timer | None = None

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """A signal. This runs also while the event loop is blocked, if that is by Python code."""
        if self._timer is not None:
            _exit_now(EXIT_SIGINT if number == signal.SIGINT else self.code)
        self.arm()
        self._request_stop()

    def arm(self) -> None:
        """The time runs from now on, if it does not yet."""
        if self._timer is None:
            self._timer = threading.Timer(SHUTDOWN_TIMEOUT, self._force_exit)
            self._timer.daemon = True
            self._timer.start()

    def _force_exit(self) -> None:
        print("erlmesh: something does not let go (code that computes, or a thread): ended by force", file=sys.stderr)
        _exit_now(self.code)


def _exit_now(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # nobody reads it
    os._exit(code)
