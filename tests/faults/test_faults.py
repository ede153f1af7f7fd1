"""One machine of three is hit: who notices, when, what is left of its group, and when all is whole again."""

from __future__ import annotations

import time

import pytest

from scenario import GROUP, OTHER_GROUP, Scenario

TRIOS = (("py", "py", "25"), ("25", "py", "27"), ("25", "27", "25"))
"""Who is hit, and two who see it; the last is Erlang among itself."""
EARLIEST, LATEST = 0.75, 1.25
"""Tick times until a silent peer is given up, after its last word."""
SLACK = 0.5
"""Seconds that a busy machine may add."""

trios = pytest.mark.parametrize("kinds", TRIOS, ids=" ".join)


def detected_in_time(scenario: Scenario) -> bool:
    """Everybody noticed in time. A last word may be a quarter of a tick time before the fault."""
    earliest, latest = (EARLIEST - 0.25) * scenario.ticktime, LATEST * scenario.ticktime
    return all(earliest - SLACK < seconds < latest + SLACK for seconds in scenario.report_row.detection_times)


@trios
def test_a_killed_node_is_gone_at_once(scenario, kinds):
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
def test_a_pause_shorter_than_the_tick_time_is_nothing(scenario, kinds):
    """Pause a node (SIGSTOP) for half the net tick time."""
    scenario.form_mesh()

    scenario.mark_fault()
    scenario.nodes[0].stop()
    time.sleep(scenario.ticktime / 2)  # the fault itself lasts that long
    scenario.nodes[0].cont()

    time.sleep(scenario.ticktime * LATEST)  # whoever was going to notice has done so by now
    scenario.assert_undisturbed()
    scenario.report_row.outcome = "no node is dropped"


@trios
def test_a_paused_node_is_dropped_in_time_and_comes_back(scenario, kinds):
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
def test_a_silent_cut_is_noticed_on_both_sides_in_time(scenario, kinds):
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
def test_an_interface_that_is_removed_is_noticed_as_a_silent_cut(scenario, kinds):
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
def test_a_machine_that_is_lost_without_a_word_is_dropped_and_its_next_life_is_welcome(scenario, kinds):
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
def test_a_new_life_is_let_in_while_the_old_connection_is_still_believed_in(scenario, kinds):
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
