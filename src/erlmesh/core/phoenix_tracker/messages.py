"""The messages between the replicas of a shard, and their terms (phoenix_pubsub: ``tracker/shard.ex``).

::

    {pub, heartbeat, Ref, empty | State, {Ref, Context}}            broadcast
    {pub, transfer_req, Id, Ref, {Ref, Context}}                    to one node
    {pub, transfer_ack, Id, Ref, State | {State, Values}}           the answer
    {pub, graceful_permdown, Ref}                                   broadcast

They are Phoenix.PubSub messages on the topic ``phx_presence:`` followed by the name of the shard. ``State`` is the
struct ``Phoenix.Tracker.State`` of Elixir. As a delta it has changes. As a full state its entries stand beside it.

:mod:`erlmesh.core.phoenix_tracker.validation` makes messages of terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from erlmesh.core.phoenix_tracker.entries import Clouds, Context, Delta, FullState, ReplicaRef, Tag, contiguous_range
from erlmesh.records import record
from erlmesh.terms import Atom, Map, Term

__all__ = [
    "GracefulPermdown",
    "Heartbeat",
    "Message",
    "TransferAnswer",
    "TransferRequest",
    "shard_name",
    "shard_topic",
    "to_term",
]

PUB, HEARTBEAT, TRANSFER_REQ, TRANSFER_ACK = map(Atom, ("pub", "heartbeat", "transfer_req", "transfer_ack"))
GRACEFUL_PERMDOWN, EMPTY = Atom("graceful_permdown"), Atom("empty")
NIL, UNSET, NORMAL, DELTA = map(Atom, ("nil", "unset", "normal", "delta"))
STRUCT: Final = Atom("__struct__")
STATE_STRUCT: Final = Atom("Elixir.Phoenix.Tracker.State")
MAP_SET: Final = Atom("Elixir.MapSet")
REPLICA, CONTEXT, CLOUDS, VALUES, PIDS, MODE, REPLICAS, RANGE, MAP = map(
    Atom, ("replica", "context", "clouds", "values", "pids", "mode", "replicas", "range", "map")
)
_EMPTY_RANGE: Final = (Map(), Map())


@record(frozen=True)
class Heartbeat:
    """A sign of life, with the changes since the last one, and with what the replica knows of all."""

    ref: ReplicaRef
    delta: Delta | None
    clocks: Context


@record(frozen=True)
class TransferRequest:
    """A replica lacks something. ``clocks`` says what it has. The answer brings only replicas that are named there."""

    id: Term
    """Any term. The answer has it, too."""
    ref: ReplicaRef
    clocks: Context


@record(frozen=True)
class TransferAnswer:
    """The answer to a request."""

    id: Term
    ref: ReplicaRef
    state: Delta | FullState


@record(frozen=True)
class GracefulPermdown:
    """The replica ends as planned. It has to be forgotten at once."""

    ref: ReplicaRef


Message: TypeAlias = Heartbeat | TransferRequest | TransferAnswer | GracefulPermdown


def shard_name(tracker: Atom, number: int) -> Atom:
    """The registered name of a shard."""
    return Atom(f"{tracker.name}_shard{number}")


def shard_topic(shard: Atom) -> str:
    """The topic of Phoenix.PubSub on which the replicas of the shard talk."""
    return f"phx_presence:{shard.name}"


def to_term(message: Message) -> Term:
    """The term of a message. It is not checked."""
    match message:
        case Heartbeat(ref, delta, clocks):
            return (PUB, HEARTBEAT, ref, EMPTY if delta is None else _delta(ref, delta, clocks), (ref, Map(clocks)))
        case TransferRequest(id, ref, clocks):
            return (PUB, TRANSFER_REQ, id, ref, (ref, Map(clocks)))
        case TransferAnswer(id, ref, Delta() as delta):
            return (PUB, TRANSFER_ACK, id, ref, _delta(ref, delta, {}))
        case TransferAnswer(id, ref, FullState() as full):
            state = _state(ref, mode=NORMAL, context=full.context, clouds=full.clouds, values=NIL, range=_EMPTY_RANGE)
            return (PUB, TRANSFER_ACK, id, ref, (state, _values(full.values)))
        case GracefulPermdown(ref):
            return (PUB, GRACEFUL_PERMDOWN, ref)


def _delta(ref: ReplicaRef, delta: Delta, clocks: Context) -> Map:
    starts, ends = contiguous_range(delta.clouds)
    if ref in clocks:
        # A heartbeat is about the sender's own changes, also if it only repeats removals of others.
        starts, ends = {ref: starts.get(ref, clocks[ref])}, {ref: clocks[ref]}
    covered = (Map(starts), Map(ends))
    return _state(ref, mode=DELTA, context={}, clouds=delta.clouds, values=_values(delta.values), range=covered)


def _state(ref: ReplicaRef, *, mode: Atom, context: Context, clouds: Clouds, values: Term, range: Term) -> Map:
    return Map(
        {
            STRUCT: STATE_STRUCT,
            REPLICA: ref,
            CONTEXT: Map(context),
            CLOUDS: Map([(each, _map_set(each, cloud)) for each, cloud in clouds.items()]),
            VALUES: values,
            PIDS: NIL,
            MODE: mode,
            DELTA: UNSET,
            REPLICAS: Map(),
            RANGE: range,
        }
    )


def _map_set(ref: ReplicaRef, cloud: set[int]) -> Map:
    """Elixir's MapSet, in the form since 1.15. Earlier releases add a version, and read both forms."""
    return Map({STRUCT: MAP_SET, MAP: Map([((ref, clock), []) for clock in sorted(cloud)])})


def _values(values: Mapping[Tag, tuple[Term, ...]]) -> Map:
    return Map(values.items())
