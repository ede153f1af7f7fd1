"""Which processes get the messages of a key, and which nodes send results, as group membership tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from erlmesh.core.sharding.names import TAG
from erlmesh.services.group_names import normalize_group_name
from erlmesh.services.pg.protocol import Joined, Left
from erlmesh.terms import Atom, Pid, Term, exact_key

if TYPE_CHECKING:
    from erlmesh.services.pg.protocol import GroupEvent
    from erlmesh.services.pg.server import Pg
    from erlmesh.services.sharding.shards import Shards

__all__ = ["GroupHolders", "HolderNodes", "Holders", "ShardHolders", "find_holders"]


class Holders(Protocol):
    """What an outbox asks. A *bucket* is what changes its holder as a whole."""

    def bucket_of(self, key: bytes) -> Any:
        """The bucket of a key. It never changes."""

    def holder_of(self, key: bytes, bucket: Any) -> Pid | None:
        """The process that gets the messages of a key now. ``bucket`` is the bucket of the key."""

    def watch(self, changed: Callable[[Any], None]) -> Callable[[], None]:
        """Call ``changed(bucket)`` after each change. Return a function that ends this."""


class GroupHolders:
    """The members of a group: each key has an owner of its own, and all keys are one bucket."""

    def __init__(self, pg: Pg, group: Term) -> None:
        self._pg = pg
        self._group = normalize_group_name(group)
        self._exact = exact_key(self._group)

    def bucket_of(self, _key: bytes) -> None:
        """See :class:`Holders`."""

    def holder_of(self, key: bytes, _bucket: Any) -> Pid | None:
        """See :class:`Holders`."""
        return self._pg.owner(self._group, key)

    def watch(self, changed: Callable[[Any], None]) -> Callable[[], None]:
        """See :class:`Holders`."""

        def on_event(event: GroupEvent) -> None:
            if exact_key(event.group) == self._exact:
                changed(None)

        return self._pg.subscribe(on_event)


class ShardHolders:
    """The holders of shards: each shard is a bucket. The node of the outbox need not be a candidate.

    After a partition two processes hold a shard until their states are merged. A holder stays the one of this outbox
    until it leaves. Then the other one has its state, and knows by their numbers the messages that are sent again. A
    message that moves earlier is applied to both states. It has two results then, and receivers take one of them.
    """

    def __init__(self, pg: Pg, shards: Shards) -> None:
        self._pg = pg
        self._shards = shards
        self._prefix = (TAG, shards._settings.name)
        self._holders: dict[int, Pid | None] = {}
        """The holder of each shard that was asked for, until it leaves."""

    def bucket_of(self, key: bytes) -> int:
        """See :class:`Holders`."""
        return self._shards.of(key)

    def holder_of(self, _key: bytes, shard: int) -> Pid | None:
        """See :class:`Holders`."""
        try:
            return self._holders[shard]
        except KeyError:
            holder = self._holders[shard] = self._shards.holder_of(shard)
            return holder

    def watch(self, changed: Callable[[Any], None]) -> Callable[[], None]:
        """See :class:`Holders`."""

        def on_event(event: GroupEvent) -> None:
            group = event.group
            if type(group) is tuple and len(group) == 3 and group[:2] == self._prefix and type(group[2]) is int:
                holder = self._holders.get(group[2])
                if holder is None or (isinstance(event, Left) and holder in event.pids):
                    self._holders.pop(group[2], None)
                    changed(group[2])

        return self._pg.subscribe(on_event)


class HolderNodes:
    """The nodes that hold shards of one name, or have held some since they were connected: results come from them.

    ``pg`` reports what a node holds before its first result arrives, on the same connection. Its last results may
    arrive after it has left, or while its ``pg`` starts again and nobody knows its groups.
    """

    def __init__(self, pg: Pg, name: bytes) -> None:
        self._prefix = (TAG, name)
        self._nodes = {
            pid.node for group in pg.which_groups() if self._is_holders_group(group) for pid in pg.get_members(group)
        }

    def __contains__(self, node: Atom) -> bool:
        return node in self._nodes

    def apply(self, event: GroupEvent) -> None:
        """A group has changed."""
        if isinstance(event, Joined) and self._is_holders_group(event.group):
            self._nodes.update(pid.node for pid in event.pids)

    def node_down(self, node: Atom) -> None:
        """The connection to a node is lost. If it comes back, ``pg`` reports again what it holds."""
        self._nodes.discard(node)

    def _is_holders_group(self, group: Term) -> bool:
        return type(group) is tuple and len(group) == 3 and group[:2] == self._prefix and type(group[2]) is int


def find_holders(pg: Pg, group: Term, shards: Shards | None) -> tuple[Holders, bytes | None]:
    """The holders that ``node.outbox`` is asked for, and the name that they have, if it is not that of the outbox."""
    if (group is None) is (shards is None):
        raise TypeError("an outbox sends to a group or to shards: pass group= or shards=, not both")
    if shards is None:
        return GroupHolders(pg, group), None
    from erlmesh.services.sharding.shards import Shards  # noqa: PLC0415 - outboxes to groups need it never

    if not isinstance(shards, Shards):
        raise TypeError(f"shards is what node.shards() returns, not {shards!r}")
    return ShardHolders(pg, shards), shards._settings.name
