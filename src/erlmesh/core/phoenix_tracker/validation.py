"""Checks the messages between the replicas of a shard: the terms that arrive, and all that leaves.

A malformed message of ours would end the shard of a tracker on every BEAM at the same moment, because it matches the
whole shape. So :func:`checked_term` is the only way in which a message becomes a term that is sent: it reads its own
result as a peer would. What arrives is read whole before it changes anything.
"""

from __future__ import annotations

from typing import Final

from erlmesh.core.phoenix_tracker.entries import Clouds, Context, Delta, Entry, FullState, ReplicaRef, Tag
from erlmesh.core.phoenix_tracker.messages import (
    CLOUDS,
    CONTEXT,
    DELTA,
    EMPTY,
    GRACEFUL_PERMDOWN,
    HEARTBEAT,
    MAP,
    MAP_SET,
    MODE,
    NORMAL,
    RANGE,
    REPLICA,
    STATE_STRUCT,
    STRUCT,
    TRANSFER_ACK,
    TRANSFER_REQ,
    VALUES,
    GracefulPermdown,
    Heartbeat,
    Message,
    TransferAnswer,
    TransferRequest,
    to_term,
)
from erlmesh.terms import Atom, Map, Pid, Term

__all__ = ["Malformed", "checked_term", "parse_message"]

MAX_NUMBER: Final = 1 << 64
"""Of clocks and Vsns. The system time in microseconds needs 51 bits."""
MAX_REPLICAS: Final = 10_000
"""In one message."""
STATE_FIELDS: Final = (REPLICA, CONTEXT, CLOUDS, VALUES, MODE, RANGE)


class Malformed(ValueError):
    """A term is not a message of this protocol. The text says what is wrong."""


def checked_term(message: Message) -> Term:
    """The term of a message that is sent. Raises Malformed instead of harming other nodes."""
    term = to_term(message)
    read = parse_message(term)
    if type(read) is not type(message):
        raise Malformed(f"a {type(message).__name__} reads as {read!r:.100}")
    return term


def parse_message(term: Term) -> Message | None:
    """Read a message. None if it is none of the four; such a message is ignored, as by a BEAM.

    Raises Malformed.
    """
    match term:
        case (Atom("pub"), Atom() as kind, *_) if kind in _FORMS:
            pass
        case _:
            return None
    match term:
        case (_, kind, ref, what, clocks) if kind is HEARTBEAT:
            sender = _ref(ref)
            delta = None if what is EMPTY else _parse_delta(what)
            return Heartbeat(sender, delta, _clocks(clocks))
        case (_, kind, id, ref, clocks) if kind is TRANSFER_REQ:
            return TransferRequest(id, _ref(ref), _clocks(clocks))
        case (_, kind, id, ref, (state, values)) if kind is TRANSFER_ACK:
            return TransferAnswer(id, _ref(ref), _parse_full(state, values))
        case (_, kind, id, ref, state) if kind is TRANSFER_ACK:
            return TransferAnswer(id, _ref(ref), _parse_delta(state))
        case (_, kind, ref) if kind is GRACEFUL_PERMDOWN:
            return GracefulPermdown(_ref(ref))
    raise Malformed(f"{term[1]} with {len(term)} elements")


_FORMS: Final = frozenset((HEARTBEAT, TRANSFER_REQ, TRANSFER_ACK, GRACEFUL_PERMDOWN))


def _parse_delta(term: Term) -> Delta:
    state = _state(term, DELTA)
    _context(state[CONTEXT])
    match state[RANGE]:
        case (start, end):
            _context(start)
            _context(end)
        case _:
            raise Malformed("the range of a delta is two contexts")
    return Delta(_values(state[VALUES]), _clouds(state[CLOUDS]))


def _parse_full(term: Term, values: Term) -> FullState:
    state = _state(term, NORMAL)
    return FullState(_context(state[CONTEXT]), _clouds(state[CLOUDS]), _values(values))


def _state(term: Term, mode: Atom) -> Map:
    if type(term) is not Map or term.get(STRUCT) is not STATE_STRUCT:
        raise Malformed("a state is a struct of Phoenix.Tracker.State")
    for name in STATE_FIELDS:
        if name not in term:
            raise Malformed(f"a state has the field {name}")
    if term[MODE] is not mode:
        raise Malformed(f"the mode of this state is {mode}")
    return term


def _ref(term: Term) -> ReplicaRef:
    match term:
        case (Atom() as name, vsn) if _is_number(vsn):
            return (name, vsn)
    raise Malformed("a replica is {Name, Vsn}")


def _tag(term: Term) -> Tag:
    match term:
        case (ref, clock) if _is_number(clock) and clock > 0:
            return (_ref(ref), clock)
    raise Malformed("a tag is {Replica, Clock}")


def _is_number(term: Term) -> bool:
    return type(term) is int and 0 <= term < MAX_NUMBER


def _clocks(term: Term) -> Context:
    match term:
        case (ref, context):
            _ref(ref)
            return _context(context)
    raise Malformed("clocks are {Replica, Context}")


def _context(term: Term) -> Context:
    if type(term) is not Map or len(term) > MAX_REPLICAS:
        raise Malformed("a context is a map of replicas to clocks")
    context = {}
    for ref, clock in term.items():
        if not _is_number(clock):
            raise Malformed("a clock is a whole number")
        context[_ref(ref)] = clock
    return context


def _clouds(term: Term) -> Clouds:
    if type(term) is not Map or len(term) > MAX_REPLICAS:
        raise Malformed("clouds are a map of replicas to sets of tags")
    return {_ref(key): _cloud(key, value) for key, value in term.items()}


def _cloud(key: Term, term: Term) -> set[int]:
    if type(term) is not Map or term.get(STRUCT) is not MAP_SET or type(elements := term.get(MAP)) is not Map:
        raise Malformed("a cloud is a MapSet")
    cloud = set()
    for element in elements:
        ref, clock = _tag(element)
        if ref != key:
            raise Malformed("a cloud has tags of its own replica only")
        cloud.add(clock)
    return cloud


def _values(term: Term) -> dict[Tag, Entry]:
    if type(term) is not Map:
        raise Malformed("values are a map of tags to entries")
    values = {}
    for tag, entry in term.items():
        match entry:
            case (Pid() as pid, bytes() as topic, key, Map() as meta):
                values[_tag(tag)] = Entry(pid, topic, key, meta)
            case _:
                raise Malformed("an entry is {Pid, Topic, Key, Meta}")
    return values
