"""How the tests of the distributions run other programs."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def run(*command, **environment):
    """What ``command`` prints. A command that fails is a failed assertion that shows it."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
