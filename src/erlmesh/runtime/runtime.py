"""A node without its services: processes, names, connections, and the events of nodes coming and going."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from erlmesh.core.allow_list import AllowList
from erlmesh.core.cookies import Cookies
from erlmesh.errors import CallError, Exit, NodeNotAlive, NodeStartError
from erlmesh.formatting import claim_local, release_local
from erlmesh.net.epmd import Epmd
from erlmesh.net.network import Network, TcpNetwork
from erlmesh.net.resolvers import PortMapper, Resolver
from erlmesh.proto.flags import Flags
from erlmesh.proto.handshake import is_node_name
from erlmesh.runtime.connections import Connections
from erlmesh.runtime.guarding import OURS
from erlmesh.runtime.life import PARTING, Life, Settings
from erlmesh.runtime.presence import Presence
from erlmesh.runtime.process import Body, Destination, Process
from erlmesh.runtime.router import Router
from erlmesh.runtime.spawning import Spawning
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.node import Node

__all__ = ["Runtime"]

NET_KERNEL: Final = Atom("net_kernel")


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
        network, epmd = network or TcpNetwork(), epmd or Epmd()
        self.random = random.Random(seed)
        self._settings = Settings(
            name=name,
            cookies=Cookies(cookie, cookies or {}),
            allowed=AllowList(allow),
            hidden=hidden,
            net_ticktime=net_ticktime,
            network=network,
            resolver=resolver or epmd,
            reconnect=reconnect,
            chance=self.random,
            challenge=partial(secrets.randbits if seed is None else random.Random(seed).getrandbits, 32),
        )
        self.name = name
        self.atom = Atom(name)
        self.hidden = hidden
        self.net_ticktime = net_ticktime
        self._presence = Presence(
            name, network, epmd, hidden=hidden, listen=listen, ports=ports, advertise_port=advertise_port
        )
        self._life_: Life | None = None
        self._stopped = False

    # Life

    async def start(self) -> None:
        """Brings the node up: listens, registers with EPMD (being it, if none runs). Raises NodeStartError in words."""
        if self._life_ is not None or self._stopped:
            raise NodeStartError("a node starts once; make a new one")
        creation = await self._presence.begin()
        claim_local(self.atom)
        node = cast("Node", self)
        life = self._life_ = Life(node, creation, self._settings, self._body_for, self._is_left_for_others)
        self._presence.answer_with(life.connections.answer)
        self._start_services()
        life.spawning.services_are_there()

    def _start_services(self) -> None:
        """For the node that has some; called when everything runs and nothing has been heard yet."""

    async def stop(self) -> None:
        """Leaves: ends every process (``shutdown``), every connection, the EPMD entry. May be called again."""
        if self._stopped:
            return
        self._stopped = True
        self._presence.close_door()
        if self._life_ is not None:
            await self._life_.end()
        await self._presence.end()
        release_local(self.atom)

    @property
    def _life(self) -> Life:
        if self._life_ is None:
            raise NodeNotAlive(f"{self.name} is not started: use `async with Node(...)`, or await start() first")
        return self._life_

    @property
    def _router(self) -> Router:
        return self._life.router

    @property
    def _connections(self) -> Connections:
        return self._life.connections

    @property
    def _spawning(self) -> Spawning:
        if self._stopped:
            raise NodeNotAlive(f"{self.name} has stopped")
        return self._life.spawning

    @property
    def creation(self) -> int:
        """Which life of the node of this name this is; 0 before it starts."""
        return 0 if self._life_ is None else self._life_.creation

    @property
    def port(self) -> int | None:
        """Where the node listens; None before it does."""
        return self._presence.port

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
        return self._spawning.start(body, arguments, getattr(body, "__qualname__", repr(body)), name).pid

    def spawn_server(
        self,
        receive: Callable[[Term], None],
        *,
        name: Atom | str | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> Process:
        """Starts a process without a task: ``receive(message)`` is called for each message, one at a time, as it comes.

        What it raises is logged and it goes on. It traps exits. ``on_end()`` is called when it has ended and everybody
        was told, unless the node stops: for a server that the node is nothing without, to start it again.
        """
        return self._spawning.start_server(receive, name, on_end)

    def process(self, pid: Pid) -> Process | None:
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
        self._router.acts.exit_signal(self._own.pid, pid, reason)

    def make_ref(self) -> Ref:
        """A new reference."""
        return self._router.identifiers.ref()

    # Names

    def register(self, name: Atom | str, pid: Pid) -> None:
        """Gives a living local process a name. Raises ``ValueError`` if it is taken or the process is not here."""
        process = self._router.registry.local(pid)
        if process is None:
            raise ValueError(f"cannot register {pid} as {name}: it is no living process of this node")
        self._router.registry.register(Atom(name), process)

    def unregister(self, name: Atom | str) -> bool:
        """Takes a name back. False if nobody had it."""
        return self._router.registry.unregister(Atom(name))

    def whereis(self, name: Atom | str) -> Pid | None:
        """The local process registered as ``name``."""
        process = self._router.registry.names.get(Atom(name))
        return None if process is None else process.pid

    def registered(self) -> list[str]:
        """All registered names."""
        return sorted(name.name for name in self._router.registry.names)

    # Messages from no process in particular

    @property
    def _own(self) -> Process:
        return self._life.own

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
        if self._life.reconnect is not None:
            self._life.reconnect.forget(peer.name)
        if self._connections.connection(peer.name) is not None:
            self._own.send((OURS, peer), (PARTING, self.atom), connect=False)
        return self._connections.disconnect(peer.name)

    def hang_up(self, name: Atom | str, *, for_others: bool = True) -> bool:
        """Closes the connection because others have lost that node, or we have lost others: it is dialled again, but
        for a while met in another life only. If not ``for_others``, it is dialled again as any node that is lost.
        False if there was none.
        """
        life = self._life
        life.hanging_up, before = for_others, life.hanging_up
        try:
            return life.connections.disconnect(Atom(name).name)
        finally:
            life.hanging_up = before

    def reconnect_with(self, name: Atom | str) -> None:
        """``name`` is missed: it is dialled until it is there. Nothing happens without ``reconnect``."""
        if self._life.reconnect is not None:
            self._life.reconnect.wanted(Atom(name).name)

    def leaves_alone(self, name: Atom | str) -> bool:
        """Whether that node was disconnected on purpose, here or there, and nobody has wanted it since."""
        return self._life.reconnect is not None and self._life.reconnect.leaves_alone(Atom(name).name)

    def missed(self) -> list[str]:
        """The nodes that are being dialled again and again."""
        return [] if self._life.reconnect is None else self._life.reconnect.missed()

    def busy(self) -> dict[str, float]:
        """The connected nodes of erlmesh whose event loops are held by somebody's code, as they have told, and for how
        many seconds by now. They send ticks and answer nothing until the code is done.
        """
        return self._life.guarding.busy()

    def when_held(self, teller: Callable[[float], bool] | None) -> None:
        """``teller(seconds)`` is called, in another thread, when somebody's code has held this node's event loop for so
        long, at growing intervals. If it returns False, or is None, the log shows that code.
        """
        self._life.guarding.teller = teller

    def why_not(self, name: Atom | str) -> str | None:
        """Why the last attempt to connect with that node failed, and what to do; None if it did not."""
        return self._connections.why_not(Atom(name).name)

    def why_lost(self, name: Atom | str) -> str | None:
        """How the last connection with that node ended, in OTP's word (see :meth:`monitor_nodes`); None if none did."""
        return self._connections.why_lost(Atom(name).name)

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
        self._settings.cookies.set(None if peer == self.name else peer, Atom(cookie).name)

    def allow(self, names: Iterable[Atom | str]) -> None:
        """``net_kernel:allow/1``: only these nodes, and those allowed before, are met from now on (see ``allow`` of
        :class:`erlmesh.Node` for what an entry may be). Connections that are up stay. Raises ``ValueError``.
        """
        self._settings.allowed.add(names)

    def allowed(self) -> list[str]:
        """The entries of the allow-list; ``[]`` if every node with the cookie is allowed."""
        return list(self._settings.allowed.entries)

    # Node events

    def monitor_nodes(self, pid: Pid, *, reasons: bool = False) -> None:
        """``pid`` gets ``(nodeup, node)`` and ``(nodedown, node)`` of visible nodes from now on, names as atoms.

        ``nodeup`` comes before anything else from that node, ``nodedown`` after everything. With ``reasons`` a third
        element of ``nodedown`` is OTP's word for why: ``connection_closed``, ``net_tick_timeout``, ``disconnect``,
        ``killed`` (it broke the protocol), ``wait_pending`` (a newer connection replaces it).
        """
        self._life.events.subscribe(pid, reasons=reasons)

    def _is_left_for_others(self, name: str) -> bool:  # noqa: ARG002 - the node that has `global` knows
        return False

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
        self._life.guests.bodies[module, function, arity] = body

    def _body_for(self, _module: Atom, _function: Atom, _arguments: list[Term]) -> Body | None:
        """What runs for any other SPAWN_REQUEST: ``body(me, module, function, arguments)``, or None to refuse it."""
        return None
