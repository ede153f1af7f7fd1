"""Tells the books of all shards what ``pg`` says: who keeps state, who holds a shard, who has a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from erlmesh.core.sharding.names import TAG, candidates_group, copies_group, holders_group, keepers_group
from erlmesh.errors import NodeNotAlive, NoProcess
from erlmesh.services.pg.protocol import Joined
from erlmesh.services.sharding.keeper_ranks import KeeperRanks
from erlmesh.terms import Pid, Term

if TYPE_CHECKING:
    from erlmesh.core.sharding.replica_book import ReplicaBook
    from erlmesh.services.pg.protocol import GroupEvent
    from erlmesh.services.pg.server import Pg

__all__ = ["KeeperGroups"]


class KeeperGroups:
    """The groups of the shards ``name``, as the process ``me`` sees them.

    ``changed(shard)`` is called when the book of a shard has heard of a change.
    """

    def __init__(
        self, pg: Pg, name: bytes, me: Pid, books: Sequence[ReplicaBook[Any]], changed: Callable[[int], None]
    ) -> None:
        self._pg = pg
        self._name = name
        self._prefix = (TAG, name)
        self._me = me
        self._books = books
        self._changed = changed
        self._ranks = KeeperRanks(name, len(books))

    def start(self) -> None:
        """Tell the books what there is, and offer this node as one that keeps state."""
        pg = self._pg
        self._ranks.candidates = dict.fromkeys(pg.get_members(candidates_group(self._name)))
        self._ranks.keepers = dict.fromkeys(pg.get_members(keepers_group(self._name)))
        for shard, book in enumerate(self._books):
            for pid in self._others(pg.get_members(holders_group(self._name, shard))):
                book.holder_joined(pid)
            for pid in self._others(pg.get_members(copies_group(self._name, shard))):
                book.copy_joined(pid)
        self._change(keepers_group(self._name), joins=True)

    def _others(self, pids: Sequence[Pid]) -> list[Pid]:
        return [pid for pid in pids if pid != self._me]

    def holds(self, shard: int) -> bool:
        """Whether ``me`` is in the group of the holder of a shard."""
        return self._me in self._pg.get_local_members(holders_group(self._name, shard))

    def change_copies(self, shard: int, *, joins: bool) -> None:
        """Join the group of those that have a copy, or leave it."""
        self._change(copies_group(self._name, shard), joins=joins)

    def _change(self, group: Term, *, joins: bool) -> None:
        try:
            if joins:
                self._pg.join(group, self._me)
            else:
                self._pg.leave(group, self._me)
        except (NoProcess, NodeNotAlive):
            pass  # The scope has stopped, with the node: all of its members have left.

    def apply(self, event: GroupEvent) -> None:
        """A group has changed."""
        group = event.group
        if type(group) is not tuple or group[:2] != self._prefix:
            return
        match group[2:]:
            case ():
                self._change_members(self._ranks.candidates, event)
            case (b"keeps",):
                self._change_members(self._ranks.keepers, event)
            case (int(shard),) if 0 <= shard < len(self._books):
                book = self._books[shard]
                self._tell(shard, event, book.holder_joined if isinstance(event, Joined) else book.holder_left)
            case (int(shard), b"copy") if 0 <= shard < len(self._books):
                book = self._books[shard]
                self._tell(shard, event, book.copy_joined if isinstance(event, Joined) else book.copy_left)

    def _tell(self, shard: int, event: GroupEvent, change: Callable[[Pid], None]) -> None:
        for pid in self._others(event.pids):
            change(pid)
        self._changed(shard)

    def _change_members(self, members: dict[Pid, None], event: GroupEvent) -> None:
        for pid in event.pids:
            if isinstance(event, Joined):
                members[pid] = None
            else:
                members.pop(pid, None)
        for shard, ranked in enumerate(self._ranks.ranked()):
            self._books[shard].candidates(ranked)
            self._changed(shard)
