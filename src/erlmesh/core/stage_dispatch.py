"""Which consumer of a GenStage producer gets which events. No I/O.

A producer keeps the demand of each subscription and a bounded buffer of events that nobody has asked for yet. A
consumer never gets more events than it has asked for. The three ways to dispatch are those of Elixir's library
gen_stage (``GenStage.DemandDispatcher``, ``BroadcastDispatcher``, ``PartitionDispatcher``):

- ``demand``: each event goes to one consumer, the one with the highest demand.
- ``broadcast``: each event goes to all consumers. So the slowest one sets the pace.
- ``partition``: each event has a partition, and each partition has one consumer.

Each method returns what to send, in order: ``[(Subscription, Events), …]``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import islice
from typing import Final, Literal, TypeAlias

from erlmesh.records import record
from erlmesh.terms import Pid, Term, exact_key

__all__ = ["Deliveries", "DispatchBook", "Dispatcher", "Refused", "Subscription"]

Dispatcher: TypeAlias = Literal["demand", "broadcast", "partition"]

MAX_DEMAND: Final = 1_000_000_000
"""The demand of one subscription that is counted. A consumer cannot make the number grow without end."""


@record(eq=False)
class Subscription:
    """A consumer's subscription. ``tag`` is the consumer's reference of it."""

    consumer: Pid
    tag: Term
    partition: Hashable = None
    demand: int = 0


Deliveries: TypeAlias = "list[tuple[Subscription, list[Term]]]"


class Refused(Exception):
    """The producer does not accept a subscription. The message is the reason for the consumer."""


class DispatchBook:
    """The subscriptions and the buffer of one producer.

    ``partition_of(event)`` is the partition of an event, one of ``partitions``. ``buffer_size`` events wait at most. If
    there are more, ``last`` drops the oldest ones and ``first`` the newest ones.
    """

    def __init__(
        self,
        dispatcher: Dispatcher = "demand",
        *,
        partitions: Iterable[Term] | None = None,
        partition_of: Callable[[Term], Term] | None = None,
        buffer_size: int = 10_000,
        keep: Literal["first", "last"] = "last",
    ) -> None:
        """Raises ValueError."""
        if dispatcher not in ("demand", "broadcast", "partition"):
            raise ValueError(f"the dispatcher is demand, broadcast or partition, not {dispatcher!r}")
        if (dispatcher == "partition") != (partitions is not None and partition_of is not None):
            raise ValueError("the dispatcher partition, and only that one, has partitions and partition_of")
        if buffer_size < 1:
            raise ValueError(f"buffer_size is 1 or more, not {buffer_size}")
        if keep not in ("first", "last"):
            raise ValueError(f"keep is first or last, not {keep!r}")
        self.dispatcher = dispatcher
        self.buffer_size = buffer_size
        self._keep = keep
        self._partition_of = partition_of
        names = [None] if partitions is None else [exact_key(each) for each in partitions]
        self._queues: dict[Hashable, deque[Term]] = {name: deque() for name in names}
        self._subscribers: dict[Hashable, dict[Subscription, None]] = {name: {} for name in names}
        self.buffered = 0
        """How many events wait."""
        self.paused = False
        """While it is true nothing is sent, and demand is only counted."""

    @property
    def subscriptions(self) -> list[Subscription]:
        """All subscriptions, oldest first within a partition."""
        return [each for group in self._subscribers.values() for each in group]

    def subscribe(self, consumer: Pid, tag: Term, partition: Term = None) -> Subscription:
        """Add a subscription without demand. ``partition`` None is a consumer that names none. Raises Refused."""
        key: Hashable = None
        if self.dispatcher == "partition":
            key = exact_key(partition) if partition is not None else None
            if partition is None or key not in self._subscribers:
                raise Refused("unknown_partition")
            if self._subscribers[key]:
                raise Refused("partition_taken")
        elif self.dispatcher == "broadcast" and any(each.consumer == consumer for each in self._subscribers[None]):
            raise Refused("already_subscribed")
        subscription = Subscription(consumer, tag, key)
        self._subscribers[key][subscription] = None
        return subscription

    def cancel(self, subscription: Subscription) -> Deliveries:
        """Remove a subscription. The others may get events now, because it was the slowest one."""
        del self._subscribers[subscription.partition][subscription]
        return self._dispatch(subscription.partition)

    def ask(self, subscription: Subscription, count: int) -> Deliveries:
        """A consumer asks for ``count`` more events, 0 or more."""
        subscription.demand = min(subscription.demand + count, MAX_DEMAND)
        return self._dispatch(subscription.partition)

    def resume(self) -> Deliveries:
        """End a pause."""
        self.paused = False
        return [each for name in self._queues for each in self._dispatch(name)]

    def push(self, events: Sequence[Term]) -> tuple[Deliveries, int]:
        """New events of the producer. Return what to send, and how many events were dropped.

        Raises ValueError for an event with an unknown partition. Then no event is taken.
        """
        named: list[tuple[Hashable, Term]] = [(self._name_of(event), event) for event in events]
        sent: Deliveries = []
        if self._partition_of is None:
            self._queues[None].extend(events)
            self.buffered += len(events)
            sent = self._dispatch(None)
        else:
            for name, event in named:
                self._queues[name].append(event)
                self.buffered += 1
            for name in dict.fromkeys(name for name, _ in named):
                sent += self._dispatch(name)
        return sent, self._drop_excess()

    def wanted(self) -> int:
        """How many new events to produce now: so many find a consumer that has asked for them, or space.

        With partitions, the events that wait for another partition count, too. If one consumer is slow, its events fill
        the buffer, and then the producer waits for it.
        """
        if self.paused:
            return 0
        if self.dispatcher == "broadcast":
            return self._common_demand(None)
        demand = sum(each.demand for each in self.subscriptions)
        return min(demand, self.buffer_size - self.buffered) if self.dispatcher == "partition" else demand

    def _name_of(self, event: Term) -> Hashable:
        if self._partition_of is None:
            return None
        partition = self._partition_of(event)
        name = exact_key(partition)
        if name not in self._queues:
            raise ValueError(f"the partition {partition!r} of an event is not one of the partitions")
        return name

    def _common_demand(self, name: Hashable) -> int:
        return min((each.demand for each in self._subscribers[name]), default=0)

    def _dispatch(self, name: Hashable) -> Deliveries:
        """Send the waiting events of one partition, as far as its consumers have asked for them."""
        queue, subscribers, sent = self._queues[name], self._subscribers[name], []
        while queue and subscribers and not self.paused:
            if self.dispatcher == "broadcast":
                chosen, count = list(subscribers), min(self._common_demand(name), len(queue))
            else:
                busiest = max(subscribers, key=lambda each: each.demand)
                chosen, count = [busiest], min(busiest.demand, len(queue))
            if not count:
                break
            events = [queue.popleft() for _ in range(count)]
            self.buffered -= count
            for subscription in chosen:
                subscription.demand -= count
                sent.append((subscription, events))
        return sent

    def _drop_excess(self) -> int:
        """Drop events above the size of the buffer: those of the partition with the most events that wait."""
        dropped = excess = max(self.buffered - self.buffer_size, 0)
        while excess:
            queue = max(self._queues.values(), key=len)
            others = max((len(each) for each in self._queues.values() if each is not queue), default=0)
            count = min(excess, max(len(queue) - others, 1))
            kept = islice(queue, len(queue) - count) if self._keep == "first" else islice(queue, count, None)
            rest = list(kept)
            queue.clear()
            queue.extend(rest)
            excess -= count
        self.buffered -= dropped
        return dropped
