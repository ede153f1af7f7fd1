"""Fixtures for tests in Chromium: the browser, a page that collects what goes wrong in it, and a server for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from map_server import MapServer
from scenes import snapshot

from cluster import Cluster, free_port, running_cluster
from cluster_hooks import pytest_runtest_call as pytest_runtest_call
from cluster_hooks import pytest_runtest_makereport as pytest_runtest_makereport
from cluster_hooks import pytest_runtest_setup as pytest_runtest_setup
from skips import import_or_skip, skip_or_fail

HERE = Path(__file__).parent
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, started once for all tests of a process."""
    playwright = import_or_skip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        skip_or_fail("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Any) -> Iterator[Any]:
    """A browser without history, on a laptop's screen."""
    context = browser.new_context(viewport={"width": 1440, "height": 860}, locale="en-GB", timezone_id="UTC")
    context.set_default_timeout(20_000)
    yield context
    context.close()


@pytest.fixture
def page(context: Any) -> Iterator[Any]:
    """A page. An exception in it, or an error in its console, fails the test. ``page.allowed`` lists texts that may
    be in such an error.
    """
    page = context.new_page()
    page.allowed = list[str]()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(f"{error}\n{error.stack}"))
    page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
    yield page
    page.close()
    assert [fault for fault in faults if not any(text in fault for text in page.allowed)] == []


@pytest.fixture
def server() -> Iterator[MapServer]:
    """A server that sends what the test says."""
    server = MapServer()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def show(page: Any, server: MapServer) -> Any:
    """``show(reports, events, **snapshot)`` opens the page with this state."""

    def show(*arguments: Any, **fields: Any) -> Any:
        server.snapshot = snapshot(*arguments, **fields)
        page.goto(server.url)
        page.wait_for_selector('[data-connection="live"]')
        return page

    return show


@pytest.fixture(scope="session")
def modules(browser: Any) -> Iterator[Any]:
    """A page that shows nothing, for tests that call modules. To start one takes longer than such a test."""
    server = MapServer()
    page = browser.new_page()
    page.goto(f"{server.url}/static/favicon.svg")
    yield page
    page.close()
    server.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Starts real nodes of both kinds, which end with the test."""
    import_or_skip("h11")
    with running_cluster(tmp_path, epmd_port=free_port()) as cluster:
        yield cluster
