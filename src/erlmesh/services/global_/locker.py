"""The locker: the process that locks ``global`` in our partition, so that it can be joined with a peer's.

For every peer in session, one after the other, either side may begin::

    our locker                                                            his locker
    set_lock at our boss, then here and at the peer, then at all we know
    lock_set true ─────────────────────────────────────────────────────►
                                                             the same set_lock in his partition
    ◄────────────────────────────────────────────────────── lock_set true, or false: let go, later again
    lock_is_set to our server; we hold the lock until the server says cancel, with messages to pass on before

Both use the same lock, ``{global, [the two lockers' pids in order]}``, so nodes of both partitions are held by both.
The lock belongs to the process that calls ``set_lock``: all calls come from the locker. (``the_locker`` in global.erl;
it waits for a peer's answer without a limit, because a peer that is in session and silent is about to be lost.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from erlmesh.services.global_.client import boss, del_lock, filter_connected, try_lock
from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.protocol import SERVER, TAGGED_VSN, VERIFY_CONNECT_VSN, Atoms, LockId
from erlmesh.terms import Atom, Pid, Term, sort_key

if TYPE_CHECKING:
    from erlmesh.runtime.process import Process

__all__ = ["Locker", "lock_id"]


@dataclass(frozen=True, slots=True)
class _Peer:
    """A peer in session: his locker, what he speaks, and the two tags."""

    node: Atom
    locker: Pid
    vsn: int
    my_tag: Term
    peer_tag: Term


def lock_id(locker: Pid, peer_locker: Pid) -> LockId:
    """The lock under which these two lockers join their partitions: the same for both."""
    return Atoms.GLOBAL, sorted((locker, peer_locker), key=sort_key)


class Locker:
    """``run`` is the body of the process. ``known`` and ``locks`` are the server's own, read only."""

    def __init__(self, own_node: Atom, known: Mapping[Atom, int], locks: LockTable) -> None:
        self._own_node = own_node
        self._known = known
        self._locks = locks
        self._peers: dict[Atom, _Peer] = {}
        self._next_attempt: float | None = None

    async def run(self, me: Process) -> None:
        me.trap_exit = True
        while True:
            wait = None if self._next_attempt is None else max(0.0, self._next_attempt - me.node._now())
            try:
                message = await me.receive(timeout=wait)
            except TimeoutError:
                await self._attempt_lock(me)
            else:
                await self._handle_message(me, message)

    async def _handle_message(self, me: Process, message: Term) -> None:
        match message:
            case (Atoms.HIS_THE_LOCKER, Pid() as locker, int() as vsn, his_tag, my_tag):
                self._peers[locker.node] = _Peer(locker.node, locker, vsn, my_tag, his_tag)
                if self._next_attempt is None:
                    self._schedule_attempt(me)
            case (Atoms.CANCEL, node, my_tag, list() as announce):
                self._remove_peer(node, my_tag)
                _send_announcements(me, announce)
            case (Atoms.LOCK_SET, Pid() as locker, True, _):
                him = self._peers.get(locker.node)
                await self._handle_peer_locked(me, locker, him)
            case (Atoms.LOCK_SET, Pid() as locker, True, _, my_tag):
                him = self._peers.get(locker.node)
                await self._handle_peer_locked(me, locker, him if him is not None and him.my_tag == my_tag else None)

    # He began

    async def _handle_peer_locked(self, me: Process, locker: Pid, peer: _Peer | None) -> None:
        if peer is None:
            # No such session: he hears it in the form that every version reads.
            me.send(locker, (Atoms.LOCK_SET, me.pid, False, list(self._known)), connect=False)
            return
        lock = lock_id(me.pid, locker)
        held = await self._lock_partition(me, lock, [])
        self._send_lock_set(me, peer, locked=bool(held))
        if held:
            await self._hold_until_cancel(me, peer, lock, held)

    # We begin

    async def _attempt_lock(self, me: Process) -> None:
        for node in [node for node in self._peers if node in self._known]:
            del self._peers[node]
        if not self._peers:
            self._next_attempt = None
            return
        if self._locks.is_set(Atoms.GLOBAL):
            self._schedule_attempt(me)
            return
        him = me.node.random.choice(list(self._peers.values()))
        lock = lock_id(me.pid, him.locker)
        # Locking him as well is what prevents a deadlock: his partition can now be locked by him with this lock only.
        held = await self._lock_partition(me, lock, [him.node])
        if held:
            self._send_lock_set(me, him, locked=True)
            if await self._wait_for_peer(me, him):
                await self._hold_until_cancel(me, him, lock, held)
                return
            await self._unlock_partition(me, lock, held)
        self._schedule_attempt(me)

    async def _wait_for_peer(self, me: Process, peer: _Peer) -> bool:
        """Wait for his word on our ``lock_set true``, or for the end of the session."""

        def concerns_us(message: Term) -> bool:
            match message:
                case (Atoms.LOCK_SET, Pid() as locker, bool(), _):
                    return locker.node == peer.node
                case (Atoms.LOCK_SET, Pid() as locker, bool(), _, _):
                    return locker.node == peer.node
                case (Atoms.CANCEL, peer.node, peer.my_tag, list()):
                    return True
            return False

        while True:
            match await me.receive(concerns_us):
                case (Atoms.CANCEL, _, _, announce):
                    _send_announcements(me, announce)
                    self._remove_peer(peer.node, peer.my_tag)
                    return False
                case (_, _, bool() as locked, _):
                    return locked
                case (_, _, bool() as locked, _, peer.my_tag):
                    return locked

    # Both

    async def _hold_until_cancel(self, me: Process, peer: _Peer, lock: LockId, locked_nodes: list[Atom]) -> None:
        """Both sides are locked: the servers exchange their names now, and then ours says cancel."""

        def cancels(message: Term) -> bool:
            match message:
                case (Atoms.CANCEL, peer.node, peer.my_tag, list()):
                    return True
            return False

        me.cast(SERVER, (Atoms.LOCK_IS_SET, peer.node, peer.my_tag, lock))
        _, _, _, announce = await me.receive(cancels)
        _send_announcements(me, announce)
        await self._unlock_partition(me, lock, locked_nodes)
        self._remove_peer(peer.node, peer.my_tag)
        self._next_attempt = me.node._now() if self._peers else None  # no reason to wait after a success

    async def _lock_partition(self, me: Process, lock: LockId, extra: list[Atom]) -> list[Atom]:
        """Lock our partition and ``extra``: the boss first, then us and ``extra``, then all the others.

        All nodes that are locked now, or none.
        """
        first = [boss([self._own_node, *self._known])]
        # Locking ourselves first could stop somebody who holds the boss already: only look whether it could be done.
        if first != [self._own_node] and not self._locks.can_set(lock):
            return []
        if not await try_lock(me, lock, first):
            return []
        second = [node for node in [self._own_node, *extra] if node not in first]
        # Somebody new who was lost meanwhile must not be called back by our asking him.
        if filter_connected(me, extra) != extra or not await try_lock(me, lock, second):
            await del_lock(me, lock, first)
            return []
        third = [node for node in self._known if node not in first]
        if not await try_lock(me, lock, third):
            await del_lock(me, lock, [*second, *first])
            return []
        return [*first, *second, *third]

    async def _unlock_partition(self, me: Process, lock: LockId, locked_nodes: list[Atom]) -> None:
        """The boss last: until then nobody else begins to lock this partition in vain."""
        chief = boss(locked_nodes)
        await del_lock(me, lock, [node for node in locked_nodes if node != chief])
        await del_lock(me, lock, [chief])

    def _send_lock_set(self, me: Process, peer: _Peer, *, locked: bool) -> None:
        """A session means something on its connection only: lost, it is not to be made again for this."""
        known = list(self._known)
        if peer.vsn < TAGGED_VSN:
            me.send(peer.locker, (Atoms.LOCK_SET, me.pid, locked, known), connect=False)
        elif peer.vsn < VERIFY_CONNECT_VSN:
            me.cast((SERVER, peer.node), (Atoms.LOCK_SET, me.pid, locked, known), connect=False)
        else:
            me.cast((SERVER, peer.node), (Atoms.LOCK_SET, me.pid, locked, known, peer.peer_tag), connect=False)

    def _remove_peer(self, node: Atom, my_tag: Term) -> None:
        him = self._peers.get(node)
        if him is not None and him.my_tag == my_tag:
            del self._peers[node]

    def _schedule_attempt(self, me: Process) -> None:
        """The longer the more we are, and never two nodes in step: somebody else may need the lock between."""
        known = len(self._known)
        pause = min(1.0 + 0.1 * known, 3.0) if known else 0.2
        self._next_attempt = me.node._now() + pause * me.node.random.uniform(0.5, 1.0)


def _send_announcements(me: Process, announce: list[Term]) -> None:
    for node, message in announce:
        me.cast((SERVER, node), message, connect=False)
