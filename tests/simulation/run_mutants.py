"""Runs the scenarios against the mutants. ``make mutants`` reports what kills each of them.

``python tests/simulation/run_mutants.py`` runs the scenarios of ``mutants.SEEDS`` on each mutant until one fails. If
none fails, it runs the unit tests. It writes what killed each mutant into ``killed_by.txt``. With names, it runs only
the mutants whose description contains one of them. ``--cached`` first tries what ``killed_by.txt`` records, and writes
nothing. The exit status is 0 if all mutants are killed and no equivalent one is, else 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(ROOT / "src")]
os.environ["ERLMESH_PURE"] = "1"  # a mutant replaces a Python function, which the native build may not call

from simulation.final_checks import FINAL_CHECKS  # noqa: E402
from simulation.mutants import EQUIVALENT, MUTANTS, SEEDS, UNIT_TESTS  # noqa: E402
from simulation.runner import available_cores  # noqa: E402
from simulation.scenario import run_scenario  # noqa: E402

KILLED_BY = HERE / "mutants" / "killed_by.txt"
CPU_TIMEOUT = 8.0
"""Seconds of CPU time, twenty times that of a scenario, after which a mutant that never ends counts as killed."""


class ScenarioHung(KeyboardInterrupt):
    """The scenario does not end. A KeyboardInterrupt is the only exception that passes through an event loop."""


@dataclass(frozen=True)
class MutantResult:
    """``killed_by`` is ``seed 7`` or the name of a unit test. It is None if the mutant survived."""

    mutant: str
    killed_by: str | None
    attempts: int
    failure: str = ""


def read_killed_by() -> dict[str, str]:
    """The recorded killer of each mutant, by the description of the mutant."""
    if not KILLED_BY.exists():
        return {}
    pairs = (line.rsplit(": ", 1) for line in KILLED_BY.read_text().splitlines() if not line.startswith("#"))
    return {name: by for by, name in pairs}


def run_mutant(task: tuple[int, bool, str | None]) -> MutantResult:
    """Run one mutant: first against its recorded killer, then against all seeds and its unit tests."""
    index, equivalent, before = task
    mutant = (EQUIVALENT if equivalent else MUTANTS)[index]
    signal.signal(signal.SIGVTALRM, _raise_hung)
    with mutant.applied():
        if before is not None and not before.startswith("seed"):
            failure = _first_failing_test(before)
            if failure:
                return MutantResult(mutant.description, before, 1, failure)
        seeds = sorted(SEEDS, key=lambda seed: f"seed {seed}" != before)
        for count, seed in enumerate(seeds, 1):
            violation = _violation_of(seed)
            if violation:
                return MutantResult(mutant.description, f"seed {seed}", count, violation)
        tests = next((tests for module, tests in UNIT_TESTS.items() if mutant.target.startswith(module)), [])
        for test in tests:
            failure = _first_failing_test(f"tests/unit/{test}")
            if failure:
                return MutantResult(mutant.description, failure, len(seeds))
    return MutantResult(mutant.description, None, len(seeds))


def _violation_of(seed: int) -> str | None:
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_TIMEOUT)
    try:
        run_scenario(seed, final_checks=len(FINAL_CHECKS))
    except (Exception, ScenarioHung) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return None


def _first_failing_test(test: str) -> str | None:
    """The name of the first unit test that fails, or None."""
    failed: list[str] = []

    class FailureCollector:
        def pytest_runtest_logreport(self, report) -> None:
            if report.failed:
                failed.append(report.nodeid)

    arguments = ["-x", "-q", "-p", "no:cacheprovider", "--timeout", "20", test]
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        pytest.main([*arguments, "-W", "ignore::pytest.PytestAssertRewriteWarning"], plugins=[FailureCollector()])
    return failed[0] if failed else None


def _raise_hung(_signal, _frame) -> None:
    raise ScenarioHung(f"after {CPU_TIMEOUT:g} s of CPU time")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="run only mutants whose description contains one of these")
    parser.add_argument("--cached", action="store_true", help="try the recorded killers first, and write nothing")
    parser.add_argument(
        "--jobs", type=int, default=available_cores(), help="number of parallel processes (one per core)"
    )
    options = parser.parse_args(arguments)
    os.chdir(ROOT)

    def is_selected(name: str) -> bool:
        return not options.names or any(part in name for part in options.names)

    killed_by = read_killed_by()
    tasks = [
        (index, False, killed_by.get(mutant.description) if options.cached else None)
        for index, mutant in enumerate(MUTANTS)
    ]
    tasks += [(index, True, None) for index, _ in enumerate(EQUIVALENT)] if not options.cached else []
    tasks = [task for task in tasks if is_selected((EQUIVALENT if task[1] else MUTANTS)[task[0]].description)]
    equivalent = {mutant.description for mutant in EQUIVALENT}
    wrong = 0
    with multiprocessing.get_context("fork").Pool(max(1, options.jobs), maxtasksperchild=1) as pool:
        for result in pool.imap(run_mutant, tasks, chunksize=1):
            is_equivalent = result.mutant in equivalent
            wrong += (result.killed_by is not None) is is_equivalent
            killed_by.pop(result.mutant, None)
            if result.killed_by is None:
                print(f"{'equivalent' if is_equivalent else 'SURVIVES'}: {result.mutant}", flush=True)
            else:
                killed_by[result.mutant] = result.killed_by
                refuted = "NOT EQUIVALENT: " if is_equivalent else ""
                attempts = f" after {result.attempts} scenarios" if result.killed_by.startswith("seed") else ""
                print(f"{refuted}{result.mutant}: killed by {result.killed_by}{attempts}")
                print(f"    {result.failure[:200]}", flush=True)
    by_scenarios = sum(killed_by.get(mutant.description, "").startswith("seed") for mutant in MUTANTS)
    print(f"{len(MUTANTS)} mutants, {by_scenarios} of them killed by scenarios; {wrong} of {len(tasks)} wrong")
    if not options.cached:
        names = [mutant.description for mutant in MUTANTS if mutant.description in killed_by]
        KILLED_BY.write_text(
            "# What killed which mutant. Written by make mutants.\n"
            + "".join(f"{killed_by[name]}: {name}\n" for name in names)
        )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
