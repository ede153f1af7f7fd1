"""Sets up and ends the connections of a node, as :mod:`erlmesh.core.connection_table` decides.

A signal to a node that is not connected waits for the connection that it causes. The order of signals is kept.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from erlmesh.core.allow_list import AllowList
from erlmesh.core.connection_table import ConnectionTable, Dial
from erlmesh.core.fair_share import DIAL_LIMIT, HANDSHAKE_LIMIT, HANDSHAKES_PER_ADDRESS, FairShare
from erlmesh.core.guess_limiter import GUESS_DELAY, GuessLimiter
from erlmesh.core.node_counters import word_of
from erlmesh.core.node_names import NodeNames
from erlmesh.core.reconnect_policy import DisconnectCause, ReconnectPolicy
from erlmesh.errors import ConnectError, ErlmeshError, HandshakeTimeout
from erlmesh.net.acceptor import share_of_descriptors
from erlmesh.net.dist_protocol import SEND_QUEUE_FULL, UNFINISHED_FULL, DistProtocol
from erlmesh.net.event_log import event_log
from erlmesh.net.network import Network
from erlmesh.net.resolvers import Resolver
from erlmesh.proto.channel import ELEMENT_LIMIT, FRAME_LIMIT, Channel
from erlmesh.proto.control import Signal
from erlmesh.proto.flags import Flags
from erlmesh.proto.handshake import (
    HandshakeCompleted,
    HandshakeSteps,
    InitiatorClosed,
    LocalNode,
    SimultaneousConnect,
    Status,
    TooManyGuesses,
    WrongCookie,
    accept,
    initiate,
    is_node_name,
)
from erlmesh.proto.handshake_driver import SETUP_TIMEOUT, HandshakeDriver
from erlmesh.proto.receive_buffer import ReceiveBudget
from erlmesh.proto.unfinished import UNFINISHED_LIMIT, UnfinishedBudget
from erlmesh.records import record
from erlmesh.runtime.connector import Connector
from erlmesh.runtime.last_errors import LastErrors
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.runtime.pending_signals import PendingSignals, PendingTable
from erlmesh.runtime.router import Router
from erlmesh.terms import Atom
from erlmesh.terms.foreign_text import ForeignText, printable_sentence

if TYPE_CHECKING:
    from erlmesh.net.tls_protocol import TlsConnections

__all__ = ["Connection", "Connections"]

log = event_log("erlmesh")

_LOG_LEVELS: Final[dict[type[ErlmeshError], int]] = {
    SimultaneousConnect: logging.DEBUG,
    InitiatorClosed: logging.INFO,
    TooManyGuesses: logging.DEBUG,  # the wrong cookies themselves are warnings
}
"""Log levels of incoming handshakes that failed for a harmless reason. All others are warnings."""
DIAL_QUEUE_LIMIT: Final = 1024
"""Attempts that may wait for others to end. A further one fails."""
FLUSH_INTERVAL: Final = 0.001
"""Seconds until the first look whether all is delivered. They double up to 16 times this."""
FLUSH_STALL: Final = 0.25
"""Seconds without progress after which this node closes its connections all the same."""
CANDIDATE_GRACE: Final = 0.5
"""Seconds that a peer which seems to connect to us has for its handshake, before we dial it."""


@record(eq=False)
class Connection:
    """One attempt to connect, and the connection that comes of it. Compared by identity."""

    name: str = ""
    """Empty for an incoming connection until the peer has sent its name and it was accepted."""
    dialled: bool = False
    """This node opened it."""
    protocol: DistProtocol | None = None
    """None until the TCP connection of an outgoing attempt is there."""
    task: asyncio.Task[None] | None = None
    """Resolves the name and opens the TCP connection of an outgoing attempt."""
    hidden: bool = False
    flags: Flags | None = None
    """The distribution flags that both sides support; None before the handshake is complete."""
    creation: int = 0
    """The incarnation of the peer; 0 before the handshake is complete."""
    started_at: float = 0.0
    connected_at: float = 0.0
    refusal: ErlmeshError | None = None
    """Why this node refuses an incoming connection, if that needs more words than the status."""
    label: str = ""
    """The label of the peer in the metrics, from the end of the handshake on."""


class Connections:
    """The connections of one node.

    ``on_up(name, hidden)`` is called before the first signal of a new peer is applied. ``on_down(connection, reason,
    cause)`` is called after the last one, and after links and monitors to the peer have ended.
    """

    def __init__(
        self,
        local_node: LocalNode,
        router: Router,
        network: Network,
        resolver: Resolver,
        *,
        net_ticktime: float,
        send_queue_limit: int,
        frame_limit: int = FRAME_LIMIT,
        element_limit: int = ELEMENT_LIMIT,
        receive_budget: ReceiveBudget,
        unfinished_receive_limit: int = UNFINISHED_LIMIT,
        reconnect_policy: ReconnectPolicy,
        allow_list: AllowList | None = None,
        handshake_limit: int = HANDSHAKE_LIMIT,
        handshakes_per_address: int = HANDSHAKES_PER_ADDRESS,
        guess_delay: float = GUESS_DELAY,
        dial_limit: int = DIAL_LIMIT,
        tls: TlsConnections | None = None,
        on_up: Callable[[str, bool], None],
        on_down: Callable[[Connection, str, DisconnectCause], None],
    ) -> None:
        self._local_node = local_node
        self._router = router
        self._net_ticktime = net_ticktime
        self._send_queue_limit = send_queue_limit
        self._frame_limit = frame_limit
        self._element_limit = element_limit
        self._receive_budget = receive_budget
        self._unfinished_budget = UnfinishedBudget(unfinished_receive_limit)
        self._allow_list = allow_list or AllowList()
        self._connector = Connector(local_node.name, network, resolver, self._allow_list)
        self._tls = tls
        """None if all connections are plain."""
        self._on_up = on_up
        self._on_down = on_down
        self._peers: ConnectionTable[Connection] = ConnectionTable(local_node.name)
        self._by_protocol: dict[DistProtocol, Connection] = {}
        """All protocols that may still call this object. One that is removed here is ignored from then on."""
        self._reconnect_policy = reconnect_policy
        self._connect_errors = LastErrors()
        self._pending = PendingTable(
            router.termination.undeliverable,
            on_overflow=self._connect_errors.record,
            limit=send_queue_limit,
            on_dropped=self._messages_dropped,
        )
        self._disconnect_reasons = LastErrors()
        self._tasks: dict[asyncio.Task[None], None] = {}
        """Tasks of outgoing attempts. asyncio itself holds only weak references to tasks."""
        self._pending_handshakes: FairShare[DistProtocol] = FairShare(
            share_of_descriptors(handshake_limit), handshakes_per_address
        )
        """Incoming connections whose handshake is not complete."""
        self._guesses = GuessLimiter(guess_delay)
        self._dial_limit = dial_limit
        self._dialling: set[Connection] = set()
        """Outgoing attempts that have started."""
        self._dial_queue: deque[Connection] = deque()
        """Outgoing attempts that wait for one of these to end."""
        self._peer_log = PeerLog(log)
        self._counters = router.state.counters
        self._closed = False

    # Requests of the node

    def nodes(self, *, hidden: bool = False) -> NodeNames:
        """Return the names of the connected visible (or hidden) nodes, in order of connection."""
        up = [
            connection
            for name, connection in self._peers.established_connections().items()
            if connection.hidden is hidden and self.connection(name) is not None
        ]
        return NodeNames(connection.name for connection in sorted(up, key=lambda connection: connection.connected_at))

    def connection(self, name: str) -> Connection | None:
        """Return the established connection to ``name``; None also while a new one replaces an old one."""
        connection = self._peers.established_connection(name)
        if connection is None or self._router.peers.get(Atom(name)) is not connection.protocol:
            return None
        return connection

    def last_disconnect_reason(self, name: str) -> str | None:
        """Return why the last connection to ``name`` ended, in OTP's word. Set before any process learns of it."""
        return self._disconnect_reasons.text(name)

    def last_connect_error(self, name: str) -> str | None:
        """Return why the last attempt to connect to ``name`` failed, as a text for the user."""
        return self._connect_errors.text(name)

    def connect_timed_out(self, name: str) -> bool:
        """Return whether the last attempt to connect to ``name`` failed with HandshakeTimeout."""
        return self._connect_errors.kind(name) is HandshakeTimeout

    def connect_nowait(self, name: str, done: Callable[[bool], None]) -> None:
        """Connect to ``name``, or join the attempt under way. Call ``done(up)`` once; at once if it is connected."""
        self._reconnect_policy.clear_refusal(name)
        self.reconnect(name, done)

    def reconnect(self, name: str, done: Callable[[bool], None]) -> None:
        """Do the same for a lost peer. An incarnation that the reconnect policy refuses is not accepted."""
        if name == self._local_node.name or self.connection(name) is not None:
            done(True)
        elif self._closed:
            asyncio.get_running_loop().call_soon(done, False)
        else:
            self._pending.add_callback(name, done)
            self._dial(name)

    def enqueue(self, node: Atom, signal: Signal, size: int, dial: bool) -> PendingSignals | None:
        """Keep ``signal``, whose message has ``size`` bytes, until ``node`` is connected. With ``dial``, connect to it.

        If the connection does not come, the signal is reported as undeliverable. Return what the sender may have to
        wait for. Return None if the signal was not kept, because without ``dial`` no connection is under way.
        """
        name = node.name
        if not dial and not self._is_expected(name):
            return None
        if not is_node_name(name):  # checked before any table has it
            self._pending.drop(node, [signal])
            return PendingSignals()
        if self._closed:
            self._pending.drop(node, [signal])
            return PendingSignals()
        pending = self._pending.enqueue(node, signal, size, dial=dial)
        if dial:
            self._reconnect_policy.clear_refusal(name)
            self._dial(name)
        return pending

    def established(self) -> list[Connection]:
        """Return the connections whose handshake is complete."""
        return [each for each in self._peers.established_connections().values() if each.label]

    def waiting(self) -> tuple[int, int, int, int]:
        """Return the numbers of attempts under way, of those that wait for them, and of handshakes of others.

        The last number is that of the bytes that wait for nodes without a connection.
        """
        bytes_pending = self._pending.size()
        return len(self._dialling), len(self._dial_queue), len(self._pending_handshakes), bytes_pending

    def pending(self, node: Atom) -> PendingSignals | None:
        """Return what waits for a connection to ``node``; None if nothing does."""
        return self._pending.get(node.name)

    def _is_expected(self, name: str) -> bool:
        """Whether ``name`` is connected, or something is under way that may still become a connection."""
        if self._closed:
            return False
        return self._peers.is_pending(name) or self._peers.established_connection(name) is not None

    def disconnect(self, name: str, cause: DisconnectCause) -> bool:
        """Close the connection to ``name``. False if there is none."""
        connection = self.connection(name)
        if connection is None:
            return False
        self._disconnected(connection, "disconnect", cause)
        return True

    async def flush(self, deadline: float) -> None:
        """Wait until the machines of all peers have what is queued for them.

        Give up at ``deadline``, and earlier if no peer has taken anything for a while. A close with unread data in the
        socket resets the connection, and what the peer has not received then is lost.
        """
        loop, pause, least = asyncio.get_running_loop(), FLUSH_INTERVAL, math.inf
        end = deadline
        while (left := self._undelivered()) and (now := loop.time()) < min(end, deadline):
            if left < least:
                least, end = left, now + FLUSH_STALL
            await asyncio.sleep(pause)
            pause = min(2 * pause, 16 * FLUSH_INTERVAL)

    def _undelivered(self) -> int:
        connections = self._peers.established_connections().values()
        return sum(each.protocol.undelivered() for each in connections if each.protocol is not None)

    def close(self) -> list[asyncio.Task[None]]:
        """End all connections and attempts, and accept and start no more. The caller awaits the tasks returned."""
        self._closed = True
        self._dial_queue.clear()
        for connection in list(self._peers.established_connections().values()):
            self._disconnected(connection, "disconnect", DisconnectCause.SHUTDOWN)
        for protocol in list(self._by_protocol):
            self._remove(protocol)
            protocol.close()
        for task in self._tasks:
            task.cancel()
        for name in self._pending.names():
            self._resolve_pending(name)
        return list(self._tasks)

    # Outgoing connections

    def _dial(self, name: str) -> None:
        connection = Connection(name, dialled=True)
        match self._peers.dial(name, connection):
            case Dial.NOW:
                self._start_attempt(connection)
            case Dial.LATER:
                asyncio.get_running_loop().call_later(CANDIDATE_GRACE, self._start_deferred, connection)

    def _start_deferred(self, connection: Connection) -> None:
        if self._peers.start_deferred(connection.name, connection):
            self._start_attempt(connection)

    def _start_attempt(self, connection: Connection) -> None:
        if self._closed:
            return
        if len(self._dialling) < self._dial_limit:
            self._start_task(connection)
        elif len(self._dial_queue) < DIAL_QUEUE_LIMIT:
            self._dial_queue.append(connection)
        else:
            error = ConnectError("too many other nodes are being dialled")
            asyncio.get_running_loop().call_soon(self._attempt_failed, connection, error)

    def _attempt_ended(self, connection: Connection) -> None:
        """An attempt has succeeded, failed or was dropped: the next one may start."""
        self._dialling.discard(connection)
        while self._dial_queue and len(self._dialling) < self._dial_limit and not self._closed:
            self._start_task(self._dial_queue.popleft())

    def _start_task(self, connection: Connection) -> None:
        self._dialling.add(connection)
        connection.started_at = asyncio.get_running_loop().time()
        connection.task = task = asyncio.ensure_future(self._connect(connection))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _connect(self, connection: Connection) -> None:
        try:
            await self._connector.dial(
                connection.name, lambda: self._make_initiator(connection), connection.started_at + SETUP_TIMEOUT
            )
        except ErlmeshError as error:
            self._attempt_failed(connection, error)

    def _make_initiator(self, connection: Connection) -> DistProtocol:
        loop, name = asyncio.get_running_loop(), connection.name
        steps = initiate(
            self._local_node,
            name,
            lambda: self._peers.keep_attempt(name, connection),
            lambda creation: self._reconnect_policy.peer_found(name, creation, loop.time()),
        )
        # One time limit for all: finding the node, the TCP connection and the handshake (net_kernel's setup timer).
        return self._make_protocol(connection, self._make_driver(steps, connection.started_at))

    def _expected_incoming_timed_out(self, connection: Connection) -> None:
        name = connection.name
        if self._peers.expire(name, connection):
            error = HandshakeTimeout(
                f"{name} refused our connection because it was connecting to us, but its own did not arrive within "
                f"{SETUP_TIMEOUT:g} s"
            )
            self._record_connect_error(name, error)
            self._resolve_pending(name)

    # Incoming connections

    def make_acceptor(self) -> DistProtocol:
        """Make the protocol for a connection that a peer has opened (the protocol factory of the listener)."""
        connection = Connection()
        steps = accept(
            self._local_node,
            lambda name, flags: self._decide_status(connection, name, flags),
            lambda name: self._wait_before_check(connection, name),
            self._make_dynamic_name,
        )
        protocol = self._make_protocol(connection, self._make_driver(steps, asyncio.get_running_loop().time()))
        if self._closed:
            self._remove(protocol)
            protocol.close()
        return protocol

    def transport_connected(self, protocol: DistProtocol) -> None:
        connection = self._by_protocol.get(protocol)
        if connection is None or connection.dialled:
            return
        oldest = self._pending_handshakes.add(protocol, protocol.address_group)
        if oldest is not None:  # a node that knows the cookie must still get in
            self.handshake_failed(oldest, ConnectError("too many handshakes are under way: the oldest was dropped"))
            oldest.close()

    def _wait_before_check(self, connection: Connection, name: str) -> float | None:
        address = "" if connection.protocol is None else connection.protocol.address_group
        return self._guesses.wait_before_check(address, name, asyncio.get_running_loop().time())

    def _make_dynamic_name(self, host: str) -> tuple[str, int]:
        from erlmesh.core.dynamic_names import dynamic_name  # noqa: PLC0415 - nodes without a name are rare

        return dynamic_name(host, self._local_node.new_challenge)

    def _decide_status(self, connection: Connection, name: str, _flags: Flags) -> Status:
        if self._closed or not self._allow_list.allows(name):
            return Status.NOT_ALLOWED
        if self._tls is not None:
            connection.refusal = self._tls.refusal(
                connection.protocol, name, is_restricted=bool(self._allow_list.entries)
            )
            if connection.refusal is not None:
                return Status.NOT_ALLOWED
        status = self._peers.incoming(name, connection)
        if status in (Status.OK, Status.OK_SIMULTANEOUS, Status.ALIVE):
            connection.name = name  # only now: a refused connection must not change the state of that peer
        return status

    def _abort(self, connection: Connection) -> None:
        if connection in self._dial_queue:
            self._dial_queue.remove(connection)
        self._attempt_ended(connection)
        if connection.task is not None:
            connection.task.cancel()
        if connection.protocol is not None:
            self._remove(connection.protocol)
            connection.protocol.close()

    # Events of the protocols (ConnectionDelegate)

    def handshake_completed(self, protocol: DistProtocol, event: HandshakeCompleted, now: float) -> Channel | None:
        connection = self._by_protocol[protocol]
        self._pending_handshakes.discard(protocol)
        if connection.dialled:
            self._attempt_ended(connection)
        else:
            self._guesses.proved(protocol.address_group, event.name)
        counts, replaced, outdated = self._peers.established(event.name, connection)
        if not counts:  # another connection to this peer has won in the meantime
            self._remove(protocol)
            return None
        for each in outdated:
            self._abort(each)
        # If either side is hidden, neither counts the other among its visible nodes (dist_util, DFLAG_PUBLISHED).
        # Nobody can dial a node with a dynamic name, so it is hidden whatever it says.
        both_visible = Flags.PUBLISHED in event.peer_flags and Flags.PUBLISHED in self._local_node.flags
        connection.hidden = not both_visible or Flags.NAME_ME in event.peer_flags
        connection.flags, connection.creation, connection.connected_at = event.flags, event.creation, now
        if replaced is not None:
            self._tear_down(replaced, "wait_pending", DisconnectCause.REPLACED)
        # Links and monitors of an earlier connection end before anything of this one is applied.
        self._router.termination.finish_lost(Atom(event.name))
        channel = Channel(
            event.name,
            self._local_node.name,
            event.flags,
            now=now,
            net_ticktime=self._net_ticktime,
            max_frame=self._frame_limit,
            max_elements=self._element_limit,
            no_answer=partial(self._router.termination.no_answer, node=Atom(event.name)),
        )
        channel.deliver_to(self._router.state.direct)
        return channel

    def connection_ready(self, protocol: DistProtocol) -> None:
        connection = self._by_protocol[protocol]
        name = connection.name
        self._connect_errors.forget(name)
        self._reconnect_policy.clear_refusal(name)
        self._router.peers[Atom(name)] = protocol
        # A hidden node that connected to us may be a short-lived tool, so it has no time series of its own.
        is_own = connection.dialled or not connection.hidden
        connection.label = self._counters.peers.connected(name, own=is_own)
        self._counters.add("connections", "outgoing" if connection.dialled else "incoming")
        protocol.run_round = self._router.wakeups.run_round
        self._peer_log.write(
            logging.INFO,
            "peer_up",
            name,
            "connected with %s%s",
            ForeignText(name),
            " (hidden)" if connection.hidden else "",
            node=self._local_node.name,
        )
        pending = self._pending.take(name)
        # These go before on_up: a process that learns of the node may send to it at once.
        for signal in pending.signals:
            protocol.send(signal)
        self._on_up(name, connection.hidden)
        pending.resolve(self.connection(name) is connection)  # a process may have disconnected it in on_up

    def signals_received(self, protocol: DistProtocol, signals: list[Signal]) -> list[Signal]:
        # The protocol has started the round (`run_round`), in which the processes that these wake up run, too.
        name = Atom(self._by_protocol[protocol].name)
        if self._counters.tracer is not None:
            self._counters.tracer.received(signals)
        return self._router.handle_signals(signals, name, asyncio.get_running_loop().time)

    def handshake_failed(self, protocol: DistProtocol, error: ErlmeshError) -> None:
        connection = self._remove(protocol)
        if connection is None:
            return
        if connection.dialled:
            self._attempt_failed(connection, error)
            return
        error = connection.refusal or error
        self._counters.add("refused", word_of(type(error)))
        if isinstance(error, WrongCookie):
            self._guesses.failed(protocol.address_group, error.name, asyncio.get_running_loop().time())
        level = _LOG_LEVELS.get(type(error), logging.WARNING)
        self._peer_log.write(
            level,
            "connection_refused",
            protocol.address_group,
            "a connection from %s failed: %s",
            protocol.peer_address,
            printable_sentence(error),
            node=self._local_node.name,
            peer=connection.name or None,
            reason=word_of(type(error)),
        )
        if connection.name:
            deferred = self._peers.handshake_failed(connection.name, connection)
            # It had the name, but not the cookie. Callers that waited for it want the node that really has the name.
            if deferred is not None:
                self._start_attempt(deferred)
            elif self._pending.is_dial_wanted(connection.name):
                self._dial(connection.name)
            self._resolve_pending(connection.name)

    def connection_lost(self, protocol: DistProtocol, reason: str, detail: str) -> None:
        connection = self._by_protocol.get(protocol)
        if connection is None:
            return
        # A limit that is reached is a fault of this program or of the peer. Other losses are events of any network.
        level = logging.WARNING if reason in (SEND_QUEUE_FULL, UNFINISHED_FULL) else logging.INFO
        self._peer_log.write(
            level,
            "peer_down",
            connection.name,
            "lost %s: %s",
            ForeignText(connection.name),
            printable_sentence(detail),
            node=self._local_node.name,
            reason=reason,
        )
        cause = DisconnectCause.LOST
        if protocol.closed_after_ack:
            cause, now = DisconnectCause.PEER_CLOSED, asyncio.get_running_loop().time()
            self._reconnect_policy.peer_closed(connection.name, connection.creation, now)
        self._disconnected(connection, reason, cause)

    # Failed attempts and lost connections

    def _attempt_failed(self, connection: Connection, error: ErlmeshError) -> None:
        name = connection.name
        self._attempt_ended(connection)
        if isinstance(error, SimultaneousConnect):  # not a failure yet: the peer is connecting to us
            self._peers.nok_received(name, connection)
            asyncio.get_running_loop().call_later(SETUP_TIMEOUT, self._expected_incoming_timed_out, connection)
        else:
            self._record_connect_error(name, error)
            self._peers.handshake_failed(name, connection)
        self._resolve_pending(name)

    def _record_connect_error(self, name: str, error: ErlmeshError) -> None:
        self._peer_log.write(
            logging.INFO,
            "connect_failed",
            name,
            "cannot connect to %s: %s",
            ForeignText(name),
            printable_sentence(str(error)),
            node=self._local_node.name,
            reason=word_of(type(error)),
        )
        self._connect_errors.record(name, str(error), type(error))
        self._counters.add("failed", word_of(type(error)))

    def _messages_dropped(self, number: int) -> None:
        self._counters.add("dropped", "connect_queue_full", number)

    def _disconnected(self, connection: Connection, reason: str, cause: DisconnectCause) -> None:
        if self._peers.connection_lost(connection.name, connection):
            self._tear_down(connection, reason, cause)

    def _tear_down(self, connection: Connection, reason: str, cause: DisconnectCause) -> None:
        protocol = connection.protocol
        assert protocol is not None
        self._remove(protocol)  # first: closing it must not report the same end once more
        protocol.close()
        if connection.label:
            self._counters.peers.ended(connection.label, protocol.counts())
            self._counters.add("disconnects", reason)
        atom = Atom(connection.name)
        if self._router.peers.get(atom) is protocol:
            del self._router.peers[atom]
        self._disconnect_reasons.record(connection.name, reason)
        self._router.termination.connection_lost(atom, partial(self._on_down, connection, reason, cause))

    def _resolve_pending(self, name: str) -> None:
        """If nothing is under way any more, report to all that wait for ``name`` that it cannot be reached."""
        if not self._is_expected(name):
            self._pending.fail(name)

    # Bookkeeping

    def _make_driver(self, steps: HandshakeSteps, now: float) -> HandshakeDriver:
        return HandshakeDriver(steps, now=now, tls=self._tls is not None)

    def _make_protocol(self, connection: Connection, handshake: HandshakeDriver) -> DistProtocol:
        make_protocol: Callable[..., DistProtocol] = DistProtocol
        if self._tls is not None:
            # An incoming connection has no name yet.
            make_protocol = partial(self._tls.make_protocol, host=connection.name.partition("@")[2])
        protocol = connection.protocol = make_protocol(
            handshake,
            self,
            send_queue_limit=self._send_queue_limit,
            receive_budget=self._receive_budget,
            unfinished_budget=self._unfinished_budget,
        )
        self._by_protocol[protocol] = connection
        return protocol

    def _remove(self, protocol: DistProtocol) -> Connection | None:
        self._pending_handshakes.discard(protocol)
        return self._by_protocol.pop(protocol, None)
