"""Hooks of pytest for tests with a ``cluster``: the conftest.py of a folder of such tests imports them."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from beam import NoSuchOtp
from skips import skip_or_fail

__all__ = ["pytest_runtest_call", "pytest_runtest_makereport", "pytest_runtest_setup"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the output of the nodes to the report of a failed test."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.when == "call" and report.failed and cluster is not None:
        report.sections.append(("Output of the nodes", cluster.logs()))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Skip a test whose fixtures need an OTP that this machine cannot get."""
    try:
        return (yield)
    except NoSuchOtp as error:
        skip_or_fail(str(error))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """The same for a test that needs it itself."""
    try:
        return (yield)
    except NoSuchOtp as error:
        skip_or_fail(str(error))
