"""Which lost peers to reconnect to, and when. No I/O: the caller passes the time and the random generator.

The states of one peer::

            request                     connected
    IDLE ─────────────▶ BACKING_OFF ─────────────────▶ CONNECTED ◀── connected ── IDLE, SUPPRESSED
                        ▲ │  ▲   ▲                      │     │
         attempt_failed └─┘  │   └──── disconnected ────┘     │ disconnected
                             │                                │ (OVERLAPPING_PARTITION)
                             │                                ▼
                             └──────────────────────────── DEFERRED ── connected ──▶ CONNECTED
                               attempt_failed, or             ▲ │
                               another lost peer is back      └─┘ the attempt found the same incarnation

    any state ── suppress, or a peer that closed is found running ──▶ SUPPRESSED ── request ──▶ BACKING_OFF
    BACKING_OFF, DEFERRED ── no success for GIVE_UP_AFTER ──▶ IDLE

**Backoff.** A lost peer is dialled after a random delay that doubles with each attempt, up to a cap. Of two nodes that
lost each other, the one with the smaller name dials first and the other waits a little longer. So the two seldom dial
at once. A peer that never reconnects (a BEAM does not) is still dialled by its erlmesh peer.

**Deferral.** Two nodes may lose each other while both still see a third. Then ``global``
(``prevent_overlapping_partitions``) makes one of the two disconnect from all nodes. If it reconnected at once, the
others would report it to the node that it cannot reach. Then it would have to disconnect again, together with
others. So a peer that was disconnected for this reason is deferred. This ends after a while, or when a peer that was
really lost is back: that peer then reports all others.

The report that a node is lost may arrive before the end of our own connection to it. Then the disconnect looks like
an overlapping partition although the node has stopped. So a deferred peer is dialled like any other, and only the
incarnation (creation) that was disconnected is refused. A new incarnation is accepted at once.

**Suppression.** A BEAM sends nothing when it disconnects on purpose: the connection ends as if the node had crashed.
But a peer that closes right after it acknowledged our data did not lose us. If the node of that name is later found
with the same creation, it did not crash either. A node that is shutting down may still answer for a moment, so this
counts only after ``SHUTDOWN_GRACE``. Such a peer disconnected on purpose. It is not dialled again until code on this
node requests it, or until it connects to us. (An erlmesh node announces the disconnect beforehand.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum, auto
from heapq import heappop, heappush
from operator import itemgetter
from random import Random
from typing import Final

from erlmesh.core.backoff import Backoff
from erlmesh.records import field, record

__all__ = ["DisconnectCause", "PeerState", "ReconnectPolicy"]

INITIAL_BACKOFF: Final = 0.5
"""Seconds before the first attempt, at most. Short: most losses are a reset connection or a quick restart."""
MAX_BACKOFF: Final = 15.0
"""Seconds between two attempts, at most. A node that comes back waits no longer than this for its old peers."""
BACKOFF_JITTER: Final = (0.5, 1.0)
"""Factors for each delay. They keep nodes that lost each other at the same moment from dialling in step."""
HEAD_START: Final = 1.0
"""Seconds that the node with the greater name waits in addition: long enough for the other one's handshake."""
INITIAL_DEFERRAL: Final = 15.0
"""Seconds for which an incarnation that we left for an overlapping partition is refused. Doubles each time."""
MAX_DEFERRAL: Final = 300.0
"""Seconds that a deferral lasts at most. A pair that stays cut then disturbs the cluster every five minutes."""
STABLE_AFTER: Final = 60.0
"""Seconds after which a connection counts as a success: the next backoff and deferral start from the beginning."""
GIVE_UP_AFTER: Final = 24 * 3600.0
"""Seconds without a connection after which a peer is dialled no more: by then it is gone for good."""
SHUTDOWN_GRACE: Final = 10.0
"""Seconds for which a node that is shutting down may still accept a connection."""
TOLD_ATTEMPTS: Final = 10
"""Attempts to reach a node that others have only told of."""
MAX_PEERS: Final = 4096
"""Peers in the table. Above it one is forgotten: see :data:`_EVICTION_ORDER`."""
DISCOVERY_INITIAL_BACKOFF: Final = 1.0
"""Seconds before discovery dials a name a second time. The first time is at once: nothing has failed yet."""
DISCOVERY_MAX_BACKOFF: Final = 60.0
"""Seconds between two attempts of discovery, at most: a discovered name may belong to a node that never existed."""
DISCOVERY_JITTER: Final = (0.75, 1.25)
"""Factors for each delay of discovery, around 1: lookups keep their mean interval."""


