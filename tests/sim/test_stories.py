"""Random lives of a cluster keep all promises; those that once did not are told again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from erlmesh.testing.story import tell

HERE = Path(__file__).parent
SRC = HERE.parents[1] / "src"
SEEDS = [int(line.split()[0]) for line in (HERE / "seeds.txt").read_text().splitlines() if line[:1].isdigit()]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_story_that_once_failed_is_true_now(seed):
    tell(seed)


@pytest.mark.parametrize("seed", range(1_000_000, 1_000_030))
def test_a_story_is_true(seed):
    tell(seed)


def test_one_seed_gives_one_history_whatever_the_hash_seed():
    code = "from erlmesh.testing.story import tell; print([tell(seed) for seed in range(2_000_000, 2_000_004)])"

    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(SRC)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "4711")
    }

    assert len(told) == 1
