"""Judges the stories by the mutants: ``make mutants`` says of each what caught it.

``python tests/sim/judge.py`` tells every mutant the stories of ``mutants.SEEDS`` until one fails, then runs the unit
tests, and writes what caught it into ``caught.txt``. With words, only mutants that have one of them in their name.
``--cached`` begins with what ``caught.txt`` remembers, and changes nothing. Exit status: 0 all are caught and no
equivalent one is, else 1.
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
sys.path[:0] = [str(HERE), str(ROOT / "src")]

from mutants import EQUIVALENT, MUTANTS, SEEDS, UNITS  # noqa: E402

from erlmesh.testing.stories.exams import EXAMS  # noqa: E402
from erlmesh.testing.stories.telling import cores  # noqa: E402
from erlmesh.testing.story import tell  # noqa: E402

CAUGHT = HERE / "mutants" / "caught.txt"
HANGS = 8.0
"""Seconds of computing, twenty times as many as a story takes, after which one that does not end is caught, too."""


class Hangs(KeyboardInterrupt):
    """The story does not end. Nothing else gets through an event loop."""


@dataclass(frozen=True)
class Verdict:
    """``by`` is ``seed 7`` or the name of a unit test; None if nobody caught the mutant."""

    mutant: str
    by: str | None
    tried: int
    words: str = ""


def remembered() -> dict[str, str]:
    """What caught which mutant."""
    if not CAUGHT.exists():
        return {}
    pairs = (line.rsplit(": ", 1) for line in CAUGHT.read_text().splitlines() if not line.startswith("#"))
    return {name: by for by, name in pairs}


def judge(task: tuple[int, bool, str | None]) -> Verdict:
    """Judges mutant number ``index``: first by what is remembered of it, then by all there is."""
    index, equivalent, before = task
    mutant = (EQUIVALENT if equivalent else MUTANTS)[index]
    signal.signal(signal.SIGVTALRM, _hangs)
    with mutant.applied():
        if before is not None and not before.startswith("seed"):
            words = _fails(before)
            if words:
                return Verdict(mutant.breaks, before, 1, words)
        seeds = sorted(SEEDS, key=lambda seed: f"seed {seed}" != before)
        for count, seed in enumerate(seeds, 1):
            fault = _broken(seed)
            if fault:
                return Verdict(mutant.breaks, f"seed {seed}", count, fault)
        tests = next((tests for module, tests in UNITS.items() if mutant.where.startswith(module)), [])
        for test in tests:
            words = _fails(f"tests/unit/{test}")
            if words:
                return Verdict(mutant.breaks, words, len(seeds))
    return Verdict(mutant.breaks, None, len(seeds))


def _broken(seed: int) -> str | None:
    signal.setitimer(signal.ITIMER_VIRTUAL, HANGS)
    try:
        tell(seed, exams=len(EXAMS))
    except (Exception, Hangs) as fault:
        return f"{type(fault).__name__}: {fault}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return None


def _fails(test: str) -> str | None:
    """The name of the first unit test that fails."""
    failed: list[str] = []

    class Ear:
        def pytest_runtest_logreport(self, report) -> None:
            if report.failed:
                failed.append(report.nodeid)

    arguments = ["-x", "-q", "-p", "no:cacheprovider", "--timeout", "20", test]
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        pytest.main([*arguments, "-W", "ignore::pytest.PytestAssertRewriteWarning"], plugins=[Ear()])
    return failed[0] if failed else None


def _hangs(_signal, _frame) -> None:
    raise Hangs(f"after {HANGS:g} s of computing")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only mutants with one of these words in their name")
    parser.add_argument("--cached", action="store_true", help="begin with the seeds that are remembered")
    parser.add_argument("--jobs", type=int, default=cores(), help="how many are judged at once (one a core)")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)

    def chosen(name: str) -> bool:
        return not options.words or any(word in name for word in options.words)

    known = remembered()
    tasks = [
        (index, False, known.get(mutant.breaks) if options.cached else None) for index, mutant in enumerate(MUTANTS)
    ]
    tasks += [(index, True, None) for index, _ in enumerate(EQUIVALENT)] if not options.cached else []
    tasks = [task for task in tasks if chosen((EQUIVALENT if task[1] else MUTANTS)[task[0]].breaks)]
    equivalent = {mutant.breaks for mutant in EQUIVALENT}
    wrong = 0
    with multiprocessing.get_context("fork").Pool(max(1, options.jobs), maxtasksperchild=1) as pool:
        for verdict in pool.imap(judge, tasks, chunksize=1):
            is_equivalent = verdict.mutant in equivalent
            wrong += (verdict.killed_by is not None) is is_equivalent
            known.pop(verdict.mutant, None)
            if verdict.killed_by is None:
                print(f"{'equivalent' if is_equivalent else 'SURVIVES'}: {verdict.mutant}", flush=True)
            else:
                known[verdict.mutant] = verdict.killed_by
                refuted = "NOT EQUIVALENT: " if is_equivalent else ""
                stories = f" after {verdict.attempts} stories" if verdict.killed_by.startswith("seed") else ""
                print(f"{refuted}{verdict.mutant}: caught by {verdict.killed_by}{stories}")
                print(f"    {verdict.words[:200]}", flush=True)
    by_stories = sum(known.get(mutant.breaks, "").startswith("seed") for mutant in MUTANTS)
    print(f"{len(MUTANTS)} mutants, {by_stories} of them caught by stories; {wrong} of {len(tasks)} judged wrongly")
    if not options.cached:
        names = [mutant.breaks for mutant in MUTANTS if mutant.breaks in known]
        CAUGHT.write_text(
            "# What caught which mutant: written by make mutants.\n"
            + "".join(f"{known[name]}: {name}\n" for name in names)
        )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
