"""Conversion of signals to control tuples. It uses the newest form that both ends of the connection know.

C nodes (``ei``) and Java nodes (JInterface) know few signals, and close the connection at any other. A BEAM does not
send them such a signal. It acts as follows (``dist.c`` and ``bif.c`` of OTP 25 and 27):

* A monitor, its removal and a DOWN are not sent, unless the peer has both flags for monitors. So a monitor of a process
  of such a peer ends with the connection only.
* A message to an alias is dropped.
* A SPAWN_REQUEST fails with ``notsup``.

A peer without ``UNLINK_ID`` (OTP 22 and libraries of that time) does not acknowledge an UNLINK.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from erlmesh.errors import LocalProtocolError
from erlmesh.proto.control import (
    Demonitor,
    Down,
    ExitLink,
    ExitSend,
    GroupLeader,
    Link,
    Monitor,
    Send,
    SendAlias,
    SendName,
    Signal,
    SpawnReply,
    SpawnRequest,
    Unlink,
    UnlinkAck,
)
from erlmesh.proto.flags import Flags
from erlmesh.proto.ops import NO_MESSAGE, Op
from erlmesh.terms import Atom, Term

__all__ = ["encode_control", "unanswered_signals", "unknown_signals"]

NO_COOKIE: Final = Atom("")
"""The unused element of some control tuples. Ancient releases had the cookie there; OTP sends the empty atom."""
_MONITORS: Final = Flags.DIST_MONITOR | Flags.DIST_MONITOR_NAME
_NEEDED: Final[dict[type[Signal], Flags]] = {
    Monitor: _MONITORS,
    Demonitor: _MONITORS,
    Down: _MONITORS,
    SendAlias: Flags.ALIAS,
    SpawnRequest: Flags.SPAWN,
    SpawnReply: Flags.SPAWN,
    UnlinkAck: Flags.UNLINK_ID,
}
"""The flags that a peer must have for these signals. Every peer knows the other signals, in one form or another."""


def unknown_signals(flags: Flags) -> frozenset[type[Signal]]:
    """Return the signals that must not be sent on a connection with ``flags``. The set is empty for a BEAM."""
    return frozenset(kind for kind, needed in _NEEDED.items() if needed not in flags)


def unanswered_signals(flags: Flags) -> frozenset[type[Signal]]:
    """Return the signals that have an answer which does not come on a connection with ``flags``."""
    answered_by: dict[type[Signal], Flags] = {SpawnRequest: Flags.SPAWN, Unlink: Flags.UNLINK_ID}
    return frozenset(kind for kind, needed in answered_by.items() if needed not in flags)


def encode_control(signal: Signal, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    """Return the control tuple and the message (NO_MESSAGE if none) of ``signal`` on a connection with ``flags``.

    Raises LocalProtocolError if the peer does not know such a signal.
    """
    return _WRITERS[type(signal)](signal, flags)


def _traced(plain: int, traced: int, token: Term, *elements: Term) -> tuple[Term, ...]:
    """Return the tuple with the ``plain`` op, or with the ``traced`` op and the trace token as its last element."""
    return (plain, *elements) if token is None else (traced, *elements, token)


def _write_send(signal: Send, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    if Flags.SEND_SENDER in flags and signal.sender is not None:
        return _traced(Op.SEND_SENDER, Op.SEND_SENDER_TT, signal.token, signal.sender, signal.to), signal.message
    return _traced(Op.SEND, Op.SEND_TT, signal.token, NO_COOKIE, signal.to), signal.message


def _write_send_name(signal: SendName, _flags: Flags) -> tuple[tuple[Term, ...], Term]:
    control = _traced(Op.REG_SEND, Op.REG_SEND_TT, signal.token, signal.sender, NO_COOKIE, signal.name)
    return control, signal.message


def _write_send_alias(signal: SendAlias, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    _require_flag(Flags.ALIAS, flags, "a message to an alias")
    return _traced(Op.ALIAS_SEND, Op.ALIAS_SEND_TT, signal.token, signal.sender, signal.alias), signal.message


def _write_link(signal: Link, _flags: Flags) -> tuple[tuple[Term, ...], Term]:
    return (Op.LINK, signal.sender, signal.to), NO_MESSAGE


def _write_unlink(signal: Unlink, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    if Flags.UNLINK_ID not in flags or signal.id is None:
        return (Op.UNLINK, signal.sender, signal.to), NO_MESSAGE
    return (Op.UNLINK_ID, signal.id, signal.sender, signal.to), NO_MESSAGE


def _write_unlink_ack(signal: UnlinkAck, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    _require_flag(Flags.UNLINK_ID, flags, "an unlink acknowledgement")
    return (Op.UNLINK_ID_ACK, signal.id, signal.sender, signal.to), NO_MESSAGE


def _write_exit_link(signal: ExitLink, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    if Flags.EXIT_PAYLOAD in flags:
        return _traced(Op.PAYLOAD_EXIT, Op.PAYLOAD_EXIT_TT, signal.token, signal.sender, signal.to), signal.reason
    if signal.token is None:
        return (Op.EXIT, signal.sender, signal.to, signal.reason), NO_MESSAGE
    # Not `_traced`: in this older form the token comes before the reason.
    return (Op.EXIT_TT, signal.sender, signal.to, signal.token, signal.reason), NO_MESSAGE


def _write_exit_send(signal: ExitSend, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    if Flags.EXIT_PAYLOAD in flags:
        return _traced(Op.PAYLOAD_EXIT2, Op.PAYLOAD_EXIT2_TT, signal.token, signal.sender, signal.to), signal.reason
    if signal.token is None:
        return (Op.EXIT2, signal.sender, signal.to, signal.reason), NO_MESSAGE
    return (Op.EXIT2_TT, signal.sender, signal.to, signal.token, signal.reason), NO_MESSAGE


def _write_monitor(signal: Monitor, _flags: Flags) -> tuple[tuple[Term, ...], Term]:
    return (Op.MONITOR_P, signal.sender, signal.target, signal.ref), NO_MESSAGE


def _write_demonitor(signal: Demonitor, _flags: Flags) -> tuple[tuple[Term, ...], Term]:
    return (Op.DEMONITOR_P, signal.sender, signal.target, signal.ref), NO_MESSAGE


def _write_down(signal: Down, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    if Flags.EXIT_PAYLOAD in flags:
        return (Op.PAYLOAD_MONITOR_P_EXIT, signal.source, signal.to, signal.ref), signal.reason
    return (Op.MONITOR_P_EXIT, signal.source, signal.to, signal.ref, signal.reason), NO_MESSAGE


def _write_group_leader(signal: GroupLeader, _flags: Flags) -> tuple[tuple[Term, ...], Term]:
    return (Op.GROUP_LEADER, signal.leader, signal.to), NO_MESSAGE


def _write_spawn_request(signal: SpawnRequest, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    _require_flag(Flags.SPAWN, flags, "a spawn request")
    mfa = (signal.module, signal.function, signal.arity)
    elements = (signal.ref, signal.sender, signal.group_leader, mfa, signal.options)
    return _traced(Op.SPAWN_REQUEST, Op.SPAWN_REQUEST_TT, signal.token, *elements), signal.arguments


def _write_spawn_reply(signal: SpawnReply, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    _require_flag(Flags.SPAWN, flags, "a spawn reply")
    elements = (signal.ref, signal.to, signal.flags, signal.result)
    return _traced(Op.SPAWN_REPLY, Op.SPAWN_REPLY_TT, signal.token, *elements), NO_MESSAGE


def _require_flag(flag: Flags, flags: Flags, what: str) -> None:
    """Raise LocalProtocolError if ``flag`` was not negotiated. ``what`` names the signal in the message."""
    if flag not in flags:
        raise LocalProtocolError(f"the peer does not know {what}: {flag.name} was not negotiated")


_WRITERS: Final[dict[type, Callable[..., tuple[tuple[Term, ...], Term]]]] = {
    Send: _write_send,
    SendName: _write_send_name,
    SendAlias: _write_send_alias,
    Link: _write_link,
    Unlink: _write_unlink,
    UnlinkAck: _write_unlink_ack,
    ExitLink: _write_exit_link,
    ExitSend: _write_exit_send,
    Monitor: _write_monitor,
    Demonitor: _write_demonitor,
    Down: _write_down,
    GroupLeader: _write_group_leader,
    SpawnRequest: _write_spawn_request,
    SpawnReply: _write_spawn_reply,
}