class PeerState(Enum):
    """What the policy does about a peer. See the diagram at the top of the module."""

    IDLE = auto()
    """Nothing is planned. At most the incarnation to refuse is remembered."""
    CONNECTED = auto()
    BACKING_OFF = auto()
    """The peer is lost: it is dialled after a delay, or an attempt is under way."""
    DEFERRED = auto()
    """As BACKING_OFF, but the incarnation that we left is refused until the deferral ends."""
    SUPPRESSED = auto()
    """The peer is not dialled. Its connection may still be up: then it is not dialled after that ends."""


class DisconnectCause(Enum):
    """Why an established connection ended."""

    LOST = auto()
    """The network, the tick timeout or a broken protocol ended it."""
    PEER_CLOSED = auto()
    """The peer closed it right after it acknowledged our data: it may have disconnected on purpose."""
    OVERLAPPING_PARTITION = auto()
    """``global`` ended it because others have lost that peer, or because we have lost others."""
    SERVICE_RESTARTED = auto()
    """A service here started again and drops its connections. The peer is dialled as if it was lost."""
    REQUESTED = auto()
    """The application called ``disconnect``."""
    REPLACED = auto()
    """A newer connection to the same peer takes its place."""
    SHUTDOWN = auto()
    """The node stops."""


_EVICTION_ORDER: Final = {
    PeerState.IDLE: 0,  # forgetting it costs at most one unwanted connection
    PeerState.SUPPRESSED: 1,  # forgetting it costs at most one unwanted reconnect
    PeerState.CONNECTED: 2,
    PeerState.BACKING_OFF: 2,
    PeerState.DEFERRED: 2,
}
"""Which peer is forgotten when the table is full: the oldest of those with the lowest number.

Short-lived hidden tools leave IDLE entries. These must not push out a lost peer, which would never be dialled again.
"""


@record
class _RefusedIncarnation:
    """The incarnation of a peer that must not be connected to again yet."""

    creation: int
    since: float
    """When its connection ended."""
    overlapping: bool
    """We left it because of an overlapping partition. Otherwise the peer closed the connection itself."""
    found_running: bool = False
    """An attempt has found it. If the peer closed the connection: after ``SHUTDOWN_GRACE``, so it runs for good."""


@record
class _Peer:
    state: PeerState
    disconnected_since: float = math.inf
    """When the peer was lost, or first requested. ``GIVE_UP_AFTER`` counts from here."""
    dial_at: float = math.inf
    """When the next attempt is due; ``inf`` if none is planned or while one is under way."""
    backoff: Backoff = field(default_factory=lambda: Backoff(INITIAL_BACKOFF, MAX_BACKOFF, BACKOFF_JITTER))
    connected_since: float | None = None
    """None while the peer is not connected. Also set while SUPPRESSED, if the connection is still up."""
    deferred_until: float = -math.inf
    deferral: float = INITIAL_DEFERRAL
    """Length of the next deferral in seconds. It grows while reconnecting only leads to the next one."""
    refused: _RefusedIncarnation | None = None
    """Independent of the state: a peer that is dialled on request may still be refused, until a caller wants it."""
    order: int = 0
    """Its place in the table."""
    attempts_begun: int = 0
    """How many attempts have begun since the peer was lost."""
    attempts_left: int | None = None
    """How many attempts may fail until it is dialled no more; None if time alone decides."""

    def is_tracked(self) -> bool:
        return self.connected_since is not None or self.is_lost()

    def is_lost(self) -> bool:
        return self.state is PeerState.BACKING_OFF or self.state is PeerState.DEFERRED

    def is_deferred(self, now: float) -> bool:
        return self.state is PeerState.DEFERRED and now < self.deferred_until


