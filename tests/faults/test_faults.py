"""A fault on one of three hosts: detection, its time, group membership, and recovery."""

from __future__ import annotations

import time

import pytest

from scenario import GROUP, OTHER_GROUP, Scenario

TRIOS = (("py", "py", "25"), ("25", "py", "27"), ("25", "27", "25"))
"""The node with the fault, and two observers. The last trio has BEAMs only."""
EARLIEST, LATEST = 0.75, 1.25
"""Net tick times from the last received data until a silent peer is dropped."""
SLACK = 0.5
"""Seconds that load on the machine may add."""

trios = pytest.mark.parametrize("kinds", TRIOS, ids=" ".join)


def detected_in_time(scenario: Scenario) -> bool:
    """True if all observers detected the fault in time. The last data may be a quarter of a tick time older."""
    earliest, latest = (EARLIEST - 0.25) * scenario.ticktime, LATEST * scenario.ticktime
    return all(earliest - SLACK < seconds < latest + SLACK for seconds in scenario.report_row.detection_times)


@trios
def test_killed_node_is_removed_at_once(scenario, kinds):
    """Kill a node (`kill -9`)."""
    scenario.form_mesh()

    scenario.mark_fault()
    scenario.nodes[0].kill()

    scenario.assert_removed(0, [1, 2], within=2)
    assert max(scenario.report_row.detection_times) < 1
    scenario.report_row.outcome = "removed from all groups, reason `connection_closed`"
    assert {scenario.nodedowns(1, 0)[0].reason, scenario.nodedowns(2, 0)[0].reason} == {"connection_closed"}
    scenario.restart(0)
    scenario.wait_for_recovery()


@trios
def test_pause_shorter_than_the_tick_time_has_no_effect(scenario, kinds):
    """Pause a node (SIGSTOP) for half the net tick time."""
    scenario.form_mesh()

    scenario.mark_fault()
    scenario.nodes[0].stop()
    time.sleep(scenario.ticktime / 2)  # the fault itself lasts that long
    scenario.nodes[0].cont()

    time.sleep(scenario.ticktime * LATEST)  # a node that detects the pause has done so by now
    scenario.assert_undisturbed()
    scenario.report_row.outcome = "no node is dropped"


@trios
def test_paused_node_is_dropped_in_time_and_recovers(scenario, kinds):
    """Pause a node (SIGSTOP) until the others drop it."""
    scenario.form_mesh()

    scenario.mark_fault()
    scenario.nodes[0].stop()

    scenario.assert_removed(0, [1, 2], within=scenario.ticktime * LATEST)
    assert detected_in_time(scenario), scenario.report_row.detection_times
    assert scenario.nodes[1].name in scenario.nodes[2].nodes()
    scenario.nodes[0].cont()
    scenario.wait_for_recovery()
    scenario.report_row.outcome = "dropped; the other nodes stay connected"


@trios
def test_silent_partition_is_detected_on_both_sides_in_time(scenario, kinds):
    """Partition one node from two nodes, without a reset."""
    scenario.form_mesh()

    scenario.mark_fault()
    scenario.switch.partition([0], [1, 2])
    moved = scenario.leave_and_join_elsewhere(0)
    scenario.assert_removed(0, [1, 2], within=scenario.ticktime * LATEST)
    scenario.wait_until(lambda: scenario.nodedowns(0, 1) and scenario.nodedowns(0, 2), 5)

    assert detected_in_time(scenario), scenario.report_row.detection_times
    assert scenario.view_groups() == [[0], [1, 2]]
    assert scenario.nodes[0].members(GROUP) == []
    scenario.switch.heal()
    scenario.members.remove(moved)
    scenario.wait_for_recovery()
    scenario.wait_until(lambda: all(node.members(OTHER_GROUP) == [moved] for node in scenario.nodes), 5)
    scenario.report_row.outcome = "dropped on both sides; changes made meanwhile are correct after the heal"


@trios
def test_removed_interface_is_detected_like_a_silent_partition(scenario, kinds):
    """Remove the network interface."""
    scenario.form_mesh()

    scenario.mark_fault()
    scenario.switch.hosts[0].detach()

    scenario.assert_removed(0, [1, 2], within=scenario.ticktime * LATEST)
    assert detected_in_time(scenario), scenario.report_row.detection_times
    scenario.wait_until(lambda: scenario.nodes[0].nodes() == set(), scenario.ticktime)
    scenario.switch.hosts[0].attach()
    scenario.wait_for_recovery()
    scenario.report_row.outcome = "dropped on both sides"


@trios
def test_lost_host_is_dropped_and_its_next_incarnation_is_accepted(scenario, kinds):
    """Lose the machine: no FIN, no reset; start it again after the others dropped it."""
    scenario.form_mesh()

    scenario.mark_fault()
    scenario.switch.partition([0], [1, 2])
    scenario.nodes[0].kill()

    scenario.assert_removed(0, [1, 2], within=scenario.ticktime * LATEST)
    assert detected_in_time(scenario), scenario.report_row.detection_times
    scenario.switch.heal()
    scenario.restart(0)
    scenario.wait_for_recovery()
    scenario.report_row.outcome = "dropped; the restarted node is a new incarnation"


@trios
def test_new_incarnation_is_accepted_while_the_old_connection_looks_established(scenario, kinds):
    """Lose the machine, and start it again before the others notice."""
    scenario.form_mesh()

    scenario.mark_fault()
    scenario.switch.partition([0], [1, 2])
    scenario.nodes[0].kill()
    scenario.switch.heal()
    before = scenario.members[0]
    scenario.restart(0)

    scenario.wait_for_recovery(timeout=scenario.ticktime * 2)
    assert all(before not in node.members(GROUP) for node in scenario.nodes)
    scenario.report_row.outcome = "the new incarnation replaces the old one"
