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

__all__ = ["Redial"]

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 15.0
HEAD_START: Final = 1.0
"""Seconds that the smaller name has before the greater one dials, too."""
FOR_OTHERS: Final = 15.0
"""Seconds for which a life of a peer is spared that was left for the sake of others; twice that the next time, up to"""
LONGEST_FOR_OTHERS: Final = 300.0
STABLE: Final = 60.0
"""Seconds after which a connection that came up counts as a success."""
GIVE_UP: Final = 24 * 3600.0
MOST: Final = 4096
"""Peers that are remembered; above it the oldest is forgotten."""


@dataclass(slots=True)
class _Peer:
    wanted_since: float
    pause: float = FIRST_PAUSE
    dial_at: float = math.inf
    up_since: float | None = None
    for_others: bool = False
    spared_until: float = -math.inf
    pause_for_others: float = FOR_OTHERS


class Redial:
    """The book of the node called ``ours``. Tell it what happens; at :meth:`next_deadline` ask whom to dial."""

    def __init__(self, ours: str, chance: Random) -> None:
        self._ours = ours
        self._chance = chance
        self._peers: dict[str, _Peer] = {}
        self._alone: dict[str, None] = {}

    def wanted(self, name: str, now: float) -> None:
        """``name`` could not be reached and is to be dialled until it can."""
        if name == self._ours:
            return
        self._alone.pop(name, None)
        if name not in self._peers:
            self._plan(self._peer(name, now), name, now)

    def up(self, name: str, now: float) -> None:
        """A connection with ``name`` is up."""
        peer = self._peer(name, now)
        peer.up_since, peer.dial_at = now, math.inf
        if not peer.for_others:
            self._hurry(now)
        peer.for_others = False
        self._alone.pop(name, None)

    def knows(self, name: str) -> bool:
        """Whether anything is written here of ``name``."""
        return name in self._peers

    def lost(self, name: str, now: float, *, for_others: bool = False) -> None:
        """It is down again, and neither of the two wanted it so."""
        if name in self._alone:
            self._peers.pop(name, None)
            return
        peer = self._peer(name, now)
        if peer.up_since is not None and now - peer.up_since >= STABLE:
            peer.pause, peer.pause_for_others = FIRST_PAUSE, FOR_OTHERS
        peer.up_since, peer.wanted_since = None, now
        peer.for_others = for_others
        if for_others:
            peer.spared_until = now + peer.pause_for_others
            peer.pause_for_others = min(peer.pause_for_others * 2, LONGEST_FOR_OTHERS)
        self._plan(peer, name, now)

    def is_spared(self, name: str, now: float) -> bool:
        """Whether ``name`` is not to be met now in the life in which it was left for the sake of others."""
        peer = self._peers.get(name)
        return peer is not None and peer.for_others and now < peer.spared_until

    def found(self, name: str, now: float) -> None:
        """An attempt has found ``name`` in that life, and was given up."""
        peer = self._peers.get(name)
        if peer is not None and peer.up_since is None:
            self._plan(peer, name, now)

    def failed(self, name: str, now: float) -> None:
        """An attempt to reach ``name`` has failed."""
        peer = self._peers.get(name)
        if peer is None or peer.up_since is not None:
            return
        if now - peer.wanted_since > GIVE_UP:
            del self._peers[name]
            return
        peer.for_others = False
        self._plan(peer, name, now)

    def forget(self, name: str) -> None:
        """Somebody wants this peer to be left alone, or to be so once its connection ends, until one comes up again."""
        self._alone[name] = None
        if len(self._alone) > MOST:
            del self._alone[next(iter(self._alone))]
        peer = self._peers.get(name)
        if peer is not None and peer.up_since is None:
            del self._peers[name]

    def is_left_alone(self, name: str) -> bool:
        """Whether somebody wants that, and nobody has wanted it otherwise since."""
        return name in self._alone

    def next_deadline(self) -> float:
        """When :meth:`due` has somebody, if nothing happens before; ``inf`` if nobody is missed."""
        return min((peer.dial_at for peer in self._peers.values()), default=math.inf)

    def due(self, now: float) -> list[str]:
        """Who is to be dialled now. For each, :meth:`up`, :meth:`found` or :meth:`failed` must follow."""
        names = [name for name, peer in self._peers.items() if peer.dial_at <= now]
        for name in names:
            self._peers[name].dial_at = math.inf
        return names

    def missed(self) -> list[str]:
        """The peers that are being dialled again and again."""
        return [name for name, peer in self._peers.items() if peer.up_since is None]

    def _peer(self, name: str, now: float) -> _Peer:
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = _Peer(now)
            if len(self._peers) > MOST:
                del self._peers[next(iter(self._peers))]
        return peer

    def _plan(self, peer: _Peer, name: str, now: float) -> None:
        pause = peer.pause * self._chance.uniform(0.5, 1.0)
        peer.pause = min(peer.pause * 2, LONGEST_PAUSE)
        peer.dial_at = now + pause
        if self.is_spared(name, now):  # when that is over it is to be met, and not only at the end of a long pause
            peer.dial_at = min(peer.dial_at, peer.spared_until + self._chance.uniform(0.0, FIRST_PAUSE))
        if self._ours > name:
            peer.dial_at += HEAD_START

    def _hurry(self, now: float) -> None:
        """Somebody who was really lost is back: those left for others' sake come next, if not by introduction."""
        for name, peer in self._peers.items():
            if peer.for_others and peer.up_since is None:
                peer.for_others = False
                peer.pause = FIRST_PAUSE  # the attempts so far did not fail: they were given up
                self._plan(peer, name, now)
