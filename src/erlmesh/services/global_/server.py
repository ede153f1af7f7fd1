"""The process ``global_name_server``: it gives each message to the state machines and carries out their effects.

It never waits, and no message from a peer can stop it. It has three kinds of companion processes: the locker
(``locker.py``), the registrar (``registrar.py``), and one short-lived process per session with name conflicts.

Calls are those of global.erl (``handle_call/3``). Casts and plain messages are described in ``sync.py``,
``locker.py`` and ``partitions.py``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from erlmesh.core.exit_reasons import KILL
from erlmesh.core.gen import GEN_CALL, GEN_CAST
from erlmesh.core.reconnect_policy import TOLD_ATTEMPTS, DisconnectCause
from erlmesh.errors import CallError
from erlmesh.net.event_log import event_log
from erlmesh.records import record
from erlmesh.runtime.multicast import RepeatSender
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.locker import FromServer, Locker
from erlmesh.services.global_.methods import ResolveMethods
from erlmesh.services.global_.name_table import NameTable, conflict_operations
from erlmesh.services.global_.partitions import Partitions
from erlmesh.services.global_.protocol import (
    SERVER,
    VSN,
    Atoms,
    Cast,
    Conflict,
    Connect,
    Demonitor,
    Disconnect,
    Effect,
    Monitor,
    Recheck,
    Reply,
    Resolve,
    Send,
    SendToLocker,
    StopResolving,
    claimed_sender,
)
from erlmesh.services.global_.registrar import Registrar
from erlmesh.services.global_.sync import GlobalSync
from erlmesh.services.global_.sync_calls import SyncCalls
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime

__all__ = ["GlobalServer"]

_log = event_log(__name__)
_REX = Atom("rex")
_CALL = Atom("call")
_USER = Atom("user")
MAX_DELAYED: Final = 10_000
"""whereis calls that wait while ``global`` is locked. Further ones are answered at once."""
_RESOLVE_IT = Atom("resolve_it")


@record(frozen=True)
class _DelayedWhereis:
    """A whereis call that is made again. It is not a term, so no other node can send it."""

    name: Term
    caller: tuple[Pid, Term]


class GlobalServer:
    """Start the server, the locker and the registrar on ``node``, which must be running."""

    def __init__(self, node: Runtime, *, prevent_overlapping_partitions: bool = True) -> None:
        self.node = node
        self._peer_log = PeerLog(_log)
        self.locks = LockTable()
        self.names = NameTable()
        self.methods = ResolveMethods()
        rng = node.random
        self.sync = GlobalSync(node.atom, self.names, self.locks, first_tag=rng.getrandbits(48))
        # OTP's extended creation: random bits above the 32 bits of the creation (global.erl, init/1).
        extended_creation = (rng.getrandbits(27) << 32) + node.creation
        self.partitions = Partitions(
            self.sync,
            extended_creation=extended_creation,
            enabled=prevent_overlapping_partitions,
            connected=lambda: map(Atom, node.nodes()),
        )
        # One monitor per process, with the number of reasons for it: its names and its locks.
        self._monitors: dict[Pid, tuple[Ref, int]] = {}
        # The processes that resolve conflicts, by the node in session.
        self._resolvers: dict[Atom, Pid] = {}
        self._sync_calls = SyncCalls()
        # whereis calls that wait until ``global`` is not locked.
        self._delayed = 0
        self._start()
        for name in node.nodes():
            self._apply_effects(self.sync.nodeup(Atom(name)))

    # The processes

    def _start(self) -> None:
        """Start the three processes. The server monitors the other two."""
        node = self.node
        self.process: LocalProcess = node.spawn_handler(self.handle_message, name=SERVER, restart=self._restart)
        self._locker = node.spawn_service(Locker(node.atom, self.sync.known, self.locks).run)
        self.registrar = node.spawn_service(Registrar(self.sync.known, self.names.names_of, self.whereis).run)
        self.sync.locker = self._locker
        self._child_refs = [self.process.monitor(self._locker), self.process.monitor(self.registrar)]
        node.monitor_nodes(self.process.pid)

    def _restart(self) -> None:
        """Start again after one of the three processes has terminated or failed.

        On a BEAM this ends the node. Here the node disconnects from all others and connects again. In both cases no
        other node keeps a session, a lock or a call that would never end. Names and locks of this node's processes
        stay, as they do when connections are lost.
        """
        _log.error(
            "global_restarted",
            "global on %s: one of its processes terminated; disconnecting from all nodes and restarting",
            self.node.name,
            node=self.node.name,
        )
        for pid in (self._locker, self.registrar, *self._resolvers.values()):
            self.process.exit(pid, KILL)
        self._resolvers.clear()
        self._sync_calls = SyncCalls()  # Their calls have failed with the server's exit.
        self._start()
        self._monitors = {pid: (self.process.monitor(pid), count) for pid, (_, count) in self._monitors.items()}
        # Do this before disconnecting: without known nodes, no lost_connection is sent for the others.
        self._apply_effects(self.sync.remove_all_nodes())
        for name in self.node.nodes():
            self.node.disconnect_and_reconnect(name, DisconnectCause.SERVICE_RESTARTED)

    def handle_message(self, message: Term) -> None:
        """Handle one message from any process."""
        sender = claimed_sender(message, self.node.atom)
        if sender is not None and not self.node.is_message_from(sender):
            return
        match message:
            case (Atoms.NODEUP, Atom() as node):
                effects = self.partitions.nodeup(node)
            case (Atoms.NODEDOWN | Atoms.EXTRA_NODEDOWN, Atom() as lost):
                effects = [*self.partitions.nodedown(lost, self.node.now()), *self._sync_calls.node_done(lost)]
            case (Atoms.RECHECK, Atom() as node):
                effects = self.partitions.recheck(node, connected=node.name in self.node.nodes())
            case (Atoms.DOWN, ref, _, Pid() as pid, _):
                effects = self._handle_down(ref, pid)
            case tuple((kind, (Pid(), _) as caller, request)) if kind is GEN_CALL:
                effects = self._handle_call(caller, request)
            case tuple((kind, cast)) if kind is GEN_CAST:
                effects = self._handle_cast(cast)
            case _:
                effects = self._handle_info(message)
        self._apply_effects(effects)

    def whereis(self, name: Term) -> Pid | None:
        """The process that has ``name``, or None.

        A terminated process of this node is not returned, even if its DOWN is still in the mailbox.
        """
        pid = self.names.whereis(name)
        return None if pid is None or (pid.node == self.node.atom and not self.node.is_alive(pid)) else pid

    def resolve_it(self, method: Term, name: Term, pid: Pid, pid2: Pid) -> Term:
        """``global:resolve_it/4``: which of two processes keeps ``name``, according to ``method``.

        An exception in a Python method is logged and gives ``{'EXIT', error}``.
        """
        try:
            return self.methods.run(self.process, method, name, pid, pid2)
        except (Exception, SystemExit):  # A conflict that another node causes must not end the program.
            _log.exception(
                "global_resolve_failed",
                "the resolve method of the global name %s failed",
                ForeignText(name),
                node=self.node.name,
            )
            return (Atom("EXIT"), Atom("error"))

    # Calls

    def _handle_call(self, caller: tuple[Pid, Term], request: Term) -> list[Effect]:
        """Answer a call, also one that is not understood: its caller may wait without a limit. (OTP's only logs it.)"""
        match request:
            case (Atoms.SET_LOCK, (resource, requester)):
                granted, effects = self.locks.set((resource, requester), caller[0])
                return [*effects, Reply(caller, granted)]
            case (Atoms.DEL_LOCK, (resource, requester)):
                return [*self.locks.delete((resource, requester), caller[0]), Reply(caller, True)]
            case (Atoms.REGISTER, name, Pid() as pid, method):
                return [*self._register_name(caller[0], name, pid, method, None), Reply(caller, Atoms.YES)]
            case (Atoms.REGISTER_EXT, name, Pid() as pid, method, Atom() as registrar):
                return [*self._register_name(caller[0], name, pid, method, registrar), Reply(caller, Atoms.YES)]
            case (Atoms.UNREGISTER, name):
                return [*self.names.delete(name), Reply(caller, Atoms.OK)]
            case Atoms.GET_KNOWN:
                return [Reply(caller, list(self.sync.known))]
            case Atoms.GET_SYNCED:
                return [Reply(caller, list(self.sync.synced))]
            case Atoms.GET_PROTOCOL_VERSION:
                return [Reply(caller, VSN)]
            case Atoms.GET_NAMES_EXT:
                return [Reply(caller, list(self.names.external()))]
            case (Atoms.SYNC, list() as nodes):
                return self._wait_for_sync(nodes, caller)
        self._peer_log.write(
            logging.WARNING,
            "request_unknown",
            "",
            "global_name_server does not know the call %s of %s",
            ForeignText(request),
            ForeignText(caller[0]),
            node=self.node.name,
            request=request,
        )
        return [Reply(caller, (Atom("error"), (Atom("unknown_call"), request)))]

    def _register_name(self, registrar: Pid, name: Term, pid: Pid, method: Term, external: Atom | None) -> list[Effect]:
        """Register a name for the process ``registrar``, unless it has lost the lock."""
        effects = self.names.insert(name, pid, method, external)
        # The registrar may have terminated after it locked this node. This call is then too late, and other nodes may
        # not have the name.
        return effects if self.locks.global_lock_still_set(registrar) else effects + self.names.delete(name)

    def _wait_for_sync(self, nodes: list[Term], caller: tuple[Pid, Term]) -> list[Effect]:
        """Reply when all ``nodes`` are in sync or lost. A node that is not connected is lost."""
        node = caller[0].node
        if node is not self.node.atom and not self.node.is_connected(node):
            return []  # The reply would not reach it.
        asked = dict.fromkeys(each for each in nodes if isinstance(each, Atom) and each not in self.sync.synced)
        return self._sync_calls.add(caller, [each for each in asked if self._is_peer(each)])

    # Casts and plain messages

    def _handle_cast(self, message: Term) -> list[Effect]:
        """Handle a cast from another node, or from our own locker or resolver."""
        sync = self.sync
        match message:
            # What is said of a node without a connection would be kept without end.
            case (Atoms.INIT_CONNECT, version, Atom() as node, init_msg):
                return sync.init_connect(node, version, init_msg) if self._is_peer(node) else []
            # A lock_set of an earlier session is dropped here.
            case (Atoms.LOCK_SET, Pid() as locker, _, _, tag):
                return [SendToLocker(message)] if sync.session_tag(locker.node) == tag else []
            case (Atoms.LOCK_SET, Pid(), _, _):
                return [SendToLocker(message)]
            case (Atoms.LOCK_IS_SET, Atom() as node, tag, (_, _) as lock):
                return sync.lock_is_set(node, tag, lock)
            case (Atoms.EXCHANGE, Atom() as node, names, _, tag):
                return sync.exchange(node, names, tag)
            case (Atoms.EXCHANGE_OPS, Atom() as node, int() as tag, list() as operations, list() as resolved):
                self._resolvers.pop(node, None)
                return self._with_sync_replies(node, sync.exchange_ops(node, tag, operations, resolved))
            case (Atoms.RESOLVED, Atom() as node, operations, known, _, external, tag):
                return self._with_sync_replies(node, sync.resolved(node, operations, known, external, tag))
            case (Atoms.NEW_NODES, Atom(), operations, external, nodes, extra):
                return sync.new_nodes(operations, external, nodes, extra)
            case (Atoms.IN_SYNC, Atom() as node, _):
                return self._with_sync_replies(node, sync.in_sync(node)) if self._is_peer(node) else []
            case (Atoms.ASYNC_DEL_NAME | Atoms.ASYNC_DEL_LOCK, _, _):
                return []  # Sent by old versions. Our monitors have the same effect.
        self._peer_log.write(
            logging.WARNING,
            "message_unexpected",
            "",
            "global_name_server ignores the cast %s",
            ForeignText(message),
            node=self.node.name,
        )
        return []

    def _handle_info(self, message: Term) -> list[Effect]:
        """Handle a plain message from another node."""
        match message:
            case (Atoms.INIT_CONNECT_ACK, Atom() as node, acked_tag, peer_tag):
                return self.sync.init_connect_ack(node, acked_tag, peer_tag)
            case (Atoms.CANCEL_CONNECT, Atom() as node, tag):
                return self.sync.cancel_connect(node, tag)
            case (Atoms.LOST_CONNECTION, Atom() as reporter, int() as creation, int() as loss_id, Atom() as lost):
                return self.partitions.lost_connection(reporter, creation, loss_id, lost, self.node.now())
            case (Atoms.REMOVE_CONNECTION, Atom() as node):
                return self.partitions.remove_connection(node)
            case (Atoms.WHEREIS, name, (Pid(), _) as caller):
                return self._reply_whereis(name, caller)
            case _DelayedWhereis():
                self._delayed -= 1
                return self._reply_whereis(message.name, message.caller)
        self._peer_log.write(
            logging.WARNING,
            "message_unexpected",
            "",
            "global_name_server ignores the message %s",
            ForeignText(message),
            node=self.node.name,
        )
        return []

    def _with_sync_replies(self, node: Atom, effects: list[Effect]) -> list[Effect]:
        """Add replies to sync callers if ``node`` is in sync now."""
        return [*effects, *self._sync_calls.node_done(node)] if node in self.sync.synced else effects

    def _is_peer(self, node: Atom) -> bool:
        return self.node.is_connected(node, hidden=False)

    def _reply_whereis(self, name: Term, caller: tuple[Pid, Term]) -> list[Effect]:
        """Answer a whereis. While ``global`` is locked, names may be changing: try again after a random time, as OTP
        does.
        """
        if self.locks.is_set(Atoms.GLOBAL) and self._delayed < MAX_DELAYED:
            self._delayed += 1
            again: Any = _DelayedWhereis(name, caller)
            self.process.send_after(self.node.random.uniform(0.001, 4.0), again)
            return []
        return [Reply(caller, self.whereis(name) or Atoms.UNDEFINED)]

    # Effects

    def _apply_effects(self, effects: list[Effect]) -> None:
        """Carry out effects in order.

        Only ``Connect`` connects. A message for a session that a lost or closed connection has ended must not connect
        to the node again.
        """
        sender = RepeatSender(self.process)  # The report of a lost node goes to all others: it is encoded once.
        for effect in effects:
            match effect:
                case Cast(node, message):
                    self.process.cast((SERVER, node), message, connect=False)
                case Send(node, message):
                    sender.send((SERVER, node), message)
                case SendToLocker(message):
                    is_own = message[0] is not Atoms.LOCK_SET  # that is passed on from the peer's locker
                    self.process.send(self._locker, FromServer(message) if is_own else message)  # type: ignore[arg-type]  # no term
                case Reply(caller, answer):
                    self.process.reply(caller, answer)
                case Monitor(pid):
                    ref, count = self._monitors.get(pid) or (self.process.monitor(pid), 0)
                    self._monitors[pid] = ref, count + 1
                case Demonitor(pid):
                    self._demonitor(pid)
                case Connect(node):
                    self._connect(node)
                case Disconnect(node, reason):
                    self._peer_log.write(
                        logging.WARNING,
                        "global_disconnected",
                        node.name,
                        "global at %s %s node %s",
                        self.node.name,
                        reason,
                        ForeignText(node),
                        node=self.node.name,
                        reason=reason,
                    )
                    self.node.disconnect_and_reconnect(node.name)
                case Recheck(node, seconds):
                    self.process.send_after(seconds, (Atoms.RECHECK, node))
                case Resolve(node):
                    self._resolvers[node] = self.node.spawn_service(self._resolve_conflicts, effect)
                case StopResolving(node):
                    resolver = self._resolvers.pop(node, None)
                    if resolver is not None:
                        self.process.exit(resolver, KILL)

    def _demonitor(self, pid: Pid) -> None:
        """Remove one reason to monitor ``pid``."""
        ref, count = self._monitors.get(pid, (None, 0))
        if ref is None:
            return  # It has terminated, and its DOWN removed the monitor.
        if count > 1:
            self._monitors[pid] = ref, count - 1
        else:
            del self._monitors[pid]
            self.process.demonitor(ref, flush=True)

    def _handle_down(self, ref: Term, pid: Pid) -> list[Effect]:
        """Handle the DOWN of a companion, or of a process with names or locks."""
        if ref in self._child_refs:
            self.process.stop(KILL)  # Then _restart starts all three again.
        # Another ref is of an earlier monitor of the same process.
        if self._monitors.get(pid, (None, 0))[0] != ref:
            return []
        del self._monitors[pid]
        self._sync_calls.caller_down(pid)
        return [*self.locks.handle_down(pid), *self.names.handle_down(pid)]

    def _connect(self, node: Atom) -> None:
        """Connect to a node that another node introduced, and tell it that we are in sync."""

        def on_connect_result(up: bool) -> None:
            """A node that cannot be connected is handled as a lost one. ``keep_connecting`` goes on trying."""
            if up:
                self.process.cast((SERVER, node), (Atoms.IN_SYNC, self.node.atom, True), connect=False)
            else:
                self._peer_log.write(
                    logging.WARNING,
                    "global_mesh_failed",
                    node.name,
                    "global at %s failed to connect to %s",
                    self.node.name,
                    ForeignText(node),
                    node=self.node.name,
                )
                self.node.keep_connecting(node.name, attempts=TOLD_ATTEMPTS)
                self.process.send(self.process.pid, (Atoms.EXTRA_NODEDOWN, node))

        self.node.connect_nowait(node.name, on_connect_result)

    # The process that resolves the conflicts of one session

    async def _resolve_conflicts(self, me: LocalProcess, task: Resolve) -> None:
        """Call the methods of all conflicts in turn, then report the operations to the server."""
        operations = list(task.operations)
        resolved: list[Term] = []
        for conflict in task.conflicts:
            local_op, peer_op = conflict_operations(conflict, await self._call_method(me, conflict))
            operations += [] if local_op is None else [local_op]
            resolved += [] if peer_op is None else [peer_op]
        me.cast(SERVER, (Atoms.EXCHANGE_OPS, task.node, task.tag, operations, resolved))

    async def _call_method(self, me: LocalProcess, conflict: Conflict) -> Term:
        """Run the resolve method on the node of our partition's process, by rpc if that is another node."""
        arguments = [conflict.local_method, conflict.name, conflict.peer_pid, conflict.local_pid]
        where = conflict.local_pid.node
        if where == self.node.atom:
            return self.resolve_it(conflict.local_method, conflict.name, conflict.peer_pid, conflict.local_pid)
        try:
            return await me.call((_REX, where), (_CALL, Atoms.GLOBAL, _RESOLVE_IT, arguments, _USER), timeout=None)
        except CallError as error:
            _log.info(
                "global_conflict_open",
                "no node decides the conflict of the global name %s: %s",
                ForeignText(conflict.name),
                ForeignText(error),
                node=self.node.name,
                reason=error,
            )
            return (Atoms.BADRPC, Atoms.NONE)
