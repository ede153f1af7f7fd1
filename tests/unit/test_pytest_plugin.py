"""The fixture ``cluster`` in a project that merely has erlmesh installed."""

import re

import pytest

from other_project import run_pytest


@pytest.fixture
def project(tmp_path):
    """Runs pytest on a test file in a folder of its own."""
    return lambda code, *arguments, **options: run_pytest(tmp_path, code, *arguments, **options)


FAILS = """
async def test_it(cluster):
    mesh = await cluster(2)
    mesh.note("the sky falls")
    assert len(mesh) == 3
"""


def test_a_failed_test_shows_its_seed_and_what_happened(project):
    done = project(FAILS, "--simulation-seed", "4711")

    assert done.returncode == 1
    assert "assert 2 == 3" in done.stdout
    assert "simulated clusters" in done.stdout
    assert re.search(r"seed 4711, \d+ events:\n.*a@10.0.0.1 starts", done.stdout)
    assert re.search(r"^0\.\d+ the sky falls$", done.stdout, re.MULTILINE)


def test_a_fixture_of_ones_own_called_cluster_is_left_alone(project):
    done = project(
        "import pytest\n\n"
        "@pytest.fixture\ndef cluster():\n    return 'mine'\n\n"
        "def test_it(cluster):\n    assert cluster == 'mine'\n"
    )

    assert "1 passed" in done.stdout, done.stdout


def test_methods_parameters_and_other_fixtures_are_as_always(project):
    done = project(
        "import pytest\n\n"
        "class TestIt:\n"
        "    @pytest.mark.parametrize('size', [1, 2])\n"
        "    async def test_it(self, cluster, size, tmp_path):\n"
        "        assert len(await cluster(size)) == size and tmp_path.is_dir()\n"
    )

    assert "2 passed" in done.stdout, done.stdout


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_beside_pytest_asyncio_each_runs_its_own(project, mode):
    code = (
        "import asyncio, pytest\n\n"
        "async def test_ours(cluster):\n"
        "    mesh = await cluster(2)\n    await mesh.sleep(3600)\n    assert mesh.is_complete()\n\n"
        "@pytest.mark.asyncio\nasync def test_theirs():\n"
        "    assert type(asyncio.get_running_loop()).__name__ != 'SimulatedLoop'\n"
    )

    scope = "asyncio_default_fixture_loop_scope=function"
    done = project(code, "-o", f"asyncio_mode={mode}", "-o", scope, beside=())

    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_who_does_not_use_it_does_not_import_it(project):
    done = project(
        "import sys\n\n"
        "def test_it():\n"
        "    names = {name for name in sys.modules if name.startswith('erlmesh.') and 'testing' not in name}\n"
        "    assert names <= {'erlmesh.version'}\n"
    )

    assert "1 passed" in done.stdout, done.stdout


async def test_a_child_of_a_handler_runs_on_the_machine_of_its_node(cluster):
    ticks = []

    async def child(me):
        while True:
            await me.sleep(1)
            ticks.append(1)

    mesh = await cluster(1, seed=1)
    (a,) = mesh
    handler = a.spawn_handler(lambda _: handler.spawn(child))
    a.send(handler.pid, 1)  # the handler runs for this code, which is outside of the machine
    await mesh.wait_until(lambda: ticks)

    mesh.pause(a)
    before = len(ticks)
    await mesh.sleep(5)

    assert len(ticks) == before
