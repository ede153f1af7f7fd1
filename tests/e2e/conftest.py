import pytest
from cli_process import Cli


@pytest.fixture
def erlmesh(tmp_path):
    commands = Cli(tmp_path)
    yield commands
    commands.close()
