"""The vocabulary of pg: its atoms, the effects that the state of a scope returns, and the events that observers get.

See ``state.py`` for the messages and rules of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from erlmesh.records import record
from erlmesh.terms import Atom, Pid, Term

__all__ = [
    "Demonitor",
    "Effect",
    "GroupEvent",
    "Joined",
    "LeavingLater",
    "Left",
    "Monitor",
    "PgStatistics",
    "SendTo",
    "Tag",
]


class Tag:
    """The atoms of the pg protocol."""

    DISCOVER: Final = Atom("discover")
    SYNC: Final = Atom("sync")
    JOIN: Final = Atom("join")
    LEAVE: Final = Atom("leave")


@record(frozen=True)
class SendTo:
    """Send ``message`` to the server ``to`` over an existing connection. Never connect for it (``noconnect``)."""

    to: Pid
    message: Term


@record(frozen=True)
class Monitor:
    """Monitor ``pid`` and report its DOWN to :meth:`erlmesh.services.pg.state.ScopeState.handle_down`."""

    pid: Pid


@record(frozen=True)
class Demonitor:
    """Stop monitoring ``pid`` and flush a DOWN that has already arrived."""

    pid: Pid


Effect: TypeAlias = SendTo | Monitor | Demonitor


@record(frozen=True)
class Joined:
    """``pids`` joined ``group``. A pid occurs as often as it joined."""

    pids: tuple[Pid, ...]
    group: Term


@record(frozen=True)
class Left:
    """``pids`` left ``group``. A pid occurs as often as it left.

    One call can name several pids. If at least one of them was a member, all the named pids are listed, also the pids
    that were not members. OTP does the same (pg.erl, ``leave_local``).

    ``reason`` is one of:

    - ``leave``: the process called leave.
    - The exit reason of a member that terminated.
    - OTP's reason for the lost connection to the member's node, such as ``connection_closed``, ``net_tick_timeout`` or
      ``disconnect``.
    - The exit reason of the scope's server on the member's node, if only this server terminated.

    ``watch`` gives all of these. ``subscribe`` knows less about other nodes: pg reports a termination there as
    ``leave`` and a lost node as ``noconnection``.
    """

    pids: tuple[Pid, ...]
    reason: Term
    group: Term


GroupEvent: TypeAlias = Joined | Left


class LeavingLater:
    """The groups that a process leaves by itself when its node stops. See :meth:`Pg.leave_later`."""

    __slots__ = ("_pid", "_tag", "on_stop")

    def __init__(self, pid: Pid, tag: bytes | None, on_stop: Callable[[], None]) -> None:
        self._pid = pid
        self._tag = tag
        self.on_stop = on_stop

    def stays(self, pid: Pid, group: Term) -> bool:
        """Whether the process ``pid`` stays in ``group``."""
        return pid == self._pid and (self._tag is None or (isinstance(group, tuple) and group[:1] == (self._tag,)))


@record(frozen=True)
class PgStatistics:
    """A snapshot of one scope. Memberships are counted with multiplicity."""

    groups: int
    memberships: int
    local_memberships: int
    peers: int
    """Known servers on other nodes."""
