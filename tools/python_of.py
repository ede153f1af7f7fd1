"""Finds another CPython, or brings it: ``python tools/python_of.py 3.13`` prints a program that is it.

The machine may have it, on its path or from pyenv. Else it comes from the packages of another Debian release (see
:mod:`debian`), with the standard library and nothing else; a second call prints the path at once.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from debian import CannotHere, answer_all, fetch, once, run, start_on_its_own_libraries

RELEASES = {"3.11": "bookworm", "3.12": "", "3.13": "trixie", "3.14": "forky"}  # no Debian has had 3.12
TELL = "import asyncio, hashlib, sys, venv; print('%d.%d' % sys.version_info[:2])"


def found(version: str) -> Path | None:
    """That version, if this machine has it; a shim of pyenv's may be there and start nothing."""
    on_path = shutil.which(f"python{version}")
    pyenv = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python{version}"))
    for program in [*([Path(on_path)] if on_path else []), *pyenv]:
        says = subprocess.run([program, "-c", TELL], capture_output=True, text=True, check=False)
        if says.stdout.strip() == version:
            return program
    return None


def build(version: str, home: Path) -> Path:
    root = fetch(home, RELEASES[version], [f"python{version}"])
    program = root / f"usr/bin/python{version}"
    start_on_its_own_libraries(program, root, '--argv0 "$0"')  # so it knows itself by this name, and so does a venv
    says = run([str(program), "-c", TELL]).strip()
    if says != version:
        raise RuntimeError(f"{program} says it is Python {says}, not {version}")
    return program


def bring(version: str) -> Path:
    """The path of that version's program, found, or else fetched if need be."""
    here = found(version)
    if here is None and not RELEASES[version]:
        raise CannotHere("this machine has none, and no release of Debian to take it from")
    return here or once(f"python{version}", partial(build, version))


if __name__ == "__main__":
    sys.exit(answer_all(sys.argv[1:], "python_of.py", "Python", RELEASES, bring))
