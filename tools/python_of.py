"""Brings another CPython beside the installed one: ``python tools/python_of.py 3.13`` prints a program that is it.

As :mod:`otp` does for Erlang, from the packages of another Debian release, unpacked below ``.otp/``: nothing is
installed, no root is needed, and a second call prints the path at once. It has the standard library and nothing else.

Exit status: 0 the path is printed; 3 this machine cannot do it, for the reason on standard error; 1 it should have
worked and did not.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path

from otp import CANNOT_HERE, HOME, CannotHere, check_machine, fetch, run, script

RELEASES = {"3.13": "trixie"}


def door(home: Path, root: Path, version: str) -> Path:
    """A script that starts it with the loader, the libraries and the modules it was built for."""
    loader = next(path for path in sorted((root / "usr/lib").glob("*/ld-linux-*.so.*")))
    program, python = home / "python", root / f"usr/bin/python{version}"
    start = f'exec "{loader}" --library-path "{loader.parent}" "{python}" "$@"'
    script(program, f'export PYTHONHOME="{root}/usr" PYTHONDONTWRITEBYTECODE=1', start)
    return program


def bring(version: str) -> Path:
    """The path of that version's program, fetched if need be. Callers in other processes wait for each other."""
    home = HOME / f"python{version}"
    program, done = home / "python", home / "done"
    HOME.mkdir(exist_ok=True)
    with (HOME / f"python{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists() and done.read_text() == str(home):
            return program
        check_machine()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        root = fetch(home, RELEASES[version], [f"python{version}"])
        door(home, root, version)
        says = run([str(program), "-c", "import asyncio, hashlib, sys; print('%d.%d' % sys.version_info[:2])"]).strip()
        if says != version:
            raise RuntimeError(f"{program} says it is Python {says}, not {version}")
        done.write_text(str(home))
    return program


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in RELEASES:
        sys.stderr.write(f"usage: python_of.py {'|'.join(RELEASES)}\n")
        return 2
    (version,) = arguments
    try:
        print(bring(version))
    except CannotHere as why:
        sys.stderr.write(f"Python {version}: {why}\n")
        return CANNOT_HERE
    except (RuntimeError, OSError, subprocess.SubprocessError) as why:
        sys.stderr.write(f"Python {version} could not be set up in {HOME / f'python{version}'}: {why}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
