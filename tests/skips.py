"""Skips a test that this machine cannot run. In CI such a test fails."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from typing import Any, NoReturn

import pytest

__all__ = ["import_or_skip", "report_skips", "skip_or_fail"]

_PREFIX = "not tested: "


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the running test, or the module that is imported, because of what this machine lacks. With ``CI=true`` it
    fails instead.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must run this test, but this machine cannot: {reason}", pytrace=False)
    pytest.skip(_PREFIX + reason, allow_module_level=True)


def import_or_skip(module: str) -> Any:
    """Return the module. Without it, skip as :func:`skip_or_fail` does."""
    try:
        return importlib.import_module(module)
    except ImportError:
        skip_or_fail(f"{module} is not installed")


def report_skips(reporter: pytest.TerminalReporter) -> None:
    """Print one line for each reason, with the number of tests that :func:`skip_or_fail` skipped."""
    # The reports hold the reasons: the processes of xdist share no memory with this one.
    reasons = (report.longrepr[2].removeprefix("Skipped: ") for report in reporter.getreports("skipped"))
    counts = Counter(reason.removeprefix(_PREFIX) for reason in reasons if reason.startswith(_PREFIX))
    for reason, count in counts.items():
        reporter.write_line(f"NOT TESTED: {count} tests ({reason})", yellow=True)
