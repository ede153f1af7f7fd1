"""The distributions, built once a run, and an environment that holds nothing but the built wheel."""

import fcntl
import sys
import venv

import pytest
from programs import ROOT, run


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """The folder with the sdist, and with the wheel that was built from it. All workers of one run share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if base.name.startswith("popen-") else base) / "dist"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = tmp_path_factory.mktemp("unfinished")
            run(sys.executable, "-m", "build", "--outdir", unfinished, ROOT)
            unfinished.rename(folder)
    return folder


@pytest.fixture
def installed(dist, tmp_path):
    """The folder of the programs of an environment that has the wheel and no other package."""
    venv.create(tmp_path / "venv", symlinks=True)
    programs = tmp_path / "venv/bin"
    (wheel,) = dist.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", programs / "python", "install", "--quiet", "--no-index", wheel)
    return programs
