"""Runs the fault scenarios concurrently: each in a thread, in network namespaces of its own.

A scenario mostly waits. A test here takes a ``scenario`` and ``kinds``, the kinds of its nodes. The first test that
runs starts all selected scenarios, :data:`MAX_CONCURRENT` at a time, the long ones first. Each test then reports the
result of its own scenario.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from beam import NoSuchOtp
from netns import NotSupported, unsupported_reason
from report import write_report
from scenario import ReportRow, Scenario
from skips import skip_or_fail

HERE = Path(__file__).parent
MAX_CONCURRENT = 8


class ScenarioRunner:
    """The scenarios of one pytest run: started together, reported one by one."""

    def __init__(self) -> None:
        self.futures: dict[str, Future[None]] = {}
        self.report_rows: list[ReportRow] = []
        self.skip_reason: str | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._scenarios: set[Scenario] = set()
        self._closing = False

    def start(self, items: list[pytest.Function]) -> None:
        if self._pool is not None:
            return
        self._pool = ThreadPoolExecutor(MAX_CONCURRENT, thread_name_prefix="fault")
        self.skip_reason = unsupported_reason()
        if self.skip_reason is None:
            longest_first = sorted(items, key=lambda item: item.get_closest_marker("long") is None)
            self.futures = {item.nodeid: self._pool.submit(self._run, item) for item in longest_first}

    def _run(self, item: pytest.Function) -> None:
        given: dict[str, Any] = dict(item.callspec.params)
        options = next((mark.kwargs for mark in item.iter_markers("scenario")), {})
        scenario = Scenario(given["kinds"], **options)
        scenario.long = item.config.getoption("--long")
        self._scenarios.add(scenario)
        try:
            if self._closing:
                return
            with scenario:
                scenario.report_row.scenario = (item.obj.__doc__ or "").strip().partition("\n")[0].rstrip(".")
                try:
                    _call(item.obj, scenario=scenario, **given)
                except BaseException as fault:
                    fault.add_note(scenario.logs())
                    raise
                if scenario.report_row.scenario and scenario.report_row.outcome:
                    self.report_rows.append(scenario.report_row)
        finally:
            self._scenarios.discard(scenario)

    def close(self) -> None:
        self._closing = True
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for scenario in list(self._scenarios):
                scenario.close()
            self._pool.shutdown()


def _call(function: Callable[..., None], **given: Any) -> None:
    function(**{name: given[name] for name in inspect.signature(function).parameters})


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--table", metavar="FILE", help="write the results into this Markdown file")
    group.addoption("--long", action="store_true", help="run as long and as often as docs/reference/faults.md shows")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RUNNER] = ScenarioRunner()
    config.addinivalue_line("markers", "scenario(**options): keyword arguments of Scenario")
    config.addinivalue_line("markers", "long: a scenario that takes longer than most")


RUNNER = pytest.StashKey[ScenarioRunner]()


def is_scenario(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and HERE in item.path.parents and "scenario" in item.fixturenames


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.otp)
            item.add_marker(pytest.mark.shared_cluster)


@pytest.fixture
def scenario() -> None:
    """Only a name: the scenario's own thread makes the :class:`scenario.Scenario`."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not is_scenario(pyfuncitem):
        return None
    runner = pyfuncitem.config.stash[RUNNER]
    runner.start([item for item in pyfuncitem.session.items if is_scenario(item)])
    if runner.skip_reason is not None:
        skip_or_fail(runner.skip_reason)
    try:
        runner.futures[pyfuncitem.nodeid].result()
    except (NoSuchOtp, NotSupported) as error:
        skip_or_fail(str(error))
    return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    runner = session.config.stash[RUNNER]
    runner.close()
    path = session.config.getoption("--table", default=None)
    if path and runner.report_rows and not session.testsfailed:
        write_report(Path(path), runner.report_rows)
