"""A store in slices, while messages go on being applied to it. No I/O.

The writer goes from key to key. A message for a key that was written is sent to the reader as a copy, in order with the
slices. A message for a key that is still to be written is in the slices that follow. So nobody waits for the end.

A snapshot is a sequence of bytes, cut into slices. It consists of batches. A batch is its length in four bytes, and a
list of items in the external term format::

    {versions, [{Lineage, Count}]}                                       the first item of a store, and its last one
    {key, Key, Applied, [{Source, Last}], [{Source, Number, Results}]}   a key begins
    {pieces, Terms}                                                      what dump has returned, in order
    {end}                                                                the key is complete

A snapshot has any number of stores. One without items says that its writer has nothing to give.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Generic, TypeVar

from erlmesh.core.sharding.keeper import Keeper, Merge
from erlmesh.core.sharding.messages import NUMBER_LIMIT, is_source
from erlmesh.core.sharding.store import KeyState, Store, Versions
from erlmesh.errors import DecodeError
from erlmesh.etf import decode, encode
from erlmesh.terms import Atom, Pid, Term

__all__ = ["MalformedSnapshot", "SnapshotReader", "SnapshotWriter", "read_versions", "versions_term"]

S = TypeVar("S")

SLICE: Final = 60 * 1024
"""Bytes of a slice at most. With its message it stays below 64 KiB."""
TARGET: Final = 24 * 1024
"""Bytes of a batch that the writer aims at: about a millisecond of work."""
MAX_UNITS: Final = 2048
MAX_BATCH: Final = 64 * 1024 * 1024
MAX_SNAPSHOT: Final = 1024 * 1024 * 1024
"""Bytes that a reader takes from one writer."""

_VERSIONS, _KEY, _PIECES, _END = map(Atom, ("versions", "key", "pieces", "end"))


class MalformedSnapshot(ValueError):
    """A slice that cannot be a part of a snapshot."""


def versions_term(versions: Versions) -> Term:
    """The versions of a store as a term."""
    return list(versions.items())


def read_versions(term: Term) -> Versions:
    """The versions in a term. Raises MalformedSnapshot."""
    if not isinstance(term, list) or len(term) > 1024:
        raise MalformedSnapshot("no versions")
    versions: Versions = {}
    for item in term:
        match item:
            case ((Pid() as pid, int(number)), int(count)):
                versions[pid, number] = count
            case _:
                raise MalformedSnapshot("no versions")
    return versions


class SnapshotWriter(Generic[S]):
    """Writes stores. While it writes a single store, :meth:`copy` says what is to be done with a new message.

    Without ``copies`` the caller sends no copies. Then the reader has nothing that comes while the store is written.
    """

    def __init__(self, keeper: Keeper[S], stores: Sequence[Store[S]], *, copies: bool = True) -> None:
        self._keeper = keeper
        self._copies = copies
        self._stores = list(stores)
        self._store: Store[S] | None = None
        self._waiting: dict[bytes, None] = {}
        """Keys that are still to be written."""
        self._pieces: list[Term] | None = None
        """What is left of the key that is being written."""
        self._position = 0
        self._buffer = bytearray()
        self._deferred: list[Term] = []
        self._units = 64
        self.slices = 0
        """How many slices were written."""
        self.finished = False
        """True if the last slice was written."""
        self.end_versions: Versions = {}
        """What the last store contained at its end."""

    def copy(self, key: bytes, message: Term) -> bool:
        """A message was applied for ``key``. True if its copy ``message`` is to be sent now.

        Otherwise it is in the slices that follow, or :meth:`take_deferred` returns it.
        """
        if not self.slices or key in self._waiting:
            return False
        if self._buffer or self._pieces is not None:
            self._deferred.append(message)
            return False
        return True

    def take_deferred(self) -> list[Term]:
        """The copies that are to be sent now: after each slice, and before the next one."""
        if self._buffer or self._pieces is not None or not self._deferred:
            return []
        copies, self._deferred = self._deferred, []
        return copies

    def next_slice(self) -> tuple[int, bool, bytes]:
        """The number of the slice, whether more follow, and its bytes."""
        if not self._buffer:
            batch = encode(self._next_batch())
            self._buffer += len(batch).to_bytes(4, "big") + batch
            self._units = max(1, min(MAX_UNITS, self._units * TARGET // len(batch) + 1))
        data = bytes(self._buffer[:SLICE])
        del self._buffer[:SLICE]
        self.finished = not self._buffer and not self._stores and self._store is None
        number = self.slices
        self.slices += 1
        return number, not self.finished, data

    def _next_batch(self) -> list[Term]:
        items: list[Term] = []
        units = self._units
        while units > 0:
            if self._store is None:
                if not self._stores:
                    break
                self._store = self._stores.pop(0)
                self._waiting = dict.fromkeys(self._store.keys)
                self.end_versions = dict(self._store.versions)
                items.append((_VERSIONS, versions_term(self.end_versions)))
            if self._pieces is not None:
                units -= self._write_pieces(items, units)
            elif self._waiting:
                units -= self._write_key(items, self._store)
            elif self._deferred:
                break  # The end says which messages the reader has, so their copies come first.
            else:
                if self._copies:
                    self.end_versions = dict(self._store.versions)
                items.append((_VERSIONS, versions_term(self.end_versions)))
                self._store = None
        return items

    def _write_key(self, items: list[Term], store: Store[S]) -> int:
        key = next(iter(self._waiting))
        del self._waiting[key]
        entry = store.keys[key]
        lasts: list[Term] = list(entry.lasts.items())
        results: list[Term] = [(source, number, terms) for (source, number), terms in entry.results.items()]
        items.append((_KEY, key, entry.applied, lasts, results))
        self._pieces, self._position = list(self._keeper.dump(entry.state)), 0
        return 1 + len(lasts) + len(results)

    def _write_pieces(self, items: list[Term], units: int) -> int:
        assert self._pieces is not None
        part = self._pieces[self._position : self._position + units]
        self._position += len(part)
        if part:
            items.append((_PIECES, part))
        if self._position >= len(self._pieces):
            items.append((_END,))
            self._pieces = None
        return len(part)


class SnapshotReader(Generic[S]):
    """Reads the slices of one writer, and applies the copies that come between them."""

    def __init__(self, keeper: Keeper[S], merge: Merge[S] | None = None) -> None:
        self._keeper = keeper
        self._merge = merge
        self.stores: list[Store[S]] = []
        self._open: Store[S] | None = None
        """The store that is being read."""
        self._key: bytes | None = None
        self._entry: tuple[int, dict[Term, int], dict[tuple[Term, int], list[Term]]] = (0, {}, {})
        self._pieces: list[Term] = []
        self._buffer = bytearray()
        self._next = 0
        self._size = 0

    def feed(self, number: int, more: bool, data: bytes) -> bool:
        """Read a slice. True if the snapshot is complete. Raises MalformedSnapshot, and what ``load`` raises."""
        if number != self._next:
            raise MalformedSnapshot(f"slice {number} instead of {self._next}")
        self._next += 1
        self._size += len(data)
        if self._size > MAX_SNAPSHOT:
            raise MalformedSnapshot(f"more than {MAX_SNAPSHOT} bytes")
        self._buffer += data
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > MAX_BATCH:
                raise MalformedSnapshot(f"a batch of {length} bytes")
            if len(self._buffer) < 4 + length:
                break
            batch = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            self._read_batch(batch)
        if more:
            return False
        if self._buffer or self._open is not None:
            raise MalformedSnapshot("it ends too early")
        return True

    def copied_store(self) -> Store[S] | None:
        """The store that copies of new messages are to be applied to."""
        return self._open

    def _read_batch(self, batch: bytes) -> None:
        try:
            items = decode(batch)
        except DecodeError as error:
            raise MalformedSnapshot(str(error)) from error
        if not isinstance(items, list):
            raise MalformedSnapshot("no list of items")
        for item in items:
            self._read_item(item)

    def _read_item(self, item: Term) -> None:
        if not isinstance(item, tuple) or not item:
            raise MalformedSnapshot("no item")
        match item:
            case (tag, versions) if tag is _VERSIONS and self._key is None:
                self._read_versions(read_versions(versions))
            case (tag, bytes(key), int(applied), list(lasts), list(results)) if (
                tag is _KEY and self._open is not None and self._key is None
            ):
                self._key, self._pieces = key, []
                self._entry = applied, _read_lasts(lasts), _read_results(results)
            case (tag, list(terms)) if tag is _PIECES and self._key is not None:
                self._pieces += terms
            case (tag,) if tag is _END and self._key is not None and self._open is not None:
                entry = KeyState(self._keeper.load(self._pieces))
                entry.applied, entry.lasts, entry.results = self._entry
                self._open.keys[self._key] = entry
                self._key, self._pieces = None, []
            case _:
                raise MalformedSnapshot("an item that does not fit")

    def _read_versions(self, versions: Versions) -> None:
        if self._open is None:
            self._open = Store(self._keeper, self._merge)
            self._open.versions = versions
        else:
            self._open.versions = versions
            self.stores.append(self._open)
            self._open = None


def _read_lasts(terms: list[Term]) -> dict[Term, int]:
    lasts: dict[Term, int] = {}
    for term in terms:
        match term:
            case (source, int(last)) if is_source(source) and 0 < last < NUMBER_LIMIT:
                lasts[source] = last
            case _:
                raise MalformedSnapshot("no last number")
    return lasts


def _read_results(terms: list[Term]) -> dict[tuple[Term, int], list[Term]]:
    results: dict[tuple[Term, int], list[Term]] = {}
    for term in terms:
        match term:
            case (source, int(number), list(values)) if is_source(source):
                results[source, number] = values
            case _:
                raise MalformedSnapshot("no results")
    return results
