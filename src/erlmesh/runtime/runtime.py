"""A node without its services: processes, names, connections, and the events of nodes coming and going."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from erlmesh.errors import CallError, EncodeError, Exit, NodeNotAlive, NodeStartError, Undef
from erlmesh.etf import encode_term
from erlmesh.kernel.allowed import Allowed
from erlmesh.kernel.cookies import Cookies
from erlmesh.kernel.identifiers import Identifiers
from erlmesh.kernel.spawns import LINKED, MONITORED
from erlmesh.net.epmd import Epmd
from erlmesh.net.epmdless import PortMapper, Resolver, checked_port, ports_to_try
from erlmesh.net.network import Network, TcpNetwork
from erlmesh.notation import claim_here, release_here
from erlmesh.proto.control import Signal, SpawnReply, SpawnRequest
from erlmesh.proto.flags import OFFERED, Flags
from erlmesh.proto.handshake import Me, is_node_name
from erlmesh.runtime.connections import Connections
from erlmesh.runtime.faults import Outcome, exit_reason
from erlmesh.runtime.process import Body, Destination, Process
from erlmesh.runtime.reconnect import Reconnect
from erlmesh.runtime.router import KILLED, NORMAL, Router
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.net.network import Listener
    from erlmesh.node import Node

__all__ = ["Runtime"]

log = logging.getLogger("erlmesh")

NODEUP: Final = Atom("nodeup")
NODEDOWN: Final = Atom("nodedown")
SHUTDOWN: Final = Atom("shutdown")
NET_KERNEL: Final = Atom("net_kernel")
PARTING: Final = Atom("parting")
OURS: Final = Atom("erlmesh")
REPLACED: Final = "wait_pending"
GRACE: Final = 0.5
"""Seconds that processes get to tidy up when the node stops."""


class Runtime:
    """See :class:`erlmesh.Node`, which is this with the services every BEAM expects."""

    def __init__(
        self,
        name: str,
        *,
        cookie: str | None = None,
        cookies: Mapping[str, str] | None = None,
        allow: Iterable[str] | None = None,
        hidden: bool = False,
        net_ticktime: float = 60.0,
        listen: str | Iterable[str] | None = None,
        ports: Iterable[int] | None = None,
        advertise_port: int | None = None,
        epmd: PortMapper | None = None,
        network: Network | None = None,
        resolver: Resolver | None = None,
        reconnect: bool = False,
        seed: int | None = None,
    ) -> None:
        if not is_node_name(name):
            raise ValueError(
                f"{name!r} is no node name: it looks like socrates@127.0.0.1, one @, ASCII, at most 255 characters"
            )
        if not net_ticktime > 0:
            raise ValueError(f"net_ticktime is a positive number of seconds, not {net_ticktime!r}")
        self.name = name
        self.atom = Atom(name)
        self.creation = 0
        self.hidden = hidden
        self.net_ticktime = net_ticktime
        self.random = random.Random(seed)
        self._challenge = partial(secrets.randbits if seed is None else random.Random(seed).getrandbits, 32)
        self.port: int | None = None
        self._cookies = Cookies(cookie, cookies or {})
        self._allowed = Allowed(allow)
        self._listen = (listen,) if isinstance(listen, str) else None if listen is None else tuple(listen)
        self._ports = ports_to_try(ports, epmd)
        self._advertised = None if advertise_port is None else checked_port(advertise_port, "advertise_port")
        self._network: Network = network or TcpNetwork()
        self._epmd: PortMapper = epmd or Epmd()
        self._resolver: Resolver = resolver or self._epmd
        self._listener: Listener | None = None
        self._router_: Router | None = None
        self._connections_: Connections | None = None
        self._caller: Process | None = None
        self._reconnects = reconnect
        self._reconnect: Reconnect | None = None
        self._hanging_up = False
        self._event_receivers: dict[Pid, bool] = {}
        self._spawnable: dict[tuple[str, str, int], Body] = {}
        self._starting = True  # services get the low pids, users the post's own <0.64.0>
        self._stopped = False

    # Life

    async def start(self) -> None:
        """Brings the node up: listens, registers with EPMD (being it, if none runs). Raises NodeStartError in words."""
        if self._router_ is not None or self._stopped:
            raise NodeStartError("a node starts once; make a new one")
        me = Me(
            name=self.name,
            creation=0,
            cookie_for=self._cookies.cookie_for,
            challenge=self._challenge,
            outstanding=set(),
            flags=OFFERED & ~Flags.PUBLISHED if self.hidden else OFFERED,
        )
        answer: list[Callable[[], asyncio.Protocol]] = []
        alive, _, host = self.name.partition("@")
        hosts, listen = await self._network.addresses(host, self._listen)
        self._listener = await self._network.listen(listen, self._ports, lambda: answer[0]() if answer else _NotYet())
        self.port = self._listener.port
        try:
            self.creation = await self._epmd.register(
                alive, self._advertised or self.port, hosts=hosts, hidden=self.hidden
            )
        except BaseException:
            self._listener.close()
            raise
        me = Me(me.name, self.creation, me.cookie_for, me.challenge, me.outstanding, me.flags)
        identifiers = Identifiers(self.atom, self.creation)
        router = self._router_ = Router(identifiers, self._hold)
        self._connections_ = Connections(
            me,
            router,
            self._network,
            self._resolver,
            net_ticktime=self.net_ticktime,
            allowed=self._allowed,
            on_up=self._node_up,
            on_down=self._node_down,
        )
        if self._reconnects:
            self._reconnect = Reconnect(self.name, self.random, self._connections.connect_nowait)
        router.why_not = self._connections.why_not
        router.spawner = self._spawn_requested
        answer.append(self._connections.answer)
        claim_here(self.atom)
        self._caller = self.spawn_server(lambda _: None)
        if self._reconnects:
            self.spawn_server(self._hear_parting, name=OURS)
        self._start_services()
        self._starting = False

    def _start_services(self) -> None:
        """For the node that has some; called when everything runs and nothing has been heard yet."""

    async def stop(self) -> None:
        """Leaves: ends every process (``shutdown``), every connection, the EPMD entry. May be called again."""
        if self._stopped:
            return
        self._stopped = True
        if self._listener is not None:
            self._listener.close()
        if self._reconnect is not None:
            self._reconnect.close()
        waiting: list[asyncio.Task[None]] = []
        if self._router_ is not None:
            processes = list(self._router_.processes.values())
            for process in processes:
                if process.task is asyncio.current_task():
                    process.task = None  # whoever stops the node lives to the end of this
            for process in reversed(processes):  # youngest first: services outlive what leans on them
                if process.task is not None:
                    waiting.append(process.task)
                    self._router_.terminate(process, SHUTDOWN)
        await _settled(waiting)
        if self._connections_ is not None:
            await _settled(self._connections_.close())
        if self._router_ is not None:
            for process in list(self._router_.processes.values()):
                self._router_.terminate(process, SHUTDOWN)
        await self._epmd.close()
        release_here(self.atom)

    def _hold(self, node: Atom, signal: Signal, dial: bool) -> bool:
        return self._connections.hold(node, signal, dial)

    @property
    def _router(self) -> Router:
        if self._router_ is None:
            raise NodeNotAlive(f"{self.name} is not started: use `async with Node(...)`, or await start() first")
        return self._router_

    @property
    def _connections(self) -> Connections:
        if self._connections_ is None:
            raise NodeNotAlive(f"{self.name} is not started: use `async with Node(...)`, or await start() first")
        return self._connections_

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
        return self._start(body, arguments, getattr(body, "__qualname__", repr(body)), name).pid

    def _start(self, body: Body, arguments: tuple[Any, ...], label: str, name: Atom | str | None = None) -> Process:
        process = self._new(label, name)
        process.task = asyncio.get_running_loop().create_task(_run(self._router, process, body, arguments))
        return process

    def spawn_server(self, receive: Callable[[Term], None], *, name: Atom | str | None = None) -> Process:
        """Starts a process without a task: ``receive(message)`` is called for each message, one at a time, as it comes.

        What it raises is logged and it goes on. It traps exits.
        """
        process = self._new(getattr(receive, "__qualname__", repr(receive)), name)
        process.receiver = receive
        process.trap_exit = True
        return process

    def _new(self, label: str, name: Atom | str | None) -> Process:
        router = self._router
        if self._stopped:
            raise NodeNotAlive(f"{self.name} has stopped")
        if name is not None and Atom(name) in router.names:
            raise ValueError(f"the name {name} is taken by {router.names[Atom(name)].pid}")
        identifiers = router.identifiers
        pid = identifiers.system_pid() if self._starting else identifiers.pid(router.processes)
        process = Process(cast("Node", self), router, pid, f"{pid} {label}")
        router.add(process)
        if name is not None:
            router.register(Atom(name), process)
        return process

    def process(self, pid: Pid) -> Process | None:
        """The handle of a living local process; for looking, not for acting in its place."""
        return self._router.local(pid)

    def processes(self) -> list[Pid]:
        """The living local processes, oldest first."""
        return [process.pid for process in self._router.processes.values()]

    def is_alive(self, pid: Pid) -> bool:
        """Whether a local process lives. Raises ``ValueError`` for a pid of another node, which nobody can know."""
        if pid.node is not self.atom:
            raise ValueError(f"{pid} belongs to {pid.node.name}; only its own node knows whether it lives")
        return self._router.local(pid) is not None

    def exit(self, pid: Pid, reason: Term) -> None:
        """Sends an exit signal from outside any process; ``Atom("kill")`` cannot be trapped."""
        self._router.exit_signal(self._own.pid, pid, reason)

    def make_ref(self) -> Ref:
        """A new reference."""
        return self._router.identifiers.ref()

    # Names

    def register(self, name: Atom | str, pid: Pid) -> None:
        """Gives a living local process a name. Raises ``ValueError`` if it is taken or the process is not here."""
        process = self._router.local(pid)
        if process is None:
            raise ValueError(f"cannot register {pid} as {name}: it is no living process of this node")
        self._router.register(Atom(name), process)

    def unregister(self, name: Atom | str) -> bool:
        """Takes a name back. False if nobody had it."""
        return self._router.unregister(Atom(name))

    def whereis(self, name: Atom | str) -> Pid | None:
        """The local process registered as ``name``."""
        process = self._router.names.get(Atom(name))
        return None if process is None else process.pid

    def registered(self) -> list[str]:
        """All registered names."""
        return sorted(name.name for name in self._router.names)

    # Messages from no process in particular

    @property
    def _own(self) -> Process:
        assert self._router is not None
        assert self._caller is not None
        return self._caller

    def send(self, to: Destination, message: Term) -> None:
        """Sends as :meth:`Process.send` does."""
        self._own.send(to, message)

    @property
    def group_leader(self) -> Pid:
        """Where the processes we start elsewhere send what they print. A node has a server for it."""
        return self._own.pid

    async def call(self, to: Destination, request: Term, *, timeout: float | None = 5.0) -> Term:
        """Calls as :meth:`Process.call` does."""
        try:
            return await self._own.call(to, request, timeout=timeout)
        except Exit:
            raise NodeNotAlive(f"{self.name} has stopped") from None

    # Other nodes

    def nodes(self, *, hidden: bool = False) -> list[str]:
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
        self.hang_up(peer)
        return False

    async def connect(self, name: Atom | str) -> bool:
        """Connects; True if it is connected now."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.connect_nowait(name, lambda up: None if done.done() else done.set_result(up))
        return await done

    def connect_nowait(self, name: Atom | str, done: Callable[[bool], None]) -> None:
        """Starts or joins an attempt; ``done(up)`` is called once when it ends, at once if connected already."""
        self._connections.connect_nowait(Atom(name).name, done)

    async def disconnect(self, name: Atom | str) -> bool:
        """Closes the connection, and dials that node no more until somebody wants it. False if there was none."""
        return self.disconnect_nowait(name)

    def disconnect_nowait(self, name: Atom | str) -> bool:
        """The same, at once. The other node, if it is one of ours, is told that this is meant, and does not dial."""
        peer = Atom(name)
        if self._reconnect is not None:
            self._reconnect.forget(peer.name)
        if self._connections.connection(peer.name) is not None:
            self._own.send((OURS, peer), (PARTING, self.atom), connect=False)
        return self._connections.disconnect(peer.name)

    def hang_up(self, name: Atom | str) -> bool:
        """Closes the connection because others have lost that node, or we have lost others: it is dialled again later.
        False if there was none.
        """
        self._hanging_up, before = True, self._hanging_up
        try:
            return self._connections.disconnect(Atom(name).name)
        finally:
            self._hanging_up = before

    def reconnect_with(self, name: Atom | str) -> None:
        """``name`` is missed: it is dialled until it is there. Nothing happens without ``reconnect``."""
        if self._reconnect is not None:
            self._reconnect.wanted(Atom(name).name)

    def missed(self) -> list[str]:
        """The nodes that are being dialled again and again."""
        return [] if self._reconnect is None else self._reconnect.missed()

    def _hear_parting(self, message: Term) -> None:
        match message:
            case (Atom("parting"), Atom() as peer) if self._reconnect is not None:
                self._reconnect.forget(peer.name)

    def why_not(self, name: Atom | str) -> str | None:
        """Why the last attempt to connect with that node failed, and what to do; None if it did not."""
        return self._connections.why_not(Atom(name).name)

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
        self._cookies.set(None if peer == self.name else peer, Atom(cookie).name)

    def allow(self, names: Iterable[Atom | str]) -> None:
        """``net_kernel:allow/1``: only these nodes, and those allowed before, are met from now on (see ``allow`` of
        :class:`erlmesh.Node` for what an entry may be). Connections that are up stay. Raises ``ValueError``.
        """
        self._allowed.add(names)

    def allowed(self) -> list[str]:
        """The entries of the allow-list; ``[]`` if every node with the cookie is allowed."""
        return list(self._allowed.entries)

    # Node events

    def monitor_nodes(self, pid: Pid, *, reasons: bool = False) -> None:
        """``pid`` gets ``(nodeup, node)`` and ``(nodedown, node)`` of visible nodes from now on, names as atoms.

        ``nodeup`` comes before anything else from that node, ``nodedown`` after everything. With ``reasons`` a third
        element of ``nodedown`` is OTP's word for why: ``connection_closed``, ``net_tick_timeout``, ``disconnect``,
        ``killed`` (it broke the protocol), ``wait_pending`` (a newer connection replaces it).
        """
        self._event_receivers[pid] = reasons

    def _node_up(self, name: str, hidden: bool) -> None:
        if self._reconnect is not None:
            self._reconnect.up(name, hidden=hidden)
        if not hidden:
            self._announce(lambda _: (NODEUP, Atom(name)))

    def _node_down(self, name: str, reason: str, hidden: bool, dialled: bool) -> None:
        if self._reconnect is not None and (dialled or not hidden) and reason != REPLACED:
            self._reconnect.lost(name, for_others=self._hanging_up or self._is_left_for_others(name))
        if not hidden:
            self._announce(lambda reasons: (NODEDOWN, Atom(name), Atom(reason)) if reasons else (NODEDOWN, Atom(name)))

    def _is_left_for_others(self, name: str) -> bool:  # noqa: ARG002 - the node that has `global` knows
        return False

    def _announce(self, event: Callable[[bool], Term]) -> None:
        for pid, reasons in list(self._event_receivers.items()):
            process = self._router.local(pid)
            if process is None:
                del self._event_receivers[pid]
            else:
                self._router.deliver(process, event(reasons))

    # Processes started across nodes

    async def spawn_on(
        self, node: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
    ) -> Pid:
        """Starts a process on another node as :meth:`Process.spawn_remote` does, linked to nobody."""
        return await self._own.spawn_remote(node, module, function, arguments)

    def spawn_nowait(
        self, node: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
    ) -> None:
        """The same without waiting, and without a word if there is no such node."""
        call = (Atom(module), Atom(function), list(arguments))
        self._router.births.spawn_nowait(self._own, Atom(node), call, self.group_leader)

    async def spawn_to_the_end(
        self, node: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[Term] = ()
    ) -> Term:
        """Starts a process on another node and waits for its end: its exit reason, or ``noconnection``.

        Raises CallError when the node starts no process, and EncodeError. Whoever stops waiting leaves it alone.
        """
        call = (Atom(module), Atom(function), list(arguments))
        return await self._router.births.spawn_to_the_end(self._own, Atom(node), call, self.group_leader)

    def can_spawn(self, node: Atom | str) -> bool:
        """Whether the connected ``node`` starts processes for others (every node since OTP 23)."""
        connection = self._connections.connection(Atom(node).name)
        known = connection is not None and connection.flags is not None and Flags.SPAWN in connection.flags
        return known or Atom(node) is self.atom

    def spawn_answers(self, module: str, function: str, arity: int, body: Body) -> None:
        """Lets a SPAWN_REQUEST for ``module:function/arity`` run ``await body(me, *arguments)`` as a process."""
        self._spawnable[module, function, arity] = body

    def _body(self, _module: Atom, _function: Atom, _arguments: list[Term]) -> Body | None:
        """What runs for any other SPAWN_REQUEST: ``body(me, module, function, arguments)``, or None to refuse it."""
        return None

    def _spawn_requested(self, request: SpawnRequest) -> SpawnReply:
        module, function, arguments = request.module, request.function, request.arguments
        body = self._spawnable.get((module.name, function.name, request.arity))
        given = tuple(arguments) if body else (module, function, arguments)
        body = body or self._body(module, function, arguments)
        if body is None or self._stopped:
            return SpawnReply(request.ref, request.sender, 0, Atom("notsup"))
        flags = _flags(request.options)
        if flags is None:
            return SpawnReply(request.ref, request.sender, 0, Atom("badopt"))
        process = self._start(body, given, f"{module.name}:{function.name}/{request.arity} for {request.sender}")
        process.group_leader = request.group_leader
        linked, monitored = bool(flags & LINKED), bool(flags & MONITORED)
        self._router.adopt(process, request.sender, request.ref, linked=linked, monitored=monitored)
        return SpawnReply(request.ref, request.sender, flags, process.pid)


