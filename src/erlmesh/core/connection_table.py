"""Which connections to each peer are under way or established, and which one wins if both nodes dial. No I/O.

One entry for each peer that is connected or has an attempt under way::

               dial                       established
    (nothing) ─────▶ OUTGOING ───────────────────────────────▶ ESTABLISHED ◀───────────┐
        │               │                                          │                   │
        │ incoming:     │ incoming, own name is smaller:           │ incoming: alive   │ established:
        │ ok            │ ok_simultaneous, drop our attempt        ▼                   │ the new connection
        ▼               ▼                                      ESTABLISHED             │ replaces the old one
    INCOMING ◀──────────┤                                      and INCOMING ───────────┘
        │               │
        │ established   │ nok_received (the peer's name is greater and it dials, too)
        ▼               ▼
    ESTABLISHED     AWAITING_INCOMING ── incoming: ok ──▶ INCOMING
                        │
                        └── expire: the peer's connection did not arrive ──▶ (nothing)

If both nodes dial, the attempt of the node with the greater name wins: it answers ``nok`` to an incoming connection
while it dials. A peer that lost its connection may dial while ours still looks established. The answer is ``alive``.
The new connection replaces the old one when its handshake is complete. (OTP: ``dist_util.erl``, ``net_kernel.erl``.)

A connection is any hashable token. The table never looks into it.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from erlmesh.proto.handshake import Status
from erlmesh.records import record

__all__ = ["ConnectionTable"]

C = TypeVar("C")


@record
class _Peer(Generic[C]):
    outgoing: C | None = None
    """Our attempt. Never set together with ``incoming`` or ``established``."""
    incoming: C | None = None
    """The peer's attempt that was answered with ``ok``, ``ok_simultaneous`` or ``alive``."""
    established: C | None = None
    awaiting_incoming: C | None = None
    """Our attempt that the peer answered with ``nok``. It only identifies the wait: a later wait has another token."""

    def is_pending(self) -> bool:
        return self.outgoing is not None or self.incoming is not None or self.awaiting_incoming is not None

    def is_idle(self) -> bool:
        return self.established is None and not self.is_pending()


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
        """Whether an attempt is under way that may still become a connection. A caller that wants one waits for it."""
        peer = self._peers.get(name)
        return peer is not None and peer.is_pending()

    def dial(self, name: str, connection: C) -> bool:
        """Register an outgoing attempt. False if the peer is connected, or an attempt is under way already."""
        peer = self._peers.setdefault(name, _Peer())
        if not peer.is_idle():
            return False
        peer.outgoing = connection
        return True

    def incoming(self, name: str, connection: C) -> tuple[Status | None, C | None]:
        """``name`` has connected to us. Return the status to answer with, and a rival connection to drop.

        A status of None means: close the connection without an answer.
        """
        if name == self._local_name:  # another node has our name, or this node has dialled itself
            return Status.NOK, None
        peer = self._peers.setdefault(name, _Peer())
        if peer.established is not None:
            if peer.incoming is not None:  # one replacement at a time, as in net_kernel
                return None, None
            peer.incoming = connection
            return Status.ALIVE, None
        rival = peer.outgoing if peer.outgoing is not None else peer.incoming
        if rival is None:
            peer.incoming, peer.awaiting_incoming = connection, None
            return Status.OK, None
        if self._local_name > name:
            return Status.NOK, None
        peer.outgoing, peer.incoming = None, connection
        return Status.OK_SIMULTANEOUS, rival

    def keep_attempt(self, name: str, connection: C) -> bool:
        """Whether our attempt, which the peer answered with ``alive``, is to replace the peer's old connection."""
        peer = self._peers.get(name)
        return peer is not None and peer.outgoing == connection and peer.established is None

    def nok_received(self, name: str, connection: C) -> None:
        """The peer answered our attempt with ``nok``: its own connection is on its way.

        If that has already arrived, it has taken the place of our attempt, and nothing changes.
        """
        peer = self._peers.get(name)
        if peer is not None and peer.outgoing == connection:
            peer.outgoing, peer.awaiting_incoming = None, connection

    def established(self, name: str, connection: C) -> tuple[bool, C | None]:
        """A handshake is complete. Return whether the connection counts, and the old connection that it replaces."""
        peer = self._peers.get(name)
        if peer is None or connection not in (peer.outgoing, peer.incoming):
            return False, None  # dropped for a rival in the meantime
        replaced, peer.established = peer.established, connection
        peer.outgoing = peer.incoming = None
        return True, replaced

    def handshake_failed(self, name: str, connection: C) -> None:
        """A handshake has ended without a connection."""
        peer = self._peers.get(name)
        if peer is None:
            return
        if peer.outgoing == connection:
            peer.outgoing = None
        if peer.incoming == connection:
            peer.incoming = None
        self._remove_if_idle(name, peer)

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
