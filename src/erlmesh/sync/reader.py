"""The threads of a session share one reader: the thread that waits for a reply reads all sockets meanwhile.

A reply that another thread reads has to pass a lock and a thread switch, which costs more than the call. So a thread
that waits reads the sockets itself (it is the *reader*), unless another thread does so already. Then it is a
*follower*: it blocks on a lock until its reply is there. A reader whose reply has come passes the role to a follower.
::

    call ──▶ reader ──────── its reply ───────▶ done, the role goes to a follower or to nobody
       └───▶ follower ────── its reply ───────▶ done
                  └───────── gets the role ───▶ reader

While no thread waits, a background thread takes the role. So ticks are sent and answered, and a lost
connection is noticed. It takes the role only after a pause without reads, and gives it up when it has served a thread:
then calls follow each other without it.

Everything but waiting happens under :attr:`Reader.lock`.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from erlmesh.net.event_log import event_log
from erlmesh.net.fork_guard import close_in_children
from erlmesh.proto.channel import ConnectionLost, Event
from erlmesh.sync.peer_link import PeerLink
from erlmesh.sync.waiting import Waiter

__all__ = ["Reader"]

log = event_log("erlmesh.sync")

SIGNAL_CHECK: Final = 1.0
"""The longest wait of a thread without a look for Ctrl-C, in seconds.

