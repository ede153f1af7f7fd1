"""Scenarios mostly wait, so they run at the same time: each in a thread, with machines of its own.

A test here is a function of a ``world`` and of ``kinds``, the nodes that the world is made of. The first one to be run
starts all that were asked for, a few at a time, the long ones first; each then reports its own.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from beam import NoSuchOtp
from machines import CannotHere, why_not_here
from table import write_table
from world import Row, World

HERE = Path(__file__).parent
AT_ONCE = 8


class Scenarios:
    """The scenarios of one run: started together, told one by one."""

    def __init__(self) -> None:
        self.futures: dict[str, Future[None]] = {}
        self.rows: list[Row] = []
        self.last_connect_error: str | None = None
        self.not_tested = 0
        self._pool: ThreadPoolExecutor | None = None
        self._worlds: set[World] = set()
        self._stop_requested = False

    def start(self, items: list[pytest.Function]) -> None:
        if self._pool is not None:
            return
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fault")
        self.last_connect_error = why_not_here()
        if self.last_connect_error is None:
            longest_first = sorted(items, key=lambda item: item.get_closest_marker("long") is None)
            self.futures = {item.nodeid: self._pool.submit(self._play, item) for item in longest_first}

    def _play(self, item: pytest.Function) -> None:
        given: dict[str, Any] = dict(item.callspec.params)
        options = next((mark.kwargs for mark in item.iter_markers("world")), {})
        world = World(given["kinds"], **options)
        world.long = item.config.getoption("--long")
        self._worlds.add(world)
        try:
            if self._stop_requested:
                return
            with world:
                world.row.scenario = (item.obj.__doc__ or "").strip().partition("\n")[0].rstrip(".")
                try:
                    _call(item.obj, world=world, **given)
                except BaseException as fault:
                    fault.add_note(world.stories())
                    raise
                if world.row.scenario and world.row.outcome:
                    self.rows.append(world.row)
        finally:
            self._worlds.discard(world)

    def close(self) -> None:
        self._stop_requested = True
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for world in list(self._worlds):
                world.close()
            self._pool.shutdown()


def _call(function: Callable[..., None], **given: Any) -> None:
    function(**{name: given[name] for name in inspect.signature(function).parameters})


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--table", metavar="FILE", help="write what was seen into this Markdown file")
    group.addoption("--long", action="store_true", help="as long and as often as the promises say")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SCENARIOS] = Scenarios()
    config.addinivalue_line("markers", "world(**options): how the world of a scenario is made")
    config.addinivalue_line("markers", "long: a scenario that takes longer than most")


SCENARIOS = pytest.StashKey[Scenarios]()


def is_scenario(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and HERE in item.path.parents and "world" in item.fixturenames


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.otp)
            item.add_marker(pytest.mark.shared_cluster)


@pytest.fixture
def world() -> None:
    """The world is made where the scenario runs, in its thread."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not is_scenario(pyfuncitem):
        return None
    scenarios = pyfuncitem.config.stash[SCENARIOS]
    scenarios.start([item for item in pyfuncitem.session.items if is_scenario(item)])
    if scenarios.last_connect_error is not None:
        _not_here(scenarios, scenarios.last_connect_error)
    try:
        scenarios.futures[pyfuncitem.nodeid].result()
    except (NoSuchOtp, CannotHere) as why:
        _not_here(scenarios, str(why))
    return True


def _not_here(scenarios: Scenarios, why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must test this, and cannot: {why}", pytrace=False)
    scenarios.not_tested += 1
    scenarios.last_connect_error = why
    pytest.skip(why)


def pytest_sessionfinish(session: pytest.Session) -> None:
    scenarios = session.config.stash[SCENARIOS]
    scenarios.close()
    path = session.config.getoption("--table", default=None)
    if path and scenarios.rows and not session.testsfailed:
        write_table(Path(path), scenarios.rows)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    scenarios = config.stash[SCENARIOS]
    if scenarios.not_tested:
        terminalreporter.write_line(
            f"NOT TESTED: {scenarios.not_tested} real faults on real nodes ({scenarios.last_connect_error})",
            yellow=True,
        )
