"""When a server of the node itself starts again after its end: at once, or later if it ends again and again.

OTP's supervisor of such servers (``kernel_safe_sup``) ends the node after too many restarts. Here another program must
not be able to end the node, and a fault that occurs at each start must not keep the event loop busy. So a server starts
at once up to the limit of a supervisor. Above it, the next start comes later and later. A server that has run for a
while starts at once again.
"""

from __future__ import annotations

from typing import Final

from erlmesh.core.supervision import Child, ChildBook, Restart

__all__ = ["MAX_DELAY", "MAX_RESTARTS", "MAX_SECONDS", "ServerRestarts"]

MAX_RESTARTS: Final = 10
MAX_SECONDS: Final = 10
"""So many restarts within so many seconds come at once."""
FIRST_DELAY: Final = 1.0
MAX_DELAY: Final = 30.0
QUIET: Final = 60.0
"""Seconds without an end after which the next restart comes at once."""


class _Server:
    def __init__(self, name: str) -> None:
        self.child = Child(name, "permanent", None)
        self.book = ChildBook("one_for_one", MAX_RESTARTS, MAX_SECONDS)
        self.book.add(self.child)
        self.delay = 0.0
        self.started = 0.0


class ServerRestarts:
    """The restarts of all servers of a node, each by a name."""

    def __init__(self) -> None:
        self._servers: dict[str, _Server] = {}

    def ended(self, name: str, now: float) -> float:
        """A server has ended. Return the seconds after which it starts again: 0 for at once."""
        server = self._servers.setdefault(name, _Server(name))
        if now - server.started > QUIET:
            server.delay = 0.0
        within_limit = isinstance(server.book.restart(server.child, now), Restart)
        if server.delay or not within_limit:
            server.delay = min(max(2 * server.delay, FIRST_DELAY), MAX_DELAY)
        server.started = now + server.delay
        return server.delay
