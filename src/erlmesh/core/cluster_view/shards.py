"""Which node holds which shard, read from the names of groups; see :mod:`erlmesh.core.sharding.names`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from erlmesh.core.cluster_view.shapes import ShardView
from erlmesh.core.cluster_view.texts import name_text, term_name
from erlmesh.core.sharding.names import TAG
from erlmesh.terms import Atom, Pid, Term

__all__ = ["MAX_SHARDS", "ShardTable", "is_inner_group", "shard_of"]

MAX_SHARDS: Final = 4096
"""The first number that is not taken for a shard."""
MAX_TABLES: Final = 64


def shard_of(group: Term) -> tuple[str, int] | None:
    """Return the name and the shard whose holders are in this group; None for another group."""
    match group:
        case (bytes() | str() as tag, name, int() as shard) if (
            _is_tag(tag) and not isinstance(shard, bool) and 0 <= shard < MAX_SHARDS
        ):
            return _shown(name), shard
    return None


def _shown(name: Term) -> str:
    """Return a name as it was given, without the notation of a term."""
    if isinstance(name, bytes):
        return name_text(name.decode(errors="replace"))
    if isinstance(name, Atom):
        return name_text(name.name)
    return name_text(name) if isinstance(name, str) else term_name(name)


def is_inner_group(group: Term) -> bool:
    """Whether a group serves the shards alone. There may be one for each shard, so it is not listed as a group.

    The candidates for the shards of a name are a group as any other.
    """
    return isinstance(group, tuple) and len(group) > 2 and _is_tag(group[0])


def _is_tag(tag: Term) -> bool:
    return isinstance(tag, (bytes, str)) and tag in (TAG, TAG.decode())


class ShardTable:
    """Collects the shards while the groups of a node are listed."""

    def __init__(self) -> None:
        self._holders: dict[str, dict[str, set[int]]] = {}

    def add(self, group: Term, members: Iterable[Pid]) -> bool:
        """Note the members of a group. False if it is to be listed as a group."""
        found = shard_of(group)
        if found is None:
            return is_inner_group(group)
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
