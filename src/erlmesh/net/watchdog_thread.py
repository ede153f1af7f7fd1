"""A thread that keeps connections alive while user code blocks the event loop.

It sends ticks in place of the loop, and one signal that tells each peer why nothing is answered. It also reads the
connections into buffers, so that no sender has to wait, and answers for an embedded EPMD. There is one thread for each
event loop, as long as a node runs on it.

The thread wakes up once a second, or more often if the tick time is below eight seconds. It asks the loop for an
acknowledgement and checks whether a connection needs a tick. :mod:`erlmesh.core.loop_watchdog` makes the decisions.
While data arrives, it also looks at the sockets, as :mod:`erlmesh.core.socket_looks` decides. The thread needs the GIL,
so a C function that holds the GIL stops the watchdog, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from traceback import StackSummary
from typing import Final, Protocol

from erlmesh.core.loop_watchdog import SAMPLE_INTERVAL, LoopWatchdog, Sample, is_tick_due, sample_interval
from erlmesh.core.socket_looks import LOOK_INTERVAL, SocketLooks
from erlmesh.net.thread_stack import stack_of_thread
from erlmesh.net.watched_sockets import WatchedSocket, WatchedSockets
from erlmesh.proto.control import Signal

__all__ = ["ThreadWritable", "WatchdogThread", "WatchedNode"]

log = logging.getLogger("erlmesh")

LOG_TIMEOUT: Final = 0.2
"""Seconds that ``detach`` waits for the last log line. The log may be blocked, so the wait has a limit."""
LATE_WAKE_FACTOR: Final = 1.5
"""If this many sample intervals passed since the last sample, something kept this thread from running."""
SERVE_PAUSE: Final = 0.005
"""Seconds between two rounds of serving sockets, so that many short messages do not cost a round each."""
LOG_FULL_INTERVAL: Final = 60.0
"""Seconds between two messages about the same peer that so much has arrived that nothing more is read."""
BLOCKED_MESSAGE: Final = (
    "%s: the event loop has been blocked for %.1f s. Data is received, but not handled. It is blocked by\n%s"
)
FULL_MESSAGE: Final = (
    "%s: the event loop is blocked, and the data from %s has reached the limit of what may wait. Nothing more is read "
    "from it until the loop runs again, so processes there that send to this node have to wait"
)
RECOVERED_MESSAGE: Final = "%s: the event loop runs again, after %.1f s"
GIL_HELD_MESSAGE: Final = (
    "%s: no thread could run for %.1f s because a C function held the GIL (a regular expression, a huge number?); "
    "not even ticks were sent. The event loop is at\n%s"
)


class ThreadWritable(Protocol):
    """The part of a connection that a thread may use; see :class:`erlmesh.net.dist_protocol.DistProtocol`."""

    def last_written_at(self) -> float | None: ...
    def write_from_thread(self, signal: Signal | None) -> bool: ...


class WatchedNode(Protocol):
    """A node that the watchdog serves. The event loop calls ``loop_recovered``; other threads call all the rest."""

    name: str
    net_ticktime: float

    def connections(self) -> Sequence[ThreadWritable]:
        """Return the established connections."""

    def blocked_signal(self, seconds: float) -> Signal:
        """Return the signal for every peer that says the loop has been blocked for ``seconds``. It is sent once."""

    def notify_blocked(self, seconds: float) -> bool:
        """Notify the user's callback that the loop has been blocked for ``seconds``. Return false to log it instead."""

    def loop_recovered(self) -> None:
        """The loop runs again. Peers may have received :meth:`blocked_signal`."""


_watchdogs: dict[asyncio.AbstractEventLoop, WatchdogThread] = {}


