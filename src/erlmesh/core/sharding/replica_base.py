"""What the parts of a :class:`~erlmesh.core.sharding.replica_book.ReplicaBook` share. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Generic, TypeVar

from erlmesh.core.sharding import replica_messages as tags
from erlmesh.core.sharding.copy_shelf import CopyShelf
from erlmesh.core.sharding.followers import Followers, Stream
from erlmesh.core.sharding.keeper import Keeper, Merge
from erlmesh.core.sharding.replica_effects import JoinCopies, LeaveCopies, Lost, ReplicaEffect, Send
from erlmesh.core.sharding.store import KeyState, Store, Versions
from erlmesh.terms import Atom, Pid, Term

__all__ = ["Phase", "ReplicaBase"]

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


class ReplicaBase(ABC, Generic[S]):
    """One shard on one node: the fields, and what each part needs of the others."""

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
        self.shelf: CopyShelf[S] = CopyShelf(keeper, merge, self._lost)
        self._count = 0
        """Messages applied under the present lineage."""
        self._acknowledged = 0
        """Those of them that were acknowledged: all up to this count."""
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
        self._asked: dict[Pid, bool] = {}
        """Nodes with a copy whose answer is awaited. True: ask once more then, for a holder has gone meanwhile."""
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

    def last_numbers(self) -> list[Term]:
        """(source, key, last number) for all that the state contains, while this node holds the shard."""
        return [(source, key, last) for key, each in self.store.keys.items() for source, last in each.lasts.items()]

    def take_effects(self) -> list[ReplicaEffect]:
        """The effects since the last call."""
        if self._pending:
            self._flush()
        for holder, count in self._copied_due.items():
            self._send(holder, tags.COPIED, count)
        self._copied_due.clear()
        out, self._out = self._out, []
        return out

    def _send(self, to: Pid, tag: Atom, *fields: Term) -> None:
        self._out.append(Send(to, self._message(tag, *fields)))

    def _lost(self, key: bytes, count: int, error: Exception | None) -> None:
        self._out.append(Lost(key, count, error))

    def _message(self, tag: Atom, *fields: Term) -> Term:
        return (tag, self._name, self._shard, *fields, self._me)

    def _update_copy_membership(self) -> None:
        is_member = self.phase is Phase.IDLE and bool(self.shelf)
        if is_member != self._is_copy_member:
            self._is_copy_member = is_member
            self._out.append(JoinCopies() if is_member else LeaveCopies())

    def _others(self) -> list[Pid]:
        return [pid for pid in self._ranked if pid != self._me]

    def _heir(self) -> Pid | None:
        """The better node that this one lets go for. None if this is the best one."""
        return self._ranked[0] if self._ranked and self._ranked[0] != self._me else None

    # What the parts need of each other

    @abstractmethod
    def _arrange(self) -> None:
        """Choose the followers, let others forget, and leave if the heir has everything."""

    @abstractmethod
    def _flush(self) -> None:
        """Acknowledge what is replicated."""

    @abstractmethod
    def _become_copy(self) -> None:
        """Hold the shard no longer."""

    @abstractmethod
    def _ask(self, pid: Pid) -> None:
        """Ask a node with a copy for what this one does not have."""

    @abstractmethod
    def _no_answer_of(self, pid: Pid) -> None:
        """Wait for a node no longer."""

    @abstractmethod
    def _add_to_merge(self, store: Store[S]) -> None:
        """Merge a store, unless it has nothing new."""
