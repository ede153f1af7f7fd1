"""The messages of acknowledged delivery, in Erlang's form. Each starts with an atom and a name, which is a binary::

    from     to         message
    source   holder     {shard_put, Name, Key, Source, Number, Message, From}
    holder   source     {shard_ack, Name, Key, Source, Number}              this number and all before it are kept there
                        {shard_refused, Name, Key, Source, Number, Reason}  this number is not taken, and never will be
                        {shard_wait, Name, Key, Source, Last}               stop; the last number that is known there
                        {shard_go, Name, Key, Source, Last}                 send again what follows that number
    holder   receiver   {shard_out, Name, Key, Source, Number, Result, From}
    receiver holder     {shard_got, Name, Key, Source, Number}

``Source`` is ``{Node, Life, Outbox}``: an atom, an integer that differs each time the outbox is opened, and a binary.
``Key`` is a binary. ``Number`` counts the messages of one source with one key, from 1. ``From`` is the pid to answer.

The functions here check the shape of what another node has sent. They do not check who has sent it.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, TypeGuard

from erlmesh.terms import Atom, Pid, Term

__all__ = [
    "ACK",
    "GO",
    "GOT",
    "KEY_LIMIT",
    "MESSAGE_LIMIT",
    "NAME_LIMIT",
    "NUMBER_LIMIT",
    "OUT",
    "PUT",
    "REFUSED",
    "WAIT",
    "Answer",
    "Put",
    "Source",
    "is_answer",
    "is_put",
    "is_source",
]

PUT: Final = Atom("shard_put")
ACK: Final = Atom("shard_ack")
REFUSED: Final = Atom("shard_refused")
WAIT: Final = Atom("shard_wait")
GO: Final = Atom("shard_go")
OUT: Final = Atom("shard_out")
GOT: Final = Atom("shard_got")

NAME_LIMIT: Final = 255
"""Bytes of a name."""
KEY_LIMIT: Final = 1_024
"""Bytes of a key. Tables of the receiver keep it."""
MESSAGE_LIMIT: Final = 65_536
"""Bytes of an encoded message: one message never holds up the others for long."""
NUMBER_LIMIT: Final = 1 << 63
"""No number and no life reaches it, so a table of them cannot be filled with long integers."""

Source: TypeAlias = tuple[Atom, int, bytes]
"""The node, the life and the name of an outbox."""
Put: TypeAlias = tuple[Atom, bytes, bytes, Source, int, Term, Pid]
"""A well-formed ``shard_put`` or ``shard_out``."""
Answer: TypeAlias = tuple[Atom, bytes, bytes, Source, int]
"""A well-formed ``shard_ack``, ``shard_wait``, ``shard_go`` or ``shard_got``. ``shard_refused`` has one more."""


def is_source(value: Any) -> TypeGuard[Source]:
    """True for ``{Node, Life, Outbox}``."""
    return (
        type(value) is tuple
        and len(value) == 3
        and type(value[0]) is Atom
        and type(value[1]) is int
        and -NUMBER_LIMIT < value[1] < NUMBER_LIMIT
        and type(value[2]) is bytes
        and len(value[2]) <= NAME_LIMIT
    )


def _has_head(message: tuple[Any, ...], least: int) -> bool:
    """True if the elements from the name to the number are well-formed. ``least`` is the least number."""
    return (
        type(message[1]) is bytes
        and type(message[2]) is bytes
        and len(message[2]) <= KEY_LIMIT
        and is_source(message[3])
        and type(message[4]) is int
        and least <= message[4] < NUMBER_LIMIT
    )


def is_put(message: Any) -> TypeGuard[Put]:
    """True for a well-formed ``shard_put`` or ``shard_out``; the first element is not looked at."""
    return type(message) is tuple and len(message) == 7 and type(message[6]) is Pid and _has_head(message, 1)


def is_answer(message: Any) -> TypeGuard[Answer]:
    """True for what answers a ``shard_put``, or for ``shard_got``. Only ``shard_refused`` has a sixth element."""
    if type(message) is not tuple or len(message) not in (5, 6):
        return False
    tag = message[0]
    if tag is REFUSED:
        return len(message) == 6 and _has_head(message, 1)
    return len(message) == 5 and (tag is ACK or tag is WAIT or tag is GO or tag is GOT) and _has_head(message, 0)