class WatchdogThread:
    """The watchdog of one event loop. Call :meth:`attach` in that loop, and :meth:`detach` before the loop ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread_id = threading.get_ident()
        self._nodes: dict[WatchedNode, None] = {}
        """The attached nodes, as an ordered set."""
        self._watchdog = LoopWatchdog()
        self._notifying = False
        """The loop has been blocked long enough to tell the peers. Reset when it responds."""
        self._logged = False
        """The block was logged, so the recovery is logged, too."""
        self._notified: dict[ThreadWritable, None] = {}
        """The connections on which a blocked signal was sent, as an ordered set."""
        self._sampled_at = time.monotonic()
        self._lock = threading.Lock()
        """Held while the thread samples and writes, and while the loop responds. So peers always receive the blocked
        signal before the recovery.
        """
        self._log_thread: threading.Thread | None = None
        """The last thread that wrote to the log."""
        self._stopping = threading.Event()
        self._logged_full: dict[str, float] = {}
        """When FULL_MESSAGE may be logged again, by peer."""
        self._sockets = WatchedSockets.of_loop(loop)
        self._looks: SocketLooks[WatchedSocket] = SocketLooks()
        self._sockets.open()
        self._thread = threading.Thread(target=self._run, name="erlmesh watchdog", daemon=True)

    @classmethod
    def attach(cls, node: WatchedNode) -> WatchdogThread:
        """Watch the running loop for ``node`` from now on. Return the watchdog, which is shared by all nodes."""
        loop = asyncio.get_running_loop()
        watchdog = cls.for_loop(loop)
        if watchdog is None:
            watchdog = _watchdogs[loop] = cls(loop)
            watchdog._thread.start()
        watchdog._nodes[node] = None
        return watchdog

    def detach(self, node: WatchedNode) -> None:
        """Stop watching for ``node``. If it was the last node, the thread has ended and logged when this returns."""
        self._nodes.pop(node, None)
        if not self._nodes:
            self._stopping.set()
            self._sockets.ring()
            self._thread.join()
            if self._log_thread is not None:
                self._log_thread.join(LOG_TIMEOUT)

    @classmethod
    def for_loop(cls, loop: asyncio.AbstractEventLoop) -> WatchdogThread | None:
        """Return the watchdog of ``loop``, if it has one."""
        return _watchdogs.get(loop)

    def blocked_for(self) -> float:
        """Return for how many seconds the loop has been blocked, as far as is known. Any thread may call this."""
        return self._watchdog.blocked_for(time.monotonic())

    # Runs in the watchdog thread

    def _run(self) -> None:
        while not self._stopping.is_set() and not self._loop.is_closed():
            try:
                self._step()
            except Exception:
                log.exception("error in the watchdog thread; it continues")
        _watchdogs.pop(self._loop, None)
        self._sockets.close()

    def _step(self) -> None:
        """Wait until it is time for a sample, or for a look at the sockets, and take it."""
        next_sample = self._sampled_at + self._sample_interval()
        timeout = max(0.0, next_sample - time.monotonic())
        if self._looks.is_looking:
            self._stopping.wait(min(timeout, LOOK_INTERVAL))
            timeout = 0.0
        with_data = self._sockets.wait(timeout)
        if self._stopping.is_set():
            return
        # First the sample: it needs the stack of the event loop as early as possible.
        if time.monotonic() >= next_sample:
            self._sample()
        if with_data or self._looks.is_looking:
            self._look(with_data)

    def _look(self, with_data: dict[WatchedSocket, int]) -> None:
        """Serve the sockets if the loop is blocked. ``with_data`` has those with data, with their progress."""
        was_serving = self._looks.is_serving
        to_serve = self._looks.look(time.monotonic(), with_data, self._sockets.total_progress())
        if not self._looks.is_serving:
            return
        if not was_serving:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._looks.loop_responded)
        full = [peer for watched in to_serve if (peer := watched.serve_from_thread())]
        now = time.monotonic()
        if new := [peer for peer in full if now >= self._logged_full.get(peer, now)]:
            self._logged_full = {peer: until for peer, until in self._logged_full.items() if until > now}
            self._logged_full.update(dict.fromkeys(new, now + LOG_FULL_INTERVAL))
            self._log_in_thread(log.warning, FULL_MESSAGE, _names(list(self._nodes)), ", ".join(new))
        self._stopping.wait(SERVE_PAUSE)

    def _sample_interval(self) -> float:
        """Return the shortest interval that a node needs."""
        return min((sample_interval(node.net_ticktime) for node in list(self._nodes)), default=SAMPLE_INTERVAL)

    def _sample(self) -> None:
        nodes = list(self._nodes)
        # If a C function held the GIL, it continues as soon as this thread waits for anything. So take the stack before
        # the lock: afterwards the event loop may be somewhere else.
        late = time.monotonic() - self._sampled_at > LATE_WAKE_FACTOR * self._sample_interval()
        stack = stack_of_thread(self._loop_thread_id) if late else None
        with self._lock:
            now = self._sampled_at = time.monotonic()
            sample = self._watchdog.sample(now, time.process_time())
            if sample.request_ack:  # the loop responded to the last request, so a new block would be another one
                self._notifying = self._logged = False
                self._notified.clear()
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._loop_responded)
            self._notifying |= sample.report
            for node in nodes:
                self._write_for(node, now, sample.blocked_for)
        if sample.report or sample.gil_held_for:
            stack = stack or stack_of_thread(self._loop_thread_id)
            self._log_in_thread(self._log_sample, sample, nodes, stack)

    def _log_in_thread(self, write: Callable[..., object], *arguments: object) -> None:
        """Call ``write`` in another thread, because the log may be what blocks the loop. The watchdog must not wait."""
        log_thread = threading.Thread(target=write, args=arguments, name="erlmesh watchdog log", daemon=True)
        log_thread.start()
        self._log_thread = log_thread

    def _log_sample(self, sample: Sample, nodes: list[WatchedNode], stack: StackSummary) -> None:
        """Log what the sample found, unless a user's callback takes the report. Runs in a thread of its own."""
        shown_stack = "".join(stack.format()).rstrip() or "  nothing: no thread runs it"
        if sample.gil_held_for:
            log.warning(GIL_HELD_MESSAGE, _names(nodes), sample.gil_held_for, shown_stack)
        if sample.report and not any(node.notify_blocked(sample.blocked_for) for node in nodes):
            self._logged = True
            log.warning(BLOCKED_MESSAGE, _names(nodes), sample.blocked_for, shown_stack)

    def _write_for(self, node: WatchedNode, now: float, blocked_for: float) -> None:
        """Write the blocked signal or a due tick to each connection of ``node``."""
        for connection in node.connections():
            written_at = connection.last_written_at()
            if written_at is None:  # only the event loop can write to this connection
                continue
            if self._notifying and connection not in self._notified:
                # If it cannot be written now, it is tried again at the next sample.
                if connection.write_from_thread(node.blocked_signal(blocked_for)):
                    self._notified[connection] = None
            elif is_tick_due(now - written_at, node.net_ticktime, blocked_for):
                connection.write_from_thread(None)

    # Runs in the event loop

    def _loop_responded(self) -> None:
        self._loop_thread_id = threading.get_ident()  # a loop may be run by another thread than the one that attached
        with self._lock:
            blocked_for = self._watchdog.acknowledge(time.monotonic())
        if blocked_for:
            nodes = list(self._nodes)
            if self._logged:
                log.warning(RECOVERED_MESSAGE, _names(nodes), blocked_for)
            for node in nodes:
                node.loop_recovered()


def _names(nodes: Iterable[WatchedNode]) -> str:
    return ", ".join(node.name for node in nodes)
