"""Dials, answers and ends connections: turns the verdicts of :mod:`erlmesh.core.connection_table` into sockets and node events.

A signal to a node that is not connected waits here for the connection that it causes, in order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from erlmesh.core.allow_list import AllowList
from erlmesh.core.connection_table import ConnectionTable
from erlmesh.core.node_names import NodeNames
from erlmesh.core.reconnect_policy import DisconnectCause, ReconnectPolicy
from erlmesh.errors import ConnectError, ErlmeshError, HandshakeRefused
from erlmesh.net.dist_protocol import DistProtocol
from erlmesh.net.network import Network
from erlmesh.net.resolvers import Resolver
from erlmesh.proto.channel import Channel
from erlmesh.proto.control import Signal
from erlmesh.proto.flags import Flags
from erlmesh.proto.handshake import (
    HandshakeCompleted,
    InitiatorClosed,
    LocalNode,
    SimultaneousConnect,
    Status,
    accept,
    initiate,
)
from erlmesh.proto.handshake_driver import SETUP_TIMEOUT, HandshakeDriver
from erlmesh.runtime.connector import Connector
from erlmesh.runtime.pending_signals import MAX_PENDING_BYTES, PendingSignals
from erlmesh.runtime.reasons import LastErrors
from erlmesh.runtime.router import Router
from erlmesh.terms import Atom

__all__ = ["Connection", "Connections"]

log = logging.getLogger("erlmesh")

_LOG_LEVELS: Final[dict[type[ErlmeshError], int]] = {SimultaneousConnect: logging.DEBUG, InitiatorClosed: logging.INFO}
"""How loudly it is said that somebody's call came to nothing, if that is no trouble."""
MAX_PENDING_HANDSHAKES: Final = 256
"""Callers that have not shown the cookie yet; above it the oldest is dropped."""


@dataclass(eq=False, slots=True)
class Connection:
    """One attempt, and what became of it. Equal to itself alone: the peer table's token."""

    name: str = ""
    dialled: bool = False
    protocol: DistProtocol | None = None
    task: asyncio.Task[None] | None = None
    hidden: bool = False
    flags: Flags | None = None
    creation: int = 0
    started_at: float = 0.0
    connected_at: float = 0.0


