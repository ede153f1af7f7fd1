"""Fixtures for tests with containers, on a real Docker Engine. Everything that a test creates has a label."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import ROOT, Compose, Lab, compose_command, engine_version

from erlmesh.demo.shells import DemoFailed
from skips import skip_or_fail

HERE = Path(__file__).parent
IMAGE = "localhost/erlmesh:test"
ELIXIR_IMAGE = "localhost/erlmesh-elixir:test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.timeout(600))  # the first test builds the image and perhaps its base


@pytest.fixture(scope="session")
def engine() -> str:
    """The version of the Docker Engine on this machine."""
    try:
        return engine_version()
    except DemoFailed as why:
        skip_or_fail(str(why))


@pytest.fixture(scope="session")
def image_build(engine: str) -> str:
    """What the build of the image of the node printed."""
    return _build("image.sh", IMAGE=IMAGE)


@pytest.fixture(scope="session")
def image(image_build: str) -> str:
    """The image of the node, built once from these sources."""
    return IMAGE


@pytest.fixture(scope="session")
def elixir_image(engine: str) -> str:
    """The image of a real Elixir node."""
    _build("elixir_image.sh", ELIXIR_IMAGE=ELIXIR_IMAGE)
    return ELIXIR_IMAGE


def _build(script: str, **names: str) -> str:
    environment = {**os.environ, "PYTHON": sys.executable, **names}
    done = subprocess.run([ROOT / "tools" / script], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        skip_or_fail(done.stderr.strip())
    return done.stdout


@pytest.fixture
def lab(image: str, tmp_path: Path) -> Iterator[Lab]:
    """Containers on the test's own network. All are removed when the test ends."""
    lab = Lab(image, tmp_path)
    try:
        yield lab
    finally:
        lab.close()


@pytest.fixture
def compose(image: str, elixir_image: str, tmp_path: Path) -> Iterator[Compose]:
    """``compose.yaml`` unchanged, as the test's own project."""
    compose = _compose(tmp_path, IMAGE=image, ELIXIR_IMAGE=elixir_image)
    try:
        yield compose
    finally:
        compose.close()


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """The folder that ``make certs`` writes."""
    folder = tmp_path / "secret" / "certs"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run([ROOT / "tools" / "certs.sh", sys.executable, folder], check=True, env=environment)
    return folder


@pytest.fixture
def compose_tls(image: str, elixir_image: str, certificates: Path, tmp_path: Path) -> Iterator[Compose]:
    """``compose.yaml`` with ``compose.tls.yaml``, both unchanged."""
    compose = _compose(
        tmp_path,
        files=("compose.yaml", "compose.tls.yaml"),
        IMAGE=image,
        ELIXIR_IMAGE=elixir_image,
        CERTS=str(certificates),
    )
    try:
        yield compose
    finally:
        compose.close()


def _compose(tmp_path: Path, *, files: tuple[str, ...] = ("compose.yaml",), **variables: str) -> Compose:
    command = compose_command()
    if command is None:
        skip_or_fail("neither `docker compose` nor docker-compose is installed")
    cookie = tmp_path / "secret" / "cookie"
    subprocess.run([ROOT / "tools" / "cookie.sh", cookie], check=True, capture_output=True)
    project = f"erlmesh-test-{secrets.token_hex(3)}"
    return Compose(command, project, files=files, COOKIE_FILE=str(cookie), **variables)