class ReconnectPolicy:
    """The reconnect state of all peers of the node ``local_name``. ``now`` is always in seconds of one clock.

    Report each event. At :meth:`next_deadline` call :meth:`begin_attempts` and dial what it returns. The order of the
    peers is part of the behaviour: it decides the order of the random draws. So a peer that is tracked again goes last.
    """

    def __init__(self, local_name: str, rng: Random) -> None:
        self._local_name = local_name
        self._rng = rng
        self._peers: dict[str, _Peer] = {}
        # The lost peers, a part of the table. So an event of one peer does not look at all connected ones.
        self._lost: dict[str, _Peer] = {}
        # The planned attempts, as a heap. A peer whose ``dial_at`` is another one leaves an entry that is skipped.
        self._planned: list[tuple[float, str]] = []
        self._inserted = 0

    # Questions

    def state(self, name: str) -> PeerState:
        """Return the state of ``name``."""
        peer = self._peers.get(name)
        return PeerState.IDLE if peer is None else peer.state

    def is_tracked(self, name: str) -> bool:
        """Whether ``name`` is connected or is to be dialled, as far as the policy knows."""
        peer = self._peers.get(name)
        return peer is not None and peer.is_tracked()

    def is_lost(self, name: str) -> bool:
        """Whether ``name`` was lost, or could not be reached, and is to be dialled."""
        return name in self._lost

    def is_deferred(self, name: str, now: float) -> bool:
        """Whether the incarnation of ``name`` that we left for an overlapping partition is still to be refused."""
        peer = self._peers.get(name)
        return peer is not None and peer.is_deferred(now)

    def is_suppressed(self, name: str) -> bool:
        """Whether either side disconnected ``name`` on purpose, and neither has asked for it since."""
        return self.state(name) is PeerState.SUPPRESSED

    def reconnecting(self) -> list[str]:
        """Return the lost peers that are dialled until they are back."""
        return [name for name, _ in _in_order(self._lost.items())]

    def lost(self) -> dict[str, tuple[int, float]]:
        """Return how many attempts have begun to reach each lost peer, and when the next is due: ``inf`` during one."""
        return {name: (peer.attempts_begun, peer.dial_at) for name, peer in self._lost.items()}

    def next_deadline(self) -> float:
        """Return when the next attempt is due; ``inf`` if none is planned."""
        while self._planned and not self._is_planned(*self._planned[0]):
            heappop(self._planned)
        return self._planned[0][0] if self._planned else math.inf

    def _is_planned(self, dial_at: float, name: str) -> bool:
        peer = self._lost.get(name)
        return peer is not None and peer.dial_at == dial_at

    # What the application asks for

    def request(self, name: str, now: float, *, attempts: int | None = None) -> None:
        """``name`` could not be reached: dial it until it can be. This does not lift a refusal.

        With ``attempts``, at most so many follow while it is never reached: a name that others only told of may belong
        to no node.
        """
        if name == self._local_name:
            return
        if not self.is_tracked(name):
            peer = self._track(name, now)
            peer.attempts_left = attempts
            self._schedule(name, peer, now)
        elif self._peers[name].state is PeerState.SUPPRESSED:
            self._peers[name].state = PeerState.CONNECTED

    def suppress(self, name: str) -> None:
        """Dial ``name`` no more, also after the end of a connection that is still up, until it is up once more."""
        peer = self._peers.get(name) or self._insert(name, _Peer(PeerState.SUPPRESSED))
        peer.state, peer.dial_at = PeerState.SUPPRESSED, math.inf
        self._lost.pop(name, None)

    def clear_refusal(self, name: str) -> None:
        """A caller wants ``name`` now, or it is connected: any incarnation is accepted."""
        peer = self._peers.get(name)
        if peer is not None:
            peer.refused = None
            self._remove_if_idle(name, peer)

    # What happens to connections

    def connected(self, name: str, now: float, *, hidden: bool = False) -> None:
        """A connection to ``name`` is up.

        A hidden node may be a short-lived tool: it is ignored unless it was being dialled.
        """
        if hidden and not self.is_tracked(name):
            return
        peer = self._track(name, now)
        was_deferred = peer.state is PeerState.DEFERRED
        peer.state, peer.connected_since, peer.dial_at = PeerState.CONNECTED, now, math.inf
        peer.attempts_left = None
        self._lost.pop(name, None)
        if not was_deferred:
            self._end_deferrals(now)

    def peer_closed(self, name: str, creation: int, now: float) -> None:
        """The incarnation ``creation`` of ``name`` has closed its connection after it acknowledged all our data.

        Report this before any process learns of the end. A process may ask for the peer at once, and that must win.
        """
        self._refuse(name, _RefusedIncarnation(creation, now, overlapping=False))

    def disconnected(self, name: str, creation: int, now: float, cause: DisconnectCause) -> None:
        """The connection to the incarnation ``creation`` of ``name`` has ended, and no newer one replaces it."""
        overlapping = cause is DisconnectCause.OVERLAPPING_PARTITION
        if overlapping:  # this replaces a refusal by peer_closed: the peer closed because it was asked to
            self._refuse(name, _RefusedIncarnation(creation, now, overlapping=True))
        if self.is_suppressed(name):
            self._peers[name].connected_since = None
            return
        peer = self._track(name, now)
        if peer.connected_since is not None and now - peer.connected_since >= STABLE_AFTER:
            peer.backoff.reset()
            peer.deferral = INITIAL_DEFERRAL
        peer.connected_since, peer.disconnected_since = None, now
        peer.state = PeerState.BACKING_OFF
        if overlapping:
            peer.state = PeerState.DEFERRED
            peer.deferred_until = now + peer.deferral
            peer.deferral = min(peer.deferral * 2, MAX_DEFERRAL)
        self._schedule(name, peer, now)

    # What happens to attempts

    def begin_attempts(self, now: float) -> list[str]:
        """Start all attempts that are due. Each name returned is to be dialled.

        :meth:`connected` or :meth:`attempt_failed` must follow for each. Until then it is not due again.
        """
        due: list[tuple[int, str, _Peer]] = []
        while self.next_deadline() <= now:
            _, name = heappop(self._planned)
            peer = self._lost[name]
            peer.dial_at = math.inf
            due.append((peer.order, name, peer))
        due.sort(key=itemgetter(0))
        for _, _, peer in due:
            peer.attempts_begun += 1
            if peer.refused is not None and peer.refused.overlapping and not peer.is_deferred(now):
                peer.refused = None  # the deferral is over: this attempt accepts any incarnation
        return [name for _, name, _ in due]

    def peer_found(self, name: str, creation: int, now: float) -> str | None:
        """A handshake has reached the incarnation ``creation`` of ``name``.

        Return None to accept it. Otherwise return why it is refused, as a text for the user.
        """
        peer = self._peers.get(name)
        refused = None if peer is None else peer.refused
        if refused is None or refused.creation != creation:
            return None
        if refused.overlapping:
            refused.found_running = True
            return f"{name} was disconnected because of an overlapping partition and still runs: it is refused for now"
        if now - refused.since >= SHUTDOWN_GRACE:
            refused.found_running = True
        return f"{name} has disconnected on purpose and still runs: it is not dialled until it is asked for"

    def attempt_failed(self, name: str, now: float) -> None:
        """An attempt to connect to ``name`` has ended without a connection."""
        peer = self._peers.get(name)
        if peer is None:
            return
        refused, found_running = peer.refused, False
        if refused is not None and refused.found_running:
            if not refused.overlapping:
                self.suppress(name)
                return
            refused.found_running, found_running = False, True
        if not peer.is_lost():
            return
        if found_running:
            self._retry_deferred(name, peer, now)
        else:
            self._retry_unreachable(name, peer, now)

    def _retry_deferred(self, name: str, peer: _Peer, now: float) -> None:
        """The attempt reached the refused incarnation. So the peer runs: it stays deferred and is never given up."""
        self._schedule(name, peer, now)

    def _retry_unreachable(self, name: str, peer: _Peer, now: float) -> None:
        """The attempt reached no node. A deferred peer has stopped then: it is lost like any other."""
        if peer.attempts_left is not None:
            peer.attempts_left -= 1
        if peer.attempts_left == 0 or now - peer.disconnected_since > GIVE_UP_AFTER:
            peer.state, peer.dial_at = PeerState.IDLE, math.inf
            self._lost.pop(name, None)
            self._remove_if_idle(name, peer)
            return
        peer.state = PeerState.BACKING_OFF
        self._schedule(name, peer, now)

    # The table

    def _track(self, name: str, now: float) -> _Peer:
        """Return the entry of ``name``. If it is not tracked, make a fresh one, which keeps only the refusal."""
        peer = self._peers.get(name)
        if peer is None or not peer.is_tracked():
            refused = None if peer is None else self._peers.pop(name).refused
            peer = self._insert(name, _Peer(PeerState.BACKING_OFF, now, refused=refused))
        return peer

    def _insert(self, name: str, peer: _Peer) -> _Peer:
        self._peers[name] = peer
        self._inserted += 1
        peer.order = self._inserted
        if len(self._peers) > MAX_PEERS:
            evicted = min(self._peers, key=lambda each: _EVICTION_ORDER[self._peers[each].state])
            del self._peers[evicted]
            self._lost.pop(evicted, None)
        return peer

    def _refuse(self, name: str, refused: _RefusedIncarnation) -> None:
        peer = self._peers.get(name) or self._insert(name, _Peer(PeerState.IDLE))
        peer.refused = refused

    def _remove_if_idle(self, name: str, peer: _Peer) -> None:
        if peer.state is PeerState.IDLE and peer.refused is None:
            del self._peers[name]

    def _schedule(self, name: str, peer: _Peer, now: float) -> None:
        """Plan an attempt to connect to ``name``, which is lost."""
        if self._peers.get(name) is peer:  # It may have been evicted as it was inserted.
            if name not in self._lost:
                peer.attempts_begun = 0
            self._lost[name] = peer
        peer.dial_at = now + peer.backoff.next_delay(self._rng)
        if peer.is_deferred(now):  # dial it when the deferral ends, not at the end of a long delay
            peer.dial_at = min(peer.dial_at, peer.deferred_until + self._rng.uniform(0.0, INITIAL_BACKOFF))
        if self._local_name > name:
            peer.dial_at += HEAD_START
        heappush(self._planned, (peer.dial_at, name))

    def _end_deferrals(self, now: float) -> None:
        """A peer that was really lost is back. If it does not report the deferred ones, they are dialled next."""
        deferred = [item for item in self._lost.items() if item[1].state is PeerState.DEFERRED]
        for name, peer in _in_order(deferred):
            peer.state = PeerState.BACKING_OFF
            peer.backoff.reset()  # the attempts so far did not fail: they were refused
            self._schedule(name, peer, now)


def _in_order(peers: Iterable[tuple[str, _Peer]]) -> list[tuple[str, _Peer]]:
    return sorted(peers, key=lambda item: item[1].order)
