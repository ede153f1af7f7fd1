"""The process ``global_name_server``: every message of the service, to the book-keeping and back.

It answers calls, never waits, and outlives whatever a peer sends it. Its three companions are the locker
(``global_locker``), the registrar (``global_registrar``), and a short-lived process per session with name conflicts.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from erlmesh.core.gen import GEN_CALL, GEN_CAST
from erlmesh.errors import CallError
from erlmesh.services.global_locker import Locker
from erlmesh.services.global_locks import LockTable
from erlmesh.services.global_methods import Methods
from erlmesh.services.global_partitions import Partitions
from erlmesh.services.global_protocol import (
    SERVER,
    VSN,
    Cast,
    Conflict,
    Connect,
    Disconnect,
    Effect,
    Recheck,
    Reply,
    Resolve,
    StopResolving,
    Tell,
    ToLocker,
    Unwatch,
    Watch,
    Word,
)
from erlmesh.services.global_registrar import Registrar
from erlmesh.services.global_sync import GlobalSync
from erlmesh.services.global_table import NameTable, settle
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
        self.methods = Methods()
        chance = node.random
        self.sync = GlobalSync(node.atom, self.names, self.locks, first_tag=chance.getrandbits(48))
        # OTP's extended creation: 28 bits of chance above the creation.
        life = (chance.getrandbits(27) << 32) + node.creation
        self.partitions = Partitions(self.sync, life=life, enabled=prevent_overlapping_partitions)
        self._monitors: dict[Pid, tuple[Ref, int]] = {}
        self._resolvers: dict[Atom, Pid] = {}
        self._waiting: list[tuple[dict[Atom, None], tuple[Pid, Term]]] = []  # callers of sync, and for whom they wait
        self._start()
        for name in node.nodes():
            self._carry_out(self.sync.nodeup(Atom(name)))

    # The processes

    def _start(self) -> None:
        node = self.node
        self.me: Process = node.spawn_handler(self.receive, name=SERVER, on_end=self._start_again)
        self._locker = node.spawn(Locker(node.atom, self.sync.known, self.locks).run)
        self.registrar = node.spawn(Registrar(self).run)
        self.sync.locker = self._locker
        self._companions = [self.me.monitor(self._locker), self.me.monitor(self.registrar)]
        node.monitor_nodes(self.me.pid)

    def _start_again(self) -> None:
        """One of the three has ended: somebody killed it, or it failed. On a BEAM that ends the node; here the node is
        cut off from all others and meets them anew. Both leave nobody with a session, a lock or an answer that would
        never come; but the names and locks of our own processes outlive this, as they do any cut.
        """
        _log.error(
            "global on %s has lost one of its processes: it parts with all nodes and starts again", self.node.name
        )
        for pid in (self._locker, self.registrar, *self._resolvers.values()):
            self.me.exit(pid, _KILL)
        self._resolvers.clear()
        self._waiting.clear()  # they have heard of the end
        self._start()
        self._monitors = {pid: (self.me.monitor(pid), count) for pid, (_, count) in self._monitors.items()}
        self._carry_out(self.sync.forget_all())  # so nobody is known who could be told that the others are lost
        for name in self.node.nodes():
            self.node._disconnect_and_reconnect(name, overlap_disconnect=False)

    def receive(self, message: Term) -> None:
        """One message of anybody's."""
        match message:
            case (Word.NODEUP, node):
                effects = self.partitions.nodeup(Atom(node))
            case (Word.NODEDOWN, node) | (Word.EXTRA_NODEDOWN, node):
                lost = Atom(node)
                effects = [*self.partitions.nodedown(lost, self.node._now()), *self._synced(lost)]
            case (Word.RECHECK, Atom() as node):
                effects = self.partitions.recheck(node, connected=node.name in self.node.nodes())
            case (Word.DOWN, ref, _, Pid() as pid, _):
                effects = self._down(ref, pid)
            case tuple((kind, (Pid(), _) as caller, request)) if kind is GEN_CALL:
                effects = self._answer(caller, request)
            case tuple((kind, cast)) if kind is GEN_CAST:
                effects = self._hear_cast(cast)
            case _:
                effects = self._hear(message)
        self._carry_out(effects)

    def whereis(self, name: Term) -> Pid | None:
        """The process that has ``name``. Our own dead are not found, even before their names are cleared."""
        pid = self.names.whereis(name)
        return None if pid is None or (pid.node == self.node.atom and not self.node.is_alive(pid)) else pid

    def resolve_it(self, method: Term, name: Term, pid: Pid, pid2: Pid) -> Term:
        """``global:resolve_it/4``: which of two processes keeps ``name``, said by ``method``."""
        try:
            return self.methods.run(self.me, method, name, pid, pid2)
        except Exception:
            _log.exception("the resolve method of the global name %s failed", name)
            return (Atom("EXIT"), Atom("error"))

    # Calls

    def _answer(self, caller: tuple[Pid, Term], request: Term) -> list[Effect]:
        match request:
            case (Word.SET_LOCK, (resource, requester)):
                held, effects = self.locks.set((resource, requester), caller[0])
                return [*effects, Reply(caller, held)]
            case (Word.DEL_LOCK, (resource, requester)):
                return [*self.locks.delete((resource, requester), caller[0]), Reply(caller, True)]
            case (Word.REGISTER, name, Pid() as pid, method):
                return [*self._insert(caller[0], name, pid, method, None), Reply(caller, Word.YES)]
            case (Word.REGISTER_EXT, name, Pid() as pid, method, Atom() as registrar):
                return [*self._insert(caller[0], name, pid, method, registrar), Reply(caller, Word.YES)]
            case (Word.UNREGISTER, name):
                return [*self.names.delete(name), Reply(caller, Word.OK)]
            case Word.GET_KNOWN:
                return [Reply(caller, list(self.sync.known))]
            case Word.GET_SYNCED:
                return [Reply(caller, list(self.sync.synced))]
            case Word.GET_PROTOCOL_VERSION:
                return [Reply(caller, VSN)]
            case Word.GET_NAMES_EXT:
                return [Reply(caller, list(self.names.external()))]
            case (Word.SYNC, list() as nodes):
                return self._wait_for(nodes, caller)
        _log.warning("global_name_server ignores the call %r of %s", request, caller[0])
        return []

    def _insert(self, registrar: Pid, name: Term, pid: Pid, method: Term, external: Atom | None) -> list[Effect]:
        effects = self.names.insert(name, pid, method, external)
        # The registrar may have died between locking us and this call, which then comes too late.
        return effects if self.locks.global_holder(registrar) else effects + self.names.delete(name)

    def _wait_for(self, nodes: list[Term], caller: tuple[Pid, Term]) -> list[Effect]:
        missing = {node: None for node in nodes if node != self.node.atom and node not in self.sync.synced}
        if not missing:
            return [Reply(caller, Word.OK)]
        self._waiting.append((missing, caller))
        return []

    def _synced(self, node: Atom) -> list[Effect]:
        """Nobody has to wait for ``node`` any longer: it is in sync, or gone."""
        effects: list[Effect] = []
        for missing, caller in self._waiting:
            if missing.pop(node, node) is None and not missing:
                effects.append(Reply(caller, Word.OK))
        self._waiting = [(missing, caller) for missing, caller in self._waiting if missing]
        return effects

    # Casts and plain messages

    def _hear_cast(self, message: Term) -> list[Effect]:
        sync = self.sync
        match message:
            case (Word.INIT_CONNECT, version, Atom() as node, hello):
                return sync.init_connect(node, version, hello)
            case (Word.LOCK_SET, Pid() as locker, _, _, tag):
                return [ToLocker(message)] if sync.tag(locker.node) == tag else []
            case (Word.LOCK_SET, Pid(), _, _):
                return [ToLocker(message)]
            case (Word.LOCK_IS_SET, Atom() as node, tag, (_, _) as lock):
                return sync.lock_is_set(node, tag, lock)
            case (Word.EXCHANGE, Atom() as node, names, _, tag):
                return sync.exchange(node, names, tag)
            case (Word.EXCHANGE_OPS, Atom() as node, int() as tag, list() as operations, list() as resolved):
                self._resolvers.pop(node, None)
                return self._and_synced(node, sync.exchange_ops(node, tag, operations, resolved))
            case (Word.RESOLVED, Atom() as node, operations, known, _, external, tag):
                return self._and_synced(node, sync.resolved(node, operations, known, external, tag))
            case (Word.NEW_NODES, Atom(), operations, external, nodes, extra):
                return sync.new_nodes(operations, external, nodes, extra)
            case (Word.IN_SYNC, Atom() as node, _):
                return self._and_synced(node, sync.in_sync(node))
            case (Word.ASYNC_DEL_NAME | Word.ASYNC_DEL_LOCK, _, _):
                return []  # of old versions: our monitors do it
        _log.warning("global_name_server ignores the cast %r", message)
        return []

    def _hear(self, message: Term) -> list[Effect]:
        match message:
            case (Word.INIT_CONNECT_ACK, Atom() as node, my_tag, his_tag):
                return self.sync.init_connect_ack(node, my_tag, his_tag)
            case (Word.CANCEL_CONNECT, Atom() as node, tag):
                return self.sync.cancel_connect(node, tag)
            case (Word.LOST_CONNECTION, Atom() as reporter, int() as life, int() as loss, Atom() as lost):
                return self.partitions.lost_connection(reporter, life, loss, lost, self.node._now())
            case (Word.REMOVE_CONNECTION, Atom() as node):
                return self.partitions.remove_connection(node)
            case (Word.WHEREIS, name, (Pid(), _) as caller):
                return self._tell_where(name, caller)
        _log.warning("global_name_server ignores the message %r", message)
        return []

    def _and_synced(self, node: Atom, effects: list[Effect]) -> list[Effect]:
        return [*effects, *self._synced(node)] if node in self.sync.synced else effects

    def _tell_where(self, name: Term, caller: tuple[Pid, Term]) -> list[Effect]:
        """Wait until nobody is changing names."""
        if self.locks.is_set(Word.GLOBAL):
            self.me.send_after(self.node.random.uniform(0.001, 4.0), (Word.WHEREIS, name, caller))
            return []
        return [Reply(caller, self.whereis(name) or Word.UNDEFINED)]

    # Effects

    def _carry_out(self, effects: list[Effect]) -> None:
        """Only ``Connect`` connects: what is said to a node of a session that its loss, or a disconnect on purpose, has
        ended must not call it back.
        """
        for effect in effects:
            match effect:
                case Cast(node, message):
                    self.me.cast((SERVER, node), message, connect=False)
                case Tell(node, message):
                    self.me.send((SERVER, node), message, connect=False)
                case ToLocker(message):
                    self.me.send(self._locker, message)
                case Reply(caller, answer):
                    self.me.reply(caller, answer)
                case Watch(pid):
                    ref, count = self._monitors.get(pid) or (self.me.monitor(pid), 0)
                    self._monitors[pid] = ref, count + 1
                case Unwatch(pid):
                    self._unwatch(pid)
                case Connect(node):
                    self._connect(node)
                case Disconnect(node, why):
                    _log.warning("global at %s %s node %s", self.node.name, why, node.name)
                    self.node._disconnect_and_reconnect(node.name)
                case Recheck(node, seconds):
                    self.me.send_after(seconds, (Word.RECHECK, node))
                case Resolve(node):
                    self._resolvers[node] = self.node.spawn(self._resolve, effect)
                case StopResolving(node):
                    resolver = self._resolvers.pop(node, None)
                    if resolver is not None:
                        self.me.exit(resolver, _KILL)

    def _unwatch(self, pid: Pid) -> None:
        ref, count = self._monitors.get(pid, (None, 0))
        if ref is None:
            return  # it is dead
        if count > 1:
            self._monitors[pid] = ref, count - 1
        else:
            del self._monitors[pid]
            self.me.demonitor(ref, flush=True)

    def _down(self, ref: Term, pid: Pid) -> list[Effect]:
        if ref in self._companions:
            self.me.stop(_KILL)
        if self._monitors.get(pid, (None, 0))[0] != ref:
            return []
        del self._monitors[pid]
        return [*self.locks.down(pid), *self.names.down(pid)]

    def _connect(self, node: Atom) -> None:
        def connected(up: bool) -> None:
            if up:
                self.me.cast((SERVER, node), (Word.IN_SYNC, self.node.atom, True), connect=False)
            else:
                _log.warning("global at %s failed to connect to %s", self.node.name, node.name)
                self.node.keep_connecting(node.name)
                self.me.send(self.me.pid, (Word.EXTRA_NODEDOWN, node))

        self.node.connect_nowait(node.name, connected)

    # The process that settles the conflicts of one session

    async def _resolve(self, me: Process, task: Resolve) -> None:
        operations = list(task.operations)
        resolved: list[Term] = []
        for conflict in task.conflicts:
            mine, his = settle(conflict, await self._ask(me, conflict))
            operations += [] if mine is None else [mine]
            resolved += [] if his is None else [his]
        me.cast(SERVER, (Word.EXCHANGE_OPS, task.node, task.tag, operations, resolved))

    async def _ask(self, me: Process, conflict: Conflict) -> Term:
        """The method runs where our process is."""
        arguments = [conflict.our_method, conflict.name, conflict.theirs, conflict.ours]
        where = conflict.ours.node
        if where == self.node.atom:
            return self.resolve_it(conflict.our_method, conflict.name, conflict.theirs, conflict.ours)
        try:
            return await me.call((_REX, where), (_CALL, Word.GLOBAL, _RESOLVE_IT, arguments, _USER), timeout=None)
        except CallError as error:
            _log.info("nobody decides the conflict of the global name %s: %s", conflict.name, error)
            return (Word.BADRPC, Word.NONE)
