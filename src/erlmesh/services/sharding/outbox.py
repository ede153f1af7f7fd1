"""The process that keeps messages until their holder has acknowledged them.

It has a handler and no task: the answers of holders are read in one turn with all other signals. The decisions are
those of :class:`~erlmesh.core.sharding.outbox_book.OutboxBook`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self

from erlmesh.core.sharding.arguments import checked_count, checked_name
from erlmesh.core.sharding.messages import (
    ACK,
    GO,
    KEY_LIMIT,
    MESSAGE_LIMIT,
    PUT,
    REFUSED,
    WAIT,
    Source,
    is_answer,
)
from erlmesh.core.sharding.outbox_book import Holder, OutboxBook, Stream
from erlmesh.core.sharding.rendezvous import key_bytes
from erlmesh.errors import Full, OutboxClosed
from erlmesh.etf import decode_term, encode_term
from erlmesh.net.event_log import event_log
from erlmesh.records import record
from erlmesh.runtime.peer_log import PeerLog
from erlmesh.runtime.spawner import wait_without_task
from erlmesh.services.sharding.message_sender import MessageSender
from erlmesh.terms import Pid, SendableTerm, Term
from erlmesh.terms.foreign_text import ForeignText

if TYPE_CHECKING:
    from types import TracebackType

    from erlmesh.runtime.runtime import Runtime
    from erlmesh.runtime.wakeups import Wait
    from erlmesh.services.sharding.holders import Holders

__all__ = ["CREDIT", "AtEnd", "Outbox", "Refusal"]

log = event_log("erlmesh.sharding")
peer_log: Final = PeerLog(log)

CREDIT: Final = 1_024
MAX_CREDIT: Final = 65_536
"""The receiver keeps as much for each source."""
PROBE_INTERVAL: Final = 10.0
"""Seconds between two looks at what stands still."""
PUTS_PER_TURN: Final = 256
"""Messages that a task puts before other tasks get a turn."""
_HEAD: Final = b"h\x07"
"""SMALL_TUPLE_EXT of seven elements."""


@record(frozen=True)
class Refusal:
    """A message that its holder has refused. It is not sent again."""

    key: bytes
    message: Term
    """As the holder has got it."""
    reason: Term


class AtEnd:
    """Stands for the task of a process. It calls ``end()`` when the process terminates, also because the node stops."""

    def __init__(self, end: Callable[[], None]) -> None:
        self._end = end

    def cancel(self) -> None:
        """The process has terminated."""
        self._end()


class Outbox:
    """Numbers messages by key, and keeps each until its holder has acknowledged it. ``node.outbox(...)`` opens one.

    The holder of a key is ``pg.owner(group, key)``, which is an :class:`Inbox` with the same name, or the process that
    holds the shard of the key. If it is lost, what it has not acknowledged is sent to the next one, in order. So each
    message arrives at least once, and a receiver that gets one twice drops it. What is kept here is lost with the node.

    It works until :meth:`close`, or until the node stops. Its messages to one key keep their order.
    """

    def __init__(
        self,
        runtime: Runtime,
        holders: Holders,
        name: str | bytes,
        *,
        to: bytes | None = None,
        credit: int = CREDIT,
        on_refused: Callable[[Refusal], object] | None = None,
    ) -> None:
        """``to`` is the name that the receivers have, if it is not that of the outbox."""
        own_name = checked_name(name, "an outbox")
        checked_count(credit, f"credit is a whole number from 1 to {MAX_CREDIT:,}", 1, MAX_CREDIT)
        if on_refused is not None and not callable(on_refused):
            raise TypeError(f"on_refused is a function of a refusal, not {on_refused!r}")
        self.name = own_name.decode("utf-8", "backslashreplace")
        self._runtime = runtime
        self._holders = holders
        self._on_refused = on_refused or self._log_refusal
        self._process = runtime.spawn_handler(self._handle)
        wait_without_task(self._process, AtEnd(self._end))
        self.source: Source = (runtime.atom, runtime.random.getrandbits(62), own_name)
        """The node, the life and the name: the receivers see it with each message."""
        self._book = OutboxBook(credit)
        self._sender = MessageSender(runtime, self._process, self._book)
        self._here = runtime.atom
        self._delivery = runtime.state.delivery
        self._head = _HEAD + encode_term(PUT) + encode_term(own_name if to is None else to)
        self._source_bytes = encode_term(self.source)
        self._waiting: dict[Pid | None, deque[Wait]] = {}
        """The calls of ``put`` that wait for credit, by holder."""
        self._flushing: list[Wait] = []
        self._puts_left = PUTS_PER_TURN
        self._probe_timer: asyncio.TimerHandle | None = None
        self._unwatch = holders.watch(self._holders_changed)

    @property
    def pid(self) -> Pid:
        """The process to which receivers answer."""
        return self._process.pid

    # What users call

    async def put(self, key: str | bytes, message: SendableTerm, *, wait: bool = True) -> int:
        """Keep ``message`` for the holder of ``key``, send it, and return its number among those of the key.

        When this returns, the message is kept *here*: it is lost if this node dies. :meth:`flushed` waits until all are
        kept *there*. The holder gets it in the form that another node would get: a ``str`` as ``bytes``, a ``dict`` as
        a ``Map``, also if it is on this node.

        If ``credit`` messages are kept for the holder, this waits until it has acknowledged one; with ``wait=False`` it
        raises :class:`Full` instead. Messages that are put one after the other arrive in that order.

        Raises ``ValueError`` if the message has more than 64 KiB when it is encoded, or the key more than 1,024 bytes,
        ``EncodeError`` if it is not a term, and :class:`OutboxClosed` after the end.
        """
        data = encode_term(message)
        if len(data) > MESSAGE_LIMIT:
            raise ValueError(
                f"a message has at most {MESSAGE_LIMIT:,} bytes when it is encoded, and this one has {len(data):,}: "
                "put several smaller ones"
            )
        book, at = self._book, key_bytes(key)
        stream = book.find(at) or self._add_stream(at)
        holder = stream.holder if stream.messages else book.holder(self._holders.holder_of(at, stream.bucket))
        if holder.kept >= book.credit or self._waiting or not self._process.alive:
            stream, holder = await self._wait_for_room(at, wait)
        number = book.put(stream, holder, data)
        if self._probe_timer is None:
            self._probe_timer = asyncio.get_running_loop().call_later(PROBE_INTERVAL, self._probe)
        self._sender.send_ready(holder)
        self._puts_left -= 1
        if self._puts_left <= 0:
            self._puts_left = PUTS_PER_TURN
            await asyncio.sleep(0)
        return number

    async def flushed(self, timeout: float | None = None) -> None:
        """Wait until each message that was put is acknowledged, or refused.

        Raises TimeoutError after ``timeout`` seconds, and :class:`OutboxClosed` if the outbox ends before.
        """
        async with asyncio.timeout(timeout):
            while self._book.kept:
                self._require_open()
                waiter = self._runtime.create_wait()
                self._flushing.append(waiter)
                try:
                    await waiter
                finally:
                    if waiter in self._flushing:
                        self._flushing.remove(waiter)

    def waiting(self) -> dict[Pid | None, int]:
        """The number of messages that are kept for each holder, by its pid. None stands for keys without a holder."""
        return self._book.waiting()

    @property
    def kept(self) -> int:
        """The number of messages that are neither acknowledged nor refused."""
        return self._book.kept

    @property
    def replays(self) -> int:
        """The number of messages that were sent once more."""
        return self._book.replays

    def close(self) -> None:
        """End the outbox. What is not acknowledged is forgotten, with a line in the log: call :meth:`flushed` first."""
        self._process.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Room

    def _add_stream(self, key: bytes) -> Stream:
        if len(key) > KEY_LIMIT:
            raise ValueError(f"a key has at most {KEY_LIMIT:,} bytes, not {len(key):,}: use a digest of it")
        label = self._head + encode_term(key) + self._source_bytes
        return self._book.add_stream(key, self._holders.bucket_of(key), label)

    def _require_open(self) -> None:
        if not self._process.alive:
            raise OutboxClosed(f"the outbox {self.name} has ended")

    async def _wait_for_room(self, key: bytes, wait: bool) -> tuple[Stream, Holder]:
        """Wait until one more message may be kept for the holder of a key, in turn. Return the stream and it."""
        book, is_next = self._book, False
        while True:
            self._require_open()
            stream = book.find(key) or self._add_stream(key)
            holder = stream.holder if stream.messages else book.holder(self._holders.holder_of(key, stream.bucket))
            queue = self._waiting.get(holder.pid)
            if book.has_room(holder) and (is_next or not queue):
                return stream, holder
            if not wait:
                raise Full(f"{holder.kept:,} messages are kept for {holder.pid or 'keys without a holder'}")
            if queue is None:
                queue = self._waiting[holder.pid] = deque()
            waiter = self._runtime.create_wait()
            queue.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter in queue:
                    queue.remove(waiter)
                else:  # It was woken and cancelled in the same iteration of the event loop: wake another one.
                    self._wake_puts(holder)
                self._forget_queue(holder.pid, queue)
                raise
            self._forget_queue(holder.pid, queue)
            is_next = True

    def _forget_queue(self, pid: Pid | None, queue: deque[Wait]) -> None:
        if not queue and self._waiting.get(pid) is queue:
            del self._waiting[pid]

    def _wake_puts(self, holder: Holder) -> None:
        queue = self._waiting.get(holder.pid)
        room = self._book.credit - holder.kept
        while queue and room > 0:
            waiter = queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                room -= 1

    def _wake_all(self) -> None:
        """Holders have changed, or the outbox has ended: each call looks again."""
        for queue in list(self._waiting.values()):
            while queue:
                queue.popleft().set_result(None)
        self._waiting.clear()

    def _wake_flushed(self) -> None:
        waiting, self._flushing = self._flushing, []
        for waiter in waiting:
            waiter.set_result(None)

    def _probe(self) -> None:
        self._probe_timer = None
        if self._process.alive and self._book.kept:
            self._sender.probe()
            self._probe_timer = asyncio.get_running_loop().call_later(PROBE_INTERVAL, self._probe)

    # What arrives

    def _holders_changed(self, bucket: Any) -> None:
        holder_of = self._holders.holder_of
        for holder in self._book.move(bucket, lambda key: holder_of(key, bucket)):
            self._sender.send_ready(holder)
        self._wake_all()

    def _handle(self, message: Term) -> None:
        if not is_answer(message) or message[3] != self.source:
            peer = self._delivery.message_peer or self._here
            peer_log.write(
                logging.WARNING, "message_ignored", peer.name, "an outbox ignored the message %s", ForeignText(message)
            )
            return
        book = self._book
        tag, _, key, _, number = message[:5]
        if not book.is_from_holder(key, self._delivery.message_peer or self._here):
            return
        holder: Holder | None = None
        refusal: Refusal | None = None
        if tag is ACK:
            holder = book.acknowledged(key, number)
        elif tag is WAIT:
            holder = book.wait(key, number)
        elif tag is GO:
            holder = book.go(key, number)
        elif tag is REFUSED and (found := book.refused(key, number)) is not None:
            holder, data = found
            refusal = Refusal(key, decode_term(data, 0)[0], message[-1])
        if holder is not None:
            if holder.ready:
                self._sender.send_ready(holder)
            if self._waiting:
                self._wake_puts(holder)
            if self._flushing and not book.kept:
                self._wake_flushed()
        if refusal is not None:  # At the end: the function is the user's, and may raise.
            self._on_refused(refusal)

    def _log_refusal(self, refusal: Refusal) -> None:
        peer = self._delivery.message_peer or self._here
        text = "a message of the outbox %s with the key %s was refused: %s"
        reason, key = refusal.reason, ForeignText(refusal.key)
        peer_log.write(
            logging.WARNING, "outbox_refused", peer.name, text, self.name, key, ForeignText(reason), reason=reason
        )

    def _end(self) -> None:
        """The process has ended: nothing is sent or acknowledged any more."""
        self._unwatch()
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        self._sender.close()
        if self._book.kept:
            log.warning(
                "outbox_unfinished",
                "the outbox %s ends with %d messages that are not acknowledged",
                self.name,
                self._book.kept,
                count=self._book.kept,
            )
        self._wake_all()
        self._wake_flushed()
