"""Runs each scenario in the native build and in pure Python. Both must give the same history."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial

from simulation.run_seeds import ScenarioResult, run_many

__all__ = ["compare", "run_both"]


def run_both(seeds: Iterable[int], actions: int, *, jobs: int) -> Generator[ScenarioResult, None, None]:
    """Run each seed in both builds, and yield one result for each seed, in order.

    Half of the ``jobs`` processes run each build, but at least one. A result has a violation if one of the builds has
    one, or if the histories differ. Closing the iterator stops the worker processes.
    """
    seeds, each = list(seeds), max(1, jobs // 2)
    in_native = run_many(seeds, actions, jobs=each, in_order=True, start=partial(_environment, pure=False))
    in_pure = run_many(seeds, actions, jobs=each, in_order=True, start=partial(_environment, pure=True))
    with closing(in_native), closing(in_pure):
        yield from map(compare, in_native, in_pure)


def compare(in_native: ScenarioResult, in_pure: ScenarioResult) -> ScenarioResult:
    """Return one result for the two results of a seed."""
    if (in_native.build, in_pure.build) != ("native", "pure"):
        violation: str | None = f"nothing is compared: the builds were {in_native.build} and {in_pure.build}"
    elif in_native.outcome != in_pure.outcome:
        violation = f"the builds differ: native {in_native.outcome}, pure {in_pure.outcome}"
    else:
        violation = in_native.violation
    return replace(in_native, violation=violation, build="both")


@contextmanager
def _environment(*, pure: bool) -> Iterator[None]:
    """Start worker processes here: a build is chosen by the environment, at the import of erlmesh."""
    before = os.environ.get("ERLMESH_PURE", "")
    os.environ["ERLMESH_PURE"] = "1" if pure else "0"
    try:
        yield
    finally:
        os.environ["ERLMESH_PURE"] = before
