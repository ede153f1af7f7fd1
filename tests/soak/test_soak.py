"""The soak test as part of `make test`: three minutes in CI, one minute elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from beam import NoSuchOtp, programs
from skips import skip_or_fail

MINUTES = 3 if os.environ.get("CI") == "true" else 1
OTPS = (25, 27, 29)
TESTS = Path(__file__).parents[1]


@pytest.mark.timeout(MINUTES * 60 + 400)
def test_a_mesh_under_load_and_faults_keeps_nothing():
    try:
        for otp in OTPS:
            programs(otp)
    except NoSuchOtp as error:
        skip_or_fail(str(error))
    command = [sys.executable, "-m", "soak", "--minutes", str(MINUTES), "--otp", *map(str, OTPS)]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])

    result = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )

    assert result.returncode == 0, f"{result.stdout[-6_000:]}\n{result.stderr[-4_000:]}"
