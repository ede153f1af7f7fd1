"""Runs random histories of nodes that hold shards: ``make sim-shards``, with ``SEEDS=``, ``FIRST=``, and ``SEED=7``.

With ``SEED`` it runs one and prints its history. The exit status is 0 if none violates an invariant, else 1.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import signal
import time

from erlmesh.testing.loop import run
from simulation.runner import available_cores
from simulation.sharding.scenario import ShardScenario


def violation_of(seed: int) -> tuple[int, str | None, float]:
    """Run one scenario. Return the seed, what it violates, and its virtual seconds."""
    logging.disable(logging.CRITICAL)
    scenario = ShardScenario(seed)
    try:
        run(scenario.run)
    except Exception as error:
        return seed, f"{type(error).__name__}: {error}", scenario.virtual_seconds
    return seed, None, scenario.virtual_seconds


def run_one(seed: int) -> int:
    """Run one scenario and print its history."""
    scenario = ShardScenario(seed)
    try:
        run(scenario.run)
    finally:
        print("\n".join(scenario.cluster.history))
    print(f"seed {seed}: passed")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation.sharding", description=__doc__)
    parser.add_argument("--seed", type=int, help="run only this scenario and print its history")
    parser.add_argument("--seeds", type=int, default=200, help="number of scenarios (200)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--jobs", type=int, default=available_cores(), help="parallel processes (one per core)")
    options = parser.parse_args()
    if options.seed is not None:
        return run_one(options.seed)
    seeds, failed, virtual, started = range(options.first, options.first + options.seeds), 0, 0.0, time.monotonic()
    with multiprocessing.get_context("spawn").Pool(max(1, options.jobs), _ignore_sigint) as pool:
        try:
            for seed, violation, seconds in pool.imap_unordered(violation_of, seeds):
                virtual += seconds
                if violation is not None:
                    failed += 1
                    print(f"seed {seed}: {violation[:400]}", flush=True)
        except KeyboardInterrupt:
            print("interrupted")
            return 130
    elapsed = time.monotonic() - started
    print(f"{len(seeds)} scenarios, {virtual / 3600:.1f} virtual hours in {elapsed:.0f} s, {failed} failed")
    return int(failed > 0)


def _ignore_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the parent process handles Ctrl-C
