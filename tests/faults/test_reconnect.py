"""Who is lost is looked for, who wants to be left alone is left alone, and restarts one by one end in a full mesh."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from erlmesh.terms import Atom
from scenario import Scenario, is_python


def pairs_of(*kinds):
    return pytest.mark.parametrize("kinds", [tuple(each.split()) for each in kinds], ids=" ".join)


@pairs_of("py 25", "py 27")
def test_a_beam_that_disconnects_on_purpose_is_left_alone_until_somebody_wants_it(scenario, kinds):
    scenario.form_mesh()
    scenario.wait_until_known_to_global()
    python, beam = scenario.nodes

    scenario.mark_fault()
    beam.eval("erlang:disconnect_node(Peer)", Peer=python.atom)

    scenario.wait_until(lambda: python.logged("has disconnected on purpose"), 5, what="found alive, and left alone")
    scenario.assert_holds(lambda: python.nodes() == beam.nodes() == set(), 3)
    scenario.wait_until(lambda: python.eval("node.reconnecting()") == [], 30, what="left alone for good")
    assert python.nodes() == beam.nodes() == set()
    assert not beam.logged("REPORT")
    python.eval("node.send((Atom('nobody'), PEER), 1)", PEER=beam.atom)  # a mere message is a wish
    scenario.wait_until_complete(5)


@pairs_of("py 25", "25 py", "py py")
def test_a_python_node_that_disconnects_on_purpose_is_left_alone(scenario, kinds):
    scenario.form_mesh()
    scenario.wait_until_known_to_global()  # whoever is still being introduced is called for that, as by a BEAM
    first, second = scenario.nodes
    leaver = first if is_python(kinds[0]) else second
    other = second if leaver is first else first

    leaver.eval("node.disconnect(name)", name=other.name)

    scenario.wait_until(lambda: first.nodes() == second.nodes() == set(), 5)
    scenario.assert_holds(lambda: first.nodes() == second.nodes() == set(), 3)
    assert leaver.ping(other.name)
    scenario.wait_until_complete(5)


@pytest.mark.scenario(ticktime=2)
@pairs_of("py 25")
def test_a_node_without_reconnect_does_not_dial_whom_it_lost(scenario, kinds):
    scenario.form_mesh()
    python, beam = scenario.nodes
    quiet = scenario.nodes[0] = scenario.start(0, name="quiet", reconnect=False)
    python.kill()
    assert quiet.ping(beam.name)

    beam.kill()
    scenario.start(1)  # another life, which knows nobody

    scenario.assert_holds(lambda: quiet.nodes() == set(), 4)
    assert quiet.eval("node.reconnecting()") == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@pairs_of("py 25 py 27 py", "py py py py py")
def test_five_nodes_that_restart_one_after_the_other_are_a_full_mesh_again(scenario, kinds):
    """Restart five nodes, one after the other."""
    connect_all_concurrently(scenario)

    rounds = 20 if scenario.long else 2
    for _ in range(rounds):
        for number in range(5):
            rolling_restart_step(scenario, number)
        scenario.wait_for_recovery()

    scenario.report_row.outcome = f"a full mesh after each of {rounds} rounds"


@pairs_of("py 25")
def test_who_is_discovered_is_called_again_when_lost_and_not_when_left_on_purpose(scenario, kinds):
    python, beam = scenario.nodes

    python.eval(DISCOVER, where=f"static:{beam.name}")

    scenario.wait_until(lambda: beam.nodes() == {python.name}, 10, what="discovered")
    beam.kill()
    beam = scenario.nodes[1] = scenario.start(1)
    scenario.wait_until(lambda: beam.nodes() == {python.name}, 10, what="called again")
    python.eval("node.disconnect(name)", name=beam.name)
    scenario.wait_until(lambda: beam.nodes() == set(), 5)
    scenario.assert_holds(lambda: beam.nodes() == set(), 6)
    assert python.ping(beam.name)


DISCOVER = """
from erlmesh.discovery.lookup import Lookup
from erlmesh.discovery.sources import parse_sources
from erlmesh.discovery.discovery import Discovery
discovery = Discovery(node, Lookup(parse_sources([where]), epmd_port=4369))
await discovery.__aenter__()
"""


def connect_all_concurrently(scenario: Scenario) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda node: node.ping(scenario.nodes[0].name), scenario.nodes[1:]))
    scenario.members = [node.join(Atom("group")) for node in scenario.nodes]
    scenario.wait_until_complete()


def rolling_restart_step(scenario: Scenario, number: int) -> None:
    """One node leaves in order and is started again, without waiting until all is whole. A Python node is told of one
    other; a BEAM, which looks for nobody, tries all.
    """
    scenario.nodes[number].terminate()
    scenario.nodes[number].wait()
    others = [scenario.node_name((number + step) % 5) for step in range(1, 5)]
    if is_python(scenario.kinds[number]):
        node = scenario.nodes[number] = scenario.start(number, join=others[:1])
    else:
        node = scenario.nodes[number] = scenario.start(number)
        there = [Atom(other) for other in others]
        node.eval("spawn(fun() -> lists:any(fun net_kernel:connect_node/1, There) end)", There=there)
    scenario.members[number] = node.join(Atom("group"))
