"""The stories, and with them the unit tests, catch every deliberately wrong version that anybody could notice."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from simulation.mutants import EQUIVALENT, MUTANTS

RUN_MUTANTS = Path(__file__).parent / "run_mutants.py"


@pytest.mark.parametrize("mutant", MUTANTS + EQUIVALENT, ids=str)
def test_a_mutant_applies(mutant):
    function = mutant.function()
    before = function.__code__

    with mutant.applied():
        assert function.__code__ is not before

    assert function.__code__ is before


def test_mutants_have_names_of_their_own():
    assert [
        name for name, count in Counter(mutant.description for mutant in MUTANTS + EQUIVALENT).items() if count > 1
    ] == []


def test_what_is_said_to_be_equivalent_has_a_proof():
    assert [mutant.description for mutant in EQUIVALENT if not mutant.proof] == []


@pytest.mark.timeout(900)
def test_every_mutant_is_caught():
    judged = subprocess.run([sys.executable, RUN_MUTANTS, "--cached"], capture_output=True, text=True, check=False)

    verdicts = [line for line in judged.stdout.splitlines() if not line.startswith("    ")]
    assert [line for line in verdicts[:-1] if ": caught by " not in line] == [], judged.stderr
    assert len(verdicts) == len(MUTANTS) + 1, judged.stderr
    assert judged.returncode == 0, judged.stderr
