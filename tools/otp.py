"""Fetch another Erlang/OTP with its Elixir: ``python tools/otp.py 23`` prints the path of its ``erl``.

It comes from the packages of another Debian release (see :mod:`debian`) and does not change the installed OTP. Later
calls print the path at once.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from debian import build_once, fetch, print_paths, run, wrap_with_own_loader, write_script

RELEASES = {"23": "bullseye", "25": "bookworm", "27": "trixie", "29": "forky"}
PACKAGES = ["erlang-base", "erlang-ssl", "elixir"]  # TLS needs erlang-ssl, which brings crypto, asn1 and public_key
PROGRAMS = ["erl", "erlc", "iex", "elixir", "epmd"]


def wrap_programs(root: Path, erts: Path) -> None:
    """Call :func:`wrap_with_own_loader` for each program of the Erlang run-time system (ERTS)."""
    for program in sorted((erts / "bin").iterdir()):
        with program.open("rb") as file:
            is_elf = file.read(4) == b"\x7fELF"
        if is_elf and not program.is_symlink():
            wrap_with_own_loader(program, root)


def write_launchers(home: Path, root: Path, erts: Path) -> None:
    """Write the scripts that start the programs: bin/erl, bin/iex and so on in ``home``."""
    otp, bin_folder = root / "usr/lib/erlang", home / "bin"
    bin_folder.mkdir()
    settings = f'export ROOTDIR="{otp}" BINDIR="{erts}/bin" EMU=beam PROGNAME=erl PATH="{bin_folder}:$PATH"'
    for program in PROGRAMS:
        elixir = root / "usr/lib/elixir/bin" / program
        if program == "erl":
            write_script(bin_folder / program, settings, 'exec "$BINDIR/erlexec" "$@"')
        elif elixir.exists():
            write_script(bin_folder / program, settings, f'exec "{elixir}" "$@"')
        else:
            write_script(bin_folder / program, settings, f'exec "{erts}/bin/{program}" "$@"')


def build(version: str, home: Path) -> Path:
    root = fetch(home, RELEASES[version], PACKAGES)
    erts = next((root / "usr/lib/erlang").glob("erts-*"))
    wrap_programs(root, erts)
    write_launchers(home, root, erts)
    erl = home / "bin/erl"
    release = run([str(erl), "-noshell", "-eval", "io:format(erlang:system_info(otp_release)), halt()."])
    if release != version:
        raise RuntimeError(f"{erl} reports OTP {release}, not {version}")
    return erl


def provide(version: str) -> Path:
    """Return the path of that version's ``erl``. Fetch it if necessary."""
    return build_once(version, partial(build, version))


if __name__ == "__main__":
    sys.exit(print_paths(sys.argv[1:], "otp.py", "OTP", RELEASES, provide))
