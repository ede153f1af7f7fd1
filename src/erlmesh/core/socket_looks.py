"""Decides when a thread serves sockets in place of a blocked event loop. No I/O.

The thread sleeps until a socket has data. Then it looks at the sockets every ``LOOK_INTERVAL`` seconds, as long as data
arrives. A socket that has data at two looks in a row, and that the loop has not served between them, shows that the
loop is blocked. From then on the thread serves all sockets at once, until the loop responds. ::

              data arrives                   the loop has not served a socket
    SLEEPING ─────────────► LOOKING ──────────────────────────────────────────► SERVING
        ▲                    │   ▲                                                 │
        └────────────────────┘   └─────────────────────────────────────────────────┘
           nothing has arrived                   the loop responds
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Generic, TypeVar

__all__ = ["LOOK_INTERVAL", "SocketLooks"]

LOOK_INTERVAL: Final = 0.02
"""Seconds between two looks. A blocked loop is noticed after one or two of them, if data arrives."""
MAX_GAP: Final = 1.0
"""Seconds between two looks above which the process itself was stopped (SIGSTOP), and not its loop."""

S = TypeVar("S")


class SocketLooks(Generic[S]):
    """The state of the sockets of one loop. Only one thread may use it, except :meth:`loop_responded`.

    ``now`` is in seconds of a monotonic clock. The progress of a socket is the number of times that the loop served it.
    """

    def __init__(self) -> None:
        self.is_looking = False
        """Sleep for ``LOOK_INTERVAL`` before the next look, even if data arrives. Otherwise wait for data."""
        self.is_serving = False
        """The loop is blocked: it has not responded since a socket waited for too long."""
        self._had_data: dict[S, int] = {}
        """The sockets with data at the last look, with their progress."""
        self._total_progress = 0
        self._looked_at = 0.0

    def look(self, now: float, with_data: Mapping[S, int], total_progress: int) -> list[S]:
        """Return the sockets to serve now. ``with_data`` has those with data, with their progress.

        ``total_progress`` is the progress of all sockets together.
        """
        if now - self._looked_at > MAX_GAP:
            self._had_data = {}
        self._looked_at = now
        if not self.is_serving:
            self.is_serving = any(self._had_data.get(each) == progress for each, progress in with_data.items())
        if self.is_serving:
            self.is_looking = False
            self._had_data = {}
            return list(with_data)
        self.is_looking = bool(with_data) or total_progress != self._total_progress
        self._had_data, self._total_progress = dict(with_data), total_progress
        return []

    def loop_responded(self) -> None:
        """The loop runs again. Any thread may call this."""
        self.is_serving = False
