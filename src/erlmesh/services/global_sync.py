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

from erlmesh.services.global_locks import LockTable
from erlmesh.services.global_protocol import (
    OLDEST_VSN,
    PARTITION_VSN,
    PATIENCE_SECONDS,
    VERIFY_CONNECT_VSN,
    VSN,
    Cast,
    Connect,
    Disconnect,
    Effect,
    LockId,
    Recheck,
    Resolve,
    StopResolving,
    Tell,
    ToLocker,
    Word,
)
from erlmesh.services.global_table import NameTable, compare
from erlmesh.terms import Atom, Map, Pid, Term

__all__ = ["GlobalSync"]


class _Invitation(NamedTuple):
    """An ``init_connect``, read."""

    vsn: int  # what we speak with each other
    his_vsn: int
    his_tag: Term
    locker: Pid


class _Result(NamedTuple):
    """A ``resolved``, read."""

    operations: list[Term]
    known: list[tuple[Atom, int]]
    external: Term


@dataclass(slots=True)
class _Session:
    my_tag: int
    his_tag: Term = None
    vsn: int = 0
    lock: LockId | None = None  # set once both partitions are locked
    his_names: list[Term] | None = None
    operations: list[Term] | None = None  # for our own table, once the conflicts are settled
    result: _Result | None = None
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
        self.own = own
        self.known: dict[Atom, int] = {}
        self.pending: dict[Atom, int] = {}
        self.synced: dict[Atom, None] = {}
        self._names = names
        self._locks = locks
        self._next_tag = first_tag
        self._sessions: dict[Atom, _Session] = {}
        self._early: dict[Atom, _Invitation] = {}

    # What a session is now

    def tag(self, node: Atom) -> int | None:
        """Our tag of the session with ``node``."""
        session = self._sessions.get(node)
        return session.my_tag if session else None

    def vsn(self, node: Atom) -> int:
        """The protocol version of ``node``, 0 if it is not known."""
        return VSN if node == self.own else self.known.get(node) or self.pending.get(node, 0)

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
        hello = (Word.LOCKER, Word.NO_LONGER_A_PID, Map(self.known), self.locker)
        effects: list[Effect] = [Cast(node, (Word.INIT_CONNECT, (VSN, session.my_tag), self.own, hello))]
        early = self._early.pop(node, None)
        return effects if early is None else effects + self._meet(node, session, early)

    def init_connect(self, node: Atom, version: Term, hello: Term) -> list[Effect]:
        invitation = _read_invitation(version, hello)
        if invitation is None:
            return []
        if node in self.pending:
            # He began anew without our having heard the end of the old session.
            if invitation.his_vsn < VERIFY_CONNECT_VSN:
                return [Disconnect(node, "got an out of sync connection attempt from an old version")]
            # Both begin anew: his answer to this cancel is another init_connect.
            return [Tell(node, (Word.CANCEL_CONNECT, self.own, invitation.his_tag)), *self._restart(node)]
        session = self._sessions.get(node)
        if session is None:
            self._early[node] = invitation
            return []
        return self._meet(node, session, invitation)

    def init_connect_ack(self, node: Atom, his_my_tag: Term, his_his_tag: Term) -> list[Effect]:
        """He has our ``his_my_tag`` and his ``his_his_tag`` as this session's tags; begin anew if we have others."""
        session = self._sessions.get(node)
        if session is not None and session.my_tag == his_my_tag and session.his_tag == his_his_tag:
            return []
        return [Tell(node, (Word.CANCEL_CONNECT, self.own, his_his_tag)), *self._restart(node)]

    def cancel_connect(self, node: Atom, tag: Term) -> list[Effect]:
        return self._restart(node) if self._is_current(node, tag) else []

    def _meet(self, node: Atom, session: _Session, invitation: _Invitation) -> list[Effect]:
        session.his_tag, session.vsn = invitation.his_tag, invitation.vsn
        self.pending[node] = invitation.his_vsn
        him = (Word.HIS_THE_LOCKER, invitation.locker, invitation.vsn, invitation.his_tag, session.my_tag)
        effects: list[Effect] = [ToLocker(him)]
        if invitation.his_vsn >= VERIFY_CONNECT_VSN:
            effects.append(Tell(node, (Word.INIT_CONNECT_ACK, self.own, invitation.his_tag, session.my_tag)))
        return effects

    # Both partitions are locked

    def lock_is_set(self, node: Atom, tag: Term, lock: LockId) -> list[Effect]:
        """Our locker has heard that both sides are locked by ``lock``, and holds it until it is cancelled."""
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._release(node, tag)
        names: list[Term] = list(self._names.entries())
        effects: list[Effect] = [Cast(node, (Word.EXCHANGE, self.own, names, [], session.his_tag))]
        session.lock = lock
        return effects + self._compare(node, session)

    def exchange(self, node: Atom, names: Term, tag: Term) -> list[Effect]:
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._release(node, tag)
        session.his_names = names if isinstance(names, list) else []
        return self._compare(node, session)

    def _compare(self, node: Atom, session: _Session) -> list[Effect]:
        # His names may arrive before our locker has told us that the lock is set: whichever is second goes on.
        if session.lock is None or session.his_names is None:
            return []
        his_names, session.his_names = session.his_names, None
        decide = self.own.name < node.name
        operations, conflicts = compare(self._names, his_names, decide=decide)
        if not conflicts:
            return self.exchange_ops(node, session.my_tag, operations, [])
        session.resolving = True
        return [Resolve(node, session.my_tag, tuple(operations), tuple(conflicts))]

    def exchange_ops(self, node: Atom, tag: Term, operations: list[Term], resolved: list[Term]) -> list[Effect]:
        """The conflicts are settled: ``operations`` for our table, ``resolved`` for his."""
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._release(node, tag)
        session.resolving = False
        known = _known_list(list(self.known.items()), session.vsn)
        external: list[Term] = list(self._names.external())
        answer = (Word.RESOLVED, self.own, resolved, known, Word.UNUSED, external, session.his_tag)
        session.operations = operations
        return [Cast(node, answer), *self._finish(node, session)]

    def resolved(self, node: Atom, operations: Term, known: Term, external: Term, tag: Term) -> list[Effect]:
        session = self._sessions.get(node)
        if session is None or session.my_tag != tag:
            return self._release(node, tag)
        session.result = _Result(operations if isinstance(operations, list) else [], _read_nodes(known), external)
        return self._finish(node, session)

    def _finish(self, node: Atom, session: _Session) -> list[Effect]:
        if session.operations is None or session.result is None:
            return []
        operations = session.operations + session.result.operations
        external = session.result.external
        newcomers = [(node, self.vsn(node))]
        newcomers += [(name, vsn or self.vsn(name)) for name, vsn in session.result.known]
        theirs = [name for name, _ in session.result.known if name not in (node, self.own)]
        lock_info = [(Word.VSN, session.vsn), (Word.LOCK, session.lock)]
        effects: list[Effect] = [Connect(name) for name in theirs]
        effects += self._apply(operations, external, session.lock)
        for name in theirs:
            effects += self._end(name, tell=False)
        # The locker passes these on before it lets go of the lock, so that no node can be locked by anybody else
        # before it has heard of the newcomers.
        announce = [
            (name, (Word.NEW_NODES, self.own, operations, external, _known_list(newcomers, vsn), lock_info))
            for name, vsn in self.known.items()
        ]
        effects += self._end(node, tell=False, announce=announce)
        self._add_known(newcomers)
        self.synced[node] = None
        return effects

    def new_nodes(self, operations: Term, external: Term, nodes: Term, extra: Term) -> list[Effect]:
        """Somebody of our partition has met others: ``nodes``, with names that make ``operations`` necessary."""
        added = self._add_known(_read_nodes(nodes))
        effects: list[Effect] = [Connect(name) for name in added]
        lock = None
        for item in extra if isinstance(extra, list) else ():
            match item:
                case (Word.LOCK, lock):
                    pass
        return effects + self._apply(operations if isinstance(operations, list) else [], external, lock)

    def in_sync(self, node: Atom) -> list[Effect]:
        """``node`` was introduced to us by others: a session of our own with it has become needless."""
        self.synced[node] = None
        effects = self._end(node, tell=False)
        return effects if node in self.known else [*effects, Recheck(node, PATIENCE_SECONDS)]

    def is_unannounced(self, node: Atom) -> bool:
        """``node`` believes that others have introduced it to us, but nobody has: they meant a former life of ours, or
        died on the way. It would not tell us of names, nor we it.
        """
        return node in self.synced and node not in self.known

    # The end

    def forget(self, node: Atom) -> list[Effect]:
        """``node`` is no longer of our partition. Its names go at once: until it hangs up others could hear of them."""
        effects = [*self._end(node, tell=True), *self._names.lost(node)]
        self.known.pop(node, None)
        self.synced.pop(node, None)
        return effects

    def forget_all(self) -> list[Effect]:
        """Nothing that was agreed with anybody counts any more."""
        everybody = {**self.known, **self.pending, **self._sessions, **self.synced, **self._early}
        return [effect for node in everybody for effect in self.forget(node)]

    def unlearn(self, node: Atom) -> None:
        """Take ``node`` out of what peers have told and we have not acted on yet: it is news of before its loss."""
        for session in self._sessions.values():
            if session.result is not None:
                known = [(name, vsn) for name, vsn in session.result.known if name != node]
                session.result = session.result._replace(known=known)

    def _restart(self, node: Atom) -> list[Effect]:
        was_up = node in self._sessions
        effects = self._end(node, tell=True)
        return effects + self.nodeup(node) if was_up else effects

    def _end(self, node: Atom, *, tell: bool, announce: Iterable[tuple[Atom, Term]] = ()) -> list[Effect]:
        """End the session with ``node``, if there is one; ``tell`` it to begin anew if it believes in it still."""
        self._early.pop(node, None)
        session = self._sessions.pop(node, None)
        his_vsn = self.pending.pop(node, 0)
        if session is None:
            return []
        effects: list[Effect] = [ToLocker((Word.CANCEL, node, session.my_tag, list(announce)))]
        if tell and his_vsn >= VERIFY_CONNECT_VSN:
            effects.append(Tell(node, (Word.CANCEL_CONNECT, self.own, session.his_tag)))
        if session.resolving:
            effects.append(StopResolving(node))
        return effects

    def _release(self, node: Atom, tag: Term) -> list[Effect]:
        return [ToLocker((Word.CANCEL, node, tag, []))]

    def _is_current(self, node: Atom, tag: Term) -> bool:
        session = self._sessions.get(node)
        return session is not None and session.my_tag == tag

    def _apply(self, operations: list[Term], external: Term, lock: Term) -> list[Effect]:
        return self._names.apply(operations, external, allowed=self._locks.global_lock_is(lock))

    def _add_known(self, nodes: Iterable[tuple[Atom, int]]) -> list[Atom]:
        """The nodes that were new. A version that was not known before is learnt."""
        added = []
        for node, vsn in nodes:
            if node == self.own:
                continue
            if node not in self.known:
                added.append(node)
                self.known[node] = vsn
            elif not self.known[node]:
                self.known[node] = vsn
        return added


def _read_invitation(version: Term, hello: Term) -> _Invitation | None:
    match version, hello:
        case ((int() as his_vsn, his_tag, *_), (Word.LOCKER, _, _, Pid() as locker)) if his_vsn >= OLDEST_VSN:
            return _Invitation(min(his_vsn, VSN), his_vsn, his_tag, locker)
    return None


def _read_nodes(nodes: Term) -> list[tuple[Atom, int]]:
    """``[Node]`` or ``[{Node, Vsn}]``; a version that is not told is 0."""
    found: list[tuple[Atom, int]] = []
    for item in nodes if isinstance(nodes, list) else ():
        match item:
            case Atom():
                found.append((item, 0))
            case (Atom() as node, int() as vsn):
                found.append((node, vsn))
    return found


def _known_list(nodes: list[tuple[Atom, int]], vsn: int) -> list[Term]:
    """``nodes`` as a peer of version ``vsn`` reads them."""
    return list(nodes) if vsn >= PARTITION_VSN else [node for node, _ in nodes]
