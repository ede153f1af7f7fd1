"""Telling stories at the command line: one with its whole history, or thousands on all cores."""

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

from erlmesh.testing.clock import run
from erlmesh.testing.stories.plot import Story

__all__ = ["Told", "main", "tell_many"]

MODULE = "erlmesh.testing.story"
EXAMPLES = """\
A seed is a story: told again, it is the same, on any machine. What a run found is shown as it is found, and in the end
the seeds that failed, with the command that tells one of them again. Ctrl-C ends a run with what it has found so far.
"""
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one story."""

    seed: int
    virtual_seconds: float
    fault: str | None


def main(arguments: list[str] | None = None) -> int:
    """The command line. Exit status: 0 all stories are true, 1 some failed, 130 interrupted before one failed."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}",
        description="Tells random stories of a cluster and checks its promises.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--seed", type=int, help="tell this story only, and show its history")
    parser.add_argument("--seeds", type=int, default=100, help="how many stories to tell (100)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--acts", type=int, default=40, help="how much happens in a story (40)")
    parser.add_argument("--jobs", type=int, default=cores(), help="how many are told at once (one a core)")
    parser.add_argument("--log", action="store_true", help="with --seed: show what the nodes log, too")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _show(options.seed, options.acts, log=options.log)
    seeds = range(options.first, options.first + options.seeds)
    return _Run(seeds, options.acts).tell(partial(tell_many, seeds, options.acts, jobs=max(1, options.jobs)))


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def tell_many(seeds: Iterable[int], acts: int, *, jobs: int) -> Iterator[Told]:
    """Tells a story a seed, ``jobs`` at once; what becomes of each, as it comes. Closing it ends all that are told."""
    if jobs == 1:
        yield from map(partial(_tell, acts), seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _begin) as pool:  # terminated, however this ends
        yield from pool.imap_unordered(partial(_tell, acts), seeds, chunksize=1)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who has the results


def _tell(acts: int, seed: int) -> Told:
    story = Story(seed, acts=acts)
    try:
        run(story.tell)
    except Exception as fault:
        return Told(seed, story.lasted, f"{type(fault).__name__}: {fault}")
    return Told(seed, story.lasted, None)


class _Run:
    """Counts what is told and shows how it goes."""

    def __init__(self, seeds: range, acts: int) -> None:
        self._seeds = seeds
        self._acts = acts
        self._count = 0
        self._virtual = 0.0
        self._failed: list[int] = []
        self._started = time.monotonic()
        self._shown = 0.0
        self._alive = sys.stdout.isatty()

    def tell(self, stories: Callable[[], Iterator[Told]]) -> int:
        told = stories()
        interrupted = False
        try:
            for one in told:
                self._take(one)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            close = getattr(told, "close", None)
            if close is not None:
                close()
        self._end(interrupted=interrupted)
        return 1 if self._failed else INTERRUPTED if interrupted else 0

    def _take(self, told: Told) -> None:
        self._count += 1
        self._virtual += told.virtual_seconds
        if told.fault is not None:
            self._failed.append(told.seed)
            self._say(f"seed {told.seed}: {told.fault[:400]}")
        now = time.monotonic()
        if self._count < len(self._seeds) and now - self._shown >= (0.2 if self._alive else 10.0):
            self._shown = now
            self._progress(end="" if self._alive else "\n")

    def _progress(self, end: str) -> None:
        passed = max(time.monotonic() - self._started, 1e-9)
        left = (len(self._seeds) - self._count) * passed / max(self._count, 1)
        self._say(
            f"{self._count} of {len(self._seeds)} stories, {self._virtual / 3600:.1f} virtual hours, "
            f"{self._count / passed:.1f} a second, {len(self._failed)} failed"
            + (f", {left:.0f} s to go" if self._count < len(self._seeds) else ""),
            end=end,
        )

    def _say(self, line: str, end: str = "\n") -> None:
        print(f"\r\x1b[K{line}" if self._alive else line, end=end, flush=True)

    def _end(self, *, interrupted: bool) -> None:
        self._progress(end="\n")
        if interrupted:
            print("interrupted: what was being told is not counted")
        if self._failed:
            self._failed.sort()
            acts = "" if self._acts == 40 else f" --acts {self._acts}"
            print(f"failed: {' '.join(map(str, self._failed))}")
            print(f"to replay one: {sys.executable} -m {MODULE} --seed {self._failed[0]}{acts}")


def _show(seed: int, acts: int, *, log: bool) -> int:
    logging.basicConfig(level=logging.DEBUG if log else logging.CRITICAL, format="    %(levelname)s %(message)s")
    story = Story(seed, acts=acts)
    if log:
        story.world.cluster.history = _Aloud()
    try:
        digest = run(story.tell)
    except Exception:
        print("" if log else "\n".join(story.world.cluster.history))
        traceback.print_exc()
        return 1
    print("" if log else "\n".join(story.world.cluster.history))
    print(f"seed {seed}: fine, fingerprint {digest}")
    return 0


class _Aloud(list[str]):
    def append(self, line: str) -> None:
        print(line, flush=True)
        super().append(line)
