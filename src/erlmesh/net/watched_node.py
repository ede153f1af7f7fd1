"""What a watchdog needs to know of a node and of its connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from erlmesh.proto.control import Signal

__all__ = ["ThreadWritable", "Watchdog", "WatchedNode"]


class ThreadWritable(Protocol):
    """The part of a connection for the watchdog; see :class:`erlmesh.net.dist_protocol.DistProtocol`."""

    def last_written_at(self) -> float | None: ...
    def write_from_thread(self, signal: Signal | None) -> bool: ...
    def let_thread_keep_alive(self, node: int, net_ticktime: float, blocked_signal: Signal) -> None: ...


class WatchedNode(Protocol):
    """A node that the watchdog serves. The event loop calls ``loop_recovered``; other threads call all the rest."""

    name: str
    net_ticktime: float

    def connections(self) -> Sequence[ThreadWritable]:
        """Return the established connections."""

    def blocked_signal(self, seconds: float) -> Signal:
        """Return the signal for every peer that says the loop has been blocked for ``seconds``. It is sent once.

        It ends with the milliseconds, as an integer.
        """

    def notify_blocked(self, seconds: float) -> bool:
        """Notify the user's callback that the loop has been blocked for ``seconds``. Return false to log it instead."""

    def notify_line(self, seconds: float, line: str, *, gil: bool) -> None:
        """Notify observers of the line that blocks the loop. ``gil`` tells that it holds the GIL, too."""

    def loop_recovered(self) -> None:
        """The loop runs again. Peers may have received :meth:`blocked_signal`."""


class Watchdog(Protocol):
    """The watchdog of one event loop. It is shared by all nodes of the loop."""

    def connection_ready(self, node: WatchedNode, connection: ThreadWritable) -> None:
        """``connection`` is one of ``node.connections()`` from now on. The event loop calls this."""

    def detach(self, node: WatchedNode) -> None:
        """Stop watching for ``node``. If it was the last node, the thread has ended and logged when this returns."""

    def blocked_for(self) -> float:
        """Return for how many seconds the loop has been blocked, as far as is known. Any thread may call this."""
