"""Every signal a node can say or hear, and its control tuple.

The wire, the router and the tables all speak these values; nothing is translated twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

from erlmesh.terms import Atom, Pid, Ref, Term

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True)
def signal(cls: type[_T]) -> type[_T]:
    """A value that type checkers hold frozen. At run time it is not: that alone would triple the cost of a message."""
    return dataclass(slots=True, unsafe_hash=True)(cls)


@signal
class Send:
    """A message to a pid (SEND 2, SEND_TT 12, SEND_SENDER 22/23). ``sender`` is None where the wire gives none."""

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
    """LINK 1."""

    sender: Pid
    to: Pid


@signal
class Unlink:
    """UNLINK_ID 35. ``id`` is 1 … 2⁶⁴-1, unique among this pair's unfinished unlinks. The old UNLINK 4 has ``id`` None
    and is not answered.
    """

    id: int | None
    sender: Pid
    to: Pid


@signal
class UnlinkAck:
    """UNLINK_ID_ACK 36."""

    id: int
    sender: Pid
    to: Pid


@signal
class ExitLink:
    """A link broke: the linked ``sender`` died with ``reason`` (EXIT 3/13, PAYLOAD_EXIT 24/25)."""

    sender: Pid
    to: Pid
    reason: Term
    token: Term = None


@signal
class ExitSend:
    """``exit(to, reason)`` was called (EXIT2 8/18, PAYLOAD_EXIT2 26/27)."""

    sender: Pid
    to: Pid
    reason: Term
    token: Term = None


@signal
class Monitor:
    """MONITOR_P 19: ``sender`` wants to know when ``target`` (a pid, or a name of the receiving node) goes."""

    sender: Pid
    target: Pid | Atom
    ref: Ref


@signal
class Demonitor:
    """DEMONITOR_P 20."""

    sender: Pid
    target: Pid | Atom
    ref: Ref


@signal
class Down:
    """MONITOR_P_EXIT 21, PAYLOAD_MONITOR_P_EXIT 28: the monitored ``source`` (as the monitor named it) is gone."""

    source: Pid | Atom
    to: Pid
    ref: Ref
    reason: Term


@signal
class GroupLeader:
    """GROUP_LEADER 7."""

    leader: Pid
    to: Pid


@signal
class SpawnRequest:
    """SPAWN_REQUEST 29/30. ``options`` is the list as it came (``monitor``, ``link``, …)."""

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
    """SPAWN_REPLY 31/32. ``flags``: 1 linked, 2 monitored. ``result``: the new pid, or an atom that says why not."""

    ref: Ref
    to: Pid
    flags: int
    result: Pid | Atom
    token: Term = None


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
