"""Signals to control tuples and back (``erl_dist_protocol``, "Protocol between Connected Nodes").

As strict as a BEAM: what it would end a connection for raises RemoteProtocolError here, with the tuple in its text.
A control tuple may be followed by a message; whether it is depends on its first element alone.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, IntFlag
from typing import Final

from erlmesh.errors import LocalProtocolError, RemoteProtocolError
from erlmesh.notation import erlang
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
from erlmesh.terms import Atom, Pid, Ref, Term

__all__ = ["NO_MESSAGE", "Op", "carries_message", "decode_control", "encode_control"]


class Op(IntEnum):
    """The first element of a control tuple (DOP_… in ``dist.h``)."""

    LINK = 1
    SEND = 2
    EXIT = 3
    UNLINK = 4
    REG_SEND = 6
    GROUP_LEADER = 7
    EXIT2 = 8
    SEND_TT = 12
    EXIT_TT = 13
    REG_SEND_TT = 16
    EXIT2_TT = 18
    MONITOR_P = 19
    DEMONITOR_P = 20
    MONITOR_P_EXIT = 21
    SEND_SENDER = 22
    SEND_SENDER_TT = 23
    PAYLOAD_EXIT = 24
    PAYLOAD_EXIT_TT = 25
    PAYLOAD_EXIT2 = 26
    PAYLOAD_EXIT2_TT = 27
    PAYLOAD_MONITOR_P_EXIT = 28
    SPAWN_REQUEST = 29
    SPAWN_REQUEST_TT = 30
    SPAWN_REPLY = 31
    SPAWN_REPLY_TT = 32
    ALIAS_SEND = 33
    ALIAS_SEND_TT = 34
    UNLINK_ID = 35
    UNLINK_ID_ACK = 36
    ALTACT_SIG_SEND = 37


class Altact(IntFlag):
    """The second element of ALTACT_SIG_SEND (OTP 28)."""

    PRIORITY = 1
    TOKEN = 2
    ALIAS = 4
    NAME = 8
    EXIT = 16


NO_MESSAGE: Final = object()
"""Stands for the message where there is none."""

NO_COOKIE: Final = Atom("")
"""What stands where once a cookie stood."""

_WITH_MESSAGE: Final = frozenset(
    {
        Op.SEND, Op.SEND_TT, Op.REG_SEND, Op.REG_SEND_TT, Op.SEND_SENDER, Op.SEND_SENDER_TT,
        Op.PAYLOAD_EXIT, Op.PAYLOAD_EXIT_TT, Op.PAYLOAD_EXIT2, Op.PAYLOAD_EXIT2_TT, Op.PAYLOAD_MONITOR_P_EXIT,
        Op.SPAWN_REQUEST, Op.SPAWN_REQUEST_TT, Op.ALIAS_SEND, Op.ALIAS_SEND_TT, Op.ALTACT_SIG_SEND,
    }
)  # fmt: skip


def carries_message(control: Term) -> bool:
    """Whether a message follows ``control``. Raises RemoteProtocolError if that is no control tuple at all."""
    if type(control) is not tuple or not control or type(control[0]) is not int:
        raise RemoteProtocolError(f"Invalid distribution message: {erlang(control)} is no control tuple")
    return control[0] in _WITH_MESSAGE


def decode_control(control: tuple[Term, ...], message: Term, peer: Atom) -> Signal:
    """The signal that ``peer`` sent as ``control`` and ``message`` (NO_MESSAGE if none). Raises RemoteProtocolError."""
    read = _READERS.get(control[0])
    signal = read(control, message, peer) if read is not None else None
    if signal is None:
        raise RemoteProtocolError(f"Invalid distribution message: {erlang(control)}")
    return signal


# Reading: one function for each kind of signal; None says that it is malformed. In a ``case`` that names ``peer``'s own
# processes the guard keeps one node from speaking for another.


def _read_send(control: tuple[Term, ...], message: Term, _peer: Atom) -> Signal | None:
    match control:
        case (Op.SEND_SENDER, Pid() as sender, Pid() as to):
            return Send(sender, to, message)
        case (Op.SEND, _, Pid() as to):
            return Send(None, to, message)
        case (Op.SEND_SENDER_TT, Pid() as sender, Pid() as to, token):
            return Send(sender, to, message, token)
        case (Op.SEND_TT, _, Pid() as to, token):
            return Send(None, to, message, token)
    return None


def _read_send_name(control: tuple[Term, ...], message: Term, _peer: Atom) -> Signal | None:
    match control:
        case (Op.REG_SEND, Pid() as sender, _, name) if (atom := _atom(name)) is not None:
            return SendName(sender, atom, message)
        case (Op.REG_SEND_TT, Pid() as sender, _, name, token) if (atom := _atom(name)) is not None:
            return SendName(sender, atom, message, token)
    return None


def _read_send_alias(control: tuple[Term, ...], message: Term, _peer: Atom) -> Signal | None:
    match control:
        case (Op.ALIAS_SEND, Pid() as sender, Ref() as alias):
            return SendAlias(sender, alias, message)
        case (Op.ALIAS_SEND_TT, Pid() as sender, Ref() as alias, token):
            return SendAlias(sender, alias, message, token)
    return None


def _read_link(control: tuple[Term, ...], _message: Term, peer: Atom) -> Signal | None:
    match control:
        case (Op.LINK, Pid() as sender, Pid() as to) if sender.node is peer:
            return Link(sender, to)
        case (Op.UNLINK, Pid() as sender, Pid() as to) if sender.node is peer:
            return Unlink(None, sender, to)
        case (Op.UNLINK_ID, id, Pid() as sender, Pid() as to) if sender.node is peer and _is_unlink_id(id):
            return Unlink(id, sender, to)
        case (Op.UNLINK_ID_ACK, id, Pid() as sender, Pid() as to) if sender.node is peer and _is_unlink_id(id):
            return UnlinkAck(id, sender, to)
    return None


def _read_exit_link(control: tuple[Term, ...], message: Term, peer: Atom) -> Signal | None:
    match control:
        case (Op.PAYLOAD_EXIT, Pid() as sender, Pid() as to) if sender.node is peer:
            return ExitLink(sender, to, message)
        case (Op.PAYLOAD_EXIT_TT, Pid() as sender, Pid() as to, token) if sender.node is peer:
            return ExitLink(sender, to, message, token)
        case (Op.EXIT, Pid() as sender, Pid() as to, reason) if sender.node is peer:
            return ExitLink(sender, to, reason)
        case (Op.EXIT_TT, Pid() as sender, Pid() as to, token, reason) if sender.node is peer:
            return ExitLink(sender, to, reason, token)
    return None


def _read_exit_send(control: tuple[Term, ...], message: Term, peer: Atom) -> Signal | None:
    match control:
        case (Op.PAYLOAD_EXIT2, Pid() as sender, Pid() as to) if sender.node is peer:
            return ExitSend(sender, to, message)
        case (Op.PAYLOAD_EXIT2_TT, Pid() as sender, Pid() as to, token) if sender.node is peer:
            return ExitSend(sender, to, message, token)
        case (Op.EXIT2, Pid() as sender, Pid() as to, reason) if sender.node is peer:
            return ExitSend(sender, to, reason)
        case (Op.EXIT2_TT, Pid() as sender, Pid() as to, token, reason) if sender.node is peer:
            return ExitSend(sender, to, reason, token)
    return None


def _read_monitor(control: tuple[Term, ...], message: Term, peer: Atom) -> Signal | None:
    match control:
        case (Op.MONITOR_P, Pid() as sender, target, Ref() as ref) if sender.node is peer:
            target = _pid_or_name(target)
            return Monitor(sender, target, ref) if target is not None else None
        case (Op.DEMONITOR_P, Pid() as sender, target, Ref() as ref) if sender.node is peer:
            target = _pid_or_name(target)
            return Demonitor(sender, target, ref) if target is not None else None
        case (Op.PAYLOAD_MONITOR_P_EXIT, source, Pid() as to, Ref() as ref):
            source = _pid_or_name(source)
            return Down(source, to, ref, message) if source is not None else None
        case (Op.MONITOR_P_EXIT, source, Pid() as to, Ref() as ref, reason):
            source = _pid_or_name(source)
            return Down(source, to, ref, reason) if source is not None else None
    return None


def _read_group_leader(control: tuple[Term, ...], _message: Term, _peer: Atom) -> Signal | None:
    match control:
        case (Op.GROUP_LEADER, Pid() as leader, Pid() as to):
            return GroupLeader(leader, to)
    return None


def _read_spawn_request(control: tuple[Term, ...], message: Term, peer: Atom) -> Signal | None:
    match control:
        case (Op.SPAWN_REQUEST, Ref() as ref, Pid() as sender, Pid() as leader, (m, f, int() as arity), list() as options):
            token = None
        case (Op.SPAWN_REQUEST_TT, Ref() as ref, Pid() as sender, Pid() as leader, (m, f, int() as arity), list() as options, token):
            pass
        case _:
            return None
    module, function = _atom(m), _atom(f)
    if module is None or function is None or type(arity) is not int or type(message) is not list or sender.node is not peer:
        return None
    return SpawnRequest(ref, sender, leader, module, function, arity, options, message, token)


def _read_spawn_reply(control: tuple[Term, ...], _message: Term, _peer: Atom) -> Signal | None:
    match control:
        case (Op.SPAWN_REPLY, Ref() as ref, Pid() as to, int() as flags, result):
            token = None
        case (Op.SPAWN_REPLY_TT, Ref() as ref, Pid() as to, int() as flags, result, token):
            pass
        case _:
            return None
    result = _pid_or_name(result)
    return SpawnReply(ref, to, flags, result, token) if result is not None else None


def _read_altact(control: tuple[Term, ...], message: Term, peer: Atom) -> Signal | None:
    """OTP 28's one op for all; bits and elements of a later day are ignored."""
    match control:
        case (Op.ALTACT_SIG_SEND, int() as flags, Pid() as sender, to, *rest):
            token = rest[0] if flags & Altact.TOKEN and rest else None
        case _:
            return None
    match to:
        case Ref() if flags & Altact.ALIAS and not flags & Altact.EXIT:
            return SendAlias(sender, to, message, token)
        case Pid() if flags & Altact.EXIT:
            return ExitSend(sender, to, message, token) if sender.node is peer else None
        case Pid():
            return Send(sender, to, message, token)
    name = _atom(to)
    if flags & Altact.NAME and not flags & Altact.EXIT and name is not None:
        return SendName(sender, name, message, token)
    return None


