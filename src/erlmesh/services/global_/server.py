"""The process ``global_name_server``: every message of the service, to the book-keeping and back.

It answers calls, never waits, and outlives whatever a peer sends it. Its three companions are the locker
(``global_locker``), the registrar (``global_registrar``), and a short-lived process per session with name conflicts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from erlmesh.core.gen import GEN_CALL, GEN_CAST
from erlmesh.errors import CallError
from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.locker import Locker
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
)
from erlmesh.services.global_.registrar import Registrar
from erlmesh.services.global_.sync import GlobalSync
from erlmesh.terms import Atom, Pid, Ref, Term

if TYPE_CHECKING:
    from erlmesh.runtime.process import Process
    from erlmesh.runtime.runtime import Runtime

__all__ = ["GlobalServer"]

_log = logging.getLogger(__name__)
_REX = Atom("rex")
_CALL = Atom("call")
_USER = Atom("user")
_RESOLVE_IT = Atom("resolve_it")
_KILL = Atom("kill")


class GlobalServer:
    """Starts the server and the locker on ``node``, which must be running."""

    def __init__(self, node: Runtime, *, prevent_overlapping_partitions: bool = True) -> None:
        self.node = node
        self.locks = LockTable()
        self.names = NameTable()
        self.methods = ResolveMethods()
        chance = node.random
        self.sync = GlobalSync(node.atom, self.names, self.locks, first_tag=chance.getrandbits(48))
        # OTP's extended creation: 28 bits of chance above the creation.
        life = (chance.getrandbits(27) << 32) + node.creation
        self.partitions = Partitions(self.sync, extended_creation=life, enabled=prevent_overlapping_partitions)
        self._monitors: dict[Pid, tuple[Ref, int]] = {}
        self._resolvers: dict[Atom, Pid] = {}
        self._sync_waiters: list[
            tuple[dict[Atom, None], tuple[Pid, Term]]
        ] = []  # callers of sync, and for whom they wait
        self._start()
        for name in node.nodes():
            self._apply_effects(self.sync.nodeup(Atom(name)))

    # The processes

    def _start(self) -> None:
        node = self.node
        self.process: Process = node.spawn_handler(self.handle_message, name=SERVER, on_end=self._restart)
        self._locker = node.spawn(Locker(node.atom, self.sync.known, self.locks).run)
        self.registrar = node.spawn(Registrar(self).run)
        self.sync.locker = self._locker
        self._child_refs = [self.process.monitor(self._locker), self.process.monitor(self.registrar)]
        node.monitor_nodes(self.process.pid)

    def _restart(self) -> None:
        """One of the three has ended: somebody killed it, or it failed. On a BEAM that ends the node; here the node is
        cut off from all others and meets them anew. Both leave nobody with a session, a lock or an answer that would
        never come; but the names and locks of our own processes outlive this, as they do any cut.
        """
        _log.error(
            "global on %s has lost one of its processes: it parts with all nodes and starts again", self.node.name
        )
        for pid in (self._locker, self.registrar, *self._resolvers.values()):
            self.process.exit(pid, _KILL)
        self._resolvers.clear()
        self._sync_waiters.clear()  # they have heard of the end
        self._start()
        self._monitors = {pid: (self.process.monitor(pid), count) for pid, (_, count) in self._monitors.items()}
        self._apply_effects(
            self.sync.remove_all_nodes()
        )  # so nobody is known who could be told that the others are lost
        for name in self.node.nodes():
            self.node._disconnect_and_reconnect(name, overlap_disconnect=False)

    def handle_message(self, message: Term) -> None:
        """One message of anybody's."""
        match message:
            case (Atoms.NODEUP, node):
                effects = self.partitions.nodeup(Atom(node))
            case (Atoms.NODEDOWN, node) | (Atoms.EXTRA_NODEDOWN, node):
                lost = Atom(node)
                effects = [*self.partitions.nodedown(lost, self.node._now()), *self._reply_sync_waiters(lost)]
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
        """The process that has ``name``. Our own dead are not found, even before their names are cleared."""
        pid = self.names.whereis(name)
        return None if pid is None or (pid.node == self.node.atom and not self.node.is_alive(pid)) else pid

    def resolve_it(self, method: Term, name: Term, pid: Pid, pid2: Pid) -> Term:
        """``global:resolve_it/4``: which of two processes keeps ``name``, said by ``method``."""
        try:
            return self.methods.run(self.process, method, name, pid, pid2)
        except Exception:
            _log.exception("the resolve method of the global name %s failed", name)
            return (Atom("EXIT"), Atom("error"))

    # Calls

    def _handle_call(self, caller: tuple[Pid, Term], request: Term) -> list[Effect]:
        match request:
            case (Atoms.SET_LOCK, (resource, requester)):
                held, effects = self.locks.set((resource, requester), caller[0])
                return [*effects, Reply(caller, held)]
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
        _log.warning("global_name_server ignores the call %r of %s", request, caller[0])
        return []

    def _register_name(self, registrar: Pid, name: Term, pid: Pid, method: Term, external: Atom | None) -> list[Effect]:
        effects = self.names.insert(name, pid, method, external)
        # The registrar may have died between locking us and this call, which then comes too late.
        return effects if self.locks.global_lock_still_set(registrar) else effects + self.names.delete(name)

    def _wait_for_sync(self, nodes: list[Term], caller: tuple[Pid, Term]) -> list[Effect]:
        missing = {node: None for node in nodes if node != self.node.atom and node not in self.sync.synced}
        if not missing:
            return [Reply(caller, Atoms.OK)]
        self._sync_waiters.append((missing, caller))
        return []

    def _reply_sync_waiters(self, node: Atom) -> list[Effect]:
        """Nobody has to wait for ``node`` any longer: it is in sync, or gone."""
        effects: list[Effect] = []
        for missing, caller in self._sync_waiters:
            if missing.pop(node, node) is None and not missing:
                effects.append(Reply(caller, Atoms.OK))
        self._sync_waiters = [(missing, caller) for missing, caller in self._sync_waiters if missing]
        return effects

    # Casts and plain messages

    def _handle_cast(self, message: Term) -> list[Effect]:
        sync = self.sync
        match message:
            case (Atoms.INIT_CONNECT, version, Atom() as node, hello):
                return sync.init_connect(node, version, hello)
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
                return self._with_sync_replies(node, sync.in_sync(node))
            case (Atoms.ASYNC_DEL_NAME | Atoms.ASYNC_DEL_LOCK, _, _):
                return []  # of old versions: our monitors do it
        _log.warning("global_name_server ignores the cast %r", message)
        return []

    def _handle_info(self, message: Term) -> list[Effect]:
        match message:
            case (Atoms.INIT_CONNECT_ACK, Atom() as node, my_tag, his_tag):
                return self.sync.init_connect_ack(node, my_tag, his_tag)
            case (Atoms.CANCEL_CONNECT, Atom() as node, tag):
                return self.sync.cancel_connect(node, tag)
            case (Atoms.LOST_CONNECTION, Atom() as reporter, int() as life, int() as loss, Atom() as lost):
                return self.partitions.lost_connection(reporter, life, loss, lost, self.node._now())
            case (Atoms.REMOVE_CONNECTION, Atom() as node):
                return self.partitions.remove_connection(node)
            case (Atoms.WHEREIS, name, (Pid(), _) as caller):
                return self._reply_whereis(name, caller)
        _log.warning("global_name_server ignores the message %r", message)
        return []

    def _with_sync_replies(self, node: Atom, effects: list[Effect]) -> list[Effect]:
        return [*effects, *self._reply_sync_waiters(node)] if node in self.sync.synced else effects

    def _reply_whereis(self, name: Term, caller: tuple[Pid, Term]) -> list[Effect]:
        """Wait until nobody is changing names."""
        if self.locks.is_set(Atoms.GLOBAL):
            self.process.send_after(self.node.random.uniform(0.001, 4.0), (Atoms.WHEREIS, name, caller))
            return []
        return [Reply(caller, self.whereis(name) or Atoms.UNDEFINED)]

    # Effects

    def _apply_effects(self, effects: list[Effect]) -> None:
        """Only ``Connect`` connects: what is said to a node of a session that its loss, or a disconnect on purpose, has
        ended must not call it back.
        """
        for effect in effects:
            match effect:
                case Cast(node, message):
                    self.process.cast((SERVER, node), message, connect=False)
                case Send(node, message):
                    self.process.send((SERVER, node), message, connect=False)
                case SendToLocker(message):
                    self.process.send(self._locker, message)
                case Reply(caller, answer):
                    self.process.reply(caller, answer)
                case Monitor(pid):
                    ref, count = self._monitors.get(pid) or (self.process.monitor(pid), 0)
                    self._monitors[pid] = ref, count + 1
                case Demonitor(pid):
                    self._demonitor(pid)
                case Connect(node):
                    self._connect(node)
                case Disconnect(node, why):
                    _log.warning("global at %s %s node %s", self.node.name, why, node.name)
                    self.node._disconnect_and_reconnect(node.name)
                case Recheck(node, seconds):
                    self.process.send_after(seconds, (Atoms.RECHECK, node))
                case Resolve(node):
                    self._resolvers[node] = self.node.spawn(self._resolve_conflicts, effect)
                case StopResolving(node):
                    resolver = self._resolvers.pop(node, None)
                    if resolver is not None:
                        self.process.exit(resolver, _KILL)

    def _demonitor(self, pid: Pid) -> None:
        ref, count = self._monitors.get(pid, (None, 0))
        if ref is None:
            return  # it is dead
        if count > 1:
            self._monitors[pid] = ref, count - 1
        else:
            del self._monitors[pid]
            self.process.demonitor(ref, flush=True)

    def _handle_down(self, ref: Term, pid: Pid) -> list[Effect]:
        if ref in self._child_refs:
            self.process.stop(_KILL)
        if self._monitors.get(pid, (None, 0))[0] != ref:
            return []
        del self._monitors[pid]
        return [*self.locks.handle_down(pid), *self.names.handle_down(pid)]

    def _connect(self, node: Atom) -> None:
        def connected(up: bool) -> None:
            if up:
                self.process.cast((SERVER, node), (Atoms.IN_SYNC, self.node.atom, True), connect=False)
            else:
                _log.warning("global at %s failed to connect to %s", self.node.name, node.name)
                self.node.keep_connecting(node.name)
                self.process.send(self.process.pid, (Atoms.EXTRA_NODEDOWN, node))

        self.node.connect_nowait(node.name, connected)

    # The process that settles the conflicts of one session

    async def _resolve_conflicts(self, me: Process, task: Resolve) -> None:
        operations = list(task.operations)
        resolved: list[Term] = []
        for conflict in task.conflicts:
            mine, his = conflict_operations(conflict, await self._call_method(me, conflict))
            operations += [] if mine is None else [mine]
            resolved += [] if his is None else [his]
        me.cast(SERVER, (Atoms.EXCHANGE_OPS, task.node, task.tag, operations, resolved))

    async def _call_method(self, me: Process, conflict: Conflict) -> Term:
        """The method runs where our process is."""
        arguments = [conflict.local_method, conflict.name, conflict.peer_pid, conflict.local_pid]
        where = conflict.local_pid.node
        if where == self.node.atom:
            return self.resolve_it(conflict.local_method, conflict.name, conflict.peer_pid, conflict.local_pid)
        try:
            return await me.call((_REX, where), (_CALL, Atoms.GLOBAL, _RESOLVE_IT, arguments, _USER), timeout=None)
        except CallError as error:
            _log.info("nobody decides the conflict of the global name %s: %s", conflict.name, error)
            return (Atoms.BADRPC, Atoms.NONE)
