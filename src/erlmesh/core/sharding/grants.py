"""Who may hold which shard, with a quorum: a majority of nodes grants each shard, for a limited time. No I/O.

::

    from     to        message
    holder   granter   {shard_claim, From, Round, Shards}              all shards that it holds, or wants to take
    granter  holder    {shard_grant, From, Round, Shards, Remembers}   those of them that it gets

Each candidate is both, with one process, which is in the group ``{erlmesh_shards, Name, grants}``. It claims from all
members of the group, itself included, after each change and many times in ``lease``. ``Round`` numbers the claims of
one process. ``Shards`` has one bit for each shard, the least bit of the first byte for shard 0.

Rules:

1. A granter grants a shard to one process at a time. The grant ends when this process claims without the shard, when it
   has ended, or ``hold`` seconds after its last claim.
2. A holder counts a grant for ``lease`` seconds from the time at which it sent the claim, not from the answer. This is
   less than ``hold``. So it stops before the granter forgets, also if it stood still, and if a message came late.
3. A holder acts while the processes of ``quorum`` nodes grant the shard. Two quorums have a node in common.
4. A granter that has started does not know what an earlier one of its node has granted. Its grants do not count before
   ``hold`` seconds, or before it has an answer from 2 * quorum - 1 nodes. A quorum is a majority, so these are all
   nodes. A node that has answered knows the new granter, and no longer counts grants of the earlier one.
5. If a node has several processes in the group, it counts if all of them grant.
6. An answer counts only for shards that have been claimed all the time since its claim.
"""

from __future__ import annotations

import math
from typing import Final

from erlmesh.terms import Atom, Pid, Term

__all__ = ["CLAIM", "GRANT", "Grants"]

CLAIM: Final = Atom("shard_claim")
GRANT: Final = Atom("shard_grant")
MAX_ROUNDS: Final = 128
"""Claims whose answers are waited for. Later ones have answers, too."""


class _Peer:
    """A process in the group, this one included, and what it grants here."""

    __slots__ = ("answered", "expires", "granted", "remembers")

    def __init__(self) -> None:
        self.answered = 0
        """The round of its last answer."""
        self.expires = 0.0
        self.granted = 0
        self.remembers = False


class _Claim:
    """The last claim of a process, and which shards are granted to it."""

    __slots__ = ("granted", "round", "until", "wanted")

    def __init__(self) -> None:
        self.round = 0
        self.wanted = 0
        self.granted = 0
        self.until = 0.0


class _Round:
    """A claim of this process. ``still`` are the shards that it has claimed all the time since."""

    __slots__ = ("sent", "still")

    def __init__(self, sent: float, still: int) -> None:
        self.sent = sent
        self.still = still


