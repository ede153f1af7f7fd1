"""Which shards one candidate holds: the decisions of ``node.shards``. No I/O.

To hold a shard is to be in its group H(s). All candidates are in the group G::

    IDLE ── first in G, and nobody else is in H(s) ──▶ HOLDING ── somebody better in G, or a reason below ──▶ RELEASING
      ▲                                                   ▲                                                      │  │
      │                                                   └──────────── keep(shard), after Stay ─────────────────┘  │
      └──────────────────────────────────────── released(shard): leave H(s) ────────────────────────────────────────┘

Other reasons to release: the stop, and, with a quorum, that too few nodes grant the shard (``grants.py``). Without a
quorum there are no other messages than those of ``pg``.

Rules:

1. A candidate listens before it joins G. Who joins at once makes others release before it can take.
2. A candidate takes a shard only if nobody else is in H(s). So a holder that releases slowly is waited for. With a
   quorum it claims the shard first, and takes it when it is granted.
3. Changes are applied one by one, as ``pg`` reports them. :meth:`ShardBook.decide` follows when all changes of one
   message are applied. The first message of a node that comes back has its candidate and its shards: who decides
   between the two takes a shard that is held.
4. The first candidate is chosen by node and not by pid. So all nodes agree on it, and a node that starts again gets its
   shards back.

The caller carries out the effects in order, and reports what ``pg`` says of the caller's own joins and leaves, too.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TypeAlias

from erlmesh.core.sharding.candidates import Candidates
from erlmesh.records import record
from erlmesh.terms import Pid

__all__ = [
    "Effect",
    "JoinCandidates",
    "JoinHolders",
    "LeaveCandidates",
    "LeaveHolders",
    "LetGo",
    "ShardBook",
    "Stay",
    "Taken",
]


@record(frozen=True)
class JoinCandidates:
    """Join G."""


@record(frozen=True)
class LeaveCandidates:
    """Leave G."""


@record(frozen=True)
class JoinHolders:
    """Join H(shard)."""

    shard: int


@record(frozen=True)
class LeaveHolders:
    """Leave H(shard)."""

    shard: int


@record(frozen=True)
class Taken:
    """The shard is held. Begin to act for it."""

    shard: int


@record(frozen=True)
class LetGo:
    """Stop to act for the shard, then call :meth:`ShardBook.released`.

    ``to`` is the candidate that takes it next, as far as this node knows. None: nobody is to have it from here, because
    there is nobody, or the quorum is lost. The effect comes again, with another ``to``, if that changes.
    """

    shard: int
    to: Pid | None


@record(frozen=True)
class Stay:
    """The reason for :class:`LetGo` has gone. One that still acts may call :meth:`ShardBook.keep` and go on.

    To ignore this is right, too: the shard is released, and taken again.
    """

    shard: int


Effect: TypeAlias = JoinCandidates | LeaveCandidates | JoinHolders | LeaveHolders | Taken | LetGo | Stay


class _State(Enum):
    HOLDING = "holding"
    RELEASING = "releasing"
    STAYING = "staying"
    """Releasing, and the reason has gone."""


class ShardBook:
    """The shards of ``name``, as the candidate ``me`` sees them.

    With ``quorum`` it holds only shards that are granted: see :meth:`elect`.
    """

    def __init__(self, me: Pid, name: bytes, shards: int, *, quorum: bool = False) -> None:
        self.me = me
        self.shards = shards
        self._candidates = Candidates(name, shards)
        self._holders: list[Counter[Pid]] = [Counter() for _ in range(shards)]
        """The other processes in H(s)."""
        self._held: dict[int, _State] = {}
        self._heirs: dict[int, Pid | None] = {}
        """What the last LetGo of each shard said."""
        self._elected = 0 if quorum else -1
        """The shards that are granted, one bit each. All, without a quorum."""
        self._wanted: set[int] = set()
        """The shards to take when they are granted."""
        self._changed: set[int] = set()
        """The shards to decide about."""
        self._effects: list[Effect] = []
        self._started = False
        self._stopping = False

    # Queries

    @property
    def claims(self) -> int:
        """The shards that are to be claimed, one bit each: those that are held, and those that are wanted."""
        found = bytearray((self.shards + 7) // 8)
        for shard in (*self._held, *self._wanted):
            found[shard >> 3] |= 1 << (shard & 7)
        return int.from_bytes(found, "little")

    @property
    def held(self) -> list[int]:
        """The shards whose H(s) this candidate is in, also those that it releases."""
        return sorted(self._held)

    @property
    def ended(self) -> bool:
        """True after :meth:`stop`, when all shards are released."""
        return self._stopping and not self._held

    def first(self, shard: int) -> Pid | None:
        """The candidate that is to hold ``shard``, as this node knows them."""
        return self._candidates.first(shard)

    def holders(self, shard: int) -> list[Pid]:
        """The other processes in H(shard)."""
        return list(self._holders[shard])

    def may_act(self, shard: int) -> bool:
        """True from Taken until LetGo."""
        return self._held.get(shard) is _State.HOLDING

    # What the caller decides

    def start(self) -> None:
        """The time to listen is over. Call it once. It has no effect after :meth:`stop`."""
        if self._stopping:
            return
        self._started = True
        self._effects.append(JoinCandidates())

    def stop(self) -> None:
        """Leave G and let go of all shards. A second call changes nothing."""
        if self._stopping:
            return
        self._stopping = True
        if self._started:
            self._effects.append(LeaveCandidates())
            self._candidates.leave(self.me)  # Before `pg` reports it: the next LetGo names the heir.
        self._all_changed()

    def abandon(self) -> None:
        """Stop, without a :class:`LetGo`: nothing acts for any shard any more."""
        self.stop()
        for shard in self.held:
            del self._held[shard]
            self._effects.append(LeaveHolders(shard))

    def elect(self, shards: int) -> None:
        """A quorum grants ``shards`` now, one bit each, and no others. Call it only with a quorum."""
        changed, self._elected = self._elected ^ shards, shards
        if changed:
            self._changed.update(shard for shard in range(self.shards) if changed >> shard & 1)

    def released(self, shard: int) -> None:
        """After :class:`LetGo`: nothing acts for the shard any more. It has no effect if the shard is not released."""
        if self._held.get(shard) in (_State.RELEASING, _State.STAYING):
            del self._held[shard]
            self._heirs.pop(shard, None)
            self._effects.append(LeaveHolders(shard))
            self._changed.add(shard)

    def keep(self, shard: int) -> None:
        """After :class:`Stay`: go on to hold the shard. It has no effect if there is a reason to let go again."""
        if self._held.get(shard) is _State.STAYING:
            self._held[shard] = _State.HOLDING

    # What pg reports

    def candidate_joined(self, pid: Pid) -> None:
        """A process has joined G."""
        if self._candidates.join(pid):
            self._all_changed()

    def candidate_left(self, pid: Pid) -> None:
        """A process has left G."""
        if self._candidates.leave(pid):
            self._all_changed()

    def holder_joined(self, shard: int, pid: Pid) -> None:
        """A process has joined H(shard)."""
        if pid != self.me:
            self._holders[shard][pid] += 1
            self._changed.add(shard)

    def holder_left(self, shard: int, pid: Pid) -> None:
        """A process has left H(shard)."""
        holders = self._holders[shard]
        if pid in holders:
            holders[pid] -= 1
            if not holders[pid]:
                del holders[pid]
            self._changed.add(shard)

    # Decisions

    def decide(self) -> list[Effect]:
        """Return what follows from all changes since the last call."""
        changed, self._changed = self._changed, set()
        for shard in sorted(changed):
            self._look_at(shard)
        effects, self._effects = self._effects, []
        return effects

    def _look_at(self, shard: int) -> None:
        first = self._candidates.first(shard)
        state = self._held.get(shard)
        granted = self._elected >> shard & 1
        self._wanted.discard(shard)
        if first == self.me and not self._stopping and (granted or state is None):
            if state is None and not self._holders[shard]:
                if granted:
                    self._held[shard] = _State.HOLDING
                    self._effects += (JoinHolders(shard), Taken(shard))
                else:
                    self._wanted.add(shard)
            elif state is _State.RELEASING:
                self._held[shard] = _State.STAYING
                self._effects.append(Stay(shard))
        elif state is not None:
            heir = first if granted and first != self.me else None
            if state is not _State.RELEASING or self._heirs[shard] != heir:
                self._held[shard] = _State.RELEASING
                self._heirs[shard] = heir
                self._effects.append(LetGo(shard, heir))

    def _all_changed(self) -> None:
        self._changed.update(range(self.shards))
