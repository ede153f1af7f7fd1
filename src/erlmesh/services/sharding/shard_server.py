"""Carries out what a :class:`ShardBook` decides, for one candidate: groups, timers and the fence.

::

    pg ── joins and leaves ──▶ ShardBook ── JoinCandidates, JoinHolders, … ──▶ pg
                                   └─────── Taken, LetGo, Stay ──▶ ShardUser ── released, keep ──▶ ShardBook

The user of the server acts for the shards. It is the events of ``node.shards``, or a keeper of state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, assert_never

from erlmesh.core.sharding.fence import Fence
from erlmesh.core.sharding.names import SEES, TAG, candidates_group, holders_group, sees_group
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
from erlmesh.records import record
from erlmesh.runtime.process import LocalProcess
from erlmesh.runtime.runtime import Runtime
from erlmesh.services.pg.protocol import GroupEvent, Joined, Tag
from erlmesh.services.pg.server import Pg
from erlmesh.terms import Atom, Pid, Term

__all__ = ["FENCE_LIMIT", "ShardServer", "ShardSettings", "ShardUser"]

log = event_log("erlmesh.shards")

FENCE_LIMIT: Final = 0.6
"""Tick times without a sign of the quorum, after which this node does not act. Others give it up after 0.75."""
LOOK_INTERVAL: Final = 0.1
"""Tick times between two looks at the clock."""
LOST_TIME: Final = 0.75
"""Tick times after which a node that we have given up has closed its fence, and has released."""


@record(frozen=True)
class ShardSettings:
    """The arguments of ``node.shards``. ``name`` is the bytes of the name, times are seconds."""

    name: bytes
    shards: int
    settle: float
    quorum: int
    release_timeout: float | None


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
        self.book = ShardBook(member.pid, settings.name, settings.shards, settings.quorum)
        self._fence = Fence(settings.quorum, FENCE_LIMIT * node.net_ticktime, settings.settle)
        self._looking: asyncio.TimerHandle | None = None
        self._lost: dict[Atom, asyncio.TimerHandle] = {}
        """For each lost node, the time after which it holds nothing."""
        self._seen: dict[Atom, None] = {}
        """The nodes that others know this one sees."""
        self._settling: asyncio.TimerHandle | None = None
        """The time until all others know the node that has joined at last."""
        self._deciding = False
        """True while a decision is scheduled."""
        self._is_candidate = False
        self._nodes_changed = True
        """True until the fence knows the nodes that are to be heard."""
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
            for group in pg.which_groups():
                if isinstance(group, tuple) and len(group) == 4 and group[:3] == (*self._prefix, SEES):
                    self._apply_sight(group[3], Joined(tuple(pg.get_members(group)), group))
            self._schedule_look()

    def join(self) -> None:
        """Become a candidate."""
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
        return self.book.may_act(shard) and self._fence.is_open(self._node.now())

    def look_at_clock(self) -> None:
        """Close the fence if its time is over. Called before an event or a message is handed out."""
        if not self._fence.closed and not self._fence.is_open(self._node.now()):
            self._look()
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
        elif len(group) == 4 and group[2] == SEES and self._settings.quorum > 1:
            self._apply_sight(group[3], event)
        else:
            return
        if not self._deciding:
            self._deciding = True
            self._node.call_after_read(self._decide)

    def _apply_candidates(self, event: GroupEvent) -> None:
        book = self.book
        self._nodes_changed = True
        for pid in event.pids:
            if isinstance(event, Joined):
                book.candidate_joined(pid)
                self._is_sure(pid.node)
                self._wait_until_known()
            elif self._is_loss(pid, event.reason):
                book.candidate_lost(pid)
                self._wait_for(pid.node)
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
            elif self._is_loss(pid, event.reason):
                book.holder_lost(shard, pid)
                self._wait_for(pid.node)
            else:
                book.holder_left(shard, pid)

    def _apply_sight(self, node: Term, event: GroupEvent) -> None:
        if not isinstance(node, Atom):
            return
        for pid in event.pids:
            if isinstance(event, Joined):
                self.book.sight_joined(pid.node, node)
            else:
                self.book.sight_left(pid.node, node)

    def _is_loss(self, pid: Pid, reason: Term) -> bool:
        """Whether the process may live. Without a quorum each side of a cut acts, so there is nothing to wait for."""
        return self._settings.quorum > 1 and reason is not Tag.LEAVE and pid.node is not self._node.atom

    def _wait_for(self, node: Atom) -> None:
        """Wait until a lost node has closed its fence, or knows that we have lost it."""
        if node in self._lost:
            return
        if self._node.last_disconnect_reason(node) == "connection_closed" or self._node.is_connected(node):
            seconds = self._settings.settle  # Its process has ended, or it has given us up before we did.
        else:
            seconds = LOST_TIME * self._node.net_ticktime
        self._lost[node] = asyncio.get_running_loop().call_later(seconds, self._lost_long_ago, node)

    def _wait_until_known(self) -> None:
        """Wait until all others know the node that has joined, and this one knows what they hold."""
        if self._settings.quorum > 1:
            if self._settling is not None:
                self._settling.cancel()
            self._settling = asyncio.get_running_loop().call_later(self._settings.settle, self._is_known)
            self.book.wait(True)

    def _is_known(self) -> None:
        self._settling = None
        self.book.wait(False)
        self._decide()

    def _lost_long_ago(self, node: Atom) -> None:
        self._lost.pop(node, None)
        self.book.sure(node)
        self._show_sight()
        self._decide()

    def _is_sure(self, node: Atom) -> None:
        timer = self._lost.pop(node, None)
        if timer is not None:
            timer.cancel()

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

    # The clock

    def _schedule_look(self) -> None:
        seconds = LOOK_INTERVAL * self._node.net_ticktime
        self._looking = asyncio.get_running_loop().call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        self._schedule_look()
        self._look()
        self._decide()

    def _look(self) -> None:
        self._nodes_changed = False
        others = [node for node in self.book.nodes if node is not self._node.atom]
        self._fence.look(self._node.now(), {node: self._node.silence(node) for node in others})
        self.book.fence(self._fence.closed)

    # What others know of this node

    def _show_sight(self) -> None:
        """Tell the others which nodes this one sees. A lost node counts until it surely holds nothing."""
        nodes = {*self.book.nodes, *self._lost} if self._is_candidate else set()
        for node in [node for node in self._seen if node not in nodes]:
            del self._seen[node]
            self._call_pg(self._pg.leave, sees_group(self._settings.name, node))
        for node in sorted(nodes - {*self._seen, self._node.atom}, key=lambda each: each.name):
            self._seen[node] = None
            self._call_pg(self._pg.join, sees_group(self._settings.name, node))

    # Effects

    def _decide(self) -> None:
        self._deciding = False
        if self._nodes_changed and self._settings.quorum > 1:
            self._look()
            self._show_sight()
        if not self._ended:
            self._carry_out()

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
                self._is_candidate = isinstance(effect, JoinCandidates)
                self._nodes_changed = True
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
        self._show_sight()
        self._unsubscribe()
        self._stay_in_groups()
        for timer in (self._looking, self._settling, *self._lost.values()):
            if timer is not None:
                timer.cancel()
        self._user.ended()


def _nothing() -> None:
    """Stands for a subscription that has not begun."""
