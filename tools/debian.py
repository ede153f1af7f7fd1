"""Fetch programs that this machine does not have from Debian's packages, and unpack them in ``.otp/``.

Each Debian release has its own versions of Erlang and Python. A private apt configuration fetches the packages with all
their dependencies, including the C library. They are only unpacked: nothing is installed, and root is not needed. The
mirrors are the ones that this machine's apt uses.
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

HOME = (
    Path(__file__).resolve().parent.parent / ".otp"
).resolve()  # a symbolic link, if several work trees share the folder
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
EXIT_NOT_AVAILABLE = 3


class NotAvailable(Exception):
    """This machine cannot provide the program. The message gives the reason."""


def run(command: list[str], **options) -> str:
    """Run ``command`` and return its standard output. Raise RuntimeError with its whole output if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def mirrors() -> list[str]:
    """Return the URIs of the Debian archives that this machine's apt uses: the main archive first, then security."""
    targets = run(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(REPO_URI)", "Created-By: Packages"]).split()
    places = sorted({target.split("|", 1)[1] for target in targets if target.startswith("Debian|")})
    if not places:
        raise NotAvailable("apt has no index of a Debian archive. Run apt-get update once")
    return sorted(places, key=lambda place: "security" in place)


def check_machine() -> None:
    """Raise NotAvailable unless this machine has apt, dpkg and Debian's keys."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise NotAvailable(f"it comes from Debian packages, and this machine has no {tool}")
    if not KEYRING.exists():
        raise NotAvailable(f"{KEYRING} is missing (package debian-archive-keyring), so packages cannot be verified")


def private_apt(home: Path, release: str) -> dict[str, str]:
    """Write a private apt configuration and return the environment that selects it.

    Its status file is empty, so apt considers nothing installed and fetches all dependencies of a package.
    """
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "status").touch()
    suites = [(place, f"{release}-security" if "security" in place else release) for place in mirrors()]
    (home / "sources.list").write_text(
        "".join(f"deb [signed-by={KEYRING}] {place} {suite} main\n" for place, suite in suites)
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
    """Download ``packages`` with their dependencies, unpack them, and return the root of the unpacked tree."""
    apt, root = private_apt(home, release), home / "root"
    run(["apt-get", "update", "-q"], env=apt)
    run(["apt-get", "install", "-q", "--yes", "--download-only", *packages], env=apt)
    root.mkdir()
    for top in ("bin", "sbin", "lib", "lib64"):  # the merged-/usr layout; in older releases base-files creates it
        (root / "usr" / top).mkdir(parents=True, exist_ok=True)
        (root / top).symlink_to(f"usr/{top}")
    for package in sorted((home / "cache/archives").glob("*.deb")):
        unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        run_tar = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(root)]
        subprocess.run(run_tar, stdin=unpacked.stdout, check=True)
        if unpacked.wait():
            raise RuntimeError(f"unpacking {package} failed")
    shutil.rmtree(home / "cache")
    shutil.rmtree(home / "lists")
    return root


def write_script(path: Path, *lines: str) -> None:
    """Write an executable shell script."""
    path.write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
    path.chmod(0o755)


def wrap_with_own_loader(program: Path, root: Path, options: str = "") -> None:
    """Replace ``program`` by a script that starts it with the loader and the libraries from ``root``.

    ``options`` are passed to the loader.
    """
    loader = next(path for path in sorted((root / "usr/lib").glob("*/ld-linux-*.so.*")))
    real = program.rename(program.with_name(program.name + ".real"))
    write_script(program, f'exec "{loader}" --library-path "{loader.parent}" {options} "{real}" "$@"')


def build_once(name: str, build: Callable[[Path], Path]) -> Path:
    """Return the path of a program in ``.otp/NAME``. Call ``build`` if it does not exist yet.

    A file lock makes concurrent callers in other processes wait.
    """
    home = HOME / name
    done = home / "done"
    HOME.mkdir(exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists():
            program = Path(done.read_text())
            # If the path is outside of `home`, the folder was moved, and its scripts contain the old path: build again.
            if program.is_file() and home in program.parents:
                return program
        check_machine()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        program = build(home)
        done.write_text(str(program))
    return program


def print_path(what: str, provide: Callable[[], Path]) -> int:
    """Print the path that ``provide`` returns, and return the exit status.

    0: the path is printed. 1: an unexpected failure. 3: this machine cannot provide the program. For 1 and 3 the
    reason is on standard error.
    """
    try:
        print(provide())
    except NotAvailable as why:
        sys.stderr.write(f"{what}: {why}\n")
        return EXIT_NOT_AVAILABLE
    except (RuntimeError, OSError, subprocess.SubprocessError) as why:
        sys.stderr.write(f"{what} cannot be provided: {why}\n")
        return 1
    return 0


def print_paths(
    arguments: list[str], usage: str, kind: str, releases: dict[str, str], provide: Callable[[str], Path]
) -> int:
    """Call :func:`print_path` for each version in ``arguments`` up to the first failure, and return the exit status.

    2: the arguments are not valid.
    """
    if not arguments or not set(arguments) <= set(releases):
        sys.stderr.write(f"usage: {usage} {'|'.join(releases)} ...\n")
        return 2
    codes = (print_path(f"{kind} {version}", partial(provide, version)) for version in arguments)
    return next((code for code in codes if code), 0)
