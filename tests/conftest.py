"""Fixtures for all tests."""

import asyncio
import logging
import os
import signal
import socket

import pytest
from hypothesis import settings

from leaks import LeakedTasks, ResourceSnapshot
from skips import report_skips

# CI uses fixed examples, so that a test that passed once passes again. Other runs use new random examples. Without a
# deadline: the time of an example depends on what else the machine does.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "local")

# A background shell job ignores SIGINT, and so would the processes that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def free_port():
    """An unused port of 127.0.0.1, for the EPMD of a test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pytest_addoption(pluginmanager):
    """Load erlmesh's pytest plugin, also if erlmesh is not installed and only src is on the path."""
    if not pluginmanager.has_plugin("erlmesh"):
        pluginmanager.import_plugin("erlmesh.testing.pytest_plugin")


def pytest_terminal_summary(terminalreporter):
    from erlmesh import native  # not at the top, because coverage starts later

    terminalreporter.write_line(f"tested build: {native.description}")
    report_skips(terminalreporter)


@pytest.fixture(autouse=True)
def log_as_before():
    """A command that a test runs in its own process sets up the log, as in a process of its own."""
    log = logging.getLogger("erlmesh")
    before = log.handlers[:], log.propagate, log.level
    yield
    log.handlers[:], log.propagate = before[:2]
    log.setLevel(before[2])


@pytest.fixture(autouse=True)
def no_leaks(request, monkeypatch):
    """No task, thread, socket or pipe outlives its test."""
    if request.node.get_closest_marker("shared_cluster"):  # resources of other tests are still open
        yield
        return
    tasks, before = LeakedTasks(), ResourceSnapshot.take()
    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", tasks.cancel_all)
    yield
    left = tasks.found + before.leaked()
    if left:
        pytest.fail("leaked: " + ", ".join(left), pytrace=False)