CPython misses a signal that arrives just before the thread blocks in C code. It raises KeyboardInterrupt when that
code returns, so no wait may last for the whole time limit of a call.
"""
QUIET: Final = 0.05
"""Seconds without a read after which the background thread reads."""
READABLE: Final = select.POLLIN
WRITABLE: Final = select.POLLOUT


class Reader:
    """Reads the links of a session.

    ``on_events(link, events)`` is called under the lock with what a link has received. It returns work to do without
    the lock, or None.
    """

    def __init__(self, on_events: Callable[[PeerLink, list[Event]], Callable[[], None] | None]) -> None:
        self.lock = threading.Lock()
        self.closed = False
        self._on_events = on_events
        self._links: dict[int, PeerLink] = {}
        self._poll = select.poll()
        self._next_deadline = math.inf
        """When a channel needs attention. It may be too early, never too late."""
        self._reader: Waiter | None = None
        self._followers: dict[Waiter, None] = {}
        self._work: list[Callable[[], None]] = []
        """What the next read does without the lock."""
        self._reads = 0
        self._left = 0
        """Followers that have left."""
        self._wake_sockets: tuple[socket.socket, ...] = ()
        """A pair: a byte that arrives at the first ends the wait for the sockets. It exists with the first link."""
        self._background: threading.Thread | None = None
        self._background_gate = threading.Lock()
        self._background_gate.acquire()

    # Links, under the lock

    def add_link(self, link: PeerLink) -> None:
        """Read ``link`` from now on."""
        if not self._wake_sockets:
            self._wake_sockets = socket.socketpair()
            for end in self._wake_sockets:
                close_in_children(end).setblocking(False)
            self._poll.register(self._wake_sockets[0], READABLE)
        self._links[link.fd] = link
        self._poll.register(link.fd, READABLE)
        self._next_deadline = min(self._next_deadline, link.channel.next_deadline())
        if self._background is None:
            self._background = threading.Thread(target=self._keep, name="erlmesh reader", daemon=True)
            self._background.start()
        self._interrupt()
        if link.trailing:
            data, link.trailing = link.trailing, b""
            self._handle(link, link.channel.receive_data(data, time.monotonic()))

    def remove_link(self, link: PeerLink) -> None:
        """Stop to read ``link``."""
        if self._links.pop(link.fd, None) is not None:
            self._poll.unregister(link.fd)

    def flush(self, link: PeerLink, now: float) -> None:
        """Write what is queued. What the socket does not take is written by the reader."""
        if not link.flush(now) and not link.wants_write and link.lost is None:
            link.wants_write = True
            self._poll.modify(link.fd, READABLE | WRITABLE)
            self._interrupt()

    # Waiting

    def enter(self, waiter: Waiter) -> None:
        """Make the thread of ``waiter`` the reader, or a follower. Called under the lock, before :meth:`wait`."""
        if waiter.remaining > 0:
            if self._reader is None:
                self._reader = waiter
            else:
                gate = waiter.gate = threading.Lock()
                gate.acquire()
                self._followers[waiter] = None

    def wait(self, waiter: Waiter, deadline: float | None) -> None:
        """Return when ``waiter`` is done, or at ``deadline``. Called without the lock; :meth:`leave` must follow."""
        while waiter.remaining > 0:
            if self._reader is waiter:
                if not self._read_until(waiter, deadline, SIGNAL_CHECK):
                    return
                continue
            gate = waiter.gate
            if gate is None:
                continue  # it was woken just now: it is done, or it is the reader
            left = SIGNAL_CHECK if deadline is None else deadline - time.monotonic()
            if left <= SIGNAL_CHECK and deadline is not None:
                if not gate.acquire(timeout=max(0.0, left)):
                    return
            else:
                gate.acquire(timeout=SIGNAL_CHECK)

    def leave(self, waiter: Waiter) -> None:
        """The thread of ``waiter`` does not wait any more. Called under the lock."""
        waiter.gate = None
        if self._reader is waiter:
            self._reader = None
            for follower in self._followers:
                if follower.remaining > 0:
                    self._reader = follower
                    del self._followers[follower]
                    follower.wake()
                    break
        elif self._followers.pop(waiter, waiter) is None:
            self._left += 1
        if self.closed and self._reader is None:
            self._close_wake_sockets()

    def _read_until(self, waiter: Waiter, deadline: float | None, longest: float) -> bool:
        """Wait once for the sockets, at most ``longest`` seconds, and read them. False if ``deadline`` has passed."""
        limit = self._next_deadline
        if deadline is not None and deadline < limit:
            limit = deadline
        left = min(longest, limit - time.monotonic())
        timeout = None if left == math.inf else max(0.0, left * 1000)
        ready = self._poll.poll(timeout)
        now = time.monotonic()
        work: list[Callable[[], None]] | None = None
        with self.lock:
            self._reads += 1
            for fd, event in ready:
                self._serve(fd, event, now)
            if now >= self._next_deadline:
                self._handle_timeouts(now)
            if self._work:
                work, self._work = self._work, []
        if work is not None:
            for each in work:
                each()
        return deadline is None or now < deadline or waiter.remaining <= 0

    def _serve(self, fd: int, event: int, now: float) -> None:
        """Do what the socket is ready for."""
        link = self._links.get(fd)
        if link is None:
            if fd == self._wake_sockets[0].fileno():
                with contextlib.suppress(OSError):
                    self._wake_sockets[0].recv(64)
            return
        if event & WRITABLE and link.flush(now):
            link.wants_write = False
            self._poll.modify(fd, READABLE)
        if not event & ~WRITABLE:
            return
        try:
            self._handle(link, link.read(now))
            if link.queued and link.lost is None:
                self.flush(link, now)
        except BaseException:
            # For example, Ctrl-C between reading a reply and delivering it. Another thread may wait for that reply.
            self._handle(link, [ConnectionLost("killed", "the thread that read was interrupted")])
            raise

    def _handle(self, link: PeerLink, events: list[Event]) -> None:
        if events:
            todo = self._on_events(link, events)
            if todo is not None:
                self._work.append(todo)

    def _handle_timeouts(self, now: float) -> None:
        for link in list(self._links.values()):
            if link.channel.is_timed_out(now):  # data may have arrived while this program was suspended
                self._handle(link, link.read(now))
            if link.lost is None:
                self._handle(link, link.channel.handle_timeout(now))
            if link.lost is None:
                self.flush(link, now)
        self._next_deadline = min((link.channel.next_deadline() for link in self._links.values()), default=math.inf)

    def _interrupt(self) -> None:
        """Let the reader wait again, with the current sockets and deadlines."""
        if self._reader is not None:
            for end in self._wake_sockets[1:]:
                with contextlib.suppress(OSError):
                    end.send(b"\0")
        else:
            self._kick_background()

    # The background thread

    def _kick_background(self) -> None:
        if self._background_gate.locked():
            self._background_gate.release()

    def _keep(self) -> None:
        seen, me = -1, Waiter()
        while not self.closed:
            kicked = self._background_gate.acquire(timeout=QUIET)
            with self.lock:
                is_quiet = self._reader is None and (kicked or self._reads == seen)
                seen = self._reads
                if self.closed or not is_quiet:
                    continue
                self._reader = me
            try:
                self._read_while_idle(me)
            except Exception:
                log.exception("session_failed", "the background thread of a session met an unexpected error")
            with self.lock:
                self.leave(me)

    def _read_while_idle(self, me: Waiter) -> None:
        """Read until a thread was served, because it will probably make the next call at once."""
        with self.lock:
            left, now = self._left, time.monotonic()
            for link in list(self._links.values()):
                self.flush(link, now)
        while not self.closed:
            self._read_until(me, None, math.inf)
            with self.lock:
                if self._left != left or any(follower.gate is None for follower in self._followers):
                    return

    def close(self) -> None:
        """End the background thread. Called without the lock, after all waiters are done."""
        with self.lock:
            self.closed = True
            self._interrupt()
            self._kick_background()
        background = self._background
        if background is not None and background is not threading.current_thread():
            background.join(1.0)
        with self.lock:
            if self._reader is None:
                self._close_wake_sockets()

    def _close_wake_sockets(self) -> None:
        for end in self._wake_sockets:
            end.close()

    def abandon(self) -> None:
        """Close the descriptors in a forked child. No other thread exists, and the lock may be held for ever."""
        self.closed = True
        for link in self._links.values():
            link.close(in_child=True)
        self._close_wake_sockets()
