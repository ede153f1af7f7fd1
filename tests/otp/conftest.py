"""Fixtures for tests with real Erlang and Elixir. Each test has its own EPMD port, home folder and nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beam import Beam, programs
from cluster import Cluster, free_port, running_cluster
from cluster_hooks import pytest_runtest_call as pytest_runtest_call
from cluster_hooks import pytest_runtest_makereport as pytest_runtest_makereport
from cluster_hooks import pytest_runtest_setup as pytest_runtest_setup
from pynode import PyNode

HERE = Path(__file__).parent
OTPS = (23, 25, 27, 29)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-otp", action="store_true", help="run the tests of the fixture `otp` with OTP 23, 25, 27 and 29"
    )
    parser.addoption(
        "--rounds", type=int, default=0, help="how often to repeat a test that depends on chance (0: a few times)"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.otp)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "otp" in metafunc.fixturenames:
        every = metafunc.config.getoption("--every-otp")
        chosen = metafunc.definition.get_closest_marker("otps")
        otps = chosen.args if chosen else OTPS
        metafunc.parametrize("otp", otps if every else [None], ids=lambda otp: f"otp{otp or ''}")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """``rounds(few)`` returns how often to repeat: ``few``, or N with ``--rounds N``."""
    return lambda few: request.config.getoption("--rounds") or few


@pytest.fixture
def epmd_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port for this test's EPMD. Nodes in the test's own process use it too."""
    port = free_port()
    monkeypatch.setenv("ERL_EPMD_PORT", str(port))
    return port


@pytest.fixture
def cluster(epmd_port: int, tmp_path: Path) -> Iterator[Cluster]:
    """Starts nodes of every kind. They end with the test; their logs are shown if it fails."""
    with running_cluster(tmp_path, epmd_port=epmd_port) as cluster:
        yield cluster


@pytest.fixture
def cluster_without_epmd(epmd_port: int, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster without OTP's EPMD, as on a machine without Erlang: the first Python node runs an EPMD."""
    with running_cluster(tmp_path, epmd_port=epmd_port, otp_epmd=False) as cluster:
        yield cluster


@pytest.fixture
def beam(cluster: Cluster) -> Callable[..., Beam]:
    """``beam("plato", otp=23)``."""
    return cluster.beam


@pytest.fixture
def pynode(cluster: Cluster) -> Callable[..., PyNode]:
    """``pynode("socrates")``."""
    return cluster.pynode


@pytest.fixture(scope="session")
def otp_programs() -> Path:
    """The folder with the installed ``erl``, ``erlc`` and ``iex``."""
    return programs()
