"""Handle SIGTERM as Ctrl-C: the command closes what it has opened, and prints no traceback.

The handler calls the handler of SIGINT. asyncio installs one that cancels its main task in order. An exception raised
in a handler of our own would hit any task that runs at that moment.
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
    """Makes SIGTERM raise ``KeyboardInterrupt``, until a command installs a handler of its own."""
    _received.clear()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _forward_to_sigint)


def sigterm_received() -> bool:
    """Whether the last interrupt was SIGTERM, not Ctrl-C."""
    return _received.is_set()


def _forward_to_sigint(_number: int, frame: FrameType | None) -> None:
    _received.set()
    ctrl_c = signal.getsignal(signal.SIGINT)
    if not callable(ctrl_c):  # A shell starts background commands with SIGINT ignored.
        raise KeyboardInterrupt
    ctrl_c(signal.SIGINT, frame)
