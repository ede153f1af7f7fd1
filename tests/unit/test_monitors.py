"""The monitor table: every monitor ends with one DOWN signal, or with none if it was removed."""

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erlmesh.core.monitors import MonitorEntry, Monitors
from erlmesh.proto.control import Demonitor, Down, Monitor
from erlmesh.terms import Atom, Pid, Ref

A, B, C = Atom("a@h"), Atom("b@h"), Atom("c@h")
NAME, NORMAL, NOPROC, NOCONNECTION = Atom("server"), Atom("normal"), Atom("noproc"), Atom("noconnection")
P, Q = Pid(A, 64, 0, 1), Pid(A, 65, 0, 1)
X, Y, Z = Pid(B, 64, 0, 1), Pid(B, 65, 0, 1), Pid(C, 64, 0, 1)


def ref(n, node=A):
    return Ref(node, 1, (n, 0, 0))


@pytest.fixture
def monitors():
    return Monitors(A)


def assert_empty(monitors):
    assert len(monitors) == 0
    assert not any(table for name, table in vars(monitors).items() if name != "_node")


def test_a_monitor_signal_names_the_target_as_the_origin_did(monitors):
    assert monitors.monitor(P, X, B, ref(1)) == Monitor(P, X, ref(1))
    assert monitors.monitor(P, NAME, B, ref(2)) == Monitor(P, NAME, ref(2))


def test_a_down_signal_ends_the_monitor_and_names_the_target_as_the_origin_did(monitors):
    monitors.monitor(P, X, B, ref(1))
    monitors.monitor(P, NAME, B, ref(2))

    by_pid, by_name = monitors.down_received(ref(1), B), monitors.down_received(ref(2), B)

    assert (by_pid, by_name) == (MonitorEntry(P, X, B), MonitorEntry(P, NAME, B))
    assert (by_pid.down_object(), by_name.down_object()) == (X, (NAME, B))
    assert monitors.down_received(ref(1), B) is None
    assert_empty(monitors)


def test_a_down_signal_of_a_third_node_is_ignored(monitors):
    monitors.monitor(P, X, B, ref(1))

    assert monitors.down_received(ref(1), C) is None
    assert monitors.down_received(ref(1), A) is None
    assert monitors.down_received(ref(1), B) == MonitorEntry(P, X, B)


def test_a_removed_monitor_gets_no_down_signal(monitors):
    monitors.monitor(P, X, B, ref(1))

    assert monitors.demonitor(P, ref(1)) == (MonitorEntry(P, X, B), Demonitor(P, X, ref(1)))
    assert monitors.down_received(ref(1), B) is None
    assert monitors.demonitor(P, ref(1)) is None
    assert_empty(monitors)


def test_a_process_cannot_remove_the_monitor_of_another(monitors):
    monitors.monitor(P, X, B, ref(1))

    assert monitors.demonitor(Q, ref(1)) is None
    assert monitors.down_received(ref(1), B) == MonitorEntry(P, X, B)


def test_all_origins_get_a_down_signal_that_names_the_target_as_they_did(monitors):
    monitors.monitor_received(P, Monitor(Q, P, ref(1)))
    monitors.monitor_received(P, Monitor(X, NAME, ref(1, B)))
    monitors.monitor_received(Q, Monitor(X, Q, ref(2, B)))

    assert monitors.monitored_by(P) == [Q, X]
    assert monitors.process_exited(P, NORMAL) == ([Down(P, Q, ref(1), NORMAL), Down(NAME, X, ref(1, B), NORMAL)], [])
    assert monitors.monitored_by(P) == []
    assert monitors.monitored_by(Q) == [X]


def test_the_monitors_of_a_process_that_exits_are_removed(monitors):
    monitors.monitor(P, X, B, ref(1))
    monitors.monitor(P, NAME, C, ref(2))
    monitors.monitor(Q, X, B, ref(3))

    assert monitors.process_exited(P, NORMAL) == (
        [],
        [(MonitorEntry(P, X, B), Demonitor(P, X, ref(1))), (MonitorEntry(P, NAME, C), Demonitor(P, NAME, ref(2)))],
    )
    assert len(monitors) == 1


def test_a_process_that_monitors_itself_leaves_no_entry(monitors):
    monitors.monitor_received(P, monitors.monitor(P, P, A, ref(1)))

    downs, demonitors = monitors.process_exited(P, NORMAL)

    assert downs == [Down(P, P, ref(1), NORMAL)]
    assert [demonitor for _, demonitor in demonitors] == [Demonitor(P, P, ref(1))]
    assert_empty(monitors)


def test_an_origin_removes_its_monitor(monitors):
    monitors.monitor_received(P, Monitor(X, P, ref(1, B)))

    monitors.demonitor_received(ref(1, B), X)
    monitors.demonitor_received(ref(1, B), X)

    assert_empty(monitors)


def test_a_demonitor_of_another_origin_is_ignored(monitors):
    monitors.monitor_received(P, Monitor(X, P, ref(1, B)))

    monitors.demonitor_received(ref(1, B), Y)
    monitors.demonitor_received(ref(1, B), Z)

    assert monitors.monitored_by(P) == [X]


