"""OTP's own test suite of pg, unchanged. Each peer that it starts is an erlmesh node.

The suite is fetched from Debian's source package when the test runs. It starts peers by ``peer`` and is run by Common
Test. ``pg_suite/`` has small modules of both names, which are found before OTP's. It also has in Python what the suite
runs on its peers.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from beam import TOOLS, NoSuchOtp, installed_otp, otp_environment, programs
from cluster import Cluster
from pynode import python_environment

HELPERS = Path(__file__).parent / "pg_suite"
EXPOSE = "--expose erlmesh.otp_functions --expose pg_suite_peer"
PEER = f"{sys.executable} -m erlmesh start {EXPOSE} --app pg_suite_peer:control"
CASES = {25: 25, 27: 28, 29: 28}
"""How many cases each release's suite has that need no other release of OTP."""
OTHERWISE = {29: {"missing_scope_join"}}
"""Cases that need the answers of a peer with that release. erlmesh.otp_functions answers as earlier releases do."""


def source(otp: int, path: str) -> Path:
    """A file of OTP's sources. Raises NoSuchOtp if it is not available here."""
    brought = subprocess.run(
        [sys.executable, TOOLS / "otp_source.py", str(otp), path], capture_output=True, text=True, check=False
    )
    if brought.returncode:
        raise NoSuchOtp(brought.stderr.strip())
    return Path(brought.stdout.strip())


COMPILE = """
[Out, Include | Sources] = init:get_plain_arguments(),
Made = [compile:file(Source, [report, {outdir, Out}, {i, Include}]) || Source <- Sources],
halt(case [error || error <- Made] of [] -> 0; _ -> 1 end).
"""


def compile_beside(suite: Path, header: Path, folder: Path, erl: Path) -> None:
    """Compiles the suite and our modules into ``folder``."""
    modules = [str(suite), *map(str, sorted(HELPERS.glob("*.erl")))]
    include = header.parents[2]  # where -include_lib finds common_test/include/ct.hrl
    subprocess.run([erl, "-noshell", "-eval", COMPILE, "-extra", str(folder), str(include), *modules], check=True)


@pytest.mark.otps(25, 27, 29)
def test_every_case_of_pg_suite_passes_with_erlmesh_nodes_as_peers(
    cluster: Cluster, otp: int | None, tmp_path: Path, rounds: Callable[[int], int]
) -> None:
    release = otp or installed_otp()
    if release not in CASES:
        pytest.skip(f"the suite of OTP {release} starts its peers in another way")
    folder, otherwise = programs(otp), OTHERWISE.get(release, set())
    suite, header = (
        source(release, path) for path in ("lib/kernel/test/pg_SUITE.erl", "lib/common_test/include/ct.hrl")
    )
    compile_beside(suite, header, tmp_path, folder / "erl")
    cluster.start_epmd_once()
    environment = {
        **os.environ,
        **otp_environment(cluster.epmd_port, tmp_path, folder),
        **python_environment(cluster.epmd_port, tmp_path),
        "PG_SUITE_PEER": PEER,
        "PG_SUITE_OTP": str(release),
    }
    environment["PYTHONPATH"] += os.pathsep + str(HELPERS)
    # The same options that the suite gives its peers. The suite itself decides which nodes are connected, so they do
    # not connect to each other automatically.
    command = [
        "erl",
        "-noshell",
        "-name",
        "ct@127.0.0.1",
        "-setcookie",
        "monster",
        "-connect_all",
        "false",
        "-start_epmd",
        "false",
    ]
    command += ["-pa", str(tmp_path), "-run", "test_server", "run", "pg_SUITE"]

    for _ in range(rounds(1)):
        run = subprocess.run(
            [folder / command[0], *command[1:]],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=110, check=False,
        )  # fmt: skip
        outcomes = dict(re.findall(r"CASE (\w+) (.*)$", run.stdout, re.MULTILINE))

        assert {case for case, outcome in outcomes.items() if outcome != "ok"} == otherwise, run.stdout
        assert len(outcomes) == CASES[release], run.stdout
        assert run.returncode == len(otherwise), run.stdout
