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
  copy. It asks in any case: an acting holder merges what it did not have, for example after a partition. Its own
  followers are asked, too: a follower may have had a copy of another holder, which is lost now.
* A merge starts a new lineage (see :mod:`erlmesh.core.sharding.store`), and all followers get a new snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from erlmesh.core.sharding import replica_messages as tags
from erlmesh.core.sharding.followers import Stream
from erlmesh.core.sharding.replica_base import Phase
from erlmesh.core.sharding.replica_copies import CopySide
from erlmesh.core.sharding.replica_effects import (
    Act,
    Confirmed,
    Ignored,
    Out,
    Pause,
    ReplicaEffect,
    Send,
    Settled,
)
from erlmesh.core.sharding.replica_holder import HolderSide
from erlmesh.core.sharding.snapshot import MalformedSnapshot, versions_term
from erlmesh.core.sharding.store import Store, includes
from erlmesh.terms import Pid, Term

__all__ = ["REPLICA_TAGS", "Phase", "ReplicaBook"]

S = TypeVar("S")


class ReplicaBook(HolderSide[S], CopySide[S]):
    """One shard on one node. Each method adds to the effects, which :meth:`take_effects` returns in order.

    While :attr:`has_work` is true, :meth:`step` is to be called, with a turn of the loop now and then.
    """

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
            if store is not None and self.shelf.add_orphan(store):
                # A holder that has not met the lost one does not ask by itself.
                for holder in self._holders:
                    self._send(holder, tags.MORE)
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
        # A follower has the state of this node. If it has more, it says so.
        if self.phase is not Phase.IDLE and not self._holders and pid not in self._followers.table:
            self._ask(pid)

    def copy_left(self, pid: Pid) -> None:
        """It has none any more, or has died."""
        self._copy_members.pop(pid, None)
        self._told.pop(pid, None)
        if pid in self._asked:
            self.shelf.drop_reader(pid)
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
        while self._to_merge:  # A half-merged store would say that it has more than it has.
            self._merge_one_key()
        if self.phase is not Phase.TAKING or self.store.keys:
            self.shelf.add_orphan(self.store)
        self.store = Store(self._keeper, self._merge)
        self.phase = Phase.IDLE
        self._to_merge.clear()
        self._followers.table.clear()
        self._pending.clear()
        self._asked.clear()
        self._told.clear()
        self._update_copy_membership()

    # Collecting and merging

    def _ask(self, pid: Pid) -> None:
        """Ask a node with a copy for what this one does not have."""
        if pid in self._holders:
            return
        if pid in self._asked:  # Its answer may be older than the last messages of a holder that is gone.
            self._asked[pid] = True
            return
        self._asked[pid] = False
        self._send(pid, tags.COPIES, versions_term(self.store.versions))

    def _no_answer_of(self, pid: Pid) -> None:
        if self._asked.pop(pid, None) is not None:
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
                self._lost(key, lost, error)
        if not left:
            self.store.include(store.versions)
            self._to_merge.popleft()

    def _begin(self) -> None:
        """Act under a new lineage. Followers start from here."""
        base = dict(self.store.versions)
        self._lineages += 1
        self._count = self._acknowledged = 0
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
            if not self._to_merge:
                self._go_on()
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


_HANDLERS: Final[dict[tuple[Term, int], Callable[..., bool]]] = {
    (tags.GIVE, 7): ReplicaBook._receive_give,
    (tags.TOOK, 5): ReplicaBook._receive_took,
    (tags.COPY, 10): ReplicaBook._receive_copy,
    (tags.COPIED, 5): ReplicaBook._receive_copied,
    (tags.ADOPT, 6): ReplicaBook._receive_adopt,
    (tags.ADOPTED, 6): ReplicaBook._receive_adopted,
    (tags.COPIES, 5): ReplicaBook._receive_copies,
    (tags.FORGET, 5): ReplicaBook._receive_forget,
    (tags.FORGOT, 5): ReplicaBook._receive_forgot,
    (tags.MORE, 4): ReplicaBook._receive_more,
    (tags.DONE, 7): ReplicaBook._receive_done,
}

REPLICA_TAGS: Final = frozenset(tag for tag, _ in _HANDLERS)
"""The first elements of the messages that :meth:`ReplicaBook.receive` takes."""