def test_a_monitor_with_a_reference_in_use_is_ignored(monitors):
    monitors.monitor_received(P, Monitor(X, P, ref(1, B)))

    monitors.monitor_received(Q, Monitor(Z, Q, ref(1, B)))

    assert monitors.monitored_by(Q) == []
    assert monitors.process_exited(P, NORMAL)[0] == [Down(P, X, ref(1, B), NORMAL)]
    assert_empty(monitors)


def test_a_lost_node_is_removed_in_both_directions(monitors):
    monitors.monitor(P, X, B, ref(1))
    monitors.monitor(Q, NAME, B, ref(2))
    monitors.monitor(Q, Z, C, ref(3))
    monitors.monitor_received(P, Monitor(X, P, ref(1, B)))
    monitors.monitor_received(P, Monitor(Z, P, ref(1, C)))

    downs = list(monitors.connection_lost(B, NOCONNECTION))

    assert downs == [Down(X, P, ref(1), NOCONNECTION), Down(NAME, Q, ref(2), NOCONNECTION)]
    assert monitors.monitored_by(P) == [Z]
    assert [monitors.down_received(down.ref, B) for down in downs] == [MonitorEntry(P, X, B), MonitorEntry(Q, NAME, B)]
    assert list(monitors.connection_lost(B, NOCONNECTION)) == []
    assert len(monitors) == 2


class Cluster:
    """Two nodes of three processes each, and the two signal streams between them."""

    def __init__(self):
        self.tables = (Monitors(A), Monitors(B))
        self.pids = tuple([Pid(node, 64 + i, 0, 1) for i in range(3)] for node in (A, B))
        self.alive = {pid for pids in self.pids for pid in pids}
        self.queues = (deque(), deque())
        self.refs = {}  # ref: origin, of monitors that have not ended
        self.demonitors = set()
        self.downs = Counter()

    def monitor(self, side, p, q):
        if p in self.alive:
            new = ref(len(self.refs) + 1, p.node)
            self.refs[new] = p
            self.queues[1 - side].append(self.tables[side].monitor(p, q, q.node, new))

    def demonitor(self, side, p, _):
        for old in [ref for ref, origin in self.refs.items() if origin == p and p in self.alive][-1:]:
            ended = self.tables[side].demonitor(p, old)
            assert (ended is None) == (old in self.demonitors or self.downs[old] > 0)
            self.demonitors.add(old)
            if ended is not None:
                self.queues[1 - side].append(ended[1])

    def die(self, side, p, _):
        if p in self.alive:
            self.alive.discard(p)
            downs, demonitors = self.tables[side].process_exited(p, NORMAL)
            self.queues[1 - side].extend([*downs, *(demonitor for _, demonitor in demonitors)])

    def lose(self, *_):
        for queue in self.queues:
            queue.clear()
        for side in (0, 1):
            for down in self.tables[side].connection_lost((B, A)[side], NOCONNECTION):
                self.receive_down(side, down)

    def receive_down(self, side, down):
        entry = self.tables[side].down_received(down.ref, (B, A)[side])
        if entry is not None:
            assert down.ref not in self.demonitors, "a DOWN arrived after demonitor had returned"
            assert entry.origin in self.alive
            self.downs[down.ref] += 1

    def deliver(self, side, *_):
        if not self.queues[side]:
            return
        table = self.tables[side]
        match signal := self.queues[side].popleft():
            case Monitor() if signal.target in self.alive:
                table.monitor_received(signal.target, signal)
            case Monitor():
                self.queues[1 - side].append(Down(signal.target, signal.sender, signal.ref, NOPROC))
            case Demonitor():
                table.demonitor_received(signal.ref, signal.sender)
            case Down():
                self.receive_down(side, signal)

    def settle(self):
        while any(self.queues):
            for side in (0, 1):
                self.deliver(side)


ACTS = st.tuples(
    st.sampled_from(["monitor"] * 4 + ["demonitor"] * 2 + ["deliver"] * 6 + ["die", "lose"]),
    st.integers(0, 1), st.integers(0, 2), st.integers(0, 2),
)  # fmt: skip


@pytest.mark.slow
@given(st.lists(ACTS, max_size=60))
@settings(max_examples=400, deadline=None)
def test_in_any_order_a_monitor_ends_with_one_down_or_none_if_it_is_removed(acts):
    cluster = Cluster()
    for act, side, i, j in acts:
        getattr(cluster, act)(side, cluster.pids[side][i], cluster.pids[1 - side][j])

    cluster.settle()

    a, b = cluster.tables
    for one, other in ((a, b), (b, a)):
        assert one._origins.keys() == other._target_by_ref.keys(), "half a monitor"
    for x in cluster.pids[1]:
        cluster.die(1, x, None)
    cluster.settle()
    for old, origin in cluster.refs.items():
        if origin in cluster.pids[0] and origin in cluster.alive:
            assert cluster.downs[old] + (old in cluster.demonitors) >= 1
    for p in cluster.pids[0]:
        cluster.die(0, p, None)
    cluster.settle()
    assert_empty(a)
    assert_empty(b)
    assert max(cluster.downs.values(), default=0) <= 1
