"""The messages between stages (gen_stage.ex, "Message protocol")::

    to a producer   {'$gen_producer', {ConsumerPid, Tag}, {subscribe, nil | {Tag, Reason}, Options}}
                    {'$gen_producer', {ConsumerPid, Tag}, {ask, Count}}
                    {'$gen_producer', {ConsumerPid, Tag}, {cancel, Reason}}
    to a consumer   {'$gen_consumer', {ProducerPid, Tag}, [Event]}
                    {'$gen_consumer', {ProducerPid, Tag}, {cancel, Reason}}

The tag belongs to the consumer: the reference of its monitor of the producer. Each side monitors the other one.
"""

from __future__ import annotations

from typing import Final

from erlmesh.core.exit_reasons import NORMAL, SHUTDOWN
from erlmesh.terms import Atom, Pid, Term

__all__ = [
    "ASK",
    "CANCEL",
    "GEN_CONSUMER",
    "GEN_PRODUCER",
    "NIL",
    "SUBSCRIBE",
    "ask",
    "cancel_consumer",
    "cancel_producer",
    "events",
    "is_regular_end",
    "subscribe",
]

GEN_PRODUCER: Final = Atom("$gen_producer")
GEN_CONSUMER: Final = Atom("$gen_consumer")
SUBSCRIBE: Final = Atom("subscribe")
ASK: Final = Atom("ask")
CANCEL: Final = Atom("cancel")
NIL: Final = Atom("nil")


def subscribe(consumer: Pid, tag: Term, options: list[Term]) -> Term:
    """``options`` is a keyword list."""
    return (GEN_PRODUCER, (consumer, tag), (SUBSCRIBE, NIL, options))


def ask(consumer: Pid, tag: Term, count: int) -> Term:
    """The consumer asks for ``count`` more events."""
    return (GEN_PRODUCER, (consumer, tag), (ASK, count))


def cancel_producer(consumer: Pid, tag: Term, reason: Term) -> Term:
    """The consumer cancels. The producer answers with :func:`cancel_consumer`."""
    return (GEN_PRODUCER, (consumer, tag), (CANCEL, reason))


def events(producer: Pid, tag: Term, batch: list[Term]) -> Term:
    """``batch`` is not empty."""
    return (GEN_CONSUMER, (producer, tag), batch)


def cancel_consumer(producer: Pid, tag: Term, reason: Term) -> Term:
    """The producer cancels, or confirms what the consumer has cancelled."""
    return (GEN_CONSUMER, (producer, tag), (CANCEL, reason))


def is_regular_end(reason: Term) -> bool:
    """True for ``normal``, ``shutdown`` and ``{shutdown, _}``: a transient consumer continues after these."""
    return (
        reason is NORMAL or reason is SHUTDOWN or (type(reason) is tuple and len(reason) == 2 and reason[0] is SHUTDOWN)
    )
