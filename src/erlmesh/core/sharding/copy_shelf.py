"""The copies of one shard's state that a node has for others. No I/O.

::

    incomplete ──the last slice──► following ──its holder is gone──► orphan ──the node takes the shard──► its own
                                       └──────── the holder says so ────┴──► forgotten

A copy follows one holder. It becomes an *orphan* when that holder is gone. Only a holder's word removes it, and only if
that holder says that it has all messages of the copy. So a state that is in one place only is never dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final, Generic, TypeVar

from erlmesh.core.sharding.keeper import Keeper, Merge, Origin
from erlmesh.core.sharding.snapshot import MalformedSnapshot, SnapshotReader
from erlmesh.core.sharding.store import Lineage, Store, UnsendableResults, Versions, includes
from erlmesh.terms import Pid, Term

__all__ = ["MAX_ORPHANS", "CopyShelf"]

S = TypeVar("S")

MAX_ORPHANS: Final = 8
"""Orphans that are kept apart. More are merged at once, which takes the time of the user's ``merge``."""


class CopyShelf(Generic[S]):
    """The copies. A holder is named by its pid.

    ``on_lost(key, count, error)`` is called for messages that a merge loses. ``error`` is what ``merge`` has raised.
    """

    def __init__(
        self, keeper: Keeper[S], merge: Merge[S] | None, on_lost: Callable[[bytes, int, Exception | None], object]
    ) -> None:
        self._keeper = keeper
        self._merge = merge
        self._on_lost = on_lost
        self._readers: dict[Pid, tuple[int, SnapshotReader[S]]] = {}
        self._following: dict[Pid, Store[S]] = {}
        self._orphans: list[Store[S]] = []
        self._frozen: dict[Pid, None] = {}
        """Holders whose new messages do not belong to the copy that follows them: a new snapshot is to come."""
        self._known: dict[Pid, Versions] = {}
        """What present holders have said that they have. A copy with no more than that need not become an orphan."""
        self._missed = False
        """A holder has gone, and this node has no complete copy of its state."""

    def __bool__(self) -> bool:
        """Whether there is a complete copy."""
        return bool(self._following or self._orphans)

    @property
    def is_fresh(self) -> bool:
        """True if the copies contain all that the last holders have acknowledged."""
        return bool(self._orphans) and not self._missed

    @property
    def has_orphans(self) -> bool:
        """Whether there is a copy whose holder is gone."""
        return bool(self._orphans)

    def stores(self) -> list[Store[S]]:
        """All complete copies."""
        return [*self._orphans, *self._following.values()]

    # What holders send

    def read_slice(self, giver: Pid, stream: int, number: int, more: bool, data: bytes) -> list[Store[S]] | None:
        """Read a slice. Return the stores of a complete snapshot, or None.

        Raises MalformedSnapshot, and what the keeper's ``load`` raises. Then the snapshot is dropped.
        """
        if number == 0:
            self._frozen[giver] = None
            self._readers[giver] = stream, SnapshotReader(self._keeper, self._merge)
        current, reader = self._readers.get(giver, (None, None))
        if reader is None or current != stream:
            raise MalformedSnapshot("a slice of no snapshot")
        try:
            if not reader.feed(number, more, data):
                return None
        except Exception:
            del self._readers[giver]
            raise
        del self._readers[giver]
        return reader.stores

    def stream_of(self, giver: Pid) -> int | None:
        """The number of the incomplete snapshot of ``giver``."""
        return self._readers[giver][0] if giver in self._readers else None

    def drop_reader(self, giver: Pid) -> None:
        """Drop an incomplete snapshot."""
        self._readers.pop(giver, None)

    def follow(self, holder: Pid, store: Store[S], *, alone: bool) -> None:
        """``store`` is a complete copy of what ``holder`` has. ``alone``: nobody else holds the shard."""
        self._following[holder] = store
        self._frozen.pop(holder, None)
        self._orphans = [each for each in self._orphans if not includes(store.versions, each.versions)]
        if alone:
            self._missed = False

    def adopt(self, holder: Pid, versions: Versions, lineage: Lineage, *, alone: bool) -> bool:
        """Let a copy with exactly these versions follow ``holder``. False if there is none."""
        found = next((each for each in self.stores() if each.versions == versions), None)
        if found is None:
            self._frozen[holder] = None
            return False
        self._following = {pid: each for pid, each in self._following.items() if each is not found}
        self._orphans = [each for each in self._orphans if each is not found]
        self._readers.pop(holder, None)
        found.start_lineage(lineage)
        self.follow(holder, found, alone=alone)
        return True

    def copy(self, holder: Pid, count: int, message: Term, at: Origin) -> bool:
        """Apply a message that ``holder`` has applied. True if a complete copy has it now.

        Raises what ``apply`` raises. Then the copy is dropped: it cannot become equal to what the holder has.
        """
        _, reader = self._readers.get(holder, (None, None))
        store = self._copied_store(holder)
        if store is None:
            return False
        try:
            store.apply(message, at)
        except UnsendableResults:
            pass  # As at the holder, which logs it.
        except Exception:
            # A complete copy stays while a new one is on its way: it has all that was acknowledged before.
            (self._following if reader is None else self._readers).pop(holder)
            raise
        if reader is not None:
            return False
        lineage = next(reversed(store.versions))
        store.versions[lineage] = count
        return True

    def _copied_store(self, holder: Pid) -> Store[S] | None:
        """The store that new messages of ``holder`` belong to."""
        _, reader = self._readers.get(holder, (None, None))
        if reader is not None:
            return reader.copied_store()
        return None if holder in self._frozen else self._following.get(holder)

    def forget_results(self, holder: Pid, key: bytes, source: Term, number: int) -> None:
        """The receivers have these results."""
        store = self._copied_store(holder)
        if store is not None:
            store.forget_results(key, source, number)

    def forget(self, holder: Pid, versions: Versions) -> None:
        """Forget what a holder with these versions has: orphans, and the copy that follows it.

        A copy that follows another holder is forgotten when this node hears that the other one is gone.
        """
        self._known[holder] = versions
        self._readers.pop(holder, None)
        following = self._following.get(holder)
        if following is not None and includes(versions, following.versions):
            del self._following[holder]
        self._orphans = [each for each in self._orphans if not includes(versions, each.versions)]

    # Holders that come and go

    def holder_left(self, holder: Pid) -> Store[S] | None:
        """Return the complete copy of what ``holder`` had, without keeping it. None if there is none."""
        self._readers.pop(holder, None)
        self._known.pop(holder, None)
        is_current = holder not in self._frozen
        self._frozen.pop(holder, None)
        store = self._following.pop(holder, None)
        if store is None or not is_current:
            self._missed = True
        return store

    def add_orphan(self, store: Store[S]) -> bool:
        """Keep a state whose holder is gone. False if all of it is known to others, or in another copy."""
        present = [*self._known.values(), *(each.versions for each in self.stores())]
        if any(includes(versions, store.versions) for versions in present):
            return False
        self._orphans = [each for each in self._orphans if not includes(store.versions, each.versions)]
        self._orphans.append(store)
        while len(self._orphans) > MAX_ORPHANS:
            first, second = self._orphans[:2]
            for key, entry in second.keys.items():
                lost, error = first.merge_key(key, entry)
                if lost or error is not None:
                    self._on_lost(key, lost, error)
            first.include(second.versions)
            del self._orphans[1]
        return True

    def missed(self) -> None:
        """Others may have held the shard and acknowledged messages unseen."""
        self._missed = True

    def take(self, holders: Container[Pid]) -> list[Store[S]]:
        """Remove and return the copies for a node that takes the shard. Those that follow ``holders`` stay."""
        taken = self._orphans + [store for pid, store in self._following.items() if pid not in holders]
        self._orphans = []
        self._following = {pid: store for pid, store in self._following.items() if pid in holders}
        self._missed = False
        return taken
