"""The machine and the versions of a run, for the JSON and the foot of the chart."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.contenders import ROOT, Contender

__all__ = ["describe_machine"]


def describe_machine(contenders: list[Contender], otp: str) -> dict[str, Any]:
    """What a reader of the figures must know. The load is that before the run."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "otp": otp,
        "uvloop": _version("uvloop"),
        "erlmesh": _version("erlmesh"),
        "erlmesh-native": _version("erlmesh-native"),
        "commit": _commit(),
        "contenders": [contender.name for contender in contenders],
        "load_before": list(os.getloadavg()),
    }


def _processor() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout, None outside git."""
    try:
        done = subprocess.run(
            ["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None
