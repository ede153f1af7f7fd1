"""The book of one shard: what a message, a beat and a change of this node lead to.

A shard beats every ``broadcast_period``. With a beat it says what has changed, or after ``max_silent_periods`` beats
only that it lives; it asks for what it lacks; and it looks for replicas that are silent.

What a message says of a replica is taken from this replica only. On a BEAM, any node can add and remove the entries of
all others, since their messages pass on what they know. So each replica that has more is asked itself.

A *read replica* never sends a heartbeat, so no other replica knows of it. It only asks.

A new replica is asked at once, not with a later beat. A replica that has just come up is also told of this one with the
next beat, so that neither waits for the other's silent periods.

Methods return effects. The caller carries them out in order.

Source: phoenix_pubsub, ``tracker/shard.ex``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from erlmesh.core.phoenix_tracker.delta_generations import DeltaGenerations
from erlmesh.core.phoenix_tracker.entries import Delta, Entry, ReplicaRef
from erlmesh.core.phoenix_tracker.messages import (
    GracefulPermdown,
    Heartbeat,
    Message,
    TransferAnswer,
    TransferRequest,
)
from erlmesh.core.phoenix_tracker.presence_state import Changes, PresenceState
from erlmesh.core.phoenix_tracker.replica_table import ReplicaEvent, ReplicaTable, Status
from erlmesh.core.phoenix_tracker.validation import Malformed, checked_term, parse_message
from erlmesh.records import record
from erlmesh.terms import Atom, Pid, Term

__all__ = ["Broadcast", "Changed", "Direct", "Effect", "Ignored", "ShardBook", "ShardCounts", "TrackerSettings"]

MAX_PROBES: Final = 3
"""How often a node is asked that may have no replica."""


@record(frozen=True, kw_only=True)
class TrackerSettings:
    """The periods of Phoenix.Tracker, in seconds. They should be those of the other nodes.

    Raises ValueError if they do not fit each other.
    """

    broadcast_period: float = 1.5
    """Seconds between two beats."""
    max_silent_periods: int = 10
    """Beats without a change until a heartbeat says that the replica lives."""
    down_period: float = 30.0
    """Seconds without a heartbeat until the entries of a replica leave."""
    permdown_period: float = 1200.0
    """Seconds without a heartbeat until a replica is forgotten."""
    clock_sample_periods: int = 2
    """Beats between two requests for what is missing."""
    max_delta_sizes: tuple[int, ...] = (100, 1000, 10_000)
    """The sizes of the kept changes: see :mod:`erlmesh.core.phoenix_tracker.delta_generations`."""

    def __post_init__(self) -> None:
        if not self.broadcast_period > 0:
            raise ValueError(f"broadcast_period is more than 0 seconds, not {self.broadcast_period}")
        if self.max_silent_periods < 0 or self.clock_sample_periods < 1:
            raise ValueError("max_silent_periods is 0 or more, clock_sample_periods 1 or more")
        if self.down_period < 2 * self.broadcast_period:
            raise ValueError("down_period is at least twice as long as broadcast_period")
        if self.permdown_period <= self.down_period:
            raise ValueError("permdown_period is longer than down_period")


@record(frozen=True)
class Broadcast:
    """Send ``message`` to all other nodes."""

    message: Term


@record(frozen=True)
class Direct:
    """Send ``message`` to one node."""

    node: Atom
    message: Term


@record(frozen=True)
class Changed:
    """A list of the entries shows these changes."""

    changes: Changes


@record(frozen=True)
class Ignored:
    """A message was ignored, for this reason. It is to be logged."""

    reason: str


Effect: TypeAlias = Broadcast | Direct | Changed | Ignored


@record
class ShardCounts:
    """Counts since the start."""

    malformed: int = 0
    """Messages that were not of the protocol."""
    forged: int = 0
    """Messages that named another node than the one that sent them."""
    stale: int = 0
    """Messages of a life of a node that has ended, and of nodes above the limit."""
    heartbeats: int = 0
    transfers: int = 0
    """Answers that were merged."""


class ShardBook:
    """``ref`` is this life of this node. Times are on any clock that never goes back. ``speaks`` is false for a read
    replica. ``make_id()`` makes the references of requests.
    """

    def __init__(
        self,
        ref: ReplicaRef,
        settings: TrackerSettings,
        now: float,
        *,
        speaks: bool,
        make_id: Callable[[], Term],
    ) -> None:
        self.ref = ref
        self.state = PresenceState(ref)
        self.counts = ShardCounts()
        self.replicas = ReplicaTable(down_period=settings.down_period, permdown_period=settings.permdown_period)
        self._settings = settings
        self._speaks = speaks
        self._make_id = make_id
        self._generations = DeltaGenerations(settings.max_delta_sizes)
        self._silent_periods = settings.max_silent_periods
        self._beats_to_sample = settings.clock_sample_periods
        self._last_beat = now
        self._stated: dict[ReplicaRef, int] = {}
        """The clock that each replica has stated of itself."""
        self._awaited: dict[ReplicaRef, Term] = {}
        """The replicas that are new, and whose first answer has not come yet, with the reference of the request."""
        self._probed: dict[Atom, int] = {}
        """How often a node was asked whose replica is not known."""

    # Time

    def beat(self, now: float) -> list[Effect]:
        """The shard beats. It is called every ``broadcast_period``, the first time soon after the start."""
        late = now - self._last_beat - self._settings.broadcast_period
        self._last_beat = now
        if late > self._settings.broadcast_period:
            self.replicas.postpone(late)
        effects = self._heartbeat()
        self._beats_to_sample -= 1
        if self._beats_to_sample <= 0:
            self._beats_to_sample = self._settings.clock_sample_periods
            effects += self._requests()
        return effects + self._apply(self.replicas.expire(now))

    def _heartbeat(self) -> list[Effect]:
        delta = self.state.take_delta()
        if not self._speaks:
            return []
        if delta is None and self._silent_periods < self._settings.max_silent_periods:
            self._silent_periods += 1
            return []
        self._silent_periods = 0
        if delta is not None:
            self._generations.push(delta)
        return [Broadcast(checked_term(Heartbeat(self.ref, delta, self.state.told_clocks())))]

    # Transfers

    def probe(self, node: Atom) -> list[Effect]:
        """Ask the replica of a node that is not known yet, if there is one. Its answer says which life it is.

        The next beats repeat this, because the node may not know this one yet, and then its answer is lost.
        """
        if self.replicas.ref(node) is not None:
            return []
        self._probed[node] = self._probed.get(node, 0) + 1
        return [self._request(node)]

    def forget_node(self, node: Atom) -> None:
        """A node is gone. It is not asked any more until it is probed again."""
        self._probed.pop(node, None)

    def is_behind(self, ref: ReplicaRef) -> bool:
        """True if a replica that is known has said that it has more changes of its own."""
        known = self.state.context.get(ref)
        return known is not None and self._stated.get(ref, 0) > known

    def is_synced(self) -> bool:
        """True if this replica has all that the others have said to have."""
        return not self._awaited and not any(map(self.is_behind, self.replicas.up()))

    def _first_request(self, ref: ReplicaRef) -> Effect:
        self._awaited[ref] = request_id = self._make_id()
        return self._request(ref[0], request_id, ref)

    def _request(self, node: Atom, request_id: Term = None, ref: ReplicaRef | None = None) -> Effect:
        """Ask a node. An answer brings only the replicas that are named: ``ref``, if it is known."""
        request_id = self._make_id() if request_id is None else request_id
        clocks = {} if ref is None else {ref: self.state.context.get(ref, 0)}
        return Direct(node, checked_term(TransferRequest(request_id, self.ref, clocks)))

    def _requests(self) -> list[Effect]:
        """Ask each replica that has more of its own changes than this one knows."""
        effects = [self._first_request(ref) for ref in self._awaited]
        for node, times in [*self._probed.items()]:
            if times < MAX_PROBES:
                effects += self.probe(node)
        behind = [ref for ref in self.replicas.up() if ref not in self._awaited and self.is_behind(ref)]
        return effects + [self._request(ref[0], ref=ref) for ref in behind]

    # Messages

    def receive(self, term: Term, now: float, is_from: Callable[[Atom], bool]) -> list[Effect]:
        """Handle a message. ``is_from(name)`` is true if the node of that name has sent it."""
        try:
            message = parse_message(term)
        except Malformed as error:
            self.counts.malformed += 1
            return [Ignored(f"malformed message: {error}")]
        if message is None or message.ref[0] is self.ref[0]:
            return []
        if not is_from(message.ref[0]):
            self.counts.forged += 1
            return [Ignored(f"a message in the name of {message.ref[0].name}")]
        return self._handle(message, now)

    def _handle(self, message: Message, now: float) -> list[Effect]:
        match message:
            case TransferRequest():
                return self._answer(message)
            case GracefulPermdown(ref):
                return self._apply(self.replicas.end(ref))
        events = self.replicas.heartbeat(message.ref, now)
        if events is None:
            self.counts.stale += 1
            return []
        # A replica enters the context before its changes are merged: those of unknown replicas are ignored.
        effects = self._apply(events)
        if isinstance(message, TransferAnswer):
            self.counts.transfers += 1
            return effects + self._merge_answer(message)
        self.counts.heartbeats += 1
        if message.delta is not None:
            effects += self._merge_delta(message.delta.restricted([message.ref]))
        self._stated[message.ref] = message.clocks.get(message.ref, 0)
        if events and self.is_behind(message.ref):
            effects.append(self._first_request(message.ref))
        return effects

    def _answer(self, request: TransferRequest) -> list[Effect]:
        if not self._speaks:
            return []
        delta = self._generations.covering(
            {ref: clock for ref, clock in request.clocks.items() if ref != request.ref}, self.state.context
        )
        state = self.state.extract(request.ref, request.clocks) if delta is None else delta
        return [Direct(request.ref[0], checked_term(TransferAnswer(request.id, self.ref, state)))]

    def _merge_answer(self, answer: TransferAnswer) -> list[Effect]:
        if isinstance(answer.state, Delta):
            effects = self._merge_delta(answer.state.restricted([answer.ref]))
        else:
            # The kept changes lack what is new here. So they do not cover it, and the next answers are full states.
            effects = _changed(self.state.merge_full(answer.state.restricted([answer.ref])))
        if self._awaited.get(answer.ref) == answer.id:
            del self._awaited[answer.ref]
        if answer.ref not in self._stated:
            # It answered a probe, and this replica did not know its life. So the answer had nothing of it.
            effects.append(self._first_request(answer.ref))
            self._stated[answer.ref] = 0
        return effects

    def _merge_delta(self, delta: Delta) -> list[Effect]:
        changes = self.state.merge_delta(delta)
        if self._speaks:
            self._generations.push(self.state.known_part(delta))
            for ref in self.state.incomplete:
                self._generations.forget(ref)
        return _changed(changes)

    def _apply(self, events: list[ReplicaEvent]) -> list[Effect]:
        effects: list[Effect] = []
        for status, ref in events:
            self._awaited.pop(ref, None)
            self._probed.pop(ref[0], None)
            if status is Status.UP:
                effects += _changed(self.state.replica_up(ref))
                self._silent_periods = self._settings.max_silent_periods
            elif status is Status.DOWN:
                effects += _changed(self.state.replica_down(ref))
            else:
                effects += _changed(self.state.forget(ref))
                self._generations.forget(ref)
                self._stated.pop(ref, None)
        return effects

    # Changes of this node

    def track(self, entry: Entry) -> list[Effect]:
        """See :meth:`PresenceState.track`."""
        return _changed(self.state.track(entry))

    def update(self, entry: Entry) -> list[Effect]:
        """See :meth:`PresenceState.update`."""
        return _changed(self.state.update(entry))

    def untrack(self, pid: Pid, topic: bytes, key: Term) -> list[Effect]:
        """See :meth:`PresenceState.untrack`."""
        return _changed(self.state.untrack(pid, topic, key))

    def untrack_pid(self, pid: Pid) -> list[Effect]:
        """See :meth:`PresenceState.untrack_pid`."""
        return _changed(self.state.untrack_pid(pid))

    def end(self) -> list[Effect]:
        """This replica ends as planned: the others forget it at once."""
        return [Broadcast(checked_term(GracefulPermdown(self.ref)))] if self._speaks else []


def _changed(changes: Changes) -> list[Effect]:
    return [Changed(changes)] if changes else []
