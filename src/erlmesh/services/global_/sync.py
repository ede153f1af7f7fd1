"""The sessions of one node: how two partitions of a cluster become one. No I/O.

A partition is a set of nodes that know each other and have the same names. X connects to Y. X's partition is {X, …}
and Y's is {Y, …}::

    X                                  Y                              other nodes of X's partition
    init_connect ────────────────────► (and the same the other way)
    ◄───────────────── init_connect_ack
        both lockers lock `global` in their own partition, see locker.py
    exchange (all names) ────────────►
    resolved (operations, all known) ►
                                                new_nodes (operations, Y and all that Y knows) ─►
        every node connects to every node that is new to it
    in_sync ─────────────────────────► every new node

The messages, with the sender's name in ``Node``::

    cast {init_connect, {Vsn, MyTag}, Node, {locker, _, Known, LockerPid}}
    {init_connect_ack, Node, YourTag, MyTag}      both tags as the sender knows them
    {cancel_connect, Node, YourTag}               the session is over; the receiver starts a new one
    cast {exchange, Node, Names, [], YourTag}     Names is [{Name, Pid, Method}]
    cast {resolved, Node, Operations, Known, unused, External, YourTag}
    cast {new_nodes, Node, Operations, External, Nodes, Extra}
    cast {in_sync, Node, true}

An operation is ``{insert, {Name, Pid, Method}}`` or ``{delete, Name}``. ``External`` lists the names of C nodes'
processes.

Each node makes a tag per session. A message with another tag belongs to a session that is over. Its only effect is
that our locker releases what it may still hold for that session. A node that never answers keeps its session open,
and the other sessions go on.

Source: global.erl, header ("Connection algorithm") and the ``handle_cast``/``handle_info`` clauses of these messages.
"""

from __future__ import annotations

from collections.abc import Iterable

from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.name_table import NameTable, compare_tables
from erlmesh.services.global_.protocol import (
    NET_SETUPTIME_SECONDS,
    VERIFY_CONNECT_VSN,
    VSN,
    Atoms,
    Cast,
    Connect,
    Disconnect,
    Effect,
    LockId,
    Recheck,
    Resolve,
    Send,
    SendToLocker,
    StopResolving,
)
from erlmesh.services.global_.session import (
    InitConnect,
    Resolved,
    Session,
    encode_known,
    parse_init_connect,
    parse_nodes,
)
from erlmesh.terms import Atom, Map, Pid, Term

__all__ = ["GlobalSync"]


