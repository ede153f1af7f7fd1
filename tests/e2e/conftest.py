import pytest
from command import Commands


@pytest.fixture
def erlmesh(tmp_path):
    commands = Commands(tmp_path)
    yield commands
    commands.close()
