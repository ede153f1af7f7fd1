"""ScenarioRunner mostly wait, so they run at the same time: each in a thread, with machines of its own.

A test here is a function of a ``scenario`` and of ``kinds``, the nodes that the scenario is made of. The first one to be run
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
from netns import NotSupported, unsupported_reason
from report import write_report
from scenario import ReportRow, Scenario

HERE = Path(__file__).parent
MAX_CONCURRENT = 8


class ScenarioRunner:
    """The scenarios of one run: started together, told one by one."""

    def __init__(self) -> None:
        self.futures: dict[str, Future[None]] = {}
        self.report_rows: list[ReportRow] = []
        self.skip_reason: str | None = None
        self.skipped = 0
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
    group.addoption("--table", metavar="FILE", help="write what was seen into this Markdown file")
    group.addoption("--long", action="store_true", help="as long and as often as the promises say")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RUNNER] = ScenarioRunner()
    config.addinivalue_line("markers", "scenario(**options): how the scenario of a scenario is made")
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
    """The scenario is made where the scenario runs, in its thread."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not is_scenario(pyfuncitem):
        return None
    scenarios = pyfuncitem.config.stash[RUNNER]
    scenarios.start([item for item in pyfuncitem.session.items if is_scenario(item)])
    if scenarios.skip_reason is not None:
        skip_or_fail(scenarios, scenarios.skip_reason)
    try:
        scenarios.futures[pyfuncitem.nodeid].result()
    except (NoSuchOtp, NotSupported) as why:
        skip_or_fail(scenarios, str(why))
    return True


def skip_or_fail(scenarios: ScenarioRunner, why: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must test this, and cannot: {why}", pytrace=False)
    scenarios.skipped += 1
    scenarios.skip_reason = why
    pytest.skip(why)


def pytest_sessionfinish(session: pytest.Session) -> None:
    scenarios = session.config.stash[RUNNER]
    scenarios.close()
    path = session.config.getoption("--table", default=None)
    if path and scenarios.report_rows and not session.testsfailed:
        write_report(Path(path), scenarios.report_rows)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    scenarios = config.stash[RUNNER]
    if scenarios.skipped:
        terminalreporter.write_line(
            f"NOT TESTED: {scenarios.skipped} real faults on real nodes ({scenarios.skip_reason})",
            yellow=True,
        )