def _atom(term: Term) -> Atom | None:
    """``true`` and ``false`` are atoms too, and may name a process."""
    if type(term) is Atom:
        return term
    return Atom("true" if term else "false") if type(term) is bool else None


def _pid_or_name(term: Term) -> Pid | Atom | None:
    return term if type(term) is Pid else _atom(term)


def _is_unlink_id(id: Term) -> bool:
    return type(id) is int and 0 < id < 1 << 64


_READERS: Final[dict[int, Callable[[tuple[Term, ...], Term, Atom], Signal | None]]] = {
    Op.SEND: _read_send,
    Op.SEND_TT: _read_send,
    Op.SEND_SENDER: _read_send,
    Op.SEND_SENDER_TT: _read_send,
    Op.REG_SEND: _read_send_name,
    Op.REG_SEND_TT: _read_send_name,
    Op.ALIAS_SEND: _read_send_alias,
    Op.ALIAS_SEND_TT: _read_send_alias,
    Op.LINK: _read_link,
    Op.UNLINK: _read_link,
    Op.UNLINK_ID: _read_link,
    Op.UNLINK_ID_ACK: _read_link,
    Op.EXIT: _read_exit_link,
    Op.EXIT_TT: _read_exit_link,
    Op.PAYLOAD_EXIT: _read_exit_link,
    Op.PAYLOAD_EXIT_TT: _read_exit_link,
    Op.EXIT2: _read_exit_send,
    Op.EXIT2_TT: _read_exit_send,
    Op.PAYLOAD_EXIT2: _read_exit_send,
    Op.PAYLOAD_EXIT2_TT: _read_exit_send,
    Op.MONITOR_P: _read_monitor,
    Op.DEMONITOR_P: _read_monitor,
    Op.MONITOR_P_EXIT: _read_monitor,
    Op.PAYLOAD_MONITOR_P_EXIT: _read_monitor,
    Op.GROUP_LEADER: _read_group_leader,
    Op.SPAWN_REQUEST: _read_spawn_request,
    Op.SPAWN_REQUEST_TT: _read_spawn_request,
    Op.SPAWN_REPLY: _read_spawn_reply,
    Op.SPAWN_REPLY_TT: _read_spawn_reply,
    Op.ALTACT_SIG_SEND: _read_altact,
}


