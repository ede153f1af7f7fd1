"""Unpacks Debian's packages below ``.otp/``, beside what is installed: for programs that this machine has not got.

Debian's releases carry different Erlangs and Pythons. Packages, with everything those need down to the C library, are
fetched with a private apt configuration and unpacked: nothing is installed, no root is needed. The mirrors are the ones
this machine's apt already uses.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

HOME = (Path(__file__).resolve().parent.parent / ".otp").resolve()  # several work trees may share one by a link
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CANNOT_HERE = 3


class CannotHere(Exception):
    """This machine has no way to get it; the message says why."""


def run(command: list[str], **options) -> str:
    """Runs ``command`` and gives its standard output; a failure shows what it wrote."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def mirrors() -> list[str]:
    """The archives this machine's apt reads Debian from: the main one, then security's."""
    targets = run(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)", "Created-By: Packages"]).split()
    places = sorted({target.split("|", 1)[1] for target in targets if target.startswith("Debian|")})
    if not places:
        raise CannotHere("apt knows no Debian archive yet: run apt-get update once")
    return sorted(places, key=lambda place: "security" in place)


def check_machine() -> None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise CannotHere(f"it comes from Debian's packages, and this machine has no {tool}")
    if not KEYRING.exists():
        raise CannotHere(f"{KEYRING} is missing (package debian-archive-keyring): packages could not be verified")


def private_apt(home: Path, release: str) -> dict[str, str]:
    """An apt configuration of its own, for which nothing is installed: so it fetches the whole closure of a package."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "status").touch()
    suites = [(place, f"{release}-security" if "security" in place else release) for place in mirrors()]
    (home / "sources.list").write_text(
        "".join(f"deb [signed-by={KEYRING}] {at} {suite} main\n" for at, suite in suites)
    )
    (home / "apt.conf").write_text(
        textwrap.dedent(f"""\
            Dir::Etc::sourcelist "{home}/sources.list";
            Dir::Etc::sourceparts "/dev/null";
            Dir::State::lists "{home}/lists";
            Dir::State::status "{home}/status";
            Dir::Cache "{home}/cache";
            Dir::Log "{home}";
            Acquire::Languages "none";
            Acquire::Retries "3";
            APT::Sandbox::User "";
            APT::Install-Recommends "false";
            Debug::NoLocking "true";
        """)
    )
    return {**os.environ, "APT_CONFIG": str(home / "apt.conf")}


def fetch(home: Path, release: str, packages: list[str]) -> Path:
    """Downloads and unpacks; gives the root of the unpacked tree."""
    apt, root = private_apt(home, release), home / "root"
    run(["apt-get", "update", "-q"], env=apt)
    run(["apt-get", "install", "-q", "--yes", "--download-only", *packages], env=apt)
    root.mkdir()
    for top in ("bin", "sbin", "lib", "lib64"):  # the merged layout, which older packages leave to base-files
        (root / "usr" / top).mkdir(parents=True, exist_ok=True)
        (root / top).symlink_to(f"usr/{top}")
    for package in sorted((home / "cache/archives").glob("*.deb")):
        unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        run_tar = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(root)]
        subprocess.run(run_tar, stdin=unpacked.stdout, check=True)
        if unpacked.wait():
            raise RuntimeError(f"{package} cannot be unpacked")
    shutil.rmtree(home / "cache")
    shutil.rmtree(home / "lists")
    return root


def script(path: Path, *lines: str) -> None:
    path.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    path.chmod(0o755)


def start_on_its_own_libraries(program: Path, root: Path, options: str = "") -> None:
    """Has ``program`` started with the loader and the libraries it was built for; ``options`` are the loader's."""
    loader = next(path for path in sorted((root / "usr/lib").glob("*/ld-linux-*.so.*")))
    real = program.rename(program.with_name(program.name + ".real"))
    script(program, f'exec "{loader}" --library-path "{loader.parent}" {options} "{real}" "$@"')


def once(name: str, build: Callable[[Path], Path]) -> Path:
    """The program that ``build`` makes in ``.otp/NAME``, if it is not there yet. Callers in other processes wait for
    each other.
    """
    home = HOME / name
    done = home / "done"
    HOME.mkdir(exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            program = Path(done.read_text())
            if program.is_file() and home in program.parents:  # else the folder was moved, and scripts name the old one
                return program
        check_machine()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        program = build(home)
        done.write_text(str(program))
    return program


def answer(what: str, bring: Callable[[], Path]) -> int:
    """Prints the path that ``bring`` gives. The exit status: 0 it is printed; 3 this machine cannot do it, for the
    reason on standard error; 1 it should have worked and did not.
    """
    try:
        print(bring())
    except CannotHere as why:
        sys.stderr.write(f"{what}: {why}\n")
        return CANNOT_HERE
    except (RuntimeError, OSError, subprocess.SubprocessError) as why:
        sys.stderr.write(f"{what} cannot be had: {why}\n")
        return 1
    return 0


def answer_all(
    arguments: list[str], usage: str, kind: str, releases: dict[str, str], bring: Callable[[str], Path]
) -> int:
    """:func:`answer` for each version in ``arguments``, until one cannot be had; 2 if that is no call at all."""
    if not arguments or not set(arguments) <= set(releases):
        sys.stderr.write(f"usage: {usage} {'|'.join(releases)} ...\n")
        return 2
    codes = (answer(f"{kind} {version}", partial(bring, version)) for version in arguments)
    return next((code for code in codes if code), 0)
