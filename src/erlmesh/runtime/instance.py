"""One life of a node: its parts, from the moment it has a creation until it has left; and who hears of whom.

Router        processes and their signals          Connections   other nodes
Spawning      processes that are made here         Reconnect     other nodes that are missed
Guests        processes that others start here     NodeEvents    who wants to know of all this
Guarding      loops that are held
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Final, Protocol

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
from erlmesh.runtime.connections import Connection, Connections
from erlmesh.runtime.loop_monitor import ERLMESH, LoopMonitor
from erlmesh.runtime.node_events import NodeEvents
from erlmesh.runtime.pending_signals import PendingSignals
from erlmesh.runtime.process import Body, LocalProcess, ProcessOps
from erlmesh.runtime.process_ops import NodeProcessOps
from erlmesh.runtime.reconnector import Reconnector
from erlmesh.runtime.router import Router, refuse_spawn_request
from erlmesh.runtime.spawn_server import FallbackBody, SpawnServer
from erlmesh.runtime.spawner import Spawner
from erlmesh.terms import Atom, Pid, Term

__all__ = ["DISCONNECTING", "InstanceConfig", "NodeInstance", "ProcessClass"]

DISCONNECTING: Final = Atom("closing")
"""To our own kind: that we leave on purpose, and nobody need dial."""
SHUTDOWN_GRACE: Final = 0.5
"""Seconds that processes get to tidy up when the node stops."""


@dataclass(frozen=True)
class InstanceConfig:
    """A :class:`NodeConfig` with its defaults made: what every instance of the node shares."""

    name: str
    cookies: Cookies
    allow_list: AllowList
    hidden: bool
    net_ticktime: float
    network: Network
    resolver: Resolver
    reconnect: bool
    rng: Random
    challenge: Callable[[], int]


class ProcessClass(Protocol):
    """Makes the object of each local process: :class:`LocalProcess`, or a subclass of it."""

    def __call__(self, ops: ProcessOps, pid: Pid, description: str | Callable[[], str], /) -> LocalProcess: ...


class NodeInstance:
    """Begins when it is made. :meth:`end` before the loop ends.

    ``body_for`` says what runs for others, and ``is_left_for_others(name)`` whether a connection that ends was given up
    for the sake of other nodes.
    """

    def __init__(
        self,
        creation: int,
        config: InstanceConfig,
        *,
        process_class: ProcessClass,
        group_leader: Callable[[], Pid],
        fallback_body: FallbackBody,
        is_overlap_disconnect: Callable[[str], bool],
    ) -> None:
        self.creation = creation
        self._is_overlap_disconnect = is_overlap_disconnect
        atom = Atom(config.name)
        self.router = Router(Identifiers(atom, creation), self._enqueue)
        ops = NodeProcessOps(
            self.router,
            config.rng,
            spawn=self._spawn,
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
            config.network,
            config.resolver,
            net_ticktime=config.net_ticktime,
            reconnect_policy=self.reconnect_policy,
            allow_list=config.allow_list,
            on_up=self._node_up,
            on_down=self._node_down,
        )
        self.reconnector: Reconnector | None = None
        if config.reconnect:
            self.reconnector = Reconnector(self.reconnect_policy, self.connections.reconnect)
        self.router.last_connect_error = self.connections.last_connect_error
        self.router.on_spawn_request = self.spawn_server.on_request
        self.node_process = self._start_node_process()
        """The process that speaks for the node itself, and the first of all."""
        self.loop_monitor = LoopMonitor(self.node_process, config.net_ticktime, self.router.peers)
        if isinstance(config.network, TcpNetwork):
            self.loop_monitor.start()
        self._start_erlmesh_process()

    def _start_node_process(self) -> LocalProcess:
        self.node_process = self.spawner.start_handler(lambda _: None, on_end=self._start_node_process)
        return self.node_process

    def _start_erlmesh_process(self) -> None:
        self.spawner.start_handler(self._on_erlmesh_message, ERLMESH, self._start_erlmesh_process)

    def _on_erlmesh_message(self, message: Term) -> None:
        match message:
            case (Atom("closing"), Atom() as peer) if self.reconnector is not None:
                self.reconnector.suppress(peer.name)
            case _:
                self.loop_monitor.on_message(message)

    async def stop(self) -> None:
        """Ends every process (``shutdown``), youngest first, and every connection."""
        self.spawner.close()
        self.router.on_spawn_request = refuse_spawn_request
        self.router.termination.node_stopping = True
        if self.reconnector is not None:
            self.reconnector.close()
        await _wait_cancelled(self._terminate_tasks())
        await _wait_cancelled(self.connections.close())
        self.loop_monitor.stop()
        for process in list(self.router.registry.processes.values()):
            self.router.termination.terminate(process, SHUTDOWN)

    def _terminate_tasks(self) -> list[asyncio.Task[None]]:
        ended = []
        processes = list(self.router.registry.processes.values())
        for process in processes:
            if process._task is asyncio.current_task():
                process._task = None  # whoever stops the node lives to the end of this
        for process in reversed(processes):  # services outlive what leans on them
            if process._task is not None:
                ended.append(process._task)
                self.router.termination.terminate(process, SHUTDOWN)
        return ended

    def _spawn(self, body: Body, arguments: tuple[Any, ...], name: Atom | str | None) -> LocalProcess:
        return self.spawner.start(body, arguments, name)

    def _nodes(self, *, hidden: bool = False) -> list[str]:
        return self.connections.nodes(hidden=hidden)

    def _enqueue(self, node: Atom, signal: Signal, size: int, dial: bool) -> PendingSignals | None:
        return self.connections.enqueue(node, signal, size, dial)

    def _node_up(self, name: str, hidden: bool) -> None:
        if self.reconnector is not None:
            self.reconnector.connected(name, hidden=hidden)
        if not hidden:
            self.events.node_up(name)

    def _node_down(self, connection: Connection, reason: str, cause: DisconnectCause) -> None:
        name, hidden = connection.name, connection.hidden
        self.loop_monitor.discard_peer(name)
        # A hidden node that connected to us may be a short-lived tool: it is not dialled when it goes.
        if self.reconnector is not None and (connection.dialled or not hidden) and cause != DisconnectCause.REPLACED:
            if self._is_overlap_disconnect(name):  # `global` expects this end, whichever side has closed the connection
                cause = DisconnectCause.OVERLAPPING_PARTITION
            self.reconnector.disconnected(name, connection.creation, cause)
        if not hidden:
            self.events.node_down(name, reason)


def _local_node(config: InstanceConfig, creation: int) -> LocalNode:
    return LocalNode(
        name=config.name,
        creation=creation,
        cookie_for=config.cookies.cookie_for,
        new_challenge=config.challenge,
        outstanding=set(),
        flags=OFFERED & ~Flags.PUBLISHED if config.hidden else OFFERED,
    )


async def _wait_cancelled(tasks: list[asyncio.Task[None]]) -> None:
    """Waits for cancelled tasks, not for ever; a process that stops its own node does not wait for itself."""
    others = [task for task in tasks if task is not asyncio.current_task()]
    if others:
        await asyncio.wait(others, timeout=SHUTDOWN_GRACE)
