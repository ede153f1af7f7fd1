"""With whom we have parted although he lives on. Pure.

A BEAM says nothing when it disconnects on purpose: its connection ends as if it had died. But one that has just heard
us and closes has not missed us; and if the node of that name that is found afterwards is still in the same life, it did
not die either. One that is shutting down may still answer for a moment, so it must have lived on for some seconds. It
is left alone then, until somebody wants it or it calls by itself. (Our own nodes say so before.)

Whom we have left for the sake of others need not be met again soon either, unless it has died since.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["DisconnectHistory"]

SHUTDOWN_GRACE: Final = 10.0
"""Seconds in which a node that is shutting down may still answer."""
MAX_DISCONNECTS: Final = 256
"""Peers that are remembered; above it the oldest is forgotten."""


class _Disconnect(NamedTuple):
    creation: int
    disconnected_at: float
    overlap_disconnect: bool


class DisconnectHistory:
    """The book of one node."""

    def __init__(self) -> None:
        self._disconnects: dict[str, _Disconnect] = {}
        self._suppressed: dict[str, None] = {}
        self._found_deferred: dict[str, None] = {}

    def record_peer_close(self, name: str, creation: int, now: float) -> None:
        """The peer ``name`` in that life has heard us to the end, and closed the connection."""
        self._record(name, _Disconnect(creation, now, overlap_disconnect=False))

    def record_overlap_disconnect(self, name: str, creation: int, now: float) -> None:
        """The connection with that life of ``name`` was given up for the sake of others."""
        self._record(name, _Disconnect(creation, now, overlap_disconnect=True))

    def refusal_reason(self, name: str, creation: int, now: float) -> str | None:
        """``name`` has been found: why it is not to be met, in words, if this is the life of which one of those was
        said. Who hung up is in the end left alone for it.
        """
        life = self._disconnects.get(name)
        if life is None or life.creation != creation:
            return None
        if life.overlap_disconnect:
            self._found_deferred[name] = None
            return f"{name} was left for the sake of other nodes and lives on: it is not met again yet"
        if now - life.disconnected_at >= SHUTDOWN_GRACE:
            self._suppressed[name] = None
        return f"{name} has hung up on us and lives on: it is left alone until somebody wants it"

    def is_suppressed(self, name: str) -> bool:
        """Whether it has been found to live on, long after it hung up."""
        return name in self._suppressed

    def pop_found(self, name: str) -> bool:
        """Whether it has been found in the life in which it was left for others, since this was last asked."""
        return self._found_deferred.pop(name, name) is None

    def clear_deferral(self, name: str) -> None:
        """If ``name`` was left for others, that is no reason any more."""
        life = self._disconnects.get(name)
        if life is not None and life.overlap_disconnect:
            self.discard(name)

    def discard(self, name: str) -> None:
        """Somebody wants ``name``, or there was another reason."""
        for book in (self._disconnects, self._suppressed, self._found_deferred):
            book.pop(name, None)

    def _record(self, name: str, disconnect: _Disconnect) -> None:
        self.discard(name)
        self._disconnects[name] = disconnect
        if len(self._disconnects) > MAX_DISCONNECTS:
            self.discard(next(iter(self._disconnects)))
