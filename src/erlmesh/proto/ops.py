"""The operation numbers of control tuples (DOP_… in ``dist.h``), and which of them have a message."""

from __future__ import annotations

from enum import IntFlag
from typing import Final

from erlmesh.errors import RemoteProtocolError
from erlmesh.terms import Term
from erlmesh.terms.foreign_text import foreign_text

__all__ = ["NO_MESSAGE", "Altact", "Op", "carries_message"]


class Op:
    """The first element of a control tuple (DOP_… in ``dist.h``).

    The values are plain integers, not members of an enumeration: the encoder has a fast path for exact types only.
    """

    LINK: Final = 1
    SEND: Final = 2
    EXIT: Final = 3
    UNLINK: Final = 4
    REG_SEND: Final = 6
    GROUP_LEADER: Final = 7
    EXIT2: Final = 8
    SEND_TT: Final = 12
    EXIT_TT: Final = 13
    REG_SEND_TT: Final = 16
    EXIT2_TT: Final = 18
    MONITOR_P: Final = 19
    DEMONITOR_P: Final = 20
    MONITOR_P_EXIT: Final = 21
    SEND_SENDER: Final = 22
    SEND_SENDER_TT: Final = 23
    PAYLOAD_EXIT: Final = 24
    PAYLOAD_EXIT_TT: Final = 25
    PAYLOAD_EXIT2: Final = 26
    PAYLOAD_EXIT2_TT: Final = 27
    PAYLOAD_MONITOR_P_EXIT: Final = 28
    SPAWN_REQUEST: Final = 29
    SPAWN_REQUEST_TT: Final = 30
    SPAWN_REPLY: Final = 31
    SPAWN_REPLY_TT: Final = 32
    ALIAS_SEND: Final = 33
    ALIAS_SEND_TT: Final = 34
    UNLINK_ID: Final = 35
    UNLINK_ID_ACK: Final = 36
    ALTACT_SIG_SEND: Final = 37


class Altact(IntFlag):
    """The flags in the second element of ALTACT_SIG_SEND (OTP 28, ``ERTS_DOP_ALTACT_SIG_FLG_…`` in ``dist.h``)."""

    PRIORITY = 1
    TOKEN = 2
    ALIAS = 4
    NAME = 8
    EXIT = 16


NO_MESSAGE: Final = object()
"""Marks that a control tuple has no message. It is not a term."""

_WITH_MESSAGE: Final = frozenset(
    {
        Op.SEND, Op.SEND_TT, Op.REG_SEND, Op.REG_SEND_TT, Op.SEND_SENDER, Op.SEND_SENDER_TT,
        Op.PAYLOAD_EXIT, Op.PAYLOAD_EXIT_TT, Op.PAYLOAD_EXIT2, Op.PAYLOAD_EXIT2_TT, Op.PAYLOAD_MONITOR_P_EXIT,
        Op.SPAWN_REQUEST, Op.SPAWN_REQUEST_TT, Op.ALIAS_SEND, Op.ALIAS_SEND_TT, Op.ALTACT_SIG_SEND,
    }
)  # fmt: skip


def carries_message(control: Term) -> bool:
    """Return whether a message follows ``control``. Raises RemoteProtocolError if it is not a control tuple."""
    if type(control) is not tuple or not control or type(control[0]) is not int:
        raise RemoteProtocolError(f"Invalid distribution message: {foreign_text(control)} is not a control tuple")
    return control[0] in _WITH_MESSAGE
