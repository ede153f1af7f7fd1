"""Five Python and BEAM nodes, started at once and joined through one, form a full mesh and nothing hangs."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster import running_cluster
from erlmesh.terms import Atom
from polling import wait_until

KINDS = ["python", "beam", "python", "beam", "python"]
IN_TIME = 60.0


def full_mesh(nodes):
    everybody = {node.name for node in nodes}
    views = {node.name: sorted(node.nodes()) for node in nodes}
    return all(set(view) | {name} == everybody for name, view in views.items())


def start_five(cluster, kinds, otp):
    cluster.start_epmd_once()
    starts = [
        (lambda name=f"n{i}": cluster.beam(name, otp=otp))
        if kind == "beam"
        else (lambda name=f"n{i}": cluster.pynode(name))
        for i, kind in enumerate(kinds)
    ]
    with ThreadPoolExecutor(len(kinds)) as pool:
        return list(pool.map(lambda start: start(), starts))


def join_through(nodes, one):
    """All others ping ``one`` at the same time."""
    others = [node for node in nodes if node is not one]
    with ThreadPoolExecutor(len(others)) as pool:
        assert all(pool.map(lambda node: node.ping(one.name), others))


@pytest.mark.timeout(900)
def test_five_nodes_started_at_once_form_a_full_mesh(tmp_path, rounds, otp, request):
    chance = random.Random(2015)
    for number in range(rounds(2)):
        with running_cluster(tmp_path) as cluster:
            kinds = chance.sample(KINDS, len(KINDS))
            nodes = start_five(cluster, kinds, otp)

            try:
                join_through(nodes, nodes[0])
                wait_until(lambda nodes=nodes: full_mesh(nodes), IN_TIME, what="a full mesh")
                pids = {node.join(Atom("group")) for node in nodes}
                wait_until(
                    lambda nodes=nodes, pids=pids: all(set(n.members(Atom("group"))) == pids for n in nodes), IN_TIME
                )
            except BaseException:
                request.node.add_report_section("call", f"round {number}: {kinds}", cluster.logs())
                raise


def test_global_answers_on_every_node_of_a_mixed_mesh(cluster, otp):
    nodes = start_five(cluster, KINDS, otp)
    join_through(nodes, nodes[0])
    wait_until(lambda: full_mesh(nodes), IN_TIME)
    beams, pythons = [n for n in nodes if hasattr(n, "otp")], [n for n in nodes if not hasattr(n, "otp")]

    for beam in beams:
        assert beam.eval("global:sync()", timeout=IN_TIME) == Atom("ok")
        assert beam.eval("global:register_name(node(), self())", timeout=IN_TIME) == Atom("yes")
        assert beam.eval("global:trans({lock, self()}, fun() -> done end)", timeout=IN_TIME) == Atom("done")
    for python in pythons:
        python.eval("await node.global_.sync(timeout=limit)", limit=IN_TIME)
        assert python.eval("await node.global_.register(node.internals.atom, me.pid)", timeout=IN_TIME) is True

    names = {node.atom for node in nodes}
    wait_until(lambda: all(set(b.eval("global:registered_names()")) >= names for b in beams), what="all names on BEAMs")
    wait_until(lambda: all(set(p.eval("node.global_.registered()")) >= names for p in pythons))
    for beam in beams:
        for python in pythons:
            assert beam.eval("global:whereis_name(Name)", Name=python.atom) == python.eval("me.pid")


def test_a_registered_name_is_refused_across_languages(cluster):
    beam, python = cluster.beam("beam"), cluster.pynode("python")
    assert beam.ping(python.name)
    assert beam.eval("global:sync()", timeout=IN_TIME) == Atom("ok")

    assert beam.eval("global:register_name(leader, self())") == Atom("yes")
    assert python.eval("await node.global_.register(Atom('leader'), me.pid)") is False
    assert beam.eval("global:unregister_name(leader)") == Atom("ok")
    assert python.eval("await node.global_.register(Atom('leader'), me.pid)") is True
    assert beam.eval("global:register_name(leader, self())") == Atom("no")


def test_a_global_name_is_removed_with_its_node(cluster):
    beam, python = cluster.beam("beam"), cluster.pynode("python")
    assert python.ping(beam.name)
    assert beam.eval("global:sync()", timeout=IN_TIME) == Atom("ok")
    assert python.eval("await node.global_.register(Atom('leader'), me.pid)") is True
    assert beam.eval("global:whereis_name(leader)") == python.eval("me.pid")

    python.kill()

    wait_until(lambda: beam.eval("global:whereis_name(leader)") == Atom("undefined"))


def test_locks_exclude_each_other_across_languages(cluster):
    beam, python = cluster.beam("beam"), cluster.pynode("python")
    assert python.ping(beam.name)
    assert beam.eval("global:sync()", timeout=IN_TIME) == Atom("ok")
    take = "await node.global_.set_lock((Atom('resource'), me.pid), retries=0)"

    assert beam.eval("global:set_lock({resource, self()})") is True
    assert python.eval(take) is False
    assert beam.eval("global:del_lock({resource, self()})") is True
    assert python.eval(take) is True
    assert beam.eval("global:set_lock({resource, self()}, [node() | nodes()], 0)") is False
    python.eval("await node.global_.del_lock((Atom('resource'), me.pid))")
    assert beam.eval("global:set_lock({resource, self()}, [node() | nodes()], 0)") is True
