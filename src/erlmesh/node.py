"""The public node: a runtime, and the services that every node of a cluster expects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from erlmesh.core.node_names import NodeNames, NodeTable
from erlmesh.errors import NodeNotAlive, NoProcess
from erlmesh.records import fields
from erlmesh.runtime.config import NodeConfig, accept_fields_of
from erlmesh.runtime.process import Body, Destination, LocalProcess, ProcessOps
from erlmesh.runtime.runtime import Runtime
from erlmesh.services.global_.names import GlobalNames
from erlmesh.services.node_services import NodeServices
from erlmesh.services.pg.server import Pg
from erlmesh.services.pg2.server import Pg2
from erlmesh.services.rpc.client import Rpc
from erlmesh.services.rpc.function_table import PROCESS_WIDE, FunctionTable
from erlmesh.terms import Atom, Pid, SendableTerm, Term

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider
    from prometheus_client.registry import CollectorRegistry

    from erlmesh.core.sharding.keeper import Keeper, Merge
    from erlmesh.services.joining import PeerNames
    from erlmesh.services.metrics.node_metrics import NodeMetrics
    from erlmesh.services.sharding.inbox import Inbox
    from erlmesh.services.sharding.outbox import Outbox, Refusal
    from erlmesh.services.sharding.shards import Shards
    from erlmesh.services.tracing.node_traces import NodeTraces
    from erlmesh.web.cluster_map import ClusterMap, MapSettings

__all__ = ["Node", "Process"]


class Process(LocalProcess):
    __doc__ = LocalProcess.__doc__
    __slots__ = ("node",)

    node: Node
    """The node that the process runs on."""

    def monitor_group(self, group: Term, *, scope: Atom | str | None = None) -> Callable[[], None]:
        """Get ``(Atom("pg"), change)`` for each change of a group of ``pg``, in order. A change is Joined or Left.

        The first one is a Joined with the present members, if there are any. ``scope`` is another scope than the
        default one. Return a function that ends this; the end of the process does, too. If the scope stops, all members
        have left, with the reason ``noproc``, and nothing follows.

        Raises NoProcess if the scope does not run. Elixir's counterpart is ``:pg.monitor``. :meth:`Pg.watch` is the
        same for ``async for``.
        """
        found = self.node.pg if scope is None else self.node.pg.find_scope(scope)
        if found is None:
            raise NoProcess(f"there is no pg scope {scope}")
        return found.watch_in_mailbox(self, group)


class Node:
    """A named member of an Erlang cluster. ::

        async with Node("socrates@127.0.0.1", cookie="monster") as node:
            await node.ping("plato@127.0.0.1")

    The keywords are the fields of :class:`NodeConfig`, which says what each means. ``Node.from_config`` takes them as
    one object.

    Raises ``ValueError`` for malformed arguments, and :class:`NodeStartError` on start if the name or port is taken or
    the host cannot be found. Before the start, and after the stop, methods that need the node raise
    :class:`NodeNotAlive`.
    """

    name: str
    """``alive@host``."""
    rpc: Rpc
    """Calls functions of other nodes: ``await node.rpc(peer, module, function, arguments)``."""
    internals: Runtime
    """The parts that services and tools use. They may change in any release."""

    @accept_fields_of(NodeConfig)
    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._joins: list[PeerNames] = [lambda: config.join]
        """The nodes that :meth:`joined` waits for. Who connects this node with others adds a function."""
        self._services_or_none: NodeServices | None = None
        self._builtins = FunctionTable()
        self.internals = self._make_runtime(
            config,
            process_class=self._new_process,
            start_services=self._start_services,
            fallback_body=lambda _module, _function, _arguments: self._functions.apply,
            is_overlap_disconnect=self._is_overlap_disconnect,
            group_leader=lambda: self._services.group_leader.pid,
        )
        self._functions = FunctionTable(PROCESS_WIDE, self._builtins, pool=self.internals.function_pool)
        self.name = config.name
        self.rpc = Rpc(self.internals)

    _make_runtime = Runtime
    """A simulated node has a runtime of its own."""

    @classmethod
    def from_config(cls, config: NodeConfig) -> Self:
        """A node with this configuration."""
        return cls(**{each.name: getattr(config, each.name) for each in fields(type(config))})

    async def start(self) -> None:
        """Listen, and register with EPMD; if no EPMD runs, become it. Raises NodeStartError."""
        await self.internals.start()

    async def stop(self, grace: float | None = None) -> None:
        """Stop in order within ``grace`` seconds (None: the option ``grace``), close every connection, free the name.

        1. The node accepts no connections any more. Its processes leave their groups (``pg``, ``pg2``), so that other
           nodes choose other members. What was on its way here is awaited for a moment.
        2. Work of other nodes is refused as by a node that is not connected: ``erpc`` raises ``{erpc, noconnection}``,
           ``rpc`` returns ``{badrpc, nodedown}``.
        3. Each process is told. One that traps exits gets ``(Atom("EXIT"), pid, Atom("shutdown"))``, and may receive,
           send and call until it returns. A GenServer replies to its callers, and ``terminate`` runs if it traps exits.
           A supervisor stops its children in order. Calls of exposed functions finish. Any other process is terminated
           with ``shutdown``; its task is cancelled and may clean up.
        4. What has not ended after ``grace`` seconds is killed, with a line in the log.
        5. Connections close when all that is queued is delivered.

        With ``grace=0`` all processes are terminated at once. A second call waits for the end of the first one, and
        shortens its time.
        """
        if grace is not None and not grace >= 0:
            raise ValueError(f"grace is a number of seconds, 0 or more, not {grace!r}")
        await self.internals.stop(self._config.grace if grace is None else grace, self._services_or_none)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _new_process(self, ops: ProcessOps, pid: Pid, description: str | Callable[[], str]) -> Process:
        process = Process(ops, pid, description)
        process.node = self
        return process

    def _start_services(self, runtime: Runtime) -> None:
        self._services_or_none = NodeServices(runtime, self._config, self._functions, self._builtins)

    def _is_overlap_disconnect(self, name: str) -> bool:
        return self.global_.is_overlap_disconnect(name)

    @property
    def _services(self) -> NodeServices:
        if self._services_or_none is None:
            raise NodeNotAlive(f"{self.name} is not started: use `async with Node(...)`, or await start() first")
        return self._services_or_none

    # Processes

    def spawn(self, body: Body, *arguments: Any, name: Atom | str | None = None) -> Pid:
        """Start ``await body(me, *arguments)`` as a process and return its pid at once.

        The process exits with ``normal`` when the body returns, and with the reason of an :class:`Exit`. Any other
        exception is logged and becomes ``{{ExceptionName, Text}, Stack}``. Raises ``ValueError`` if ``name`` is taken.
        """
        return self.internals.spawn(body, *arguments, name=name)

    async def run(self, body: Body, *arguments: Any, name: Atom | str | None = None) -> Any:
        """Run ``await body(me, *arguments)`` as a process, wait for its end, and return the result of the body.

        Raises what the body raises, and :class:`Exit` with the reason if an exit signal ends the process. If the caller
        is cancelled, the process gets the exit signal ``shutdown``. Raises ``ValueError`` if ``name`` is taken.
        """
        from erlmesh.runtime.run_process import run_process  # noqa: PLC0415 - most nodes need it never

        return await run_process(self.internals, body, arguments, name)

    def spawn_handler(
        self,
        receive: Callable[[Term], None],
        *,
        name: Atom | str | None = None,
        on_end: Callable[[], object] | None = None,
    ) -> Process:
        """Start a process without a task: ``receive(message)`` is called for each message, one at a time.

        An exception in it is logged and the process continues. It traps exits. ``on_end()`` is called after the process
        has terminated and all exit signals are sent, unless the node stops: a service restarts itself there.
        """
        process = self.internals.spawn_handler(receive, name=name, on_end=on_end)
        assert isinstance(process, Process)
        return process

    async def spawn_remote(
        self, node: Atom | str, module: Atom | str, function: Atom | str, arguments: Sequence[SendableTerm] = ()
    ) -> Pid:
        """Start a process on another node as :meth:`Process.spawn_remote` does, without a link."""
        return await self.internals.spawn_remote(node, module, function, arguments)

    def exit(self, pid: Pid, reason: SendableTerm) -> None:
        """Send an exit signal (``exit/2``). ``Atom("kill")`` cannot be trapped."""
        self.internals.exit(pid, reason)

    def register(self, name: Atom | str, pid: Pid) -> None:
        """Give a local process a name. Raises ``ValueError`` if it is taken or the process is not alive here."""
        self.internals.register(name, pid)

    def unregister(self, name: Atom | str) -> bool:
        """Remove a registered name. False if it was not registered."""
        return self.internals.unregister(name)

    def whereis(self, name: Atom | str) -> Pid | None:
        """The local process registered as ``name``."""
        return self.internals.whereis(name)

    # Messages that no process sends

    def send(self, to: Destination, message: SendableTerm, *, wait: bool = True) -> bool:
        """Send as :meth:`Process.send` does."""
        return self.internals.send(to, message, wait=wait)

    async def call(self, to: Destination, request: SendableTerm, *, timeout: float | None = 5.0) -> Term:
        """Call as :meth:`Process.call` does."""
        return await self.internals.call(to, request, timeout=timeout)

    # Other nodes

    def nodes(self, *, hidden: bool = False) -> NodeNames:
        """The connected visible nodes (or the hidden ones), in order of connection."""
        return self.internals.nodes(hidden=hidden)

    async def ping(self, name: Atom | str) -> bool:
        """``net_adm:ping``: connect if needed, and return True (pong) if the node answers.

        :meth:`last_connect_error` says why it did not.
        """
        return await self.internals.ping(name)

    async def connect(self, name: Atom | str) -> bool:
        """Connect. True if the node is connected now."""
        return await self.internals.connect(name)

    def disconnect(self, name: Atom | str) -> bool:
        """Close the connection (``erlang:disconnect_node/1``). False if there was none.

        This node does not reconnect until something connects to the peer again. A peer that runs erlmesh is notified
        that this is on purpose, and does not reconnect either.
        """
        return self.internals.disconnect(name)

    def monitor_nodes(self, pid: Pid, *, reasons: bool = False, hidden: bool = False) -> None:
        """From now on send ``(nodeup, node)`` and ``(nodedown, node)`` of visible nodes to ``pid``, names as atoms.
        With ``hidden``, those of hidden nodes too. To a hidden node, every node is one.

        ``nodeup`` comes before any other signal of that node, ``nodedown`` after all. With ``reasons``, ``nodedown``
        has a third element, OTP's reason: ``connection_closed``, ``net_tick_timeout``, ``disconnect``, ``killed`` (the
        peer broke the protocol), or ``wait_pending`` (a newer connection replaced it). One reason is not OTP's:
        ``send_queue_full`` (the peer did not read, see the option ``send_queue_limit``).
        """
        self.internals.monitor_nodes(pid, reasons=reasons, hidden=hidden)

    def reconnecting(self) -> NodeNames:
        """The nodes that this node keeps connecting to."""
        return self.internals.reconnecting()

    def blocked_peers(self) -> NodeTable[float]:
        """The connected erlmesh nodes whose event loop is blocked by their code, with the seconds so far.

        They have reported this themselves. Until the code returns they send ticks and answer nothing.
        """
        return self.internals.blocked_peers()

    def silence(self, name: Atom | str) -> float:
        """Seconds since anything came from that node. ``math.inf`` if it is not connected, 0 for this node.

        A connected node that is well sends something at least every quarter of the tick time (15 s by default). So a
        silence of half a tick time says that it is paused or cut off, long before ``nodedown``. While the event loop of
        this node is blocked, what the watchdog thread receives counts.
        """
        return self.internals.silence(name)

    async def joined(self, timeout: float = 5.0) -> bool:
        """Wait until this node has met the cluster of the option ``join``. False after ``timeout`` seconds.

        It is met when a node of ``join`` is connected and each other one has been tried, and when ``global`` has
        exchanged its names with all nodes that these have reported. A node that starts sees itself only. Code that
        takes a role which one node of the cluster may have waits for this first. True at once without ``join``.

        The same holds for the nodes that discovery finds, and for the other workers of ``erlmesh start --workers``.
        """
        from erlmesh.services.joining import wait_until_joined  # noqa: PLC0415 - most nodes need it never

        return await wait_until_joined(self.internals, self.global_, self._joins, timeout)

    def on_loop_blocked(self, callback: Callable[[float], bool] | None) -> None:
        """Call ``callback(seconds)``, in another thread, at growing intervals while code blocks this node's event loop.

        The log shows that code if the callback returns False, or if there is none.
        """
        self.internals.on_loop_blocked(callback)

    def last_connect_error(self, name: Atom | str) -> str | None:
        """Why the last attempt to connect to that node failed, and what to do. None if it did not fail."""
        return self.internals.last_connect_error(name)

    def set_cookie(self, name: Atom | str, cookie: Atom | str) -> None:
        """Set the cookie for the node ``name``, for both directions, from its next handshake on.

        It is ``erlang:set_cookie/2``. The node's own name stands for all nodes without a cookie of their own. Raises
        ``ValueError``.
        """
        self.internals.set_cookie(name, cookie)

    def allow(self, names: Iterable[Atom | str]) -> None:
        """From now on connect only with these nodes and those allowed before (``net_kernel:allow/1``).

        See ``allow`` of :class:`NodeConfig` for the forms of an entry. Connections that are up stay. Raises ValueError.
        """
        self.internals.allow(names)

    # Metrics

    def metrics(self, registry: CollectorRegistry | None = None) -> NodeMetrics:
        """Add this node's metrics to a registry of ``prometheus_client``; None is its default registry.

        Several nodes of one process can be in one registry. Each series has the label ``node``. When the node stops,
        ``erlmesh_node_up`` is 0 and the other series end. ``close()`` of the result ends this earlier. The registry may
        be read in any thread. While the event loop is blocked, the last values are repeated.

        Raises ImportError without the package: ``pip install 'erlmesh[metrics]'``.
        """
        from erlmesh.services.metrics.node_metrics import NodeMetrics  # noqa: PLC0415 - an extra
        from erlmesh.services.metrics.registry import add_to_registry, require_prometheus_client  # noqa: PLC0415

        require_prometheus_client("node.metrics()")
        metrics = NodeMetrics(self.internals, self._services)
        add_to_registry(metrics, registry)
        return metrics

    # What tools show

    def map(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        token: str | None = None,
        control: bool = False,
        record: str | PathLike[str] | None = None,
    ) -> ClusterMap:
        """A page that shows the cluster as all its nodes see it, and what changes. ::

            async with node.map(4380) as page:
                print(page.url)

        ``port`` 0 is a free one. With ``control`` the page has buttons that act on the cluster. With these, and on
        another ``host`` than loopback, viewers need a token: ``token``, or one that is made and is part of
        ``page.url``. ``record`` is a file that gets all changes; ``erlmesh map FILE`` opens it.

        Raises NodeStartError on start if it cannot listen, and here without the extra ``web`` (h11).
        """
        from pathlib import Path  # noqa: PLC0415

        from erlmesh.web.cluster_map import MapSettings  # noqa: PLC0415 - most nodes have no map

        path = None if record is None else Path(record)
        return self._make_map(MapSettings(host=host, port=port, token=token, control=control, record=path))

    def _make_map(self, settings: MapSettings) -> ClusterMap:
        from erlmesh.web.cluster_map import ClusterMap  # noqa: PLC0415

        own = None if self.internals.hidden else self._services.subscribe_view
        return ClusterMap(self.internals, self.pg, own, settings)

    def traces(self, tracer_provider: TracerProvider | None = None, *, start_traces: bool = True) -> NodeTraces:
        """From now on make spans for calls with OpenTelemetry; None is the default provider of the program.

        There are spans for ``call`` and ``rpc`` of this node, for calls that a GenServer handles, and for exposed
        functions. The context goes with calls between nodes of erlmesh that both do this. ``close()`` of the result
        ends it. With ``start_traces=False`` only calls below a span make spans, so a call outside of all traces
        costs little.

        Raises ImportError without the package: ``pip install 'erlmesh[otel]'``.
        """
        from erlmesh.services.tracing.node_traces import NodeTraces  # noqa: PLC0415 - an extra
        from erlmesh.services.tracing.spans import OpenTelemetry  # noqa: PLC0415

        return NodeTraces(self.internals, OpenTelemetry(tracer_provider), start_traces=start_traces)

    # Groups, global names, functions

    @property
    def pg(self) -> Pg:
        """Process groups as in OTP 23 and later: the default scope. ``node.pg.start_scope(name)`` starts another."""
        return self._services.pg

    def shards(
        self,
        name: str | bytes,
        *,
        shards: int = 256,
        settle: float = 0.5,
        quorum: int = 1,
        release_timeout: float | None = 5.0,
        process: Process | None = None,
        keeper: Keeper[Any] | None = None,
        backups: int = 1,
        merge: Merge[Any] | None = None,
        results: Term = None,
    ) -> Shards:
        """Take part in holding ``shards`` shards: each is held by one process of all nodes that call this.

        Use it as ``async with``. See :class:`erlmesh.sharding.Shards` for the events. ``name`` and ``shards`` must be
        the same on all nodes. Before it takes a shard, a node waits for :meth:`joined`, at most five seconds for an
        answer of each connected node, and listens for ``settle`` seconds. A move waits at most ``release_timeout``
        seconds for the old holder (None: for ever).

        After a cut, each side holds all shards. With a ``quorum``, only a side with that many nodes does: pass more
        than half of them, the same number on all nodes. Each shard is then granted by so many nodes, for 0.6 tick times
        at a time. A takeover from a node that has died takes ``settle`` seconds longer. If fewer than 2 * quorum - 1
        nodes start, they wait 0.75 tick times. A release has at most a tenth of a tick time. The guide says what can
        still go wrong: what must never happen twice needs a store with a condition.

        With ``process``, that process of this node is the holder and gets the events as messages.

        With a ``keeper``, the shards have a state, and there are no events: the holder gives the messages of outboxes
        to the keeper, and ``backups`` other nodes have a copy. A move takes the state along. ``merge`` replaces the one
        of the keeper, and ``results`` is the group whose inboxes get the results. See
        :class:`erlmesh.sharding.Keeper`.

        Raises ``ValueError`` and ``TypeError`` for wrong arguments, and ``ValueError`` on a hidden node.
        """
        from erlmesh.services.sharding.shards import (  # noqa: PLC0415 - it loads hashlib
            Shards,
            keep_settings,
            shard_settings,
        )

        settings = shard_settings(name, shards, settle, quorum, release_timeout)
        if not isinstance(process, Process | None):
            raise TypeError(f"process is a process of this node, not {process!r}: pass `me`, and not its pid")
        keep = keep_settings(keeper, backups, merge, results, process)
        if self.internals.hidden:
            raise ValueError("a hidden node does not see the groups of all nodes, so it cannot hold shards")
        if process is not None and process.node is not self:
            raise ValueError(f"{process.pid} is a process of another node: call node.shards there")
        return Shards(self.internals, self.pg, settings, self.joined, process=process, keep=keep)

    @property
    def pg2(self) -> Pg2:
        """Process groups as in OTP 23 and before."""
        return self._services.pg2

    @property
    def global_(self) -> GlobalNames:
        """Names and locks of the whole cluster (OTP's ``global``)."""
        return self._services.global_

    # Acknowledged delivery

    def outbox(
        self,
        name: str | bytes,
        *,
        group: SendableTerm | None = None,
        shards: Shards | None = None,
        credit: int = 1024,
        on_refused: Callable[[Refusal], object] | None = None,
    ) -> Outbox:
        """Send messages by key, with acknowledgements, to the members of a group of inboxes, or to holders of shards.

        See :class:`erlmesh.sharding.Outbox`. For ``shards``, this node need not take part in them: then pass what
        :meth:`shards` returns without ``async with``. At most ``credit`` messages are kept for each process.
        ``on_refused(refusal)`` is called with each message that was refused; by default the log says so. Raises
        ``ValueError`` and ``TypeError`` for wrong arguments.
        """
        from erlmesh.services.sharding.holders import find_holders  # noqa: PLC0415 - few nodes need it
        from erlmesh.services.sharding.outbox import Outbox  # noqa: PLC0415

        holders, to = find_holders(self.pg, group, shards)
        return Outbox(self.internals, holders, name, to=to, credit=credit, on_refused=on_refused)

    def inbox(self, name: str | bytes, *, group: SendableTerm, forget_after: float = 3600.0) -> Inbox:
        """Receive what outboxes of this name send to the group. See :class:`erlmesh.sharding.Inbox`.

        The numbers of a source are forgotten ``forget_after`` seconds after its node was lost. Raises ``ValueError``
        and ``TypeError`` for wrong arguments.
        """
        from erlmesh.services.sharding.inbox import Inbox  # noqa: PLC0415 - few nodes need it

        return Inbox(self.internals, self.pg, name, group, forget_after=forget_after)

    def expose(
        self,
        what: Callable[..., Any] | ModuleType,
        *,
        as_: str | None = None,
        name: str | None = None,
        inline: bool = False,
    ) -> None:
        """Let other nodes call a function, or the functions of a module, on this node. See :func:`erlmesh.expose`."""
        if isinstance(what, ModuleType):
            self._functions.add_module(what, as_, inline=inline)
        else:
            module = as_ or getattr(what, "__module__", type(what).__module__).rpartition(".")[2]
            self._functions.add(what, module, name, inline=inline)
