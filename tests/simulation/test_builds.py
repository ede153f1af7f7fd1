"""Both builds give the same histories: the simulated network draws by the bytes, and both write the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from erlmesh import native

ROOT = Path(__file__).parents[2]
PYTHON_PATH = os.pathsep.join(str(ROOT / folder) for folder in ("src", "tests"))


def history(seed, **environment):
    """Return the output of the scenario with this seed in a new Python."""
    command = [sys.executable, "-m", "simulation", "--seed", str(seed)]
    environment = {**os.environ, "PYTHONPATH": PYTHON_PATH, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=100, env=environment).stdout


@pytest.mark.skipif(native.module is None, reason=native.description)
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_both_builds_give_the_same_history(seed):
    assert history(seed) == history(seed, ERLMESH_PURE="1")
