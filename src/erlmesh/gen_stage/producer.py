"""A producer of Elixir's GenStage: consumers subscribe, ask for events, and get no more than they have asked for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, Self

from erlmesh.core.exit_reasons import NORMAL
from erlmesh.core.gen import is_call
from erlmesh.core.stage_dispatch import Deliveries, DispatchBook, Dispatcher, Refused, Subscription
from erlmesh.errors import Exit, NodeNotAlive
from erlmesh.etf import encode
from erlmesh.gen_stage import messages
from erlmesh.gen_stage.sources import EventSource, pull
from erlmesh.gen_stage.stage_process import StageProcess
from erlmesh.net.event_log import event_log
from erlmesh.node import Node, Process
from erlmesh.runtime.exceptions import exit_reason
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.terms import Atom, Pid, Ref, Term, exact_key
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from erlmesh.runtime.wakeups import Wait

__all__ = ["Producer"]

log = event_log("erlmesh.gen_stage")
_peer_log = PeerLog(log)

UNKNOWN: Final = Atom("unknown_subscription")
DUPLICATED: Final = Atom("duplicated_subscription")
OVERLOADED: Final = Atom("overloaded")
BAD_TAG: Final = Atom("bad_tag")
MAX_TAG_BYTES: Final = 256
"""The longest tag of a subscription, encoded. GenStage's own are references."""
MAX_MESSAGE: Final = 1_000
"""Events of one message."""


