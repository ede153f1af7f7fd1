"""The native part is used if it is installed and fits, and refused with a reason otherwise."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import erlmesh
from erlmesh import native

ROOT = Path(__file__).parent.parent.parent
SHOW = "import erlmesh.native as native; print(native.module is None, native.description)"


def run_python(program, tmp_path, **environment):
    """Run a program in a new Python that finds erlmesh, and a fake erlmesh_native first. Return stdout and stderr."""
    program = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT / 'src')!r}]\n{program}"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip(), done.stderr


def test_all_places_have_the_same_version():
    crate = tomllib.loads((ROOT / "native/Cargo.toml").read_text())["package"]["version"]
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["native"]

    assert crate == erlmesh.__version__
    assert extra == [f"erlmesh-native=={erlmesh.__version__}"]


def test_the_lock_file_has_the_version_of_the_crate():
    locked = re.search(r'name = "erlmesh-native"\nversion = "(.*)"', (ROOT / "native/Cargo.lock").read_text())

    assert locked[1] == erlmesh.__version__


def test_the_description_says_which_build_runs_and_why():
    assert native.description == (
        f"native (erlmesh-native {erlmesh.__version__})" if native.module else f"pure Python ({native.reason})"
    )
    assert bool(native.reason) == (native.module is None)


@pytest.mark.parametrize(("value", "is_refused"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_a_variable_refuses_the_native_part(tmp_path, value, is_refused):
    (tmp_path / "erlmesh_native.py").write_text(f"__version__ = {erlmesh.__version__!r}")

    out, err = run_python(SHOW, tmp_path, ERLMESH_PURE=value)

    expected = f"True pure Python (ERLMESH_PURE={value} is set)"
    assert out == (expected if is_refused else f"False native (erlmesh-native {erlmesh.__version__})")
    assert err == ""


def test_another_version_is_refused_with_a_warning(tmp_path):
    (tmp_path / "erlmesh_native.py").write_text("__version__ = '0.0.7'")

    out, err = run_python(SHOW, tmp_path)

    assert out.startswith("True pure Python (erlmesh-native has version 0.0.7, but erlmesh has version")
    assert "RuntimeWarning: erlmesh-native has version 0.0.7" in err
    assert "pip install --upgrade 'erlmesh[native]'" in err


@pytest.mark.parametrize(
    "broken",
    ["import no_such_module", "raise ImportError('wrong platform')", "raise RuntimeError('no')", "(", "x = 1"],
)
def test_a_broken_package_is_refused_with_a_warning(tmp_path, broken):
    (tmp_path / "erlmesh_native.py").write_text(broken)

    out, err = run_python(SHOW, tmp_path)

    assert out.startswith("True pure Python (erlmesh-native ")
    assert "RuntimeWarning: erlmesh-native " in err


def test_a_missing_package_is_no_warning(tmp_path):
    hide = "sys.modules['erlmesh_native'] = None\n"  # the import then raises ModuleNotFoundError with this name

    out, err = run_python(hide + SHOW, tmp_path)

    assert (out, err) == ("True pure Python (erlmesh-native is not installed)", "")
