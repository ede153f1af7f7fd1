"""A node without its services: processes, names, connections, and the events of nodes coming and going."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

from erlmesh.core.allow_list import AllowList
from erlmesh.core.cookies import Cookies
from erlmesh.core.node_names import NodeNames, NodeTable
from erlmesh.core.reconnect_policy import DisconnectCause
from erlmesh.errors import CallError, Exit, NodeNotAlive, NodeStartError
from erlmesh.formatting import claim_local, release_local
from erlmesh.net.epmd import Epmd
from erlmesh.net.network import TcpNetwork
from erlmesh.proto.flags import Flags
from erlmesh.proto.handshake import is_node_name
from erlmesh.runtime.config import NodeConfig
from erlmesh.runtime.connections import Connections
from erlmesh.runtime.instance import DISCONNECTING, InstanceConfig, NodeInstance, ProcessClass
from erlmesh.runtime.listener import NodeListener
from erlmesh.runtime.loop_monitor import ERLMESH
from erlmesh.runtime.process import Body, Destination, LocalProcess
from erlmesh.runtime.router import Router
from erlmesh.runtime.spawn_server import FallbackBody, refuse_spawn
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["Runtime"]

NET_KERNEL: Final = Atom("net_kernel")


class Runtime:
    """A node without services. :class:`erlmesh.Node` has one, and so has every service.

    ``start_services(runtime)`` is called when all parts run and before the first signal of a peer is handled.
    ``fallback_body`` answers a SPAWN_REQUEST for a function that has no body of its own.
    ``is_overlap_disconnect(name)`` is true if ``global`` has disconnected that node to prevent overlapping partitions.
    ``group_leader()`` is the default group leader of processes spawned on other nodes.
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
        network, epmd, seed = config.network or TcpNetwork(), config.epmd or Epmd(), config.seed
        self.random = random.Random(seed)
        self._config = InstanceConfig(
            name=config.name,
            cookies=Cookies(config.cookie, config.cookies or {}),
            allow_list=AllowList(config.allow),
            hidden=config.hidden,
            net_ticktime=config.net_ticktime,
            network=network,
            resolver=config.resolver or epmd,
            reconnect=config.reconnect,
            rng=self.random,
            challenge=partial(secrets.randbits if seed is None else random.Random(seed).getrandbits, 32),
        )
        self.name = config.name
        self.atom = Atom(config.name)
        self.hidden = config.hidden
        self.net_ticktime = config.net_ticktime
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
        self._stopped = False

    # Life

    async def start(self) -> None:
        """Brings the node up: listens, registers with EPMD (being it, if none runs). Raises NodeStartError in words."""
        if self._instance_or_none is not None or self._stopped:
            raise NodeStartError("a node starts once; make a new one")
        creation = await self._listener.start()
        claim_local(self.atom)
        life = self._instance_or_none = NodeInstance(
            creation,
            self._config,
            process_class=self._process_class,
            group_leader=self._group_leader,
            fallback_body=self._fallback_body,
            is_overlap_disconnect=self._is_overlap_disconnect,
        )
        self._listener.set_protocol_factory(life.connections.make_acceptor)
        if self._start_services is not None:
            self._start_services(self)
        life.spawner.system_processes_started()

    async def stop(self) -> None:
        """Leaves: ends every process (``shutdown``), every connection, the EPMD entry. May be called again."""
        if self._stopped:
            return
        self._stopped = True
        self._listener.stop_accepting()
        if self._instance_or_none is not None:
            await self._instance_or_none.stop()
        await self._listener.stop()
        release_local(self.atom)

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
    def creation(self) -> int:
        """Which life of the node of this name this is; 0 before it starts."""
        return 0 if self._instance_or_none is None else self._instance_or_none.creation

    @property
    def port(self) -> int | None:
        """Where the node listens; None before it does."""
        return self._listener.port

    def now(self) -> float:
        """Seconds on the clock that all time-outs here run on."""
        return asyncio.get_running_loop().time()

    # Processes

    def spawn(self, body: Body, *arguments: Any, name: Atom | str | None = None) -> Pid:
        """Starts ``await body(me, *arguments)`` as a process and returns its pid at once.

        It ends with ``normal`` when the body returns, with the reason of an :class:`Exit`, or with
        ``{{ExceptionName, Text}, Stack}`` when another exception leaves it, which is also logged. Raises ``ValueError``
        if ``name`` is taken.
        """
        return self._instance.spawner.start(body, arguments, name).pid

    def spawn_handler(
        self,
        receive: Callable[[Term], None],
        *,
        name: Atom | str | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> LocalProcess:
        """Starts a process without a task: ``receive(message)`` is called for each message, one at a time, as it comes.

        What it raises is logged and it goes on. It traps exits. ``on_end()`` is called when it has ended and everybody
        was told, unless the node stops: for a server that the node is nothing without, to start it again.
        """
        return self._instance.spawner.start_handler(receive, name, on_end)

    def local_process(self, pid: Pid) -> LocalProcess | None:
        """The handle of a living local process; for looking, not for acting in its place."""
        return self._router.registry.local(pid)

    def processes(self) -> list[Pid]:
        """The living local processes, oldest first."""
        return [process.pid for process in self._router.registry.processes.values()]

    def is_alive(self, pid: Pid) -> bool:
        """Whether a local process lives. Raises ``ValueError`` for a pid of another node, which nobody can know."""
        if pid.node is not self.atom:
            raise ValueError(f"{pid} belongs to {pid.node.name}; only its own node knows whether it lives")
        return self._router.registry.local(pid) is not None

    def exit(self, pid: Pid, reason: Term) -> None:
        """Sends an exit signal from outside any process; ``Atom("kill")`` cannot be trapped."""
        self._router.signal_sender.exit_signal(self._node_process.pid, pid, reason)

    def make_ref(self) -> Ref:
        """A new reference."""
        return self._router.identifiers.ref()

    # Names

    def register(self, name: Atom | str, pid: Pid) -> None:
        """Gives a living local process a name. Raises ``ValueError`` if it is taken or the process is not here."""
        self._router.registry.register(Atom(name), pid)

    def unregister(self, name: Atom | str) -> bool:
        """Takes a name back. False if nobody had it."""
        return self._router.registry.unregister_name(Atom(name))

    def whereis(self, name: Atom | str) -> Pid | None:
        """The local process registered as ``name``."""
        process = self._router.registry.names.get(Atom(name))
        return None if process is None else process.pid

    def registered(self) -> list[str]:
        """All registered names."""
        return sorted(name.name for name in self._router.registry.names)

    # Messages from no process in particular

    @property
    def _node_process(self) -> LocalProcess:
        return self._instance.node_process

    def send(self, to: Destination, message: Term) -> None:
        """Sends as :meth:`Process.send` does."""
        self._node_process.send(to, message)

    @property
    def group_leader(self) -> Pid:
        """Where the processes we start elsewhere send what they print. A node has a server for it."""
        return self._group_leader()

    async def call(self, to: Destination, request: Term, *, timeout: float | None = 5.0) -> Term:
        """Calls as :meth:`Process.call` does."""
        try:
            return await self._node_process.call(to, request, timeout=timeout)
        except Exit:
            raise NodeNotAlive(f"{self.name} has stopped") from None

    # Other nodes

    def nodes(self, *, hidden: bool = False) -> NodeNames:
        """The connected visible nodes (or the hidden ones), in order of connection."""
        return self._connections.nodes(hidden=hidden)

    async def ping(self, name: Atom | str) -> bool:
        """``net_adm:ping``: True (pong) if the node is there; connects if need be. :meth:`why_not` says why False."""
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
        """Connects; True if it is connected now."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.connect_nowait(name, lambda up: None if done.done() else done.set_result(up))
        return await done

    def connect_nowait(self, name: Atom | str, done: Callable[[bool], None]) -> None:
        """Starts or joins an attempt; ``done(up)`` is called once when it ends, at once if connected already."""
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
        """Closes the connection for ``cause``; the node is dialled again. False if there was no connection.

        After ``OVERLAPPING_PARTITION`` the same incarnation is refused for a while.
        """
        return self._connections.disconnect(Atom(name).name, cause)

    def keep_connecting(self, name: Atom | str) -> None:
        """``name`` is missed: it is dialled until it is there. Nothing happens without ``reconnect``."""
        if self._instance.reconnector is not None:
            self._instance.reconnector.request(Atom(name).name)

    def is_reconnect_suppressed(self, name: Atom | str) -> bool:
        """Whether that node was disconnected on purpose, here or there, and nobody has wanted it since."""
        return self._instance.reconnect_policy.is_suppressed(Atom(name).name)

    def reconnecting(self) -> NodeNames:
        """The nodes that are being dialled again and again."""
        return NodeNames(self._instance.reconnect_policy.reconnecting())

    def blocked_peers(self) -> NodeTable[float]:
        """The connected nodes of erlmesh whose event loops are held by somebody's code, as they have told, and for how
        many seconds by now. They send ticks and answer nothing until the code is done.
        """
        return self._instance.loop_monitor.blocked_peers()

    def on_loop_blocked(self, callback: Callable[[float], bool] | None) -> None:
        """``teller(seconds)`` is called, in another thread, when somebody's code has held this node's event loop for so
        long, at growing intervals. If it returns False, or is None, the log shows that code.
        """
        self._instance.loop_monitor.on_blocked = callback

    def last_connect_error(self, name: Atom | str) -> str | None:
        """Why the last attempt to connect with that node failed, and what to do; None if it did not."""
        return self._connections.last_connect_error(Atom(name).name)

    def last_disconnect_reason(self, name: Atom | str) -> str | None:
        """How the last connection with that node ended, in OTP's word (see :meth:`monitor_nodes`); None if none did."""
        return self._connections.last_disconnect_reason(Atom(name).name)

    def creation_of(self, name: Atom | str) -> int | None:
        """Which life of that node this one is connected with (or is); None if it is not connected."""
        if Atom(name) is self.atom:
            return self.creation
        connection = self._connections.connection(Atom(name).name)
        return None if connection is None else connection.creation

    # Who may come in

    def set_cookie(self, name: Atom | str, cookie: Atom | str) -> None:
        """``erlang:set_cookie/2``: the cookie for the node ``name`` from its next handshake on, in both directions; for
        the own name, that of all nodes without one of their own. Raises ``ValueError``.
        """
        peer = Atom(name).name
        if not is_node_name(peer):
            raise ValueError(f"{peer!r} is no node name: it looks like socrates@127.0.0.1")
        self._config.cookies.set(None if peer == self.name else peer, Atom(cookie).name)

    def allow(self, names: Iterable[Atom | str]) -> None:
        """``net_kernel:allow/1``: only these nodes, and those allowed before, are met from now on (see ``allow`` of
        :class:`erlmesh.Node` for what an entry may be). Connections that are up stay. Raises ``ValueError``.
        """
        self._config.allow_list.add(names)

    def allowed(self) -> list[str]:
        """The entries of the allow-list; ``[]`` if every node with the cookie is allowed."""
        return list(self._config.allow_list.entries)

    # Node events

    def monitor_nodes(self, pid: Pid, *, reasons: bool = False) -> None:
        """``pid`` gets ``(nodeup, node)`` and ``(nodedown, node)`` of visible nodes from now on, names as atoms.

        ``nodeup`` comes before anything else from that node, ``nodedown`` after everything. With ``reasons`` a third
        element of ``nodedown`` is OTP's word for why: ``connection_closed``, ``net_tick_timeout``, ``disconnect``,
        ``killed`` (it broke the protocol), ``wait_pending`` (a newer connection replaces it).
        """
        self._instance.events.subscribe(pid, reasons=reasons)

    # Processes started across nodes

    async def spawn_remote(
        self, node: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
    ) -> Pid:
        """Starts a process on another node as :meth:`Process.spawn_remote` does, linked to nobody."""
        return await self._node_process.spawn_remote(node, module, function, arguments)

    def spawn_remote_nowait(
        self, node: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
    ) -> None:
        """The same without waiting, and without a word if there is no such node."""
        call = (Atom(module), Atom(function), list(arguments))
        self._router.spawn_client.spawn_nowait(self._node_process, Atom(node), call, self.group_leader)

    async def spawn_and_wait(
        self, node: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
    ) -> Term:
        """Starts a process on another node and waits for its end: its exit reason, or ``noconnection``.

        Raises CallError when the node starts no process, and EncodeError. Whoever stops waiting leaves it alone.
        """
        call = (Atom(module), Atom(function), list(arguments))
        return await self._router.spawn_client.spawn_and_wait(self._node_process, Atom(node), call, self.group_leader)

    def supports_spawn_request(self, node: Atom | str) -> bool:
        """Whether the connected ``node`` starts processes for others (every node since OTP 23)."""
        connection = self._connections.connection(Atom(node).name)
        known = connection is not None and connection.flags is not None and Flags.SPAWN in connection.flags
        return known or Atom(node) is self.atom

    def serve_spawn_request(self, module: str, function: str, arity: int, body: Body) -> None:
        """Lets a SPAWN_REQUEST for ``module:function/arity`` run ``await body(me, *arguments)`` as a process."""
        self._instance.spawn_server.bodies[module, function, arity] = body
