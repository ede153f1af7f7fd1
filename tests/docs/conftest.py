"""Fixtures for the tests of the documents."""

import pytest

from other_project import run_pytest


@pytest.fixture
def project(tmp_path):
    """Runs pytest on a test file in a folder of its own."""
    return lambda code, *arguments, **options: run_pytest(tmp_path, code, *arguments, **options)
