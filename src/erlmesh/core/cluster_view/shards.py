"""Which node holds which shard, read from the names of groups: a holder of shard ``s`` is in ``{Prefix, Name, s}``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from erlmesh.core.cluster_view.shapes import ShardView
from erlmesh.core.cluster_view.texts import plain_text, term_text
from erlmesh.terms import Atom, Pid, Term

__all__ = ["MAX_SHARDS", "ShardTable", "shard_of"]

_PREFIX: Final = b"erlmesh_shards"
MAX_SHARDS: Final = 4096
"""The first number that is not taken for a shard."""
MAX_TABLES: Final = 64


def shard_of(group: Term) -> tuple[str, int] | None:
    """Return the name and the shard that a group stands for; None for another group."""
    match group:
        case (bytes() | str() as prefix, name, int() as shard) if (
            not isinstance(shard, bool) and 0 <= shard < MAX_SHARDS
        ):
            if prefix in (_PREFIX, _PREFIX.decode()):
                return (plain_text(name) if isinstance(name, (bytes, str, Atom)) else term_text(name)), shard
    return None


class ShardTable:
    """Collects the shards while the groups of a node are listed."""

    def __init__(self) -> None:
        self._holders: dict[str, dict[str, set[int]]] = {}

    def add(self, group: Term, members: Iterable[Pid]) -> bool:
        """Note the members of a group. False if it is no shard's."""
        found = shard_of(group)
        if found is None:
            return False
        name, shard = found
        if name in self._holders or len(self._holders) < MAX_TABLES:
            for pid in members:
                self._holders.setdefault(name, {}).setdefault(pid.node.name, set()).add(shard)
        return True

    def views(self) -> dict[str, ShardView]:
        """Return what was collected, in order of names and shards."""
        return {
            name: {
                "count": max(max(shards) for shards in holders.values()) + 1,
                "holders": {node: sorted(holders[node]) for node in sorted(holders)},
                "taking": [],
            }
            for name, holders in sorted(self._holders.items())
        }
