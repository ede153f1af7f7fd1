"""Two of three lose each other and both still see the third: with Erlang's nodes and ours in every place, all ends as
it does with Erlang's alone.

What is the same in every run of three BEAMs is asserted for all: nobody stays in two groups, one of the two that lost
each other stays with the third at most, the third hangs up on nobody but one of them. Which of the two it is depends on
whose clock is first, with BEAMs too. (``prevent_overlapping_partitions``, the header of OTP's global.erl.)
"""

from __future__ import annotations

import itertools
from collections import deque

import pytest

from world import World, is_python

PLACES = [kinds for kinds in itertools.product(("py", "25"), repeat=3) if kinds != ("25", "25", "25")]
EVERY_PLACE = pytest.mark.parametrize("kinds", [*PLACES, ("25", "25", "25"), ("27", "py", "27")], ids=" ".join)
ENDS_OF_A_CUT = ([[0], [1, 2]], [[0, 2], [1]], [[0], [1], [2]])
LATEST = 1.25


def until_parted(world: World) -> None:
    """Until the two have lost each other, one of them at least is out of it, and all have heard what they will hear.

    If both notice in the same moment, the third is told to leave the one, and a moment later the other.
    """
    looks: deque[list[list[int]]] = deque(maxlen=10)

    def parted() -> bool:
        looks.append(world.partition())
        both = world.went(0, 1) and world.went(1, 0)
        return bool(both) and looks[-1] in ENDS_OF_A_CUT and all(look == looks[-1] for look in looks)

    world.until(parted, world.ticktime * LATEST * 2 + 2, what="parted without overlaps")
    world.row.noticed = [world.went(0, 1)[0].timestamp - world.fault_at, world.went(1, 0)[0].timestamp - world.fault_at]


def stays_parted(world: World) -> None:
    """While the cut lasts nobody comes back to be thrown out again: no churn, whoever redials; and a BEAM that is
    called and not met makes nothing of it.
    """
    before = world.partition()
    world.stays(lambda: world.partition() == before, world.ticktime)
    assert not [node.name for node in world.nodes if node.logged("Connection attempt from")]


def comes_back(world: World) -> None:
    """Whoever has lost somebody dials; if those are BEAMs nobody does, and the third, who has only been told, tries
    after a while.
    """
    world.switch.heal_pair(0, 1)
    redials = any(map(is_python, world.kinds[:2]))
    third = is_python(world.kinds[2])
    world.heal_to_whole(by_itself=redials, grace=40 if world.long and third else 4)


@EVERY_PLACE
def test_a_cut_of_one_pair_of_three_parts_them_as_it_parts_beams(world, kinds):
    """Cut the link between the first two nodes, without a reset; both still see the third."""
    world.meet()

    world.fault()
    world.switch.cut_pair(0, 1)

    until_parted(world)
    assert min(world.row.noticed) < world.ticktime * LATEST + 0.5
    stays_parted(world)
    world.row.outcome = "the third node drops one of the two; the partitions do not overlap"
    comes_back(world)


@EVERY_PLACE
def test_a_one_way_cut_parts_them_as_it_parts_beams(world, kinds):
    """Lose only the packets from the first node to the second."""
    world.meet()

    world.fault()
    world.switch.cut_one_way(0, 1)

    until_parted(world)
    assert min(world.row.noticed) < world.ticktime * LATEST + 0.5
    stays_parted(world)
    world.row.outcome = "the third node drops one of the two; the partitions do not overlap"
    comes_back(world)


@EVERY_PLACE
def test_a_disconnect_on_purpose_parts_them_as_it_parts_beams(world, kinds):
    """The first node disconnects from the second on purpose."""
    world.meet()
    world.until_known()

    world.fault()
    first, second = world.nodes[0], world.nodes[1]
    if is_python(kinds[0]):
        assert first.eval("node.disconnect(name)", name=second.name)
    else:
        first.eval("erlang:disconnect_node(Second)", Second=second.atom)

    world.until(lambda: world.went(0, 1) and world.went(1, 0) and not world.overlaps(), 5, what="no overlap")
    assert second.name not in first.nodes()
    assert max(event.timestamp - world.fault_at for event in world.went(0, 1) + world.went(1, 0)) < 2
    world.stays(lambda: not world.overlaps() and second.name not in first.nodes(), world.ticktime / 2)
    world.row.noticed = [world.went(0, 1)[0].timestamp - world.fault_at, world.went(1, 0)[0].timestamp - world.fault_at]
    world.row.outcome = "disconnected; the partitions do not overlap"