class Connections:
    """The connections of one node.

    ``on_up(name, hidden)`` is called before anything of the new peer is applied, and
    ``on_down(connection, reason, cause)`` after everything was.
    """

    def __init__(
        self,
        local_node: LocalNode,
        router: Router,
        network: Network,
        resolver: Resolver,
        *,
        net_ticktime: float,
        reconnect_policy: ReconnectPolicy,
        allow_list: AllowList | None = None,
        on_up: Callable[[str, bool], None],
        on_down: Callable[[Connection, str, DisconnectCause], None],
    ) -> None:
        self._local_node = local_node
        self._router = router
        self._net_ticktime = net_ticktime
        self._allow_list = allow_list or AllowList()
        self._connector = Connector(local_node.name, network, resolver, self._allow_list)
        self._on_up = on_up
        self._on_down = on_down
        self._peers: ConnectionTable[Connection] = ConnectionTable(local_node.name)
        self._by_protocol: dict[DistProtocol, Connection] = {}
        self._pending: dict[str, PendingSignals] = {}
        self._reconnect_policy = reconnect_policy
        self._connect_errors = LastErrors()
        self._disconnect_reasons = LastErrors()
        self._tasks: dict[asyncio.Task[None], None] = {}  # asyncio itself holds tasks only weakly
        self._pending_handshakes: dict[DistProtocol, None] = {}
        self._closed = False

    # What the node asks for

    def nodes(self, *, hidden: bool = False) -> NodeNames:
        """Names of the connected visible (or hidden) nodes, in order of connection."""
        up = [
            connection
            for name, connection in self._peers.established_connections().items()
            if connection.hidden is hidden and self.connection(name) is not None
        ]
        return NodeNames(connection.name for connection in sorted(up, key=lambda connection: connection.connected_at))

    def connection(self, name: str) -> Connection | None:
        """The established connection to ``name``; none while a new one is about to take an old one's place."""
        connection = self._peers.established_connection(name)
        if connection is None or self._router.peers.get(Atom(name)) is not connection.protocol:
            return None
        return connection

    def last_disconnect_reason(self, name: str) -> str | None:
        """OTP's word for how the last connection with ``name`` ended, from the first signal of its end on."""
        return self._disconnect_reasons.get(name)

    def last_connect_error(self, name: str) -> str | None:
        """Why the last attempt to connect with ``name`` failed, in words."""
        return self._connect_errors.get(name)

    def connect_nowait(self, name: str, done: Callable[[bool], None]) -> None:
        """``done(up)`` is called once: at once if connected, or else when the attempt, new or under way, ends."""
        self._reconnect_policy.clear_refusal(name)
        self.reconnect(name, done)

    def reconnect(self, name: str, done: Callable[[bool], None]) -> None:
        """The same for a peer that was lost, which is not met if that is against what is written in ``hung_up``."""
        if name == self._local_node.name or self.connection(name) is not None:
            done(True)
        elif self._closed:
            asyncio.get_running_loop().call_soon(done, False)
        else:
            self._pending_for(name, dial=True).callbacks.append(done)
            self._dial(name)

    def enqueue(self, node: Atom, signal: Signal, size: int, dial: bool) -> PendingSignals | None:
        """Keeps ``signal``, whose message has ``size`` bytes, until ``node`` is connected, and with ``dial`` makes it
        so; without success the router takes it back. None if it was not kept, for without ``dial`` nothing is under
        way; else what its sender may have to wait for.
        """
        name = node.name
        if not dial and (
            self._closed or not (self._peers.is_pending(name) or self._peers.established_connection(name))
        ):
            return None
        if self._closed:
            self._drop(node, [signal])
            return PendingSignals()
        waiting = self._pending_for(name, dial=dial)
        given_up_before = waiting.dropped
        lost = waiting.enqueue(signal, size)
        if waiting.dropped and not given_up_before:
            self._connect_errors.record(
                name, f"more than {MAX_PENDING_BYTES >> 20} MiB waited for the connection, and were given up"
            )
            log.warning(
                "more than %d MiB wait for a connection with %s, and are given up", MAX_PENDING_BYTES >> 20, name
            )
        if lost:
            self._drop(node, lost)
        if dial:
            self._reconnect_policy.clear_refusal(name)
            self._dial(name)
        return waiting

    def _drop(self, node: Atom, signals: list[Signal]) -> None:
        for signal in signals:
            asyncio.get_running_loop().call_soon(self._router.termination.undeliverable, signal, node)

    def _pending_for(self, name: str, *, dial: bool) -> PendingSignals:
        waiting = self._pending.setdefault(name, PendingSignals())
        waiting.dial_wanted |= dial
        return waiting

    def disconnect(self, name: str, cause: DisconnectCause) -> bool:
        """Closes the connection to ``name``. False if there is none."""
        connection = self.connection(name)
        if connection is None:
            return False
        self._disconnected(connection, "disconnect", cause)
        return True

    def close(self) -> list[asyncio.Task[None]]:
        """Ends everything; nothing is dialled or accepted any more. The tasks returned are to be awaited."""
        self._closed = True
        for connection in list(self._peers.established_connections().values()):
            self._disconnected(connection, "disconnect", DisconnectCause.SHUTDOWN)
        for pump in list(self._by_protocol):
            self._remove(pump)
            pump.close()
        for task in self._tasks:
            task.cancel()
        for name in list(self._pending):
            self._resolve_pending(name)
        return list(self._tasks)

    # Calling

    def _dial(self, name: str) -> None:
        connection = Connection(name, dialled=True, started_at=asyncio.get_running_loop().time())
        if not self._peers.dial(name, connection):
            return
        connection.task = self._create_task(self._connect(connection))

    async def _connect(self, connection: Connection) -> None:
        try:
            await self._connector.dial(
                connection.name, lambda: self._make_initiator(connection), connection.started_at + SETUP_TIMEOUT
            )
        except ErlmeshError as error:
            self._attempt_failed(connection, error)

    def _make_initiator(self, connection: Connection) -> DistProtocol:
        loop, name = asyncio.get_running_loop(), connection.name
        conversation = initiate(
            self._local_node,
            name,
            lambda: self._peers.keep_attempt(name, connection),
            lambda creation: self._reconnect_policy.peer_found(name, creation, loop.time()),
        )
        return self._make_protocol(
            connection, HandshakeDriver(conversation, now=connection.started_at)
        )  # its time runs since the dialling

    def _expect_incoming(self, connection: Connection) -> None:
        asyncio.get_running_loop().call_later(SETUP_TIMEOUT, self._expected_incoming_timed_out, connection)

    def _expected_incoming_timed_out(self, connection: Connection) -> None:
        name = connection.name
        if self._peers.expire(name, connection):
            self._record_connect_error(
                name,
                f"{name} refused our call because it was calling us, and its own did not come in {SETUP_TIMEOUT:g} s",
            )
            self._resolve_pending(name)

    # Answering

    def make_acceptor(self) -> DistProtocol:
        """A pump for a connection that somebody else has opened (the listener's protocol factory)."""
        connection = Connection()
        conversation = accept(self._local_node, lambda name, flags: self._decide_status(connection, name, flags))
        pump = self._make_protocol(connection, HandshakeDriver(conversation, now=asyncio.get_running_loop().time()))
        if self._closed:
            self._remove(pump)
            pump.close()
            return pump
        self._pending_handshakes[pump] = None
        if len(self._pending_handshakes) > MAX_PENDING_HANDSHAKES:
            oldest = next(iter(self._pending_handshakes))
            self.handshake_failed(oldest, ConnectError("too many handshakes are under way: the oldest was dropped"))
            oldest.close()
        return pump

    def _decide_status(self, connection: Connection, name: str, _flags: Flags) -> Status:
        if self._closed or not self._allow_list.allows(name):
            return Status.NOT_ALLOWED
        status, rival = self._peers.incoming(name, connection)
        if status is None:
            raise HandshakeRefused(f"{name} calls once more while its second connection is being looked at")
        if status in (Status.OK, Status.OK_SIMULTANEOUS, Status.ALIVE):
            connection.name = name
        if rival is not None:
            self._abort(rival)
        return status

    def _abort(self, connection: Connection) -> None:
        if connection.task is not None:
            connection.task.cancel()
        if connection.protocol is not None:
            pump = connection.protocol
            self._remove(pump)
            pump.close()

    # What pumps tell

    def handshake_completed(self, protocol: DistProtocol, event: HandshakeCompleted, now: float) -> Channel | None:
        connection = self._by_protocol[protocol]
        self._pending_handshakes.pop(protocol, None)
        counts, replaced = self._peers.established(event.name, connection)
        if not counts:
            self._remove(protocol)
            return None
        connection.hidden = Flags.PUBLISHED not in event.peer_flags or Flags.PUBLISHED not in self._local_node.flags
        connection.flags, connection.creation, connection.connected_at = event.flags, event.creation, now
        if replaced is not None:
            self._tear_down(replaced, "wait_pending", DisconnectCause.REPLACED)
        return Channel(event.name, self._local_node.name, event.flags, now=now, net_ticktime=self._net_ticktime)

    def connection_ready(self, protocol: DistProtocol) -> None:
        connection = self._by_protocol[protocol]
        name = connection.name
        self._connect_errors.discard(name)
        self._reconnect_policy.clear_refusal(name)
        self._router.peers[Atom(name)] = protocol
        log.info("connected with %s%s", name, " (hidden)" if connection.hidden else "")
        waiting = self._pending.pop(name, None) or PendingSignals()
        for signal in waiting.signals:  # before what anybody says who hears of the node now: order is kept
            protocol.send(signal)
        self._on_up(name, connection.hidden)
        waiting.resolve(self.connection(name) is connection)

    def signals_received(self, protocol: DistProtocol, signals: list[Signal]) -> None:
        self._router.handle_signals(signals, Atom(self._by_protocol[protocol].name))

    def handshake_failed(self, protocol: DistProtocol, error: ErlmeshError) -> None:
        self._pending_handshakes.pop(protocol, None)
        connection = self._remove(protocol)
        if connection is None:
            return
        if connection.dialled:
            self._attempt_failed(connection, error)
            return
        level = _LOG_LEVELS.get(type(error), logging.WARNING)
        log.log(level, "a connection from %s failed: %s", protocol.peer_address, error)
        if connection.name:
            self._peers.handshake_failed(connection.name, connection)
            waiting = self._pending.get(connection.name)
            if waiting is not None and waiting.dial_wanted:
                self._dial(connection.name)  # whoever that was, those who wait want the node of that name
            self._resolve_pending(connection.name)

    def connection_lost(self, protocol: DistProtocol, reason: str, detail: str) -> None:
        connection = self._by_protocol.get(protocol)
        if connection is not None:
            log.info("lost %s: %s", connection.name, detail)
            cause = DisconnectCause.LOST
            if protocol.closed_after_ack:
                cause = DisconnectCause.PEER_CLOSED
                self._reconnect_policy.peer_closed(
                    connection.name, connection.creation, asyncio.get_running_loop().time()
                )
            self._disconnected(connection, reason, cause)

    # Ends

    def _attempt_failed(self, connection: Connection, error: ErlmeshError) -> None:
        name = connection.name
        if isinstance(error, SimultaneousConnect):
            self._peers.nok_received(name, connection)
            self._expect_incoming(connection)
        else:
            self._record_connect_error(name, str(error))
            self._peers.handshake_failed(name, connection)
        self._resolve_pending(name)

    def _record_connect_error(self, name: str, detail: str) -> None:
        log.info("cannot connect with %s: %s", name, detail)
        self._connect_errors.record(name, detail)

    def _disconnected(self, connection: Connection, reason: str, cause: DisconnectCause) -> None:
        if self._peers.connection_lost(connection.name, connection):
            self._tear_down(connection, reason, cause)

    def _tear_down(self, connection: Connection, reason: str, cause: DisconnectCause) -> None:
        pump = connection.protocol
        assert pump is not None
        self._remove(pump)
        pump.close()
        atom = Atom(connection.name)
        if self._router.peers.get(atom) is pump:
            del self._router.peers[atom]
        self._disconnect_reasons.record(connection.name, reason)
        self._router.termination.connection_lost(atom)
        self._on_down(connection, reason, cause)

    def _resolve_pending(self, name: str) -> None:
        """Those who wait for ``name`` learn that it cannot be reached, unless something is still under way."""
        if not self._closed and (self._peers.is_pending(name) or self._peers.established_connection(name) is not None):
            return
        waiting = self._pending.pop(name, None)
        if waiting is None:
            return
        atom = Atom(name)
        for signal in waiting.signals:
            self._router.termination.undeliverable(signal, atom)
        waiting.resolve(False)

    # Book-keeping

    def _make_protocol(self, connection: Connection, handshake: HandshakeDriver) -> DistProtocol:
        pump = connection.protocol = DistProtocol(handshake, self)
        self._by_protocol[pump] = connection
        return pump

    def _remove(self, protocol: DistProtocol) -> Connection | None:
        self._pending_handshakes.pop(protocol, None)
        return self._by_protocol.pop(protocol, None)

    def _create_task(self, awaitable: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(awaitable)
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task
