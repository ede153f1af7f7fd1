"""What an outbox keeps, for which holder, and what it sends next. No I/O.

The messages of one key are numbered from 1 and are kept until the holder has acknowledged them::

    put ──▶ kept ──▶ sent ──▶ acknowledged, or refused: forgotten
             ▲        │
             └────────┴── the key has another holder, or the holder says `wait`

The first ``sent`` messages of a key are with its holder, the others follow. So the order of the numbers is the order in
which they are sent, also when they are sent again. A key that the holder has told to wait is *paused* until `go`, or
until it has another holder.

Each holder has a credit: at most so many messages are sent to it and not acknowledged, over all keys. ``put`` accepts
at most so many that are kept for it. When a holder is lost, its messages go to others. Those may then have more to
keep than their credit, but never get more than it.

A *bucket* is what moves together: a shard, or None if each key has a holder of its own.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from erlmesh.terms import Atom, Pid

__all__ = ["IDLE_LIMIT", "Holder", "OutboxBook", "Send", "Stream"]

IDLE_LIMIT: Final = 4_096
"""Streams without messages that are kept as they are. Of older ones only the next number is kept."""
_HOLE: Final = b""
"""Stands for a message that was refused. No encoded term is empty."""

Send: TypeAlias = "tuple[Stream, int, bytes]"
"""The stream, the number and the message to send."""


class Stream:
    """The messages of one key. ``label`` belongs to the caller."""

    __slots__ = ("base", "bucket", "holder", "key", "label", "messages", "paused", "probed", "progressed", "sent")

    def __init__(self, key: bytes, bucket: Any, holder: Holder, label: bytes) -> None:
        self.key = key
        self.bucket = bucket
        self.holder = holder
        self.label = label
        self.base = 1
        """The number of the first message that is kept, or of the next one."""
        self.messages: deque[bytes] = deque()
        self.sent = 0
        """How many of the messages are with the holder: always the first ones."""
        self.paused = False
        self.progressed = True
        """Something has happened since the last look at what stands still."""
        self.probed = False
        """A message was sent although the stream is paused."""


class Holder:
    """A process that messages go to. ``pid`` is None for those that nobody holds now."""

    __slots__ = ("kept", "pid", "ready", "sent")

    def __init__(self, pid: Pid | None) -> None:
        self.pid = pid
        self.kept = 0
        """Messages that are kept for it."""
        self.sent = 0
        """Those of them that were sent."""
        self.ready: OrderedDict[Stream, None] = OrderedDict()
        """The streams that have a message to send. The first one is removed often, which is slow in a dict."""


class OutboxBook:
    """The messages of one outbox. The caller sends what :meth:`next_send` returns, and tells what is answered.

    ``credit`` is a number of messages. Messages are bytes that are not empty. ``replays`` counts those that were sent
    once more, ``probes`` those of them that :meth:`probe` has returned.
    """

    def __init__(self, credit: int) -> None:
        self.credit = credit
        self.replays = 0
        self.probes = 0
        self.kept = 0
        """All messages that are neither acknowledged nor refused."""
        self._streams: dict[bytes, Stream] = {}
        self._idle: OrderedDict[Stream, None] = OrderedDict()
        """The streams without messages. The one that has had some last is the last one."""
        self._next_numbers: dict[bytes, int] = {}
        """Of the keys that have no stream any more."""
        self._active: dict[Any, dict[Stream, None]] = {}
        """The streams with messages, by bucket."""
        self._holders: dict[Pid | None, Holder] = {}
        self._highest: dict[bytes, int] = {}
        """The greatest number that was ever sent, of the streams that were sent again and are not beyond it yet."""

    # What the user does

    def find(self, key: bytes) -> Stream | None:
        """The stream of a key. None if the key is new, or was not used for a long time.

        A stream without messages may be forgotten at any other call: find it again.
        """
        return self._streams.get(key)

    def add_stream(self, key: bytes, bucket: Any, label: bytes) -> Stream:
        """Add a stream for a key that has none. It has no holder yet."""
        stream = self._streams[key] = Stream(key, bucket, self.holder(None), label)
        stream.base = self._next_numbers.pop(key, 1)
        self._add_idle(stream)
        return stream

    def _add_idle(self, stream: Stream) -> None:
        self._idle[stream] = None
        if len(self._idle) > IDLE_LIMIT:
            oldest, _ = self._idle.popitem(last=False)
            del self._streams[oldest.key]
            self._next_numbers[oldest.key] = oldest.base

    def holder(self, pid: Pid | None) -> Holder:
        """The entry of a holder."""
        found = self._holders.get(pid)
        if found is None:
            found = self._holders[pid] = Holder(pid)
        return found

    def has_room(self, holder: Holder) -> bool:
        """Whether one more message may be kept for the holder."""
        return holder.kept < self.credit

    def put(self, stream: Stream, holder: Holder, message: bytes) -> int:
        """Keep a message for ``holder`` and return its number. The caller has asked :meth:`has_room`."""
        if stream.holder is not holder:
            self._assign(stream, holder)
        messages = stream.messages
        if not messages:
            stream.progressed = True
            del self._idle[stream]
            self._active.setdefault(stream.bucket, {})[stream] = None
        messages.append(message)
        holder.kept += 1
        self.kept += 1
        if not stream.paused:
            holder.ready[stream] = None
        return stream.base + len(messages) - 1

    # What is sent

    def next_send(self, holder: Holder) -> Send | None:
        """Return the next message for a holder, as sent. None if there is none, or no credit is left.

        The streams take turns.
        """
        ready = holder.ready
        while ready and holder.sent < self.credit:
            stream, _ = ready.popitem(last=False)
            index, messages = stream.sent, stream.messages
            while index < len(messages) and messages[index] is _HOLE:
                index += 1
            stream.sent = index
            if index >= len(messages):
                continue
            stream.sent = index + 1
            holder.sent += 1
            if index + 1 < len(messages):
                ready[stream] = None
            number = stream.base + index
            if self._highest:
                self._count_replay(stream, number)
            return stream, number, messages[index]
        return None

    def _count_replay(self, stream: Stream, number: int) -> None:
        highest = self._highest.get(stream.key)
        if highest is not None:
            if number <= highest:
                self.replays += 1
            if number >= highest:
                del self._highest[stream.key]

    def probe(self) -> list[Send]:
        """Return the first message of each stream that stands still since the last call, to be sent once more.

        This is the safety net if an answer is lost. Call it every few seconds while something is kept.
        """
        found: list[Send] = []
        for streams in self._active.values():
            for stream in streams:
                if not stream.progressed and (stream.sent or stream.paused) and stream.holder.pid is not None:
                    found.append((stream, stream.base, stream.messages[0]))  # The first one is never a hole.
                    stream.probed = stream.paused
                stream.progressed = False
        self.replays += len(found)
        self.probes += len(found)
        return found

    # What is answered

    def acknowledged(self, key: bytes, number: int) -> Holder | None:
        """Forget the messages up to ``number``. Return the holder that has got credit back, None if none has.

        A number that was never given is ignored, and so is one that is known already.
        """
        stream = self._streams.get(key)
        if stream is None:
            return None
        messages = stream.messages
        count = number - stream.base + 1
        if not 0 < count <= len(messages):
            return None
        stream.progressed = True
        self._drop(stream, count)
        if stream.probed and stream.paused:  # It takes messages again, and its `go` was lost.
            self._resume(stream)
        return stream.holder

    def refused(self, key: bytes, number: int) -> tuple[Holder, bytes] | None:
        """Forget one message. Return the holder, which has got credit back, and the message. None if it is unknown."""
        stream = self._streams.get(key)
        if stream is None:
            return None
        index = number - stream.base
        if not 0 <= index < len(stream.messages) or stream.messages[index] is _HOLE:
            return None
        stream.progressed = True
        message = stream.messages[index]
        stream.messages[index] = _HOLE
        stream.holder.kept -= 1
        self.kept -= 1
        if index < stream.sent:
            stream.holder.sent -= 1
        count = 0
        while count < len(stream.messages) and stream.messages[count] is _HOLE:
            count += 1
        self._drop(stream, count)
        return stream.holder, message

    def wait(self, key: bytes, last: int) -> Holder | None:
        """The holder takes nothing of this key now. Return it: the others of its keys have got credit back.

        What it has, up to ``last``, stays sent.
        """
        stream = self._streams.get(key)
        if stream is None or not stream.messages or stream.paused:
            return None
        stream.paused = stream.progressed = True
        stream.probed = False
        stream.holder.ready.pop(stream, None)
        self._unsend(stream, max(0, last - stream.base + 1))
        return stream.holder

    def go(self, key: bytes, last: int) -> Holder | None:
        """The holder takes messages of this key again, from ``last`` + 1 on. Return it. None if that is not new."""
        stream = self._streams.get(key)
        if stream is None or not stream.messages or not stream.paused:
            return None
        stream.progressed = True
        there = min(max(0, last - stream.base + 1), len(stream.messages))
        self._unsend(stream, there)
        # What it has got elsewhere counts as sent, as far as the credit allows. The rest is sent once more.
        holder = stream.holder
        while stream.sent < there and holder.sent < self.credit:
            holder.sent += stream.messages[stream.sent] is not _HOLE
            stream.sent += 1
        self._resume(stream)
        return holder

    def _resume(self, stream: Stream) -> None:
        stream.paused = stream.probed = False
        if stream.sent < len(stream.messages):
            stream.holder.ready[stream] = None

    # Who holds what

    def move(self, bucket: Any, holder_of: Callable[[bytes], Pid | None]) -> list[Holder]:
        """The keys of a bucket may have other holders. Return the holders that have got messages.

        Those messages are sent again, in order. A holder that was lost and comes back is another one: call this for
        each of the two changes.
        """
        gained: dict[Holder, None] = {}
        for stream in self._active.get(bucket, ()):
            holder = self.holder(holder_of(stream.key))
            if holder is not stream.holder:
                self._assign(stream, holder)
                gained[holder] = None
        self._forget_holders()
        return list(gained)

    def waiting(self) -> dict[Pid | None, int]:
        """The number of messages that are kept for each holder."""
        return {pid: holder.kept for pid, holder in self._holders.items() if holder.kept}

    def sent_to(self) -> dict[Pid | None, int]:
        """The number of messages that each holder has and has not acknowledged."""
        return {pid: holder.sent for pid, holder in self._holders.items() if holder.sent}

    def _assign(self, stream: Stream, holder: Holder) -> None:
        self._unsend(stream, 0)
        before, kept = stream.holder, len(stream.messages) - stream.messages.count(_HOLE)
        before.ready.pop(stream, None)
        before.kept -= kept
        holder.kept += kept
        stream.holder = holder
        stream.progressed = True
        self._resume(stream)

    def _unsend(self, stream: Stream, stays: int) -> None:
        """All but the first ``stays`` messages are to be sent again."""
        if stream.sent <= stays:
            return
        highest = stream.base + stream.sent - 1
        self._highest[stream.key] = max(highest, self._highest.get(stream.key, 0))
        while stream.sent > stays:
            stream.sent -= 1
            stream.holder.sent -= stream.messages[stream.sent] is not _HOLE

    def _drop(self, stream: Stream, count: int) -> None:
        """Forget the first messages of a stream."""
        messages, holder = stream.messages, stream.holder
        stream.base += count
        for _ in range(count):
            if messages.popleft() is not _HOLE:
                holder.kept -= 1
                self.kept -= 1
                if stream.sent:
                    holder.sent -= 1
            if stream.sent:
                stream.sent -= 1
        if not messages:
            holder.ready.pop(stream, None)
            stream.paused = stream.probed = False
            active = self._active[stream.bucket]
            del active[stream]
            if not active:
                del self._active[stream.bucket]
            self._add_idle(stream)
        if self._highest and self._highest.get(stream.key, stream.base) < stream.base:
            del self._highest[stream.key]

    def _forget_holders(self) -> None:
        for pid, holder in list(self._holders.items()):
            if not holder.kept and pid is not None:
                del self._holders[pid]

    def is_from_holder(self, key: bytes, node: Atom) -> bool:
        """Whether an answer from ``node`` about a key comes from the node of its holder.

        A process that held the key before may answer late. What it says of messages that were sent again to another
        one must not count: the other one would miss numbers that are forgotten here.
        """
        stream = self._streams.get(key)
        return stream is not None and stream.holder.pid is not None and stream.holder.pid.node is node
