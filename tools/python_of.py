"""Find or fetch another version of CPython: ``python tools/python_of.py 3.13`` prints the path of its program.

First the PATH and pyenv are searched. Otherwise it comes from the packages of another Debian release (see
:mod:`debian`), with the standard library only. Later calls print the path at once.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from debian import NotAvailable, build_once, fetch, print_paths, run, wrap_with_own_loader

RELEASES = {"3.11": "bookworm", "3.12": "", "3.13": "trixie", "3.14": "forky"}  # no Debian release has 3.12
PRINT_VERSION = "import asyncio, hashlib, sys, venv; print('%d.%d' % sys.version_info[:2])"


def find(version: str) -> Path | None:
    """Return the path of that version if this machine has it. A pyenv shim may start nothing, so run each candidate."""
    on_path = shutil.which(f"python{version}")
    pyenv = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python{version}"))
    for program in [*([Path(on_path)] if on_path else []), *pyenv]:
        done = subprocess.run([program, "-c", PRINT_VERSION], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return program
    return None


def build(version: str, home: Path) -> Path:
    root = fetch(home, RELEASES[version], [f"python{version}"])
    program = root / f"usr/bin/python{version}"
    # argv[0] is the script, so sys.executable is too, and a venv made by it links to the script.
    wrap_with_own_loader(program, root, '--argv0 "$0"')
    reported = run([str(program), "-c", PRINT_VERSION]).strip()
    if reported != version:
        raise RuntimeError(f"{program} reports Python {reported}, not {version}")
    return program


def provide(version: str) -> Path:
    """Return the path of that version's program. Fetch it if this machine does not have it."""
    path = find(version)
    if path is None and not RELEASES[version]:
        raise NotAvailable("this machine does not have it, and no Debian release has it")
    return path or build_once(f"python{version}", partial(build, version))


if __name__ == "__main__":
    sys.exit(print_paths(sys.argv[1:], "python_of.py", "Python", RELEASES, provide))
