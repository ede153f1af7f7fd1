"""Brings another Erlang/OTP, with its Elixir, beside the installed one: ``python tools/otp.py 23`` prints its ``erl``.

It comes from the packages of another Debian release (see :mod:`debian`); a second call prints the path at once.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from debian import answer_all, fetch, once, run, script, start_on_its_own_libraries

RELEASES = {"23": "bullseye", "25": "bookworm", "27": "trixie", "29": "forky"}
PACKAGES = ["erlang-base", "elixir"]
PROGRAMS = ["erl", "erlc", "iex", "elixir", "epmd"]


def run_on_its_own_libraries(root: Path, erts: Path) -> None:
    """As :func:`start_on_its_own_libraries`, for each program of the run-time system."""
    for program in sorted((erts / "bin").iterdir()):
        with program.open("rb") as file:
            is_elf = file.read(4) == b"\x7fELF"
        if is_elf and not program.is_symlink():
            start_on_its_own_libraries(program, root)


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


def build(version: str, home: Path) -> Path:
    root = fetch(home, RELEASES[version], PACKAGES)
    erts = next((root / "usr/lib/erlang").glob("erts-*"))
    run_on_its_own_libraries(root, erts)
    doors(home, root, erts)
    erl = home / "bin/erl"
    says = run([str(erl), "-noshell", "-eval", "io:format(erlang:system_info(otp_release)), halt()."])
    if says != version:
        raise RuntimeError(f"{erl} says it is OTP {says}, not {version}")
    return erl


def bring(version: str) -> Path:
    """The path of that version's ``erl``, fetched if need be."""
    return once(version, partial(build, version))


if __name__ == "__main__":
    sys.exit(answer_all(sys.argv[1:], "otp.py", "OTP", RELEASES, bring))
