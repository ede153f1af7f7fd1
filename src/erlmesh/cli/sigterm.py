"""SIGTERM unwinds a command as Ctrl-C does: what it has opened is closed, and no traceback is shown.

It is handed on to whoever handles Ctrl-C, since asyncio has that end its main task in order: an exception out of a
handler of our own would strike whatever task runs at that moment, in the middle of what it opens.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Final

__all__ = ["EXIT_SIGTERM", "install_sigterm_handler", "sigterm_received"]

EXIT_SIGTERM: Final = 128 + signal.SIGTERM
_received: Final = threading.Event()


def install_sigterm_handler() -> None:
    """From now on, unless a command takes the signal over, ``KeyboardInterrupt`` is what SIGTERM leads to."""
    _received.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _forward_to_sigint)


def sigterm_received() -> bool:
    """Whether it was SIGTERM, and not Ctrl-C."""
    return _received.is_set()


def _forward_to_sigint(_number: int, frame: FrameType | None) -> None:
    _received.set()
    ctrl_c = signal.getsignal(signal.SIGINT)
    if not callable(ctrl_c):  # a shell that starts something in the background has it ignored
        raise KeyboardInterrupt
    ctrl_c(signal.SIGINT, frame)
