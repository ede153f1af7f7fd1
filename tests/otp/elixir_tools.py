"""The programs of the Elixir beside an OTP, and what runs the companion in ``elixir/``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from beam import NoSuchOtp, otp_environment, programs
from pynode import python_environment

__all__ = ["COMPANION", "PROBE", "elixir_environment", "elixir_program", "mix", "run_elixir"]

COMPANION = Path(__file__).parents[2] / "elixir"
PROBE = COMPANION / "test/support"
"""The folder with the Python module of the tests of the companion."""


def elixir_program(otp: int | None, name: str = "elixir") -> str:
    """The path of ``elixir``, ``elixirc`` or ``mix``. Raises NoSuchOtp."""
    own = programs(otp).parent / "root/usr/lib/elixir/bin" / name
    if name == "elixir" and own.exists():
        return str(programs(otp) / name)  # the launcher finds its own erl
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        raise NoSuchOtp(f"{name} is not installed")
    return found


def elixir_environment(otp: int | None, epmd_port: int, home: Path) -> dict[str, str]:
    """The environment of an isolated Elixir whose Python nodes have the build of this run."""
    python = {key: value for key, value in python_environment(epmd_port, home).items() if value}
    return {
        **python,
        **otp_environment(epmd_port, home, programs(otp)),
        "COMPANION_PYTHON": sys.executable,
        "MIX_BUILD_PATH": str(home / f"build-{otp}"),
        "MIX_ENV": "test",
    }


def run_elixir(arguments: list[str], environment: dict[str, str], folder: Path = COMPANION) -> str:
    """Run a program to its end in ``folder`` and return its output. Raises AssertionError if it fails."""
    done = subprocess.run(
        arguments, env={**os.environ, **environment}, cwd=folder, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, timeout=500,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == 0, f"exit status {done.returncode}\n{output}"
    return output


def mix(otp: int | None, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
    """The command ``elixir OPTIONS mix ARGUMENTS``."""
    return [elixir_program(otp), *options, elixir_program(otp, "mix"), *arguments]