class Producer:
    """A stage that consumers of Elixir's GenStage or of erlmesh subscribe to. ::

        async def numbers():
            for number in itertools.count():
                yield number

        async with Producer(node, numbers(), name="numbers") as producer:
            await producer.finished()

    ``source`` is an iterable, an async iterable, or a function ``handle_demand(count)`` that returns at most ``count``
    events, or None at the end. It is asked only for events that a consumer has asked for. When it has no more and all
    are sent, the producer ends with ``normal``. Without a source, :meth:`push` and :meth:`put` pass events.

    ``dispatcher`` says which consumer gets an event:

    - ``demand``: the one that has asked for the most.
    - ``broadcast``: all of them. The slowest one sets the pace.
    - ``partition``: the one that has subscribed with the option ``partition``, which is ``partition_of(event)``.

    At most ``buffer_size`` events that were pushed wait for a consumer. ``buffer_keep`` is ``last`` (drop the oldest)
    or ``first`` (drop the newest); the log says so. ``paused`` starts without sending: call :meth:`resume` when all
    consumers of a broadcast have subscribed. More than ``max_subscriptions`` are refused.
    """

    def __init__(
        self,
        node: Node,
        source: EventSource | None = None,
        *,
        name: Atom | str | None = None,
        global_name: Term = None,
        dispatcher: Dispatcher = "demand",
        partitions: Iterable[Term] | None = None,
        partition_of: Callable[[Term], Term] | None = None,
        buffer_size: int = 10_000,
        buffer_keep: Literal["first", "last"] = "last",
        paused: bool = False,
        max_subscriptions: int = 10_000,
    ) -> None:
        """``name`` is registered on the node, ``global_name`` in the cluster. Raises ValueError."""
        self._node = node
        self._source = source
        self._name, self._global_name = name, global_name
        self._max_subscriptions = max_subscriptions
        self._book = DispatchBook(
            dispatcher,
            partitions=partitions,
            partition_of=partition_of,
            buffer_size=buffer_size,
            keep=buffer_keep,
        )
        self._book.paused = paused
        self._stage: StageProcess | None = None
        self._by_tag: dict[Hashable, tuple[Subscription, Ref]] = {}
        """By the consumer and its tag."""
        self._by_monitor: dict[Ref, Hashable] = {}
        self._waits: list[Wait] = []
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._ended_with: Term = None
        self.discarded = 0
        """How many events were dropped because the buffer was full."""

    async def __aenter__(self) -> Self:
        """Start. Raises ValueError if a name is taken."""
        self._stage = StageProcess(
            self._node, self._handle_message, self._ended, name=self._name, label="erlmesh.gen_stage.Producer"
        )
        if self._global_name is not None and not await self._node.global_.register(self._global_name, self.pid):
            self._stage.end(NORMAL)
            raise ValueError(f"the global name {self._global_name!r} is taken")
        if self._source is not None:
            self._task = asyncio.create_task(self._run_source(self._source))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: each consumer gets ``{cancel, Reason}``, ``normal`` or the reason of the exception."""
        self.stop(exit_reason(error) if isinstance(error, Exception) else NORMAL)
        if self._task is not None:
            await asyncio.wait([self._task])

    @property
    def pid(self) -> Pid:
        """The process of the stage."""
        return self._process.pid

    @property
    def _process(self) -> Process:
        if self._stage is None:
            raise RuntimeError("the producer is not started: use `async with Producer(...)`")
        return self._stage.process

    @property
    def consumers(self) -> list[Pid]:
        """The consumers that are subscribed."""
        return [each.consumer for each in self._book.subscriptions]

    @property
    def buffered(self) -> int:
        """How many events wait for a consumer."""
        return self._book.buffered

    @property
    def demand(self) -> int:
        """How many new events could be sent now."""
        return self._book.wanted()

    def push(self, events: Iterable[Term]) -> int:
        """Pass events on at once. Return how many were dropped because the buffer was full.

        Raises EncodeError for an event that is not a term, ValueError for an unknown partition: then none is taken.
        Raises :class:`Exit` after the end of the producer.
        """
        listed = list(events)
        self._require_alive()
        encode(listed)  # An event may wait in the buffer. Its error belongs to the caller that has passed it.
        sent, dropped = self._book.push(listed)
        self._send(sent)
        if dropped:
            self.discarded += dropped
            _peer_log.write(
                logging.WARNING,
                "stage_events_dropped",
                "",
                "producer %s: the buffer is full, %d events dropped",
                self.pid,
                dropped,
                pid=self.pid,
                count=dropped,
            )
        return dropped

    async def put(self, event: Term) -> None:
        """Wait until a consumer has asked for an event, and send this one. So nothing is buffered or dropped.

        Raises as :meth:`push`.
        """
        await self._wait_for_demand()
        self.push([event])

    async def put_all(self, events: Iterable[Term]) -> None:
        """Do the same for each event, with as few messages as the demand allows."""
        rest = list(events)
        while rest:
            count = await self._wait_for_demand()
            self.push(rest[:count])
            del rest[:count]

    def resume(self) -> None:
        """Start to send, after ``paused``."""
        self._send(self._book.resume())
        self._wake()

    def stop(self, reason: Term = NORMAL) -> None:
        """End now. Each consumer gets ``{cancel, reason}``; events that wait are dropped."""
        assert self._stage is not None
        if self._process.alive:
            for subscription, _ in list(self._by_tag.values()):
                self._send_cancel(subscription.consumer, subscription.tag, reason)
        self._stage.end(reason)

    async def finished(self) -> None:
        """Wait until the source has no more events and all are sent, or until the producer ends in another way.

        Raises what the source raised.
        """
        while self._process.alive:
            await self._wait()
        if self._error is not None:
            raise self._error

    # The source

    async def _run_source(self, source: EventSource) -> None:
        try:
            await pull(source, self._wait_for_demand, self.push)
            while self._book.buffered:
                await self._wait_for_change()
            self.stop(NORMAL)
        except (Exit, NodeNotAlive):
            pass  # The producer has ended.
        except Exception as error:
            log.exception("stage_source_failed", "producer %s: the source failed", self.pid, pid=self.pid)
            self._error = error
            self.stop(exit_reason(error))

    async def _wait_for_demand(self) -> int:
        """Wait until new events are wanted and no connection is full. Return how many. Raises Exit after the end."""
        self._require_alive()
        await self._process.drain()
        while not (count := self._book.wanted()):
            await self._wait_for_change()
        self._require_alive()
        return count

    async def _wait_for_change(self) -> None:
        self._require_alive()
        await self._wait()
        self._require_alive()

    async def _wait(self) -> None:
        wait = self._node.internals.create_wait()
        self._waits.append(wait)
        try:
            await wait
        finally:
            if wait in self._waits:
                self._waits.remove(wait)

    def _wake(self) -> None:
        waits, self._waits = self._waits, []
        for wait in waits:
            if not wait.done():
                wait.set_result(None)

    def _require_alive(self) -> None:
        if not self._process.alive:
            raise Exit(self._ended_with)

    def _ended(self, reason: Term) -> None:
        """The process has terminated. The consumers get its DOWN."""
        self._ended_with = reason
        self._by_tag.clear()
        self._by_monitor.clear()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._wake()

    # The process

    def _handle_message(self, message: Term) -> None:
        match message:
            case (messages.GEN_PRODUCER, (Pid() as consumer, tag), request):
                if self._node.internals.is_message_from(consumer.node):  # A process speaks for its own node only.
                    self._handle_request(consumer, tag, request)
            case (Atom("DOWN"), Ref() as ref, _, _, _) if self._node.internals.is_message_local():
                if (key := self._by_monitor.get(ref)) is not None:
                    self._remove(key)
            case (Atom("$gen_call"), (Pid(), _) as caller, Atom("$estimate_buffered_count")):
                self._process.reply(caller, self._book.buffered)
            case _ if is_call(message):
                self._process.unhandled(message)
            case _:
                _peer_log.debug(
                    "message_ignored", "producer %s: ignored %s", self.pid, ForeignText(message), pid=self.pid
                )

    def _handle_request(self, consumer: Pid, tag: Term, request: Term) -> None:
        known = self._by_tag.get(_key(consumer, tag))
        match request:
            case (messages.SUBSCRIBE, current, options):
                self._subscribe(consumer, tag, current, options)
            case (messages.ASK, int() as count) if known is not None and count >= 0:
                self._send(self._book.ask(known[0], count))
                self._wake()
            case (messages.CANCEL, reason) if known is not None:
                self._cancel(_key(consumer, tag), reason)
            case (messages.ASK | messages.CANCEL, _) if known is None:
                self._send_cancel(consumer, tag, UNKNOWN)
            case _:
                _peer_log.debug(
                    "message_ignored", "producer %s: ignored %s", self.pid, ForeignText(request), pid=self.pid
                )

    def _subscribe(self, consumer: Pid, tag: Term, current: Term, options: Term) -> None:
        key = _key(consumer, tag)
        if key in self._by_tag:
            self._send_cancel(consumer, tag, DUPLICATED)
            return
        if isinstance(current, tuple) and len(current) == 2:  # The subscription that this one replaces.
            self._cancel(_key(consumer, current[0]), current[1])
        if len(encode(tag)) > MAX_TAG_BYTES:
            self._send_cancel(consumer, BAD_TAG, BAD_TAG)
            return
        if len(self._by_tag) >= self._max_subscriptions:
            log.warning(
                "consumer_refused",
                "producer %s: refused a consumer, because it has %d",
                self.pid,
                len(self._by_tag),
                pid=self.pid,
            )
            self._send_cancel(consumer, tag, OVERLOADED)
            return
        try:
            subscription = self._book.subscribe(consumer, tag, _option(options, "partition"))
        except Refused as refused:
            self._send_cancel(consumer, tag, Atom(str(refused)))
            return
        ref = self._process.monitor(consumer)
        self._by_tag[key] = (subscription, ref)
        self._by_monitor[ref] = key

    def _cancel(self, key: Hashable, reason: Term) -> None:
        """Confirm a cancellation to the consumer, and remove the subscription."""
        if (known := self._by_tag.get(key)) is not None:
            self._send_cancel(known[0].consumer, known[0].tag, reason)
            self._remove(key)

    def _remove(self, key: Hashable) -> None:
        subscription, ref = self._by_tag.pop(key)
        del self._by_monitor[ref]
        self._process.demonitor(ref, flush=True)
        self._send(self._book.cancel(subscription))
        self._wake()

    def _send(self, deliveries: Deliveries) -> None:
        for subscription, events in deliveries:
            for start in range(0, len(events), MAX_MESSAGE):
                message = messages.events(self.pid, subscription.tag, events[start : start + MAX_MESSAGE])
                self._process.send(subscription.consumer, message, connect=False)

    def _send_cancel(self, consumer: Pid, tag: Term, reason: Term) -> None:
        self._process.send(consumer, messages.cancel_consumer(self.pid, tag, reason), connect=False)


def _key(consumer: Pid, tag: Term) -> Hashable:
    """What identifies a subscription. A tag alone would let one consumer ask and cancel for another one."""
    return consumer, exact_key(tag)


def _option(options: Term, name: str) -> Term:
    """The value in a keyword list; None if it has none."""
    if isinstance(options, list):
        for each in options:
            if isinstance(each, tuple) and len(each) == 2 and each[0] is Atom(name):
                return each[1]
    return None
