"""Fixtures for tests with real Erlang and Elixir. Each test has an EPMD port, a home and nodes of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from beam import Beam, NoSuchOtp, programs
from cluster import Cluster, free_port, running_cluster
from pynode import PyNode

HERE = Path(__file__).parent
SKIPPED = pytest.StashKey[dict[str, int]]()
OTPS = (23, 25, 27, 29)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-otp", action="store_true", help="run the tests of the fixture `otp` with OTP 23, 25, 27 and 29"
    )
    parser.addoption(
        "--rounds", type=int, default=0, help="how often to repeat what chance has a part in (0: a few times)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SKIPPED] = {}


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test is reported with what its nodes printed."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.when == "call" and report.failed and cluster is not None:
        report.sections.append(("What the nodes printed", cluster.logs()))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    except NoSuchOtp as why:
        skip_or_fail(item, str(why))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    except NoSuchOtp as why:
        skip_or_fail(item, str(why))


def skip_or_fail(item: pytest.Item, reason: str) -> None:
    """A test that cannot run on this machine: counted and told at the end; in CI that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must test this, and cannot: {reason}", pytrace=False)
    seen = item.config.stash[SKIPPED]
    seen[reason] = seen.get(reason, 0) + 1
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for why, count in config.stash[SKIPPED].items():
        terminalreporter.write_line(f"NOT TESTED: {count} tests with real Erlang ({why})", yellow=True)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """``rounds(few)``: how often to repeat; ``--rounds N`` asks for more."""
    return lambda few: request.config.getoption("--rounds") or few


@pytest.fixture
def epmd_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A port for this test's EPMD, which nobody runs yet; nodes in the test's own process find it too."""
    port = free_port()
    monkeypatch.setenv("ERL_EPMD_PORT", str(port))
    return port


@pytest.fixture
def cluster(epmd_port: int, tmp_path: Path) -> Iterator[Cluster]:
    """Nodes of every kind; ended with the test, and their logs shown if it fails."""
    with running_cluster(tmp_path, epmd_port=epmd_port) as cluster:
        yield cluster


@pytest.fixture
def cluster_without_epmd(epmd_port: int, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster in which the first node has to be the EPMD, as on a machine without Erlang."""
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
    """The folder of the installed ``erl``, ``erlc``, ``iex``."""
    return programs()
