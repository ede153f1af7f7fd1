"""Carries out what a :class:`ShardBook` decides, for one candidate: groups, and the grants of other nodes.

::

    pg ── joins and leaves ──▶ ShardBook ── JoinCandidates, JoinHolders, … ──▶ pg
        │                          └─────── Taken, LetGo, Stay ──▶ ShardUser ── released, keep ──▶ ShardBook
        └── with a quorum ──▶ Granter ── elect ──▶ ShardBook ── claims ──▶ Granter

The user of the server acts for the shards. It is the events of ``node.shards``, or a keeper of state.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, assert_never

from erlmesh.core.sharding.names import TAG, candidates_group, grants_group, holders_group
from erlmesh.core.sharding.shard_book import (
    JoinCandidates,
    JoinHolders,
    LeaveCandidates,
    LeaveHolders,
    LetGo,
    ShardBook,
    Stay,
    Taken,
)
from erlmesh.errors import NodeNotAlive, NoProcess
from erlmesh.net.event_log import event_log
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.runtime import Runtime
from erlmesh.services.pg.protocol import GroupEvent, Joined
from erlmesh.services.pg.server import Pg
from erlmesh.services.sharding.granter import Granter
from erlmesh.services.sharding.settings import ShardSettings
from erlmesh.terms import Pid, Term

__all__ = ["ShardServer", "ShardUser"]

log = event_log("erlmesh.shards")


class ShardUser(Protocol):
    """What acts for the shards that a candidate holds. No method may raise."""

    def taken(self, shard: int) -> None:
        """The shard is held: act for it."""

    def let_go(self, shard: int, to: Pid | None) -> None:
        """Stop to act for it, then call :meth:`ShardServer.released`. See :class:`LetGo`."""

    def stay(self, shard: int) -> None:
        """See :class:`Stay`. It may be ignored."""

    def ended(self) -> None:
        """The candidate has left all groups: nothing follows."""


class ShardServer:
    """One candidate: the process ``member``, which joins the groups.

    All methods are called in the event loop of the node, and in the simulated machine of the node.
    """

    def __init__(self, node: Runtime, pg: Pg, settings: ShardSettings, member: LocalProcess, user: ShardUser) -> None:
        self._node = node
        self._pg = pg
        self._settings = settings
        self._member = member
        self._prefix = (TAG, settings.name)
        """How the names of all groups begin."""
        self._user = user
        self.book = ShardBook(member.pid, settings.name, settings.shards, quorum=settings.quorum > 1)
        self._granter: Granter | None = None
        """None without a quorum."""
        self._deciding = False
        """True while a decision is scheduled."""
        self._ended = False
        self._warned = False
        self._unsubscribe: Callable[[], None] = _nothing
        self._stay_in_groups: Callable[[], None] = _nothing

    def listen(self) -> None:
        """Begin to follow the groups, without a part in them."""
        pg, settings = self._pg, self._settings
        self._unsubscribe = pg.subscribe(self._on_change)
        self._stay_in_groups = pg.leave_later(self._member.pid, TAG, self.stop)
        for pid in pg.get_members(candidates_group(settings.name)):
            self.book.candidate_joined(pid)
        for shard in range(settings.shards):
            for pid in pg.get_members(holders_group(settings.name, shard)):
                self.book.holder_joined(shard, pid)
        if settings.quorum > 1:
            self._granter = Granter(self._node, pg, settings, self._decide_soon, self.close)

    def join(self) -> None:
        """Become a candidate."""
        if self._granter is not None and not self._ended:
            self._granter.join()
        self.book.start()
        self._decide()

    def stop(self) -> None:
        """Leave in order: ``user.ended()`` is called when all shards are released."""
        self.book.stop()
        self._decide()

    def close(self) -> None:
        """Leave at once. Nothing may act for a shard any more."""
        self.book.abandon()
        self._decide()

    def released(self, shard: int) -> None:
        """After ``user.let_go``: nothing acts for the shard any more."""
        self.book.released(shard)
        self._decide()

    def keep(self, shard: int) -> None:
        """After ``user.stay``: go on to act for the shard. See :meth:`ShardBook.keep`."""
        self.book.keep(shard)

    def may_act(self, shard: int) -> bool:
        """True if this node may act for the shard now. It looks at the clock, because the node may have stood still."""
        return self.book.may_act(shard) and (self._granter is None or bool(self._granter.elected() >> shard & 1))

    def look_at_clock(self) -> None:
        """Let go of the shards whose grants have expired. Called before an event or a message is handed out."""
        if self._granter is not None and not self._granter.is_current():
            self._decide()

    # Changes

    def _on_change(self, event: GroupEvent) -> None:
        group = event.group
        if type(group) is not tuple or group[:2] != self._prefix:
            return
        if len(group) == 2:
            self._apply_candidates(event)
        elif len(group) == 3 and type(group[2]) is int:
            self._apply_holders(group[2], event)
        elif self._granter is not None and group == grants_group(self._settings.name):
            self._granter.apply(event)
        else:
            return
        self._decide_soon()

    def _decide_soon(self) -> None:
        if not self._deciding and not self._ended:
            self._deciding = True
            self._node.call_after_read(self._decide)

    def _apply_candidates(self, event: GroupEvent) -> None:
        book = self.book
        for pid in event.pids:
            if isinstance(event, Joined):
                book.candidate_joined(pid)
            else:
                book.candidate_left(pid)

    def _apply_holders(self, shard: int, event: GroupEvent) -> None:
        book = self.book
        if not 0 <= shard < self._settings.shards:
            self._warn_of_shard(shard)
            return
        for pid in event.pids:
            if isinstance(event, Joined):
                book.holder_joined(shard, pid)
            else:
                book.holder_left(shard, pid)

    def _warn_of_shard(self, shard: int) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "shard_number_differs",
                "%s: another node has shard %d, and this one has %d shards: use the same number on all nodes",
                self._settings.name.decode(errors="replace"),
                shard,
                self._settings.shards,
            )

    # Effects

    def _decide(self) -> None:
        self._deciding = False
        if not self._ended:
            if self._granter is not None:
                self.book.elect(self._granter.elected())
            self._carry_out()
            if self._granter is not None:
                self._granter.claim(self.book.claims)

    def _carry_out(self) -> None:
        for effect in self.book.decide():
            match effect:
                case Taken(shard):
                    self._user.taken(shard)
                case LetGo(shard, to):
                    self._user.let_go(shard, to)
                case Stay(shard):
                    self._user.stay(shard)
                case JoinCandidates() | LeaveCandidates() | JoinHolders() | LeaveHolders():
                    self._change_group(effect)
                case _:
                    assert_never(effect)
        if self.book.ended and not self._ended:
            self._end()

    def _change_group(self, effect: JoinCandidates | LeaveCandidates | JoinHolders | LeaveHolders) -> None:
        match effect:
            case JoinCandidates() | LeaveCandidates():
                group = candidates_group(self._settings.name)
            case JoinHolders(shard) | LeaveHolders(shard):
                group = holders_group(self._settings.name, shard)
        joins = isinstance(effect, JoinCandidates | JoinHolders)
        self._call_pg(self._pg.join if joins else self._pg.leave, group)

    def _call_pg(self, change: Callable[[Term, Pid], object], group: Term) -> None:
        # If the scope has stopped, with the node, all of its members have left.
        with suppress(NoProcess, NodeNotAlive):
            change(group, self._member.pid)

    def _end(self) -> None:
        self._ended = True
        self._unsubscribe()
        self._stay_in_groups()
        if self._granter is not None:
            self._granter.close()
        self._user.ended()


def _nothing() -> None:
    """Stands for a subscription that has not begun."""
