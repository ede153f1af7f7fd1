"""Speaks for nodes while somebody's code holds their event loop: ticks, and a word about why nothing else comes.

One thread a loop, for as long as there are nodes on it. It wakes once a second (more often for tick times below eight
seconds), asks the loop for an answer, and looks whether a peer must hear us; what it makes of that is decided in
:mod:`erlmesh.core.loop_watchdog`. It needs the interpreter now and then: a C function that keeps it to itself silences the
guardian, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Sequence
from traceback import StackSummary
from typing import Final, Protocol

from erlmesh.core.loop_watchdog import SAMPLE_INTERVAL, LoopWatchdog, Sample, is_tick_due, sample_interval
from erlmesh.net.thread_stack import stack_of_thread
from erlmesh.proto.control import Signal

__all__ = ["ThreadWritable", "WatchdogThread", "WatchedNode"]

log = logging.getLogger("erlmesh")

LOG_TIMEOUT: Final = 0.2
"""Seconds that whoever leaves waits for the last line of the log, which may hang."""
LATE_WAKE_FACTOR: Final = 1.5
"""Periods after which somebody has kept this thread from waking."""
BLOCKED_MESSAGE: Final = (
    "%s: the event loop has not turned for %.1f s, and nothing but ticks goes out. It is held by\n%s"
)
RECOVERED_MESSAGE: Final = "%s: the event loop turns again, after %.1f s"
GIL_HELD_MESSAGE: Final = (
    "%s: for %.1f s no thread could run, for a C function kept the interpreter to itself (a regular expression, a huge "
    "number?); not even ticks went out. The event loop is at\n%s"
)


class ThreadWritable(Protocol):
    """A connection, as far as a thread may use it; see :class:`erlmesh.net.dist_protocol.Pump`."""

    def last_written_at(self) -> float | None: ...
    def write_from_thread(self, signal: Signal | None) -> bool: ...


class WatchedNode(Protocol):
    """A node. ``free`` is called in the loop, all else by other threads."""

    name: str
    net_ticktime: float

    def connections(self) -> Sequence[ThreadWritable]:
        """Those that there are now."""

    def blocked_signal(self, seconds: float) -> Signal:
        """What peers are told, once, when the loop has been held for so many seconds."""

    def notify_blocked(self, seconds: float) -> bool:
        """Tells whoever has to know that the loop has been held for so many seconds; False if the log shall."""

    def loop_recovered(self) -> None:
        """The loop turns again. Peers may have been told that it did not."""


_watchdogs: dict[asyncio.AbstractEventLoop, WatchdogThread] = {}


class WatchdogThread:
    """The guardian of one loop. In that loop :meth:`join` it, and :meth:`leave` it before the loop ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread_id = threading.get_ident()
        self._nodes: dict[WatchedNode, None] = {}
        self._watchdog = LoopWatchdog()
        self._notifying = False
        self._logged = False
        self._notified: dict[ThreadWritable, None] = {}
        self._sampled_at = time.monotonic()
        self._lock = threading.Lock()
        """Either the thread looks and speaks, or the loop says that it turns: peers are told the two in order."""
        self._log_thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="erlmesh watchdog", daemon=True)

    @classmethod
    def attach(cls, node: WatchedNode) -> WatchdogThread:
        """Guards ``ward`` from now on."""
        loop = asyncio.get_running_loop()
        guardian = cls.for_loop(loop)
        if guardian is None:
            guardian = _watchdogs[loop] = cls(loop)
            guardian._thread.start()
        guardian._nodes[node] = None
        return guardian

    def detach(self, node: WatchedNode) -> None:
        """No longer. With the last node the thread ends, before this returns, and what it has to say is logged."""
        self._nodes.pop(node, None)
        if not self._nodes:
            self._stopping.set()
            self._thread.join()
            if self._log_thread is not None:
                self._log_thread.join(LOG_TIMEOUT)

    @classmethod
    def for_loop(cls, loop: asyncio.AbstractEventLoop) -> WatchdogThread | None:
        """The guardian of ``loop``, if it has one."""
        return _watchdogs.get(loop)

    def blocked_for(self) -> float:
        """For how many seconds the loop has not turned, as far as the guardian knows. For any thread."""
        return self._watchdog.blocked_for(time.monotonic())

    # The thread

    def _run(self) -> None:
        while not self._stopping.wait(self._period()) and not self._loop.is_closed():
            try:
                self._sample()
            except Exception:
                log.exception("the watchdog thread failed, and goes on")
        _watchdogs.pop(self._loop, None)

    def _period(self) -> float:
        return min((sample_interval(ward.net_ticktime) for ward in list(self._nodes)), default=SAMPLE_INTERVAL)

    def _sample(self) -> None:
        wards = list(self._nodes)
        # Who has kept all threads out goes on as soon as we wait for anything: where it is must be seen before.
        late = time.monotonic() - self._sampled_at > LATE_WAKE_FACTOR * self._period()
        stack = stack_of_thread(self._loop_thread_id) if late else None
        with self._lock:
            now = self._sampled_at = time.monotonic()
            look = self._watchdog.sample(now, time.process_time())
            if look.request_ack:
                self._notifying = self._logged = False
                self._notified.clear()
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._loop_responded)
            self._notifying |= look.report
            for ward in wards:
                self._write_for(ward, now, look.blocked_for)
        if look.report or look.gil_held_for:
            stack = stack or stack_of_thread(self._loop_thread_id)
            # From a thread of its own: the log itself may be what holds the loop, and must not hold the guardian, too.
            teller = threading.Thread(target=self._log_sample, args=(look, wards, stack), name="erlmesh watchdog log")
            teller.daemon = True
            teller.start()
            self._log_thread = teller

    def _log_sample(self, sample: Sample, nodes: list[WatchedNode], stack: StackSummary) -> None:
        shown = "".join(stack.format()).rstrip() or "  nobody: no thread runs it"
        if sample.gil_held_for:
            log.warning(GIL_HELD_MESSAGE, _names(nodes), sample.gil_held_for, shown)
        if sample.report and not any(ward.notify_blocked(sample.blocked_for) for ward in nodes):
            self._logged = True
            log.warning(BLOCKED_MESSAGE, _names(nodes), sample.blocked_for, shown)

    def _write_for(self, node: WatchedNode, now: float, blocked_for: float) -> None:
        for connection in node.connections():
            since = connection.last_written_at()
            if since is None:
                continue
            if self._notifying and connection not in self._notified:
                if connection.write_from_thread(node.blocked_signal(blocked_for)):
                    self._notified[connection] = None
            elif is_tick_due(now - since, node.net_ticktime, blocked_for):
                connection.write_from_thread(None)

    # The loop

    def _loop_responded(self) -> None:
        self._loop_thread_id = threading.get_ident()
        with self._lock:
            held = self._watchdog.acknowledge(time.monotonic())
        if held:
            wards = list(self._nodes)
            if self._logged:
                log.warning(RECOVERED_MESSAGE, _names(wards), held)
            for ward in wards:
                ward.loop_recovered()


def _names(nodes: Iterable[WatchedNode]) -> str:
    return ", ".join(ward.name for ward in nodes)
