"""The site of the documents: it can be built, and its generated pages are current."""

import importlib.util
import re
import subprocess
import sys

from blocks import ROOT

import erlmesh
from skips import import_or_skip


def test_the_site_builds_without_a_warning(tmp_path):
    import_or_skip("sphinx")

    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "-d", tmp_path / "doctrees",
         ROOT / "docs", tmp_path / "site"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/index.html").exists()


def test_the_api_reference_has_every_public_name():
    pages = "".join(page.read_text() for page in (ROOT / "docs/reference/api").glob("*.md"))
    shown = {path.rpartition(".")[2] for path in re.findall(r"auto(?:class|function|data):: ([\w.]+)", pages)}
    modules = set(re.findall(r"automodule:: ([\w.]+)", pages))

    missing = [
        name for name in erlmesh.__all__ if name not in shown and getattr(erlmesh, name).__module__ not in modules
    ]

    assert missing == []


def test_the_page_of_the_command_line_is_current():
    spec = importlib.util.spec_from_file_location("docs_commands", ROOT / "tools" / "docs_commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert module.TARGET.read_text() == module.commands(), "run `make docs-tables`"
