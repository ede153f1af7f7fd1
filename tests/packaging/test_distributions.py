"""What a release publishes is complete, and works where nothing else is installed."""

import sys
import tarfile
import zipfile

from programs import ROOT, run

from erlmesh import __version__

PACKAGE = {
    str(path.relative_to(ROOT / "src"))
    for path in (ROOT / "src/erlmesh").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts
}
PING = """
import asyncio, pathlib, erlmesh

async def main():
    async with erlmesh.Node("a@127.0.0.1", cookie="secret") as a, erlmesh.Node("b@127.0.0.1", cookie="secret") as b:
        print(await a.ping(b.name))

asyncio.run(main())
print(pathlib.Path(erlmesh.__file__).with_name("py.typed").exists())
print(erlmesh.__file__)
"""


def test_a_package_index_accepts_both(dist):
    run(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir())


def test_the_wheel_contains_the_package_and_nothing_else(dist):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert wheel.name == f"erlmesh-{__version__}-py3-none-any.whl"
    assert files == PACKAGE


def test_the_sdist_contains_what_its_tests_need_and_no_secret(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}

    assert {f"src/{file}" for file in PACKAGE} <= files
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "Makefile",
        "compose.yaml",
        "compose.tls.yaml",
    } <= files
    assert {"tests/conftest.py", "tools/test.sh", "docs/reference/faults.md", "deploy/swarm.yaml"} <= files
    assert not [file for file in files if file.startswith(("docker/secret", "docker/wheelhouse", ".venv", ".otp"))]


def test_the_installed_wheel_runs_two_nodes_that_ping(installed, free_port):
    build = "pure Python (erlmesh-native is not installed), event loop asyncio"
    assert run(installed / "erlmesh", "--version") == f"erlmesh {__version__}, {build}\n"

    printed = run(installed / "python", "-W", "error", "-P", "-c", PING, ERL_EPMD_PORT=str(free_port), PYTHONPATH="")

    pong, is_typed, where = printed.splitlines()
    assert (pong, is_typed) == ("True", "True")
    assert where.startswith(str(installed.parent))
