"""The life of one shard's state on one node. No I/O.

::

          take()                  all asked have answered
    idle ───────► taking ─────────────────────────────────► acting ◄───────────────┐
     ▲              └─ a fresh copy: at once ──────────────►  │ ▲                   │ the heir is gone
     │                                              a copy of │ │ it is merged      │
     │                                          others comes  ▼ │                   │
     │                                                     merging                  │
     └──── the heir has everything ──────── leaving ◄── the heir is confirmed ──────┘

A shard moves by a backup that is promoted. The holder *goes on acting* while the better node, the *heir*, gets a
snapshot and each new message. When the heir has confirmed the snapshot, the holder takes nothing more, waits until the
heir has the last message, and leaves the group of the holder. Its own state becomes a copy, like that of a backup.

What makes this safe:

* A message is acknowledged, and its results go out, when all nodes with a confirmed copy have it, and there are
  ``backups`` of them (or as many as there are nodes). So whichever confirmed copy becomes the state, has it.
* A copy is forgotten on the word of a holder that has all messages of the copy and enough confirmed copies itself.
* A node whose copies are those of all holders that it has seen go takes at once. Another one first asks all that have a
  copy. It asks in any case: an acting holder merges what it did not have, for example after a partition.
* A merge starts a new lineage (see :mod:`erlmesh.core.sharding.store`), and all followers get a new snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Generic, TypeVar

from erlmesh.core.sharding import replica_messages as tags
from erlmesh.core.sharding.copy_shelf import CopyShelf
from erlmesh.core.sharding.followers import Follower, Followers, Stream
from erlmesh.core.sharding.keeper import Keeper, Merge, Origin
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
)
from erlmesh.core.sharding.snapshot import MalformedSnapshot, read_versions, versions_term
from erlmesh.core.sharding.store import KeyState, Store, Versions, includes
from erlmesh.terms import Atom, Pid, Term

__all__ = ["Phase", "ReplicaBook"]

S = TypeVar("S")


class Phase(Enum):
    """What this node is for the shard."""

    IDLE = "idle"
    """It does not hold the shard. It may have copies."""
    TAKING = "taking"
    """It holds the shard, and collects the state."""
    ACTING = "acting"
    MERGING = "merging"
    """It holds the shard, and merges its state with another one."""
    LEAVING = "leaving"
    """The heir is confirmed. Nothing is taken any more."""


class ReplicaBook(Generic[S]):
    """One shard on one node. Each method adds to the effects, which :meth:`take_effects` returns in order.

    While :attr:`has_work` is true, :meth:`step` is to be called, with a turn of the loop now and then.
    """

    def __init__(
        self, name: bytes, shard: int, me: Pid, keeper: Keeper[S], *, backups: int = 1, merge: Merge[S] | None = None
    ) -> None:
        self._name = name
        self._shard = shard
        self._me = me
        self._keeper = keeper
        self._merge = merge
        self._backups = backups
        self.phase = Phase.IDLE
        self.store: Store[S] = Store(keeper, merge)
        """The state, while this node holds the shard."""
        self.shelf: CopyShelf[S] = CopyShelf(keeper, merge)
        self._count = 0
        """Messages applied under the present lineage."""
        self._lineages = 0
        self._base: Versions | None = None
        """What the state contained when this node began to act, if other nodes may have the same."""
        self._is_fresh = False
        """The state was complete when this node took the shard."""
        self._streams = 0
        self._pending: deque[tuple[int, list[ReplicaEffect]]] = deque()
        """What becomes true when all confirmed copies have a message."""
        self._followers: Followers[S] = Followers()
        self._answers: dict[Pid, Stream[S]] = {}
        """Snapshots for nodes that have asked."""
        self._failed: dict[Pid, None] = {}
        """Nodes that could not load the state."""
        self._asked: dict[Pid, None] = {}
        """Nodes with a copy whose answer is awaited."""
        self._to_merge: deque[tuple[Store[S], deque[tuple[bytes, KeyState[S]]]]] = deque()
        self._holders: dict[Pid, None] = {}
        self._copy_members: dict[Pid, None] = {}
        self._told: dict[Pid, None] = {}
        """Nodes with a copy that were told to forget it."""
        self._ranked: Sequence[Pid] = ()
        self._is_copy_member = False
        self._copied_due: dict[Pid, int] = {}
        self._out: list[ReplicaEffect] = []

    @property
    def is_acting(self) -> bool:
        """Whether messages may be applied."""
        return self.phase is Phase.ACTING

    @property
    def asked(self) -> Sequence[Pid]:
        """The nodes whose copy a taker waits for."""
        return tuple(self._asked)

    @property
    def backups(self) -> Sequence[Pid]:
        """The nodes with a confirmed copy, while this one holds the shard."""
        return tuple(pid for pid, each in self._followers.table.items() if each.is_confirmed)

    def take_effects(self) -> list[ReplicaEffect]:
        """The effects since the last call."""
        for holder, count in self._copied_due.items():
            self._send(holder, tags.COPIED, count)
        self._copied_due.clear()
        out, self._out = self._out, []
        return out

    def _send(self, to: Pid, tag: Atom, *fields: Term) -> None:
        self._out.append(Send(to, self._message(tag, *fields)))

    def _message(self, tag: Atom, *fields: Term) -> Term:
        return (tag, self._name, self._shard, *fields, self._me)

    # What the groups say. These are about other nodes only.

    def candidates(self, ranked: Sequence[Pid]) -> None:
        """The nodes that keep state, the best one for this shard first. This node is among them unless it stops."""
        self._ranked = ranked
        for pid in [pid for pid in self._failed if pid not in ranked]:
            del self._failed[pid]
        self._arrange()

    def holder_joined(self, pid: Pid) -> None:
        """Another node holds the shard, too."""
        self._holders[pid] = None
        # A holder gives its state as a holder. It does not answer as one that has a copy.
        self.shelf.drop_reader(pid)
        self._no_answer_of(pid)
        self._arrange()

    def holder_left(self, pid: Pid) -> None:
        """It holds the shard no longer, or has died."""
        self._holders.pop(pid, None)
        self._answers.pop(pid, None)
        store = self.shelf.holder_left(pid)
        if self.phase is Phase.IDLE:
            if store is not None:
                self.shelf.add_orphan(store)
            self._update_copy_membership()
            return
        if store is not None:
            self._add_to_merge(store)
        if pid in self._followers.table and pid not in self._copy_members:
            del self._followers.table[pid]
        if not self._holders:
            self._told.clear()
            for member in self._copy_members:
                self._ask(member)
        self._go_on()

    def copy_joined(self, pid: Pid) -> None:
        """Another node has a complete copy."""
        self._copy_members[pid] = None
        if self.phase is not Phase.IDLE and not self._holders:
            self._ask(pid)

    def copy_left(self, pid: Pid) -> None:
        """It has none any more, or has died."""
        self._copy_members.pop(pid, None)
        self._told.pop(pid, None)
        self.shelf.drop_reader(pid) if pid in self._asked else None
        follower = self._followers.table.get(pid)
        if follower is not None and follower.is_confirmed and pid not in self._holders:
            del self._followers.table[pid]
        self._no_answer_of(pid)
        self._arrange()

    # Taking, and letting go

    def take(self) -> None:
        """This node is a holder from now on: it is the best one, and nobody else holds the shard."""
        if self.phase is not Phase.IDLE:
            return
        self.phase = Phase.TAKING
        self._is_fresh = self.shelf.is_fresh
        stores = self.shelf.take(self._holders)
        self.store = Store(self._keeper, self._merge)
        if stores:
            stores.sort(key=lambda store: len(store.keys))
            self.store = stores.pop()
            for store in stores:
                self._add_to_merge(store)
        self._answers.clear()
        for member in self._copy_members:
            self._ask(member)
        self._go_on()

    def drop(self) -> None:
        """Stop holding the shard at once. The state becomes a copy. The caller leaves the group of the holder."""
        if self.phase is Phase.IDLE:
            return
        self._become_copy()
        self.shelf.missed()

    def _become_copy(self) -> None:
        """The state becomes a copy like that of a backup. What waits to be acknowledged is sent to another holder."""
        if self.phase is not Phase.TAKING or self.store.keys:
            self.shelf.add_orphan(self.store)
        for store, left in self._to_merge:
            store.keys = dict(left)
            self.shelf.add_orphan(store)
        self.store = Store(self._keeper, self._merge)
        self.phase = Phase.IDLE
        self._to_merge.clear()
        self._followers.table.clear()
        self._pending.clear()
        self._asked.clear()
        self._told.clear()
        self._update_copy_membership()

    def _update_copy_membership(self) -> None:
        is_member = self.phase is Phase.IDLE and bool(self.shelf)
        if is_member != self._is_copy_member:
            self._is_copy_member = is_member
            self._out.append(JoinCopies() if is_member else LeaveCopies())

    # Collecting and merging

    def _ask(self, pid: Pid) -> None:
        """Ask a node with a copy for what this one does not have."""
        if pid in self._asked or pid in self._holders or self._is_follower(pid):
            return
        self._asked[pid] = None
        self._send(pid, tags.COPIES, versions_term(self.store.versions))

    def _is_follower(self, pid: Pid) -> bool:
        follower = self._followers.table.get(pid)
        return follower is not None and follower.adopting is None

    def _no_answer_of(self, pid: Pid) -> None:
        if self._asked.pop(pid, pid) is None:
            self._go_on()

    def _add_to_merge(self, store: Store[S]) -> None:
        if not includes(self.store.versions, store.versions):
            self._to_merge.append((store, deque(store.keys.items())))

    def _go_on(self) -> None:
        """Begin to act, or to merge, if nothing else is to be awaited."""
        if self.phase is Phase.IDLE or (self.phase is Phase.TAKING and self._asked and not self._is_fresh):
            return
        if self._to_merge:
            if self.phase is Phase.ACTING:
                self._out.append(Pause())
            if self.phase is not Phase.TAKING:
                self.phase = Phase.MERGING
        elif self.phase in (Phase.TAKING, Phase.MERGING):
            self._begin()
        self._arrange()

    def _merge_one_key(self) -> None:
        store, left = self._to_merge[0]
        if left:
            key, entry = left.popleft()
            lost, error = self.store.merge_key(key, entry)
            if lost or error is not None:
                self._out.append(Lost(key, lost, error))
        if not left:
            self.store.include(store.versions)
            self._to_merge.popleft()
        if not self._to_merge:
            self._go_on()

    def _begin(self) -> None:
        """Act under a new lineage. Followers start from here."""
        base = dict(self.store.versions)
        self._lineages += 1
        self._count = 0
        self.store.start_lineage((self._me, self._lineages))
        pending: list[ReplicaEffect] = [effect for _, effects in self._pending for effect in effects]
        pending = [effect for effect in pending if isinstance(effect, Confirmed)]
        pending.append(Settled())
        for key, entry in self.store.keys.items():
            pending += (Out(key, source, number, terms) for (source, number), terms in entry.results.items())
        self._pending = deque([(0, pending)])
        self._told.clear()
        self._followers.table.clear()
        # A node that has given its copy to a taker has an equal state. After a later merge nobody has.
        self._base = base if self.phase is Phase.TAKING else None
        self.phase = Phase.ACTING
        self._update_copy_membership()
        self._out.append(Act())

    # Applying messages

    def apply(self, key: bytes, source: Term, number: int, message: Term, time: int) -> None:
        """Apply a message that is not a duplicate. ``time`` is in milliseconds since 1970.

        :class:`Confirmed` follows when it is replicated. Raises what the keeper raises: then the message is refused.
        Call this only while :attr:`is_acting`.
        """
        results = self.store.apply(message, Origin(key, source, number, time / 1000))
        self._count += 1
        self.store.versions[self._me, self._lineages] = self._count
        if self._followers.table:
            copy = self._message(tags.COPY, self._count, key, source, number, time, message)
            for pid, follower in self._followers.table.items():
                if follower.stream is None or follower.stream.writer.copy(key, copy):
                    self._out.append(Send(pid, copy))
        effects: list[ReplicaEffect] = [Confirmed(key, source, number)]
        if results:
            effects.append(Out(key, source, number, results))
        self._pending.append((self._count, effects))
        self._flush()

    def forget_results(self, key: bytes, source: Term, number: int) -> None:
        """All receivers have these results."""
        if self.phase is Phase.IDLE or not self.store.forget_results(key, source, number):
            return
        done = self._message(tags.DONE, key, source, number)
        for pid, follower in self._followers.table.items():
            if follower.stream is None or follower.stream.writer.copy(key, done):
                self._out.append(Send(pid, done))

    def _flush(self) -> None:
        """Acknowledge what is replicated."""
        pending = self._pending
        if not pending or not self._has_backups():
            return
        copied = self._followers.copied(self._count)
        while pending and pending[0][0] <= copied:
            self._out += pending.popleft()[1]

    def _others(self) -> list[Pid]:
        return [pid for pid in self._ranked if pid != self._me]

    def _has_backups(self) -> bool:
        if self.phase not in (Phase.ACTING, Phase.LEAVING):
            return False
        others = self._others()
        return self._followers.confirmed(others) >= min(self._backups, len(others))

    # Followers

    def _heir(self) -> Pid | None:
        """The better node that this one lets go for. None if this is the best one."""
        return self._ranked[0] if self._ranked and self._ranked[0] != self._me else None

    def _arrange(self) -> None:
        """Choose the followers, let others forget, and leave if the heir has everything."""
        if self.phase not in (Phase.ACTING, Phase.LEAVING):
            return
        table = self._followers.table
        others = [pid for pid in self._others() if pid not in self._failed]
        heir = self._heir()
        wanted = others[: self._backups]
        if heir is not None:
            wanted = [pid for pid in others if pid == heir or (pid in table and table[pid].is_confirmed)]
        for pid in wanted:
            if pid not in table:
                self._start(pid)
        enough = self._followers.confirmed(wanted) >= min(self._backups, len(self._others()))
        for pid, follower in list(table.items()):
            if pid in wanted:
                continue
            if not follower.is_confirmed:
                del table[pid]
                if pid in others or pid in self._copy_members:
                    self._forget(pid)
            elif heir is None and enough and not follower.forgetting:
                follower.forgetting = True
                self._forget(pid)
        if heir is None and enough and not self._holders and not self._asked:
            for pid in self._copy_members:
                if pid not in table and pid not in self._told:
                    self._told[pid] = None
                    self._forget(pid)
        self._arrange_leaving(heir)
        self._flush()

    def _forget(self, pid: Pid) -> None:
        self._send(pid, tags.FORGET, versions_term(self.store.versions))

    def _start(self, pid: Pid) -> None:
        """Make ``pid`` a follower: its copy is equal already, or it gets a snapshot."""
        follower: Follower[S] = Follower()
        self._followers.table[pid] = follower
        if pid in self._copy_members and self._count == 0 and self._base is not None:
            follower.adopting = (self._me, self._lineages)
            self._send(pid, tags.ADOPT, versions_term(self._base), follower.adopting)
        else:
            self._start_snapshot(follower)

    def _start_snapshot(self, follower: Follower[S]) -> None:
        self._streams += 1
        follower.stream = Stream(self._streams, self._keeper, [self.store])

    def _arrange_leaving(self, heir: Pid | None) -> None:
        follower = self._followers.table.get(heir) if heir is not None else None
        is_ready = follower is not None and follower.is_confirmed and not follower.forgetting
        is_last = not self._ranked
        if self.phase is Phase.ACTING and (is_ready or is_last):
            self.phase = Phase.LEAVING
            self._out.append(Pause())
        elif self.phase is Phase.LEAVING and not is_ready and not is_last:
            self.phase = Phase.ACTING
            self._out.append(Act())
        if self.phase is Phase.LEAVING and (is_last or (follower is not None and follower.copied >= self._count)):
            self._flush()
            self._become_copy()
            self._out.append(LeaveHolders())

    # Work in steps

    @property
    def has_work(self) -> bool:
        """Whether :meth:`step` has something to do."""
        return bool(self._is_merging()) or any(stream.wants_slice for _, stream in self._all_streams())

    def _is_merging(self) -> bool:
        if not self._to_merge:
            return False
        return self.phase is Phase.MERGING or (self.phase is Phase.TAKING and (not self._asked or self._is_fresh))

    def _all_streams(self) -> list[tuple[Pid, Stream[S]]]:
        streams = [(pid, each.stream) for pid, each in self._followers.table.items() if each.stream is not None]
        if self.phase not in (Phase.ACTING, Phase.LEAVING):
            streams = []
        return [*streams, *self._answers.items()]

    def step(self) -> None:
        """Merge one key, and write a slice of each snapshot that may go on."""
        if self._is_merging():
            self._merge_one_key()
        for pid, stream in self._all_streams():
            if stream.wants_slice:
                self._write_slice(pid, stream)

    def _write_slice(self, pid: Pid, stream: Stream[S]) -> None:
        try:
            number, more, data = stream.writer.next_slice()
        except Exception as error:
            self._out.append(Ignored(pid, "a state that dump() cannot make terms of", error))
            if self._answers.pop(pid, None) is not None:
                self._answer(pid, [])  # It waits for an answer.
            elif self._followers.table.pop(pid, None) is not None:
                self._failed[pid] = None
            return
        self._send(pid, tags.GIVE, (stream.number, number), more, data)
        for copy in stream.writer.take_deferred():
            self._out.append(Send(pid, copy))

    # Messages of other nodes

    def receive(self, message: tuple[Term, ...]) -> None:
        """Handle a message of :mod:`~erlmesh.core.sharding.replica_messages`, which ``message[-1]`` has sent."""
        sender = message[-1]
        if not isinstance(sender, Pid):
            return
        handle = _HANDLERS.get((message[0], len(message)))
        try:
            if handle is None or not handle(self, sender, *message[3:-1]):
                self._out.append(Ignored(sender, f"a malformed {message[0]}"))
        except MalformedSnapshot as error:
            self._out.append(Ignored(sender, f"a malformed {message[0]}: {error}"))
        except TypeError as error:  # A list in a key of a table, for example.
            self._out.append(Ignored(sender, f"a malformed {message[0]}", error))

    def _receive_give(self, giver: Pid, place: Term, more: Term, data: Term) -> bool:
        match place, more, data:
            case (int(stream), int(number)), bool(), bytes():
                pass
            case _:
                return False
        is_answer = giver in self._asked
        if not is_answer and giver not in self._holders:
            return True
        try:
            stores = self.shelf.read_slice(giver, stream, number, more, data)
        except MalformedSnapshot:
            self._broken(giver, stream)
            raise
        except Exception as error:
            self._broken(giver, stream)
            self._out.append(Ignored(giver, "a state that load() refuses", error))
            return True
        if stores is not None:
            self._received(giver, stores, is_answer)
        self._send(giver, tags.TOOK, (stream, number))
        return True

    def _received(self, giver: Pid, stores: list[Store[S]], is_answer: bool) -> None:
        if is_answer:
            for store in stores:
                self._add_to_merge(store)
            self._no_answer_of(giver)
            self._arrange()
            return
        for store in stores:
            self.shelf.follow(giver, store, alone=len(self._holders) == 1)
        self._update_copy_membership()

    def _broken(self, giver: Pid, stream: int) -> None:
        self._send(giver, tags.TOOK, (stream, -1))
        self._no_answer_of(giver)

    def _receive_took(self, taker: Pid, place: Term) -> bool:
        match place:
            case (int(number), int(taken)):
                pass
            case _:
                return False
        answer = self._answers.get(taker)
        if answer is not None and answer.number == number:
            if answer.took(taken) or taken < 0:
                del self._answers[taker]
            return True
        follower = self._followers.table.get(taker)
        if follower is None or follower.stream is None or follower.stream.number != number:
            return True
        if taken < 0:
            self._failed[taker] = None
            del self._followers.table[taker]
            self._arrange()
        elif follower.stream.took(taken):
            versions = follower.stream.writer.end_versions
            follower.copied = max(follower.copied, versions.get((self._me, self._lineages), 0))
            follower.is_confirmed, follower.stream = True, None
            self._arrange()
        return True

    def _receive_copy(
        self, holder: Pid, count: Term, key: Term, source: Term, number: Term, time: Term, message: Term
    ) -> bool:
        match count, key, source, number, time:
            case int(), bytes(), tuple(), int(), int():
                pass
            case _:
                return False
        if holder not in self._holders:
            return True
        stream = self.shelf.stream_of(holder)
        try:
            is_complete = self.shelf.copy(holder, count, message, Origin(key, source, number, time / 1000))
        except Exception as error:
            self._out.append(Ignored(holder, "a message that apply() refuses here, and not at the holder", error))
            if stream is not None:
                self._broken(holder, stream)
            self._update_copy_membership()
            return True
        if is_complete:
            self._copied_due[holder] = count
        return True

    def _receive_copied(self, pid: Pid, count: Term) -> bool:
        if not isinstance(count, int):
            return False
        follower = self._followers.table.get(pid)
        if follower is not None and follower.is_confirmed and follower.copied < count <= self._count:
            follower.copied = count
            if self.phase is Phase.LEAVING:
                self._arrange()
            else:
                self._flush()
        return True

    def _receive_adopt(self, holder: Pid, versions: Term, lineage: Term) -> bool:
        match lineage:
            case (Pid() as pid, int(number)):
                pass
            case _:
                return False
        is_equal = (
            self.phase is Phase.IDLE
            and holder in self._holders
            and self.shelf.adopt(holder, read_versions(versions), (pid, number), alone=len(self._holders) == 1)
        )
        self._send(holder, tags.ADOPTED, lineage, is_equal)
        return True

    def _receive_adopted(self, pid: Pid, lineage: Term, is_equal: Term) -> bool:
        follower = self._followers.table.get(pid)
        if follower is None or follower.adopting is None or follower.adopting != lineage:
            return True
        follower.adopting = None
        if is_equal is True:
            follower.is_confirmed = True
        else:
            self._start_snapshot(follower)
        self._arrange()
        return True

    def _receive_copies(self, taker: Pid, versions: Term) -> bool:
        known = read_versions(versions)
        if self.phase is Phase.IDLE:  # Otherwise the taker hears that this node is a holder, and waits no longer.
            self._answer(taker, [store for store in self.shelf.stores() if not includes(known, store.versions)])
        return True

    def _answer(self, taker: Pid, stores: list[Store[S]]) -> None:
        self._streams += 1
        self._answers[taker] = Stream(self._streams, self._keeper, stores)

    def _receive_forget(self, holder: Pid, versions: Term) -> bool:
        known = read_versions(versions)
        if holder not in self._holders:
            return True
        self.shelf.forget(holder, known)
        self._update_copy_membership()
        self._send(holder, tags.FORGOT, not self.shelf.has_orphans)
        return True

    def _receive_forgot(self, pid: Pid, is_all: Term) -> bool:
        follower = self._followers.table.get(pid)
        if follower is not None and follower.forgetting:
            del self._followers.table[pid]
        if is_all is not True and self.phase is not Phase.IDLE and pid in self._copy_members and not self._holders:
            self._told.pop(pid, None)
            self._ask(pid)
        self._arrange()
        return True

    def _receive_done(self, holder: Pid, key: Term, source: Term, number: Term) -> bool:
        match key, source, number:
            case bytes(), tuple(), int():
                if holder in self._holders:
                    self.shelf.forget_results(holder, key, source, number)
                return True
            case _:
                return False


_HANDLERS: dict[tuple[Term, int], Callable[..., bool]] = {
    (tags.GIVE, 7): ReplicaBook._receive_give,
    (tags.TOOK, 5): ReplicaBook._receive_took,
    (tags.COPY, 10): ReplicaBook._receive_copy,
    (tags.COPIED, 5): ReplicaBook._receive_copied,
    (tags.ADOPT, 6): ReplicaBook._receive_adopt,
    (tags.ADOPTED, 6): ReplicaBook._receive_adopted,
    (tags.COPIES, 5): ReplicaBook._receive_copies,
    (tags.FORGET, 5): ReplicaBook._receive_forget,
    (tags.FORGOT, 5): ReplicaBook._receive_forgot,
    (tags.DONE, 7): ReplicaBook._receive_done,
}
