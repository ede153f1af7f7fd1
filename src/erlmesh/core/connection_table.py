"""The life of the connections to each peer: who is being called, who calls, who is up, and who wins when both dial.

One entry a peer that anything is going on with::

              dial                      met
    (nothing) ────▶ dialling ─────────────────────────────▶ up
        │              │  called, own name is greater: nok   │
        │ called: ok   │  called, own name is smaller:       │ called: alive
        ▼              ▼  ok_simultaneous, drop the attempt  ▼
     answering ◀───────┘                                  up, and answering: met replaces the old connection
        │ met
        ▼
        up

``nok`` heard by the one who dialled means *they* are calling: the entry is *expecting* until their call comes or the
caller gives up. A connection is any hashable token; the table never looks into it. (dist_util.erl, net_kernel.erl)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from erlmesh.proto.handshake import Status

__all__ = ["ConnectionTable"]

C = TypeVar("C")


@dataclass(slots=True)
class _Peer(Generic[C]):
    outgoing: C | None = None
    incoming: C | None = None
    established: C | None = None
    awaiting_incoming: C | None = None
    """The attempt that was told ``nok``."""

    def is_pending(self) -> bool:
        return self.outgoing is not None or self.incoming is not None or self.awaiting_incoming is not None

    def is_idle(self) -> bool:
        return self.established is None and not self.is_pending()


class ConnectionTable(Generic[C]):
    """The connections of the node called ``ours`` (a full name)."""

    def __init__(self, local_name: str) -> None:
        self._local_name = local_name
        self._peers: dict[str, _Peer[C]] = {}

    def established_connection(self, name: str) -> C | None:
        """The established connection to ``name``."""
        peer = self._peers.get(name)
        return None if peer is None else peer.established

    def is_pending(self, name: str) -> bool:
        """Something is under way that may yet end in a connection: whoever wants one must wait for it."""
        peer = self._peers.get(name)
        return peer is not None and peer.is_pending()

    def dial(self, name: str, connection: C) -> bool:
        """We want to dial. False if we are connected, or something is under way already."""
        peer = self._peers.setdefault(name, _Peer())
        if not peer.is_idle():
            return False
        peer.outgoing = connection
        return True

    def incoming(self, name: str, connection: C) -> tuple[Status | None, C | None]:
        """``name`` calls: the status to answer with (None: close without a word), and a connection of ours to drop."""
        if name == self._local_name:
            return Status.NOK, None
        peer = self._peers.setdefault(name, _Peer())
        if peer.established is not None:
            if peer.incoming is not None:
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
        """We dialled and heard ``alive``: does the peer's old connection have to give way to this new one?"""
        peer = self._peers.get(name)
        return peer is not None and peer.outgoing == connection and peer.established is None

    def nok_received(self, name: str, connection: C) -> None:
        """We dialled and heard ``nok``: their call is on its way. (If it is here already, we dial no more.)"""
        peer = self._peers.get(name)
        if peer is not None and peer.outgoing == connection:
            peer.outgoing, peer.awaiting_incoming = None, connection

    def established(self, name: str, connection: C) -> tuple[bool, C | None]:
        """The handshake is through: whether the connection counts, and the old one that it replaces."""
        peer = self._peers.get(name)
        if peer is None or connection not in (peer.outgoing, peer.incoming):
            return False, None  # given up for another in the meantime
        replaced, peer.established = peer.established, connection
        peer.outgoing = peer.incoming = None
        return True, replaced

    def handshake_failed(self, name: str, connection: C) -> None:
        """A handshake ended without a connection."""
        peer = self._peers.get(name)
        if peer is None:
            return
        if peer.outgoing == connection:
            peer.outgoing = None
        if peer.incoming == connection:
            peer.incoming = None
        self._remove_if_idle(name, peer)

    def expire(self, name: str, connection: C) -> bool:
        """Time is over for the call that was expected since ``connection`` heard ``nok``: True if it did not come."""
        peer = self._peers.get(name)
        if peer is None or peer.awaiting_incoming != connection:
            return False
        peer.awaiting_incoming = None
        self._remove_if_idle(name, peer)
        return True

    def connection_lost(self, name: str, connection: C) -> bool:
        """An established connection ended: True if it was the one that counts."""
        peer = self._peers.get(name)
        if peer is None or peer.established != connection:
            return False
        peer.established = None
        self._remove_if_idle(name, peer)
        return True

    def established_connections(self) -> dict[str, C]:
        """Every established connection."""
        return {name: peer.established for name, peer in self._peers.items() if peer.established is not None}

    def _remove_if_idle(self, name: str, peer: _Peer[C]) -> None:
        if peer.is_idle():
            del self._peers[name]
