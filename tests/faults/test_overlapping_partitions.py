"""Overlapping partitions: two of three nodes lose each other and both still reach the third.

Every combination of BEAMs and erlmesh nodes must end as three BEAMs do. These facts hold in every run of three BEAMs:
no node stays in two groups; at most one of the two stays connected to the third; the third disconnects from those two
only. With BEAMs too, timing decides which of the two stays. (``prevent_overlapping_partitions``, the header of OTP's
global.erl.)
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable

import pytest

from scenario import Scenario, is_python

KIND_COMBINATIONS = [kinds for kinds in itertools.product(("py", "25"), repeat=3) if kinds != ("25", "25", "25")]
every_combination = pytest.mark.parametrize(
    "kinds", [*KIND_COMBINATIONS, ("25", "25", "25"), ("27", "py", "27")], ids=" ".join
)
PARTITIONS_AFTER_A_CUT = ([[0], [1, 2]], [[0, 2], [1]], [[0], [1], [2]])
LATEST = 1.25


def wait_until_separated(scenario: Scenario) -> None:
    """Wait until the two have lost each other, at least one of them is separated, and the views no longer change.

    If both detect the loss at the same moment, the third is asked to disconnect from one, and then from the other.
    """
    looks: deque[list[list[int]]] = deque(maxlen=10)

    def separated() -> bool:
        looks.append(scenario.view_groups())
        both = scenario.nodedowns(0, 1) and scenario.nodedowns(1, 0)
        return bool(both) and looks[-1] in PARTITIONS_AFTER_A_CUT and all(look == looks[-1] for look in looks)

    scenario.wait_until(separated, scenario.ticktime * LATEST * 2 + 2, what="parted without overlaps")
    scenario.report_row.detection_times = [
        scenario.nodedowns(0, 1)[0].timestamp - scenario.fault_at,
        scenario.nodedowns(1, 0)[0].timestamp - scenario.fault_at,
    ]


def assert_stays_separated(scenario: Scenario) -> None:
    """Assert that the views do not change while the partition lasts: attempts to reconnect cause no churn.

    A BEAM must not log an error for a connection attempt that is dropped.
    """
    before = scenario.view_groups()
    scenario.assert_holds(lambda: scenario.view_groups() == before, scenario.ticktime)
    assert not [node.name for node in scenario.nodes if node.logged("Connection attempt from")]


def assert_recovers(scenario: Scenario) -> None:
    """Heal the partition and wait for recovery.

    An erlmesh node that lost a peer reconnects. If both are BEAMs, neither does; an erlmesh node in third place tries
    after a longer delay, because it only got a report of the loss.
    """
    scenario.switch.heal_pair(0, 1)
    redials = any(map(is_python, scenario.kinds[:2]))
    third = is_python(scenario.kinds[2])
    scenario.wait_for_recovery(automatic=redials, grace=40 if scenario.long and third else 4)


def assert_a_cut_separates(scenario: Scenario, cut: Callable[[int, int], None]) -> None:
    """Form a mesh, cut the network between the first two nodes, and check the whole partition and the recovery."""
    scenario.form_mesh()

    scenario.mark_fault()
    cut(0, 1)

    wait_until_separated(scenario)
    assert min(scenario.report_row.detection_times) < scenario.ticktime * LATEST + 0.5
    assert_stays_separated(scenario)
    scenario.report_row.outcome = "the third node drops one of the two; the partitions do not overlap"
    assert_recovers(scenario)


@every_combination
def test_a_cut_of_one_pair_of_three_parts_them_as_it_parts_beams(scenario, kinds):
    """Cut the link between the first two nodes, without a reset; both still see the third."""
    assert_a_cut_separates(scenario, scenario.switch.cut_pair)


@every_combination
def test_a_one_way_cut_parts_them_as_it_parts_beams(scenario, kinds):
    """Lose only the packets from the first node to the second."""
    assert_a_cut_separates(scenario, scenario.switch.cut_one_way)


@every_combination
def test_a_disconnect_on_purpose_parts_them_as_it_parts_beams(scenario, kinds):
    """The first node disconnects from the second on purpose."""
    scenario.form_mesh()
    scenario.wait_until_known_to_global()

    scenario.mark_fault()
    first, second = scenario.nodes[0], scenario.nodes[1]
    if is_python(kinds[0]):
        assert first.eval("node.disconnect(name)", name=second.name)
    else:
        first.eval("erlang:disconnect_node(Second)", Second=second.atom)

    scenario.wait_until(
        lambda: scenario.nodedowns(0, 1) and scenario.nodedowns(1, 0) and not scenario.has_overlaps(),
        5,
        what="no overlap",
    )
    assert second.name not in first.nodes()
    assert max(event.timestamp - scenario.fault_at for event in scenario.nodedowns(0, 1) + scenario.nodedowns(1, 0)) < 2
    scenario.assert_holds(
        lambda: not scenario.has_overlaps() and second.name not in first.nodes(), scenario.ticktime / 2
    )
    scenario.report_row.detection_times = [
        scenario.nodedowns(0, 1)[0].timestamp - scenario.fault_at,
        scenario.nodedowns(1, 0)[0].timestamp - scenario.fault_at,
    ]
    scenario.report_row.outcome = "disconnected; the partitions do not overlap"
