"""Both builds give the same histories: the simulated network draws by the bytes, and both write the same bytes."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from erlmesh import native
from simulation.both_builds import compare
from simulation.run_seeds import ScenarioResult, run_one
from simulation.runner import main

ROOT = Path(__file__).parents[2]
PYTHON_PATH = os.pathsep.join(str(ROOT / folder) for folder in ("src", "tests"))
NATIVE = ScenarioResult(7, 12.5, None, "abc", 900, "native")
PURE = replace(NATIVE, build="pure")


@pytest.mark.skipif(native.module is None, reason=native.description)
def test_both_builds_give_the_same_histories():
    done = subprocess.run(
        [sys.executable, "-m", "simulation", "--both-builds", "--first", "1", "--seeds", "5"],
        capture_output=True, text=True, check=False, timeout=200, env={**os.environ, "PYTHONPATH": PYTHON_PATH},
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 scenarios" in done.stdout


def test_two_runs_of_a_seed_have_the_same_outcome_and_two_seeds_have_not():
    assert run_one(10, 3).outcome == run_one(10, 3).outcome
    assert run_one(10, 3).outcome != run_one(10, 4).outcome


def test_equal_outcomes_of_both_builds_are_one_result():
    assert compare(NATIVE, PURE) == replace(NATIVE, build="both")


def test_a_violation_in_both_builds_is_reported_once():
    failed = [replace(result, violation="InvariantViolation: a promise") for result in (NATIVE, PURE)]

    assert compare(*failed).violation == "InvariantViolation: a promise"


@pytest.mark.parametrize(
    "difference",
    [
        {"fingerprint": "def"},
        {"chunks": 901},
        {"virtual_seconds": 12.6},
        {"violation": "InvariantViolation: a promise"},
    ],
)
def test_each_difference_of_the_outcomes_is_a_violation(difference):
    violation = compare(NATIVE, replace(PURE, **difference)).violation

    assert violation.startswith("the builds differ: native abc, 900 chunks in 12.5 s, passed, pure ")


def test_two_results_of_one_build_are_a_violation():
    assert compare(PURE, PURE).violation == "nothing is compared: the builds were pure and pure"


def test_without_the_native_part_the_comparison_says_why_it_is_not_possible(monkeypatch, capsys):
    monkeypatch.setattr(native, "module", None)

    assert main(["--both-builds", "--seeds", "1"]) == 2

    assert capsys.readouterr().err == f"nothing to compare: {native.description}\n"
