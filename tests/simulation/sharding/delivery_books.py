"""An outbox and the inboxes of two holders, connected by queues, without time and without nodes.

A script is a list of numbers. Each chooses one step. So a failure shrinks to the shortest script.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from erlmesh.core.sharding.inbox_book import Entry, InboxAnswer, InboxBook
from erlmesh.core.sharding.messages import ACK, GO, REFUSED, WAIT
from erlmesh.core.sharding.outbox_book import OutboxBook
from erlmesh.terms import Atom, Pid

__all__ = ["CHOICES", "KEYS", "World"]

SOURCE_PID = Pid(Atom("s@h"), 1, 0, 1)
SOURCE = (Atom("s@h"), 7, b"ticks")
NODES = [Atom("a@h"), Atom("b@h")]
KEYS = [b"x", b"y", b"z"]
CREDIT = 3
CHOICES = 6 * 14
"""The number of different steps."""


class Holder:
    """A process on a node, with the queues of its connection to the source. Each key has a book, as a shard has."""

    def __init__(self, node: Atom, number: int, *, acts: bool = True) -> None:
        self.pid = Pid(node, number, 0, 1)
        self.books = {key: InboxBook(acts=acts) for key in KEYS}
        self.requests: deque[tuple[bytes, int]] = deque()
        self.answers: deque[InboxAnswer] = deque()
        self.open: list[tuple[Entry, bytes, int]] = []
        self.taken: dict[bytes, list[int]] = {key: [] for key in KEYS}
        self.is_member = True

    def collect(self) -> None:
        """Send what the books have to answer."""
        for book in self.books.values():
            self.answers.extend(book.take_answers())


class World:
    """``stateful``: the numbers move with a key, as they do with the state of a shard."""

    def __init__(self, *, stateful: bool) -> None:
        self.stateful = stateful
        self.book = OutboxBook(CREDIT)
        self.holders = [Holder(node, 1, acts=not (stateful and index)) for index, node in enumerate(NODES)]
        self.owner: dict[bytes, int | None] = dict.fromkeys(KEYS, 0)
        self.numbers = dict.fromkeys(KEYS, 0)
        self.settled: dict[bytes, set[int]] = {key: set() for key in KEYS}
        self.restarts = 1

    def holder_of(self, key: bytes) -> Pid | None:
        """Who gets the messages of a key, as the source sees it."""
        owner = self.owner[key]
        holder = None if owner is None else self.holders[owner]
        return holder.pid if holder is not None and holder.is_member else None

    def step(self, choice: int) -> None:
        """Do what a number of the script says, and check what must hold."""
        holder, key = self.holders[choice % 2], KEYS[choice // 2 % 3]
        steps: list[Callable[[Holder, bytes], None]]
        steps = [self.put, self.put, self.request, self.request, self.answer, self.answer, self.settle, self.settle]
        steps += [self.move, self.lose, self.join, self.restart, self.toggle, self.settle_newest]
        steps[choice // 6 % len(steps)](holder, key)
        self.pump()
        self.check()

    # Steps

    def put(self, _: Holder, key: bytes) -> None:
        stream = self.book.find(key) or self.book.add_stream(key, None, b"")
        entry = stream.holder if stream.messages else self.book.holder(self.holder_of(key))
        if self.book.has_room(entry):
            self.numbers[key] += 1
            assert self.book.put(stream, entry, b"%d" % self.numbers[key]) == self.numbers[key]

    def pump(self) -> None:
        for holder in self.holders:
            entry = self.book.holder(holder.pid)
            while (send := self.book.next_send(entry)) is not None:
                stream, number, message = send
                assert message == b"%d" % number
                holder.requests.append((stream.key, number))

    def request(self, holder: Holder, _: bytes) -> None:
        if holder.requests:
            key, number = holder.requests.popleft()
            entry = holder.books[key].put(SOURCE, key, number, SOURCE_PID)
            if entry is not None:
                holder.taken[key].append(number)
                holder.open.append((entry, key, number))
            holder.collect()

    def answer(self, holder: Holder, _key: bytes) -> None:
        if holder.answers:
            _to, tag, _source, key, number, _reason = holder.answers.popleft()
            book = self.book
            if book.is_from_holder(key, holder.pid.node):
                handlers: dict[Atom, Callable[[bytes, int], Any]]
                handlers = {ACK: book.acknowledged, WAIT: book.wait, GO: book.go, REFUSED: book.refused}
                handlers[tag](key, number)

    def settle(self, holder: Holder, _: bytes, index: int = 0) -> None:
        if holder.open:
            entry, key, number = holder.open.pop(index)
            self.settled[key].add(number)
            if number % 5 == 3:
                holder.books[key].refuse(entry, number, b"no")
            else:
                holder.books[key].settle(entry, number)
            holder.collect()

    def settle_newest(self, holder: Holder, key: bytes) -> None:
        if not self.stateful:
            self.settle(holder, key, -1)

    def move(self, _: Holder, key: bytes) -> None:
        owner = self.owner[key]
        if self.stateful:
            assert owner is not None
            self.move_state(key, self.holders[owner], self.holders[1 - owner])
            self.owner[key] = 1 - owner
        else:
            self.owner[key] = {0: 1, 1: None, None: 0}[owner]
        self.group_changed()

    def move_state(self, key: bytes, old: Holder, new: Holder) -> None:
        """The state moves when all of it is settled."""
        while old.open:
            self.settle(old, key)
        old.books[key].end()
        new.books[key].merge(old.books[key].dump(), settled=True)
        new.books[key].begin()
        new.collect()

    def group_changed(self) -> None:
        """The source and the holders hear of it, one after the other."""
        self.book.move(None, self.holder_of)
        for holder in self.holders:
            for book in holder.books.values():
                book.group_changed()
            holder.collect()

    def lose(self, holder: Holder, _: bytes) -> None:
        """The connection breaks: what is on its way is lost, and the source sees that the member has left."""
        holder.requests.clear()
        holder.answers.clear()
        holder.is_member = False
        for book in holder.books.values():
            book.node_down(SOURCE[0], 0.0)
        self.group_changed()

    def join(self, holder: Holder, _: bytes) -> None:
        holder.is_member = True
        for book in holder.books.values():
            book.node_up(SOURCE[0])
        self.group_changed()

    def restart(self, holder: Holder, key: bytes) -> None:
        if not self.stateful:
            self.lose(holder, key)
            self.restarts += 1
            self.holders[self.holders.index(holder)] = Holder(holder.pid.node, self.restarts)
            self.group_changed()

    def toggle(self, holder: Holder, key: bytes) -> None:
        """A holder does not act for some time."""
        if holder.books[key].acts:
            holder.books[key].end()
        else:
            self.begin(holder, key)

    def begin(self, holder: Holder, key: bytes) -> None:
        owner = self.owner[key]
        if not self.stateful or (owner is not None and self.holders[owner] is holder):
            holder.books[key].begin()
            holder.collect()

    # What must hold

    def check(self) -> None:
        """No holder has more than the credit, order is kept, and only what was settled is forgotten."""
        assert all(sent <= CREDIT for sent in self.book.sent_to().values())
        for holder in self.holders:
            for numbers in holder.taken.values():
                assert numbers == sorted(set(numbers))
        for key in KEYS:
            stream = self.book.find(key)
            acknowledged = set(range(1, stream.base)) if stream else set()
            assert acknowledged <= self.settled[key]

    def finish(self) -> None:
        """No faults any more. Everything arrives, and no probe is needed."""
        for holder in self.holders:
            self.join(holder, b"")
        for key in KEYS:
            for holder in self.holders:
                self.begin(holder, key)
            if self.owner[key] is None:
                self.move(self.holders[0], key)
        for _ in range(2_000):
            self.pump()
            for holder in self.holders:
                for work in (self.request, self.settle, self.answer):
                    work(holder, b"")
            self.check()
            if not self.book.kept:
                break
        assert self.book.kept == 0
        assert self.book.sent_to() == {}
        assert self.book.waiting() == {}
        for key in KEYS:
            assert self.settled[key] == set(range(1, self.numbers[key] + 1))
            if self.stateful:  # Each one was taken once.
                taken = [number for holder in self.holders for number in holder.taken[key]]
                assert sorted(taken) == list(range(1, self.numbers[key] + 1))
