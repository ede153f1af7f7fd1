"""A consumer of Elixir's GenStage: an async iterator over batches of events, with back-pressure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from erlmesh.core.backoff import Backoff
from erlmesh.core.exit_reasons import NOPROC, NORMAL
from erlmesh.core.gen import is_call
from erlmesh.core.stage_demand import DEFAULT_MAX_DEMAND, ConsumerDemand
from erlmesh.errors import Exit
from erlmesh.gen_stage import messages
from erlmesh.gen_stage.stage_process import StageProcess
from erlmesh.net.event_log import event_log
from erlmesh.node import Node, Process
from erlmesh.runtime.exceptions import exit_reason
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.terms import Atom, Pid, Ref, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.wakeups import Wait

__all__ = ["Batch", "CancelMode", "Consumer", "ProducerSubscription", "SubscriptionLost"]

log = event_log("erlmesh.gen_stage")
_peer_log = PeerLog(log)

CancelMode: TypeAlias = Literal["permanent", "transient", "temporary"]
ProducerAddress: TypeAlias = "Pid | Atom | str | tuple[Atom | str, Term]"

GLOBAL: Final = Atom("global")
RESUBSCRIBE: Final = Atom("resubscribe")
EXCESS: Final = Atom("excess_events")
UNKNOWN: Final = Atom("unknown_subscription")
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds between two subscriptions of ``resubscribe``."""
JITTER: Final = (0.75, 1.25)


class SubscriptionLost(Exit):
    """A producer has cancelled the subscription, has terminated, or its node is lost. ``reason`` is its reason.

    A process that does not catch it exits with this reason, as a stage of Elixir does.
    """

    def __init__(self, subscription: ProducerSubscription, reason: Term) -> None:
        super().__init__(reason)
        self.subscription = subscription

    def __str__(self) -> str:
        return f"the subscription to {self.subscription.to} ended: {super().__str__()}"


class Batch(list[Any]):
    """A list of events of one producer. The loop that gets it may change it."""

    __slots__ = ("_demand", "_size", "subscription")

    subscription: ProducerSubscription
    """The subscription that the events came from."""

    def __init__(self, subscription: ProducerSubscription, events: list[Term]) -> None:
        super().__init__(events)
        self.subscription = subscription
        self._size = len(events)
        self._demand = subscription._demand  # That of this subscription, and not of a later one to the same producer.


class ProducerSubscription:
    """The subscription of a consumer to one producer. :meth:`Consumer.subscribe` makes it."""

    def __init__(
        self,
        consumer: Consumer,
        to: ProducerAddress,
        *,
        demand: tuple[int | None, int | None],
        cancel: CancelMode,
        options: list[Term],
        resubscribe: bool,
    ) -> None:
        self.to = to
        """The producer, as it was given to ``subscribe``."""
        self._consumer = consumer
        self._limits = demand
        self._cancel_mode = cancel
        self._options = options
        self._resubscribe = Backoff(FIRST_PAUSE, LONGEST_PAUSE, JITTER) if resubscribe else None
        self._demand = ConsumerDemand(*demand)
        self._tag: Ref | None = None
        """The reference of the monitor; None while it is not subscribed."""
        self._address: Any = None
        self._producer: Pid | None = None
        """Known for a pid, and from the first message of a registered name."""
        self._cancelled = False

    @property
    def active(self) -> bool:
        """False after its end, and while it waits to subscribe again."""
        return self._tag is not None

    def ask(self, count: int) -> None:
        """Ask for ``count`` more events, in a manual subscription (``max_demand=None``). Raises ValueError."""
        if self._limits[0] is not None:
            raise ValueError("only a manual subscription asks itself: subscribe with max_demand=None")
        self._send_ask(self._demand.ask(count))

    def cancel(self, reason: Term = NORMAL) -> None:
        """Cancel. Events that are on the way still arrive; the subscription ends when the producer confirms."""
        self._cancelled = True
        self._resubscribe = None
        if self._tag is None:
            self._consumer._remove(self)
        else:
            self._send(messages.cancel_producer(self._consumer.pid, self._tag, reason))

    def _send_ask(self, count: int) -> None:
        if count and self._tag is not None:
            self._send(messages.ask(self._consumer.pid, self._tag, count))

    def _send(self, message: Term) -> None:
        # To the pid, once it is known: the name may belong to another process by now.
        self._consumer._process.send(self._producer or self._address, message, connect=False)


