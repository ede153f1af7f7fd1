"""What a watchdog logs about a blocked event loop.

The log may be what blocks the loop, for example a pipe that nobody reads. So each line is written by a thread of its
own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from traceback import StackSummary
from typing import Final

from erlmesh.net.event_log import event_log
from erlmesh.net.watched_node import WatchedNode

__all__ = ["WatchdogLog"]

log = event_log("erlmesh")

_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120
"""The folder of the standard library, and of packages."""

LOG_TIMEOUT: Final = 0.2
"""Seconds that ``close`` waits for the last line."""
LOG_FULL_INTERVAL: Final = 60.0
"""Seconds between two messages about the same peer that so much has arrived that nothing more is read."""
BLOCKED_MESSAGE: Final = (
    "%s: the event loop has been blocked for %.1f s. Data is received, but not handled. It is blocked by\n%s"
)
FULL_MESSAGE: Final = (
    "%s: the event loop is blocked, and the data from %s has reached the limit of what may wait. Nothing more is read "
    "from it until the loop runs again, so processes there that send to this node have to wait"
)
RECOVERED_MESSAGE: Final = "%s: the event loop runs again, after %.1f s"
NO_THREAD_RAN_MESSAGE: Final = (
    "%s: no thread could run for %.1f s because a C function held the GIL (a regular expression, a huge number?); "
    "not even ticks were sent. The event loop is at\n%s"
)
GIL_HELD_MESSAGE: Final = (
    "%s: the event loop has been blocked for %.1f s, and no thread could run Python because a C function held the GIL "
    "(a regular expression, a huge number?). Ticks were sent, and data was received. The event loop is at\n%s"
)


class WatchdogLog:
    """The log of one watchdog. Its threads call the methods, unless they say something else."""

    def __init__(self) -> None:
        self._is_block_logged = False
        """The block was logged, so the recovery is logged, too."""
        self._thread: threading.Thread | None = None
        """The last thread that wrote to the log."""
        self._logged_full: dict[str, float] = {}
        """When FULL_MESSAGE may be logged again, by peer."""

    def close(self) -> None:
        """Wait for the last line, up to LOG_TIMEOUT. Any thread may call this."""
        if self._thread is not None:
            self._thread.join(LOG_TIMEOUT)

    def block_ended(self) -> None:
        """A new block would be another one."""
        self._is_block_logged = False

    def blocked(self, nodes: Sequence[WatchedNode], seconds: float, stack: StackSummary) -> None:
        """The loop has been blocked for so long. It is logged unless a user's callback takes the report."""
        self._in_thread(self._log_blocked, nodes, seconds, stack)

    def gil_held(self, nodes: Sequence[WatchedNode], seconds: float, stack: StackSummary) -> None:
        """The loop has been blocked for so long, and this thread had to wait for the GIL."""
        self._in_thread(self._log_gil_held, nodes, seconds, stack)

    def no_thread_ran(self, nodes: Sequence[WatchedNode], seconds: float, stack: StackSummary) -> None:
        """The watchdog could not run for so long, because some code held the GIL."""
        names, lines = _names(nodes), _lines(stack)
        self._in_thread(
            partial(
                log.warning, "no_thread_ran", NO_THREAD_RAN_MESSAGE, names, seconds, lines, node=names, seconds=seconds
            )
        )

    def full(self, nodes: Sequence[WatchedNode], peers: Iterable[str]) -> None:
        """Nothing more is read from these peers because of a limit."""
        now = time.monotonic()
        if new := [peer for peer in peers if now >= self._logged_full.get(peer, now)]:
            self._logged_full = {peer: until for peer, until in self._logged_full.items() if until > now}
            self._logged_full.update(dict.fromkeys(new, now + LOG_FULL_INTERVAL))
            names, peers = _names(nodes), ", ".join(new)
            self._in_thread(
                partial(log.warning, "receive_buffer_full", FULL_MESSAGE, names, peers, node=names, peer=peers)
            )

    def recovered(self, nodes: Sequence[WatchedNode], seconds: float) -> None:
        """The loop runs again, after it was blocked for so long. The event loop calls this."""
        if self._is_block_logged:
            log.warning(
                "loop_recovered", RECOVERED_MESSAGE, _names(nodes), seconds, node=_names(nodes), seconds=seconds
            )
        self._is_block_logged = False

    def _in_thread(self, write: Callable[..., object], *arguments: object) -> None:
        thread = threading.Thread(target=write, args=arguments, name="erlmesh watchdog log", daemon=True)
        thread.start()
        self._thread = thread

    # In a thread of its own

    def _log_blocked(self, nodes: Sequence[WatchedNode], seconds: float, stack: StackSummary) -> None:
        lines = _lines(stack)
        _notify_line(nodes, seconds, stack, gil=False)
        if not any(node.notify_blocked(seconds) for node in nodes):
            self._is_block_logged = True
            log.warning(
                "loop_blocked", BLOCKED_MESSAGE, _names(nodes), seconds, lines, node=_names(nodes), seconds=seconds
            )

    def _log_gil_held(self, nodes: Sequence[WatchedNode], seconds: float, stack: StackSummary) -> None:
        lines = _lines(stack)
        _notify_line(nodes, seconds, stack, gil=True)
        self._is_block_logged = True
        log.warning("gil_held", GIL_HELD_MESSAGE, _names(nodes), seconds, lines, node=_names(nodes), seconds=seconds)
        for node in nodes:
            node.notify_blocked(seconds)


def _notify_line(nodes: Sequence[WatchedNode], seconds: float, stack: StackSummary, *, gil: bool) -> None:
    """Tell the nodes the innermost line of the program itself: most calls end in the standard library."""
    own = [frame for frame in stack if not frame.filename.startswith((_LIBRARY, "<frozen"))]
    for frame in (own or [*stack])[-1:]:
        line = f"{os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}"  # noqa: PTH119 - pathlib is slow to import
        for node in nodes:
            try:
                node.notify_line(seconds, line, gil=gil)
            except Exception:  # it must not cost the log its line
                log.exception("watchdog_failed", "cannot tell observers of a blocked event loop")


def _lines(stack: StackSummary) -> str:
    return "".join(stack.format()).rstrip() or "  nothing: no thread runs it"


def _names(nodes: Iterable[WatchedNode]) -> str:
    return ", ".join(node.name for node in nodes)
