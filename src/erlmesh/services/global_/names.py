"""Names and locks of the whole cluster, as OTP's ``global`` has them: ``node.global_``.

>>> if await node.global_.register(Atom("leader"), me.pid):        # on all nodes, or on none
...     ...
>>> node.global_.whereis(Atom("leader"))                           # a local look-up on every node

The service makes the node a member of the full mesh: a node that connects to one member is introduced to all others.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from erlmesh.core.exit_reasons import KILL
from erlmesh.core.gen import GEN_CALL
from erlmesh.core.node_names import NodeNames
from erlmesh.errors import CallError
from erlmesh.etf import encode
from erlmesh.records import record
from erlmesh.services.global_.client import check_lock_id, del_lock, set_lock, trans, transaction
from erlmesh.services.global_.methods import Method, random_exit_name
from erlmesh.services.global_.protocol import Atoms, LockId
from erlmesh.services.global_.server import GlobalServer
from erlmesh.terms import Atom, Export, Fun, Pid, Term, exact_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime

__all__ = ["GlobalNames", "GlobalStatistics"]

T = TypeVar("T")


@record(frozen=True)
class GlobalStatistics:
    """A snapshot of the service on one node.

    A node that stays ``in_session`` does not answer. ``removing`` are nodes that have been asked to disconnect.
    ``locks`` are pairs of a resource and the processes that hold it.
    """

    known: tuple[str, ...]
    synced: tuple[str, ...]
    in_session: tuple[str, ...]
    removing: tuple[str, ...]
    names: int
    locks: tuple[tuple[Term, tuple[Pid, ...]], ...]


class GlobalNames:
    """The public API of the service on one node. Create it on a running node before its first connection."""

    def __init__(self, node: Runtime, *, prevent_overlapping_partitions: bool = True) -> None:
        """``prevent_overlapping_partitions`` is OTP's kernel parameter of the same name. It must be the same on all
        nodes.
        """
        self._node = node
        self._server = GlobalServer(node, prevent_overlapping_partitions=prevent_overlapping_partitions)
        # exact_key of a lock → the process that owns it, for locks that were set without a process.
        self._lock_owners: dict[Any, Pid] = {}

    # Names

    async def register(self, name: Term, pid: Pid, method: Method = random_exit_name) -> bool:
        """Register ``name`` for ``pid`` on all nodes. ``pid`` may be of any node.

        Return False if the name is taken or if ``pid`` already has another name.

        ``method`` decides which process keeps the name when two partitions merge that both have it. It is one of the
        three methods in ``global_.methods``, or a Python function ``(name, pid1, pid2)`` that returns a pid or None
        and does not block. As in OTP it runs on the node of ``pid``, or on the node of the other partition's process.
        So a Python function can only decide for processes of this node.

        Raises ``ValueError`` for a Python function and a process of another node, ``TypeError`` if ``pid`` is not a
        pid, and ``EncodeError`` if the name is not a term.
        """
        return await self._call_registrar((Atoms.REGISTER, name, _require_pid(pid), self._method_term(method, pid)))

    async def re_register(self, name: Term, pid: Pid, method: Method = random_exit_name) -> None:
        """Register ``name`` for ``pid`` even if another process has it. See :meth:`register`."""
        await self._call_registrar((Atoms.RE_REGISTER, name, _require_pid(pid), self._method_term(method, pid)))

    def _method_term(self, method: Method, pid: Pid) -> Term:
        """The term of ``method``. Raises ``ValueError`` as :meth:`register` describes."""
        if not isinstance(method, (Export, Fun)) and callable(method) and pid.node is not self._node.atom:
            raise ValueError(
                f"a Python function cannot decide for {pid}: it would have to run on {pid.node.name}; "
                "give one of the three methods in global_.methods, or an Export of a function of that node"
            )
        return self._server.methods.to_term(method)

    async def unregister(self, name: Term) -> None:
        """Remove ``name`` on all nodes. It is not an error if it is not registered."""
        if self._server.whereis(name) is not None:
            await self._call_registrar((Atoms.UNREGISTER, name))

    def whereis(self, name: Term) -> Pid | None:
        """The process that has the name, as far as this node knows. A local look-up."""
        return self._server.whereis(name)

    def registered(self) -> list[Term]:
        """All registered names."""
        return self._server.names.names()

    async def _call_registrar(self, request: Term) -> bool:
        """Let the registrar make a change on all nodes. True if it was made."""
        encode(request)  # Raise EncodeError in the caller. In the registrar it would stop the service.
        return bool(await self._node.call(self._server.registrar, request, timeout=None) == Atoms.YES)

    # Locks

    async def set_lock(
        self,
        lock: LockId,
        nodes: Iterable[Atom | str] | None = None,
        retries: int | None = None,
        *,
        me: LocalProcess | None = None,
    ) -> bool:
        """Lock ``lock`` on ``nodes``. None means all connected nodes and this one.

        ``lock`` is a pair: any resource, and a requester. Processes that give the same requester share the lock.

        The lock belongs to the process ``me`` and is released when it terminates. Without ``me`` it belongs to this
        service until ``del_lock``. Failed attempts are repeated at random intervals, without limit or ``retries``
        times. Return False after the last one.
        """
        targets = None if nodes is None else list(nodes)
        if me is not None:
            return await set_lock(me, lock, targets, retries)
        return await self._start_lock_owner(lock, targets, retries)

    async def del_lock(
        self, lock: LockId, nodes: Iterable[Atom | str] | None = None, *, me: LocalProcess | None = None
    ) -> None:
        """Release a lock that ``set_lock`` has set with the same ``me``."""
        if me is not None:
            await del_lock(me, lock, nodes)
        else:
            await self._stop_lock_owner(lock)

    def trans(
        self, lock: LockId, nodes: Iterable[Atom | str] | None = None, *, me: LocalProcess | None = None
    ) -> AbstractAsyncContextManager[None]:
        """``async with names.trans((resource, requester)):`` runs the block while the lock is held."""
        return self._owner_transaction(lock, nodes) if me is None else transaction(me, lock, nodes)

    @asynccontextmanager
    async def _owner_transaction(self, lock: LockId, nodes: Iterable[Atom | str] | None) -> AsyncIterator[None]:
        """Hold the lock in a process of its own for the block of an ``async with``."""
        check_lock_id(lock)
        owner = self._node.spawn_service(_own_lock, lock, None if nodes is None else list(nodes), None)
        try:
            await self._node.call(owner, Atoms.SET_LOCK, timeout=None)
            yield
        except BaseException:
            self._server.process.exit(owner, KILL)  # Its exit releases the lock.
            raise
        await self._node.call(owner, Atoms.DEL_LOCK, timeout=None)

    async def _start_lock_owner(self, lock: LockId, nodes: list[Atom | str] | None, retries: int | None) -> bool:
        """Set a lock without a process of the caller: start one that owns it until ``del_lock``."""
        check_lock_id(lock)
        owner = self._node.spawn_service(_own_lock, lock, nodes, retries)
        try:
            locked = await self._node.call(owner, Atoms.SET_LOCK, timeout=None) is True
        except BaseException:
            self._server.process.exit(owner, KILL)  # Its exit releases the lock.
            raise
        if locked:
            await self._stop_lock_owner(lock)  # A second set_lock replaces the first: one del_lock releases it.
            self._lock_owners[exact_key(lock)] = owner
        return locked

    async def _stop_lock_owner(self, lock: LockId) -> None:
        """Release the lock of an owner process, which then ends."""
        owner = self._lock_owners.pop(exact_key(lock), None)
        if owner is not None:
            with suppress(CallError):  # It has terminated already, which released the lock.
                await self._node.call(owner, Atoms.DEL_LOCK, timeout=None)

    async def transaction(
        self, me: LocalProcess, lock: LockId, nodes: Iterable[Atom | str] | None, body: Callable[[], Awaitable[T]]
    ) -> T:
        """Run ``body`` while ``me`` holds ``lock`` on ``nodes``, as ``global:trans(Id, Fun, Nodes)`` does."""
        return await trans(me, lock, nodes, body)

    # The cluster

    async def sync(self, nodes: Iterable[Atom | str] | None = None, *, timeout: float | None = None) -> None:
        """Wait until all connected nodes, or ``nodes``, have the same names as this node.

        A connected node that does not run ``global`` is waited for as long as it is connected, as in OTP. Raises
        ``CallTimeout`` after ``timeout`` seconds.
        """
        targets = [Atom(node) for node in (self._node.nodes() if nodes is None else nodes)]
        await self._node.call(self._server.process.pid, (Atoms.SYNC, targets), timeout=timeout)

    def known(self) -> NodeNames:
        """The other nodes of our partition: those that are in sync, and those that they introduced to us."""
        return NodeNames(node.name for node in self._server.sync.known)

    def statistics(self) -> GlobalStatistics:
        """A snapshot of the service."""
        sync = self._server.sync
        return GlobalStatistics(
            known=tuple(self.known()),
            synced=tuple(node.name for node in sync.synced),
            in_session=tuple(node.name for node in sync.sessions()),
            removing=tuple(node.name for node in self._server.partitions.removing()),
            names=len(self._server.names.entries()),
            locks=tuple((resource, tuple(holders)) for resource, _, holders in self._server.locks.snapshot()),
        )

    def is_overlap_disconnect(self, node: Atom | str) -> bool:
        """True if ``node`` is asked to disconnect because another node lost it, although this node can reach it."""
        return self._server.partitions.is_overlap_disconnect(Atom(node))

    def node_stopping(self) -> None:
        """Call this before the node closes its connections. Their loss is not reported to other nodes then."""
        self._server.partitions.enabled = False

    # For rex and erpc

    def resolve_it(self, method: Term, name: Term, pid: Pid, pid2: Pid) -> Term:
        """``global:resolve_it/4``: other nodes call it here by rpc to resolve a conflict. It does not block and does
        not raise.
        """
        return self._server.resolve_it(method, name, pid, pid2)


async def _own_lock(me: LocalProcess, lock: LockId, nodes: list[Atom | str] | None, retries: int | None) -> None:
    """The body of a process that owns a lock.

    Set the lock, then answer the ``set_lock`` call with the result. Release the lock on a ``del_lock`` call.
    """
    locked = await set_lock(me, lock, nodes, retries)
    me.reply(await _receive_call(me, Atoms.SET_LOCK), locked)
    if locked:
        caller = await _receive_call(me, Atoms.DEL_LOCK)
        await del_lock(me, lock, nodes)
        me.reply(caller, True)


async def _receive_call(me: LocalProcess, request: Atom) -> tuple[Pid, Term]:
    """Wait for a call with this ``request``. Return its caller."""
    message = await me.receive(lambda message: _is_call(message, request))
    caller: tuple[Pid, Term] = message[1]
    return caller


def _is_call(message: Term, request: Atom) -> bool:
    match message:
        case (kind, (Pid(), _), content):
            return kind is GEN_CALL and content is request
    return False


def _require_pid(pid: Pid) -> Pid:
    """Raise ``TypeError`` if ``pid`` is not a pid."""
    if not isinstance(pid, Pid):
        raise TypeError(f"a name is given to a Pid, not to {type(pid).__name__}")
    return pid
