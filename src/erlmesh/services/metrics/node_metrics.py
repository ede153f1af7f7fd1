"""The metrics of one node, for any thread.

The tables of a node belong to its event loop. A thread that scrapes asks the loop and waits for a moment. If the loop
is blocked, the thread takes the last values, with their age and the time for which the loop has been blocked. So a
scrape also answers then. It cannot answer while some code holds the GIL, because no thread of Python runs meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Final

from erlmesh.services.metrics.call_durations import CallDurations
from erlmesh.services.metrics.loop_lag import LoopLag
from erlmesh.services.metrics.reading import build_labels, read_tables
from erlmesh.services.metrics.values import Values
from erlmesh.terms.foreign_text import printable

if TYPE_CHECKING:
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.node_services import NodeServices

__all__ = ["NodeMetrics", "read_all"]

ANSWER_TIMEOUT: Final = 1.0
"""Seconds that the loop has for a scrape of another thread."""


class NodeMetrics:
    """Reads the values of one node from now on until :meth:`close`, or until the node stops."""

    def __init__(self, runtime: Runtime, services: NodeServices) -> None:
        """The event loop of the node calls this, while the node runs."""
        self._closed = False
        self._process_id = os.getpid()
        self._runtime = runtime
        self._services = services
        self._node = printable(runtime.name)
        self._loop = asyncio.get_running_loop()
        # All registries of a node share it.
        found = runtime.state.counters.durations
        self._durations = found if isinstance(found, CallDurations) else CallDurations()
        self._durations.users += 1
        runtime.state.counters.durations = self._durations
        self._lag = LoopLag(lambda: self.is_open, self._durations.count_all)
        self._started = time.time() - (runtime.now() - runtime.started_at)
        self._last = Values(self._node)
        self._last_at = time.monotonic()
        self._lock = threading.Lock()
        self._asked: threading.Event | None = None
        """Set when the loop has read the tables. None while no thread waits for that."""

    @property
    def is_in_this_process(self) -> bool:
        """False in a forked child, which has a copy of the registry, but not the node and its event loop."""
        return self._process_id == os.getpid()

    @property
    def is_open(self) -> bool:
        """False after :meth:`close`, and when the node stops."""
        return not self._closed and not self._runtime.is_stopping

    def close(self) -> None:
        """Stop measuring. The event loop calls this."""
        if not self._closed:
            self._closed = True
            self._lag.close()
            self._durations.users -= 1
            if not self._durations.users:
                self._runtime.state.counters.durations = None

    def ask(self) -> threading.Event | None:
        """Let the event loop read the tables. Return what is set when it has; None if this thread need not wait."""
        return self._ask_loop() if self.is_open and not _is_running(self._loop) else None

    def read(self, asked: threading.Event | None, until: float) -> Values:
        """Return the values now, or the last ones if the event loop does not respond ``until`` that time.

        ``asked`` is the result of :meth:`ask`, ``until`` a time of ``time.monotonic``. Any thread may call this.
        """
        if not self.is_open:
            return self._stopped()
        if asked is None:
            return self._read_in_loop()
        if asked.wait(max(0.0, until - time.monotonic())):
            return self._last
        return self._stopped() if self._loop.is_closed() or not self.is_open else self._blocked()

    def _ask_loop(self) -> threading.Event:
        """Let the loop read the tables. All threads that ask meanwhile wait for the same reading."""
        with self._lock:
            if self._asked is None:
                self._asked = threading.Event()
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._answer)
            return self._asked

    def _answer(self) -> None:
        try:
            if self.is_open:
                self._read_in_loop()
        finally:
            with self._lock:
                asked, self._asked = self._asked, None
            if asked is not None:
                asked.set()

    def _read_in_loop(self) -> Values:
        values = self._new_values(up=1)
        values.add("erlmesh_metrics_age_seconds", 0.0)
        read_tables(values, self._runtime, self._services)
        values.add("erlmesh_event_loop_blocked_seconds", 0.0)
        values.add_durations("erlmesh_event_loop_lag_seconds", self._lag.counts)
        for (kind, outcome), counts in self._durations.by_outcome().items():
            values.add_durations("erlmesh_call_duration_seconds", counts, kind, outcome)
        for (kind, outcome), counts in self._durations.served_by_outcome().items():
            values.add_durations("erlmesh_served_call_duration_seconds", counts, kind, outcome)
        self._last, self._last_at = values, time.monotonic()
        return values

    def _blocked(self) -> Values:
        """The last values. The loop has not answered in time."""
        values = Values(self._node)
        values.numbers, values.durations = dict(self._last.numbers), self._last.durations
        if not values.numbers:
            values = self._new_values(up=1)
        values.replace("erlmesh_metrics_age_seconds", time.monotonic() - self._last_at)
        values.replace("erlmesh_event_loop_blocked_seconds", self._blocked_for())
        return values

    def _blocked_for(self) -> float:
        return max(self._runtime.loop_blocked_for(), ANSWER_TIMEOUT)

    def _stopped(self) -> Values:
        return self._new_values(up=0)

    def _new_values(self, *, up: int) -> Values:
        values = Values(self._node)
        values.add("erlmesh_node_up", up)
        values.add("erlmesh_build_info", 1, *build_labels())
        values.add("erlmesh_node_start_time_seconds", self._started)
        return values


def read_all(nodes: list[NodeMetrics]) -> list[Values]:
    """Return the values of several nodes. All that do not respond take one second together. For any thread."""
    until = time.monotonic() + ANSWER_TIMEOUT
    asked = [(node, node.ask()) for node in nodes]
    return [node.read(event, until) for node, event in asked]


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this thread runs ``loop`` now."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
