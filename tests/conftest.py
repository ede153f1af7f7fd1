"""Fixtures for all tests."""

import asyncio
import os
import signal
import socket

import pytest
from hypothesis import settings

from leaks import LeakedTasks, ResourceSnapshot

# What passed once in CI passes again; at home every run looks at other examples.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI") == "true":
    settings.load_profile("ci")

# Where a shell has started us in its background, Ctrl-C is ignored, and would be by all that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def free_port():
    """A port of 127.0.0.1 that nobody uses: for an EPMD of the test's own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pytest_addoption(pluginmanager):
    """The plugin that users get with erlmesh, also where erlmesh is not installed but lies in src."""
    if not pluginmanager.has_plugin("erlmesh"):
        pluginmanager.import_plugin("erlmesh.testing.pytest_plugin")


@pytest.fixture(autouse=True)
def no_leaks(request, monkeypatch):
    """No task, thread, socket or pipe outlives its test."""
    if request.node.get_closest_marker("shared_cluster"):  # others' are there, too
        yield
        return
    tasks, before = LeakedTasks(), ResourceSnapshot.take()
    monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", tasks.cancel_all)
    yield
    left = tasks.found + before.leaked()
    if left:
        pytest.fail("left behind: " + ", ".join(left), pytrace=False)