class Grants:
    """The grants of one process: those that it gives, and those that it has. Sets of shards are integers, one bit each.

    All times are seconds of one clock. :meth:`take_messages` has what is to be sent after any other method.
    """

    def __init__(self, me: Pid, shards: int, quorum: int, now: float, *, lease: float, hold: float) -> None:
        self._me = me
        self._size = (shards + 7) // 8
        self._quorum = quorum
        self._lease = lease
        self._hold = hold
        self._remembers_at = now + hold
        self._remembers = False
        self._peers: dict[Pid, _Peer] = {me: _Peer()}
        self._claims: dict[Pid, _Claim] = {}
        """What others, and this process, have claimed here. Those that claimed first are granted first."""
        self._rounds: dict[int, _Round] = {}
        self._round = 0
        self._claimed = 0
        self._elected = 0
        self._elected_until = -math.inf
        self._messages: list[tuple[Pid, Term]] = []

    def take_messages(self) -> list[tuple[Pid, Term]]:
        """Return the messages to send, in order, and forget them."""
        messages, self._messages = self._messages, []
        return messages

    # The holder

    def elected(self, now: float) -> int:
        """The shards that a quorum of nodes grants to this process now."""
        if now >= self._elected_until:
            self._elected, self._elected_until = self._count(now)
        return self._elected

    def is_current(self, now: float) -> bool:
        """True if no grant has expired, or come, since :meth:`elected` was called."""
        return now < self._elected_until

    def claim(self, shards: int, now: float, *, again: bool = False) -> None:
        """Claim ``shards``, which are all that this process holds or wants. ``again``: also if nothing has changed."""
        if shards == self._claimed and not again:
            return
        self._claimed = shards
        for peer in self._peers.values():
            peer.granted &= shards
        for each in self._rounds.values():
            each.still &= shards
        self._start_round(now)
        for pid in self._peers:
            self._send_claim(pid, now)

    def granted(self, pid: Pid, number: int, shards: int, remembers: bool, now: float) -> None:
        """A granter has answered the claim ``number``."""
        peer, claim = self._peers.get(pid), self._rounds.get(number)
        if peer is None or claim is None or number < peer.answered:
            return
        peer.answered = number
        peer.expires = math.inf if pid == self._me else claim.sent + self._lease
        peer.granted = shards & claim.still
        peer.remembers = remembers
        self._elected_until = -math.inf
        self._look_at_memory(now)

    # The granter

    def claimed(self, pid: Pid, number: int, shards: int, now: float) -> None:
        """A process claims ``shards``. One that is not known as a member of the group gets no answer."""
        if pid not in self._peers:
            return
        claim = self._claims.setdefault(pid, _Claim())
        if number < claim.round:
            return
        claim.round = number
        claim.wanted = shards
        claim.granted &= shards
        claim.until = math.inf if pid == self._me else now + self._hold
        self._grant(pid, now)
        self._answer(pid, now)
        self._grant_waiting(now)

    def joined(self, pid: Pid, now: float) -> None:
        """A process has joined the group, or is met again. Earlier processes of its node have ended if it started."""
        if pid in self._peers:
            return
        self._peers[pid] = _Peer()
        for other in [other for other in self._claims if other.node is pid.node and other.creation != pid.creation]:
            del self._claims[other]
        self._elected_until = -math.inf
        self._start_round(now)
        self._send_claim(pid, now)

    def left(self, pid: Pid, now: float, *, ended: bool) -> None:
        """A process has left the group. It holds nothing any more if it has ``ended``; else it may live."""
        if self._peers.pop(pid, None) is not None:
            self._elected_until = -math.inf
        if ended:
            self.forget(pid, now)

    def forget(self, pid: Pid, now: float) -> None:
        """A process that has left, and is not met again, holds nothing any more."""
        if pid not in self._peers and self._claims.pop(pid, None) is not None:
            self._grant_waiting(now)

    def look(self, now: float) -> None:
        """Let old grants expire, and claim again. Call it many times in ``lease``."""
        self._look_at_memory(now)
        self._grant_waiting(now)
        self.claim(self._claimed, now, again=True)

    # Inside

    def _count(self, now: float) -> tuple[int, float]:
        """The shards that a quorum grants, and until when this is so at most."""
        nodes: dict[Atom, int] = {}
        until = math.inf
        for pid, peer in self._peers.items():
            counts = peer.remembers and now < peer.expires
            nodes[pid.node] = nodes.get(pid.node, -1) & (peer.granted if counts else 0)
            if counts:
                until = min(until, peer.expires)
        at_least = [-1, *[0] * self._quorum]  # The shards that at least so many nodes grant.
        for granted in nodes.values():
            for number in range(self._quorum, 0, -1):
                at_least[number] |= at_least[number - 1] & granted
        return at_least[self._quorum], until

    def _start_round(self, now: float) -> None:
        self._round += 1
        self._rounds[self._round] = _Round(now, self._claimed)
        oldest = next(iter(self._rounds))
        while len(self._rounds) > MAX_ROUNDS:
            del self._rounds[oldest]
            oldest += 1

    def _send_claim(self, pid: Pid, now: float) -> None:
        if pid == self._me:
            self.claimed(pid, self._round, self._claimed, now)
        else:
            self._messages.append((pid, (CLAIM, self._me, self._round, self._to_bytes(self._claimed))))

    def _answer(self, pid: Pid, now: float) -> None:
        claim = self._claims[pid]
        if pid == self._me:
            self.granted(pid, claim.round, claim.granted, self._remembers, now)
        else:
            answer = (GRANT, self._me, claim.round, self._to_bytes(claim.granted), self._remembers)
            self._messages.append((pid, answer))

    def _grant(self, pid: Pid, now: float) -> bool:
        """Grant what the process claims and nobody else has. True if it gets more than before."""
        claim, taken = self._claims[pid], 0
        for other, each in self._claims.items():
            if other != pid and now < each.until:
                taken |= each.granted
        before, claim.granted = claim.granted, claim.granted | (claim.wanted & ~taken)
        return claim.granted != before

    def _grant_waiting(self, now: float) -> None:
        """Grant what has become free to those who wait for it."""
        for pid in [pid for pid, claim in self._claims.items() if now >= claim.until]:
            del self._claims[pid]
        for pid, claim in self._claims.items():
            if claim.wanted != claim.granted and pid in self._peers and self._grant(pid, now):
                self._answer(pid, now)

    def _look_at_memory(self, now: float) -> None:
        """Find out whether this process knows by now all that its node has granted."""
        if self._remembers:
            return
        answered: dict[Atom, bool] = {}
        for pid, peer in self._peers.items():
            answered[pid.node] = answered.get(pid.node, True) and peer.answered > 0
        if now >= self._remembers_at or sum(answered.values()) >= 2 * self._quorum - 1:
            self._remembers = True
            for pid in [pid for pid in self._claims if pid in self._peers]:
                self._answer(pid, now)

    def _to_bytes(self, shards: int) -> bytes:
        return shards.to_bytes(self._size, "little")
