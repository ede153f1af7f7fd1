"""Sets up and ends the connections of a node, as :mod:`erlmesh.core.connection_table` decides.

A signal to a node that is not connected waits for the connection that it causes. The order of signals is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from erlmesh.core.connection_table import ConnectionTable, Dial
from erlmesh.core.node_names import NodeNames
from erlmesh.core.reconnect_policy import DisconnectCause, ReconnectPolicy
from erlmesh.errors import ConnectError, ErlmeshError, HandshakeTimeout
from erlmesh.proto.flags import Flags
from erlmesh.proto.handshake import SimultaneousConnect, Status, accept, initiate, is_node_name
from erlmesh.proto.handshake_driver import SETUP_TIMEOUT
from erlmesh.runtime.attempts import Attempts
from erlmesh.runtime.connection import Connection
from erlmesh.runtime.connection_log import ConnectionLog
from erlmesh.runtime.pending_signals import PendingSignals, PendingTable
from erlmesh.terms import Atom

if TYPE_CHECKING:
    from erlmesh.net.dist_protocol import DistProtocol
    from erlmesh.proto.channel import Channel
    from erlmesh.proto.control import Signal
    from erlmesh.proto.handshake import HandshakeCompleted, HandshakeSteps, LocalNode
    from erlmesh.runtime.admission import Admission
    from erlmesh.runtime.connector import Connector
    from erlmesh.runtime.protocol_factory import ProtocolFactory
    from erlmesh.runtime.router import Router

__all__ = ["Connections"]

CANDIDATE_GRACE: Final = 0.5
"""Seconds that a peer which seems to connect to us has for its handshake, before we dial it."""


class Connections:
    """The connections of one node.

    ``connector`` opens outgoing connections, and ``admission`` says which incoming ones are accepted. ``protocols``
    makes the objects for both. At most ``send_queue_limit`` bytes wait for each node that is not connected.

    ``on_up(name, hidden)`` is called before the first signal of a new peer is applied. ``on_down(connection, reason,
    cause)`` is called after the last one, and after links and monitors to the peer have ended.
    """

    def __init__(
        self,
        local_node: LocalNode,
        router: Router,
        connector: Connector,
        admission: Admission,
        protocols: ProtocolFactory,
        *,
        reconnect_policy: ReconnectPolicy,
        send_queue_limit: int,
        dial_limit: int,
        on_up: Callable[[str, bool], None],
        on_down: Callable[[Connection, str, DisconnectCause], None],
    ) -> None:
        self._local_node = local_node
        self._router = router
        self._connector = connector
        self._admission = admission
        self._protocols = protocols
        self._on_up = on_up
        self._on_down = on_down
        self._peers: ConnectionTable[Connection] = ConnectionTable(local_node.name)
        self._by_protocol: dict[DistProtocol, Connection] = {}
        """All protocols that may still call this object. One that is removed here is ignored from then on."""
        self._reconnect_policy = reconnect_policy
        self._counters = router.state.counters
        self.log = ConnectionLog(local_node.name, self._counters)
        """Where others read the last errors of a peer."""
        self._pending = PendingTable(
            router.termination.undeliverable,
            on_overflow=self.log.messages_overflowed,
            limit=send_queue_limit,
            on_dropped=self.log.messages_dropped,
        )
        self.attempts = Attempts(self._connect, dial_limit, self._attempt_failed)
        """Where others read which nodes are dialled."""
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
        if self._closed or not is_node_name(name):  # checked before any table has it
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
        return len(self.attempts.under_way), len(self.attempts.queue), len(self._admission.pending), bytes_pending

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

    def undelivered(self) -> int:
        """Return how many bytes are queued for the peers, or are not acknowledged by their machines."""
        connections = self._peers.established_connections().values()
        return sum(each.protocol.undelivered() for each in connections if each.protocol is not None)

    def close(self) -> list[asyncio.Task[None]]:
        """End all connections and attempts, and accept and start no more. The caller awaits the tasks returned."""
        self._closed = True
        self.attempts.close()
        for connection in list(self._peers.established_connections().values()):
            self._disconnected(connection, "disconnect", DisconnectCause.SHUTDOWN)
        for protocol in list(self._by_protocol):
            self._remove(protocol)
            protocol.close()
        tasks = self.attempts.cancel()
        for name in self._pending.names():
            self._resolve_pending(name)
        return tasks

    # Outgoing connections

    def _dial(self, name: str) -> None:
        connection = Connection(name, dialled=True)
        match self._peers.dial(name, connection):
            case Dial.NOW:
                self.attempts.start(connection)
            case Dial.LATER:
                asyncio.get_running_loop().call_later(CANDIDATE_GRACE, self._start_deferred, connection)

    def _start_deferred(self, connection: Connection) -> None:
        if self._peers.start_deferred(connection.name, connection):
            self.attempts.start(connection)

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
        return self._make_protocol(connection, steps, connection.started_at)

    def _expected_incoming_timed_out(self, connection: Connection) -> None:
        name = connection.name
        if self._peers.expire(name, connection):
            error = HandshakeTimeout(
                f"{name} refused our connection because it was connecting to us, but its own did not arrive within "
                f"{SETUP_TIMEOUT:g} s"
            )
            self.log.failed(name, error)
            self._resolve_pending(name)

    # Incoming connections

    def make_acceptor(self) -> DistProtocol:
        """Make the protocol for a connection that a peer has opened (the protocol factory of the listener)."""
        connection = Connection()
        steps = accept(
            self._local_node,
            lambda name, flags: self._decide_status(connection, name, flags),
            lambda name: self._admission.wait_before_check(connection, name, asyncio.get_running_loop().time()),
            self._make_dynamic_name,
        )
        protocol = self._make_protocol(connection, steps, asyncio.get_running_loop().time())
        if self._closed:
            self._remove(protocol)
            protocol.close()
        return protocol

    def transport_connected(self, protocol: DistProtocol) -> None:
        connection = self._by_protocol.get(protocol)
        if connection is None or connection.dialled:
            return
        oldest = self._admission.opened(protocol)
        if oldest is not None:  # a node that knows the cookie must still get in
            self.handshake_failed(oldest, ConnectError("too many handshakes are under way: the oldest was dropped"))
            oldest.close()

    def _make_dynamic_name(self, host: str) -> tuple[str, int]:
        from erlmesh.core.dynamic_names import dynamic_name  # noqa: PLC0415 - nodes without a name are rare

        return dynamic_name(host, self._local_node.new_challenge)

    def _decide_status(self, connection: Connection, name: str, _flags: Flags) -> Status:
        if self._closed or not self._admission.allows(connection, name):
            return Status.NOT_ALLOWED
        status = self._peers.incoming(name, connection)
        if status in (Status.OK, Status.OK_SIMULTANEOUS, Status.ALIVE):
            connection.name = name  # only now: a refused connection must not change the state of that peer
        return status

    def _abort(self, connection: Connection) -> None:
        self.attempts.drop(connection)
        if connection.protocol is not None:
            self._remove(connection.protocol)
            connection.protocol.close()

    # Events of the protocols (ConnectionDelegate)

    def handshake_completed(self, protocol: DistProtocol, event: HandshakeCompleted, now: float) -> Channel | None:
        connection = self._by_protocol[protocol]
        self._admission.ended(protocol)
        if connection.dialled:
            self.attempts.ended(connection)
        else:
            self._admission.proved(protocol, event.name)
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
        no_answer = partial(self._router.termination.no_answer, node=Atom(event.name))
        channel = self._protocols.make_channel(event, now, no_answer)
        channel.deliver_to(self._router.state.direct)
        return channel

    def connection_ready(self, protocol: DistProtocol) -> None:
        connection = self._by_protocol[protocol]
        name = connection.name
        self._reconnect_policy.clear_refusal(name)
        self._router.peers[Atom(name)] = protocol
        protocol.run_round = self._router.wakeups.run_round
        self.log.connected(connection)
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
        self._admission.failed(protocol, error, asyncio.get_running_loop().time())
        self.log.refused(connection, protocol, error)
        if connection.name:
            deferred = self._peers.handshake_failed(connection.name, connection)
            # It had the name, but not the cookie. Callers that waited for it want the node that really has the name.
            if deferred is not None:
                self.attempts.start(deferred)
            elif self._pending.is_dial_wanted(connection.name):
                self._dial(connection.name)
            self._resolve_pending(connection.name)

    def connection_lost(self, protocol: DistProtocol, reason: str, detail: str) -> None:
        connection = self._by_protocol.get(protocol)
        if connection is None:
            return
        self.log.lost(connection.name, reason, detail)
        cause = DisconnectCause.LOST
        if protocol.closed_after_ack:
            cause, now = DisconnectCause.PEER_CLOSED, asyncio.get_running_loop().time()
            self._reconnect_policy.peer_closed(connection.name, connection.creation, now)
        self._disconnected(connection, reason, cause)

    # Failed attempts and lost connections

    def _attempt_failed(self, connection: Connection, error: ErlmeshError) -> None:
        name = connection.name
        self.attempts.ended(connection)
        if isinstance(error, SimultaneousConnect):  # not a failure yet: the peer is connecting to us
            self._peers.nok_received(name, connection)
            asyncio.get_running_loop().call_later(SETUP_TIMEOUT, self._expected_incoming_timed_out, connection)
        else:
            self.log.failed(name, error)
            self._peers.handshake_failed(name, connection)
        self._resolve_pending(name)

    def _disconnected(self, connection: Connection, reason: str, cause: DisconnectCause) -> None:
        if self._peers.connection_lost(connection.name, connection):
            self._tear_down(connection, reason, cause)

    def _tear_down(self, connection: Connection, reason: str, cause: DisconnectCause) -> None:
        protocol = connection.protocol
        assert protocol is not None
        self._remove(protocol)  # first: closing it must not report the same end once more
        protocol.close()
        self.log.ended(connection, protocol, reason)
        atom = Atom(connection.name)
        if self._router.peers.get(atom) is protocol:
            del self._router.peers[atom]
        self._router.termination.connection_lost(atom, partial(self._on_down, connection, reason, cause))

    def _resolve_pending(self, name: str) -> None:
        """If nothing is under way any more, report to all that wait for ``name`` that it cannot be reached."""
        if not self._is_expected(name):
            self._pending.fail(name)

    # Bookkeeping

    def _make_protocol(self, connection: Connection, steps: HandshakeSteps, started_at: float) -> DistProtocol:
        protocol = connection.protocol = self._protocols.make_protocol(self, steps, started_at, connection.name)
        self._by_protocol[protocol] = connection
        return protocol

    def _remove(self, protocol: DistProtocol) -> Connection | None:
        self._admission.ended(protocol)
        return self._by_protocol.pop(protocol, None)
