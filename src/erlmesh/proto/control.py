"""All signals that a node sends or receives, each with the names and numbers of its control tuples in OTP.

The frame reader and writer, the router and the tables of links and monitors all use these values. Tuples are converted
once, at the edge (``erl_dist_protocol``, "Protocol between Connected Nodes").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, dataclass_transform

from erlmesh import native
from erlmesh.records import record
from erlmesh.terms import Atom, Pid, Ref, Term

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def signal(cls: type[_T]) -> type[_T]:
    """Make a class a signal: a value class that is frozen for type checkers only.

    At run time it is not frozen, because the generated ``__init__`` of a frozen class would triple the cost of a
    message.
    """
    return record(unsafe_hash=True)(cls)


@signal
class Send:
    """A message to a pid (SEND 2, SEND_TT 12, SEND_SENDER 22/23).

    ``sender`` is None if the control tuple has none (SEND). ``token`` is the sequential trace token, here and in all
    other signals; None if there is none.
    """

    sender: Pid | None
    to: Pid
    message: Term
    token: Term = None


@signal
class SendName:
    """A message to a name registered on the receiving node (REG_SEND 6/16)."""

    sender: Pid
    name: Atom
    message: Term
    token: Term = None


@signal
class SendAlias:
    """A message to an alias (ALIAS_SEND 33/34)."""

    sender: Pid
    alias: Ref
    message: Term
    token: Term = None


@signal
class Link:
    """``sender`` links itself to ``to`` (LINK 1)."""

    sender: Pid
    to: Pid


@signal
class Unlink:
    """``sender`` removes its link to ``to`` (UNLINK_ID 35).

    ``id`` is 1 … 2⁶⁴-1 and unique among the unfinished unlinks of this pair. It is None for the older UNLINK 4, which
    the receiver does not acknowledge.
    """

    id: int | None
    sender: Pid
    to: Pid


@signal
class UnlinkAck:
    """``sender`` has processed the unlink with this ``id`` (UNLINK_ID_ACK 36)."""

    id: int
    sender: Pid
    to: Pid


@signal
class ExitLink:
    """An exit signal over a link: the linked ``sender`` exited with ``reason`` (EXIT 3/13, PAYLOAD_EXIT 24/25)."""

    sender: Pid
    to: Pid
    reason: Term
    token: Term = None


@signal
class ExitSend:
    """An exit signal from a call of ``exit(to, reason)`` (EXIT2 8/18, PAYLOAD_EXIT2 26/27)."""

    sender: Pid
    to: Pid
    reason: Term
    token: Term = None


@signal
class Monitor:
    """``sender`` monitors ``target``, a pid or a name registered on the receiving node (MONITOR_P 19)."""

    sender: Pid
    target: Pid | Atom
    ref: Ref


@signal
class Demonitor:
    """``sender`` removes its monitor ``ref`` on ``target`` (DEMONITOR_P 20)."""

    sender: Pid
    target: Pid | Atom
    ref: Ref


@signal
class Down:
    """The monitored process exited (MONITOR_P_EXIT 21, PAYLOAD_MONITOR_P_EXIT 28).

    ``source`` is the pid or the name that the Monitor signal had as its target.
    """

    source: Pid | Atom
    to: Pid
    ref: Ref
    reason: Term


@signal
class GroupLeader:
    """``leader`` becomes the group leader of ``to`` (GROUP_LEADER 7)."""

    leader: Pid
    to: Pid


@signal
class SpawnRequest:
    """``sender`` asks the receiving node to start a process (SPAWN_REQUEST 29/30).

    ``options`` is the option list as received (``monitor``, ``link``, …), not validated.
    """

    ref: Ref
    sender: Pid
    group_leader: Pid
    module: Atom
    function: Atom
    arity: int
    options: Term
    arguments: list[Term]
    token: Term = None


@signal
class SpawnReply:
    """The answer to the SpawnRequest ``ref`` (SPAWN_REPLY 31/32).

    ``flags`` is 1 if a link was created, plus 2 if a monitor was. ``result`` is the new pid, or an atom with the reason
    of the failure.
    """

    ref: Ref
    to: Pid
    flags: int
    result: Pid | Atom
    token: Term = None


if native.module is not None and not TYPE_CHECKING:
    # The native part has its own classes for the common signals. They behave alike and take less time to make.
    Send, SendName, SendAlias = native.module.Send, native.module.SendName, native.module.SendAlias
    Monitor, Demonitor, Down = native.module.Monitor, native.module.Demonitor, native.module.Down
    SpawnRequest, SpawnReply = native.module.SpawnRequest, native.module.SpawnReply

Signal = (
    Send
    | SendName
    | SendAlias
    | Link
    | Unlink
    | UnlinkAck
    | ExitLink
    | ExitSend
    | Monitor
    | Demonitor
    | Down
    | GroupLeader
    | SpawnRequest
    | SpawnReply
)
