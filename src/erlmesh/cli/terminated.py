"""SIGTERM unwinds a command as Ctrl-C does: what it has opened is closed, and no traceback is shown."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Final

__all__ = ["Terminated", "terminate_in_order"]

TERMINATED: Final = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """SIGTERM came while no command had anything better to do with it."""


def terminate_in_order() -> None:
    """From now on, unless a command takes the signal over."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _unwind)


def _unwind(_number: int, _frame: FrameType | None) -> None:
    raise Terminated(TERMINATED)
