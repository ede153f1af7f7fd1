"""Fixtures for the tests of the documents."""

import sys

import pytest
from blocks import block

from beam import NoSuchOtp
from cluster import running_cluster
from os_process import OsProcess
from other_project import run_pytest
from pynode import python_environment
from skips import skip_or_fail


@pytest.fixture
def project(tmp_path):
    """Runs pytest on a test file in a folder of its own."""
    return lambda code, *arguments, **options: run_pytest(tmp_path, code, *arguments, **options)


@pytest.fixture
def cluster(tmp_path):
    """Starts real nodes of both kinds, which end with the test."""
    try:
        with running_cluster(tmp_path) as cluster:
            yield cluster
    except NoSuchOtp as error:
        skip_or_fail(str(error))


@pytest.fixture
def program(cluster, tmp_path):
    """Starts the Python program of a block."""

    def start(check, *arguments):
        path = tmp_path / f"{check}.py"
        if not path.exists():  # another process may just read it
            path.write_text(block(check))
        command = [sys.executable, str(path), *arguments]
        process = OsProcess("-".join((check, *arguments)), command, python_environment(cluster.epmd_port, tmp_path))
        cluster.processes.append(process)
        return process

    return start
