"""For pytest: tests that are told a cluster, on a virtual clock.

::

    async def test_a_lost_member_comes_back(cluster):
        mesh = await cluster(3)
        a, b, c = mesh
        mesh.partition([a], [b, c])
        await mesh.wait_until(lambda: a.nodes() == [])
        mesh.heal()
        await mesh.wait_until(mesh.is_complete)

A coroutine test with the fixture ``cluster`` runs on :class:`erlmesh.testing.loop.Clock`, whatever else runs coroutine
tests; every minute in it takes milliseconds. ``cluster(n, seed=…, **options)`` starts ``n`` nodes that are connected
with each other (the options are those of :class:`erlmesh.testing.cluster.Cluster`) and gives the cluster. Without a
``seed`` it is the one of ``--simulation-seed``, 0 if not given; a failed test reports its seeds and what happened.

pytest loads this in every project that has erlmesh installed: it imports the rest when a test wants it. A fixture
``cluster`` of the project's own takes the place of this one, and then nothing here is done.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from erlmesh.testing.cluster import Cluster

__all__ = ["ClusterFactory"]

HISTORY_LINES = 60


class ClusterFactory:
    """The fixture ``cluster``: what a test has started."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.clusters: list[Cluster] = []

    async def __call__(self, size: int = 0, *, seed: int | None = None, **options: Any) -> Cluster:
        """A cluster of ``size`` connected nodes."""
        from erlmesh.testing.cluster import Cluster  # noqa: PLC0415 - see above

        cluster = Cluster(self.seed if seed is None else seed, **options)
        self.clusters.append(cluster)
        await cluster.mesh(size)
        return cluster

    def run(self, test: Callable[..., Any], arguments: dict[str, Any]) -> None:
        """Runs the coroutine test on a clock of its own, and ends what it has started."""
        from erlmesh.testing.loop import run  # noqa: PLC0415 - see above

        async def main() -> None:
            try:
                await test(**arguments)
            finally:
                for started in self.clusters:
                    for name in started.names():
                        started.kill(name)

        run(main)

    def history_report(self) -> str:
        """What happened, for a failure's report."""
        return "\n".join(
            f"seed {cluster.seed}, {len(cluster.history)} events:\n" + "\n".join(cluster.history[-HISTORY_LINES:])
            for cluster in self.clusters
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("erlmesh")
    group.addoption("--simulation-seed", type=int, default=0, help="the seed of simulated clusters (0)")


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> ClusterFactory:
    """Simulated clusters: awaiting it with 3 gives three nodes that are connected with each other."""
    return ClusterFactory(request.config.getoption("--simulation-seed"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs a coroutine test that has our fixture; others are not ours."""
    clusters = pyfuncitem.funcargs.get("cluster")
    if not isinstance(clusters, ClusterFactory):
        return None
    test = inspect.unwrap(pyfuncitem.obj)  # a plugin that runs all coroutine tests has made a function of it
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    clusters.run(test, arguments)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test is reported with what happened to its clusters."""
    report = yield
    clusters = getattr(item, "funcargs", {}).get("cluster")
    if report.when == "call" and report.failed and isinstance(clusters, ClusterFactory):
        report.sections.append(("simulated clusters", clusters.history_report()))
    return report
