"""Fixtures for all tests."""

import socket

import pytest


@pytest.fixture
def free_port():
    """A port of 127.0.0.1 that nobody uses: for an EPMD of the test's own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
