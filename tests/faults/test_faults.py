"""One machine of three is hit: who notices, when, what is left of its group, and when all is whole again."""

from __future__ import annotations

import time

import pytest

from world import ELSEWHERE, GROUP, World

TRIOS = (("py", "py", "25"), ("25", "py", "27"), ("25", "27", "25"))
"""Who is hit, and two who see it; the last is Erlang among itself."""
EARLIEST, LATEST = 0.75, 1.25
"""Tick times until a silent peer is given up, after its last word."""
SLACK = 0.5
"""Seconds that a busy machine may add."""

trios = pytest.mark.parametrize("kinds", TRIOS, ids=" ".join)


def in_time(world: World) -> bool:
    """Everybody noticed in time. A last word may be a quarter of a tick time before the fault."""
    earliest, latest = (EARLIEST - 0.25) * world.ticktime, LATEST * world.ticktime
    return all(earliest - SLACK < seconds < latest + SLACK for seconds in world.row.noticed)


@trios
def test_a_killed_node_is_gone_at_once(world, kinds):
    """Kill a node (`kill -9`)."""
    world.meet()

    world.fault()
    world.nodes[0].kill()

    world.is_gone(0, [1, 2], within=2)
    assert max(world.row.noticed) < 1
    world.row.outcome = "removed from all groups, reason `connection_closed`"
    assert {world.went(1, 0)[0].reason, world.went(2, 0)[0].reason} == {"connection_closed"}
    world.restart(0)
    world.heal_to_whole()


@trios
def test_a_pause_shorter_than_the_tick_time_is_nothing(world, kinds):
    """Pause a node (SIGSTOP) for half the net tick time."""
    world.meet()

    world.fault()
    world.nodes[0].stop()
    time.sleep(world.ticktime / 2)  # the fault itself lasts that long
    world.nodes[0].cont()

    time.sleep(world.ticktime * LATEST)  # whoever was going to notice has done so by now
    world.nothing_happened()
    world.row.outcome = "no node is dropped"


@trios
def test_a_paused_node_is_dropped_in_time_and_comes_back(world, kinds):
    """Pause a node (SIGSTOP) until the others drop it."""
    world.meet()

    world.fault()
    world.nodes[0].stop()

    world.is_gone(0, [1, 2], within=world.ticktime * LATEST)
    assert in_time(world), world.row.noticed
    assert world.nodes[1].name in world.nodes[2].nodes()
    world.nodes[0].cont()
    world.heal_to_whole()
    world.row.outcome = "dropped; the other nodes stay connected"


@trios
def test_a_silent_cut_is_noticed_on_both_sides_in_time(world, kinds):
    """Partition one node from two nodes, without a reset."""
    world.meet()

    world.fault()
    world.switch.part([0], [1, 2])
    moved = world.leave_and_join_elsewhere(0)
    world.is_gone(0, [1, 2], within=world.ticktime * LATEST)
    world.until(lambda: world.went(0, 1) and world.went(0, 2), 5)

    assert in_time(world), world.row.noticed
    assert world.partition() == [[0], [1, 2]]
    assert world.nodes[0].members(GROUP) == []
    world.switch.heal()
    world.members.remove(moved)
    world.heal_to_whole()
    world.until(lambda: all(node.members(ELSEWHERE) == [moved] for node in world.nodes), 5)
    world.row.outcome = "dropped on both sides; changes made meanwhile are correct after the heal"


@trios
def test_an_interface_that_is_removed_is_noticed_as_a_silent_cut(world, kinds):
    """Remove the network interface."""
    world.meet()

    world.fault()
    world.switch.machines[0].unplug()

    world.is_gone(0, [1, 2], within=world.ticktime * LATEST)
    assert in_time(world), world.row.noticed
    world.until(lambda: world.nodes[0].nodes() == set(), world.ticktime)
    world.switch.machines[0].plug_in()
    world.heal_to_whole()
    world.row.outcome = "dropped on both sides"


@trios
def test_a_machine_that_is_lost_without_a_word_is_dropped_and_its_next_life_is_welcome(world, kinds):
    """Lose the machine: no FIN, no reset; start it again after the others dropped it."""
    world.meet()

    world.fault()
    world.switch.part([0], [1, 2])
    world.nodes[0].kill()

    world.is_gone(0, [1, 2], within=world.ticktime * LATEST)
    assert in_time(world), world.row.noticed
    world.switch.heal()
    world.restart(0)
    world.heal_to_whole()
    world.row.outcome = "dropped; the restarted node is a new incarnation"


@trios
def test_a_new_life_is_let_in_while_the_old_connection_is_still_believed_in(world, kinds):
    """Lose the machine, and start it again before the others notice."""
    world.meet()

    world.fault()
    world.switch.part([0], [1, 2])
    world.nodes[0].kill()
    world.switch.heal()
    before = world.members[0]
    world.restart(0)

    world.heal_to_whole(timeout=world.ticktime * 2)
    assert all(before not in node.members(GROUP) for node in world.nodes)
    world.row.outcome = "the new incarnation replaces the old one"
