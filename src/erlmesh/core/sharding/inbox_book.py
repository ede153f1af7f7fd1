"""What an inbox has got: the last number of each source and key, and what it has to answer. No I/O.

::

    a number comes                        verdict
    ────────────────                      ───────
    the first one, or the last + 1        it is taken; later it is settled, or refused
    the last one, or less                 a duplicate: the acknowledgement is sent again
    more                                  numbers are missing: `wait`, then `go` with the last number
    any, while the inbox takes nothing    `wait`, and `go` when it does

`wait` and `go` are said once per run. A *run* is what the source has sent before it has heard `wait`. Its numbers
follow each other, so a number that does not follow is the begin of what the source sends again. Whatever that is, it is
taken: the source has forgotten the numbers before it, because a holder before this one has acknowledged them. If
another holder has acknowledged all of the run, what the source sends next looks like a part of it. Holders change only
when the group does. So after such a change both are said once more: see :meth:`InboxBook.group_changed`.

An acknowledgement is for a number and all before it. So :meth:`InboxBook.take_answers` has one per source and key,
however many messages were settled since its last call.

A source is forgotten when its node has been gone for some time. Each node has a limit of its own for the pairs of
source and key that are remembered: above it, the node's own pair that was not used for longest is forgotten.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, TypeAlias

from erlmesh.core.sharding.messages import ACK, GO, KEY_LIMIT, NUMBER_LIMIT, REFUSED, WAIT, Source, is_source
from erlmesh.terms import Atom, Pid, Term

__all__ = ["ENTRY_LIMIT", "OPEN_LIMIT", "Entry", "InboxAnswer", "InboxBook"]

ENTRY_LIMIT: Final = 65_536
"""Pairs of source and key that are remembered for each node."""
OPEN_LIMIT: Final = 131_072
"""Messages of one node that are taken and not settled. A source that respects its credit has far less."""

InboxAnswer: TypeAlias = "tuple[Pid, Atom, Source, bytes, int, Term]"
"""To whom, the tag, the source, the key, the number, and the reason of a refusal (else None)."""


class Entry:
    """One source with one key."""

    __slots__ = ("_early", "key", "last", "repeats", "run", "sender", "settled", "source", "started", "used")

    def __init__(self, source: Source, key: bytes, sender: Pid | None) -> None:
        self.source = source
        self.key = key
        self.sender = sender
        """The process to answer. None until the source sends something here."""
        self.started = False
        """A number was taken, here or at a holder before."""
        self.last = 0
        """The greatest number that was taken."""
        self.settled = 0
        """This number and all before it are settled."""
        self._early: set[int] = set()
        """Settled numbers above the first one that is not."""
        self.run = 0
        """The greatest number of the run that is dropped. 0 if none is."""
        self.repeats = False
        """The next number of the run is answered with `wait` and `go`."""
        self.used = True

    def start(self, number: int) -> None:
        """Take ``number``. The source has nothing before it."""
        if not self.started or number > self.last + 1:
            self.started = True
            self.settled = number - 1
            self._early.clear()
        self.last = number

    def settle(self, number: int) -> bool:
        """Return whether more is settled in a row than before."""
        if number != self.settled + 1:
            if self.settled < number <= self.last:
                self._early.add(number)
            return False
        self.settled = number
        early = self._early
        while early and self.settled + 1 in early:
            self.settled += 1
            early.remove(self.settled)
        return True

    def settle_to(self, number: int) -> bool:
        """Settle a number and all before it. Return whether more is settled in a row than before."""
        if number <= self.settled:
            return False
        self._early = {early for early in self._early if early > number}
        self.settled = number - 1
        return self.settle(number)

    def settle_all(self) -> None:
        self.settled = self.last
        self._early.clear()


class _Node:
    """The entries of the sources of one node."""

    __slots__ = ("entries", "gone_since", "held", "open", "runs")

    def __init__(self) -> None:
        self.entries: OrderedDict[tuple[Source, bytes], Entry] = OrderedDict()
        """The first one is removed often, which is slow in a dict."""
        self.gone_since: float | None = None
        self.held: dict[Entry, None] = {}
        """Those that were told to wait, and not yet to go."""
        self.runs: dict[Entry, None] = {}
        """Those of which a run is dropped."""
        self.open = 0
        """Messages that are taken and neither settled nor refused."""


class InboxBook:
    """The numbers of one inbox, or of one shard. ``acts`` says whether it takes messages from the start."""

    def __init__(self, *, acts: bool = True, entry_limit: int = ENTRY_LIMIT, open_limit: int = OPEN_LIMIT) -> None:
        self.acts = acts
        self._entry_limit = entry_limit
        self._open_limit = open_limit
        self._nodes: dict[Atom, _Node] = {}
        self._changed: dict[Entry, None] = {}
        """The entries whose acknowledgement is due."""
        self._answers: list[InboxAnswer] = []
        self.duplicates = 0
        self.forgotten = 0
        """Entries that were forgotten because their node has too many."""

    def __len__(self) -> int:
        return sum(len(node.entries) for node in self._nodes.values())

    # What sources send

    def put(self, source: Source, key: bytes, number: int, sender: Pid) -> Entry | None:
        """Return the entry if the message is to be taken now, else None. The caller settles or refuses it later."""
        node = self._nodes.get(source[0])
        if node is None:
            node = self._nodes[source[0]] = _Node()
        entry = node.entries.get((source, key))
        if entry is None:
            entry = self._add(node, source, key)
        entry.sender = sender
        entry.used = True
        begins = False
        if entry.run:
            begins = number <= entry.run
            # If the run has no new number, nothing is missing, and what follows it may be taken.
            if not begins and (entry.run > entry.last or not self.acts):
                entry.run = number  # The source has not heard `wait` yet.
                if entry.repeats:
                    self._say_again(node, entry)
                return None
        if not self.acts or node.open >= self._open_limit:
            self._wait(node, entry, number)
            return None
        if entry.run:
            entry.run = 0
            del node.runs[entry]
        if entry.started and number <= entry.last:
            self.duplicates += 1
            self._changed[entry] = None
            return None
        if entry.started and number > entry.last + 1 and not begins:
            self._wait(node, entry, number)
            self._go(node, entry)
            return None
        if number == entry.last + 1 and entry.started:
            entry.last = number
        else:
            entry.start(number)
        node.open += 1
        return entry

    def _wait(self, node: _Node, entry: Entry, number: int) -> None:
        entry.run = number
        entry.repeats = False
        node.held[entry] = node.runs[entry] = None
        self._answer(entry, WAIT, entry.last)

    def _go(self, node: _Node, entry: Entry) -> None:
        node.held.pop(entry, None)
        self._answer(entry, GO, entry.last)
        self._changed[entry] = None  # The source does not send again what is here, so it must hear that it is settled.

    def _say_again(self, node: _Node, entry: Entry) -> None:
        self._wait(node, entry, entry.run)
        self._go(node, entry)

    def _answer(self, entry: Entry, tag: Atom, number: int, reason: Term = None) -> None:
        if entry.sender is not None:
            self._answers.append((entry.sender, tag, entry.source, entry.key, number, reason))

    def _add(self, node: _Node, source: Source, key: bytes) -> Entry:
        if len(node.entries) >= self._entry_limit:
            self._forget_one(node)
        entry = node.entries[source, key] = Entry(source, key, None)
        return entry

    def _forget_one(self, node: _Node) -> None:
        """Forget an entry that was not used since the last time it was looked at."""
        entries = node.entries
        while True:
            at, entry = entries.popitem(last=False)
            if not entry.used:
                break
            entry.used = False
            entries[at] = entry
        node.held.pop(entry, None)
        node.runs.pop(entry, None)
        self.forgotten += 1

    # What the receiver does

    def settle(self, entry: Entry, number: int) -> None:
        """A message that was taken is done. Each one is settled or refused once, in any order."""
        self._closed(entry)
        if entry.settle(number):
            self._changed[entry] = None

    def refuse(self, entry: Entry, number: int, reason: Term) -> None:
        """A message that was taken is refused, with a term that says why. The source does not send it again."""
        self._answer(entry, REFUSED, number, reason)  # Before an acknowledgement that includes the number.
        self.settle(entry, number)

    def _closed(self, entry: Entry) -> None:
        node = self._nodes.get(entry.source[0])
        if node is None or not node.open:
            return
        node.open -= 1
        if node.held and self.acts and node.open == self._open_limit // 2:
            for held in list(node.held):
                self._go(node, held)

    @property
    def open(self) -> int:
        """The messages that are taken, and neither settled nor refused."""
        return sum(node.open for node in self._nodes.values())

    def settle_all(self) -> None:
        """All that was taken is done, and is acknowledged to the sources that have sent something here."""
        for node in self._nodes.values():
            node.open = 0
            for entry in node.entries.values():
                entry.settle_all()
                if entry.sender is not None:
                    self._changed[entry] = None

    def begin(self) -> None:
        """Take messages from now on. All that were told to wait are told to go."""
        self.acts = True
        for node in self._nodes.values():
            for entry in list(node.held):
                self._go(node, entry)

    def group_changed(self) -> None:
        """Sources may have other holders now: say `wait` and `go` again for each run, now and with its next number.

        A source that has heard them before sends again a little more than it must.
        """
        for node in self._nodes.values():
            for entry in node.runs:
                if self.acts and entry not in node.held:
                    self._say_again(node, entry)
                    entry.repeats = True

    def end(self) -> None:
        """Take no messages from now on."""
        self.acts = False

    def has_answers(self) -> bool:
        """Whether :meth:`take_answers` has something."""
        return bool(self._changed or self._answers)

    def take_answers(self) -> list[InboxAnswer]:
        """Return what is to be sent now."""
        answers, self._answers = self._answers, []
        for entry in self._changed:
            if entry.settled and entry.sender is not None:
                answers.append((entry.sender, ACK, entry.source, entry.key, entry.settled, None))
        self._changed.clear()
        return answers

    # Nodes of sources

    def node_up(self, node: Atom) -> None:
        """The node of sources is connected."""
        found = self._nodes.get(node)
        if found is not None:
            found.gone_since = None

    def node_down(self, node: Atom, now: float) -> None:
        """The connection to a node is lost. Its sources are remembered: they may come back and send again."""
        found = self._nodes.get(node)
        if found is not None:
            found.gone_since = now
            found.held.clear()  # They send again when they come back.
            for entry in found.runs:
                entry.run = 0
            found.runs.clear()

    def forget(self, now: float, after: float) -> None:
        """Forget the sources of the nodes that have been gone for ``after`` seconds, and have nothing open."""
        for name, node in list(self._nodes.items()):
            if node.gone_since is not None and now - node.gone_since >= after and not node.open:
                del self._nodes[name]

    # The numbers as terms: part of a shard's state

    def dump(self) -> list[tuple[Source, bytes, int]]:
        """The last number of each source and key."""
        return [
            (entry.source, entry.key, entry.last)
            for node in self._nodes.values()
            for entry in node.entries.values()
            if entry.started
        ]

    def merge(self, numbers: Iterable[Term], *, settled: bool) -> None:
        """Take over what :meth:`dump` of another book has returned. The greater last number counts.

        With ``settled`` such a number is acknowledged at once to a source that has sent something here, else after
        :meth:`settle_all` or a second call. Raises ``ValueError`` for a term of another form.
        """
        for each in numbers:
            if not (
                type(each) is tuple
                and len(each) == 3
                and is_source(each[0])
                and type(each[1]) is bytes
                and len(each[1]) <= KEY_LIMIT
                and type(each[2]) is int
                and 0 < each[2] < NUMBER_LIMIT
            ):
                raise ValueError(f"a last number is (source, key, number), not {each!r:.200}")
            source, key, last = each
            node = self._nodes.setdefault(source[0], _Node())
            entry = node.entries.get((source, key)) or self._add(node, source, key)
            if not entry.started or last > entry.last:
                entry.started = True
                entry.last = last
            if settled and entry.settle_to(last) and entry.sender is not None:
                self._changed[entry] = None
