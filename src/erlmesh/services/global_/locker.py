"""The locker: the process that locks ``global`` in our partition, so that it can be merged with a peer's partition.

It handles one peer after the other. Either side may start::

    our locker                                                            the peer's locker
    set_lock on our boss, then on us and the peer, then on all we know
    lock_set true ─────────────────────────────────────────────────────►
                                                             the same set_lock in the peer's partition
    ◄────────────────────────────────────────── lock_set true, or false: release, and try again later
    lock_is_set to our server; hold the lock until the server sends cancel, with messages to pass on before

Both lockers use the same lock, ``{global, [the two lockers' pids in term order]}``. So one lock covers the nodes of
both partitions. A lock belongs to the process that calls ``set_lock``. So all calls come from this process.

``lock_set`` has three forms (``Known`` is not used)::

    {lock_set, LockerPid, Bool, Known}            version 5: to the peer's locker
    cast {lock_set, LockerPid, Bool, Known}       versions 6 and 7: to the peer's server, which forwards it
    cast {lock_set, LockerPid, Bool, Known, Tag}  version 8: Tag is the receiver's tag of the session

There is no time limit for the peer's answer. A peer that is in session and does not answer is about to be lost, and
then the server sends cancel.

Source: ``loop_the_locker``, ``the_locker_message``, ``select_node`` and ``lock_nodes_safely`` in global.erl.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from erlmesh.records import record
from erlmesh.services.global_.client import boss, del_lock, filter_connected, try_lock
from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.protocol import SERVER, TAGGED_VSN, VERIFY_CONNECT_VSN, Atoms, LockId
from erlmesh.terms import Atom, Pid, Term, sort_key

if TYPE_CHECKING:
    from erlmesh.runtime.process import LocalProcess

__all__ = ["FromServer", "Locker", "lock_id"]


@record(frozen=True)
class FromServer:
    """A message of our own server. It is not a term, so no node can send one: ``cancel`` makes us pass messages on."""

    message: Term


@record(frozen=True)
class _Peer:
    """A node in session with us."""

    node: Atom
    locker: Pid
    """The peer's locker."""
    vsn: int
    """The common protocol version."""
    my_tag: Term
    """Our tag of the session."""
    peer_tag: Term
    """The peer's tag of the session."""


def lock_id(locker: Pid, peer_locker: Pid) -> LockId:
    """The lock under which these two lockers merge their partitions. The argument order does not matter."""
    return Atoms.GLOBAL, sorted((locker, peer_locker), key=sort_key)


