"""A short run of the coverage-guided fuzzer on each target. ``make fuzz`` runs it for longer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.guided_names import NAMES
from skips import skip_or_fail

SECONDS = 12
TESTS = Path(__file__).parents[1]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", NAMES)
def test_new_input_breaks_no_promise(target):
    command = [sys.executable, "-m", "fuzz.guided", target, "--seconds", str(SECONDS)]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])

    result = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )

    if result.returncode == os.EX_UNAVAILABLE:
        skip_or_fail(result.stderr.strip())
    assert result.returncode == 0, f"{result.stdout[-2_000:]}\n{result.stderr[-6_000:]}"
