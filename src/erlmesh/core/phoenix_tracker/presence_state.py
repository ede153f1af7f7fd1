"""The entries of all replicas of one shard, as one replica knows them: a set without conflicts (an ORSWOT).

Only a replica itself adds and removes its entries. Each change has the next clock of the replica::

    track      clock + 1: the tag of the new entry
    untrack    clock + 1; the tag of the removed entry is noted once more, without an entry
    update     both, in one step: two clocks

A replica merges what others send. A tag that is known, and whose entry the sender does not have, is a removal. So the
order of messages does not count, and a message may arrive twice or never: then a later answer to a request closes the
gap.

A replica that is *down* keeps its entries here, but they are not listed. A replica that is *forgotten* has none. What
others still say of it is ignored, because it is not in the context any more.

Source: phoenix_pubsub, ``tracker/state.ex``.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from typing import Final

from erlmesh.core.phoenix_tracker.entries import Clouds, Context, Delta, Entry, FullState, ReplicaRef, Tag
from erlmesh.core.phoenix_tracker.entry_index import EntryIndex
from erlmesh.etf import encode
from erlmesh.records import field, record
from erlmesh.terms import Pid, Term, exact_key

__all__ = ["Changes", "PresenceState"]

MAX_ENTRIES: Final = 1_000_000
"""Entries of other replicas in one shard."""
MAX_BYTES: Final = 256 << 20
"""Bytes of their keys and metas, encoded."""
MAX_GAPS: Final = 100_000
"""Clocks of one replica that are known beyond a gap. A full state closes the gap."""

OwnKey = tuple[Pid, bytes, Hashable]


@record(eq=False)
class Changes:
    """What a list of the entries shows differently now. An update is a leave and a join."""

    joins: list[Entry] = field(default_factory=list)
    leaves: list[Entry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.joins or self.leaves)


class PresenceState:
    """The state of the replica ``ref``. Methods that change it return what a list shows differently."""

    def __init__(self, ref: ReplicaRef, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self.ref = ref
        self.context: Context = {ref: 0}
        """A replica that is not in it is unknown, and nothing is taken of it."""
        self.clouds: Clouds = {}
        self.refused = 0
        """Entries that were not taken, because there were too many."""
        self.incomplete: dict[ReplicaRef, None] = {}
        """The replicas of these entries. Nothing is passed on of them: what lacks an entry would be a removal."""
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._count = 0
        self._entries: dict[ReplicaRef, dict[int, Entry]] = {ref: {}}
        self._index = EntryIndex()
        self._down: dict[ReplicaRef, None] = {}
        self._own_clocks: dict[OwnKey, int] = {}
        self._own_keys: dict[Pid, dict[OwnKey, None]] = {}
        self._delta = Delta()

    # Queries

    def list(self, topic: bytes) -> Iterator[Entry]:
        """The entries of a topic, without those of replicas that are down."""
        return self._visible(self._index.of_topic(topic))

    def list_key(self, topic: bytes, key: Term) -> Iterator[Entry]:
        """The entries of one key of a topic."""
        return self._visible(self._index.of_key(topic, key))

    def topics(self) -> Iterator[bytes]:
        """The topics that have entries, also of replicas that are down."""
        return iter(self._index.topics())

    def own(self, pid: Pid, topic: bytes, key: Term) -> Entry | None:
        """The entry that this replica tracks."""
        clock = self._own_clocks.get((pid, topic, exact_key(key)))
        return None if clock is None else self._entries[self.ref][clock]

    def is_tracked(self, pid: Pid) -> bool:
        """True if this replica tracks the process."""
        return pid in self._own_keys

    def tracked_pids(self) -> Iterable[Pid]:
        """The processes that this replica tracks."""
        return self._own_keys.keys()

    def clocks(self) -> Context:
        """What this replica has of the replicas that are not down."""
        return {ref: clock for ref, clock in self.context.items() if ref not in self._down}

    def told_clocks(self) -> Context:
        """Those of :meth:`clocks` that others may ask for."""
        return {ref: clock for ref, clock in self.clocks().items() if ref not in self.incomplete}

    def __len__(self) -> int:
        """The number of entries of other replicas."""
        return self._count

    def _visible(self, found: Iterable[tuple[Tag, Entry]]) -> Iterator[Entry]:
        down = self._down
        return (entry for tag, entry in found if tag[0] not in down)

    # Changes of this replica

    def track(self, entry: Entry) -> Changes:
        """Add an entry. The caller must know that there is none with its process, topic and key."""
        self._add_own(entry)
        return Changes(joins=[entry])

    def update(self, entry: Entry) -> Changes:
        """Replace the entry with the same process, topic and key. There must be one."""
        old = self._remove_own((entry.pid, entry.topic, exact_key(entry.key)))
        self._add_own(entry)
        return Changes([entry], [old])

    def untrack(self, pid: Pid, topic: bytes, key: Term) -> Changes:
        """Remove an entry, if there is one."""
        own_key = (pid, topic, exact_key(key))
        return Changes(leaves=[self._remove_own(own_key)] if own_key in self._own_clocks else [])

    def untrack_pid(self, pid: Pid) -> Changes:
        """Remove all entries of a process."""
        return Changes(leaves=[self._remove_own(own_key) for own_key in [*self._own_keys.get(pid, ())]])

    def take_delta(self) -> Delta | None:
        """Return the changes since the last call; None if there are none."""
        if not self._delta.clouds:
            return None
        delta, self._delta = self._delta, Delta()
        return delta

    def _tick(self) -> int:
        clock = self.context[self.ref] = self.context[self.ref] + 1
        self._delta.note(self.ref, clock)
        return clock

    def _add_own(self, entry: Entry) -> None:
        clock = self._tick()
        own_key = (entry.pid, entry.topic, exact_key(entry.key))
        self._own_clocks[own_key] = clock
        self._own_keys.setdefault(entry.pid, {})[own_key] = None
        self._entries[self.ref][clock] = entry
        self._index.add((self.ref, clock), entry)
        self._delta.values[self.ref, clock] = entry

    def _remove_own(self, own_key: OwnKey) -> Entry:
        clock = self._own_clocks.pop(own_key)
        keys = self._own_keys[own_key[0]]
        del keys[own_key]
        if not keys:
            del self._own_keys[own_key[0]]
        entry = self._entries[self.ref].pop(clock)
        self._index.remove((self.ref, clock), entry)
        self._delta.remove(self.ref, clock)
        self._tick()
        return entry

    # What other replicas say

    def merge_delta(self, delta: Delta) -> Changes:
        """Merge the changes that another replica has sent."""
        changes = Changes()
        known = {ref: cloud for ref, cloud in delta.clouds.items() if self._takes(ref, cloud)}
        for ref, cloud in known.items():
            mine = self._entries[ref]
            removed = [clock for clock in cloud if clock in mine and (ref, clock) not in delta.values]
            self._remove_others(ref, removed, changes)
        for (ref, clock), entry in delta.values.items():
            # An entry without a tag in a cloud would be taken again with each message.
            if clock in known.get(ref, ()):
                self._add_other(ref, clock, entry, changes)
        self._unite(known)
        return changes

    def merge_full(self, full: FullState) -> Changes:
        """Merge all that another replica knows."""
        changes = Changes()
        known = {ref: full.clouds.get(ref, set()) for ref in (full.context.keys() | full.clouds.keys())}
        known = {ref: cloud for ref, cloud in known.items() if self._takes(ref, cloud, full.context.get(ref, 0))}
        for ref, cloud in known.items():
            stated = full.context.get(ref, 0)
            mine = self._entries[ref]
            covered = [c for c in mine if (c <= stated or c in cloud) and (ref, c) not in full.values]
            self._remove_others(ref, covered, changes)
        for (ref, clock), entry in full.values.items():
            if ref in known and (clock <= full.context.get(ref, 0) or clock in known[ref]):
                self._add_other(ref, clock, entry, changes)
        self._unite(known, full.context)
        return changes

    def known_part(self, delta: Delta) -> Delta:
        """Return what this replica has taken of a merged delta of others, to pass it on.

        A tag that was not taken would be a removal for the others. An entry that was not taken would only be kept.
        """
        part = Delta()
        for ref, cloud in delta.clouds.items():
            if ref == self.ref or ref not in self.context or ref in self.incomplete:
                continue
            clock, beyond = self.context[ref], self.clouds.get(ref, ())
            if noted := {each for each in cloud if each <= clock or each in beyond}:
                part.clouds[ref] = noted
                mine = self._entries[ref]
                part.values |= {(ref, each): mine[each] for each in noted if each in mine}
        return part

    def extract(self, asker: ReplicaRef, known: Iterable[ReplicaRef]) -> FullState:
        """All that this replica knows of the replicas ``known``, for the replica ``asker``."""
        refs = [ref for ref in known if ref in self.context and ref not in self.incomplete]
        return FullState(
            {ref: self.context[ref] for ref in refs},
            {ref: self.clouds[ref] for ref in refs if self.clouds.get(ref)},
            {(ref, clock): entry for ref in refs if ref != asker for clock, entry in self._entries[ref].items()},
        )

    def _takes(self, ref: ReplicaRef, cloud: set[int], stated: int = 0) -> bool:
        """True if what others say of ``ref`` is merged. A replica knows its own entries best."""
        if ref == self.ref or ref not in self.context:
            return False
        if len(cloud) + len(self.clouds.get(ref, ())) <= MAX_GAPS:
            return True
        return len(self._united(ref, cloud, stated)[1]) <= MAX_GAPS

    def _add_other(self, ref: ReplicaRef, clock: int, entry: Entry, changes: Changes) -> None:
        if clock <= self.context[ref] or clock in self.clouds.get(ref, ()):
            return  # It is known. If it is not here, it was removed.
        size = _size(entry)
        if self._count >= self._max_entries or self._bytes + size > self._max_bytes:
            self.refused += 1
            self.incomplete[ref] = None
            return
        self._count += 1
        self._bytes += size
        self._entries[ref][clock] = entry
        self._index.add((ref, clock), entry)
        if ref not in self._down:
            changes.joins.append(entry)

    def _remove_others(self, ref: ReplicaRef, clocks: Iterable[int], changes: Changes) -> None:
        for clock in sorted(clocks):
            entry = self._drop(ref, clock)
            # Replicas that do not hear this one's messages may hear ours.
            self._delta.remove(ref, clock)
            if ref not in self._down:
                changes.leaves.append(entry)

    def _drop(self, ref: ReplicaRef, clock: int) -> Entry:
        entry = self._entries[ref].pop(clock)
        self._index.remove((ref, clock), entry)
        self._count -= 1
        self._bytes -= _size(entry)
        return entry

    def _unite(self, clouds: Clouds, context: Context | None = None) -> None:
        """Note the tags of ``clouds``, and all up to the clocks of ``context``, as known."""
        for ref, cloud in clouds.items():
            self.context[ref], beyond = self._united(ref, cloud, 0 if context is None else context.get(ref, 0))
            if beyond:
                self.clouds[ref] = beyond
            else:
                self.clouds.pop(ref, None)

    def _united(self, ref: ReplicaRef, cloud: set[int], stated: int) -> tuple[int, set[int]]:
        """Return the clock up to which all would be known, and the clocks beyond the gap after it."""
        tags = self.clouds.get(ref, set()) | cloud
        clock = max(self.context[ref], stated)
        while clock + 1 in tags:
            clock += 1
        return clock, {each for each in tags if each > clock}

    # Replicas

    def replica_up(self, ref: ReplicaRef) -> Changes:
        """A replica is up: its entries are listed, and what others say of it is taken from now on."""
        self.context.setdefault(ref, 0)
        entries = self._entries.setdefault(ref, {})
        if ref not in self._down:
            return Changes()
        del self._down[ref]
        return Changes(joins=[*entries.values()])

    def replica_down(self, ref: ReplicaRef) -> Changes:
        """A replica is down: its entries are kept, and are not listed."""
        if ref in self._down or ref not in self.context:
            return Changes()
        self._down[ref] = None
        return Changes(leaves=[*self._entries[ref].values()])

    def forget(self, ref: ReplicaRef) -> Changes:
        """A replica does not come back: nothing of it stays."""
        changes = self.replica_down(ref)
        for clock in [*self._entries.get(ref, ())]:
            self._drop(ref, clock)
        self._entries.pop(ref, None)
        self._down.pop(ref, None)
        self.incomplete.pop(ref, None)
        self.context.pop(ref, None)
        self.clouds.pop(ref, None)
        self._delta.forget(ref)
        return changes


def _size(entry: Entry) -> int:
    return len(entry.topic) + len(encode((entry.key, entry.meta)))