class GlobalSync:
    """What this node knows of the cluster. Each method takes an event and returns effects.

    A method ignores or cancels an event of a session that is over.
    """

    locker: Pid
    """Our locker. The server must set it before the first nodeup."""

    def __init__(self, own_node: Atom, names: NameTable, locks: LockTable, *, first_tag: int) -> None:
        """``first_tag`` must be unlikely to be a tag of an earlier incarnation of this node."""
        self.own_node = own_node
        # The other nodes of our partition → protocol version, 0 if it was not reported yet. Not all of them need be
        # connected already: they were introduced by a peer.
        self.known: dict[Atom, int] = {}
        # Nodes whose init_connect we have accepted and whose session is not finished → protocol version.
        self.pending: dict[Atom, int] = {}
        self.additions = 0
        """How often a node or a version was added to ``known`` or ``pending``."""
        # Nodes that have the same names as this node: by a session, or by their in_sync. An ordered set.
        self.synced: dict[Atom, None] = {}
        self._names = names
        self._locks = locks
        self._next_tag = first_tag
        self._sessions: dict[Atom, Session] = {}
        # An init_connect can arrive before our own nodeup of the same connection. It waits here for the nodeup.
        self._early_init_connects: dict[Atom, InitConnect] = {}

    # Queries

    def session_tag(self, node: Atom) -> int | None:
        """Our tag of the session with ``node``, None if there is no session."""
        session = self._sessions.get(node)
        return session.my_tag if session else None

    def node_vsn(self, node: Atom) -> int:
        """The protocol version of ``node``, 0 if it is unknown."""
        return VSN if node == self.own_node else self.known.get(node) or self.pending.get(node, 0)

    def is_potentially_known(self, node: Atom) -> bool:
        """True if ``node`` is in our partition or is about to join it."""
        return node in self.known or node in self.pending

    def sessions(self) -> list[Atom]:
        """The nodes that are in session."""
        return list(self._sessions)

    # Start of a session

    def nodeup(self, node: Atom) -> list[Effect]:
        """A visible node is connected: start a session.

        A node that we know already was introduced by another node. It needs no session.
        """
        if node in self.known or node in self._sessions:
            return []
        session = self._sessions[node] = Session(self._next_tag)
        self._next_tag += 1
        init_msg = (Atoms.LOCKER, Atoms.NO_LONGER_A_PID, Map(self.known), self.locker)
        effects: list[Effect] = [Cast(node, (Atoms.INIT_CONNECT, (VSN, session.my_tag), self.own_node, init_msg))]
        pending_init = self._early_init_connects.pop(node, None)
        return effects if pending_init is None else effects + self._accept_session(node, session, pending_init)

    def init_connect(self, node: Atom, version: Term, init_msg: Term) -> list[Effect]:
        """The peer starts a session. ``version`` is ``{Vsn, Tag, ...}``, ``init_msg`` is ``{locker, _, Known,
        LockerPid}``.

        A message of another form is ignored.
        """
        parsed = parse_init_connect(version, init_msg)
        if parsed is None:
            return []
        if node in self.pending:
            # The peer started a new session, and the end of the old one has not reached us.
            if parsed.peer_vsn < VERIFY_CONNECT_VSN:
                return [Disconnect(node, "got an out of sync connection attempt from an old version")]
            # Both sides start again: the peer answers this cancel with another init_connect.
            return [
                Send(node, (Atoms.CANCEL_CONNECT, self.own_node, parsed.peer_tag)),
                *self._restart_session(node),
            ]
        session = self._sessions.get(node)
        if session is None:
            # Our nodeup is still in the mailbox.
            self._early_init_connects[node] = parsed
            return []
        return self._accept_session(node, session, parsed)

    def init_connect_ack(self, node: Atom, acked_tag: Term, peer_tag: Term) -> list[Effect]:
        """The peer accepted our init_connect. ``acked_tag`` is our tag and ``peer_tag`` its own, as the peer knows
        them.

        If they are not those of the current session, the two sides are out of step. Then both start again.
        """
        session = self._sessions.get(node)
        if session is not None and session.my_tag == acked_tag and session.peer_tag == peer_tag:
            return []
        return [Send(node, (Atoms.CANCEL_CONNECT, self.own_node, peer_tag)), *self._restart_session(node)]

    def cancel_connect(self, node: Atom, tag: Term) -> list[Effect]:
        """The peer ended the session ``tag``: start a new one if it is the current session."""
        return self._restart_session(node) if self._is_current(node, tag) else []

    def _accept_session(self, node: Atom, session: Session, init_connect: InitConnect) -> list[Effect]:
        """Take the peer's tag and version into the session, and give the peer to our locker."""
        session.peer_tag, session.vsn = init_connect.peer_tag, init_connect.vsn
        self.pending[node] = init_connect.peer_vsn
        self.additions += 1
        his_the_locker = (
            Atoms.HIS_THE_LOCKER,
            init_connect.locker,
            init_connect.vsn,
            init_connect.peer_tag,
            session.my_tag,
        )
        effects: list[Effect] = [SendToLocker(his_the_locker)]
        # Older versions do not know init_connect_ack.
        if init_connect.peer_vsn >= VERIFY_CONNECT_VSN:
            effects.append(Send(node, (Atoms.INIT_CONNECT_ACK, self.own_node, init_connect.peer_tag, session.my_tag)))
        return effects

    # Both partitions are locked: exchange names

    def lock_is_set(self, node: Atom, tag: Term, lock: LockId) -> list[Effect]:
        """Our locker reports that both partitions are locked by ``lock``. It holds the lock until it gets a cancel.

        Send our names to the peer.
        """
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._cancel_lock(node, tag)
        names: list[Term] = list(self._names.entries())
        effects: list[Effect] = [Cast(node, (Atoms.EXCHANGE, self.own_node, names, [], session.peer_tag))]
        session.lock = lock
        return effects + self._compare_names(node, session)

    def exchange(self, node: Atom, names: Term, tag: Term) -> list[Effect]:
        """The peer's names have arrived."""
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._cancel_lock(node, tag)
        session.peer_names = names if isinstance(names, list) else []
        return self._compare_names(node, session)

    def _compare_names(self, node: Atom, session: Session) -> list[Effect]:
        """Compare both tables as soon as the lock is set and the peer's names are there."""
        # The two events arrive in either order: the peer's locker may be faster than ours. The second one goes on.
        if session.lock is None or session.peer_names is None:
            return []
        peer_names, session.peer_names = session.peer_names, None
        # The node with the smaller name decides conflicts, so that exactly one side does.
        decide = self.own_node.name < node.name
        operations, conflicts = compare_tables(self._names, peer_names, decide=decide)
        if not conflicts:
            return self.exchange_ops(node, session.my_tag, operations, [])
        session.resolving = True
        return [Resolve(node, session.my_tag, tuple(operations), tuple(conflicts))]

    def exchange_ops(self, node: Atom, tag: Term, operations: list[Term], resolved: list[Term]) -> list[Effect]:
        """All conflicts are resolved. ``operations`` change our table, ``resolved`` changes the peer's.

        Send ``resolved`` and our known nodes to the peer.
        """
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._cancel_lock(node, tag)
        session.resolving = False
        known = encode_known(list(self.known.items()), session.vsn)
        external: list[Term] = list(self._names.external())
        answer = (Atoms.RESOLVED, self.own_node, resolved, known, Atoms.UNUSED, external, session.peer_tag)
        session.operations = operations
        return [Cast(node, answer), *self._finish_session(node, session)]

    def resolved(self, node: Atom, operations: Term, known: Term, external: Term, tag: Term) -> list[Effect]:
        """The peer has resolved its conflicts. ``operations`` change our table, ``known`` are the nodes of its
        partition.
        """
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._cancel_lock(node, tag)
        session.result = Resolved(operations if isinstance(operations, list) else [], parse_nodes(known), external)
        return self._finish_session(node, session)

    def _finish_session(self, node: Atom, session: Session) -> list[Effect]:
        """Merge the partitions as soon as both sides have resolved their conflicts.

        Change our table, introduce the peer's nodes to our partition, connect to them, and release the lock.
        """
        if session.operations is None or session.result is None:
            return []
        operations = session.operations + session.result.operations
        external = session.result.external
        newcomers = [(node, self.node_vsn(node))]
        known = [(name, vsn) for name, vsn in session.result.known if name not in session.lost]
        newcomers += [(name, vsn or self.node_vsn(name)) for name, vsn in known]
        new_peers = [name for name, _ in known if name not in (node, self.own_node)]
        lock_info = [(Atoms.VSN, session.vsn), (Atoms.LOCK, session.lock)]
        effects: list[Effect] = [Connect(name) for name in new_peers]
        effects += self._apply_operations(operations, external, session.lock)
        # This session introduces the peer's nodes. Sessions of our own with them are not needed any more.
        for name in new_peers:
            effects += self._end_session(name, notify=False)
        # The locker sends new_nodes before it releases the lock. So no other process can lock a node of our partition
        # that does not know the newcomers yet.
        announce = [
            (name, (Atoms.NEW_NODES, self.own_node, operations, external, encode_known(newcomers, vsn), lock_info))
            for name, vsn in self.known.items()
        ]
        effects += self._end_session(node, notify=False, announce=announce)
        self._add_known(newcomers)
        self.synced[node] = None
        return effects

    def new_nodes(self, operations: Term, external: Term, nodes: Term, extra: Term) -> list[Effect]:
        """A node of our partition has merged it with another one. ``nodes`` are the new nodes.

        ``operations`` change our table. ``extra`` contains ``{lock, LockId}``: the lock that they were decided under.
        """
        added = self._add_known(parse_nodes(nodes))
        effects: list[Effect] = [Connect(name) for name in added]
        lock = None
        for item in extra if isinstance(extra, list) else ():
            match item:
                case (Atoms.LOCK, lock):
                    pass
        return effects + self._apply_operations(operations if isinstance(operations, list) else [], external, lock)

    def in_sync(self, node: Atom) -> list[Effect]:
        """``node`` was introduced to us by another node. A session of our own with it is not needed any more.

        Usually the new_nodes of that other node has reached us already. If not, check again later.
        """
        is_repeated = node in self.synced
        self.synced[node] = None
        effects = self._end_session(node, notify=False)
        return effects if node in self.known or is_repeated else [*effects, Recheck(node, NET_SETUPTIME_SECONDS)]

    def is_not_introduced(self, node: Atom) -> bool:
        """True if ``node`` sent in_sync, but no node has introduced it to us.

        The introduction was for an earlier incarnation of this node, or the node that sent it terminated meanwhile.
        Such a node would not send us names, nor we to it.
        """
        return node in self.synced and node not in self.known

    # End of a session

    def remove_node(self, node: Atom) -> list[Effect]:
        """``node`` leaves our partition. Its names are removed at once.

        The connection may stay up for a while. If the names stayed too, other nodes could still learn them from us.
        """
        effects = [*self._end_session(node, notify=True), *self._names.remove_node(node)]
        self.known.pop(node, None)
        self.synced.pop(node, None)
        return effects

    def remove_all_nodes(self) -> list[Effect]:
        """Forget all nodes and sessions, after one of the service's processes has failed."""
        all_nodes = {**self.known, **self.pending, **self._sessions, **self.synced, **self._early_init_connects}
        return [effect for node in all_nodes for effect in self.remove_node(node)]

    def forget_known(self, node: Atom) -> None:
        """Remove ``node`` from the ``resolved`` messages that still wait for our own conflicts.

        They were sent before ``node`` was lost. Without this, the merge would connect to it again.
        """
        for session in self._sessions.values():
            if session.result is not None:
                session.lost.add(node)

    def _restart_session(self, node: Atom) -> list[Effect]:
        """End the session, and start a new one if the node is connected."""
        was_up = node in self._sessions
        effects = self._end_session(node, notify=True)
        return effects + self.nodeup(node) if was_up else effects

    def _end_session(self, node: Atom, *, notify: bool, announce: Iterable[tuple[Atom, Term]] = ()) -> list[Effect]:
        """End the session with ``node``, if there is one.

        With ``notify``, tell the peer to start a new one. The locker sends ``announce``, pairs of node and message,
        before it releases the lock.
        """
        self._early_init_connects.pop(node, None)
        session = self._sessions.pop(node, None)
        peer_vsn = self.pending.pop(node, 0)
        if session is None:
            return []
        effects: list[Effect] = [SendToLocker((Atoms.CANCEL, node, session.my_tag, list(announce)))]
        if notify and peer_vsn >= VERIFY_CONNECT_VSN:
            effects.append(Send(node, (Atoms.CANCEL_CONNECT, self.own_node, session.peer_tag)))
        if session.resolving:
            effects.append(StopResolving(node))
        return effects

    def _cancel_lock(self, node: Atom, tag: Term) -> list[Effect]:
        """The session ``tag`` is over: let our locker release what it may hold for it."""
        return [SendToLocker((Atoms.CANCEL, node, tag, []))]

    def _is_current(self, node: Atom, tag: Term) -> bool:
        """True if ``tag`` is our tag of the current session with ``node``."""
        session = self._sessions.get(node)
        return session is not None and session.my_tag == tag

    def _apply_operations(self, operations: list[Term], external: Term, lock: Term) -> list[Effect]:
        """Change the table. Names stay only if ``lock`` still holds ``global`` here."""
        return self._names.apply_operations(operations, external, lock_held=self._locks.global_lock_matches(lock))

    def _add_known(self, nodes: Iterable[tuple[Atom, int]]) -> list[Atom]:
        """Add nodes to our partition. Return the new ones. Versions that were unknown are filled in."""
        added = []
        for node, vsn in nodes:
            if node == self.own_node:
                continue
            if node not in self.known:
                added.append(node)
                self.known[node] = vsn
                self.additions += 1
            elif not self.known[node]:
                self.known[node] = vsn
                self.additions += 1
        return added
