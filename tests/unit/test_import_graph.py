"""What `from erlmesh import Node` loads. Each module more makes every start slower and every node larger.

The modules of the standard library that asyncio itself loads are free. They differ between versions of Python.
"""

import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent.parent / "src"

# Small, or built in. A module that is slow to import (pathlib, decimal, hashlib, …) is imported where it is used.
ALLOWED = {"__future__", "gc", "random", "termios", "zlib"}
# What `random` loads, by version of Python.
ALLOWED |= {"_bisect", "_random", "_sha2", "_sha512", "bisect"}
# asyncio loads these, but not in every release of Python 3.14.
ALLOWED |= {"_typing", "typing"}

PROGRAM = """
import sys

sys.path.insert(0, {src!r})
{first}
before = set(sys.modules)
{statement}
print(*sorted(set(sys.modules) - before))
"""


def loaded_by(statement, *, asyncio=True):
    """The modules that a fresh interpreter without site-packages loads for a statement, beside those of asyncio.

    Without ``asyncio``, also those of asyncio count.
    """
    program = PROGRAM.format(src=str(SRC), statement=statement, first="import asyncio" if asyncio else "")
    output = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    return set(output.stdout.splitlines()[-1].split())  # a command may print lines before


def test_the_node_loads_only_allowed_modules_of_the_standard_library():
    found = {module for module in loaded_by("from erlmesh import Node") if module.split(".")[0] != "erlmesh"}

    assert found <= ALLOWED, "import it in the function that uses it, or allow it here with a reason"


def test_the_node_loads_no_module_that_only_some_programs_use():
    found = loaded_by("from erlmesh import Node")

    assert "erlmesh.node" in found
    assert not found & {"erlmesh.formatting", "erlmesh.terms.elixir", "erlmesh.otp_functions", "erlmesh.discovery"}
    assert not {module for module in found if module.startswith("erlmesh.net.tls")}
    assert not {module for module in found if module.split(".")[1:2] in (["cli"], ["shell"], ["testing"], ["doctor"])}


def test_the_node_does_not_grow_by_modules_unnoticed():
    assert len([module for module in loaded_by("from erlmesh import Node") if module.startswith("erlmesh")]) <= 180


@pytest.mark.parametrize("statement", ["import erlmesh", "from erlmesh import __version__"])
def test_the_package_alone_loads_almost_nothing(statement):
    found = loaded_by(statement)

    assert {module for module in found if module.startswith("erlmesh")} <= {"erlmesh", "erlmesh.version"}


RUN = "from erlmesh.cli.main import main; sys.argv[1:] = {arguments!r}; status = main()"


def test_the_version_is_printed_without_a_parser_and_an_event_loop():
    found = loaded_by(RUN.format(arguments=["--version"]), asyncio=False)

    assert not found & {"argparse", "asyncio", "logging", "re", "typing", "erlmesh.errors"}


def test_the_health_check_loads_no_node_no_event_loop_and_no_log(tmp_path, monkeypatch):
    monkeypatch.setenv("ERLMESH_STATE", str(tmp_path))
    found = loaded_by(RUN.format(arguments=["health"]), asyncio=False)

    assert "erlmesh.cli.health" in found
    assert not found & {"asyncio", "logging", "pathlib", "shutil", "threading", "erlmesh.node", "erlmesh.terms"}


def test_the_port_mapper_loads_no_node():
    found = loaded_by("import erlmesh.cli.epmd")

    assert "erlmesh.net.epmd" in found
    assert not found & {"erlmesh.node", "erlmesh.runtime.config", "erlmesh.etf", "erlmesh.cli.settings"}


def test_the_commands_that_ask_one_node_load_no_shell_and_no_discovery():
    found = loaded_by("import erlmesh.cli.ping")

    assert "erlmesh.node" in found
    assert not {module for module in found if module.startswith(("erlmesh.shell", "erlmesh.doctor"))}
    assert not found & {"erlmesh.discovery.discovery", "erlmesh.net.health"}


COLLECTIONS = """
import asyncio, gc, sys

sys.path.insert(0, {src!r})
import erlmesh

{state}
gc.collect()  # so that it is not due already
runs = []
gc.callbacks.append(lambda phase, info: runs.append(phase))
from erlmesh import Node

print(len(runs), gc.isenabled())
"""


@pytest.mark.parametrize(("state", "enabled"), [("gc.enable()", "True"), ("gc.disable()", "False")])
def test_the_garbage_collector_does_not_run_during_the_import(state, enabled):
    program = COLLECTIONS.format(src=str(SRC), state=state)
    output = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)

    assert output.stdout.split() == ["0", enabled]
