"""What the replicas of a shard exchange (phoenix_pubsub: ``tracker/state.ex``).

A *replica* is one life of a tracker shard on one node. Each replica counts its own changes: its *clock*. A change has
the *tag* of its replica and clock. A *context* says up to which clock all changes of a replica are known. A *cloud* has
the clocks of changes that are known beyond that, with gaps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

from erlmesh.records import field, record
from erlmesh.terms import Atom, Map, Pid, Term

__all__ = ["Clouds", "Context", "Delta", "Entry", "FullState", "ReplicaRef", "Tag", "contiguous_range"]

ReplicaRef: TypeAlias = "tuple[Atom, int]"
"""``{Name, Vsn}``: the node's name, and a number that is greater in each life of the node."""
Tag: TypeAlias = "tuple[ReplicaRef, int]"
Context: TypeAlias = "dict[ReplicaRef, int]"
Clouds: TypeAlias = "dict[ReplicaRef, set[int]]"


class Entry(NamedTuple):
    """One tracked process under one key. On the wire it is this tuple."""

    pid: Pid
    topic: bytes
    key: Term
    meta: Map
    """Has ``phx_ref``, a unique binary; after an update also ``phx_ref_prev``."""


@record(eq=False)
class Delta:
    """Changes: the entries that were added, and the tags of all changes, also of entries that were removed."""

    values: dict[Tag, Entry] = field(default_factory=dict)
    clouds: Clouds = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number of entries and tags."""
        return len(self.values) + sum(map(len, self.clouds.values()))

    def add(self, ref: ReplicaRef, clock: int, entry: Entry) -> None:
        """Note a new entry."""
        self.values[ref, clock] = entry
        self.note(ref, clock)

    def note(self, ref: ReplicaRef, clock: int) -> None:
        """Note a change without an entry."""
        self.clouds.setdefault(ref, set()).add(clock)

    def remove(self, ref: ReplicaRef, clock: int) -> None:
        """Note that an entry was removed."""
        self.values.pop((ref, clock), None)
        self.note(ref, clock)

    def merge(self, newer: Delta) -> None:
        """Add the changes of ``newer``. An entry that one of the two has removed stays removed."""
        # Both rules look at the changes of one side before the other is added.
        removed_now = [tag for tag in self.values if tag[1] in newer.clouds.get(tag[0], ()) and tag not in newer.values]
        added = {tag: entry for tag, entry in newer.values.items() if tag[1] not in self.clouds.get(tag[0], ())}
        for tag in removed_now:
            del self.values[tag]
        self.values |= added
        for ref, cloud in newer.clouds.items():
            self.clouds.setdefault(ref, set()).update(cloud)

    def copy(self) -> Delta:
        """A copy that can be changed on its own."""
        return Delta(dict(self.values), {ref: set(cloud) for ref, cloud in self.clouds.items()})

    def forget(self, ref: ReplicaRef) -> None:
        """Remove all changes of a replica."""
        if self.clouds.pop(ref, None) is not None:
            self.values = {tag: entry for tag, entry in self.values.items() if tag[0] != ref}

    def restricted(self, refs: Iterable[ReplicaRef]) -> Delta:
        """The changes of these replicas."""
        wanted = set(refs)
        return Delta(
            {tag: entry for tag, entry in self.values.items() if tag[0] in wanted},
            {ref: cloud for ref, cloud in self.clouds.items() if ref in wanted},
        )


@record(eq=False)
class FullState:
    """All that a replica knows of some replicas. An entry that is covered by ``context`` or ``clouds`` and is not among
    ``values`` was removed.
    """

    context: Context
    clouds: Clouds
    values: dict[Tag, Entry]

    def restricted(self, refs: Iterable[ReplicaRef]) -> FullState:
        """What it says of these replicas."""
        wanted = set(refs)
        return FullState(
            {ref: clock for ref, clock in self.context.items() if ref in wanted},
            {ref: cloud for ref, cloud in self.clouds.items() if ref in wanted},
            {tag: entry for tag, entry in self.values.items() if tag[0] in wanted},
        )


def contiguous_range(clouds: Mapping[ReplicaRef, set[int]]) -> tuple[Context, Context]:
    """Return the last run of clocks without a gap of each replica: the clock before it, and its last clock."""
    starts: Context = {}
    ends: Context = {}
    for ref, cloud in clouds.items():
        if cloud:
            start = end = max(cloud)
            while start in cloud:
                start -= 1
            starts[ref], ends[ref] = start, end
    return starts, ends
