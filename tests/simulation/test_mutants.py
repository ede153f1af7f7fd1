"""The scenarios and the unit tests kill all mutants that are not equivalent."""

import importlib
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from simulation.mutants import EQUIVALENT, MUTANTS, UNIT_TESTS

RUN_MUTANTS = Path(__file__).parent / "run_mutants.py"
ROOT = Path(__file__).parents[2]
UNIT_TEST_FOLDER = ROOT / "tests" / "unit"
KILLED_BY = (Path(__file__).parent / "mutants" / "killed_by.txt").read_text().splitlines()
KILLERS = [line.rsplit(": ", 1) for line in KILLED_BY if not line.startswith("#")]
MODULES = [f"simulation.{path.stem}" for path in sorted(Path(__file__).parent.glob("[a-z]*.py"))]


@pytest.mark.parametrize("mutant", MUTANTS + EQUIVALENT, ids=str)
def test_mutant_applies(mutant):
    function = mutant.function()
    before = function.__code__

    with mutant.applied():
        assert function.__code__ is not before

    assert function.__code__ is before


def test_mutants_have_unique_descriptions():
    assert [
        name for name, count in Counter(mutant.description for mutant in MUTANTS + EQUIVALENT).items() if count > 1
    ] == []


def test_equivalent_mutants_have_a_proof():
    assert [mutant.description for mutant in EQUIVALENT if not mutant.proof] == []


@pytest.mark.timeout(1800)
def test_all_mutants_are_killed():
    done = subprocess.run([sys.executable, RUN_MUTANTS, "--cached"], capture_output=True, text=True, check=False)

    results = [line for line in done.stdout.splitlines() if not line.startswith("    ")]
    assert [line for line in results[:-1] if ": killed by " not in line] == [], done.stderr
    assert len(results) == len(MUTANTS) + 1, done.stderr
    assert done.returncode == 0, done.stderr


def test_targets_of_the_unit_tests_exist():
    modules = {mutant.target.partition(":")[0] for mutant in MUTANTS + EQUIVALENT}

    for prefix, tests in UNIT_TESTS.items():
        assert any(module.startswith(prefix) for module in modules), prefix
        assert [test for test in tests if not (UNIT_TEST_FOLDER / test).is_file()] == []


def test_records_of_killers_name_existing_mutants_and_tests():
    descriptions = {mutant.description for mutant in MUTANTS}
    for killer, description in KILLERS:
        assert description in descriptions
        path, _, name = killer.partition("::")
        if not killer.startswith("seed "):
            function = re.escape(name.partition("[")[0])
            assert re.search(rf"def {function}\b", (ROOT / path).read_text()), killer


@pytest.mark.parametrize("module", MODULES)
def test_module_of_the_simulation_is_importable(module):
    importlib.import_module(module)
