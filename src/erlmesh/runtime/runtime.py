"""A node without its services: processes, names, connections, and node events."""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from erlmesh.core.allow_list import AllowList
from erlmesh.core.cookies import Cookies
from erlmesh.core.node_names import NodeNames, NodeTable
from erlmesh.core.reconnect_policy import DisconnectCause
from erlmesh.errors import CallError, Exit, NodeNotAlive, NodeStartError
from erlmesh.net.epmd import Epmd
from erlmesh.net.network import Network, TcpNetwork
from erlmesh.net.resolvers import NoEpmd
from erlmesh.proto.channel import ELEMENT_LIMIT
from erlmesh.proto.flags import Flags
from erlmesh.proto.handshake import is_node_name
from erlmesh.runtime.config import NodeConfig
from erlmesh.runtime.connections import Connections
from erlmesh.runtime.instance import DISCONNECTING, InstanceConfig, NodeInstance, ProcessClass
from erlmesh.runtime.listener import NodeListener
from erlmesh.runtime.loop_monitor import ERLMESH
from erlmesh.runtime.node_state import NodeState
from erlmesh.runtime.process import Body, Destination, LocalProcess
from erlmesh.runtime.process_types import RequestedBody, StopMode
from erlmesh.runtime.router import Router
from erlmesh.runtime.spawn_server import FallbackBody, refuse_spawn
from erlmesh.runtime.thread_pool import ThreadPool
from erlmesh.runtime.wakeups import Wait
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.node_numbers import claim_local, release_local

if TYPE_CHECKING:
    from erlmesh.net.tls_protocol import TlsConnections

__all__ = ["Runtime"]

NET_KERNEL: Final = Atom("net_kernel")
EXCHANGE_TIME: Final = 0.5
"""Seconds that a node which stops waits for an answer of each connected node."""


class StoppingServices(Protocol):
    """The services of a node, as its stop needs them."""

    async def leave_groups(self, seconds: float) -> None:
        """Let all local processes leave their groups. Wait for other nodes at most ``seconds``."""

    def refuse_calls(self) -> None:
        """From now on refuse the calls of other nodes."""

    def node_stopping(self) -> None:
        """The node closes its connections next."""


