"""``import erlmesh``: every public name is there, and what is not used is not imported."""

import subprocess
import sys

import pytest

import erlmesh


@pytest.mark.parametrize("name", erlmesh.__all__)
def test_a_public_name_is_found_where_it_is_defined(name):
    found = getattr(erlmesh, name)

    assert found is getattr(erlmesh, name)
    assert name in dir(erlmesh)
    assert name == "Term" or name in (found.__name__, str(found))


def test_there_is_no_other_name():
    with pytest.raises(AttributeError, match="no attribute 'Nodes'"):
        _ = erlmesh.Nodes
    assert not hasattr(erlmesh, "__path_of_nobody__")


def test_a_health_check_imports_nothing_of_a_node():
    code = "import sys, erlmesh.cli.main, erlmesh.cli.health; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not {"asyncio", "erlmesh.node", "erlmesh.etf", "erlmesh.shell", "erlmesh.cli.node_options"} & {
        *done.stdout.split()
    }
