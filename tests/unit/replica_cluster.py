"""Books of one shard on several nodes, with links that keep order, a source that sends again, and a count of faults."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random

from erlmesh.core.sharding.keeper import Merge, Origin
from erlmesh.core.sharding.replica_book import Phase, ReplicaBook
from erlmesh.core.sharding.replica_effects import (
    Act,
    Confirmed,
    Ignored,
    JoinCopies,
    LeaveCopies,
    LeaveHolders,
    Lost,
    Out,
    Pause,
    Send,
    Settled,
)
from erlmesh.etf import decode, encode
from erlmesh.terms import Atom, Pid, Term

KEYS = (b"k0", b"k1", b"k2")
ONE, TWO = ((Atom(f"{name}@host"), 1, b"ticks") for name in ("one", "two"))
"""Two sources."""
PAIRS = [(source, key) for source in (ONE, TWO) for key in KEYS]


class Numbers:
    """A keeper of the numbers that it has got. It fails if a number comes twice."""

    all_or_nothing = True

    def new(self, _key: bytes) -> dict[Term, list[int]]:
        return {}

    def apply(self, state: dict[Term, list[int]], message: Term, at: Origin) -> list[Term]:
        if message == b"bad":
            raise ValueError("a bad message")
        numbers = state.setdefault(at.source, [])
        assert at.number not in numbers, f"{at.number} of {at.key!r} was applied twice"
        numbers.append(at.number)
        return [(at.key, at.number, message)]

    def merge(self, ours: dict[Term, list[int]], theirs: dict[Term, list[int]]) -> dict[Term, list[int]]:
        return {source: sorted({*ours.get(source, ()), *theirs.get(source, ())}) for source in {**ours, **theirs}}

    def dump(self, state: dict[Term, list[int]]) -> Iterable[Term]:
        for source, numbers in state.items():
            for number in numbers:
                yield (source, number)

    def load(self, pieces: Iterable[Term]) -> dict[Term, list[int]]:
        state: dict[Term, list[int]] = {}
        for source, number in pieces:  # type: ignore[misc, union-attr]
            state.setdefault(source, []).append(number)
        return state


class KeeperNode:
    """One life of a node."""

    def __init__(self, cluster: KeeperCluster, rank: int) -> None:
        self.cluster = cluster
        self.rank = rank
        self.life = next(cluster.lives)
        self.pid = Pid(Atom(f"n{rank}@host"), self.life, 0, 1)
        self.alive = True
        self.stopping = False
        self.members: dict[str, dict[Pid, None]] = {"keeps": {self.pid: None}, "holders": {}, "copies": {}}
        self.book: ReplicaBook = ReplicaBook(
            b"cep", 7, self.pid, cluster.make_keeper(), backups=cluster.backups, merge=cluster.merge
        )
        self.settled: dict[tuple, int] = {}
        """Up to which number of each source and key this holder may acknowledge."""
        self.at_act: dict[tuple, int] = {}
        self.lost = 0
        self.log: list[str] = []

    def __repr__(self) -> str:
        return f"<n{self.rank}.{self.life} {self.book.phase.value}>"

    @property
    def holds(self) -> bool:
        return self.pid in self.members["holders"]

    # Groups

    def change(self, group: str, pid: Pid, joined: bool) -> None:
        """A change of a group arrives, of this node or another."""
        members = self.members[group]
        if (pid in members) == joined:
            return
        if joined:
            members[pid] = None
        else:
            del members[pid]
        if pid != self.pid:
            if group == "holders":
                (self.book.holder_joined if joined else self.book.holder_left)(pid)
            elif group == "copies":
                (self.book.copy_joined if joined else self.book.copy_left)(pid)
        if group == "keeps":
            self.book.candidates(self.ranked())
        self.perform()
        self.decide()

    def ranked(self) -> list[Pid]:
        return sorted(self.members["keeps"], key=self.cluster.rank_of)

    def decide(self) -> None:
        """The rule of a shard: take it if this node is the best one and nobody holds it."""
        ranked = self.ranked()
        if self.alive and ranked and ranked[0] == self.pid and not self.members["holders"]:
            self.join("holders")
            self.book.take()
            self.perform()

    def join(self, group: str) -> None:
        self.members[group][self.pid] = None
        self.cluster.tell(self, group, joined=True)

    def leave(self, group: str) -> None:
        self.members[group].pop(self.pid, None)
        self.cluster.tell(self, group, joined=False)

    # Effects

    def perform(self) -> None:
        for effect in self.book.take_effects():
            match effect:
                case Send(to, message):
                    self.cluster.send(self, to, message)
                case JoinCopies():
                    self.join("copies")
                case LeaveCopies():
                    self.leave("copies")
                case LeaveHolders():
                    self.leave("holders")
                case Act():
                    self.settled = {}
                    self.at_act = {(source, key): self.book.store.last(key, source) for source, key in PAIRS}
                case Settled():
                    for pair, last in self.at_act.items():
                        self.settled[pair] = max(self.settled.get(pair, 0), last)
                case Confirmed(key, source, number, _):
                    self.settled[source, key] = max(self.settled.get((source, key), 0), number)
                case Out(key, source, number, results):
                    self.cluster.result(key, source, number, results)
                case Lost(_, count, _):
                    self.lost += count
                case Ignored(_, reason, _):
                    self.log.append(reason)
                case Pause():
                    pass
        self.cluster.acknowledge(self)

    def put(self, source: Term, key: bytes, number: int) -> None:
        """A message of a source arrives."""
        last = self.book.store.last(key, source)
        if not self.book.is_acting:
            return
        if number <= last:
            self.cluster.acknowledge(self)
        elif number == last + 1 or last == 0:
            self.book.apply(key, source, number, b"message", 1_000)
            self.perform()


class KeeperCluster:
    """Nodes named by their rank: 0 is the best. Each pair of nodes has a link for each direction, which keeps order."""

    def __init__(
        self,
        ranks: Iterable[int] = (),
        *,
        backups: int = 1,
        make_keeper: Callable[[], object] = Numbers,
        merge: Merge | None = None,
        seed: int = 0,
    ) -> None:
        self.random = Random(seed)
        self.backups = backups
        self.make_keeper = make_keeper
        self.merge = merge
        self.lives = iter(range(1, 1_000_000))
        self.nodes: dict[int, KeeperNode] = {}
        self.all: dict[Pid, KeeperNode] = {}
        self.links: dict[tuple[Pid, Pid], deque] = {}
        self.cut_links: set[tuple[int, int]] = set()
        """One-way cuts by rank: what is sent waits there."""
        self.sent: dict[tuple, int] = dict.fromkeys(PAIRS, 0)
        self.acked: dict[tuple, int] = dict.fromkeys(PAIRS, 0)
        self.reach: dict[Term, set[int]] = {}
        """The nodes that a source reaches, if it does not reach all."""
        self.results: dict[tuple, list[Term]] = {}
        self.results_out = 0
        self.excused = 0
        """Messages up to this number may be lost: all that had them were killed."""
        self.steps = 0
        self.on_step: Callable[[], None] = lambda: None
        for rank in ranks:
            self.start(rank)
            self.run()

    def rank_of(self, pid: Pid) -> int:
        return self.all[pid].rank

    # The network

    def tell(self, node: KeeperNode, group: str, *, joined: bool) -> None:
        for (source, _), queue in self.links.items():
            if source == node.pid:
                queue.append(("group", group, node.pid, joined))

    def send(self, node: KeeperNode, to: Pid, message: Term) -> None:
        link = self.links.get((node.pid, to))
        if link is not None:
            assert len(encode(message)) <= 64 * 1024
            link.append(("message", decode(encode(message))))

    def connect(self, one: KeeperNode, other: KeeperNode) -> None:
        for here, there in ((one, other), (other, one)):
            queue = self.links[here.pid, there.pid] = deque()
            for group in ("holders", "copies", "keeps"):
                if here.pid in here.members[group]:
                    queue.append(("group", group, here.pid, True))

    def disconnect(self, one: KeeperNode, other: KeeperNode, *, lose: bool = False) -> None:
        """The two lose each other. With ``lose``, what is on its way is lost, too."""
        for here, there in ((one, other), (other, one)):
            queue = self.links.get((here.pid, there.pid))
            if queue is not None:
                if lose:
                    queue.clear()
                queue.append(("down", here.pid))

    def start(self, rank: int, *, meets: Iterable[int] | None = None) -> KeeperNode:
        node = KeeperNode(self, rank)
        self.all[node.pid] = node
        others = [self.nodes[each] for each in (self.nodes if meets is None else meets)]
        self.nodes[rank] = node
        for other in others:
            self.connect(node, other)
        if not others:
            node.book.candidates(node.ranked())
            node.decide()
        else:
            # It has listened: it knows the groups before others know of it.
            for other in others:
                for group in ("holders", "copies", "keeps"):
                    if other.pid in other.members[group]:
                        node.members[group][other.pid] = None
                        if group == "holders":
                            node.book.holder_joined(other.pid)
                        elif group == "copies":
                            node.book.copy_joined(other.pid)
            node.book.candidates(node.ranked())
        return node

    def kill(self, rank: int, *, lose: bool = False) -> None:
        node = self.nodes.pop(rank)
        node.alive = False
        for other in self.nodes.values():
            if (node.pid, other.pid) in self.links:
                self.disconnect(node, other, lose=lose)

    def split(self, *sides: Iterable[int], lose: bool = False) -> None:
        groups = [[self.nodes[rank] for rank in side] for side in sides]
        for index, side in enumerate(groups):
            for other in groups[index + 1 :]:
                for one in side:
                    for two in other:
                        self.disconnect(one, two, lose=lose)

    def heal(self) -> None:
        nodes = list(self.nodes.values())
        for index, one in enumerate(nodes):
            for two in nodes[index + 1 :]:
                if (one.pid, two.pid) not in self.links:
                    self.connect(one, two)

    def stop_in_order(self, rank: int) -> None:
        node = self.nodes[rank]
        node.stopping = True
        node.members["keeps"].pop(node.pid, None)
        self.tell(node, "keeps", joined=False)
        node.book.candidates(node.ranked())
        node.perform()

    # Steps

    def step(self) -> bool:
        """Deliver one message of one link, or do one step of work. False if there is nothing to do."""
        choices: list[object] = [
            pair
            for pair, queue in self.links.items()
            if queue
            and self.all[pair[1]].alive
            and (self.rank_of(pair[0]), self.rank_of(pair[1])) not in self.cut_links
        ]
        choices += [node for node in self.nodes.values() if node.book.has_work]
        if not choices:
            return False
        choice = choices[0] if len(choices) == 1 else self.random.choice(choices)
        if isinstance(choice, KeeperNode):
            choice.book.step()
            choice.perform()
        else:
            self._deliver(choice)  # type: ignore[arg-type]
        self.steps += 1
        self.on_step()
        return True

    def _deliver(self, pair: tuple[Pid, Pid]) -> None:
        item = self.links[pair].popleft()
        node = self.all[pair[1]]
        match item:
            case ("group", group, pid, joined):
                node.change(group, pid, joined)
            case ("message", message):
                node.book.receive(message)
                node.perform()
            case ("down", pid):
                del self.links[pair]
                for group in ("keeps", "holders", "copies"):
                    node.change(group, pid, joined=False)

    def run(self, limit: int = 100_000) -> None:
        """Until nothing is on its way."""
        for _ in range(limit):
            if not self.step():
                return
        raise AssertionError("it does not come to rest")

    # The sources

    def put(self, key: bytes = KEYS[0], source: Term = ONE) -> None:
        """Number a message, and send it to the holder."""
        self.sent[source, key] += 1
        self.send_again()

    def send_again(self) -> None:
        """Send all that is not acknowledged to those that act."""
        for node in self.acting():
            for source, key in PAIRS:
                if node.rank in self.reach.get(source, {node.rank}):
                    for number in range(self.acked[source, key] + 1, self.sent[source, key] + 1):
                        node.put(source, key, number)

    def acknowledge(self, node: KeeperNode) -> None:
        for (source, key), number in node.settled.items():
            if node.rank in self.reach.get(source, {node.rank}):
                self.acked[source, key] = max(self.acked[source, key], number)

    def result(self, key: bytes, source: Term, number: int, results: list[Term]) -> None:
        assert self.results.setdefault((key, source, number), results) == results
        self.results_out += 1

    # What must be true

    def acting(self) -> list[KeeperNode]:
        return [node for node in self.nodes.values() if node.book.phase is Phase.ACTING]

    def check(self) -> KeeperNode:
        """At rest: one node acts, with all acknowledged messages, and nobody waits for anything."""
        for _ in range(20):
            self.run()
            self.send_again()
        acting = self.acting()
        assert len(acting) == 1, list(self.nodes.values())
        (node,) = acting
        for source, key in PAIRS:
            entry = node.book.store.keys.get(key)
            numbers = entry.state.get(source, []) if entry is not None else []
            acked, sent = self.acked[source, key], self.sent[source, key]
            assert set(range(1, acked + 1)) <= {*numbers, *range(1, self.excused + 1)}, (source, key, acked, numbers)
            assert acked == sent, (source, key, acked, sent, node.book.backups)
        others = len(self.nodes) - 1
        backups = [pid for pid in node.book.backups if self.all[pid].alive]
        assert len(backups) == min(self.backups, others)
        copies = [each.pid for each in self.nodes.values() if each.book.shelf]
        assert set(copies) == set(backups), (node.book.backups, copies)
        for each in self.nodes.values():
            assert not each.log, each.log
        for pid in backups:
            stores = self.all[pid].book.shelf.stores()
            assert len(stores) == 1, [store.versions for store in stores]
            store = stores[0]
            assert store.versions == node.book.store.versions
            assert {key: entry.state for key, entry in store.keys.items()} == {
                key: entry.state for key, entry in node.book.store.keys.items()
            }
        return node
