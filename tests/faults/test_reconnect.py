"""Who is lost is looked for, who wants to be left alone is left alone, and restarts one by one end in a full mesh."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from erlmesh.terms import Atom
from world import World, is_python


def pairs_of(*kinds):
    return pytest.mark.parametrize("kinds", [tuple(each.split()) for each in kinds], ids=" ".join)


@pairs_of("py 25", "py 27")
def test_a_beam_that_disconnects_on_purpose_is_left_alone_until_somebody_wants_it(world, kinds):
    world.meet()
    world.until_known()
    python, beam = world.nodes

    world.fault()
    beam.eval("erlang:disconnect_node(Peer)", Peer=python.atom)

    world.until(lambda: python.logged("has disconnected on purpose"), 5, what="found alive, and left alone")
    world.stays(lambda: python.nodes() == beam.nodes() == set(), 3)
    world.until(lambda: python.eval("node.reconnecting()") == [], 30, what="left alone for good")
    assert python.nodes() == beam.nodes() == set()
    assert not beam.logged("REPORT")
    python.eval("node.send((Atom('nobody'), PEER), 1)", PEER=beam.atom)  # a mere message is a wish
    world.until_whole(5)


@pairs_of("py 25", "25 py", "py py")
def test_a_python_node_that_disconnects_on_purpose_is_left_alone(world, kinds):
    world.meet()
    world.until_known()  # whoever is still being introduced is called for that, as by a BEAM
    first, second = world.nodes
    leaver = first if is_python(kinds[0]) else second
    other = second if leaver is first else first

    leaver.eval("node.disconnect(name)", name=other.name)

    world.until(lambda: first.nodes() == second.nodes() == set(), 5)
    world.stays(lambda: first.nodes() == second.nodes() == set(), 3)
    assert leaver.ping(other.name)
    world.until_whole(5)


@pytest.mark.world(ticktime=2)
@pairs_of("py 25")
def test_a_node_without_reconnect_does_not_dial_whom_it_lost(world, kinds):
    world.meet()
    python, beam = world.nodes
    quiet = world.nodes[0] = world.start(0, name="quiet", reconnect=False)
    python.kill()
    assert quiet.ping(beam.name)

    beam.kill()
    world.start(1)  # another life, which knows nobody

    world.stays(lambda: quiet.nodes() == set(), 4)
    assert quiet.eval("node.reconnecting()") == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@pairs_of("py 25 py 27 py", "py py py py py")
def test_five_nodes_that_restart_one_after_the_other_are_a_full_mesh_again(world, kinds):
    """Restart five nodes, one after the other."""
    meet_all_at_once(world)

    rounds = 20 if world.long else 2
    for _ in range(rounds):
        for number in range(5):
            roll(world, number)
        world.heal_to_whole()

    world.row.outcome = f"a full mesh after each of {rounds} rounds"


@pairs_of("py 25")
def test_who_is_discovered_is_called_again_when_lost_and_not_when_left_on_purpose(world, kinds):
    python, beam = world.nodes

    python.eval(DISCOVER, where=f"static:{beam.name}")

    world.until(lambda: beam.nodes() == {python.name}, 10, what="discovered")
    beam.kill()
    beam = world.nodes[1] = world.start(1)
    world.until(lambda: beam.nodes() == {python.name}, 10, what="called again")
    python.eval("node.disconnect(name)", name=beam.name)
    world.until(lambda: beam.nodes() == set(), 5)
    world.stays(lambda: beam.nodes() == set(), 6)
    assert python.ping(beam.name)


DISCOVER = """
from erlmesh.discovery.lookup import Look
from erlmesh.discovery.sources import parse_sources
from erlmesh.discovery.discovery import Discovery
discovery = Discovery(node, Lookup(parse_sources([where]), epmd_port=4369))
await discovery.__aenter__()
"""


def meet_all_at_once(world: World) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda node: node.ping(world.nodes[0].name), world.nodes[1:]))
    world.members = [node.join(Atom("group")) for node in world.nodes]
    world.until_whole()


def roll(world: World, number: int) -> None:
    """One node leaves in order and is started again, without waiting until all is whole. A Python node is told of one
    other; a BEAM, which looks for nobody, tries all.
    """
    world.nodes[number].terminate()
    world.nodes[number].wait()
    others = [world.name((number + step) % 5) for step in range(1, 5)]
    if is_python(world.kinds[number]):
        node = world.nodes[number] = world.start(number, join=others[:1])
    else:
        node = world.nodes[number] = world.start(number)
        there = [Atom(other) for other in others]
        node.eval("spawn(fun() -> lists:any(fun net_kernel:connect_node/1, There) end)", There=there)
    world.members[number] = node.join(Atom("group"))