class Runtime:
    """A node without services. :class:`erlmesh.Node` has one, and so has every service.

    ``start_services(runtime)`` is called when all parts run and before the first signal of a peer is handled.
    ``fallback_body`` answers a SPAWN_REQUEST for a function that has no body of its own.
    ``is_overlap_disconnect(name)`` is true if ``global`` has disconnected that node to prevent overlapping partitions.
    ``group_leader()`` is the default group leader of processes spawned on other nodes.

    ``function_pool`` has the threads for exposed functions. It is None if they run in the event loop.
    """

    def __init__(
        self,
        config: NodeConfig,
        *,
        process_class: ProcessClass = LocalProcess,
        start_services: Callable[[Runtime], None] | None = None,
        fallback_body: FallbackBody = refuse_spawn,
        is_overlap_disconnect: Callable[[str], bool] = lambda _: False,
        group_leader: Callable[[], Pid] | None = None,
    ) -> None:
        network, seed = config.network or TcpNetwork(), config.seed
        epmd = config.epmd or Epmd(
            client_limit=config.epmd_client_limit, clients_per_address=config.epmd_clients_per_address
        )
        self.random = random.Random(seed)
        self.function_pool = _function_pool(config, network)
        self._config = InstanceConfig(
            name=config.name,
            cookies=Cookies(config.cookie, config.cookies or {}),
            allow_list=AllowList(config.allow),
            hidden=config.hidden,
            net_ticktime=config.net_ticktime,
            send_queue_limit=config.send_queue_limit,
            frame_limit=config.frame_limit,
            element_limit=ELEMENT_LIMIT if config.element_limit is None else config.element_limit,
            blocked_receive_limit=config.blocked_receive_limit,
            blocked_receive_total_limit=config.blocked_receive_total_limit,
            unfinished_receive_limit=config.unfinished_receive_limit,
            handshake_limit=config.handshake_limit,
            handshakes_per_address=config.handshakes_per_address,
            guess_delay=config.guess_delay,
            dial_limit=config.dial_limit,
            network=network,
            tls=_tls_connections(config),
            resolver=config.resolver or epmd,
            reconnect=config.reconnect,
            rng=self.random,
            challenge=partial((random.SystemRandom() if seed is None else random.Random(seed)).getrandbits, 32),
        )
        self.name = config.name
        self.atom = Atom(config.name)
        self.hidden = config.hidden
        self.net_ticktime = config.net_ticktime
        self.started_at = 0.0
        """When the node has started, on the event loop's clock."""
        self._epmd = epmd
        self._listener = NodeListener(
            config.name,
            network,
            epmd,
            hidden=config.hidden,
            listen=config.listen,
            ports=config.ports,
            advertise_port=config.advertise_port,
        )
        self._process_class = process_class
        self._start_services = start_services
        self._fallback_body = fallback_body
        self._is_overlap_disconnect = is_overlap_disconnect
        self._group_leader = group_leader or self._node_process_pid
        self._instance_or_none: NodeInstance | None = None
        self._stopping: asyncio.Future[None] | None = None
        """Done when the node has stopped. None until :meth:`stop` is called."""

    # Start and stop

    @property
    def is_stopping(self) -> bool:
        """True from the call of :meth:`stop` on."""
        return self._stopping is not None

    async def start(self) -> None:
        """Listen and register with EPMD, then start all parts and the services. Raises NodeStartError."""
        if self._instance_or_none is not None or self._stopping is not None:
            raise NodeStartError("a node starts once; make a new one")
        if self._config.tls is not None:
            self._config.tls.load()
        creation = await self._listener.start()
        self.started_at = self.now()
        claim_local(self.atom)
        instance = self._instance_or_none = NodeInstance(
            creation,
            self._config,
            process_class=self._process_class,
            spawn=self._start_process,
            group_leader=self._group_leader,
            fallback_body=self._fallback_body,
            is_overlap_disconnect=self._is_overlap_disconnect,
        )
        self._listener.set_protocol_factory(instance.connections.make_acceptor)
        if self._start_services is not None:
            self._start_services(self)
        instance.spawner.system_processes_started()

    async def stop(self, grace: float = 0.0, services: StoppingServices | None = None) -> None:
        """Stop in order, see :meth:`erlmesh.Node.stop`. ``services`` are told of it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace
        if self._stopping is not None:
            if self._instance_or_none is not None:
                self._instance_or_none.hurry(deadline)
            await asyncio.shield(self._stopping)
            return
        stopping = self._stopping = loop.create_future()
        try:
            self._listener.stop_accepting()
            if self._instance_or_none is not None:
                await self._stop_instance(self._instance_or_none, deadline, grace, services)
            if self.function_pool is not None:
                self.function_pool.close()
            await self._listener.stop()
            release_local(self.atom)
        finally:
            stopping.set_result(None)

    async def _stop_instance(
        self, instance: NodeInstance, deadline: float, grace: float, services: StoppingServices | None
    ) -> None:
        try:
            if grace > 0:
                if services is not None:
                    await services.leave_groups(grace / 4)
                await self._exchange_with_peers(min(EXCHANGE_TIME, grace / 4))
                instance.refuse_work()
                if services is not None:
                    services.refuse_calls()
                await instance.finish_processes(deadline)
        finally:
            if services is not None:
                services.node_stopping()
            await instance.stop(deadline)

    async def _exchange_with_peers(self, seconds: float) -> None:
        """Wait until each connected node has answered, at most ``seconds``.

        The answer follows all that the node has sent before it knew that our processes have left their groups. So work
        that was on its way is here, and is still done.
        """
        question = (Atom("is_auth"), self.atom)
        calls = [self.call((NET_KERNEL, peer), question, timeout=seconds) for peer in self.nodes()]
        await asyncio.gather(*calls, return_exceptions=True)

    @property
    def _instance(self) -> NodeInstance:
        if self._instance_or_none is None:
            raise NodeNotAlive(f"{self.name} is not started: use `async with Node(...)`, or await start() first")
        return self._instance_or_none

    def _node_process_pid(self) -> Pid:
        return self._node_process.pid

    @property
    def _router(self) -> Router:
        return self._instance.router

    @property
    def _connections(self) -> Connections:
        return self._instance.connections

    @property
    def pid(self) -> Pid:
        """The pid that sends what no process sends: messages, exit signals, and ``EXIT`` when the node stops."""
        return self._node_process.pid

    @property
    def creation(self) -> int:
        """The creation of this incarnation of the node; 0 before the start."""
        return 0 if self._instance_or_none is None else self._instance_or_none.creation

    @property
    def port(self) -> int | None:
        """The port that the node listens on; None before the start."""
        return self._listener.port

    @property
    def listen_addresses(self) -> Sequence[str] | None:
        """The addresses that the node listens on; None for every interface."""
        return self._listener.addresses

    @property
    def embedded_epmd_addresses(self) -> list[str]:
        """The addresses at which this node itself serves as EPMD; empty if it does not."""
        return self._epmd.addresses if isinstance(self._epmd, Epmd) else []

    def now(self) -> float:
        """Seconds on the event loop's clock, which all timeouts use."""
        return asyncio.get_running_loop().time()

    def call_after_read(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Call ``callback(*arguments)`` soon, after the tasks that were woken up before.

        While a read is applied, this is in the same iteration of the event loop, and after all of the read. At any
        other time it is in the next iteration.
        """
        instance = self._instance_or_none or self._instance
        wakeups = instance.router.wakeups
        wakeups.schedule(asyncio.get_running_loop(), copy_context(), callback, *arguments)

    def create_wait(self) -> Wait:
        """What one task awaits until other code sets its result. It continues as if it waited for a message."""
        return Wait(self._instance.router.wakeups)

    # Processes

    def spawn(self, body: Body, *arguments: Any, name: Atom | str | None = None) -> Pid:
        """See :meth:`erlmesh.Node.spawn`."""
        return self._start_process(body, arguments, name).pid

    def spawn_service(self, body: Body, *arguments: Any) -> Pid:
        """Start a process of a service: other processes may need it until they have ended."""
        process = self._start_process(body, arguments, None)
        process._stop_mode = StopMode.SERVES
        return process.pid

    def _start_process(self, body: Body, arguments: tuple[Any, ...], name: Atom | str | None) -> LocalProcess:
        """Every process with a body starts here, also a child of another process. Simulations override it."""
        return self._instance.spawner.start(body, arguments, name)

    def spawn_handler(
        self,
        receive: Callable[[Term], None],
        *,
        name: Atom | str | None = None,
        on_end: Callable[[], object] | None = None,
        restart: Callable[[], object] | None = None,
    ) -> LocalProcess:
        """See :meth:`erlmesh.Node.spawn_handler`. ``restart`` starts a server of the node again (:class:`Spawner`)."""
        return self._instance.spawner.start_handler(receive, name, on_end, restart)

    def local_process(self, pid: Pid) -> LocalProcess | None:
        """The handle of a local process that is alive, to look at and not to act in its place."""
        return self._router.registry.local(pid)

    @property
    def state(self) -> NodeState:
        """The tables of the running node, to read."""
        return self._router.state

    def process_count(self) -> int:
        """The number of local processes that are alive."""
        return len(self._router.registry.processes)

    def processes(self) -> list[Pid]:
        """The local processes that are alive, oldest first."""
        return [process.pid for process in self._router.registry.processes.values()]

    def is_alive(self, pid: Pid) -> bool:
        """True if a local process is alive. Raises ``ValueError`` for a pid of another node: only that node knows."""
        if pid.node is not self.atom:
            raise ValueError(f"{pid} belongs to {pid.node.name}; only its own node knows whether it is alive")
        return self._router.registry.local(pid) is not None

    def is_monitored(self, pid: Pid) -> bool:
        """True if a process, here or on another node, monitors the local process ``pid``."""
        return self._router.monitors.is_monitored(pid)

    def is_message_from(self, node: Atom) -> bool:
        """True if ``node``, or this node, sent the message that a handler handles now. See :class:`Delivery`."""
        instance = self._instance_or_none or self._instance  # not the properties: each message to pg calls this
        return instance.router.delivery.is_message_from(node)

    def is_message_local(self) -> bool:
        """True if this node sent the message that a handler handles now: a DOWN, a ``nodeup`` or a timer."""
        return self._router.delivery.is_message_local()

    def exit(self, pid: Pid, reason: Term) -> None:
        """See :meth:`erlmesh.Node.exit`."""
        self._router.signal_sender.exit_signal(self._node_process, pid, reason)

    def make_ref(self) -> Ref:
        """A new reference."""
        return self._router.identifiers.ref()

    # Names

    def register(self, name: Atom | str, pid: Pid) -> None:
        """See :meth:`erlmesh.Node.register`."""
        self._router.registry.register(Atom(name), pid)

    def unregister(self, name: Atom | str) -> bool:
        """See :meth:`erlmesh.Node.unregister`."""
        return self._router.registry.unregister_name(Atom(name))

    def whereis(self, name: Atom | str) -> Pid | None:
        """The local process registered as ``name``."""
        process = self._router.registry.names.get(Atom(name))
        return None if process is None else process.pid

    def registered(self) -> list[str]:
        """All registered names."""
        return sorted(name.name for name in self._router.registry.names)

    # Messages that no process sends

    @property
    def _node_process(self) -> LocalProcess:
        return self._instance.node_process

    def send(self, to: Destination, message: Term, *, wait: bool = True) -> bool:
        """See :meth:`erlmesh.Node.send`."""
        return self._node_process.send(to, message, wait=wait)

    async def wait_writable(self, nodes: Iterable[Atom]) -> None:
        """Wait while the connection to one of ``nodes`` is so full that a BEAM would suspend a sender."""
        for node in nodes:
            peer = self._router.peers.get(node)
            if peer is not None and peer.busy:
                await peer.wait_writable()

    def local_messages_through(self, copy: Callable[[Term], Term]) -> None:
        """Give local receivers ``copy(message)`` of each message. Simulations use it."""
        self._router.signal_sender.copy = copy

    @property
    def group_leader(self) -> Pid:
        """Where processes that this node spawns on other nodes send what they print."""
        return self._group_leader()

    async def call(self, to: Destination, request: Term, *, timeout: float | None = 5.0) -> Term:
        """See :meth:`erlmesh.Node.call`."""
        try:
            return await self._node_process.call(to, request, timeout=timeout)
        except Exit:
            raise NodeNotAlive(f"{self.name} has stopped") from None

    # Other nodes

    def nodes(self, *, hidden: bool = False) -> NodeNames:
        """The connected visible nodes (or the hidden ones), in order of connection."""
        return self._connections.nodes(hidden=hidden)

    def is_connected(self, node: Atom, *, hidden: bool = True) -> bool:
        """True if this node is connected with ``node``. Without ``hidden``, only if both are visible."""
        connection = self._connections.connection(node.name)
        return connection is not None and (hidden or not connection.hidden)

    async def ping(self, name: Atom | str) -> bool:
        """See :meth:`erlmesh.Node.ping`."""
        peer = Atom(name)
        if peer is self.atom:
            return True
        try:
            answer = await self.call((NET_KERNEL, peer), (Atom("is_auth"), self.atom), timeout=None)
        except CallError:
            return False
        if answer is Atom("yes"):
            return True
        self.disconnect_and_reconnect(peer)
        return False

    async def connect(self, name: Atom | str) -> bool:
        """See :meth:`erlmesh.Node.connect`."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.connect_nowait(name, lambda up: None if done.done() else done.set_result(up))
        return await done

    def connect_nowait(self, name: Atom | str, done: Callable[[bool], None]) -> None:
        """Start or join an attempt. ``done(up)`` is called once at its end, or at once if the node is connected."""
        self._connections.connect_nowait(Atom(name).name, done)

    def disconnect(self, name: Atom | str) -> bool:
        """Close the connection (``erlang:disconnect_node/1``). False if there was none.

        This node does not reconnect until something connects to the peer again. A peer that runs erlmesh is notified
        that this is on purpose, and does not reconnect either.
        """
        peer = Atom(name)
        if self._instance.reconnector is not None:
            self._instance.reconnector.suppress(peer.name)
        if self._connections.connection(peer.name) is not None:
            self._node_process.send((ERLMESH, peer), (DISCONNECTING, self.atom), connect=False)
        return self._connections.disconnect(peer.name, DisconnectCause.REQUESTED)

    def disconnect_and_reconnect(
        self, name: Atom | str, cause: DisconnectCause = DisconnectCause.OVERLAPPING_PARTITION
    ) -> bool:
        """Close the connection for ``cause`` and reconnect later. False if there was no connection.

        After ``OVERLAPPING_PARTITION`` the same incarnation is refused for a while.
        """
        return self._connections.disconnect(Atom(name).name, cause)

    def keep_connecting(self, name: Atom | str, *, attempts: int | None = None) -> None:
        """See :meth:`erlmesh.Node.keep_connecting`. With ``attempts``, give up after so many."""
        if self._instance.reconnector is not None:
            self._instance.reconnector.request(Atom(name).name, attempts=attempts)

    def is_reconnect_suppressed(self, name: Atom | str) -> bool:
        """True if that node was disconnected on purpose, by either side, and nothing connected to it since."""
        return self._instance.reconnect_policy.is_suppressed(Atom(name).name)

    def reconnecting(self) -> NodeNames:
        """See :meth:`erlmesh.Node.reconnecting`."""
        return NodeNames(self._instance.reconnect_policy.reconnecting())

    def blocked_peers(self) -> NodeTable[float]:
        """See :meth:`erlmesh.Node.blocked_peers`."""
        return self._instance.loop_monitor.blocked_peers()

    def on_loop_blocked(self, callback: Callable[[float], bool] | None) -> None:
        """See :meth:`erlmesh.Node.on_loop_blocked`."""
        self._instance.loop_monitor.on_blocked = callback

    def announce_traces(self, *, on: bool) -> None:
        """Tell the connected nodes, and later all that connect, that this node makes traces, or no longer does."""
        self._instance.announce_traces(on=on)

    def loop_blocked_for(self) -> float:
        """For how many seconds the event loop has been blocked, as far as is known. Any thread may call this."""
        return self._instance.loop_monitor.blocked_for()

    def silence(self, name: Atom | str) -> float:
        """See :meth:`erlmesh.Node.silence`."""
        if Atom(name) is self.atom:
            return 0.0
        connection = self._connections.connection(Atom(name).name)
        return math.inf if connection is None or connection.protocol is None else connection.protocol.silence()

    def last_connect_error(self, name: Atom | str) -> str | None:
        """See :meth:`erlmesh.Node.last_connect_error`."""
        return self._connections.log.last_connect_error(Atom(name).name)

    def connect_timed_out(self, name: Atom | str) -> bool:
        """True if the last attempt to connect to that node failed because the peer did not answer in time."""
        return self._connections.log.connect_timed_out(Atom(name).name)

    def last_disconnect_reason(self, name: Atom | str) -> str | None:
        """OTP's reason for the end of the last connection to that node, or None."""
        return self._connections.log.last_disconnect_reason(Atom(name).name)

    def creation_of(self, name: Atom | str) -> int | None:
        """The creation of a connected node, or of this one; None if it is not connected."""
        if Atom(name) is self.atom:
            return self.creation
        connection = self._connections.connection(Atom(name).name)
        return None if connection is None else connection.creation

    # Cookies and the allow-list

    def set_cookie(self, name: Atom | str, cookie: Atom | str) -> None:
        """See :meth:`erlmesh.Node.set_cookie`."""
        peer = Atom(name).name
        if not is_node_name(peer):
            raise ValueError(f"{peer!r} is not a node name: it looks like socrates@127.0.0.1")
        # A str does not become an atom: atoms are kept for a while, and shown.
        text = cookie.name if isinstance(cookie, Atom) else cookie
        self._config.cookies.set(None if peer == self.name else peer, text)

    def allow(self, names: Iterable[Atom | str]) -> None:
        """See :meth:`erlmesh.Node.allow`."""
        self._config.allow_list.add(names)

    def is_allowed(self, name: str) -> bool:
        """True if the allow-list accepts the node ``name``."""
        return self._config.allow_list.allows(name)

    def allowed(self) -> list[str]:
        """The entries of the allow-list; ``[]`` if every node with the cookie may connect."""
        return list(self._config.allow_list.entries)

    # Node events

    def monitor_nodes(self, pid: Pid, *, reasons: bool = False, hidden: bool = False) -> None:
        """See :meth:`erlmesh.Node.monitor_nodes`."""
        self._instance.events.subscribe(pid, reasons=reasons, hidden=hidden)

    # Processes started across nodes

    async def spawn_remote(
        self, node: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
    ) -> Pid:
        """Start a process on another node as :meth:`Process.spawn_remote` does, without a link or monitor."""
        return await self._node_process.spawn_remote(node, module, function, arguments)

    def spawn_remote_nowait(
        self,
        node: Atom | str,
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[Term] = (),
        token: Term | None = None,
    ) -> None:
        """Start a process on another node without waiting for a reply. It is dropped if the node is not reachable."""
        call = (Atom(module), Atom(function), list(arguments))
        self._router.spawn_client.spawn_nowait(self._node_process, Atom(node), call, self.group_leader, token)

    async def spawn_and_wait(
        self,
        node: Atom | str,
        module: Atom | str,
        function: Atom | str,
        arguments: Sequence[Term] = (),
        token: Term | None = None,
    ) -> Term:
        """Start a process on another node and return its exit reason, or ``noconnection``.

        Raises CallError if the node refuses, and EncodeError. If the caller is cancelled, the process continues.
        """
        call = (Atom(module), Atom(function), list(arguments))
        client, leader = self._router.spawn_client, self.group_leader
        return await client.spawn_and_wait(self._node_process, Atom(node), call, leader, token)

    def supports_spawn_request(self, node: Atom | str) -> bool:
        """True if the connected ``node`` accepts SPAWN_REQUEST: every node since OTP 23."""
        connection = self._connections.connection(Atom(node).name)
        known = connection is not None and connection.flags is not None and Flags.SPAWN in connection.flags
        return known or Atom(node) is self.atom

    def serve_spawn_request(
        self, module: str, function: str, arity: int, body: RequestedBody, *, while_stopping: bool = False
    ) -> None:
        """Run ``body(me, *arguments)`` in a process for each SPAWN_REQUEST of ``module:function/arity``.

        With ``while_stopping``, this goes on while the node stops, until it closes its connections.
        """
        server = self._instance.spawn_server
        server.bodies[module, function, arity] = body
        if while_stopping:
            server.served_while_stopping.add((module, function, arity))


def _tls_connections(config: NodeConfig) -> TlsConnections | None:
    if config.tls is None:
        return None
    from erlmesh.net.tls_protocol import TlsConnections  # noqa: PLC0415 - only nodes with TLS load it

    is_client = config.hidden and isinstance(config.epmd, NoEpmd)
    return TlsConnections(config.tls, config.name, is_called=not is_client)


def _function_pool(config: NodeConfig, network: Network) -> ThreadPool | None:
    """Return the pool for exposed functions that are not coroutine functions; None runs them in the event loop."""
    size = min(32, (os.cpu_count() or 1) + 4) if config.expose_threads is None else config.expose_threads
    # On a simulated network everything runs in the event loop, so that each run is the same.
    if not size or not isinstance(network, TcpNetwork):
        return None
    return ThreadPool(f"exposed functions of {config.name}", size, config.expose_queue_limit)
