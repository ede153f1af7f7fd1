"""What type checkers are told: README's code as it stands there, and `tests/typing`, which `make check` checks too."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_what_the_readme_shows_passes_mypy_as_strictly_as_our_own_code(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    blocks = [code for code in blocks if "def test_" not in code]  # nobody annotates tests
    files = []
    for number, code in enumerate(blocks):
        files.append(tmp_path / f"block{number}.py")
        files[-1].write_text(code)

    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", ROOT / ".mypy_cache", *files]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={"MYPYPATH": str(ROOT / "src")}, check=False
    )

    assert len(blocks) >= 2
    assert done.returncode == 0, done.stdout
