"""The inboxes of the shards that a node holds, and the answers to their sources."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from erlmesh.core.sharding.inbox_book import Entry, InboxBook
from erlmesh.core.sharding.messages import REFUSED
from erlmesh.terms import Atom, Pid, Term

__all__ = ["ShardInboxes"]

FORGET_AFTER: Final = 3_600.0
"""Seconds after which the numbers of a lost node are forgotten."""


class ShardInboxes:
    """One inbox for each shard that is held. ``send(to, message)`` sends an answer."""

    def __init__(self, name: bytes, send: Callable[[Pid, Term], None]) -> None:
        self._name = name
        self._send = send
        self._open: dict[int, InboxBook] = {}
        self._closed = InboxBook(acts=False)
        """Answers what comes for other shards: the source is to wait for another holder."""
        self._at_act: dict[int, list[Term]] = {}
        """The last numbers when a shard began to act, until they may be acknowledged."""
        self._withheld: list[tuple[int, Entry, int]] = []
        """Acknowledgements that wait because too many results do."""
        self._timers: set[asyncio.TimerHandle] = set()

    def open(self, shard: int) -> InboxBook:
        """The inbox of a shard that is held. It takes nothing before :meth:`begin`."""
        inbox = self._open.get(shard)
        if inbox is None:
            inbox = self._open[shard] = InboxBook(acts=False)
        return inbox

    def find(self, shard: int) -> InboxBook | None:
        """The inbox of a shard, if it is held."""
        return self._open.get(shard)

    def put_elsewhere(self, source: tuple[Atom, int, bytes], key: bytes, number: int, sender: Pid) -> None:
        """A message has come for a shard that is not held."""
        self._closed.put(source, key, number, sender)

    def close(self, shard: int) -> None:
        """The shard is held no longer. Call this before others hear of it: answers of a former holder do not count."""
        inbox = self._open.pop(shard, None)
        if inbox is not None:
            self._answer(inbox)
        self._at_act.pop(shard, None)
        self._withheld = [each for each in self._withheld if each[0] != shard]

    def end(self) -> None:
        """Nothing is held any more, and no timer is left."""
        for timer in self._timers:
            timer.cancel()
        self._open.clear()
        self._at_act.clear()
        self._withheld.clear()

    # What the book of a shard says

    def begin(self, shard: int, numbers: list[Term]) -> None:
        """Take messages from now on. ``numbers`` are the last ones of the state: (source, key, number)."""
        self._at_act[shard] = numbers
        inbox = self.open(shard)
        inbox.merge(numbers, settled=False)
        inbox.begin()

    def pause(self, shard: int) -> None:
        """Take nothing until the next :meth:`begin`."""
        self.open(shard).end()

    def settle_begin(self, shard: int) -> None:
        """The numbers of the last :meth:`begin` may be acknowledged."""
        self.open(shard).merge(self._at_act.pop(shard, []), settled=True)

    def settle(self, shard: int, entry: Entry, number: int, *, withhold: bool) -> None:
        """A message may be acknowledged, or later: with ``withhold``, after :meth:`release`."""
        if withhold or self._withheld:
            self._withheld.append((shard, entry, number))
        elif shard in self._open:
            self._open[shard].settle(entry, number)

    def release(self) -> Iterable[int]:
        """Acknowledge what was withheld. Return the shards."""
        withheld, self._withheld = self._withheld, []
        for shard, entry, number in withheld:
            self._open[shard].settle(entry, number)
        return dict.fromkeys(shard for shard, _, _ in withheld)

    # Answers, and nodes that come and go

    def answer(self, shards: Iterable[int]) -> None:
        """Send what is due for these shards, and for those that are not held."""
        self._answer(self._closed)
        for shard in shards:
            if shard in self._open:
                self._answer(self._open[shard])

    def _answer(self, inbox: InboxBook) -> None:
        if not inbox.has_answers():
            return
        for to, tag, source, key, number, reason in inbox.take_answers():
            answer = (tag, self._name, key, source, number)
            self._send(to, (*answer, reason) if tag is REFUSED else answer)

    def node_up(self, node: Atom) -> None:
        """A node is connected."""
        for inbox in (self._closed, *self._open.values()):
            inbox.node_up(node)

    def node_down(self, node: Atom) -> None:
        """A node is lost. Its sources are forgotten after some time."""
        loop = asyncio.get_running_loop()
        for inbox in (self._closed, *self._open.values()):
            inbox.node_down(node, loop.time())
        self._timers = {each for each in self._timers if each.when() > loop.time()}
        self._timers.add(loop.call_later(FORGET_AFTER + 1, self._forget))

    def _forget(self) -> None:
        for inbox in (self._closed, *self._open.values()):
            inbox.forget(asyncio.get_running_loop().time(), FORGET_AFTER)
