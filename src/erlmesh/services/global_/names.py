"""Names and locks of the whole cluster, as OTP's ``global`` has them: ``node.global_``.

>>> if await node.global_.register(Atom("leader"), me.pid):        # on every node, or nowhere
...     ...
>>> node.global_.whereis(Atom("leader"))                           # a local look-up on every node

Starting it makes the node a member of the full mesh: whoever connects to one node is introduced to all.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from erlmesh.core.gen import GEN_CALL
from erlmesh.errors import CallError
from erlmesh.etf import encode
from erlmesh.services.global_.client import check_lock_id, del_lock, set_lock, trans, transaction
from erlmesh.services.global_.methods import Method, random_exit_name
from erlmesh.services.global_.protocol import Atoms, LockId
from erlmesh.services.global_.server import GlobalServer
from erlmesh.terms import Atom, Export, Fun, Pid, Term, exact_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from erlmesh.runtime.process import Process
    from erlmesh.runtime.runtime import Runtime

__all__ = ["GlobalNames", "GlobalStatistics"]

_KILL = Atom("kill")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GlobalStatistics:
    """The service on one node at one moment. Nodes that stay ``in_session`` do not answer; ``leaving`` are nodes that
    have been asked to hang up; a lock is a resource and its holders.
    """

    known: tuple[str, ...]
    synced: tuple[str, ...]
    in_session: tuple[str, ...]
    removing: tuple[str, ...]
    names: int
    locks: tuple[tuple[Term, tuple[Pid, ...]], ...]


class GlobalNames:
    """The service on one node. Create it when the node runs, before it connects to anybody."""

    def __init__(self, node: Runtime, *, prevent_overlapping_partitions: bool = True) -> None:
        """``prevent_overlapping_partitions`` is OTP's kernel parameter of this name: the same on all nodes, or none."""
        self._node = node
        self._server = GlobalServer(node, prevent_overlapping_partitions=prevent_overlapping_partitions)
        self._lock_owners: dict[Any, Pid] = {}

    # Names

    async def register(self, name: Term, pid: Pid, method: Method = random_exit_name) -> bool:
        """Give ``pid``, of any node, the ``name`` on all nodes. ``False`` if the name is taken or the pid has another.

        When two partitions meet that both have the name, ``method`` says who keeps it: one of the three of
        ``global_methods``, or a Python function ``(name, pid1, pid2)`` that returns the pid or ``None`` and must not
        wait. As with OTP it runs on the node of ``pid``, or of the process that the other partition has, so a function
        of this node's is for its own processes: raises ``ValueError`` with another's. ``TypeError`` if ``pid`` is no
        pid, ``EncodeError`` if the name is no term.
        """
        return await self._call_registrar((Atoms.REGISTER, name, _require_pid(pid), self._method_term(method, pid)))

    async def re_register(self, name: Term, pid: Pid, method: Method = random_exit_name) -> None:
        """The same, whoever had the name before."""
        await self._call_registrar((Atoms.RE_REGISTER, name, _require_pid(pid), self._method_term(method, pid)))

    def _method_term(self, method: Method, pid: Pid) -> Term:
        if not isinstance(method, (Export, Fun)) and callable(method) and pid.node is not self._node.atom:
            raise ValueError(
                f"a Python function cannot decide for {pid}: it would have to run on {pid.node.name}; "
                "give one of the three methods of global_methods, or an Export of a function of that node"
            )
        return self._server.methods.to_term(method)

    async def unregister(self, name: Term) -> None:
        """Nobody has the name any more."""
        if self._server.whereis(name) is not None:
            await self._call_registrar((Atoms.UNREGISTER, name))

    def whereis(self, name: Term) -> Pid | None:
        """The process that has the name, as this node knows it now."""
        return self._server.whereis(name)

    def registered(self) -> list[Term]:
        """All names."""
        return self._server.names.names()

    async def _call_registrar(self, request: Term) -> bool:
        encode(request)  # a name that is no term is refused here, at its caller, not by the registrar
        return bool(await self._node.call(self._server.registrar, request, timeout=None) == Atoms.YES)

    # Locks

    async def set_lock(
        self,
        lock: LockId,
        nodes: Iterable[Atom | str] | None = None,
        retries: int | None = None,
        *,
        me: Process | None = None,
    ) -> bool:
        """Lock ``lock``, a pair of any resource and a requester, on ``nodes`` (``None``: all connected, and this).

        The lock belongs to the process ``me`` and is free when that ends; without ``me``, to this service, until
        ``del_lock``. Two who give the same requester share the lock. Tries for ever, at random intervals, or
        ``retries`` times after the first; then ``False``.
        """
        chosen = None if nodes is None else list(nodes)
        if me is not None:
            return await set_lock(me, lock, chosen, retries)
        return await self._start_lock_owner(lock, chosen, retries)

    async def del_lock(
        self, lock: LockId, nodes: Iterable[Atom | str] | None = None, *, me: Process | None = None
    ) -> None:
        """Let go of what ``set_lock`` with the same ``me`` has locked."""
        if me is not None:
            await del_lock(me, lock, nodes)
        else:
            await self._stop_lock_owner(lock)

    def trans(
        self, lock: LockId, nodes: Iterable[Atom | str] | None = None, *, me: Process | None = None
    ) -> AbstractAsyncContextManager[None]:
        """``async with names.trans((resource, requester)):`` the block runs while the lock is held."""
        return self._owner_transaction(lock, nodes) if me is None else transaction(me, lock, nodes)

    @asynccontextmanager
    async def _owner_transaction(self, lock: LockId, nodes: Iterable[Atom | str] | None) -> AsyncIterator[None]:
        check_lock_id(lock)
        keeper = self._node.spawn(_own_lock, lock, None if nodes is None else list(nodes), None)
        try:
            await self._node.call(keeper, Atoms.SET_LOCK, timeout=None)
            yield
        except BaseException:
            self._server.process.exit(keeper, _KILL)  # its death frees the lock
            raise
        await self._node.call(keeper, Atoms.DEL_LOCK, timeout=None)

    async def _start_lock_owner(self, lock: LockId, nodes: list[Atom | str] | None, retries: int | None) -> bool:
        check_lock_id(lock)
        keeper = self._node.spawn(_own_lock, lock, nodes, retries)
        try:
            locked = await self._node.call(keeper, Atoms.SET_LOCK, timeout=None) is True
        except BaseException:
            self._server.process.exit(keeper, _KILL)  # its death frees the lock
            raise
        if locked:
            await self._stop_lock_owner(lock)  # locked twice is locked once
            self._lock_owners[exact_key(lock)] = keeper
        return locked

    async def _stop_lock_owner(self, lock: LockId) -> None:
        keeper = self._lock_owners.pop(exact_key(lock), None)
        if keeper is not None:
            with suppress(CallError):  # it has ended, and its lock with it
                await self._node.call(keeper, Atoms.DEL_LOCK, timeout=None)

    async def transaction(
        self, me: Process, lock: LockId, nodes: Iterable[Atom | str] | None, body: Callable[[], Awaitable[T]]
    ) -> T:
        """Run ``body`` while ``me`` holds ``lock`` on ``nodes``, as ``global:trans(Id, Fun, Nodes)``."""
        return await trans(me, lock, nodes, body)

    # The cluster

    async def sync(self, nodes: Iterable[Atom | str] | None = None, *, timeout: float | None = None) -> None:
        """Wait until all connected nodes (or ``nodes``) have the same names as this one.

        A node that is connected and does not speak ``global`` is waited for as long as it is connected, as OTP does:
        raises ``CallTimeout`` after ``timeout`` seconds.
        """
        chosen = [Atom(node) for node in (self._node.nodes() if nodes is None else nodes)]
        await self._node.call(self._server.process.pid, (Atoms.SYNC, chosen), timeout=timeout)

    def known(self) -> list[str]:
        """The nodes of our partition: those we are in sync with, and those they told us of."""
        return [node.name for node in self._server.sync.known]

    def statistics(self) -> GlobalStatistics:
        """What the service holds, now."""
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
        """Whether that node has been asked to hang up because others lost it, and could be reached from here."""
        return self._server.partitions.is_overlap_disconnect(Atom(node))

    def node_stopping(self) -> None:
        """Call before the node closes its connections: they are no losses that others should hear of."""
        self._server.partitions.enabled = False

    # For rex and erpc

    def resolve_it(self, method: Term, name: Term, pid: Pid, pid2: Pid) -> Term:
        """``global:resolve_it/4``, which other nodes call here to settle conflicts. Does not wait, does not raise."""
        return self._server.resolve_it(method, name, pid, pid2)


async def _own_lock(me: Process, lock: LockId, nodes: list[Atom | str] | None, retries: int | None) -> None:
    """Hold ``lock`` for somebody who is no process: answer once it is locked, or is not, then hold it until asked."""
    locked = await set_lock(me, lock, nodes, retries)
    me.reply(await _receive_call(me, Atoms.SET_LOCK), locked)
    if locked:
        caller = await _receive_call(me, Atoms.DEL_LOCK)
        await del_lock(me, lock, nodes)
        me.reply(caller, True)


async def _receive_call(me: Process, request: Atom) -> tuple[Pid, Term]:
    """Wait for a call that is this ``request``; its caller."""
    message = await me.receive(lambda message: _is_call(message, request))
    caller: tuple[Pid, Term] = message[1]
    return caller


def _is_call(message: Term, request: Atom) -> bool:
    match message:
        case (kind, (Pid(), _), what):
            return kind is GEN_CALL and what is request
    return False


def _require_pid(pid: Pid) -> Pid:
    if not isinstance(pid, Pid):
        raise TypeError(f"a name is given to a Pid, not to {type(pid).__name__}")
    return pid
