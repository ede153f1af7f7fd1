"""Runs pytest in another process, as a project that has erlmesh installed."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

__all__ = ["run_pytest"]

ROOT = Path(__file__).parents[1]


def run_pytest(folder, code, *arguments, beside=("-p", "no:asyncio")):
    """Runs the test file ``code`` in ``folder``; ``beside`` chooses the other plugins."""
    (folder / "test_it.py").write_text(code)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    loads = [] if _is_installed() else ["-p", "erlmesh.testing.pytest_plugin"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *loads, *beside, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def _is_installed():
    return any(point.value == "erlmesh.testing.pytest_plugin" for point in entry_points(group="pytest11"))
