"""The sessions of one node: how two partitions of a cluster become one. Pure book-keeping.

When X and Y connect, X's partition being {X, …} and Y's {Y, …}::

    X                                  Y                              the others of X's partition
    init_connect ────────────────────► (and the same the other way)
    ◄───────────────── init_connect_ack
        both lockers lock `global` in their own partition, see global_locker
    exchange (all names) ────────────►
    resolved (operations, all known) ►
                                                new_nodes (operations, Y and all that Y knows) ─►
        everybody connects to everybody who is new to him
    in_sync ─────────────────────────► every new node

The tags in these messages belong to one session: a message with another tag is of a session that is over, and only
makes our locker let go of what it may still hold for it. A node that never answers keeps its session open and
disturbs nobody. (The header of OTP's global.erl, "Connection algorithm".)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from erlmesh.services.global_.lock_table import LockTable
from erlmesh.services.global_.name_table import NameTable, compare_tables
from erlmesh.services.global_.protocol import (
    NET_SETUPTIME_SECONDS,
    OLDEST_VSN,
    PARTITION_VSN,
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
from erlmesh.terms import Atom, Map, Pid, Term

__all__ = ["GlobalSync"]


class _InitConnect(NamedTuple):
    """An ``init_connect``, read."""

    vsn: int  # what we speak with each other
    peer_vsn: int
    peer_tag: Term
    locker: Pid


class _Resolved(NamedTuple):
    """A ``resolved``, read."""

    operations: list[Term]
    known: list[tuple[Atom, int]]
    external: Term


@dataclass(slots=True)
class _Session:
    my_tag: int
    peer_tag: Term = None
    vsn: int = 0
    lock: LockId | None = None  # set once both partitions are locked
    peer_names: list[Term] | None = None
    operations: list[Term] | None = None  # for our own table, once the conflicts are settled
    result: _Resolved | None = None
    resolving: bool = False


class GlobalSync:
    """What this node knows of the cluster. Every method tells it something and returns what is to be done.

    ``known`` maps the nodes of our partition to their protocol version, ``pending`` those we are in session with;
    ``synced`` are the nodes that have the same names as we have.
    """

    locker: Pid
    """Our locker. To be set before anybody is met."""

    def __init__(self, own: Atom, names: NameTable, locks: LockTable, *, first_tag: int) -> None:
        """``first_tag``: unlikely to be of an earlier life."""
        self.own_node = own
        self.known: dict[Atom, int] = {}
        self.pending: dict[Atom, int] = {}
        self.synced: dict[Atom, None] = {}
        self._names = names
        self._locks = locks
        self._next_tag = first_tag
        self._sessions: dict[Atom, _Session] = {}
        self._early_init_connects: dict[Atom, _InitConnect] = {}

    # What a session is now

    def session_tag(self, node: Atom) -> int | None:
        """Our tag of the session with ``node``."""
        session = self._sessions.get(node)
        return session.my_tag if session else None

    def node_vsn(self, node: Atom) -> int:
        """The protocol version of ``node``, 0 if it is not known."""
        return VSN if node == self.own_node else self.known.get(node) or self.pending.get(node, 0)

    def is_potentially_known(self, node: Atom) -> bool:
        return node in self.known or node in self.pending

    def sessions(self) -> list[Atom]:
        return list(self._sessions)

    # The beginning

    def nodeup(self, node: Atom) -> list[Effect]:
        """A visible node is connected. One we know already was introduced to us: it needs no session."""
        if node in self.known or node in self._sessions:
            return []
        session = self._sessions[node] = _Session(self._next_tag)
        self._next_tag += 1
        hello = (Atoms.LOCKER, Atoms.NO_LONGER_A_PID, Map(self.known), self.locker)
        effects: list[Effect] = [Cast(node, (Atoms.INIT_CONNECT, (VSN, session.my_tag), self.own_node, hello))]
        early = self._early_init_connects.pop(node, None)
        return effects if early is None else effects + self._accept_session(node, session, early)

    def init_connect(self, node: Atom, version: Term, init_msg: Term) -> list[Effect]:
        invitation = _parse_init_connect(version, init_msg)
        if invitation is None:
            return []
        if node in self.pending:
            # He began anew without our having heard the end of the old session.
            if invitation.peer_vsn < VERIFY_CONNECT_VSN:
                return [Disconnect(node, "got an out of sync connection attempt from an old version")]
            # Both begin anew: his answer to this cancel is another init_connect.
            return [
                Send(node, (Atoms.CANCEL_CONNECT, self.own_node, invitation.peer_tag)),
                *self._restart_session(node),
            ]
        session = self._sessions.get(node)
        if session is None:
            self._early_init_connects[node] = invitation
            return []
        return self._accept_session(node, session, invitation)

    def init_connect_ack(self, node: Atom, acked_tag: Term, peer_tag: Term) -> list[Effect]:
        """He has our ``his_my_tag`` and his ``his_his_tag`` as this session's tags; begin anew if we have others."""
        session = self._sessions.get(node)
        if session is not None and session.my_tag == acked_tag and session.peer_tag == peer_tag:
            return []
        return [Send(node, (Atoms.CANCEL_CONNECT, self.own_node, peer_tag)), *self._restart_session(node)]

    def cancel_connect(self, node: Atom, tag: Term) -> list[Effect]:
        return self._restart_session(node) if self._is_current(node, tag) else []

    def _accept_session(self, node: Atom, session: _Session, init_connect: _InitConnect) -> list[Effect]:
        session.peer_tag, session.vsn = init_connect.peer_tag, init_connect.vsn
        self.pending[node] = init_connect.peer_vsn
        him = (Atoms.HIS_THE_LOCKER, init_connect.locker, init_connect.vsn, init_connect.peer_tag, session.my_tag)
        effects: list[Effect] = [SendToLocker(him)]
        if init_connect.peer_vsn >= VERIFY_CONNECT_VSN:
            effects.append(Send(node, (Atoms.INIT_CONNECT_ACK, self.own_node, init_connect.peer_tag, session.my_tag)))
        return effects

    # Both partitions are locked

    def lock_is_set(self, node: Atom, tag: Term, lock: LockId) -> list[Effect]:
        """Our locker has heard that both sides are locked by ``lock``, and holds it until it is cancelled."""
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._cancel_lock(node, tag)
        names: list[Term] = list(self._names.entries())
        effects: list[Effect] = [Cast(node, (Atoms.EXCHANGE, self.own_node, names, [], session.peer_tag))]
        session.lock = lock
        return effects + self._compare_names(node, session)

    def exchange(self, node: Atom, names: Term, tag: Term) -> list[Effect]:
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._cancel_lock(node, tag)
        session.peer_names = names if isinstance(names, list) else []
        return self._compare_names(node, session)

    def _compare_names(self, node: Atom, session: _Session) -> list[Effect]:
        # His names may arrive before our locker has told us that the lock is set: whichever is second goes on.
        if session.lock is None or session.peer_names is None:
            return []
        his_names, session.peer_names = session.peer_names, None
        decide = self.own_node.name < node.name
        operations, conflicts = compare_tables(self._names, his_names, decide=decide)
        if not conflicts:
            return self.exchange_ops(node, session.my_tag, operations, [])
        session.resolving = True
        return [Resolve(node, session.my_tag, tuple(operations), tuple(conflicts))]

    def exchange_ops(self, node: Atom, tag: Term, operations: list[Term], resolved: list[Term]) -> list[Effect]:
        """The conflicts are settled: ``operations`` for our table, ``resolved`` for his."""
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._cancel_lock(node, tag)
        session.resolving = False
        known = _encode_known(list(self.known.items()), session.vsn)
        external: list[Term] = list(self._names.external())
        answer = (Atoms.RESOLVED, self.own_node, resolved, known, Atoms.UNUSED, external, session.peer_tag)
        session.operations = operations
        return [Cast(node, answer), *self._finish_session(node, session)]

    def resolved(self, node: Atom, operations: Term, known: Term, external: Term, tag: Term) -> list[Effect]:
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._cancel_lock(node, tag)
        session.result = _Resolved(operations if isinstance(operations, list) else [], _parse_nodes(known), external)
        return self._finish_session(node, session)

    def _finish_session(self, node: Atom, session: _Session) -> list[Effect]:
        if session.operations is None or session.result is None:
            return []
        operations = session.operations + session.result.operations
        external = session.result.external
        newcomers = [(node, self.node_vsn(node))]
        newcomers += [(name, vsn or self.node_vsn(name)) for name, vsn in session.result.known]
        theirs = [name for name, _ in session.result.known if name not in (node, self.own_node)]
        lock_info = [(Atoms.VSN, session.vsn), (Atoms.LOCK, session.lock)]
        effects: list[Effect] = [Connect(name) for name in theirs]
        effects += self._apply_operations(operations, external, session.lock)
        for name in theirs:
            effects += self._end_session(name, notify=False)
        # The locker passes these on before it lets go of the lock, so that no node can be locked by anybody else
        # before it has heard of the newcomers.
        announce = [
            (name, (Atoms.NEW_NODES, self.own_node, operations, external, _encode_known(newcomers, vsn), lock_info))
            for name, vsn in self.known.items()
        ]
        effects += self._end_session(node, notify=False, announce=announce)
        self._add_known(newcomers)
        self.synced[node] = None
        return effects

    def new_nodes(self, operations: Term, external: Term, nodes: Term, extra: Term) -> list[Effect]:
        """Somebody of our partition has met others: ``nodes``, with names that make ``operations`` necessary."""
        added = self._add_known(_parse_nodes(nodes))
        effects: list[Effect] = [Connect(name) for name in added]
        lock = None
        for item in extra if isinstance(extra, list) else ():
            match item:
                case (Atoms.LOCK, lock):
                    pass
        return effects + self._apply_operations(operations if isinstance(operations, list) else [], external, lock)

    def in_sync(self, node: Atom) -> list[Effect]:
        """``node`` was introduced to us by others: a session of our own with it has become needless."""
        self.synced[node] = None
        effects = self._end_session(node, notify=False)
        return effects if node in self.known else [*effects, Recheck(node, NET_SETUPTIME_SECONDS)]

    def is_not_introduced(self, node: Atom) -> bool:
        """``node`` believes that others have introduced it to us, but nobody has: they meant a former life of ours, or
        died on the way. It would not tell us of names, nor we it.
        """
        return node in self.synced and node not in self.known

    # The end

    def remove_node(self, node: Atom) -> list[Effect]:
        """``node`` is no longer of our partition. Its names go at once: until it hangs up others could hear of them."""
        effects = [*self._end_session(node, notify=True), *self._names.remove_node(node)]
        self.known.pop(node, None)
        self.synced.pop(node, None)
        return effects

    def remove_all_nodes(self) -> list[Effect]:
        """Nothing that was agreed with anybody counts any more."""
        everybody = {**self.known, **self.pending, **self._sessions, **self.synced, **self._early_init_connects}
        return [effect for node in everybody for effect in self.remove_node(node)]

    def forget_known(self, node: Atom) -> None:
        """Take ``node`` out of what peers have told and we have not acted on yet: it is news of before its loss."""
        for session in self._sessions.values():
            if session.result is not None:
                known = [(name, vsn) for name, vsn in session.result.known if name != node]
                session.result = session.result._replace(known=known)

    def _restart_session(self, node: Atom) -> list[Effect]:
        was_up = node in self._sessions
        effects = self._end_session(node, notify=True)
        return effects + self.nodeup(node) if was_up else effects

    def _end_session(self, node: Atom, *, notify: bool, announce: Iterable[tuple[Atom, Term]] = ()) -> list[Effect]:
        """End the session with ``node``, if there is one; ``tell`` it to begin anew if it believes in it still."""
        self._early_init_connects.pop(node, None)
        session = self._sessions.pop(node, None)
        his_vsn = self.pending.pop(node, 0)
        if session is None:
            return []
        effects: list[Effect] = [SendToLocker((Atoms.CANCEL, node, session.my_tag, list(announce)))]
        if notify and his_vsn >= VERIFY_CONNECT_VSN:
            effects.append(Send(node, (Atoms.CANCEL_CONNECT, self.own_node, session.peer_tag)))
        if session.resolving:
            effects.append(StopResolving(node))
        return effects

    def _cancel_lock(self, node: Atom, tag: Term) -> list[Effect]:
        return [SendToLocker((Atoms.CANCEL, node, tag, []))]

    def _is_current(self, node: Atom, tag: Term) -> bool:
        session = self._sessions.get(node)
        return session is not None and session.my_tag == tag

    def _apply_operations(self, operations: list[Term], external: Term, lock: Term) -> list[Effect]:
        return self._names.apply_operations(operations, external, lock_held=self._locks.global_lock_matches(lock))

    def _add_known(self, nodes: Iterable[tuple[Atom, int]]) -> list[Atom]:
        """The nodes that were new. A version that was not known before is learnt."""
        added = []
        for node, vsn in nodes:
            if node == self.own_node:
                continue
            if node not in self.known:
                added.append(node)
                self.known[node] = vsn
            elif not self.known[node]:
                self.known[node] = vsn
        return added


def _parse_init_connect(version: Term, init_msg: Term) -> _InitConnect | None:
    match version, init_msg:
        case ((int() as his_vsn, his_tag, *_), (Atoms.LOCKER, _, _, Pid() as locker)) if his_vsn >= OLDEST_VSN:
            return _InitConnect(min(his_vsn, VSN), his_vsn, his_tag, locker)
    return None


def _parse_nodes(nodes: Term) -> list[tuple[Atom, int]]:
    """``[Node]`` or ``[{Node, Vsn}]``; a version that is not told is 0."""
    found: list[tuple[Atom, int]] = []
    for item in nodes if isinstance(nodes, list) else ():
        match item:
            case Atom():
                found.append((item, 0))
            case (Atom() as node, int() as vsn):
                found.append((node, vsn))
    return found


def _encode_known(nodes: list[tuple[Atom, int]], vsn: int) -> list[Term]:
    """``nodes`` as a peer of version ``vsn`` reads them."""
    return list(nodes) if vsn >= PARTITION_VSN else [node for node, _ in nodes]
