"""One incarnation of a node: builds its parts when the creation is known, connects them, and stops them.

===========  ======================================  ============  ===========================================
Router       signals of local processes and peers    Connections   connections to other nodes
Spawner      starts local processes                  Reconnector   connects again to lost nodes
SpawnServer  serves SPAWN_REQUESTs of other nodes    NodeEvents    ``nodeup`` and ``nodedown`` for subscribers
LoopMonitor  reports blocked event loops
===========  ======================================  ============  ===========================================
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from erlmesh.core.allow_list import AllowList
from erlmesh.core.cookies import Cookies
from erlmesh.core.exit_reasons import SHUTDOWN
from erlmesh.core.identifiers import Identifiers
from erlmesh.core.reconnect_policy import DisconnectCause, ReconnectPolicy
from erlmesh.net.network import Network, TcpNetwork
from erlmesh.net.resolvers import Resolver
from erlmesh.proto.control import Signal
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.handshake import LocalNode
from erlmesh.proto.receive_buffer import make_receive_budget
from erlmesh.records import record
from erlmesh.runtime.admission import Admission
from erlmesh.runtime.connections import Connections
from erlmesh.runtime.connector import Connector
from erlmesh.runtime.loop_monitor import ERLMESH, LoopMonitor
from erlmesh.runtime.node_events import NodeEvents
from erlmesh.runtime.pending_signals import PendingSignals
from erlmesh.runtime.process import LocalProcess, ProcessOps
from erlmesh.runtime.process_ops import NodeProcessOps, SpawnFunction
from erlmesh.runtime.protocol_factory import ProtocolFactory
from erlmesh.runtime.reconnector import Reconnector
from erlmesh.runtime.router import Router
from erlmesh.runtime.spawn_server import FallbackBody, SpawnServer
from erlmesh.runtime.spawner import Spawner
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from erlmesh.net.tls_protocol import TlsConnections
    from erlmesh.runtime.connection import Connection
    from erlmesh.runtime.graceful_stop import GracefulStop

__all__ = ["DISCONNECTING", "InstanceConfig", "NodeInstance", "ProcessClass"]

DISCONNECTING: Final = Atom("closing")
"""Message to an erlmesh peer: this node disconnects on purpose, so the peer must not reconnect."""
TRACES: Final = Atom("traces")
"""Message to a peer: this node makes traces. A node that is not erlmesh has no process that gets it."""
NO_TRACES: Final = Atom("no_traces")
"""Message to a peer: this node makes traces no longer."""
CLEANUP_TIME: Final = 0.25
"""Seconds that the cancelled tasks of processes get to clean up when the time for a stop in order is over."""
FLUSH_TIME: Final = 0.25
"""Seconds that a peer gets at least to receive what is queued for it, before its connection is closed."""


@record(frozen=True)
class InstanceConfig:
    """The resolved :class:`NodeConfig`: defaults are replaced by the objects that the parts share."""

    name: str
    cookies: Cookies
    allow_list: AllowList
    hidden: bool
    net_ticktime: float
    send_queue_limit: int
    frame_limit: int
    element_limit: int
    blocked_receive_limit: int
    blocked_receive_total_limit: int
    unfinished_receive_limit: int
    handshake_limit: int
    handshakes_per_address: int
    guess_delay: float
    dial_limit: int
    network: Network
    tls: TlsConnections | None
    resolver: Resolver
    reconnect: bool
    rng: Random
    challenge: Callable[[], int]


class ProcessClass(Protocol):
    """Creates the object of each local process: :class:`LocalProcess` or a subclass."""

    def __call__(self, ops: ProcessOps, pid: Pid, description: str | Callable[[], str], /) -> LocalProcess: ...


class NodeInstance:
    """The parts of a running node. They run once it is created; :meth:`stop` must be called before the loop closes.

    ``fallback_body`` returns the body for a SPAWN_REQUEST of a function that has none of its own.
    ``is_overlap_disconnect(name)`` is true if ``global`` expects the connection to ``name`` to close, because it
    prevents overlapping partitions.
    """

    def __init__(
        self,
        creation: int,
        config: InstanceConfig,
        *,
        process_class: ProcessClass,
        spawn: SpawnFunction,
        group_leader: Callable[[], Pid],
        fallback_body: FallbackBody,
        is_overlap_disconnect: Callable[[str], bool],
    ) -> None:
        self.creation = creation
        self._graceful_stop: GracefulStop | None = None
        self._is_overlap_disconnect = is_overlap_disconnect
        atom = Atom(config.name)
        self.router = Router(Identifiers(atom, creation), self._enqueue)
        ops = NodeProcessOps(
            self.router,
            config.rng,
            spawn=spawn,
            nodes=self._nodes,
            group_leader=group_leader,
        )
        self.spawner = Spawner(self.router, partial(process_class, ops))
        self.spawn_server = SpawnServer(self.router.state, self.spawner, fallback_body)
        self.events = NodeEvents(self.router.state)
        self.reconnect_policy = ReconnectPolicy(config.name, config.rng)
        self.connections = Connections(
            _local_node(config, creation),
            self.router,
            Connector(config.name, config.network, config.resolver, config.allow_list),
            _admission(config),
            _protocol_factory(config),
            reconnect_policy=self.reconnect_policy,
            send_queue_limit=config.send_queue_limit,
            dial_limit=config.dial_limit,
            on_up=self._node_up,
            on_down=self._node_down,
        )
        self.reconnector: Reconnector | None = None
        if config.reconnect:
            self.reconnector = Reconnector(
                self.reconnect_policy, self.connections.reconnect, self.router.state.counters.add
            )
        self.router.last_connect_error = self.connections.log.last_connect_error
        self.router.pending = self.connections.pending
        self.router.on_spawn_request = self.spawn_server.on_request
        self.node_process = self._start_node_process()
        """The first process: the sender of all signals that the node sends on its own behalf."""
        self.loop_monitor = LoopMonitor(self.node_process, config.net_ticktime, self.router.peers)
        # On a network in memory no thread can write to a connection, and virtual time does not pass while code blocks.
        if isinstance(config.network, TcpNetwork):
            self.loop_monitor.start(thread_in_python=config.tls is not None)
        self._start_erlmesh_process()

    def _start_node_process(self) -> LocalProcess:
        # An exit signal can kill it. The node then starts it again and can send as before.
        self.node_process = self.spawner.start_handler(lambda _: None, restart=self._start_node_process)
        return self.node_process

    def _start_erlmesh_process(self) -> None:
        self.spawner.start_handler(self._on_erlmesh_message, ERLMESH, restart=self._start_erlmesh_process)

    def _on_erlmesh_message(self, message: Term) -> None:
        """Handle a message from another erlmesh node: it disconnects, makes traces, or its loop was blocked."""
        match message:
            case (_, Atom() as peer, *_) if not self.router.delivery.is_message_from(peer):
                pass  # A node speaks for itself only.
            case (Atom("traces"), Atom() as peer):
                if peer in self.router.peers:
                    self.router.state.counters.tracing_peers.add(peer)
            case (Atom("no_traces"), Atom() as peer):
                self.router.state.counters.tracing_peers.discard(peer)
            case (Atom("closing"), Atom() as peer) if self.reconnector is not None:
                self.reconnector.suppress(peer.name)
            case _:
                self.loop_monitor.on_message(message)

    def announce_traces(self, *, on: bool) -> None:
        """Tell all connected nodes whether this node makes traces, so that they send their contexts."""
        for peer in list(self.router.peers):
            self._announce_traces_to(peer, TRACES if on else NO_TRACES)

    def _announce_traces_to(self, peer: Atom, what: Atom) -> None:
        self.node_process.send((ERLMESH, peer), (what, self.router.atom), connect=False)

    def refuse_work(self) -> None:
        """Refuse what other nodes want to start here, and do not reconnect to any node."""
        self.router.on_spawn_request = self.spawn_server.on_request_while_stopping
        if self.reconnector is not None:
            self.reconnector.close()

    async def finish_processes(self, deadline: float) -> None:
        """End the processes that have a task: give them time until ``deadline``, then kill those that are left."""
        from erlmesh.runtime.graceful_stop import GracefulStop  # noqa: PLC0415 - a node needs it once, at its end

        self._graceful_stop = GracefulStop(self.router, self.spawner, self.node_process.pid, deadline)
        await _wait_cancelled(await self._graceful_stop.run())

    def hurry(self, deadline: float) -> None:
        """End the processes at ``deadline`` if that is earlier, and do not wait for the one that calls this."""
        if self._graceful_stop is not None:
            self._graceful_stop.hurry(deadline, asyncio.current_task())

    async def stop(self, deadline: float = 0.0) -> None:
        """Terminate every process with ``shutdown``, youngest first, and close every connection.

        Processes with a task go first and may still send while they clean up. Handler processes go last. What is queued
        for other nodes is written first, until ``deadline`` or ``FLUSH_TIME`` from now, whichever is later.
        """
        from erlmesh.runtime.flush import flush  # noqa: PLC0415 - a node needs it once, at its end

        self.spawner.close()
        self.refuse_work()
        self.router.termination.node_stopping = True
        await _wait_cancelled(self._terminate_tasks())
        await flush(self.connections.undelivered, max(deadline, asyncio.get_running_loop().time() + FLUSH_TIME))
        await _wait_cancelled(self.connections.close())
        self.router.termination.finish()
        self.loop_monitor.stop()
        for process in list(self.router.registry.processes.values()):
            self.router.termination.terminate(process, SHUTDOWN)
        self.router.deadlines.close()

    def _terminate_tasks(self) -> list[asyncio.Task[None]]:
        """Terminate the processes that have a task or wait for a thread, and return the tasks."""
        cancelled: list[asyncio.Task[None]] = []
        processes = list(self.router.registry.processes.values())
        for process in processes:
            if process._task is asyncio.current_task():
                # The process that calls `stop` is not cancelled, so that its call returns.
                process._task = None
        for process in reversed(processes):  # Services are older than the processes that use them.
            if process._task is not None:
                if isinstance(process._task, asyncio.Task):
                    cancelled.append(process._task)
                self.router.termination.terminate(process, SHUTDOWN)
        return cancelled

    def _nodes(self, *, hidden: bool = False) -> list[str]:
        return self.connections.nodes(hidden=hidden)

    def _enqueue(self, node: Atom, signal: Signal, size: int, dial: bool) -> PendingSignals | None:
        return self.connections.enqueue(node, signal, size, dial)

    def _node_up(self, name: str, hidden: bool) -> None:
        self.loop_monitor.peer_connected(name)
        if self.router.state.counters.tracer is not None:
            self._announce_traces_to(Atom(name), TRACES)
        if self.reconnector is not None:
            self.reconnector.connected(name, hidden=hidden)
        self.events.node_up(name, hidden=hidden)

    def _node_down(self, connection: Connection, reason: str, cause: DisconnectCause) -> None:
        name, hidden = connection.name, connection.hidden
        self.loop_monitor.discard_peer(name)
        self.router.state.counters.tracing_peers.discard(Atom(name))
        # A hidden node that connected to us may be a short-lived tool, so we do not reconnect to it.
        if self.reconnector is not None and (connection.dialled or not hidden) and cause != DisconnectCause.REPLACED:
            # `global` expects this disconnect, whichever side has closed the connection.
            if self._is_overlap_disconnect(name):
                cause = DisconnectCause.OVERLAPPING_PARTITION
            self.reconnector.disconnected(name, connection.creation, cause)
        self.events.node_down(name, reason, hidden=hidden)


def _local_node(config: InstanceConfig, creation: int) -> LocalNode:
    return LocalNode(
        name=config.name,
        creation=creation,
        cookie_for=config.cookies.cookie_for,
        new_challenge=config.challenge,
        outstanding=set(),
        flags=OFFERED & ~Flags.PUBLISHED if config.hidden else OFFERED,
    )


def _admission(config: InstanceConfig) -> Admission:
    return Admission(
        config.allow_list,
        tls=config.tls,
        handshake_limit=config.handshake_limit,
        handshakes_per_address=config.handshakes_per_address,
        guess_delay=config.guess_delay,
    )


def _protocol_factory(config: InstanceConfig) -> ProtocolFactory:
    return ProtocolFactory(
        config.name,
        net_ticktime=config.net_ticktime,
        send_queue_limit=config.send_queue_limit,
        frame_limit=config.frame_limit,
        element_limit=config.element_limit,
        receive_budget=make_receive_budget(config.blocked_receive_limit, config.blocked_receive_total_limit),
        unfinished_receive_limit=config.unfinished_receive_limit,
        tls=config.tls,
    )


async def _wait_cancelled(tasks: list[asyncio.Task[None]]) -> None:
    """Wait at most ``CLEANUP_TIME`` for cancelled tasks, but not for the task that stops the node."""
    others = [task for task in tasks if task is not asyncio.current_task()]
    if others:
        await asyncio.wait(others, timeout=CLEANUP_TIME)
