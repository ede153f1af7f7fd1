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

__all__ = ["Peers"]

C = TypeVar("C")


@dataclass(slots=True)
class _Peer(Generic[C]):
    dialling: C | None = None
    answering: C | None = None
    up: C | None = None
    expecting: C | None = None
    """The attempt that was told ``nok``."""

    def pending(self) -> bool:
        return self.dialling is not None or self.answering is not None or self.expecting is not None

    def idle(self) -> bool:
        return self.up is None and not self.pending()


class Peers(Generic[C]):
    """The connections of the node called ``ours`` (a full name)."""

    def __init__(self, ours: str) -> None:
        self._ours = ours
        self._peers: dict[str, _Peer[C]] = {}

    def up(self, name: str) -> C | None:
        """The established connection to ``name``."""
        peer = self._peers.get(name)
        return None if peer is None else peer.up

    def pending(self, name: str) -> bool:
        """Something is under way that may yet end in a connection: whoever wants one must wait for it."""
        peer = self._peers.get(name)
        return peer is not None and peer.pending()

    def dial(self, name: str, connection: C) -> bool:
        """We want to dial. False if we are connected, or something is under way already."""
        peer = self._peers.setdefault(name, _Peer())
        if not peer.idle():
            return False
        peer.dialling = connection
        return True

    def called(self, name: str, connection: C) -> tuple[Status | None, C | None]:
        """``name`` calls: the status to answer with (None: close without a word), and a connection of ours to drop."""
        if name == self._ours:
            return Status.NOK, None
        peer = self._peers.setdefault(name, _Peer())
        if peer.up is not None:
            if peer.answering is not None:
                return None, None
            peer.answering = connection
            return Status.ALIVE, None
        rival = peer.dialling if peer.dialling is not None else peer.answering
        if rival is None:
            peer.answering, peer.expecting = connection, None
            return Status.OK, None
        if self._ours > name:
            return Status.NOK, None
        peer.dialling, peer.answering = None, connection
        return Status.OK_SIMULTANEOUS, rival

    def still_wanted(self, name: str, connection: C) -> bool:
        """We dialled and heard ``alive``: does the peer's old connection have to give way to this new one?"""
        peer = self._peers.get(name)
        return peer is not None and peer.dialling == connection and peer.up is None

    def call_me_not(self, name: str, connection: C) -> None:
        """We dialled and heard ``nok``: their call is on its way. (If it is here already, we dial no more.)"""
        peer = self._peers.get(name)
        if peer is not None and peer.dialling == connection:
            peer.dialling, peer.expecting = None, connection

    def met(self, name: str, connection: C) -> tuple[bool, C | None]:
        """The handshake is through: whether the connection counts, and the old one that it replaces."""
        peer = self._peers.get(name)
        if peer is None or connection not in (peer.dialling, peer.answering):
            return False, None  # given up for another in the meantime
        replaced, peer.up = peer.up, connection
        peer.dialling = peer.answering = None
        return True, replaced

    def failed(self, name: str, connection: C) -> None:
        """A handshake ended without a connection."""
        peer = self._peers.get(name)
        if peer is None:
            return
        if peer.dialling == connection:
            peer.dialling = None
        if peer.answering == connection:
            peer.answering = None
        self._tidy(name, peer)

    def gave_up(self, name: str, connection: C) -> bool:
        """Time is over for the call that was expected since ``connection`` heard ``nok``: True if it did not come."""
        peer = self._peers.get(name)
        if peer is None or peer.expecting != connection:
            return False
        peer.expecting = None
        self._tidy(name, peer)
        return True

    def lost(self, name: str, connection: C) -> bool:
        """An established connection ended: True if it was the one that counts."""
        peer = self._peers.get(name)
        if peer is None or peer.up != connection:
            return False
        peer.up = None
        self._tidy(name, peer)
        return True

    def all_up(self) -> dict[str, C]:
        """Every established connection."""
        return {name: peer.up for name, peer in self._peers.items() if peer.up is not None}

    def _tidy(self, name: str, peer: _Peer[C]) -> None:
        if peer.idle():
            del self._peers[name]
