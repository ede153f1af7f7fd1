"""Compares erlmesh with OTP: each case runs against a BEAM and against an erlmesh node, from a BEAM.

The erlmesh node runs ``erlmesh start --expose erlmesh.otp_functions``. The cases are the functions of one argument in
``conformance/``. Each returns its observations as text. Both nodes must give exactly the same text.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam import Beam, programs
from cluster import Cluster, running_cluster
from erlmesh.terms import Atom
from os_process import OsProcess
from polling import wait_until
from pynode import python_environment

pytestmark = pytest.mark.shared_cluster  # later cases use what an earlier case has started
CASES = Path(__file__).parent / "conformance"
COMPILE = """
[Out | Sources] = init:get_plain_arguments(),
Made = [compile:file(Source, [report, {outdir, Out}]) || Source <- Sources],
halt(case [error || error <- Made] of [] -> 0; _ -> 1 end).
"""
COOKIE = "conformance"
OBSERVER_OTPS = (25, 27, 29)


def cases(*modules: str) -> list[str]:
    """``module:case`` for each function of one argument, called N, in the order of the files."""
    heads = ((module, re.compile(r"^(\w+)\(N\) ->$", re.MULTILINE)) for module in modules)
    return [
        f"{module}:{case}" for module, head in heads for case in head.findall((CASES / f"{module}.erl").read_text())
    ]


class ConformanceRun:
    """An observer of one OTP release, a BEAM and an erlmesh node. The two never connect: each has its own observer."""

    def __init__(self, cluster: Cluster, otp: int | None, folder: Path) -> None:
        self.cluster = cluster
        sources = [str(source) for source in sorted(CASES.glob("*.erl"))]
        command = [programs(otp) / "erl", "-noshell", "-eval", COMPILE, "-extra", folder, *sources]
        subprocess.run(command, check=True, timeout=100)

        def beam(name: str) -> Beam:
            return cluster.beam(name, otp=otp, cookie=COOKIE, arguments=["-pa", folder, "-kernel", "start_pg", "true"])

        self.subjects = {"beam": beam("plato"), "erlmesh": erlmesh(cluster, "socrates")}
        self._observers = {of: beam(f"judge_of_{of}") for of in self.subjects}

    def observed(self, case: str, *, of: str) -> str:
        module, _, name = case.partition(":")
        subject = f"{self.subjects[of].title.partition('@')[0]}@127.0.0.1"
        verdict, seen = self._observers[of].eval(f"judge:run({module}, {name}, N)", N=Atom(subject), timeout=90)
        return f"{verdict.name}: {seen.decode()}"


def difference(expected: str, given: str) -> str:
    """The first difference between the two."""
    at = next((at for at, (one, other) in enumerate(zip(expected, given, strict=False)) if one != other), 0)
    begin = max(0, at - 200)
    return f"\n  of a BEAM    ... {expected[begin : at + 300]}\n  of erlmesh   ... {given[begin : at + 300]}\n"


def erlmesh(cluster: Cluster, name: str, *options: str) -> OsProcess:
    """The node, started from the command line."""
    cluster.start_epmd_once()
    command = [sys.executable, "-W", "error", "-m", "erlmesh", "start", "--expose", "erlmesh.otp_functions", "--name"]
    command += [f"{name}@127.0.0.1", "--cookie", COOKIE, *options]
    node = OsProcess(name, command, python_environment(cluster.epmd_port, cluster.home))
    cluster.processes.append(node)
    wait_until(lambda: node.logged("is up") or not node.is_running(), what="a node that is up", details=node.recent_log)
    return node


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The cases use features of OTP 25 and later. pg2 exists only in OTP 23."""
    if "conformance_run" in metafunc.fixturenames:
        chosen = metafunc.definition.get_closest_marker("otps")
        judges = (chosen.args if chosen else OBSERVER_OTPS) if metafunc.config.getoption("--every-otp") else [None]
        if "pg2" in metafunc.function.__name__:
            judges = [23]
        metafunc.parametrize(
            "conformance_run", judges, indirect=True, scope="module", ids=lambda otp: f"otp{otp or ''}"
        )


@pytest.fixture(scope="module")
def conformance_run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConformanceRun]:
    """The conformance_run of one OTP release. It runs until the last case."""
    folder = tmp_path_factory.mktemp("conformance")
    with running_cluster(folder) as cluster:
        yield ConformanceRun(cluster, request.param, folder)


@pytest.mark.parametrize("case", cases("conf_processes", "conf_calls", "conf_terms"))
def test_an_erlmesh_node_looks_like_a_beam(conformance_run, case):
    expected, given = conformance_run.observed(case, of="beam"), conformance_run.observed(case, of="erlmesh")

    assert given == expected, difference(expected, given) + conformance_run.cluster.logs()
    assert expected.startswith("saw: ")


@pytest.mark.otps(25, 27)  # pg of 29 is another server with other calls; its protocol to nodes like ours is unchanged
@pytest.mark.parametrize("case", cases("conf_pg", "conf_load"))
def test_pg_of_an_erlmesh_node_looks_like_pg_of_a_beam(conformance_run, case):
    expected, given = conformance_run.observed(case, of="beam"), conformance_run.observed(case, of="erlmesh")

    assert given == expected, difference(expected, given) + conformance_run.cluster.logs()
    assert expected.startswith("saw: ")


@pytest.mark.parametrize("case", cases("conf_pg2"))
def test_pg2_of_otp_23_sees_an_erlmesh_node_as_a_beam(conformance_run, case):
    expected, given = conformance_run.observed(case, of="beam"), conformance_run.observed(case, of="erlmesh")

    assert given == expected, difference(expected, given) + conformance_run.cluster.logs()
    assert expected.startswith("saw: ")
