"""SIGTERM unwinds a command as Ctrl-C does: what it has opened is closed, and no traceback is shown.

It is handed on to whoever handles Ctrl-C, since asyncio has that end its main task in order: an exception out of a
handler of our own would strike whatever task runs at that moment, in the middle of what it opens.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Final

__all__ = ["TERMINATED", "terminate_in_order", "was_terminated"]

TERMINATED: Final = 128 + signal.SIGTERM
_told: Final = threading.Event()


def terminate_in_order() -> None:
    """From now on, unless a command takes the signal over, ``KeyboardInterrupt`` is what SIGTERM leads to."""
    _told.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _as_ctrl_c)


def was_terminated() -> bool:
    """Whether it was SIGTERM, and not Ctrl-C."""
    return _told.is_set()


def _as_ctrl_c(_number: int, frame: FrameType | None) -> None:
    _told.set()
    ctrl_c = signal.getsignal(signal.SIGINT)
    if not callable(ctrl_c):  # a shell that starts something in the background has it ignored
        raise KeyboardInterrupt
    ctrl_c(signal.SIGINT, frame)
