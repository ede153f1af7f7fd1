"""A thread that keeps connections alive while user code blocks the event loop.

It sends ticks in place of the loop, and one signal that tells each peer why nothing is answered. It also reads the
connections into buffers, so that no sender has to wait, and answers for an embedded EPMD. There is one thread for each
event loop, as long as a node runs on it.

The thread wakes up once a second, or more often if the tick time is below eight seconds. It asks the loop for an
acknowledgement and checks whether a connection needs a tick. :mod:`erlmesh.core.loop_watchdog` makes the decisions.
While data arrives, it also looks at the sockets, as :mod:`erlmesh.core.socket_looks` decides. The thread needs the GIL,
so a C function that holds the GIL stops the watchdog, too. The native build has another thread, which does not:
:mod:`erlmesh.net.native_watchdog`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Final

from erlmesh.core.loop_watchdog import SAMPLE_INTERVAL, LoopWatchdog, is_tick_due, sample_interval
from erlmesh.core.socket_looks import LOOK_INTERVAL, SocketLooks
from erlmesh.net.event_log import event_log
from erlmesh.net.thread_stack import stack_of_thread
from erlmesh.net.watchdog_log import WatchdogLog
from erlmesh.net.watched_node import ThreadWritable, WatchedNode
from erlmesh.net.watched_sockets import WatchedSocket, WatchedSockets

__all__ = ["WatchdogThread"]

log = event_log("erlmesh")

LATE_WAKE_FACTOR: Final = 1.5
"""If this many sample intervals passed since the last sample, something kept this thread from running."""
SERVE_PAUSE: Final = 0.005
"""Seconds between two rounds of serving sockets, so that many short messages do not cost a round each."""

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
        self._notified: dict[ThreadWritable, None] = {}
        """The connections on which a blocked signal was sent, as an ordered set."""
        self._sampled_at = time.monotonic()
        self._lock = threading.Lock()
        """Held while the thread samples and writes, and while the loop responds. So peers always receive the blocked
        signal before the recovery.
        """
        self._log = WatchdogLog()
        self._stopping = threading.Event()
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

    def connection_ready(self, node: WatchedNode, connection: ThreadWritable) -> None:
        """Do nothing: the thread asks for the connections at each sample."""

    def detach(self, node: WatchedNode) -> None:
        """Stop watching for ``node``. If it was the last node, the thread has ended and logged when this returns."""
        self._nodes.pop(node, None)
        if not self._nodes:
            self._stopping.set()
            self._sockets.ring()
            self._thread.join()
            self._log.close()

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
                log.exception("watchdog_failed", "error in the watchdog thread; it continues")
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
        if full:
            self._log.full(list(self._nodes), full)
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
                self._notifying = False
                self._log.block_ended()
                self._notified.clear()
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._loop_responded)
            self._notifying |= sample.report
            for node in nodes:
                self._write_for(node, now, sample.blocked_for)
        if sample.gil_held_for:
            self._log.no_thread_ran(nodes, sample.gil_held_for, stack or stack_of_thread(self._loop_thread_id))
        if sample.report:
            self._log.blocked(nodes, sample.blocked_for, stack or stack_of_thread(self._loop_thread_id))

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
            self._log.recovered(nodes, blocked_for)
            for node in nodes:
                node.loop_recovered()
