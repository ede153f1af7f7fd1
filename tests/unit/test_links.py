"""The link table under every order of link, unlink, exit and loss of a connection."""

from collections import deque

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from erlmesh.core.links import Links
from erlmesh.proto.control import ExitLink, Link, Unlink, UnlinkAck
from erlmesh.terms import Atom, Pid

A, B, C = Atom("a@h"), Atom("b@h"), Atom("c@h")
NORMAL, NOPROC, NOCONNECTION = Atom("normal"), Atom("noproc"), Atom("noconnection")
P, Q = Pid(A, 64, 0, 1), Pid(A, 65, 0, 1)
X, Y, Z = Pid(B, 64, 0, 1), Pid(B, 65, 0, 1), Pid(C, 64, 0, 1)


@pytest.fixture
def links():
    return Links(A)


def assert_empty(links):
    assert (len(links), links._by_pid, links._by_node) == (0, {}, {})


def test_a_link_signal_is_sent_once(links):
    assert links.link(P, X) == [Link(P, X)]
    assert links.link(P, X) == []
    assert links.links_of(P) == [X]


def test_a_link_of_the_peer_counts_like_our_own(links):
    links.link_received(Link(X, P))

    assert links.links_of(P) == [X]
    assert links.link(P, X) == []


def test_an_exit_signal_ends_an_active_link_once(links):
    links.link(P, X)

    assert links.exit_received(P, X)
    assert not links.exit_received(P, X)
    assert_empty(links)


def test_an_exit_signal_without_a_link_is_ignored(links):
    links.link(P, X)

    assert not links.exit_received(P, Y)
    assert not links.exit_received(Q, X)


def test_after_unlink_no_exit_signal_arrives(links):
    links.link(P, X)

    (unlink,) = links.unlink(P, X)

    assert (unlink.sender, unlink.to) == (P, X)
    assert links.links_of(P) == []
    assert not links.exit_received(P, X)


def test_the_ack_ends_an_unlink(links):
    links.link(P, X)
    (unlink,) = links.unlink(P, X)

    links.unlink_ack_received(UnlinkAck(unlink.id, X, P))

    assert_empty(links)


def test_unlink_ids_start_at_one_and_are_unique(links):
    links.link(P, X)
    links.link(P, Y)

    assert [links.unlink(P, other)[0].id for other in (X, Y)] == [1, 2]


def test_unlinking_without_a_link_sends_nothing(links):
    links.link(P, X)
    links.unlink(P, X)

    assert links.unlink(P, X) == []
    assert links.unlink(P, Y) == []
    assert links.unlink(Q, X) == []


def test_a_new_link_while_unlinking_is_sent_and_the_old_ack_does_not_end_it(links):
    links.link(P, X)
    (unlink,) = links.unlink(P, X)

    assert links.link(P, X) == [Link(P, X)]
    links.unlink_ack_received(UnlinkAck(unlink.id, X, P))
    assert links.links_of(P) == [X]


def test_an_ack_of_an_earlier_unlink_does_not_end_a_later_one(links):
    links.link(P, X)
    (first,) = links.unlink(P, X)
    links.link(P, X)
    (second,) = links.unlink(P, X)

    links.unlink_ack_received(UnlinkAck(first.id, X, P))
    assert len(links) == 1
    links.unlink_ack_received(UnlinkAck(second.id, X, P))
    assert_empty(links)


def test_a_link_of_the_peer_that_crosses_our_unlink_is_ended_by_it(links):
    links.link(P, X)
    links.unlink(P, X)

    links.link_received(Link(X, P))

    assert links.links_of(P) == []
    assert not links.exit_received(P, X)


def test_an_unlink_of_the_peer_is_acknowledged_with_its_id_in_every_state(links):
    links.link(P, X)

    assert links.unlink_received(Unlink(9, X, P)) == [UnlinkAck(9, P, X)]
    assert_empty(links)
    assert links.unlink_received(Unlink(9, X, P)) == [UnlinkAck(9, P, X)]


def test_if_both_unlink_each_waits_for_its_own_ack(links):
    links.link(P, X)
    links.unlink(P, X)

    assert links.unlink_received(Unlink(9, X, P)) == [UnlinkAck(9, P, X)]
    assert len(links) == 1


def test_an_unlink_without_an_id_is_not_acknowledged(links):
    links.link(P, X)

    assert links.unlink_received(Unlink(None, X, P)) == []
    assert_empty(links)


def test_a_process_that_exits_sends_exit_signals_over_its_active_links_only(links):
    for other in (Q, X, Y, Z):
        links.link(P, other)
    links.unlink(P, Y)

    assert links.process_exited(P, NORMAL) == [ExitLink(P, other, NORMAL) for other in (Q, X, Z)]
    assert_empty(links)
    assert links.process_exited(P, NORMAL) == []


def test_a_lost_node_ends_its_own_links_only(links):
    for other in (Q, X, Y, Z):
        links.link(P, other)
    links.link(Q, X)
    links.unlink(P, Y)

    exits = list(links.connection_lost(B, NOCONNECTION))

    assert exits == [ExitLink(X, P, NOCONNECTION), ExitLink(X, Q, NOCONNECTION)]
    assert all(links.exit_received(said.to, said.sender) for said in exits)
    assert links.links_of(P) == [Q, Z]
    assert list(links.connection_lost(B, NOCONNECTION)) == []


