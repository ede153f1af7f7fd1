"""Fixtures for all tests."""

import socket

import pytest


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
