"""The counters of a node, without I/O."""

from hypothesis import given
from hypothesis import strategies as st

from erlmesh.core.duration_counts import DurationCounts
from erlmesh.core.node_counters import HIDDEN, MAX_REASONS, OTHER, NodeCounters, PeerTotals, word_of
from erlmesh.errors import HandshakeTimeout


def test_a_peer_keeps_its_sums_over_two_connections():
    totals = PeerTotals(2)

    for counts in ([3, 4], [10, 20]):
        totals.ended(totals.connected("a@h", own=True), counts)

    assert totals.sums() == {"a@h": [13, 24]}


def test_a_hidden_peer_that_called_has_no_label_of_its_own():
    totals = PeerTotals(1)

    label = totals.connected("tool@h", own=False)
    totals.ended(label, [7])

    assert (label, totals.sums()) == (HIDDEN, {HIDDEN: [7]})


def test_the_peer_that_is_gone_for_longest_gives_its_label_away():
    totals = PeerTotals(1, limit=2)
    for name in ("a@h", "b@h"):
        totals.connected(name, own=True)
    totals.ended("b@h", [1])
    totals.ended("a@h", [2])

    label = totals.connected("c@h", own=True)

    assert (label, totals.sums()) == ("c@h", {"a@h": [2], "c@h": [0], OTHER: [1]})


def test_a_peer_without_a_free_label_is_among_the_others_until_it_ends():
    totals = PeerTotals(1, limit=1)
    totals.connected("a@h", own=True)

    label = totals.connected("b@h", own=True)
    totals.ended("a@h", [5])
    totals.ended(label, [9])

    assert totals.sums() == {"a@h": [5], OTHER: [9]}


def test_a_connection_that_replaces_another_keeps_the_label_in_use():
    totals = PeerTotals(1, limit=1)
    totals.connected("a@h", own=True)
    totals.connected("a@h", own=True)

    totals.ended("a@h", [1])

    assert totals.connected("b@h", own=True) == OTHER


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.integers(0, 9)), max_size=60))
def test_nothing_is_lost_and_the_labels_are_bounded(steps):
    totals, up, expected = PeerTotals(1, limit=3), {}, 0
    before = {}

    for name, own, count in steps:
        if name in up:
            totals.ended(up.pop(name), [count])
            expected += count
        else:
            up[name] = totals.connected(name, own=own)
        now = totals.sums()
        assert len(now) <= 5
        assert sum(number for (number,) in now.values()) == expected
        assert all(now[label][0] >= before.get(label, [0])[0] for label in now if label in (OTHER, HIDDEN))
        before = now


def test_reasons_are_bounded():
    counters = NodeCounters()

    for number in range(MAX_REASONS + 10):
        counters.add("disconnects", f"reason {number}")

    assert len(counters.counts("disconnects")) == MAX_REASONS + 1
    assert counters.counts("disconnects")[OTHER] == 10


def test_the_class_of_an_error_is_a_reason():
    assert word_of(HandshakeTimeout) == "handshake_timeout"


def test_durations_are_counted_in_buckets():
    counts = DurationCounts((0.1, 1.0))

    for seconds in (0.05, 0.1, 0.5, 3.0):
        counts.add(seconds)

    assert counts.buckets() == [("0.1", 2), ("1", 3), ("+Inf", 4)]
    assert counts.total == 3.65


def test_several_durations_are_counted_as_single_ones():
    durations = [0.1, 5.0, 0.05, 1.0, 0.100001, 1.0, 7.0, 0.0]
    single, several = DurationCounts((0.1, 1.0)), DurationCounts((0.1, 1.0))
    for duration in durations:
        single.add(duration)

    several.add_all(durations)
    several.add_all([])

    assert (several.buckets(), round(several.total, 9)) == (single.buckets(), round(single.total, 9))
