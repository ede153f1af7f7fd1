"""What the README shows is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_library_example_runs(tmp_path, free_port):
    (code,) = re.findall(r"<!-- tests/test_readme.py runs this -->\n```python\n(.*?)```", README, re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(code)
    environment = os.environ | {
        "ERL_EPMD_PORT": str(free_port),
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONUNBUFFERED": "1",
    }

    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as example:
        try:
            lines = [example.stdout.readline() for _ in range(2)]
        finally:
            example.kill()

    assert "knows no node 'plato'" in lines[0]
    assert re.fullmatch(r"<0\.\d+\.0> says hi\n", lines[1])


def test_every_command_of_the_readme_exists():
    from erlmesh.cli.main import COMMANDS

    blocks = "".join(re.findall(r"^```\w*\n(.*?)^```", README, re.DOTALL | re.MULTILINE))
    commands = set(re.findall(r"^(?:\$ )?erlmesh (\w+) ", blocks, re.MULTILINE))

    assert commands
    assert commands <= set(COMMANDS)
