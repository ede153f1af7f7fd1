"""Handle SIGTERM as Ctrl-C: the command closes what it has opened, and prints no traceback.

The handler calls the handler of SIGINT. asyncio installs one that cancels its main task in order. An exception raised
in a handler of our own would hit any task that runs at that moment.
"""

from __future__ import annotations

import contextlib
import signal
from types import FrameType
from typing import Final

__all__ = ["EXIT_SIGTERM", "install_sigterm_handler", "sigterm_received"]

EXIT_SIGTERM: Final = 128 + signal.SIGTERM
_received: Final[list[int]] = []
"""The signals that arrived. Not a threading.Event: `erlmesh health` does not import threading."""


def install_sigterm_handler() -> None:
    """Makes SIGTERM raise ``KeyboardInterrupt``, until a command installs a handler of its own."""
    _received.clear()
    with contextlib.suppress(ValueError):  # another thread than the main thread cannot install a handler
        signal.signal(signal.SIGTERM, _forward_to_sigint)


def sigterm_received() -> bool:
    """Whether the last interrupt was SIGTERM, not Ctrl-C."""
    return bool(_received)


def _forward_to_sigint(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    ctrl_c = signal.getsignal(signal.SIGINT)
    if not callable(ctrl_c):  # A shell starts background commands with SIGINT ignored.
        raise KeyboardInterrupt
    ctrl_c(signal.SIGINT, frame)
