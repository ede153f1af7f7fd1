"""Conversion of control tuples to signals (``erl_dist_protocol``, "Protocol between Connected Nodes").

The checks are as strict as those of a BEAM (``erts_net_message`` in ``dist.c``). A tuple for which a BEAM closes the
connection raises RemoteProtocolError here. The error contains the tuple.

There is one function for each kind of signal. It returns None for a malformed tuple. If the sender of a signal is a
process of the sending node, the guard requires a pid of the peer. So no node can act for the processes of another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from erlmesh.errors import RemoteProtocolError
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
from erlmesh.proto.ops import Altact, Op
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import foreign_text

__all__ = ["decode_control"]


def decode_control(control: tuple[Term, ...], message: Term, peer: Atom) -> Signal:
    """Return the signal that ``peer`` sent as ``control`` and ``message`` (NO_MESSAGE if none).

    Raises RemoteProtocolError.
    """
    read = _READERS.get(control[0])
    signal = read(control, message, peer) if read is not None else None
    if signal is None:
        raise RemoteProtocolError(f"Invalid distribution message: {foreign_text(control)}")
    return signal


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
        case (
            Op.SPAWN_REQUEST,
            Ref() as ref,
            Pid() as sender,
            Pid() as leader,
            (m, f, int() as arity),
            options,
        ):
            token = None
        case (
            Op.SPAWN_REQUEST_TT,
            Ref() as ref,
            Pid() as sender,
            Pid() as leader,
            (m, f, int() as arity),
            options,
            token,
        ):
            pass
        case _:
            return None
    module, function = _atom(m), _atom(f)
    if (
        module is None
        or function is None
        or type(arity) is not int  # the pattern int() also matches a bool, which is an atom
        or type(message) is not list
        or sender.node is not peer
    ):
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
    """Read OTP 28's combined op. Bits and elements that only later releases define are ignored."""
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
    """Return a term as an atom; None if it is not one. The decoder gives bools for ``true`` and ``false``."""
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