class Consumer:
    """A stage that subscribes to producers of Elixir's GenStage or of erlmesh, and iterates over their events. ::

        async with Consumer(node) as consumer:
            consumer.subscribe((Atom("Elixir.Numbers"), "app@host"), max_demand=100, min_demand=50)
            async for events in consumer:      # a list of at most max_demand - min_demand events
                await work(events)

    A batch counts as handled when the loop asks for the next one. Only then does the consumer ask the producer for more
    events. So a producer never has more than ``max_demand`` events on the way or waiting here. If a producer sends
    more, the subscription ends with the reason ``excess_events``.

    The iteration ends when no subscription is left and when the node stops. :class:`SubscriptionLost` is raised as
    the ``cancel`` of a subscription says.
    """

    def __init__(self, node: Node, *, name: Atom | str | None = None) -> None:
        """``name`` is registered on the node."""
        self._node = node
        self._name = name
        self._stage: StageProcess | None = None
        self._subscriptions: dict[ProducerSubscription, None] = {}
        self._by_tag: dict[Ref, ProducerSubscription] = {}
        self._queue: deque[Batch | SubscriptionLost] = deque()
        self._unhandled: Batch | None = None
        self._wait: Wait | None = None

    async def __aenter__(self) -> Self:
        self._stage = StageProcess(
            self._node, self._handle_message, self._ended, name=self._name, label="erlmesh.gen_stage.Consumer"
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stage: the producers get its DOWN."""
        assert self._stage is not None
        is_failure = isinstance(error, Exception)
        self._stage.end(exit_reason(error) if error is not None and is_failure else NORMAL)

    @property
    def pid(self) -> Pid:
        """The process of the stage."""
        return self._process.pid

    @property
    def _process(self) -> Process:
        if self._stage is None:
            raise RuntimeError("the consumer is not started: use `async with Consumer(...)`")
        return self._stage.process

    def subscribe(
        self,
        to: ProducerAddress,
        *,
        max_demand: int | None = DEFAULT_MAX_DEMAND,
        min_demand: int | None = None,
        cancel: CancelMode = "permanent",
        resubscribe: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> ProducerSubscription:
        """Subscribe to a producer, and ask it for ``max_demand`` events. Return at once.

        ``to`` is a pid, a name of this node, ``(name, node)`` or ``("global", name)``. ``max_demand=None`` is a manual
        subscription, which asks with :meth:`ProducerSubscription.ask`. ``options`` go to the producer as a keyword
        list: ``{"partition": 0}``.

        ``cancel`` says what follows when the producer cancels or is lost, after the events that came before:

        - ``permanent``: the iteration raises :class:`SubscriptionLost`.
        - ``transient``: the same, except for the reasons ``normal``, ``shutdown`` and ``{shutdown, _}``.
        - ``temporary``: the subscription ends, and the others continue.

        With ``resubscribe`` it subscribes again instead, after 1 to 30 seconds, until it succeeds or is cancelled.

        Raises ValueError, TypeError for a ``to`` that is none of these, and EncodeError for options that are no terms.
        """
        if cancel not in ("permanent", "transient", "temporary"):
            raise ValueError(f"cancel is permanent, transient or temporary, not {cancel!r}")
        told = {"max_demand": max_demand, "min_demand": min_demand, "cancel": Atom(cancel), **(options or {})}
        keywords: list[Term] = [(Atom(key), value) for key, value in told.items() if value is not None]
        subscription = ProducerSubscription(
            self, to, demand=(max_demand, min_demand), cancel=cancel, options=keywords, resubscribe=resubscribe
        )
        self._subscriptions[subscription] = None
        try:
            self._start(subscription)
        except BaseException:  # Without it the iteration would wait for a subscription that never was.
            self._forget(subscription)
            self._remove(subscription)
            raise
        return subscription

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        self._acknowledge()
        while not self._queue:
            if not self._subscriptions or not self._process.alive:
                raise StopAsyncIteration
            if self._wait is not None and not self._wait.done():
                raise RuntimeError("another task iterates over this consumer already")
            self._wait = self._node.internals.create_wait()
            await self._wait
        item = self._queue.popleft()
        if isinstance(item, SubscriptionLost):
            raise item
        self._unhandled = item
        return item

    # Subscriptions

    def _acknowledge(self) -> None:
        """The last batch is handled: ask for more."""
        batch, self._unhandled = self._unhandled, None
        if batch is None:
            return
        subscription = batch.subscription
        if subscription.active and not subscription._cancelled and batch._demand is subscription._demand:
            subscription._send_ask(batch._demand.handled(batch._size))

    def _start(self, subscription: ProducerSubscription) -> None:
        address: Any = subscription.to
        if isinstance(address, tuple) and address[0] in ("global", GLOBAL):
            address = self._node.global_.whereis(address[1])
            if address is None:
                self._lost(subscription, NOPROC)
                return
        process = self._process
        subscription._address = address
        subscription._producer = address if isinstance(address, Pid) else None
        subscription._demand = ConsumerDemand(*subscription._limits)
        subscription._tag = tag = process.monitor(address)
        self._by_tag[tag] = subscription
        if isinstance(address, str | Atom) and self._node.whereis(address) is None:
            return  # The DOWN is on the way. A local name without a process cannot get a message.
        process.send(address, messages.subscribe(process.pid, tag, subscription._options))
        if count := subscription._demand.first_ask():
            process.send(address, messages.ask(process.pid, tag, count))

    def _lost(self, subscription: ProducerSubscription, reason: Term) -> None:
        """The producer has cancelled or is lost."""
        self._forget(subscription)
        if subscription._resubscribe is not None:
            pause = subscription._resubscribe.next_delay(self._node.internals.random)
            log.info(
                "subscription_restarts",
                "the subscription to %s ended, and starts again in %.1f s: %s",
                subscription.to,
                pause,
                reason,
                seconds=pause,
                reason=reason,
            )
            number = id(subscription)
            self._process.send_after(pause, (RESUBSCRIBE, number))
            return
        mode = subscription._cancel_mode
        is_expected = subscription._cancelled or mode == "temporary"
        if not (is_expected or (mode == "transient" and messages.is_regular_end(reason))):
            self._queue.append(SubscriptionLost(subscription, reason))
        self._remove(subscription)

    def _forget(self, subscription: ProducerSubscription) -> None:
        """Remove the monitor and the tag."""
        if subscription._tag is not None:
            del self._by_tag[subscription._tag]
            self._process.demonitor(subscription._tag, flush=True)
            subscription._tag = None

    def _remove(self, subscription: ProducerSubscription) -> None:
        self._subscriptions.pop(subscription, None)
        self._wake()

    def _wake(self) -> None:
        if self._wait is not None and not self._wait.done():
            self._wait.set_result(None)

    def _ended(self, _reason: Term) -> None:
        """The process has terminated. What has arrived is still iterated over."""
        for subscription in self._subscriptions:
            subscription._tag = None
        self._subscriptions.clear()
        self._by_tag.clear()
        self._wake()

    # The process

    def _handle_message(self, message: Term) -> None:
        match message:
            case (messages.GEN_CONSUMER, (Pid() as producer, tag), content):
                self._handle_stage_message(producer, tag, content)
            case (Atom("DOWN"), Ref() as ref, _, _, reason) if self._node.internals.is_message_local():
                if (subscription := self._by_tag.get(ref)) is not None:
                    self._lost(subscription, reason)
            case (Atom("resubscribe"), int() as number) if self._node.internals.is_message_local():
                for subscription in [each for each in self._subscriptions if id(each) == number and not each.active]:
                    self._start(subscription)
            case _ if is_call(message):
                self._process.unhandled(message)
            case _:
                _peer_log.debug(
                    "message_ignored", "consumer %s: ignored %s", self.pid, ForeignText(message), pid=self.pid
                )

    def _handle_stage_message(self, producer: Pid, tag: Term, content: Term) -> None:
        if not self._node.internals.is_message_from(producer.node):
            return  # A process speaks for its own node only.
        subscription = self._by_tag.get(tag) if isinstance(tag, Ref) else None
        if subscription is None or not self._is_producer(subscription, producer):
            if type(content) is list:
                self._process.send(producer, messages.cancel_producer(self.pid, tag, UNKNOWN), connect=False)
            return
        subscription._producer = producer
        match content:
            case list():
                self._handle_events(subscription, content)
            case (messages.CANCEL, reason):
                self._lost(subscription, reason)
            case _:
                _peer_log.debug(
                    "message_ignored", "consumer %s: ignored %s", self.pid, ForeignText(content), pid=self.pid
                )

    def _is_producer(self, subscription: ProducerSubscription, sender: Pid) -> bool:
        known = subscription._producer
        if known is not None:
            return known == sender
        address = subscription._address
        if isinstance(address, tuple):
            return Atom(address[1]) is sender.node
        return sender.node is self.pid.node

    def _handle_events(self, subscription: ProducerSubscription, events: list[Term]) -> None:
        batches = subscription._demand.arrived(events)
        if batches is None:
            log.warning(
                "producer_too_fast", "%s sent more events than it was asked for: the subscription ends", subscription.to
            )
            subscription._send(messages.cancel_producer(self.pid, subscription._tag, EXCESS))
            self._lost(subscription, EXCESS)
            return
        if subscription._resubscribe is not None:
            subscription._resubscribe.reset()
        self._queue.extend(Batch(subscription, batch) for batch in batches)
        self._wake()