def test_a_process_that_unlinks_on_the_first_exit_of_a_lost_node_gets_no_second(links):
    links.link(P, X)
    links.link(P, Y)
    first, second = links.connection_lost(B, NOCONNECTION)

    assert links.exit_received(P, first.sender)
    links.unlink(P, second.sender)

    assert not links.exit_received(P, second.sender)


# Two tables and the two signal streams between them


class Cluster:
    """Two nodes of three processes each. A LINK under way carries how many of the receiver's unlinks its sender had
    heard: with all of them it makes a link, with fewer the receiver has ended that link already.
    """

    def __init__(self):
        self.tables = (Links(A), Links(B))
        self.pids = tuple([Pid(node, 64 + i, 0, 1) for i in range(3)] for node in (A, B))
        self.alive = {pid for pids in self.pids for pid in pids}
        self.queues = (deque(), deque())  # to a, to b
        self.unlinks = {}  # (local, other): the number of unlinks by local
        self.heard = {}  # (local, other): the number of unlinks by other that local has received
        self.unlinked = set()  # (local, other) whose exit signals must not arrive

    def send(self, side, signals):
        for signal in signals:
            self.queues[1 - side].append((signal, self.heard.get((signal.sender, signal.to), 0)))

    def link(self, side, p, q):
        if p in self.alive:
            self.unlinked.discard((p, q))
            self.send(side, self.tables[side].link(p, q))

    def unlink(self, side, p, q):
        if p in self.alive:
            signals = self.tables[side].unlink(p, q)
            self.unlinks[p, q] = self.unlinks.get((p, q), 0) + len(signals)
            self.unlinked.add((p, q))
            self.send(side, signals)

    def die(self, side, p, _):
        if p in self.alive:
            self.alive.discard(p)
            self.send(side, self.tables[side].process_exited(p, NORMAL))

    def lose(self, *_):
        for queue in self.queues:
            queue.clear()
        for side in (0, 1):
            for said in self.tables[side].connection_lost((B, A)[side], NOCONNECTION):
                assert said.to in self.alive
                self.exit(side, said)
        self.unlinks.clear()
        self.heard.clear()

    def exit(self, side, said):
        if self.tables[side].exit_received(said.to, said.sender):
            assert (said.to, said.sender) not in self.unlinked, "an exit arrived after unlink had returned"

    def deliver(self, side, *_):
        if not self.queues[side]:
            return
        table = self.tables[side]
        signal, heard = self.queues[side].popleft()
        p, q = signal.to, signal.sender
        match signal:
            case Link() if p not in self.alive:
                self.send(side, [ExitLink(p, q, NOPROC)])
            case Link():
                if heard == self.unlinks.get((p, q), 0):
                    self.unlinked.discard((p, q))
                table.link_received(signal)
            case Unlink():
                self.heard[p, q] = self.heard.get((p, q), 0) + 1
                self.send(side, table.unlink_received(signal))
            case UnlinkAck():
                table.unlink_ack_received(signal)
            case ExitLink() if p in self.alive:
                self.exit(side, signal)

    def settle(self):
        while any(self.queues):
            for side in (0, 1):
                self.deliver(side)


ACTS = st.tuples(
    st.sampled_from(["link"] * 3 + ["unlink"] * 3 + ["deliver"] * 6 + ["die", "lose"]),
    st.integers(0, 1), st.integers(0, 2), st.integers(0, 2),
)  # fmt: skip


@pytest.mark.slow
@given(st.lists(ACTS, max_size=60))
@example([("link", 0, 0, 0), ("deliver", 1, 0, 0), ("unlink", 1, 0, 0), ("link", 1, 0, 0), ("unlink", 0, 0, 0)])
@settings(max_examples=400, deadline=None)
def test_in_any_order_no_half_link_is_left_and_no_exit_arrives_after_unlink(acts):
    cluster = Cluster()
    for act, side, i, j in acts:
        getattr(cluster, act)(side, cluster.pids[side][i], cluster.pids[1 - side][j])

    cluster.settle()

    a, b = cluster.tables
    for p in cluster.pids[0]:
        for x in cluster.pids[1]:
            assert (x in a.links_of(p)) == (p in b.links_of(x)), "half a link"
    assert len(a) == len(b) == sum(len(a.links_of(p)) for p in cluster.pids[0]), "an unlink that waits for ever"
    for side in (0, 1):
        for pid in cluster.pids[side]:
            cluster.die(side, pid, None)
    cluster.settle()
    assert_empty(a)
    assert_empty(b)


@given(st.lists(ACTS, max_size=40), st.booleans())
@settings(deadline=None)
def test_after_a_last_link_both_ends_are_linked(acts, side):
    cluster = Cluster()
    for act, on, i, j in acts:
        if act != "die":
            getattr(cluster, act)(on, cluster.pids[on][i], cluster.pids[1 - on][j])
    cluster.settle()
    p, q = cluster.pids[side][0], cluster.pids[1 - side][0]

    cluster.link(side, p, q)
    cluster.settle()

    assert q in cluster.tables[side].links_of(p)
    assert p in cluster.tables[1 - side].links_of(q)
