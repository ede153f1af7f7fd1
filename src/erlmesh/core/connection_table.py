"""Which connections to each peer are under way or established, and which one wins if both nodes dial. No I/O.

Each peer has up to four kinds of connections::

    dial                            established
    ─────▶ OUTGOING ─────────────────────────────▶ ESTABLISHED ◀────┐
       │      │ nok_received                                        │ established: it replaces
       │      ▼                                                     │ an older connection
       │   AWAITING_INCOMING ── expire ──▶ (nothing)                │
       │                                                            │
       └─▶ DEFERRED ── start_deferred ──▶ OUTGOING      incoming ──▶ CANDIDATES
           (while there are candidates)                 (any number)

**A candidate is an incoming connection that has said the peer's name and has not proved the cookie.** Anybody can say a
name. So a candidate decides nothing: it does not end our own attempt, it does not keep another candidate out, and
nothing waits for it for long. The first connection that is established ends the others that it outdates.

If both nodes dial, the attempt of the node with the greater name wins: it answers ``nok`` to an incoming connection
while it dials. The other node answers ``ok_simultaneous``. OTP then drops its own attempt. Here that attempt goes on,
because the name may be a lie; a real peer ends it with ``nok``. A peer that lost its connection may dial while ours
still looks established. The answer is ``alive``. The new connection replaces the old one when its handshake is
complete. (OTP: ``dist_util.erl``, ``net_kernel.erl``.)

A connection is any hashable token. The table never looks into it.
"""

from __future__ import annotations

from enum import Enum
from typing import Generic, TypeVar

from erlmesh.proto.handshake import Status
from erlmesh.records import field, record

__all__ = ["ConnectionTable", "Dial"]

C = TypeVar("C")


class Dial(Enum):
    """What follows from the wish to connect to a peer."""

    NOW = "now"
    """Dial."""
    LATER = "later"
    """The peer may be connecting to us. Call :meth:`ConnectionTable.start_deferred` after a short time."""
    NOT = "not"
    """The peer is connected, or our own attempt is under way."""


@record
class _Peer(Generic[C]):
    outgoing: C | None = None
    """Our attempt."""
    candidates: dict[C, None] = field(default_factory=dict)
    """Incoming connections in their handshake that were answered with ``ok``, ``ok_simultaneous`` or ``alive``, in the
    order of arrival.
    """
    established: C | None = None
    awaiting_incoming: C | None = None
    """Our attempt that the peer answered with ``nok``. It only identifies the wait: a later wait has another token."""
    deferred: C | None = None
    """Our attempt that starts when the candidates have had some time."""

    def is_attempted(self) -> bool:
        return self.outgoing is not None or self.awaiting_incoming is not None or self.deferred is not None

    def is_idle(self) -> bool:
        return self.established is None and not self.candidates and not self.is_attempted()


