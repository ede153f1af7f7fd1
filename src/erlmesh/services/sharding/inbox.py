"""The process that receives acknowledged messages, and results of shards, each one once.

It has a handler and no task. The decisions are those of :class:`~erlmesh.core.sharding.inbox_book.InboxBook` and
:class:`~erlmesh.core.sharding.receipt_book.ReceiptBook`. What is taken waits in a queue until the user takes it.
Acknowledgements leave once per turn of the event loop, one for each source and key.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from erlmesh.core.sharding.arguments import MAX_SECONDS, checked_name, checked_seconds
from erlmesh.core.sharding.inbox_book import OPEN_LIMIT, Entry, InboxBook
from erlmesh.core.sharding.messages import GOT, OUT, PUT, REFUSED, Put, Source, is_put
from erlmesh.core.sharding.receipt_book import ReceiptBook
from erlmesh.etf import encode_term
from erlmesh.net.event_log import event_log
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.runtime.spawner import wait_without_task
from erlmesh.runtime.wait_queue import WaitQueue
from erlmesh.services.group_names import normalize_group_name
from erlmesh.services.sharding.holders import HolderNodes
from erlmesh.services.sharding.outbox import AtEnd
from erlmesh.terms import Atom, Pid, SendableTerm, Term, exact_key
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from types import TracebackType

    from erlmesh.runtime.process import LocalProcess
    from erlmesh.runtime.runtime import Runtime
    from erlmesh.services.pg.protocol import GroupEvent
    from erlmesh.services.pg.server import Pg

__all__ = ["FORGET_AFTER", "Delivery", "Inbox"]

log = event_log("erlmesh.sharding")
peer_log: Final = PeerLog(log)

FORGET_AFTER: Final = 3_600.0
"""Seconds after which the numbers of a lost node are forgotten."""
DELIVERIES_PER_TURN: Final = 1_000
"""Messages that an iteration takes before other tasks get a turn."""
UNKNOWN_NAME: Final = Atom("unknown_name")
_NODEUP: Final = Atom("nodeup")
_NODEDOWN: Final = Atom("nodedown")


class Delivery:
    """A message for this inbox. Call :meth:`done` when its work is done, or :meth:`refuse`."""

    __slots__ = ("_entry", "_inbox", "_put")

    def __init__(self, inbox: Inbox, entry: Entry | None, put: Put) -> None:
        self._inbox: Inbox | None = inbox
        self._entry = entry
        self._put = put

    @property
    def message(self) -> Term:
        """What was put, or the result."""
        return self._put[5]

    @property
    def key(self) -> bytes:
        """The key of the message."""
        return self._put[2]

    @property
    def source(self) -> Source:
        """The outbox: its node, its life, and its name."""
        return self._put[3]

    @property
    def number(self) -> int:
        """The number among the messages of this source with this key."""
        return self._put[4]

    def done(self) -> None:
        """Acknowledge: the source forgets the message. A second call has no effect."""
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.settle(self._put, self._entry)

    def refuse(self, reason: SendableTerm) -> None:
        """Tell the source that the message is not taken, and why. It is not sent again.

        A result cannot be refused: for one, this does the same as :meth:`done`. Raises ``EncodeError`` if the reason is
        not a term.
        """
        encode_term(reason)
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.settle(self._put, self._entry, (reason,))

    def __repr__(self) -> str:
        return f"Delivery(key={self.key!r}, number={self.number}, message={self.message!r})"


class Inbox:
    """Receives the messages of outboxes to a group, and results of shards, each once. ``node.inbox(...)`` makes one::

        async with node.inbox("ticks", group="workers") as inbox:
            async for delivery in inbox:
                ...
                delivery.done()

    It is a member of the group from its start to its end: ``async with``, or :meth:`start` and :meth:`close`. All
    members of the group must be inboxes with this name. A source keeps each message until :meth:`Delivery.done`. If
    several tasks iterate, each message goes to one of them.
    """

    def __init__(
        self, runtime: Runtime, pg: Pg, name: str | bytes, group: Term, *, forget_after: float = FORGET_AFTER
    ) -> None:
        self._name = checked_name(name, "an inbox")
        text = f"forget_after is a positive number of seconds, at most {MAX_SECONDS:,}"
        if not checked_seconds(forget_after, text):
            raise ValueError(f"{text}, not {forget_after!r}")
        self._runtime = runtime
        self._pg = pg
        self._group = normalize_group_name(group)
        self._exact = exact_key(self._group)
        self._forget_after = forget_after
        self._book = InboxBook()
        self._receipts = ReceiptBook()
        self._open_results: dict[tuple[Source, bytes, int], Pid] = {}
        """The results that are taken and not done, with the process to answer."""
        self._queue: deque[Delivery] = deque()
        self._waiting = WaitQueue(runtime.create_wait, self._queue)
        self._answers_due = False
        self._left_in_turn = DELIVERIES_PER_TURN
        self._timers: set[asyncio.TimerHandle] = set()
        self._ended = False
        self._started = False
        self._is_leaving = False

    @property
    def name(self) -> str:
        """The name that the outboxes use."""
        return self._name.decode("utf-8", "backslashreplace")

    @property
    def pid(self) -> Pid:
        """The process that receives: the member of the group. Before the start there is none."""
        return self._process.pid

    @property
    def duplicates(self) -> int:
        """The number of messages and results that came once more, and were dropped."""
        return self._book.duplicates + self._receipts.duplicates

    # What users call

    def start(self) -> None:
        """Start the process and join the group. Raises RuntimeError if it was started before."""
        if self._started:
            raise RuntimeError("an inbox starts once; make a new one")
        self._started = True
        self._process = self._runtime.spawn_handler(self._handle)
        wait_without_task(self._process, AtEnd(self._end))
        self._delivery = self._runtime.state.delivery
        self._here = self._runtime.atom
        self._finished = asyncio.Event()
        self._runtime.spawn(self._wait_while_node_stops)
        self._runtime.monitor_nodes(self._process.pid, hidden=True)
        self._stay = self._pg.leave_later(self._process.pid, None, self._leave_in_order)
        self._pg.join(self._group, self._process.pid)
        self._holder_nodes = HolderNodes(self._pg, self._name)
        self._unsubscribe = self._pg.subscribe(self._on_change)

    async def stop(self) -> None:
        """Leave in order: take no new messages, wait until all that were taken are done, leave the group, and end.

        No message is done twice. Sources keep new messages for the next member. A node that stops does this by itself,
        within its ``grace``. Without a start this does nothing.
        """
        if self._started:
            self._leave_in_order()
            await self._finished.wait()

    def _leave_in_order(self) -> None:
        self._book.end()
        self._is_leaving = True
        self._close_if_done()

    def _close_if_done(self) -> None:
        if not self._ended and not self._book.open and not self._open_results:
            self._send_answers()
            self.close()

    async def _wait_while_node_stops(self, me: LocalProcess) -> None:
        """The body of a process for which a node that stops waits."""
        me.trap_exit = True
        await self._finished.wait()

    def close(self) -> None:
        """Leave the group and end at once. The sources send to other members what was not done here."""
        if self._started and self._process.alive:
            if self._pg.alive:
                self._pg.leave(self._group, self._process.pid)
            self._process.stop()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        """The next message. The iteration ends with the inbox."""
        if self._left_in_turn <= 0:
            self._left_in_turn = DELIVERIES_PER_TURN
            await asyncio.sleep(0)
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            if not self._started:
                raise RuntimeError("the inbox is not started: use `async with node.inbox(...)`")
            self._left_in_turn = DELIVERIES_PER_TURN
            await self._waiting.wait()
        self._left_in_turn -= 1
        return self._queue.popleft()

    # What arrives

    def _handle(self, message: Term) -> None:
        tag = message[0] if type(message) is tuple and message else None
        if (tag is PUT or tag is OUT) and is_put(message):
            source, sender = message[3], message[6]
            peer = self._delivery.message_peer or self._here
            if sender.node is not peer or (tag is PUT and source[0] is not peer):
                self._runtime.is_message_from(source[0] if sender.node is peer else sender.node)  # It logs.
            elif message[1] != self._name:
                self._refuse_name(message)
            elif tag is OUT:
                self._take_result(peer, message)
            elif (entry := self._book.put(source, message[2], message[4], sender)) is not None:
                self._add(Delivery(self, entry, message))
            elif not self._answers_due and self._book.has_answers():
                self._answer_soon()
        elif (tag is _NODEUP or tag is _NODEDOWN) and self._runtime.is_message_local():
            self._node_event(message)
        else:
            peer = self._delivery.message_peer or self._here
            peer_log.write(
                logging.WARNING, "message_ignored", peer.name, "an inbox ignored the message %s", ForeignText(message)
            )

    def _refuse_name(self, put: Put) -> None:
        """A message with another name would wait for ever, so its source is told."""
        tag, name, key, source, number, _, sender = put
        text = "an inbox with the name %s got a message for the name %s"
        peer_log.write(
            logging.WARNING, "inbox_name_unknown", sender.node.name, text, ForeignText(self._name), ForeignText(name)
        )
        if tag is PUT:
            self._process.send(sender, (REFUSED, name, key, source, number, UNKNOWN_NAME), False)

    def _take_result(self, peer: Atom, put: Put) -> None:
        _, _, key, source, number, _, sender = put
        at = (source, key, number)
        if peer not in self._holder_nodes:  # A number that is counted for it would be missing in those of a holder.
            peer_log.write(
                logging.WARNING, "message_ignored", peer.name, "an inbox ignored a result: its node holds no shard"
            )
        elif at in self._open_results:
            self._receipts.duplicates += 1
            self._open_results[at] = sender  # It has taken over from the one that has sent it before.
        elif self._is_leaving:
            pass  # The holder sends it to the next receiver.
        elif len(self._open_results) >= OPEN_LIMIT:
            peer_log.write(
                logging.WARNING,
                "inbox_results_dropped",
                peer.name,
                "an inbox drops results, because %d are not done",
                OPEN_LIMIT,
                limit=OPEN_LIMIT,
            )
        elif self._receipts.is_new(peer, source, key, number):
            self._open_results[at] = sender
            self._add(Delivery(self, None, put))
        else:
            self._process.send(sender, (GOT, self._name, key, source, number), False)

    def _add(self, delivery: Delivery) -> None:
        self._queue.append(delivery)
        self._waiting.wake()

    def _on_change(self, event: GroupEvent) -> None:
        self._holder_nodes.apply(event)
        if exact_key(event.group) == self._exact:
            self._book.group_changed()
            if not self._answers_due and self._book.has_answers():
                self._answer_soon()

    def _node_event(self, message: Term) -> None:
        match message:
            case (Atom("nodeup"), Atom() as node):
                self._book.node_up(node)
            case (Atom("nodedown"), Atom() as node):
                loop = asyncio.get_running_loop()
                self._book.node_down(node, loop.time())
                self._holder_nodes.node_down(node)
                # A little later than the limit, so that a timer that is early by rounding forgets the node, too.
                timer = loop.call_later(self._forget_after + 1, self._forget)
                self._timers = {each for each in self._timers if not each.cancelled() and each.when() > loop.time()}
                self._timers.add(timer)
            case _:
                pass

    def _forget(self) -> None:
        self._book.forget(asyncio.get_running_loop().time(), self._forget_after)

    # What is answered

    def settle(self, put: Put, entry: Entry | None, refusal: tuple[SendableTerm] | None = None) -> None:
        """A delivery is done. ``refusal`` has the reason if it was refused. ``entry`` is None for a result."""
        if self._ended:
            return
        _, _, key, source, number, _, _ = put
        if entry is None:
            sender = self._open_results.pop((source, key, number), None)
            if sender is not None:
                self._process.send(sender, (GOT, self._name, key, source, number), False)
            if self._is_leaving:
                self._close_if_done()
            return
        if refusal is None:
            self._book.settle(entry, number)
        else:
            self._book.refuse(entry, number, refusal[0])
        if not self._answers_due:
            self._answer_soon()
        if self._is_leaving:
            self._close_if_done()

    def _answer_soon(self) -> None:
        self._answers_due = True
        self._runtime.call_after_read(self._send_answers)

    def _send_answers(self) -> None:
        self._answers_due = False
        if self._ended:
            return
        send, name = self._process.send, self._name
        for to, tag, source, key, number, reason in self._book.take_answers():
            answer = (tag, name, key, source, number)
            send(to, (*answer, reason) if tag is REFUSED else answer, False)

    def _end(self) -> None:
        """The process has ended: nothing comes any more, and what waits is sent to others."""
        self._ended = True
        self._unsubscribe()
        self._stay()
        self._finished.set()
        self._queue.clear()
        self._open_results.clear()
        for timer in self._timers:
            timer.cancel()
        self._waiting.wake_all()
