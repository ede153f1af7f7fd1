"""Carries out what the :class:`ReplicaBook` of each shard decides: groups, messages, acknowledgements, results.

::

    pg ──── candidates, holders, copies ────▶ ReplicaBook ── JoinCopies, LeaveHolders … ──▶ pg, ShardServer
    sources ── shard_put ──▶ InboxBook ─────▶     │ ▲  └──── Confirmed, Out ──▶ InboxBook, ResultSender
    other nodes ── shard_give, shard_copy … ──────┘ └─ steps, a few in each turn of the loop

It is the user of a :class:`ShardServer`, and the handler of the process that joins the groups.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, cast

from erlmesh.core.sharding.inbox_book import Entry, InboxBook
from erlmesh.core.sharding.keeper import Keeper, Merge
from erlmesh.core.sharding.messages import GOT, PUT, is_answer, is_put
from erlmesh.core.sharding.names import shard_of
from erlmesh.core.sharding.replica_book import REPLICA_TAGS, Phase, ReplicaBook
from erlmesh.core.sharding.replica_effects import (
    Act,
    Confirmed,
    Ignored,
    JoinCopies,
    LeaveCopies,
    LeaveHolders,
    Lost,
    Out,
    Pause,
    ReplicaEffect,
    Send,
    Settled,
    Unsendable,
)
from erlmesh.etf import as_received
from erlmesh.net.event_log import event_log
from erlmesh.records import record
from erlmesh.runtime.exceptions import to_erlang
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.services.sharding.keeper_groups import KeeperGroups
from erlmesh.services.sharding.result_sender import ResultSender
from erlmesh.services.sharding.shard_inboxes import ShardInboxes
from erlmesh.terms import Atom, Pid, Term, exact_key
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.core.sharding.messages import Source
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.pg.protocol import GroupEvent
    from erlmesh.services.pg.server import Pg
    from erlmesh.services.sharding.shard_server import ShardServer

__all__ = ["KeepSettings", "Keeping"]

log = event_log("erlmesh.sharding")
peer_log: Final = PeerLog(log)

STEPS_PER_TURN: Final = 4
"""Slices that are written, and keys that are merged, before other tasks get a turn: some milliseconds."""
KEYS_CACHED: Final = 4_096
"""Keys whose shard is remembered, because each message needs it."""
_NODEUP: Final = Atom("nodeup")
_NODEDOWN: Final = Atom("nodedown")


@record(frozen=True)
class KeepSettings:
    """What ``node.shards`` says of the state."""

    keeper: Keeper[Any]
    backups: int
    merge: Merge[Any] | None
    results: Term
    """The group of the receivers. None: results are dropped."""


class Keeping:
    """The states of all shards of one name on one node."""

    def __init__(
        self, node: Runtime, pg: Pg, name: bytes, shards: int, settings: KeepSettings, *, on_lost: Callable[[int], None]
    ) -> None:
        self._node = node
        self._pg = pg
        self._name = name
        self._shards = shards
        self._settings = settings
        self._on_lost = on_lost
        self._results_group = None if settings.results is None else exact_key(settings.results)
        self._server: ShardServer | None = None
        self._books: list[ReplicaBook[Any]] = []
        self._inboxes = ShardInboxes(name, self._send)
        self._groups: KeeperGroups | None = None
        self._shard_of = lru_cache(KEYS_CACHED)(partial(shard_of, shards=shards))
        self._dirty: dict[int, None] = {}
        """Shards whose effects are to be carried out."""
        self._flush_due = False
        self._working: dict[int, None] = {}
        self._work: asyncio.Handle | None = None
        self._unsubscribe: Callable[[], None] | None = None

    # Life

    def start(self, server: ShardServer, member: LocalProcess) -> None:
        """Follow the groups, and offer this node as one that keeps state."""
        self._server, self._member = server, member
        settings, pg = self._settings, self._pg
        self._here = self._node.atom
        self._delivery = self._node.state.delivery
        self._books = [
            ReplicaBook(self._name, shard, member.pid, settings.keeper, backups=settings.backups, merge=settings.merge)
            for shard in range(self._shards)
        ]
        self._results = ResultSender(self._name, member.pid, self._send, self._results_done)
        self._groups = KeeperGroups(pg, self._name, member.pid, self._books, self._changed)
        self._unsubscribe = pg.subscribe(self._on_change)
        self._node.monitor_nodes(member.pid, hidden=True)
        if settings.results is not None:
            self._results.set_receivers(pg.get_members(settings.results))
        self._groups.start()

    def ended(self) -> None:
        """This node holds nothing any more, and its copies go with it."""
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._work is not None:
            self._work.cancel()
        self._inboxes.end()
        self._groups = None
        self._books = []

    # What the shard server says

    def taken(self, shard: int) -> None:
        """This node is the holder: take the state."""
        self._inboxes.open(shard)
        self._books[shard].take()
        self._changed(shard)

    def let_go(self, shard: int, to: Pid | None) -> None:
        """Hand over. The book does that by itself when it hears of a better node."""
        book = self._books[shard]
        if to is None:
            book.drop()
        self._carry_out(shard)
        if book.phase is Phase.IDLE:
            self._left(shard)

    def stay(self, shard: int) -> None:
        """The better node is gone."""
        if self._books[shard].phase is not Phase.IDLE and self._server is not None:
            self._server.keep(shard)

    def _left(self, shard: int) -> None:
        self._inboxes.close(shard)
        self._results.drop(shard)
        if self._server is not None:
            self._server.released(shard)

    # Groups

    def _on_change(self, event: GroupEvent) -> None:
        group = event.group
        if self._results_group is not None and exact_key(group) == self._results_group:
            self._results.set_receivers(self._pg.get_members(group))
        if self._groups is not None:
            self._groups.apply(event)

    # Messages

    def handle(self, message: Term) -> None:
        """Handle what comes to the process that holds the shards."""
        tag = message[0] if type(message) is tuple and message and type(message[0]) is Atom else None
        if tag is PUT and is_put(message) and message[1] == self._name:
            self._put(message)
        elif tag in REPLICA_TAGS:
            self._receive(message)
        elif tag is GOT and is_answer(message) and message[1] == self._name:
            self._results.got(self._delivery.message_peer or self._here, message[2], message[3], message[4])
            if not self._results.is_full:
                for shard in self._inboxes.release():
                    self._changed(shard)
        elif (tag is _NODEUP or tag is _NODEDOWN) and self._node.is_message_local():
            self._node_event(message)
        else:
            self._ignored(message)

    def _ignored(self, message: Term) -> None:
        peer = self._delivery.message_peer or self._here
        peer_log.write(
            logging.WARNING,
            "message_ignored",
            peer.name,
            "a holder of shards ignored the message %s",
            ForeignText(message),
        )

    def _receive(self, message: Any) -> None:
        if len(message) > 3 and message[1] == self._name and type(message[-1]) is Pid and type(message[2]) is int:
            shard, sender = message[2], message[-1]
            if 0 <= shard < len(self._books):
                if self._node.is_message_from(sender.node):
                    self._books[shard].receive(message)
                    self._changed(shard)
                return
        self._ignored(message)

    def _put(self, message: Any) -> None:
        _, _, key, source, number, _, sender = message
        peer = self._delivery.message_peer or self._here
        if sender.node is not peer or source[0] is not peer:
            self._node.is_message_from(source[0] if sender.node is peer else sender.node)  # It logs.
            return
        shard = self._shard_of(key)
        inbox = self._inboxes.find(shard)
        if inbox is None and self._groups is not None and self._groups.holds(shard):
            # A source on this node hears that it holds the shard before `taken` is called.
            inbox = self._inboxes.open(shard)
        if inbox is None:
            self._inboxes.put_elsewhere(source, key, number, sender)
            self._flush_soon()
            return
        if self._server is not None:
            self._server.look_at_clock()
        entry = inbox.put(source, key, number, sender)
        if entry is not None:
            book = self._books[shard]
            if number <= book.store.last(key, source):  # The inbox has forgotten this source.
                book.confirm_again(key, source, number, entry)
            else:
                self._apply(book, inbox, entry, message)
        self._changed(shard)

    def _apply(self, book: ReplicaBook[Any], inbox: InboxBook, entry: Entry, message: Any) -> None:
        _, _, key, source, number, payload, _ = message
        try:
            book.apply(key, source, number, payload, round(time.time() * 1000), entry)
        except Exception as error:
            text = "the keeper of the shards %s refuses a message with the key %s"
            name = ForeignText(self._name)
            peer_log.write(logging.WARNING, "keeper_refused", source[0].name, text, name, ForeignText(key), error=error)
            inbox.refuse(entry, number, as_received(to_erlang(error)[1]))

    def _node_event(self, message: Term) -> None:
        match message:
            case (Atom("nodeup"), Atom() as node):
                self._inboxes.node_up(node)
            case (Atom("nodedown"), Atom() as node):
                self._inboxes.node_down(node)
            case _:
                pass

    # Effects

    def _changed(self, shard: int) -> None:
        """Carry out the effects of a shard when all of the present read is applied."""
        self._dirty[shard] = None
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._node.call_after_read(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        dirty, self._dirty = self._dirty, {}
        for shard in dirty:
            if self._books:
                self._carry_out(shard)
        self._inboxes.answer(dirty)

    def _send(self, to: Pid, message: Term) -> None:
        self._member.send(to, message, False)

    def _carry_out(self, shard: int) -> None:
        book = self._books[shard]
        for effect in book.take_effects():
            self._perform(shard, book, effect)
        if book.has_work:
            self._working[shard] = None
            if self._work is None:
                self._work = asyncio.get_running_loop().call_soon(self._step)

    def _perform(self, shard: int, book: ReplicaBook[Any], effect: ReplicaEffect) -> None:
        match effect:
            case Send(to, message):
                self._send(to, message)
            case Confirmed(_, _, number, entry):
                self._inboxes.settle(shard, cast("Entry", entry), number, withhold=self._results.is_full)
            case Out(key, source, number, result):
                if self._results_group is None:
                    book.forget_results(key, source, number)
                else:
                    self._results.send(shard, key, source, number, result)
            case JoinCopies() | LeaveCopies():
                if self._groups is not None:
                    self._groups.change_copies(shard, joins=isinstance(effect, JoinCopies))
            case LeaveHolders():
                self._left(shard)
            case Act():
                self._inboxes.begin(shard, book.last_numbers())
            case Pause():
                self._inboxes.pause(shard)
            case Settled():
                self._inboxes.settle_begin(shard)
            case Lost(key, count, error):
                self._lost(key, count, error)
            case Unsendable(key, source, unsendable):
                text = (
                    "the keeper of the shards %s has returned something else than terms for a message with the key %s"
                )
                peer, name = cast("Source", source)[0].name, ForeignText(self._name)
                peer_log.write(
                    logging.ERROR, "keeper_results_lost", peer, text, name, ForeignText(key), error=unsendable
                )
            case Ignored(peer, reason, error):
                text = "shards: a holder or a backup has sent %s"
                peer_log.write(
                    logging.ERROR,
                    "shard_state_failed",
                    peer.node.name,
                    text,
                    ForeignText(reason),
                    error=error,
                    reason=reason,
                )

    def _lost(self, key: bytes, count: int, error: Exception | None) -> None:
        log.error(
            "shard_merge_lost",
            "shards %s: a merge has lost %d messages of the key %s",
            self._name.decode(errors="replace"),
            count,
            ForeignText(key),
            exc_info=error,
            count=count,
        )
        self._on_lost(count)

    def _results_done(self, shard: int, key: bytes, source: Term, number: int) -> None:
        self._books[shard].forget_results(key, source, number)
        self._changed(shard)

    def _step(self) -> None:
        """Do a little of what is to be done. The loop runs before the next call."""
        self._work = None
        for _ in range(STEPS_PER_TURN):
            shard = next(iter(self._working), None)
            if shard is None or not self._books:
                return
            del self._working[shard]  # The next one of its turn is behind the others.
            self._books[shard].step()
            self._carry_out(shard)
        if self._working and self._work is None:
            self._work = asyncio.get_running_loop().call_soon(self._step)

    # Questions

    def state(self, shard: int, key: bytes) -> Any:
        """The state of a key, if this node acts for it."""
        book = self._books[shard] if self._books else None
        found = book.store.keys.get(key) if book is not None and book.is_acting else None
        return None if found is None else found.state

    def phase(self, shard: int) -> Phase:
        """What this node is for a shard."""
        return self._books[shard].phase if self._books else Phase.IDLE

    def backups(self, shard: int) -> list[Pid]:
        """The nodes with a confirmed copy of a shard that this node holds."""
        return list(self._books[shard].backups) if self._books else []
