"""Runs many scenarios, in worker processes, and returns their results."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from erlmesh import native
from erlmesh.testing.loop import run
from simulation.scenario import Scenario

__all__ = ["ScenarioResult", "run_many", "run_one"]

BUILD = "pure" if native.module is None else "native"


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """The result of one scenario. ``violation`` is None if it passed, else the type and text of the exception."""

    seed: int
    virtual_seconds: float
    violation: str | None
    fingerprint: str = ""
    """The fingerprint of the history, also of a scenario that failed."""
    chunks: int = 0
    """The number of chunks of bytes that the simulated network delivered."""
    build: str = BUILD
    """The build that ran it: ``native`` or ``pure``."""

    @property
    def outcome(self) -> str:
        """What two runs of the seed have in common, on any machine and in each build."""
        return f"{self.fingerprint}, {self.chunks} chunks in {self.virtual_seconds!r} s, {self.violation or 'passed'}"


def run_many(
    seeds: Iterable[int],
    actions: int,
    *,
    jobs: int,
    in_order: bool = False,
    start: Callable[[], AbstractContextManager[None]] | None = None,
) -> Generator[ScenarioResult, None, None]:
    """Run a scenario for each seed, ``jobs`` in parallel, and yield the results as they finish, or in order.

    With ``start``, the worker processes start inside the context that it returns; so there is one even for one job.
    Closing the iterator stops the worker processes.
    """
    if jobs == 1 and start is None:
        yield from map(partial(run_one, actions), seeds)
        return
    with (start or nullcontext)():
        pool = multiprocessing.get_context("spawn").Pool(jobs, _ignore_sigint)
    with pool:  # leaving the block terminates the workers
        results = pool.imap if in_order else pool.imap_unordered
        yield from results(partial(run_one, actions), seeds, chunksize=1)


def _ignore_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the parent process handles Ctrl-C


def run_one(actions: int, seed: int) -> ScenarioResult:
    """Run one scenario in a new loop. A violation is part of the result."""
    scenario = Scenario(seed, actions=actions)
    violation = None
    try:
        run(scenario.run)
    except Exception as error:
        violation = f"{type(error).__name__}: {error}"
    cluster = scenario.model.cluster
    return ScenarioResult(
        seed,
        scenario.virtual_seconds,
        violation,
        fingerprint=cluster.digest(),
        chunks=cluster.network.delivered.total(),
    )
