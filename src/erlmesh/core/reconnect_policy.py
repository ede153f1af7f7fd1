"""Whom to dial again, and when. Pure: time and chance are arguments.

A peer that was lost is dialled after a pause that doubles from one attempt to the next, with chance in it, up to a cap.
Of two that lost each other the one with the smaller name goes first, and the other waits a little longer; so two seldom
dial at once, and a peer that never redials (a BEAM does not) is dialled by whoever is there.

Two peers may lose each other and both still see a third. Then ``global`` (``prevent_overlapping_partitions``) has one
of the two leave everybody. Were it to come back at once, it would only be introduced to the one it cannot reach, and
have to leave again, with others. So those who were left *for the sake of others* are spared for a while, or until
somebody who was really lost is back: through him all are met again.

But the news that a node is lost may be here before its own last word, and then it is left for others although it has
ended. So who is spared is dialled like any other, and met only if that is another life of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Final

__all__ = ["ReconnectPolicy"]

INITIAL_BACKOFF: Final = 0.5
MAX_BACKOFF: Final = 15.0
HEAD_START: Final = 1.0
"""Seconds that the smaller name has before the greater one dials, too."""
INITIAL_DEFERRAL: Final = 15.0
"""Seconds for which a life of a peer is spared that was left for the sake of others; twice that the next time, up to"""
MAX_DEFERRAL: Final = 300.0
STABLE_AFTER: Final = 60.0
"""Seconds after which a connection that came up counts as a success."""
GIVE_UP_AFTER: Final = 24 * 3600.0
MAX_PEERS: Final = 4096
"""Peers that are remembered; above it the oldest is forgotten."""


@dataclass(slots=True)
class _Peer:
    disconnected_since: float
    backoff: float = INITIAL_BACKOFF
    dial_at: float = math.inf
    connected_since: float | None = None
    overlap_disconnect: bool = False
    deferred_until: float = -math.inf
    deferral: float = INITIAL_DEFERRAL


class ReconnectPolicy:
    """The book of the node called ``ours``. Tell it what happens; at :meth:`next_deadline` ask whom to dial."""

    def __init__(self, local_name: str, rng: Random) -> None:
        self._local_name = local_name
        self._rng = rng
        self._peers: dict[str, _Peer] = {}
        self._suppressed: dict[str, None] = {}

    def request(self, name: str, now: float) -> None:
        """``name`` could not be reached and is to be dialled until it can."""
        if name == self._local_name:
            return
        self._suppressed.pop(name, None)
        if name not in self._peers:
            self._schedule(self._ensure_peer(name, now), name, now)

    def connected(self, name: str, now: float) -> None:
        """A connection with ``name`` is up."""
        peer = self._ensure_peer(name, now)
        peer.connected_since, peer.dial_at = now, math.inf
        if not peer.overlap_disconnect:
            self._clear_deferrals(now)
        peer.overlap_disconnect = False
        self._suppressed.pop(name, None)

    def is_tracked(self, name: str) -> bool:
        """Whether anything is written here of ``name``."""
        return name in self._peers

    def disconnected(self, name: str, now: float, *, overlap_disconnect: bool = False) -> None:
        """It is down again, and neither of the two wanted it so."""
        if name in self._suppressed:
            self._peers.pop(name, None)
            return
        peer = self._ensure_peer(name, now)
        if peer.connected_since is not None and now - peer.connected_since >= STABLE_AFTER:
            peer.backoff, peer.deferral = INITIAL_BACKOFF, INITIAL_DEFERRAL
        peer.connected_since, peer.disconnected_since = None, now
        peer.overlap_disconnect = overlap_disconnect
        if overlap_disconnect:
            peer.deferred_until = now + peer.deferral
            peer.deferral = min(peer.deferral * 2, MAX_DEFERRAL)
        self._schedule(peer, name, now)

    def is_deferred(self, name: str, now: float) -> bool:
        """Whether ``name`` is not to be met now in the life in which it was left for the sake of others."""
        peer = self._peers.get(name)
        return peer is not None and peer.overlap_disconnect and now < peer.deferred_until

    def found_same_incarnation(self, name: str, now: float) -> None:
        """An attempt has found ``name`` in that life, and was given up."""
        peer = self._peers.get(name)
        if peer is not None and peer.connected_since is None:
            self._schedule(peer, name, now)

    def attempt_failed(self, name: str, now: float) -> None:
        """An attempt to reach ``name`` has failed."""
        peer = self._peers.get(name)
        if peer is None or peer.connected_since is not None:
            return
        if now - peer.disconnected_since > GIVE_UP_AFTER:
            del self._peers[name]
            return
        peer.overlap_disconnect = False
        self._schedule(peer, name, now)

    def suppress(self, name: str) -> None:
        """Somebody wants this peer to be left alone, or to be so once its connection ends, until one comes up again."""
        self._suppressed[name] = None
        if len(self._suppressed) > MAX_PEERS:
            del self._suppressed[next(iter(self._suppressed))]
        peer = self._peers.get(name)
        if peer is not None and peer.connected_since is None:
            del self._peers[name]

    def is_suppressed(self, name: str) -> bool:
        """Whether somebody wants that, and nobody has wanted it otherwise since."""
        return name in self._suppressed

    def next_deadline(self) -> float:
        """When :meth:`due` has somebody, if nothing happens before; ``inf`` if nobody is missed."""
        return min((peer.dial_at for peer in self._peers.values()), default=math.inf)

    def due(self, now: float) -> list[str]:
        """Who is to be dialled now. For each, :meth:`up`, :meth:`found` or :meth:`failed` must follow."""
        names = [name for name, peer in self._peers.items() if peer.dial_at <= now]
        for name in names:
            self._peers[name].dial_at = math.inf
        return names

    def reconnecting(self) -> list[str]:
        """The peers that are being dialled again and again."""
        return [name for name, peer in self._peers.items() if peer.connected_since is None]

    def _ensure_peer(self, name: str, now: float) -> _Peer:
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = _Peer(now)
            if len(self._peers) > MAX_PEERS:
                del self._peers[next(iter(self._peers))]
        return peer

    def _schedule(self, peer: _Peer, name: str, now: float) -> None:
        pause = peer.backoff * self._rng.uniform(0.5, 1.0)
        peer.backoff = min(peer.backoff * 2, MAX_BACKOFF)
        peer.dial_at = now + pause
        if self.is_deferred(name, now):  # when that is over it is to be met, and not only at the end of a long pause
            peer.dial_at = min(peer.dial_at, peer.deferred_until + self._rng.uniform(0.0, INITIAL_BACKOFF))
        if self._local_name > name:
            peer.dial_at += HEAD_START

    def _clear_deferrals(self, now: float) -> None:
        """Somebody who was really lost is back: those left for others' sake come next, if not by introduction."""
        for name, peer in self._peers.items():
            if peer.overlap_disconnect and peer.connected_since is None:
                peer.overlap_disconnect = False
                peer.backoff = INITIAL_BACKOFF  # the attempts so far did not fail: they were given up
                self._schedule(peer, name, now)
