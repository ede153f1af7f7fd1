"""An outbox and the inboxes of two holders, connected by queues, without time and without nodes.

A script is a list of numbers. Each chooses one step. So a failure shrinks to the shortest script.
"""

from __future__ import annotations

from collections import deque

from erlmesh.core.sharding.inbox_book import InboxBook
from erlmesh.core.sharding.messages import ACK, GO, REFUSED, WAIT
from erlmesh.core.sharding.outbox_book import OutboxBook
from erlmesh.terms import Atom, Pid

__all__ = ["CHOICES", "KEYS", "World"]

CHOICES = 6 * 14
"""The number of different steps."""
SOURCE_PID = Pid(Atom("s@h"), 1, 0, 1)
SOURCE = (Atom("s@h"), 7, b"ticks")
NODES = [Atom("a@h"), Atom("b@h")]
KEYS = [b"x", b"y", b"z"]
CREDIT = 3


class Holder:
    """A process on a node, with the queues of its connection to the source. Each key has a book, as a shard has."""

    def __init__(self, node, number, *, acts=True):
        self.pid = Pid(node, number, 0, 1)
        self.books = {key: InboxBook(acts=acts) for key in KEYS}
        self.requests = deque()
        self.answers = deque()
        self.open = []
        self.taken = {key: [] for key in KEYS}
        self.is_member = True


class World:
    """``stateful``: the numbers move with a key, as they do with the state of a shard."""

    def __init__(self, *, stateful):
        self.stateful = stateful
        self.book = OutboxBook(CREDIT)
        self.holders = [Holder(node, 1, acts=not (stateful and index)) for index, node in enumerate(NODES)]
        self.owner = dict.fromkeys(KEYS, 0)
        self.numbers = dict.fromkeys(KEYS, 0)
        self.settled = {key: set() for key in KEYS}
        self.restarts = 1

    def holder_of(self, key):
        owner = self.owner[key]
        holder = None if owner is None else self.holders[owner]
        return holder.pid if holder is not None and holder.is_member else None

    def step(self, choice):
        holder, key = self.holders[choice % 2], KEYS[choice // 2 % 3]
        steps = [self.put, self.put, self.request, self.request, self.answer, self.answer, self.settle, self.settle]
        steps += [self.move, self.lose, self.join, self.restart, self.toggle, self.settle_newest]
        steps[choice // 6 % len(steps)](holder, key)
        self.pump()
        self.check()

    def put(self, _, key):
        stream = self.book.find(key) or self.book.add_stream(key, None, b"")
        entry = stream.holder if stream.messages else self.book.holder(self.holder_of(key))
        if self.book.has_room(entry):
            self.numbers[key] += 1
            assert self.book.put(stream, entry, b"%d" % self.numbers[key]) == self.numbers[key]

    def pump(self):
        for holder in self.holders:
            entry = self.book.holder(holder.pid)
            while (send := self.book.next_send(entry)) is not None:
                stream, number, message = send
                assert message == b"%d" % number
                holder.requests.append((stream.key, number))

    def request(self, holder, _):
        if holder.requests:
            key, number = holder.requests.popleft()
            entry = holder.books[key].put(SOURCE, key, number, SOURCE_PID)
            if entry is not None:
                holder.taken[key].append(number)
                holder.open.append((entry, key, number))
            self.collect(holder)

    def collect(self, holder):
        for book in holder.books.values():
            holder.answers.extend(book.take_answers())

    def answer(self, holder, _):
        if holder.answers:
            _, tag, _, key, number, _ = holder.answers.popleft()
            if self.book.is_from_holder(key, holder.pid.node):
                handler = {
                    ACK: self.book.acknowledged,
                    WAIT: self.book.wait,
                    GO: self.book.go,
                    REFUSED: self.book.refused,
                }
                handler[tag](key, number)

    def settle(self, holder, _, index=0):
        if holder.open:
            entry, key, number = holder.open.pop(index)
            self.settled[key].add(number)
            if number % 5 == 3:
                holder.books[key].refuse(entry, number, b"no")
            else:
                holder.books[key].settle(entry, number)
            self.collect(holder)

    def settle_newest(self, holder, key):
        if not self.stateful:
            self.settle(holder, key, -1)

    def move(self, _, key):
        if self.stateful:  # The state moves when all of it is settled.
            old = self.holders[self.owner[key]]
            while old.open:
                self.settle(old, key)
            self.owner[key] = 1 - self.owner[key]
            new = self.holders[self.owner[key]]
            old.books[key].end()
            new.books[key].merge(old.books[key].dump(), settled=True)
            new.books[key].begin()
            self.collect(new)
        else:
            self.owner[key] = {0: 1, 1: None, None: 0}[self.owner[key]]
        self.book.move(None, self.holder_of)

    def lose(self, holder, _):
        """The connection breaks: what is on its way is lost, and the source sees that the member has left."""
        holder.requests.clear()
        holder.answers.clear()
        holder.is_member = False
        for book in holder.books.values():
            book.node_down(SOURCE[0], 0.0)
        self.book.move(None, self.holder_of)

    def join(self, holder, _):
        holder.is_member = True
        for book in holder.books.values():
            book.node_up(SOURCE[0])
        self.book.move(None, self.holder_of)

    def restart(self, holder, key):
        if not self.stateful:
            self.lose(holder, key)
            self.restarts += 1
            self.holders[self.holders.index(holder)] = Holder(holder.pid.node, self.restarts)
            self.book.move(None, self.holder_of)

    def toggle(self, holder, key):
        book = holder.books[key]
        if book.acts:
            book.end()
        else:
            self.begin(holder, key)

    def begin(self, holder, key):
        if not self.stateful or self.holders[self.owner[key]] is holder:
            holder.books[key].begin()
            self.collect(holder)

    def check(self):
        assert all(sent <= CREDIT for sent in self.book.sent_to().values())
        for holder in self.holders:
            for numbers in holder.taken.values():
                assert numbers == sorted(set(numbers))
        for key in KEYS:
            stream = self.book.find(key)
            acknowledged = set(range(1, stream.base)) if stream else set()
            assert acknowledged <= self.settled[key]

    def finish(self):
        """No faults any more. Everything arrives, and no probe is needed."""
        for holder in self.holders:
            self.join(holder, None)
        for key in KEYS:
            for holder in self.holders:
                self.begin(holder, key)
            if self.owner[key] is None:
                self.move(None, key)
        for _ in range(2_000):
            self.pump()
            for holder in self.holders:
                for work in (self.request, self.settle, self.answer):
                    work(holder, None)
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
