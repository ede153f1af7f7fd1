"""pg2: the process groups of OTP 23 and earlier. Every node holds all groups.

Reads are local. A change takes a lock on all nodes and then calls each node's server. So a change waits for every
connected node, also for one that does not answer, until the connection to it is lost. The messages to the server,
which is registered as ``pg2``, are::

    call {create, Name}, {delete, Name}, {join, Name, Pid}, {leave, Name, Pid}
                                     a change; the caller holds the global lock {{pg2, Name}, Caller} on all nodes
    cast {exchange, Node, [[Name, [Pid]]]}
                                     all groups of Node; the receiver adds what it lacks and removes nothing
    {nodeup, Node}                   from the runtime; the answer is an exchange
    {new_pg2, Node}                  the server on Node has just started; the answer is an exchange

The exit of a member is not sent to other nodes, because each node monitors every member itself.

Source: pg2.erl of OTP 23.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, TypeAlias, TypeGuard

from erlmesh.core import gen
from erlmesh.core.exit_reasons import KILL
from erlmesh.errors import EmptyGroup, NoSuchGroup
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.services.gen_server import BADARG, OK, multi_call
from erlmesh.services.group_names import normalize_group_name
from erlmesh.services.pg2.state import Pg2State, Pg2Statistics
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime

__all__ = ["Pg2", "Transaction"]

log = event_log("erlmesh.pg2")
_peer_log = PeerLog(log)

PG2: Final = Atom("pg2")

Transaction: TypeAlias = (
    "Callable[[LocalProcess, Term, Sequence[str], Callable[[], Awaitable[None]]], Awaitable[object]]"
)
"""``await trans(me, (resource, requester), nodes, body)``: run ``body`` while the process ``me`` holds the lock on all
of ``nodes`` (``global:trans/3``)."""


class Tag:
    """The atoms of the pg2 protocol and of its errors."""

    CREATE: Final = Atom("create")
    DELETE: Final = Atom("delete")
    JOIN: Final = Atom("join")
    LEAVE: Final = Atom("leave")
    EXCHANGE: Final = Atom("exchange")
    NEW_PG2: Final = Atom("new_pg2")
    NO_SUCH_GROUP: Final = Atom("no_such_group")
    NO_PROCESS: Final = Atom("no_process")


class Pg2:
    """The pg2 server of ``node`` and its public API. ``trans`` takes the cluster-wide lock.

    A name is any term. Any process can join a group, also a process of another node. It is a member as often as it
    joined.
    """

    def __init__(self, node: Runtime, trans: Transaction) -> None:
        self._node = node
        self._trans = trans
        self._state = Pg2State()
        # One monitor per member, however many groups it is in.
        self._monitor_refs: dict[Pid, Ref] = {}
        self._start()

    def _start(self) -> None:
        """Start the server, also after its exit, as OTP's supervisor does.

        OTP's server loses its groups on a restart and gets them back by exchange. Ours keeps them. Only the monitors,
        which end with the process, are set again.
        """
        node = self._node
        members, self._monitor_refs = list(self._monitor_refs), {}
        self._process = node.spawn_handler(self._handle_message, name=PG2, restart=self._start)
        node.monitor_nodes(self._process.pid)
        self._monitor(members)
        for name in node.nodes():
            self._process.send((PG2, Atom(name)), (Tag.NEW_PG2, node.atom))
            self._send_exchange(Atom(name))

    # The API: changes

    def start(self) -> tuple[Atom, Pid]:
        """``{ok, Pid}`` of the server, which always runs."""
        return (OK, self._process.pid)

    async def create(self, name: Term) -> None:
        """Create an empty group on all nodes, unless this node already has it."""
        name = normalize_group_name(name)
        if name not in self._state:
            await self._update_all_nodes(name, (Tag.CREATE, name))

    async def delete(self, name: Term) -> None:
        """Delete a group from all nodes, with its members. It is not an error if there is no such group."""
        await self._update_all_nodes(name, (Tag.DELETE, name))

    async def join(self, name: Term, pid: Pid) -> None:
        """Add ``pid`` to the group, once more if it is a member already. ``pid`` may be of any node.

        A process that has terminated is removed again at once. Raises :class:`NoSuchGroup`, and ``TypeError`` if
        ``pid`` is not a pid.
        """
        self._check_arguments(name, pid)
        await self._update_all_nodes(name, (Tag.JOIN, name, pid))

    async def leave(self, name: Term, pid: Pid) -> None:
        """Remove ``pid`` from the group once. It is not an error if it is not a member.

        Raises :class:`NoSuchGroup`, and ``TypeError`` if ``pid`` is not a pid.
        """
        self._check_arguments(name, pid)
        await self._update_all_nodes(name, (Tag.LEAVE, name, pid))

    async def leave_all(self, seconds: float) -> None:
        """Let all local processes leave all their groups, because the node stops. Give up after ``seconds``.

        A member that is left then leaves its groups when it terminates.
        """
        memberships = [(name, pid) for name in self._state.names() for pid in self.get_local_members(name)]
        if not memberships:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for name, pid in memberships:
                    await self._update_all_nodes(name, (Tag.LEAVE, name, pid))

    # The API: local reads

    def get_members(self, name: Term) -> list[Pid]:
        """The members on all nodes in Erlang's term order. Raises :class:`NoSuchGroup`."""
        members = self._state.members(name)
        if members is None:
            raise _no_such_group_error(name)
        return members

    def get_local_members(self, name: Term) -> list[Pid]:
        """The members on this node in Erlang's term order. Raises :class:`NoSuchGroup`."""
        return [pid for pid in self.get_members(name) if pid.node is self._node.atom]

    def get_closest_pid(self, name: Term) -> Pid:
        """A random member of this node, or of any node if this one has none.

        Raises :class:`NoSuchGroup`, and :class:`EmptyGroup` if there is no member.
        """
        members = self.get_local_members(name) or self.get_members(name)
        if not members:
            raise EmptyGroup(f"the pg2 group {name!r} has no members", (Tag.NO_PROCESS, name))
        return self._node.random.choice(members)

    def which_groups(self) -> list[Term]:
        """All groups, also empty ones, in Erlang's term order."""
        return self._state.names()

    def statistics(self) -> Pg2Statistics:
        """Counts of groups and memberships."""
        return self._state.statistics()

    # Changes on all nodes

    async def _update_all_nodes(self, name: Term, request: Term) -> None:
        """Call all servers with ``request`` under the lock.

        A separate process makes the calls. It owns the lock, so its exit releases the lock.
        """

        async def run_transaction(me: LocalProcess) -> None:
            async def call_all_nodes() -> None:
                await multi_call(me, self._all_nodes(), PG2, request)

            _, caller, _ = await me.receive()
            await self._trans(me, ((PG2, name), me.pid), self._all_nodes(), call_all_nodes)
            me.reply(caller, OK)

        process = self._node.spawn_service(run_transaction)
        try:
            await self._node.call(process, request, timeout=None)
        except BaseException:  # The caller was cancelled: stop the process, or it would go on asking for the lock.
            self._process.exit(process, KILL)
            raise

    def _all_nodes(self) -> list[str]:
        """This node and all connected visible nodes."""
        return [self._node.name, *self._node.nodes()]

    def _check_arguments(self, name: Term, pid: Pid) -> None:
        """Raise as :meth:`join` and :meth:`leave` describe."""
        if not isinstance(pid, Pid):
            raise TypeError(f"members are pids, not {type(pid).__name__}: {pid!r}")
        if name not in self._state:
            raise _no_such_group_error(name)

    # The server

    def _handle_message(self, message: Term) -> None:
        match message:
            case (gen.GEN_CALL, (Pid() as caller, _), _) if not self._node.is_message_from(caller.node):
                pass
            case (gen.GEN_CALL, (Pid(), _) as caller, request):
                self._process.reply(caller, self._handle_call(request))
            case (gen.GEN_CAST, (Tag.EXCHANGE, Atom() as node, groups)) if _is_group_list(
                groups
            ) and self._node.is_message_from(node):
                self._monitor(self._state.merge(groups))
            case (Atom("DOWN"), Ref() as ref, _, Pid() as pid, _) if (
                self._monitor_refs.get(pid) == ref and self._node.is_message_local()
            ):
                del self._monitor_refs[pid]
                self._state.handle_down(pid)
            case (Atom("nodeup") | Tag.NEW_PG2, Atom() as node) if self._node.is_message_from(node):
                self._send_exchange(node)
            case (Atom("nodedown"), _) | (gen.GEN_CAST, (Atom("del_member"), _, _)) | (Atom("DOWN"), _, _, _, _):
                # Every member has its own monitor, so a lost node needs no action. del_member is sent by old releases
                # when a member exits. A DOWN with another ref belongs to a monitor that was removed meanwhile.
                pass
            case _:
                _peer_log.debug("message_ignored", "ignored %s", ForeignText(message))

    def _handle_call(self, request: Term) -> Term:
        """Make a change that a node requests under the lock. All changes get ``ok``, as in pg2.erl."""
        match request:
            case (Tag.CREATE, name):
                self._state.create(name)
            case (Tag.DELETE, name):
                self._demonitor(self._state.delete(name))
            case (Tag.JOIN, name, Pid() as pid):
                self._monitor(self._state.join(name, pid))
            case (Tag.LEAVE, name, Pid() as pid):
                self._state.leave(name, pid)
                self._demonitor([pid])
            case _:
                _peer_log.debug("request_ignored", "unknown call %s", ForeignText(request))
                return BADARG
        return OK

    def _send_exchange(self, node: Atom) -> None:
        """Send all our groups to the server on ``node``."""
        self._process.cast((PG2, node), (Tag.EXCHANGE, self._node.atom, self._state.dump()))

    def _monitor(self, pids: Sequence[Pid]) -> None:
        for pid in pids:
            self._monitor_refs[pid] = self._process.monitor(pid)

    def _demonitor(self, pids: Sequence[Pid]) -> None:
        """Demonitor the pids that are in no group any more."""
        for pid in pids:
            if pid in self._monitor_refs and not self._state.has_member(pid):
                self._process.demonitor(self._monitor_refs.pop(pid), flush=True)


def _no_such_group_error(name: Term) -> NoSuchGroup:
    return NoSuchGroup(f"there is no pg2 group {name!r}: create it first", (Tag.NO_SUCH_GROUP, name))


def _is_group_list(value: Term) -> TypeGuard[list[tuple[Term, list[Pid]]]]:
    """True for ``[[Name, [Pid]]]``."""
    if type(value) is not list:
        return False
    return all(
        type(entry) is list and len(entry) == 2 and type(entry[1]) is list and all(type(pid) is Pid for pid in entry[1])
        for entry in value
    )
