#!/usr/bin/env python3
"""Fetch a file of Erlang/OTP's sources, such as a test suite, from Debian's source package.

    tools/otp_source.py 25 lib/kernel/test/pg_SUITE.erl      prints the path of the file

Files are written to ``.otp/source-VERSION``, which git ignores. Do not commit them. Exit status 3: this machine cannot
fetch the file (no apt, or not Debian); the reason is on standard error.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from functools import partial
from pathlib import Path

from debian import HOME, check_machine, print_path, private_apt, run
from otp import RELEASES


def provide(version: str, wanted: str) -> Path:
    """Return the path of the file ``wanted`` of that version's sources. Fetch it if necessary.

    A file lock makes concurrent callers in other processes wait.
    """
    home = HOME / f"source-{version}"
    HOME.mkdir(exist_ok=True)
    with (HOME / f"source-{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = home / wanted
        if not found.exists():
            check_machine()
            home.mkdir(exist_ok=True)
            unpack(fetch(home, RELEASES[version]), wanted, home)
        if not found.exists():
            raise RuntimeError(f"OTP {version} has no file {wanted}")
    return found


def fetch(home: Path, release: str) -> Path:
    """Download the sources, once, and return the path of the archive."""
    archives = list(home.glob("erlang_*.orig.tar.*"))
    if not archives:
        apt = {**os.environ, **private_apt(home, release)}
        sources = home / "sources.list"
        lines = sources.read_text().replace("deb [", "deb-src [").splitlines(keepends=True)
        # The security archive keeps no old sources, so the main archive is tried alone first. Some sources are only in
        # the security archive.
        for chosen in (lines[:1], lines):
            sources.write_text("".join(chosen))
            try:
                run(["apt-get", "update", "-q"], env=apt)
                run(["apt-get", "source", "-q", "--download-only", "--tar-only", "erlang"], env=apt, cwd=home)
                break
            except RuntimeError:
                if chosen == lines:
                    raise
        shutil.rmtree(home / "lists")
        archives = list(home.glob("erlang_*.orig.tar.*"))
    return archives[0]


def unpack(archive: Path, wanted: str, home: Path) -> None:
    run(["tar", "-x", "-f", str(archive), "-C", str(home), "--strip-components=1", "--wildcards", f"*/{wanted}"])


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in RELEASES:
        sys.stderr.write(f"usage: otp_source.py {'|'.join(RELEASES)} PATH\n")
        return 2
    version, wanted = arguments
    return print_path(f"{wanted} of OTP {version}", partial(provide, version, wanted))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
