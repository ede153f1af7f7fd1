"""Figures of this operating system process and its machine, as tools show them. Where Linux's ``/proc`` is not there,
a figure is 0 or missing.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Final

from erlmesh.version import __version__

__all__ = ["architecture", "banner", "cpu_seconds", "io_bytes", "load_averages", "machine_memory", "resident_bytes"]

_PROC: Final = Path("/proc")


def banner() -> str:
    """What the node runs, in one line."""
    return f"erlmesh {__version__} on {platform.python_implementation()} {platform.python_version()}"


def architecture() -> str:
    """The machine and its system, as ``x86_64-linux``."""
    return f"{platform.machine()}-{sys.platform}"


def resident_bytes() -> int:
    """The memory of this operating system process. Without ``/proc`` it is the most that it had."""
    try:
        return int(_PROC.joinpath("self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return _peak_bytes()


def _peak_bytes() -> int:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def io_bytes() -> tuple[int, int]:
    """Bytes that this operating system process has read and written, of files and sockets."""
    try:
        numbers = dict(line.split(b":") for line in _PROC.joinpath("self/io").read_bytes().splitlines())
        return int(numbers[b"rchar"]), int(numbers[b"wchar"])
    except (OSError, ValueError, KeyError):
        return 0, 0


def cpu_seconds() -> float:
    """The processor time that this operating system process has used."""
    return time.process_time()


def load_averages() -> tuple[float, float, float] | None:
    """The load of the machine in the last 1, 5 and 15 minutes; None if it is not known."""
    try:
        return os.getloadavg()
    except (OSError, AttributeError):
        return None


def machine_memory() -> dict[str, int]:
    """Bytes of memory of the machine, under the names of ``/proc/meminfo``."""
    try:
        lines = _PROC.joinpath("meminfo").read_bytes().splitlines()
    except OSError:
        return {}
    numbers = ((name.decode(), rest.split()) for name, _, rest in (line.partition(b":") for line in lines))
    return {name: int(rest[0]) * 1024 for name, rest in numbers if rest and rest[0].isdigit()}
