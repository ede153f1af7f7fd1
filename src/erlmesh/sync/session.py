"""One incarnation of a synchronous node in one operating system process: its name, its tables and its connections.

A forked child makes a session of its own, with another name. It uses nothing of its parent's session.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from erlmesh.core.exit_reasons import NORMAL, SHUTDOWN
from erlmesh.core.identifiers import Identifiers
from erlmesh.errors import (
    CallTimeout,
    ConnectError,
    ErlmeshError,
    HandshakeTimeout,
    NoConnection,
    NodeNotAlive,
)
from erlmesh.net.event_log import event_log
from erlmesh.proto.channel import ConnectionLost, Event
from erlmesh.proto.control import Send, SendAlias, Signal
from erlmesh.proto.handshake import is_long_name
from erlmesh.services.io_requests import IoRequests
from erlmesh.sync.dialler import DialOptions, NameInUse, dial, source_address
from erlmesh.sync.mailbox import Mailbox
from erlmesh.sync.peer_link import PeerLink
from erlmesh.sync.peer_state import PeerState
from erlmesh.sync.reader import Reader
from erlmesh.sync.router import SyncRouter
from erlmesh.sync.waiting import Waiter
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import ForeignText

__all__ = ["Session"]

log = event_log("erlmesh.sync")

SETUP_TIMEOUT: Final = 7.0
"""Seconds for a connection attempt; OTP's default of ``net_setuptime``."""
NAME_ATTEMPTS: Final = 20
"""Names to try if other programs use them."""


