"""Type checks of the code in README, unchanged. `make check` also checks `tests/typing`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_code_in_the_readme_passes_strict_mypy(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    blocks = [code for code in blocks if "def test_" not in code]  # tests have no annotations
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
