"""pytest plugin: the fixture ``cluster`` gives a test simulated clusters with virtual time.

::

    async def test_a_lost_member_comes_back(cluster):
        mesh = await cluster(3)
        a, b, c = mesh
        mesh.partition([a], [b, c])
        await mesh.wait_until(lambda: a.nodes() == [])
        mesh.heal()
        await mesh.wait_until(mesh.is_complete)

A coroutine test with the fixture ``cluster`` runs on :class:`erlmesh.testing.loop.SimulatedLoop`, also if another
plugin runs coroutine tests. A minute of virtual time takes milliseconds. ``await cluster(n, seed=…, **options)``
starts ``n`` nodes that are connected with each other, and returns a :class:`erlmesh.testing.cluster.Cluster`. The
options are those of that class. The default seed is ``--simulation-seed``, or 0. A failed test reports the seeds and
the history of its clusters.

pytest loads this plugin in every project that has erlmesh installed. The plugin imports the simulator only when a test
needs it. If a project defines its own fixture ``cluster``, that one wins and the plugin does nothing.
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
"""Lines of the history of each cluster in the report of a failed test."""


class ClusterFactory:
    """The fixture ``cluster``: starts clusters and keeps them for the report."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.clusters: list[Cluster] = []

    async def __call__(self, size: int = 0, *, seed: int | None = None, **options: Any) -> Cluster:
        """Start a cluster of ``size`` connected nodes."""
        from erlmesh.testing.cluster import Cluster  # noqa: PLC0415 - see above

        cluster = Cluster(self.seed if seed is None else seed, **options)
        self.clusters.append(cluster)
        await cluster.mesh(size)
        return cluster

    def run(self, test: Callable[..., Any], arguments: dict[str, Any]) -> None:
        """Run the coroutine test on an event loop of its own, and kill all nodes at the end."""
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
        """The end of the history of each cluster, for the report of a failure."""
        return "\n".join(
            f"seed {cluster.seed}, {len(cluster.history)} events:\n" + "\n".join(cluster.history[-HISTORY_LINES:])
            for cluster in self.clusters
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("erlmesh")
    group.addoption("--simulation-seed", type=int, default=0, help="the seed of simulated clusters (0)")


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> ClusterFactory:
    """Give the test a factory of simulated clusters: await it with 3 to start three connected nodes."""
    return ClusterFactory(request.config.getoption("--simulation-seed"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test that uses this fixture. Leave all other tests to pytest."""
    clusters = pyfuncitem.funcargs.get("cluster")
    if not isinstance(clusters, ClusterFactory):
        return None
    test = inspect.unwrap(pyfuncitem.obj)  # another plugin may have wrapped the coroutine
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    clusters.run(test, arguments)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the history of its clusters to the report of a failed test."""
    report = yield
    clusters = getattr(item, "funcargs", {}).get("cluster")
    if report.when == "call" and report.failed and isinstance(clusters, ClusterFactory):
        report.sections.append(("simulated clusters", clusters.history_report()))
    return report
