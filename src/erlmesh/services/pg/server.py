"""pg: the process groups of OTP 23 and later, on all connected nodes.

A group exists while it has members; it is not created or deleted. No call waits for another node. :class:`Pg` is the
public API of one scope. Its server process is a :class:`ScopeServer`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from erlmesh.errors import NoProcess
from erlmesh.runtime.multicast import send_to_each
from erlmesh.services.group_names import normalize_group_name
from erlmesh.services.pg.dispatch import Membership, MultiCallResult, Picker, multi_call_members
from erlmesh.services.pg.protocol import GroupEvent, Joined, LeavingLater, Left, PgStatistics
from erlmesh.services.pg.scope_server import ScopeServer
from erlmesh.services.pg.watches import GroupEvents
from erlmesh.terms import Atom, Pid, Term

if TYPE_CHECKING:
    from collections.abc import Callable

    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime

__all__ = ["GroupEvent", "GroupEvents", "Joined", "Left", "Pg"]

NORMAL: Final = Atom("normal")


class Pg:
    """One scope of process groups on ``node``. ``node.pg`` is the default scope, named ``pg``.

    A group is any term. Its members are processes of any connected node. A process that joins twice is a member
    twice. A process that terminates leaves all its groups. If the connection to a node is lost, its members leave.
    """

    def __init__(
        self,
        node: Runtime,
        scope: Atom = Atom("pg"),  # noqa: B008 - an atom is a constant
        scopes: dict[Atom, Pg] | None = None,
        *,
        restart: bool = True,
        hidden: bool = False,
    ) -> None:
        """``hidden`` says that this node is hidden: the scope starts the exchange with each node."""
        self._node = node
        self._hidden = hidden
        # All scopes of the node by name, running or stopped. They share the table.
        self._scopes = {} if scopes is None else scopes
        self.scope = scope
        self._server = ScopeServer(node, scope, restart=restart, hidden=hidden)
        self._is_leaving = False
        """True while the node stops: no process joins any more."""
        self._leaving_later: dict[LeavingLater, None] = {}
        self._picker = Picker(node.random)

    def start_scope(self, name: Atom | str, *, restart: bool = True) -> Pg:
        """Start another scope of this node (``pg:start/1``), or start it again after it has stopped.

        With ``restart``, only :meth:`stop` ends it: after an exit signal its server starts again, as under a supervisor
        in OTP, and the members stay. Raises ``ValueError`` if the name is registered.
        """
        scope = Pg(self._node, Atom(name), self._scopes, restart=restart, hidden=self._hidden)
        self._scopes[scope.scope] = scope
        return scope

    def find_scope(self, name: Atom | str) -> Pg | None:
        """The running scope of this node with that name."""
        scope = self._scopes.get(Atom(name))
        return scope if scope is not None and scope.alive else None

    @property
    def pid(self) -> Pid:
        """The server's pid. It is registered under the name of the scope."""
        return self._server.process.pid

    @property
    def alive(self) -> bool:
        """False after :meth:`stop` and after the node has stopped."""
        return self._server.process.alive

    def stop(self, reason: Term = NORMAL) -> None:
        """Stop the scope.

        It has no groups on this node any more, our members leave on the other nodes, and its name is free.
        :meth:`start_scope` starts the scope again.
        """
        self._server.stop(reason)

    def join(self, group: Term, pids: Pid | Iterable[Pid]) -> None:
        """Add one or several processes of this node to ``group``. A process that is a member already is added once
        more.

        Raises ``ValueError`` for a process of another node, which must join there. Raises ``TypeError`` for a value
        that is not a pid, ``EncodeError`` for a group that is not a term, and ``NoProcess`` if the scope has stopped.
        While the node stops this does nothing.
        """
        members = self._require_local(pids)
        if not self._is_leaving:
            self._server.apply(self._server.state.join(normalize_group_name(group), members))

    def leave(self, group: Term, pids: Pid | Iterable[Pid]) -> bool:
        """Remove one or several processes of this node from ``group``, once each. Return False if none was a member.

        Raises the same exceptions as :meth:`join`, except ``EncodeError``.
        """
        left, effects = self._server.state.leave(group, self._require_local(pids))
        self._server.apply(effects)
        return left

    def leave_all(self) -> None:
        """Let all local processes leave all their groups, because the node stops. From now on nobody joins."""
        self._is_leaving = True
        if self.alive:
            later = list(self._leaving_later)
            self._server.apply(
                self._server.state.leave_all(lambda pid, group: any(each.stays(pid, group) for each in later))
            )
            for each in later:
                each.on_stop()

    def leave_later(self, pid: Pid, tag: bytes | None, on_stop: Callable[[], None]) -> Callable[[], None]:
        """Let a local process stay in the groups ``(tag, …)`` while the node stops, until it leaves them or ends.

        Without a tag it stays in all of its groups.
        ``on_stop()`` is called when all others have left. Return a function that ends this.
        """
        entry = LeavingLater(pid, tag, on_stop)
        self._leaving_later[entry] = None
        return lambda: self._leaving_later.pop(entry, None)

    def get_members(self, group: Term) -> list[Pid]:
        """The members on all nodes, newest first, repeated as often as they joined. ``[]`` if there are none.

        The list is a copy, which the caller may change. :meth:`snapshot` does not copy.
        """
        return list(self._server.state.members(group))

    def get_local_members(self, group: Term) -> list[Pid]:
        """The members on this node, newest first. The list is a copy."""
        return list(self._server.state.local_members(group))

    def which_groups(self) -> list[Term]:
        """All groups that have members."""
        return self._server.state.groups()

    def which_local_groups(self) -> list[Term]:
        """The groups that have members on this node."""
        return self._server.state.local_groups()

    def discover(self, node: Atom | str) -> None:
        """Exchange members with the scope of the same name on ``node``.

        Scopes do this by themselves when two visible nodes connect, and on a hidden erlmesh node with each connection.
        A hidden BEAM does not: call this once for each connection with it.
        """
        self._server.send_discover(Atom(node))

    def knows_groups_of(self, node: Atom | str) -> bool:
        """Whether the scope of the same name on ``node`` has sent its groups since it is connected."""
        return self._server.state.has_sync_of(Atom(node))

    def watch(self, group: Term) -> GroupEvents:
        """Return the changes of ``group``, :class:`Joined` and :class:`Left`, for ``async for``.

        The subscription starts with this call. Call :meth:`get_members` before the next ``await`` to get the matching
        initial state.
        """
        return GroupEvents(self._node, self._server.observers.watch(group))

    def watch_in_mailbox(self, process: LocalProcess, group: Term) -> Callable[[], None]:
        """Send the members of ``group`` and its changes to a local process. See :meth:`Process.monitor_group`."""
        if not self.alive:
            raise NoProcess(f"the pg scope {self.scope} has stopped")
        return self._server.observers.watch(group).add_mailbox(
            process, normalize_group_name(group), self._server.state.members(group)
        )

    def subscribe(self, callback: Callable[[GroupEvent], None]) -> Callable[[], None]:
        """Call ``callback`` with each change of any group. Return a function that ends the subscription.

        The members already include the change when ``callback`` runs. An exception in ``callback`` is logged.
        """
        return self._server.observers.subscribe(callback)

    def snapshot(self, group: Term) -> Membership:
        """The current members of the group as an immutable value.

        It is built once, and again after a change of the group.
        """
        return Membership(group, self._server.state.members(group), self._server.state.local_members(group))

    # Beyond OTP's API: address a group instead of a process

    def publish(self, group: Term, message: Term) -> int:
        """Send ``message`` to every process in the group, once each however often it joined. Return the number of
        processes.

        Raises ``EncodeError`` if ``message`` is not a term and a member is on another node. Then no process gets it.
        """
        return send_to_each(self._server.process, self._server.state.recipients(group), message)

    def pick(self, group: Term, strategy: str = "local") -> Pid | None:
        """Return one member, or None if there is none. Raises ``ValueError`` for an unknown strategy.

        - ``local``: a random member of this node, or of any node if this one has none.
        - ``random``: a random member of any node.
        - ``round_robin``: each member in turn.

        The time does not depend on the size of the group, also if the group changes between two picks.
        """
        state = self._server.state
        return self._picker.pick(group, strategy, state.candidates(group), state.local_candidates(group))

    def owner(self, group: Term, key: str | bytes) -> Pid | None:
        """Return the member that is responsible for ``key``, or None if there is none.

        Nodes that see the same members give the same answer, also in Elixir. A member whose node leaves gives away its
        own keys only; one on a new node takes an equal share from each of the others. This is no exclusion: while a
        node starts, stops or is cut off, two nodes can see different members. ``node.shards`` is for work that only one
        process may do.

        A ``str`` is the same key as its UTF-8 bytes. Raises ``TypeError`` for a key of another type.
        """
        from erlmesh.core.sharding.rendezvous import key_bytes  # noqa: PLC0415 - it loads hashlib

        found = self._server.state.rendezvous(group)
        wanted = key_bytes(key)
        return None if found is None else found.owner(wanted)

    def owners(self, group: Term, key: str | bytes, count: int) -> list[Pid]:
        """Return ``count`` members on different nodes, the :meth:`owner` of ``key`` first. Fewer if there are fewer
        nodes.

        The second one becomes the owner when the node of the first one leaves. Raises ``TypeError`` as :meth:`owner`,
        and ``ValueError`` for another count than 0, 1, 2 and so on.
        """
        from erlmesh.core.sharding.rendezvous import key_bytes  # noqa: PLC0415 - it loads hashlib

        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"a count is 0 or more, not {count!r}")
        found = self._server.state.rendezvous(group)
        wanted = key_bytes(key)
        return [] if found is None else found.owners(wanted, count)

    async def multi_call(self, group: Term, request: Term, *, timeout: float | None = 5.0) -> MultiCallResult:
        """Make the ``gen_server`` call ``request`` to every process in the group at the same time, once each.

        Return the replies by pid, and the reasons of the members that did not reply, by pid. A reason is ``timeout``
        after ``timeout`` seconds, ``noproc``, ``noconnection`` or an exit reason. A late reply is dropped. Raises
        ``EncodeError`` if ``request`` is not a term.
        """
        return await multi_call_members(self._node, dict.fromkeys(self._server.state.members(group)), request, timeout)

    def statistics(self) -> PgStatistics:
        """Counts of groups, memberships and known servers. They are counters: the time does not grow with them."""
        return self._server.state.statistics()

    # Arguments

    def _require_local(self, pids: Pid | Iterable[Pid]) -> list[Pid]:
        """Return ``pids`` as a list. Raises as :meth:`join` describes."""
        if not self._server.process.alive:
            raise NoProcess(f"the pg scope {self.scope} has stopped")
        if isinstance(pids, str | bytes | Atom):  # Without this check, a str is read as an iterable of characters.
            raise TypeError(f"members are pids, not {pids!r}: the group comes first, as in join('greeters', me.pid)")
        listed = list(pids) if isinstance(pids, Iterable) else [pids]
        for pid in listed:
            if not isinstance(pid, Pid):
                raise TypeError(f"members are pids, not {type(pid).__name__}: {pid!r}")
        if remote := self._server.first_remote(listed):
            raise ValueError(f"{remote!r} is a process of {remote.node.name}: it can only join and leave there")
        return listed