class Locker:
    """``run`` is the body of the process. ``known`` and ``locks`` are shared with the server and are only read here."""

    def __init__(self, own_node: Atom, known: Mapping[Atom, int], locks: LockTable) -> None:
        self._own_node = own_node
        self._known = known
        self._locks = locks
        # The peers in session, until their cancel.
        self._peers: dict[Atom, _Peer] = {}
        # Time of the next attempt to lock, in the node's clock; None if there is no peer.
        self._next_attempt: float | None = None

    async def run(self, me: LocalProcess) -> None:
        """Handle messages without end. Attempt a lock when the time has come."""
        me.trap_exit = True  # As in global.erl: only kill ends it.
        while True:
            wait = None if self._next_attempt is None else max(0.0, self._next_attempt - me._ops.now())
            try:
                message = await me.receive(timeout=wait)
            except TimeoutError:
                await self._attempt_lock(me)
            else:
                await self._handle_message(me, message)

    async def _handle_message(self, me: LocalProcess, message: Term) -> None:
        """Handle one message outside of a lock. ``lock_set false`` is of no interest here."""
        match message:
            # A peer without a connection would stay without end.
            case FromServer((Atoms.HIS_THE_LOCKER, Pid() as locker, int() as vsn, peer_tag, my_tag)) if (
                locker.node.name in me._ops.nodes()
            ):
                self._peers[locker.node] = _Peer(locker.node, locker, vsn, my_tag, peer_tag)
                if self._next_attempt is None:
                    self._schedule_attempt(me)
            case FromServer((Atoms.CANCEL, Atom() as node, my_tag, list() as announce)):
                self._remove_peer(node, my_tag)
                _send_announcements(me, announce)
            case (Atoms.LOCK_SET, Pid() as locker, True, _):
                peer = self._peers.get(locker.node)
                await self._handle_peer_locked(me, locker, peer)
            case (Atoms.LOCK_SET, Pid() as locker, True, _, my_tag):
                peer = self._peers.get(locker.node)
                await self._handle_peer_locked(me, locker, peer if peer is not None and peer.my_tag == my_tag else None)

    # The peer starts

    async def _handle_peer_locked(self, me: LocalProcess, locker: Pid, peer: _Peer | None) -> None:
        """The peer has locked its partition and this node: lock our partition and answer."""
        if peer is None:
            # There is no such session. This form of the answer is understood by all versions.
            me.send(locker, (Atoms.LOCK_SET, me.pid, False, list(self._known)), connect=False)
            return
        lock = lock_id(me.pid, locker)
        locked_nodes = await self._lock_partition(me, lock, [])
        self._send_lock_set(me, peer, locked=bool(locked_nodes))
        if locked_nodes:
            await self._hold_until_cancel(me, peer, lock, locked_nodes)

    # We start

    async def _attempt_lock(self, me: LocalProcess) -> None:
        """Pick a peer at random, and try to lock both partitions. Schedule the next attempt on failure."""
        # A peer that became known meanwhile was introduced by another node. It needs no session.
        connected = set(me._ops.nodes())
        for node in [node for node in self._peers if node in self._known or node.name not in connected]:
            del self._peers[node]
        if not self._peers:
            self._next_attempt = None
            return
        # A name is being changed, or another node merges partitions.
        if self._locks.is_set(Atoms.GLOBAL):
            self._schedule_attempt(me)
            return
        peer = me._ops.random.choice(list(self._peers.values()))
        lock = lock_id(me.pid, peer.locker)
        # Locking the peer's node as well prevents a deadlock: its partition can then be locked with this lock only.
        locked_nodes = await self._lock_partition(me, lock, [peer.node])
        if locked_nodes:
            self._send_lock_set(me, peer, locked=True)
            if await self._wait_for_peer(me, peer):
                await self._hold_until_cancel(me, peer, lock, locked_nodes)
                return
            await self._unlock_partition(me, lock, locked_nodes)
        self._schedule_attempt(me)

    async def _wait_for_peer(self, me: LocalProcess, peer: _Peer) -> bool:
        """Wait for the peer's answer to our ``lock_set true``, or for the end of the session. True: it has locked."""

        def is_lock_set_or_cancel(message: Term) -> bool:
            match message:
                case (Atoms.LOCK_SET, Pid() as locker, bool(), _):
                    return locker.node == peer.node
                case (Atoms.LOCK_SET, Pid() as locker, bool(), _, _):
                    return locker.node == peer.node
                case FromServer((Atoms.CANCEL, peer.node, peer.my_tag, list())):
                    return True
            return False

        while True:
            match await me.receive(is_lock_set_or_cancel):
                case FromServer((Atoms.CANCEL, _, _, announce)):
                    _send_announcements(me, announce)
                    self._remove_peer(peer.node, peer.my_tag)
                    return False
                case (_, _, bool() as locked, _):
                    return locked
                # With another tag it is of an earlier session: go on waiting.
                case (_, _, bool() as locked, _, peer.my_tag):
                    return locked

    # Both cases

    async def _hold_until_cancel(self, me: LocalProcess, peer: _Peer, lock: LockId, locked_nodes: list[Atom]) -> None:
        """Both partitions are locked. Tell the server, which exchanges names with the peer, and hold the lock until
        its cancel.

        The cancel also comes when the session fails.
        """

        def is_cancel(message: Term) -> bool:
            match message:
                case FromServer((Atoms.CANCEL, peer.node, peer.my_tag, list())):
                    return True
            return False

        me.cast(SERVER, (Atoms.LOCK_IS_SET, peer.node, peer.my_tag, lock))
        _, _, _, announce = (await me.receive(is_cancel)).message
        _send_announcements(me, announce)
        await self._unlock_partition(me, lock, locked_nodes)
        self._remove_peer(peer.node, peer.my_tag)
        # No wait after a success: no other process competed.
        self._next_attempt = me._ops.now() if self._peers else None

    async def _lock_partition(self, me: LocalProcess, lock: LockId, extra: list[Atom]) -> list[Atom]:
        """Lock our partition and the nodes ``extra``: the boss first, then this node and ``extra``, then all other
        nodes.

        Return all locked nodes, or ``[]`` if none is locked now.
        """
        first = [boss([self._own_node, *self._known])]
        # Only check our own lock table before the boss is locked. Setting our lock first could block a process that has
        # locked the boss already.
        if first != [self._own_node] and not self._locks.can_set(lock):
            return []
        if not await try_lock(me, lock, first):
            return []
        second = [node for node in [self._own_node, *extra] if node not in first]
        # A peer that was lost meanwhile must not be connected again by a call to it.
        if filter_connected(me, extra) != extra or not await try_lock(me, lock, second):
            await del_lock(me, lock, first)
            return []
        third = [node for node in self._known if node not in first]
        if not await try_lock(me, lock, third):
            await del_lock(me, lock, [*second, *first])
            return []
        return [*first, *second, *third]

    async def _unlock_partition(self, me: LocalProcess, lock: LockId, locked_nodes: list[Atom]) -> None:
        """Release the boss last: until then no other process starts to lock this partition in vain."""
        boss_node = boss(locked_nodes)
        await del_lock(me, lock, [node for node in locked_nodes if node != boss_node])
        await del_lock(me, lock, [boss_node])

    def _send_lock_set(self, me: LocalProcess, peer: _Peer, *, locked: bool) -> None:
        """Answer the peer in the form of its version.

        Never connect for it: a session has no meaning on another connection.
        """
        known = list(self._known)
        if peer.vsn < TAGGED_VSN:
            me.send(peer.locker, (Atoms.LOCK_SET, me.pid, locked, known), connect=False)
        elif peer.vsn < VERIFY_CONNECT_VSN:
            me.cast((SERVER, peer.node), (Atoms.LOCK_SET, me.pid, locked, known), connect=False)
        else:
            me.cast((SERVER, peer.node), (Atoms.LOCK_SET, me.pid, locked, known, peer.peer_tag), connect=False)

    def _remove_peer(self, node: Atom, my_tag: Term) -> None:
        """Forget the peer if this is still its session."""
        peer = self._peers.get(node)
        if peer is not None and peer.my_tag == my_tag:
            del self._peers[node]

    def _schedule_attempt(self, me: LocalProcess) -> None:
        """Schedule the next attempt. The pause grows with the partition, up to 3 s.

        It is random, so that two nodes do not keep in step and other users of the lock get a chance.
        """
        known = len(self._known)
        pause = min(1.0 + 0.1 * known, 3.0) if known else 0.2
        self._next_attempt = me._ops.now() + pause * me._ops.random.uniform(0.5, 1.0)


def _send_announcements(me: LocalProcess, announce: list[Term]) -> None:
    """Send the messages of a cancel, pairs of node and message, before the lock is released.

    What is not such a pair is ignored: an exception here would part us from all nodes.
    """
    for entry in announce:
        match entry:
            case (Atom() as node, message):
                me.cast((SERVER, node), message, connect=False)