class ConnectionTable(Generic[C]):
    """The connections of the node with the full name ``local_name``."""

    def __init__(self, local_name: str) -> None:
        self._local_name = local_name
        self._peers: dict[str, _Peer[C]] = {}

    def established_connection(self, name: str) -> C | None:
        """Return the established connection to ``name``."""
        peer = self._peers.get(name)
        return None if peer is None else peer.established

    def is_pending(self, name: str) -> bool:
        """Whether an attempt of ours may still become a connection. A caller that wants one waits for it."""
        peer = self._peers.get(name)
        return peer is not None and peer.is_attempted()

    def dial(self, name: str, connection: C) -> Dial:
        """Register an outgoing attempt, unless the peer is connected or an attempt of ours is under way."""
        peer = self._peers.setdefault(name, _Peer())
        if peer.established is not None or peer.is_attempted():
            return Dial.NOT
        if peer.candidates:
            peer.deferred = connection
            return Dial.LATER
        peer.outgoing = connection
        return Dial.NOW

    def start_deferred(self, name: str, connection: C) -> bool:
        """The candidates have had their time. True if ``connection`` is still wanted and is to be dialled now."""
        peer = self._peers.get(name)
        if peer is None or peer.deferred != connection:
            return False
        peer.deferred, peer.outgoing = None, connection
        return True

    def incoming(self, name: str, connection: C) -> Status:
        """``name`` has connected to us, or so the other side says. Return the status to answer with."""
        if name == self._local_name:  # another node has our name, or this node has dialled itself
            return Status.NOK
        peer = self._peers.setdefault(name, _Peer())
        if peer.established is None and peer.outgoing is not None and self._local_name > name:
            return Status.NOK
        peer.candidates[connection] = None
        if peer.established is not None:
            return Status.ALIVE
        return Status.OK if peer.outgoing is None else Status.OK_SIMULTANEOUS

    def keep_attempt(self, name: str, connection: C) -> bool:
        """Whether our attempt, which the peer answered with ``alive``, is to replace the peer's old connection."""
        peer = self._peers.get(name)
        return peer is not None and peer.outgoing == connection and peer.established is None

    def nok_received(self, name: str, connection: C) -> None:
        """The peer answered our attempt with ``nok``: its own connection is on its way, or is established already."""
        peer = self._peers.get(name)
        if peer is not None and peer.outgoing == connection:
            peer.outgoing = None
            if peer.established is None:
                peer.awaiting_incoming = connection

    def established(self, name: str, connection: C) -> tuple[bool, C | None, list[C]]:
        """A handshake is complete, so the other side has proved the cookie.

        Return whether the connection counts, the old connection that it replaces, and the attempts to drop.
        """
        peer = self._peers.get(name)
        if peer is None or (connection != peer.outgoing and connection not in peer.candidates):
            return False, None, []  # dropped in the meantime
        replaced, peer.established = peer.established, connection
        peer.awaiting_incoming = peer.deferred = None
        if connection == peer.outgoing:
            # The peer has no other attempt any more: it answered ours with ok, or dropped its own for it.
            outdated, peer.outgoing = list(peer.candidates), None
        else:
            # A node has one attempt at a time, so what came earlier under this name is its past, or a lie. What came
            # later may be its next incarnation.
            arrived = list(peer.candidates)
            position = arrived.index(connection)
            del peer.candidates[connection]
            outdated = arrived[:position]
            # The greater name never drops its attempt for ours. The smaller one may have just done so: then this
            # connection is about to be closed, and our attempt must go on. The peer's answer to it decides.
            if peer.outgoing is not None and name > self._local_name:
                outdated.append(peer.outgoing)
                peer.outgoing = None
        for each in outdated:
            peer.candidates.pop(each, None)
        return True, replaced, outdated

    def handshake_failed(self, name: str, connection: C) -> C | None:
        """A handshake has ended without a connection. Return our deferred attempt if it is to be dialled now."""
        peer = self._peers.get(name)
        if peer is None:
            return None
        start = None
        if peer.outgoing == connection:
            peer.outgoing = None
        elif connection in peer.candidates:
            del peer.candidates[connection]
            if not peer.candidates:
                # It may have been the connection that we awaited. A caller that still waits dials again.
                peer.awaiting_incoming = None
                start = peer.deferred
                if start is not None:
                    peer.deferred, peer.outgoing = None, start
        self._remove_if_idle(name, peer)
        return start

    def expire(self, name: str, connection: C) -> bool:
        """End the wait that began when ``connection`` was answered with ``nok``. True if no connection came."""
        peer = self._peers.get(name)
        if peer is None or peer.awaiting_incoming != connection:
            return False
        peer.awaiting_incoming = None
        self._remove_if_idle(name, peer)
        return True

    def connection_lost(self, name: str, connection: C) -> bool:
        """An established connection has ended. True if it was the one that counts."""
        peer = self._peers.get(name)
        if peer is None or peer.established != connection:
            return False
        peer.established = None
        self._remove_if_idle(name, peer)
        return True

    def established_connections(self) -> dict[str, C]:
        """Return all established connections by the name of the peer."""
        return {name: peer.established for name, peer in self._peers.items() if peer.established is not None}

    def _remove_if_idle(self, name: str, peer: _Peer[C]) -> None:
        if peer.is_idle():
            del self._peers[name]