# Writing


def encode_control(signal: Signal, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    """The control tuple and the message (NO_MESSAGE if none) that say ``signal`` on a connection with ``flags``.

    Raises LocalProtocolError if such a connection has no word for it.
    """
    return _WRITERS[type(signal)](signal, flags)


def _traced(plain: Op, traced: Op, token: Term, *elements: Term) -> tuple[Term, ...]:
    return (plain, *elements) if token is None else (traced, *elements, token)


def _write_send(signal: Send, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    if Flags.SEND_SENDER in flags and signal.sender is not None:
        return _traced(Op.SEND_SENDER, Op.SEND_SENDER_TT, signal.token, signal.sender, signal.to), signal.message
    return _traced(Op.SEND, Op.SEND_TT, signal.token, NO_COOKIE, signal.to), signal.message


def _write_send_name(signal: SendName, _flags: Flags) -> tuple[tuple[Term, ...], Term]:
    control = _traced(Op.REG_SEND, Op.REG_SEND_TT, signal.token, signal.sender, NO_COOKIE, signal.name)
    return control, signal.message


def _write_send_alias(signal: SendAlias, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    _need(Flags.ALIAS, flags, "a message to an alias")
    return _traced(Op.ALIAS_SEND, Op.ALIAS_SEND_TT, signal.token, signal.sender, signal.alias), signal.message


def _write_link(signal: Link, _flags: Flags) -> tuple[tuple[Term, ...], Term]:
    return (Op.LINK, signal.sender, signal.to), NO_MESSAGE


def _write_unlink(signal: Unlink, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    if Flags.UNLINK_ID not in flags or signal.id is None:
        return (Op.UNLINK, signal.sender, signal.to), NO_MESSAGE
    return (Op.UNLINK_ID, signal.id, signal.sender, signal.to), NO_MESSAGE


def _write_unlink_ack(signal: UnlinkAck, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    _need(Flags.UNLINK_ID, flags, "an unlink acknowledgement")
    return (Op.UNLINK_ID_ACK, signal.id, signal.sender, signal.to), NO_MESSAGE


def _write_exit_link(signal: ExitLink, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    if Flags.EXIT_PAYLOAD in flags:
        return _traced(Op.PAYLOAD_EXIT, Op.PAYLOAD_EXIT_TT, signal.token, signal.sender, signal.to), signal.reason
    if signal.token is None:
        return (Op.EXIT, signal.sender, signal.to, signal.reason), NO_MESSAGE
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
    _need(Flags.SPAWN, flags, "a spawn request")
    mfa = (signal.module, signal.function, signal.arity)
    elements = (signal.ref, signal.sender, signal.group_leader, mfa, signal.options)
    return _traced(Op.SPAWN_REQUEST, Op.SPAWN_REQUEST_TT, signal.token, *elements), signal.arguments


def _write_spawn_reply(signal: SpawnReply, flags: Flags) -> tuple[tuple[Term, ...], Term]:
    _need(Flags.SPAWN, flags, "a spawn reply")
    elements = (signal.ref, signal.to, signal.flags, signal.result)
    return _traced(Op.SPAWN_REPLY, Op.SPAWN_REPLY_TT, signal.token, *elements), NO_MESSAGE


def _need(flag: Flags, flags: Flags, what: str) -> None:
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
