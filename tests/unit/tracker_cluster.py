"""Books of a tracker shard on several nodes, with a network that delays, reorders, loses and partitions."""

from __future__ import annotations

import heapq
from itertools import count
from random import Random

from erlmesh.core.phoenix_tracker.entries import Entry
from erlmesh.core.phoenix_tracker.shard_book import Broadcast, Changed, Direct, Ignored, ShardBook, TrackerSettings
from erlmesh.etf import decode, encode
from erlmesh.terms import Atom, Map, Pid, exact_key

PHX_REF, PHX_REF_PREV = Atom("phx_ref"), Atom("phx_ref_prev")
SETTINGS = TrackerSettings(down_period=30.0, permdown_period=300.0)


def shown(entry: Entry) -> tuple:
    """What a list shows of an entry, hashable."""
    return (entry.pid, entry.topic, exact_key(entry.key), entry.meta[PHX_REF])


class TrackerNode:
    """One life of one node. ``listed`` is what follows from the reported changes."""

    def __init__(self, cluster: TrackerCluster, name: str, *, speaks: bool) -> None:
        self.cluster = cluster
        self.name = Atom(name)
        self.speaks = speaks
        self.alive = True
        ref = (self.name, next(cluster.vsns))
        self.book = ShardBook(ref, cluster.settings, cluster.now, speaks=speaks, make_id=lambda: next(cluster.ids))
        self.listed: dict[tuple, int] = {}
        self.pids = count(1)

    def pid(self) -> Pid:
        return Pid(self.name, next(self.pids), 0, self.book.ref[1] & 0xFFFF)

    def meta(self, **fields: object) -> Map:
        return Map({PHX_REF: b"%d" % next(self.cluster.refs), **{Atom(name): value for name, value in fields.items()}})

    def track(self, topic: bytes = b"lobby", key: object = b"k", pid: Pid | None = None) -> Entry:
        entry = Entry(pid or self.pid(), topic, key, self.meta())
        self.apply(self.book.track(entry))
        return entry

    def update(self, entry: Entry) -> Entry:
        new = entry._replace(meta=Map({PHX_REF: b"%d" % next(self.cluster.refs), PHX_REF_PREV: entry.meta[PHX_REF]}))
        self.apply(self.book.update(new))
        return new

    def untrack(self, entry: Entry) -> None:
        self.apply(self.book.untrack(entry.pid, entry.topic, entry.key))

    def own(self) -> list[Entry]:
        book = self.book.state
        return [entry for entry in self.everything() if book.own(entry.pid, entry.topic, entry.key) == entry]

    def everything(self) -> list[Entry]:
        state = self.book.state
        return [entry for topic in state.topics() for entry in state.list(topic)]

    def apply(self, effects: list) -> None:
        for effect in effects:
            match effect:
                case Broadcast(message):
                    for other in self.cluster.nodes.values():
                        if other is not self:
                            self.cluster.post(self.name, other.name, message)
                case Direct(node, message):
                    self.cluster.post(self.name, node, message)
                case Changed(changes):
                    for entry in changes.leaves:
                        times = self.listed[shown(entry)] - 1
                        self.listed[shown(entry)] = times
                        if not times:
                            del self.listed[shown(entry)]
                    for entry in changes.joins:
                        self.listed[shown(entry)] = self.listed.get(shown(entry), 0) + 1
                case Ignored(reason):
                    raise AssertionError(reason)


class TrackerCluster:
    def __init__(self, seed: int = 0, *, settings: TrackerSettings = SETTINGS, loss: float = 0.0) -> None:
        self.random = Random(seed)
        self.settings = settings
        self.loss = loss
        self.now = 1000.0
        self.nodes: dict[Atom, TrackerNode] = {}
        self.vsns, self.ids, self.refs, self.order = count(1_000_000, 1000), count(), count(), count()
        self.cuts: set[frozenset[Atom]] = set()
        self.events: list[tuple] = []
        self.delay = (0.001, 0.1)

    def start(self, name: str, *, speaks: bool = True) -> TrackerNode:
        node = self.nodes[Atom(name)] = TrackerNode(self, name, speaks=speaks)
        self._at(self.now + self.random.uniform(0, 0.4), ("beat", node))
        return node

    def kill(self, node: TrackerNode) -> None:
        """The node is gone, and nobody is told."""
        node.alive = False
        if self.nodes.get(node.name) is node:
            del self.nodes[node.name]

    def stop(self, node: TrackerNode) -> None:
        node.apply(node.book.end())
        self.kill(node)

    def post(self, sender: Atom, to: Atom, message: object) -> None:
        if frozenset((sender, to)) in self.cuts or self.random.random() < self.loss:
            return
        self._at(self.now + self.random.uniform(*self.delay), ("message", sender, to, encode(message)))

    def _at(self, when: float, what: tuple) -> None:
        heapq.heappush(self.events, (when, next(self.order), what))

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        end = self.now + seconds
        while self.events and self.events[0][0] <= end:
            self.now, _, what = heapq.heappop(self.events)
            if what[0] == "beat":
                if what[1].alive:
                    what[1].apply(what[1].book.beat(self.now))
                    self._at(self.now + self.settings.broadcast_period, what)
            else:
                _, sender, to, data = what
                if (node := self.nodes.get(to)) is not None:
                    node.apply(node.book.receive(decode(data), self.now, lambda name: name is sender))  # noqa: B023
        self.now = end

    def expected(self) -> list[tuple]:
        """What each node has to list: the entries of the nodes that live, as these see them."""
        return sorted((shown(entry) for node in self.nodes.values() if node.speaks for entry in node.own()), key=repr)

    def assert_equal(self) -> None:
        wanted = self.expected()
        for node in self.nodes.values():
            assert sorted(map(shown, node.everything()), key=repr) == wanted, f"the list of {node.name}"
            assert sorted((each for each, n in node.listed.items() for _ in range(n)), key=repr) == wanted, (
                f"the changes of {node.name}"
            )
