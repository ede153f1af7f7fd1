"""``erlmesh top`` beside BEAMs: they are asked for their processes, also without runtime_tools, and may stand still."""

from __future__ import annotations

import json
import subprocess
import sys

from erlmesh.terms import Atom
from pynode import python_environment

COMMAND = (sys.executable, "-W", "error", "-m", "erlmesh", "top")


def top(cluster, *arguments):
    """What ``erlmesh top --once --json`` prints."""
    environment = {**python_environment(cluster.epmd_port, cluster.home), "ERLMESH_COOKIE": "monster"}
    done = subprocess.run(
        [*COMMAND, *arguments, "--once", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def row(rows, **values):
    found = [each for each in rows if all(each[key] == value for key, value in values.items())]
    assert len(found) == 1, (values, rows)
    return found[0]


def test_processes_of_both_kinds_of_node_are_shown(cluster, otp):
    beam, python = cluster.beam("plato", otp=otp), cluster.pynode("socrates")
    beam.eval("pg:start_link()")
    assert python.ping(beam.name)
    python.join(Atom("greeters")), beam.join(Atom("greeters"))
    beam.eval("P = spawn(fun() -> receive never -> ok end end), register(slow, P), [P ! x || _ <- lists:seq(1, 33)]")
    beam.eval("register(spinner, spawn(fun F() -> lists:seq(1, 1000), F() end))")

    found = top(cluster, python.name)

    assert row(found["nodes"], node=beam.name)["kind"] == "beam"
    assert row(found["nodes"], node=beam.name)["cpu"] > 0
    assert row(found["nodes"], node=python.name)["kind"] == "python"
    slow = row(found["processes"], name="slow")
    assert (slow["node"], slow["messages"], slow["memory"] > 0) == (beam.name, 33, True)
    assert found["processes"][0] == slow
    spinner = row(found["processes"], name="spinner")
    assert spinner["reductions_per_second"] == max(each["reductions_per_second"] or 0 for each in found["processes"])
    assert row(found["processes"], node=python.name, name="net_kernel")["messages"] == 0
    group = row(found["groups"], group="greeters")
    assert (group["members"], group["nodes"], group["seen_by"], group["views"]) == (2, 2, 2, "the same")
    assert {(each["node"], each["peer"]) for each in found["links"]} == {
        (beam.name, python.name), (python.name, beam.name),
    }  # fmt: skip


def test_a_beam_that_stands_still_does_not_hold_up_the_others(cluster):
    beam, python = cluster.beam("plato"), cluster.pynode("socrates")
    assert python.ping(beam.name)
    beam.stop()
    try:
        found = top(cluster, python.name, "--wait", "2")
    finally:
        beam.cont()

    assert row(found["nodes"], node=python.name)["state"] == "up"
    assert row(found["nodes"], node=beam.name)["state"] == "no answer yet"
    assert {each["node"] for each in found["processes"]} == {python.name}


def test_top_changes_nothing_in_the_cluster(cluster):
    beam, python = cluster.beam("plato"), cluster.pynode("socrates")
    beam.eval("pg:start_link()")
    assert python.ping(beam.name)

    top(cluster, beam.name)

    assert beam.nodes() == {python.name}
    assert python.nodes() == {beam.name}
    assert beam.eval("pg:which_groups()") == python.eval("node.pg.which_groups()") == []
