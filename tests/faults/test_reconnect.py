"""Lost nodes are reconnected, deliberate disconnects are respected, and rolling restarts end in a full mesh."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from erlmesh.terms import Atom
from scenario import Scenario, is_python


def pairs_of(*kinds):
    return pytest.mark.parametrize("kinds", [tuple(each.split()) for each in kinds], ids=" ".join)


@pairs_of("py 25", "py 27")
def test_beam_that_disconnects_is_not_reconnected_until_it_is_needed(scenario, kinds):
    scenario.form_mesh()
    scenario.wait_until_known_to_global()
    python, beam = scenario.nodes

    scenario.mark_fault()
    beam.eval("erlang:disconnect_node(Peer)", Peer=python.atom)

    scenario.wait_until(lambda: python.logged("has disconnected on purpose"), 5, what="the reconnect suppressed")
    scenario.assert_holds(lambda: python.nodes() == beam.nodes() == set(), 3)
    scenario.wait_until(lambda: python.eval("node.reconnecting()") == [], 30, what="no more attempts")
    assert python.nodes() == beam.nodes() == set()
    assert not beam.logged("REPORT")
    python.eval("node.send((Atom('nobody'), PEER), 1)", PEER=beam.atom)  # sending a message connects
    scenario.wait_until_complete(5)


@pairs_of("py 25", "25 py", "py py")
def test_python_node_that_disconnects_is_not_reconnected(scenario, kinds):
    scenario.form_mesh()
    scenario.wait_until_known_to_global()  # a node that global still introduces is connected for that, as by a BEAM
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
def test_node_without_reconnect_does_not_dial_a_lost_node(scenario, kinds):
    scenario.form_mesh()
    python, beam = scenario.nodes
    quiet = scenario.nodes[0] = scenario.start(0, name="quiet", reconnect=False)
    python.kill()
    assert quiet.ping(beam.name)

    beam.kill()
    scenario.start(1)  # a new incarnation, which knows no node

    scenario.assert_holds(lambda: quiet.nodes() == set(), 4)
    assert quiet.eval("node.reconnecting()") == []


@pytest.mark.long
@pytest.mark.timeout(1800)
@pairs_of("py 25 py 27 py", "py py py py py")
def test_rolling_restart_of_five_nodes_ends_in_a_full_mesh(scenario, kinds):
    """Restart five nodes, one after the other."""
    connect_all_concurrently(scenario)

    rounds = 20 if scenario.long else 2
    for _ in range(rounds):
        for number in range(5):
            rolling_restart_step(scenario, number)
        scenario.wait_for_recovery()

    scenario.report_row.outcome = f"a full mesh after each of {rounds} rounds"


@pairs_of("py 25")
def test_discovered_node_is_reconnected_when_lost_but_not_after_a_disconnect(scenario, kinds):
    python, beam = scenario.nodes

    python.eval(DISCOVER, where=f"static:{beam.name}")

    scenario.wait_until(lambda: beam.nodes() == {python.name}, 10, what="discovered")
    beam.kill()
    beam = scenario.nodes[1] = scenario.start(1)
    scenario.wait_until(lambda: beam.nodes() == {python.name}, 10, what="reconnected")
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
    """Stop one node in order and start it again, without waiting for a complete mesh.

    A Python node gets one node to join. A BEAM does not reconnect, so it tries all others.
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
