"""The machinery of ``make bench`` with few messages, and ``erlmesh bench`` beside a BEAM. Nothing is timed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.contenders import parse_contenders
from bench.harness import CLOCK_CORE, BenchHarness, MeasureFailed
from bench.measures import MEASURES, latency, memberships
from bench.rows import ROWS
from pynode import python_environment

ROOT = Path(__file__).parents[2]
BEAM, PURE = parse_contenders("beam,pure")
pytestmark = [
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="the benchmark needs two cores"),
    pytest.mark.timeout(300),
]


@pytest.fixture
def harness(cluster, tmp_path):
    return BenchHarness(cluster, tmp_path, scale=0.001)


def test_every_row_gets_a_number_from_a_python_node(harness):
    numbers = {}
    for measure in MEASURES:
        numbers |= measure(harness, PURE)

    # These need another version, and a package that may not be installed.
    assert {row.key for row in ROWS} - numbers.keys() <= {"erpc thread", "sync 1", "sync 16"}
    assert numbers["received"] > 0


def test_a_beam_is_measured_in_the_same_way(harness):
    numbers = {}
    for measure in MEASURES:
        if measure is not memberships:
            numbers |= measure(harness, BEAM)

    assert {"received", "sent", "calls", "bare from", "erpc coroutine", "gone", "pids decode"} <= numbers.keys()
    assert numbers.get("takeover", 1) > 0


def test_a_node_that_ends_is_reported_with_the_row_and_is_replaced(harness):
    harness.pair(PURE, CLOCK_CORE).node.kill()

    with pytest.raises(MeasureFailed, match=r"trip1 p50, pure: .*"):
        latency(harness, PURE)
    harness.drop_pairs(PURE)

    assert latency(harness, PURE)["trip1 p50"] > 0


def test_a_node_that_hangs_is_reported_with_the_row(cluster, tmp_path):
    harness = BenchHarness(cluster, tmp_path, scale=0.001, time_limit=0.5)
    harness.pair(PURE, CLOCK_CORE).node.stop()

    with pytest.raises(MeasureFailed, match=r"(?s)trip1 p50, pure: .* took more than 0.5 s"):
        latency(harness, PURE)


def test_the_command_writes_the_numbers_and_the_chart(tmp_path):
    numbers, chart = tmp_path / "numbers.json", tmp_path / "chart.svg"

    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "--scale", "0.001", "--rounds", "1", "--contenders", "beam,pure"),
            *("--only", "throughput,codec", "--json", numbers, "--chart", chart),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "bench: round 1 of 1 is measured\n")
    assert "small messages received" in done.stdout
    document = json.loads(numbers.read_text())
    assert set(document["rounds"]) == {"beam", "pure"}
    assert document["machine"]["otp"]
    assert "small messages received" in chart.read_text()


def test_ctrl_c_prints_what_was_measured_and_ends_all_nodes(tmp_path):
    numbers = tmp_path / "numbers.json"
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "bench", "--scale", "0.001", "--rounds", "1000", "--contenders", "beam"),
            *("--only", "throughput", "--json", numbers),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as bench:  # fmt: skip
        bench.stderr.readline()  # one round is measured
        bench.send_signal(signal.SIGINT)
        printed, errors = bench.communicate(timeout=60)

    assert bench.returncode == 130
    assert "small messages received" in printed
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert json.loads(numbers.read_text())["rounds"]["beam"]


def test_the_command_of_users_measures_a_beam(cluster, otp):
    beam = cluster.beam("a", otp=otp)

    done = subprocess.run(
        [
            *(sys.executable, "-m", "erlmesh", "bench", beam.name, "--seconds", "0.05", "--json"),
            *("--cookie", "monster"),
        ],
        env={**os.environ, **python_environment(cluster.epmd_port, cluster.home)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout)
    assert figures["round_trips"] > 0
    assert figures["megabytes_per_second"] > 0
    assert beam.eval("is_pid(whereis(net_kernel))") is True