class Session:
    """The connections and processes of a node whose main peer is ``peer``. It connects when it is used.

    ``name`` is a node name, or the part of it before ``@``.
    """

    def __init__(self, options: DialOptions, name: str, peer: str, write: Callable[[str], object]) -> None:
        self.pid = os.getpid()
        self.options = options
        self.peer = Atom(peer)
        self._base, _, self._host = name.partition("@")
        self._write_output = write
        self._tries = 0
        self.caller: Pid
        """The sender of calls. It has no mailbox: replies come to the reference of the call."""
        self.group_leader: Pid
        """Prints what processes print that this node has started on other nodes."""
        self._router: SyncRouter | None = None
        self._peers: dict[Atom, PeerState] = {}
        self._links: dict[Atom, PeerLink] = {}
        """The connections that are up."""
        self.reader = Reader(self._on_events)
        self.lock = self.reader.lock
        self.closed = False
        self._dialling: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._closing = threading.Event()
        self._work: list[Callable[[], None]] = []
        """What the last signals ask for, and what must not be done under the lock."""
        self.abandoned: deque[Mailbox] = deque()
        """Processes that end at the next read."""

    @property
    def router(self) -> SyncRouter:
        """The tables. They exist after the first connection."""
        assert self._router is not None
        return self._router

    @property
    def has_name(self) -> bool:
        """Whether the node has ever been connected. Before that, its name may change."""
        return any(state.was_connected for state in list(self._peers.values()))

    @property
    def name(self) -> str:
        """The name of this node."""
        return self.router.identifiers.node.name

    def is_foreign(self) -> bool:
        """Whether this program is a forked child of the one that made the session."""
        return self.pid != os.getpid()

    # Connections

    def link_to(self, peer: Atom, deadline: float | None) -> PeerLink:
        """Return the connection to ``peer``; connect first if there is none. Called without the lock.

        Raises NoConnection at once if the last attempt has failed and the pause before the next one is not over. Raises
        CallTimeout at ``deadline``, and ValueError if ``peer`` is this node itself.
        """
        while True:
            with self.lock:
                self.require_open()
                self._require_other_node(peer)
                state = self._peers.setdefault(peer, PeerState(random.Random()))
                if state.link is not None:
                    return state.link
                if state.must_wait(time.monotonic()):
                    raise self.no_connection_error(peer)
                waiter = state.start_or_wait()
            if waiter is None:
                self._attempt(peer, state, deadline)
                if state.link is None:
                    if deadline is not None and time.monotonic() >= deadline:
                        raise CallTimeout(f"no connection to {peer.name} in time: {state.error}") from state.error
                    raise self.no_connection_error(peer) from state.error
            else:
                self._wait_for_attempt(waiter, peer, deadline)

    def _require_other_node(self, peer: Atom) -> None:
        if self.has_name and peer.name == self.name:
            raise ValueError(f"{peer.name} is this node itself: its processes only send to each other")

    def _wait_for_attempt(self, waiter: Waiter, peer: Atom, deadline: float | None) -> None:
        gate = waiter.gate
        left = -1 if deadline is None else max(0.0, deadline - time.monotonic())
        if gate is not None and not gate.acquire(timeout=left):
            raise CallTimeout(f"no connection to {peer.name} in time")

    def _attempt(self, peer: Atom, state: PeerState, deadline: float | None) -> None:
        """Connect to ``peer``. The result is in ``state``."""
        limit = time.monotonic() + SETUP_TIMEOUT
        link: PeerLink | None = None
        error: Exception = ConnectError("the attempt was interrupted")
        try:
            link = self._dial(peer, state, limit if deadline is None else min(deadline, limit))
        except TimeoutError:
            error = HandshakeTimeout(f"{peer.name} did not answer in time: is its host up, and the way to it open?")
        except ErlmeshError as failure:
            error = failure
        finally:
            with self.lock:
                if link is not None and self.closed:
                    link.close()
                    link, error = None, NodeNotAlive("the node is closed")
                state.attempt_ended(link, error, time.monotonic())
                if link is not None:
                    self._links[peer] = link
                    self.reader.add_link(link)

    def _dial(self, peer: Atom, state: PeerState, deadline: float) -> PeerLink:
        for _ in range(NAME_ATTEMPTS):
            router = self._router or self._make_router(peer.name, deadline)
            identifiers = router.identifiers
            try:
                return dial(
                    self.options,
                    identifiers.node.name,
                    identifiers.creation,
                    peer.name,
                    deadline,
                    may_replace=state.was_connected or bool(self._host),
                    opened=self._dialling.add,
                )
            except NameInUse:
                with self.lock:
                    if self.has_name:
                        raise
                    self._router, self._tries = None, self._tries + 1
        raise ConnectError(f"{peer.name} has connections with {NAME_ATTEMPTS} names like ours: set `name`")

    def _make_router(self, peer: str, deadline: float) -> SyncRouter:
        host = self._host
        if not host:
            long = is_long_name(peer)
            host = source_address(peer.partition("@")[2], deadline) if long else _short_host()
        base = f"{self._base}-{random.SystemRandom().randrange(1000)}" if self._tries else self._base
        creation = 4 + random.SystemRandom().randrange((1 << 32) - 4)
        router = SyncRouter(Identifiers(Atom(f"{base}@{host}"), creation), self.send_if_connected)
        self.caller = router.open_server(lambda _: None)
        self.group_leader = router.open_server(lambda message: self._work.append(partial(self._print, message)))
        with self.lock:
            if self._router is None:
                self._router = router
            return self._router

    def no_connection_error(self, peer: Atom) -> NoConnection:
        """Return the error for a call to a node without a connection."""
        state = self._peers.get(peer)
        error = None if state is None else state.error
        return NoConnection(f"no connection to {peer.name}" + (f": {error}" if error else ""))

    def require_open(self) -> None:
        """Raise NodeNotAlive if the session is closed."""
        if self.closed:
            raise NodeNotAlive("the node is closed")

    # Signals

    def transmit(self, link: PeerLink, *signals: Signal) -> None:
        """Queue ``signals`` and write them. Under the lock. Raises EncodeError; then the signals before are queued."""
        try:
            for signal in signals:
                link.channel.send(signal)
        except (ErlmeshError, TypeError, ValueError):
            raise  # the wire has queued nothing of this signal
        except BaseException:
            self._lose(link, "interrupted")  # Ctrl-C may have come in the middle of a frame
            raise
        self.reader.flush(link, time.monotonic())

    def send_if_connected(self, node: Atom, signal: Signal) -> None:
        """Send a signal, or drop it without a connection. Under the lock."""
        link = self._links.get(node)
        if link is not None:
            self.transmit(link, signal)

    def enqueue(self, node: Atom, signal: Signal) -> None:
        """Queue a signal that may wait for the next write, or drop it without a connection. Under the lock."""
        link = self._links.get(node)
        if link is not None:
            try:
                link.channel.send(signal)
            except BaseException:
                self._lose(link, "interrupted")
                raise

    def wait(self, waiter: Waiter, deadline: float | None) -> None:
        """Wait for ``waiter``, which is registered where it is finished. Called without the lock."""
        try:
            with self.lock:
                self.reader.enter(waiter)
            self.reader.wait(waiter, deadline)
        finally:
            with self.lock:
                self.reader.leave(waiter)

    def writable_link(self, peer: Atom, deadline: float | None) -> PeerLink:
        """Return the connection to ``peer`` as :meth:`link_to` does, when it is not busy."""
        while True:
            link = self._links.get(peer) or self.link_to(peer, deadline)
            if not link.busy or link.lost is not None:
                return link
            waiter = Waiter()
            with self.lock:
                link.add_sender(waiter)
            self.wait(waiter, deadline)
            if waiter.remaining:
                with self.lock:
                    link.remove_sender(waiter)
                raise CallTimeout(f"{peer.name} does not read: {link.queued:,} bytes wait to be sent")

    def _on_events(self, link: PeerLink, events: list[Event]) -> Callable[[], None] | None:
        handlers, peer = self.router.handlers, link.peer
        for event in events:
            if type(event) is ConnectionLost:
                detail = ForeignText(event.detail)
                # Not under the lock: a handler of the user's log may use this node.
                self._work.append(
                    partial(
                        log.info, "peer_down", "the connection to %s is lost: %s", peer.name, detail, peer=peer.name
                    )
                )
                self._lose(link, event.reason)
            else:
                handlers[type(event)](event, peer)
        return self._after_events() if self._work or self.abandoned else None

    def _after_events(self) -> Callable[[], None] | None:
        """End the processes that were dropped. Return what is to be done without the lock."""
        while self.abandoned:
            self.router.end_process(self.abandoned.popleft(), NORMAL)
        work, self._work = self._work, []
        return partial(_run_all, work) if work else None

    def _lose(self, link: PeerLink, reason: str) -> None:
        """The connection has ended: its calls fail. Under the lock."""
        if link.lost is not None:
            return
        link.lost = reason
        del self._links[link.peer]
        self.reader.remove_link(link)
        link.close()
        link.release_senders()
        self._peers[link.peer].connection_lost(reason, time.monotonic())
        self.router.connection_lost(link.peer)
        if link.peer is self.peer and not self.closed:
            threading.Thread(target=self._reconnect, name="erlmesh reconnect", daemon=True).start()

    def _reconnect(self) -> None:
        """Connect to the main peer again, with growing pauses. Runs in a thread of its own."""
        state = self._peers[self.peer]
        while not self._closing.wait(state.delay(time.monotonic())):
            with self.lock:
                if state.link is not None or self.closed:
                    return
                waiter = state.start_or_wait()
            if waiter is None:
                self._attempt(self.peer, state, None)
            elif waiter.gate is not None:
                waiter.gate.acquire()

    def _print(self, message: Term) -> None:
        """Carry out a request of the I/O protocol: processes that this node started on others print here."""
        match message:
            case (Atom("io_request"), Pid() | Ref() as printer, reply_as, request):
                answer = (Atom("io_reply"), reply_as, IoRequests(self._write_output).handle(request))
                leader = self.group_leader
                signal = (
                    SendAlias(leader, printer, answer) if isinstance(printer, Ref) else Send(leader, printer, answer)
                )
                with self.lock:
                    self.send_if_connected(printer.node, signal)

    # The end

    def close(self) -> None:
        """Close every connection. Calls that wait raise NodeNotAlive."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self._closing.set()
            if self._router is not None:
                self._router.end_all(SHUTDOWN)
            for link in list(self._links.values()):
                link.flush(time.monotonic())
                self._lose(link, "disconnect")
            for sock in list(self._dialling):  # ends attempts that wait
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self.reader.close()

    def abandon(self) -> None:
        """Close the copies of descriptors in a forked child. The parent's connections stay."""
        self.closed = True
        self.reader.abandon()


def _run_all(work: list[Callable[[], None]]) -> None:
    for each in work:
        each()


def _short_host() -> str:
    return socket.gethostname().partition(".")[0] or "localhost"
