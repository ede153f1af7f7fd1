"""When a batch of requests is due, which requests are in it, and which are dropped before it.

::

    request                                             ends with
    ───────                                             ─────────
    refused    ``limit`` or ``byte_limit`` is reached   False of ``add``
    waiting ── its caller is gone ──▶ dropped           (nothing)
    waiting ── its time limit ──▶ expired               ``expire``
    waiting ── its batch is due ──▶ running             ``next_batch``
    running ── its time limit ──▶ expired               ``expire``: the batch goes on, its result is not wanted
    running ── the batch is finished ──▶ answered       ``finished``

A batch is due if fewer than ``slots`` batches run, and if it is full, its oldest request has waited for ``wait``
seconds, or nothing more will come (``closing``). Requests keep their order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

__all__ = ["BYTE_LIMIT", "BatchBook", "BatchStatistics", "Entry"]

R = TypeVar("R")

BYTE_LIMIT: Final = 256 * 1024 * 1024
FOREVER: Final = float("inf")


class Entry(Generic[R]):
    """One request in the book."""

    __slots__ = ("arrived", "expires", "request", "size")

    def __init__(self, request: R, arrived: float, expires: float, size: int) -> None:
        self.request = request
        self.arrived = arrived
        self.expires = expires
        self.size = size


class BatchStatistics:
    """What has happened since the start. Times are seconds."""

    def __init__(self) -> None:
        self.requests = 0
        """Requests that were accepted."""
        self.batches = 0
        """Batches that were started."""
        self.batched = 0
        """Requests in these batches."""
        self.largest_batch = 0
        self.dropped = 0
        """Requests whose caller was gone before their batch."""
        self.overloaded = 0
        """Requests that were refused."""
        self.expired = 0
        """Requests that took longer than the time limit."""
        self.failed_batches = 0
        self.waited = 0.0
        """The sum of the times from a request to its batch."""
        self.longest_wait = 0.0


class BatchBook(Generic[R]):
    """The requests of one serving. ``is_wanted(request)`` is false if the caller waits no longer.

    ``limit`` bounds the waiting requests, ``byte_limit`` their sizes together, and ``slots`` the batches at the same
    time. ``time_limit`` is the seconds from a request to its answer; None is any time. Raises ValueError for a limit
    that is not positive.
    """

    def __init__(
        self,
        is_wanted: Callable[[R], bool],
        *,
        batch_size: int,
        wait: float,
        limit: int,
        slots: int,
        time_limit: float | None,
        byte_limit: int = BYTE_LIMIT,
    ) -> None:
        if min(batch_size, limit, byte_limit, slots) < 1:
            raise ValueError("batch_size, limit, byte_limit and the number of threads or processes are 1 or more")
        if wait < 0 or (time_limit is not None and time_limit <= 0):
            raise ValueError("wait is 0 or more seconds, and time_limit more than 0")
        self.batch_size = batch_size
        self.wait = wait
        self.limit = limit
        self.byte_limit = byte_limit
        self.waiting_bytes = 0
        """The sizes of the requests that wait."""
        self.slots = slots
        self.time_limit = FOREVER if time_limit is None else time_limit
        self.statistics = BatchStatistics()
        self.closing = False
        """True if no more requests are expected: batches are due at once."""
        self._is_wanted = is_wanted
        # All requests have the same time limit, so both tables are in the order in which they expire.
        self._waiting: OrderedDict[Entry[R], None] = OrderedDict()
        self._running: OrderedDict[Entry[R], None] = OrderedDict()
        self._batches = 0

    @property
    def waiting(self) -> int:
        """Requests that wait for a batch."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Batches that run."""
        return self._batches

    @property
    def idle(self) -> bool:
        """True if nothing waits or runs."""
        return not self._waiting and not self._batches

    def add(self, request: R, now: float, size: int = 0) -> bool:
        """Enter a request of ``size`` bytes. False if too many wait. If none waits, each size is accepted."""
        if not self._has_place(size):
            # Callers that gave up must not keep the others out. This runs for a refused request only: a full look each
            # time would cost as much as the flood itself, so it stops at the first that is wanted.
            self._drop_unwanted_head()
            if not self._has_place(size):
                self.statistics.overloaded += 1
                return False
        self.statistics.requests += 1
        self._waiting[Entry(request, now, now + self.time_limit, size)] = None
        self.waiting_bytes += size
        return True

    def _has_place(self, size: int) -> bool:
        waiting = len(self._waiting)
        return not waiting or (waiting < self.limit and self.waiting_bytes + size <= self.byte_limit)

    def expire(self, now: float) -> list[R]:
        """Remove and return the requests whose time is over."""
        found: list[R] = []
        for table in (self._running, self._waiting):
            while table and (entry := next(iter(table))).expires <= now:
                del table[entry]
                if table is self._waiting:
                    self.waiting_bytes -= entry.size
                found.append(entry.request)
        self.statistics.expired += len(found)
        return found

    def next_batch(self, now: float) -> list[Entry[R]]:
        """Return the batch that is due now, which runs from now on. An empty list if none is due.

        The caller answers the requests of :meth:`expire` first, and calls this again until it returns an empty list.
        """
        if self._batches >= self.slots:
            return []
        self._drop_unwanted_head()
        if not self._is_due(now):
            return []
        batch: list[Entry[R]] = []
        while self._waiting and len(batch) < self.batch_size:
            entry = self._take_head()
            if self._is_wanted(entry.request):
                batch.append(entry)
            else:
                self.statistics.dropped += 1
        self._batches += 1
        self._running.update(dict.fromkeys(batch))
        self._count(batch, now)
        return batch

    def finished(self, batch: Iterable[Entry[R]]) -> list[R | None]:
        """End a batch. Return its requests; None in the place of one that has expired meanwhile."""
        self._batches -= 1
        found: list[R | None] = []
        for entry in batch:
            is_open = entry in self._running
            self._running.pop(entry, None)
            found.append(entry.request if is_open else None)
        return found

    def is_open(self, entry: Entry[R]) -> bool:
        """True if a running request still waits for its answer: it has not expired, and its caller is there."""
        return entry in self._running and self._is_wanted(entry.request)

    def take_all(self) -> list[R]:
        """Remove and return all requests that have no answer yet: the serving ends."""
        found = [entry.request for table in (self._running, self._waiting) for entry in table]
        self._running.clear()
        self._waiting.clear()
        self.waiting_bytes = 0
        return found

    def next_deadline(self) -> float:
        """When :meth:`expire` or :meth:`next_batch` may have something to return; infinity if never."""
        deadlines = [next(iter(table)).expires for table in (self._running, self._waiting) if table]
        if self._waiting and self._batches < self.slots:
            deadlines.append(next(iter(self._waiting)).arrived + self.wait)
        return min(deadlines, default=FOREVER)

    def _is_due(self, now: float) -> bool:
        if not self._waiting:
            return False
        full = len(self._waiting) >= self.batch_size
        return full or self.closing or next(iter(self._waiting)).arrived + self.wait <= now

    def _drop_unwanted_head(self) -> None:
        while self._waiting and not self._is_wanted(next(iter(self._waiting)).request):
            self._take_head()
            self.statistics.dropped += 1

    def _take_head(self) -> Entry[R]:
        entry, _ = self._waiting.popitem(last=False)
        self.waiting_bytes -= entry.size
        return entry

    def _count(self, batch: list[Entry[R]], now: float) -> None:
        seen = self.statistics
        seen.batches += 1
        seen.batched += len(batch)
        seen.largest_batch = max(seen.largest_batch, len(batch))
        for entry in batch:
            seen.waited += now - entry.arrived
            seen.longest_wait = max(seen.longest_wait, now - entry.arrived)
