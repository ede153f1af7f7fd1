"""Brings another Erlang/OTP, with its Elixir, beside the installed one: ``python tools/otp.py 23`` prints its ``erl``.

Debian's releases carry different OTPs. Their packages, with everything those need down to the C library, are fetched
with a private apt configuration and unpacked below ``.otp/``: nothing is installed, no root is needed, and a second
call prints the path at once. The mirrors are the ones this machine's apt already uses.

Exit status: 0 the path is printed; 3 this machine cannot do it, for the reason on standard error; 1 it should have
worked and did not.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

RELEASES = {"23": "bullseye", "25": "bookworm", "27": "trixie"}
PACKAGES = ["erlang-base", "elixir"]
PROGRAMS = ["erl", "erlc", "iex", "elixir", "epmd"]
HOME = (Path(__file__).resolve().parent.parent / ".otp").resolve()  # several work trees may share one by a link
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CANNOT_HERE = 3


class CannotHere(Exception):
    """This machine has no way to get another OTP; the message says why."""


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
            raise CannotHere(f"another OTP comes from Debian's packages, and this machine has no {tool}")
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


def run_on_its_own_libraries(root: Path, erts: Path) -> None:
    """Has each program of the run-time system started with the loader and libraries it was built for."""
    loader = next(path for path in sorted((root / "usr/lib").glob("*/ld-linux-*.so.*")))
    for program in sorted((erts / "bin").iterdir()):
        with program.open("rb") as file:
            is_elf = file.read(4) == b"\x7fELF"
        if is_elf and not program.is_symlink():
            real = program.rename(program.with_name(program.name + ".real"))
            script(program, f'exec "{loader}" --library-path "{loader.parent}" "{real}" "$@"')


def doors(home: Path, root: Path, erts: Path) -> None:
    """The folder of programs to call: bin/erl, bin/iex, …"""
    otp, bin_folder = root / "usr/lib/erlang", home / "bin"
    bin_folder.mkdir()
    settings = f'export ROOTDIR="{otp}" BINDIR="{erts}/bin" EMU=beam PROGNAME=erl PATH="{bin_folder}:$PATH"'
    for program in PROGRAMS:
        elixir = root / "usr/lib/elixir/bin" / program
        if program == "erl":
            script(bin_folder / program, settings, 'exec "$BINDIR/erlexec" "$@"')
        elif elixir.exists():
            script(bin_folder / program, settings, f'exec "{elixir}" "$@"')
        else:
            script(bin_folder / program, settings, f'exec "{erts}/bin/{program}" "$@"')


def bring(version: str) -> Path:
    """The path of that version's ``erl``, fetched if need be. Callers in other processes wait for each other."""
    home = HOME / version
    erl, done = home / "bin/erl", home / "done"
    HOME.mkdir(exist_ok=True)
    with (HOME / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists() and done.read_text() == str(home):
            return erl
        check_machine()
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        root = fetch(home, RELEASES[version], PACKAGES)
        erts = next((root / "usr/lib/erlang").glob("erts-*"))
        run_on_its_own_libraries(root, erts)
        doors(home, root, erts)
        says = run([str(erl), "-noshell", "-eval", "io:format(erlang:system_info(otp_release)), halt()."])
        if says != version:
            raise RuntimeError(f"{erl} says it is OTP {says}, not {version}")
        done.write_text(str(home))
    return erl


def main(arguments: list[str]) -> int:
    if not arguments or not set(arguments) <= set(RELEASES):
        sys.stderr.write(f"usage: otp.py {'|'.join(RELEASES)} ...\n")
        return 2
    for version in arguments:
        try:
            print(bring(version))
        except CannotHere as why:
            sys.stderr.write(f"OTP {version}: {why}\n")
            return CANNOT_HERE
        except (RuntimeError, OSError, subprocess.SubprocessError) as why:
            sys.stderr.write(f"OTP {version} could not be set up in {HOME / version}: {why}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
