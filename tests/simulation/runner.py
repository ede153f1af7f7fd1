"""The command line of the simulation: runs one scenario with its history, or thousands on all cores."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial

from erlmesh import native
from erlmesh.testing.loop import run
from simulation.both_builds import run_both
from simulation.run_seeds import ScenarioResult, run_many
from simulation.scenario import Scenario

__all__ = ["available_cores", "main"]

MODULE = "simulation"
EPILOG = """\
A seed determines a scenario: it runs the same way each time, on every machine. A run prints each violation at once. At
the end it prints the failed seeds and the command that replays one of them. Ctrl-C prints the results so far.
"""
EXIT_NOT_POSSIBLE = 2
EXIT_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. Returns 0 if all scenarios passed, 1 if one failed, 130 if interrupted before that.

    It returns 2 if a comparison of the builds is wanted and there is no native part.
    """
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
    parser.add_argument(
        "--both-builds",
        action="store_true",
        help="run each scenario in the native build and in pure Python; fail if the histories differ",
    )
    parser.add_argument("--log", action="store_true", help="with --seed: also print the logs of the nodes")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _run_verbosely(options.seed, options.actions, log=options.log)
    if options.both_builds and native.module is None:
        print(f"nothing to compare: {native.description}", file=sys.stderr)
        return EXIT_NOT_POSSIBLE
    seeds = range(options.first, options.first + options.seeds)
    run_all = run_both if options.both_builds else run_many
    return _ProgressReport(seeds, options.actions).run(
        partial(run_all, seeds, options.actions, jobs=max(1, options.jobs))
    )


def available_cores() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
