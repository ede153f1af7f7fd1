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

__all__ = ["ASKING", "LEAVING", "run_until_told"]

LEAVING: Final = 0.8
"""Seconds from the signal on: less than one, with the end of the interpreter."""
INTERRUPTED: Final = 130
ASKING: Final = (signal.SIGTERM, signal.SIGINT)


def run_until_told(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, int]], *, by: Iterable[signal.Signals] = ASKING
) -> int:
    """Runs ``main(over)``, which is to come to its end when ``over`` is set, and gives its exit code."""
    with asyncio.Runner() as runner:
        loop, over = runner.get_loop(), asyncio.Event()
        end = _End(lambda: loop.call_soon_threadsafe(over.set))
        for number in by:
            signal.signal(number, end.told)
        end.code = runner.run(main(over))
        end.is_near()
    return end.code


class _End:
    """Signals and the time since the first."""

    def __init__(self, ask: Callable[[], object]) -> None:
        self.code = 0
        self._ask = ask
        self._watch: threading.Timer | None = None

    def told(self, number: int, _frame: FrameType | None) -> None:
        """A signal. This runs also while the event loop is blocked, if that is by Python code."""
        if self._watch is not None:
            _leave(INTERRUPTED if number == signal.SIGINT else self.code)
        self.is_near()
        self._ask()

    def is_near(self) -> None:
        """The time runs from now on, if it does not yet."""
        if self._watch is None:
            self._watch = threading.Timer(LEAVING, self._force)
            self._watch.daemon = True
            self._watch.start()

    def _force(self) -> None:
        print("erlmesh: something does not let go (code that computes, or a thread): ended by force", file=sys.stderr)
        _leave(self.code)


def _leave(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # nobody reads it
    os._exit(code)
