"""The command line of the simulation: runs one scenario with its history, or thousands on all cores."""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from erlmesh.testing.loop import run
from simulation.scenario import Scenario

__all__ = ["ScenarioResult", "main", "run_many"]

MODULE = "simulation"
EPILOG = """\
A seed determines a scenario: it runs the same way each time, on every machine. A run prints each violation at once. At
the end it prints the failed seeds and the command that replays one of them. Ctrl-C prints the results so far.
"""
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """The result of one scenario. ``violation`` is None if it passed, else the type and text of the exception."""

    seed: int
    virtual_seconds: float
    violation: str | None


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns 0 if all scenarios passed, 1 if one failed, 130 if interrupted before that."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}",
        description="Runs random scenarios on simulated clusters and checks the invariants of erlmesh.",
        epilog=EPILOG,
    )
    parser.add_argument("--seed", type=int, help="run only this scenario and print its history")
    parser.add_argument("--seeds", type=int, default=100, help="number of scenarios (100)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--actions", type=int, default=40, help="number of actions in a scenario (40)")
    parser.add_argument(
        "--jobs", type=int, default=available_cores(), help="number of parallel processes (one per core)"
    )
    parser.add_argument("--log", action="store_true", help="with --seed: also print the logs of the nodes")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _run_verbosely(options.seed, options.actions, log=options.log)
    seeds = range(options.first, options.first + options.seeds)
    return _ProgressReport(seeds, options.actions).run(
        partial(run_many, seeds, options.actions, jobs=max(1, options.jobs))
    )


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_many(seeds: Iterable[int], actions: int, *, jobs: int) -> Iterator[ScenarioResult]:
    """Run a scenario for each seed, ``jobs`` in parallel, and yield the results as they finish.

    Closing the iterator stops the worker processes.
    """
    if jobs == 1:
        yield from map(partial(_run_one, actions), seeds)
        return
    with multiprocessing.get_context("spawn").Pool(
        jobs, _ignore_sigint
    ) as pool:  # leaving the block terminates the workers
        yield from pool.imap_unordered(partial(_run_one, actions), seeds, chunksize=1)


def _ignore_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the parent process handles Ctrl-C


def _run_one(actions: int, seed: int) -> ScenarioResult:
    scenario = Scenario(seed, actions=actions)
    try:
        run(scenario.run)
    except Exception as error:
        return ScenarioResult(seed, scenario.virtual_seconds, f"{type(error).__name__}: {error}")
    return ScenarioResult(seed, scenario.virtual_seconds, None)


class _ProgressReport:
    """Counts the results and prints the progress."""

    def __init__(self, seeds: range, actions: int) -> None:
        self._seeds = seeds
        self._actions = actions
        self._count = 0
        self._virtual_seconds = 0.0
        self._failed: list[int] = []
        self._started = time.monotonic()
        self._shown_at = 0.0
        self._is_terminal = sys.stdout.isatty()

    def run(self, scenarios: Callable[[], Iterator[ScenarioResult]]) -> int:
        results = scenarios()
        interrupted = False
        try:
            for result in results:
                self._add(result)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            close = getattr(results, "close", None)
            if close is not None:
                close()
        self._finish(interrupted=interrupted)
        return 1 if self._failed else EXIT_INTERRUPTED if interrupted else 0

    def _add(self, result: ScenarioResult) -> None:
        self._count += 1
        self._virtual_seconds += result.virtual_seconds
        if result.violation is not None:
            self._failed.append(result.seed)
            self._print(f"seed {result.seed}: {result.violation[:400]}")
        now = time.monotonic()
        if self._count < len(self._seeds) and now - self._shown_at >= (0.2 if self._is_terminal else 10.0):
            self._shown_at = now
            self._show_progress(end="" if self._is_terminal else "\n")

    def _show_progress(self, end: str) -> None:
        elapsed = max(time.monotonic() - self._started, 1e-9)
        remaining = (len(self._seeds) - self._count) * elapsed / max(self._count, 1)
        self._print(
            f"{self._count} of {len(self._seeds)} scenarios, {self._virtual_seconds / 3600:.1f} virtual hours, "
            f"{self._count / elapsed:.1f} per second, {len(self._failed)} failed"
            + (f", {remaining:.0f} s to go" if self._count < len(self._seeds) else ""),
            end=end,
        )

    def _print(self, line: str, end: str = "\n") -> None:
        print(f"\r\x1b[K{line}" if self._is_terminal else line, end=end, flush=True)

    def _finish(self, *, interrupted: bool) -> None:
        self._show_progress(end="\n")
        if interrupted:
            print("interrupted: unfinished scenarios are not counted")
        if self._failed:
            self._failed.sort()
            actions = "" if self._actions == 40 else f" --actions {self._actions}"
            print(f"failed: {' '.join(map(str, self._failed))}")
            print(f"to replay one: {sys.executable} -m {MODULE} --seed {self._failed[0]}{actions}")


def _run_verbosely(seed: int, actions: int, *, log: bool) -> int:
    logging.basicConfig(level=logging.DEBUG if log else logging.CRITICAL, format="    %(levelname)s %(message)s")
    scenario = Scenario(seed, actions=actions)
    if log:
        scenario.model.cluster.history = _PrintedHistory()
    try:
        digest = run(scenario.run)
    except Exception:
        print("" if log else "\n".join(scenario.model.cluster.history))
        traceback.print_exc()
        return 1
    print("" if log else "\n".join(scenario.model.cluster.history))
    print(f"seed {seed}: passed, fingerprint {digest}")
    return 0


class _PrintedHistory(list[str]):
    def append(self, line: str) -> None:
        print(line, flush=True)
        super().append(line)