def _flags(options: list[Term]) -> int | None:
    """What the new process is to its parent from its birth; None for options that are none."""
    flags = 0
    for option in options:
        if option is Atom("link"):
            flags |= LINKED
        elif option is Atom("monitor") or (isinstance(option, tuple) and option[:1] == (Atom("monitor"),)):
            flags |= MONITORED
        elif not (isinstance(option, tuple) and len(option) == 2):
            return None
    return flags


class _NotYet(asyncio.Protocol):
    """For whoever calls between our listening and our being up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


async def _run(router: Router, process: Process, body: Body, arguments: tuple[Any, ...]) -> None:
    """The life of a process: its body, and what its end means to others."""
    try:
        await body(process, *arguments)
        reason: Term = NORMAL
    except Outcome as end:
        reason = end.reason
    except Exit as end:
        reason = _term(end.reason)
    except asyncio.CancelledError:
        reason = KILLED if process.alive else process.exit_reason
    except Exception as fault:
        if process.alive and not isinstance(fault, Undef):
            log.exception("process %s ended by an exception", process.label)
        reason = _term(exit_reason(fault))
    process.task = None  # it ends by itself
    router.terminate(process, reason)


def _term(reason: object) -> Term:
    """``reason``, or its picture if it is no term."""
    try:
        encode_term(reason)
    except EncodeError:
        return repr(reason).encode("utf-8", "backslashreplace").decode()
    return reason


async def _settled(tasks: list[asyncio.Task[None]]) -> None:
    """Waits for cancelled tasks, not for ever; a process that stops its own node does not wait for itself."""
    others = [task for task in tasks if task is not asyncio.current_task()]
    if others:
        await asyncio.wait(others, timeout=GRACE)
